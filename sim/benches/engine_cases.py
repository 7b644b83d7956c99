# SPDX-License-Identifier: Apache-2.0
"""Transfers for the engine: corners, random loop nests, and every way to get a frame wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from changed_frames import changed, rebuilt, rebuilt_more, together, without_checks
from e2train.config import EngineConfig
from e2train.numerics.frames import KIND_DTYPES, Header, Kind, Level, Mode
from e2train.numerics.frames.layout import G_BITS, HEADER_WORDS, LEVELS, PIXEL_LANES, VERSION, X_BITS
from e2train.numerics.rounding import DITHER_PHASES
from e2train.packing.frames import Frame, join_transfer
from numpy.typing import NDArray

__all__ = ["MODES", "Cases", "Loop", "nest"]

Words = NDArray[np.uint64]

MODES = ("forward", "grad_input", "grad_weight", "grad_msb", "affine", "reduce")

_ELEMENTS = ("affine", "reduce")
_BYTES = (Kind.UINT8, Kind.INT8)
_NARROW = (*_BYTES, Kind.INT16)

_MAX_RANDOM_ITERATIONS = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """One loop with its own strides, whatever the loops inside it travel."""

    limit: int
    dy: int = 0
    dx: int = 0
    dxa: int = 0
    dwa: int = 0


def nest(*loops: Loop) -> tuple[Level, ...]:
    """Levels of a header from loops, innermost first: each level's deltas undo the travel of those inside.

    >>> [level.dxa for level in nest(Loop(limit=3, dxa=1), Loop(limit=2, dxa=10))[:2]]
    [1, 8]
    """
    levels = []
    travelled = dict.fromkeys(("dy", "dx", "dxa", "dwa"), 0)
    for loop in loops:
        levels.append(Level(limit=loop.limit, **{k: getattr(loop, k) - v for k, v in travelled.items()}))
        travelled = {k: v + (loop.limit - 1) * getattr(loop, k) for k, v in travelled.items()}
    return (*levels, *[Level()] * (LEVELS - len(levels)))


class Cases:
    """Transfers for one configuration; every draw comes from ``rng``."""

    def __init__(self, rng: np.random.Generator, cfg: EngineConfig) -> None:
        self.rng = rng
        self.cfg = cfg

    def corners(self, mode: str) -> Iterator[Words]:
        """Smallest frames, extreme operands, saturation, ties, padding, every length of reduction."""
        if mode in _ELEMENTS:
            yield from self._element_corners(mode)
            return
        window = {"H": 4, "W": 4}
        deep = nest(Loop(limit=64, dxa=1, dwa=0))
        yield self._one(mode, "random", depth=1, levels=nest(Loop(limit=1)), **window)
        yield self._one(mode, "random", depth=LEVELS, levels=nest(Loop(limit=1)), **window)
        for fill in ("lowest", "highest", "mixed", "zero"):
            for kinds in self._kinds(mode):
                yield self._one(mode, fill, depth=1, levels=deep, **window, **kinds)
        yield self._one(
            mode, "random", depth=1, levels=nest(Loop(limit=1), Loop(limit=24, dxa=1, dwa=1)), **window
        )
        outside = {"H": 1, "W": 3, "y0": -2, "x0": -1}
        taps = nest(Loop(limit=3, dx=1, dxa=1, dwa=1), Loop(limit=4, dy=1))
        for depth in (1, 2):
            yield self._one(mode, "random", depth=depth, levels=taps, **outside)
        if mode in ("forward", "grad_input"):
            for shift, result in product((0, 1, 7, 31, 40, 63, 255), (Kind.INT8, Kind.INT32)):
                kinds = {"x_kind": Kind.INT16, "result": result}
                yield self._one(mode, "mixed", depth=1, levels=deep, shift=shift, **kinds, **window)
        if mode == "grad_msb":
            for w_kind, x_bits, g_bits in product((Kind.INT8, Kind.INT16), range(1, 9), (1, 2, 8, G_BITS)):
                if g_bits <= 8 if w_kind == Kind.INT8 else x_bits <= X_BITS:
                    kept = {"x_bits": x_bits, "g_bits": g_bits, "x_kind": x_bits % 2, "w_kind": w_kind}
                    yield self._one(mode, "mixed", depth=1, levels=deep, **kept, **window)

    def random(self, mode: str, count: int) -> Iterator[Words]:
        """Random nests over random operands."""
        for _ in range(count):
            yield join_transfer([self._random_frame(mode, unchecked=int(self.rng.integers(2)))])

    def many_frames(self) -> Words:
        """One transfer of several frames of all modes, an identification among them."""
        modes = self.rng.choice([*MODES, "identify"], int(self.rng.integers(2, 6)))
        return join_transfer([self._random_frame(str(mode)) for mode in modes])

    def held_reports(self) -> Words:
        """One transfer of frames that hold their reports back, and of some that do not."""
        frames: list[Frame] = []
        for _ in range(int(self.rng.integers(1, 4))):
            group = self._group(int(self.rng.integers(1, 6)))
            frames += together(group)
            frames += [self._random_frame("identify")] * int(self.rng.integers(2))
        return join_transfer(frames)

    def identify(self) -> Words:
        """The smallest transfer there is."""
        return join_transfer([self._random_frame("identify")])

    def full_buffers(self, mode: str) -> Words:
        """All of both buffers, addresses that wrap, and deltas that nothing restrains."""
        draw = self.rng.integers
        levels = tuple(
            Level(
                limit=int(draw(1, 5)),
                dy=int(draw(-512, 512)),
                dx=int(draw(-512, 512)),
                dxa=int(draw(-(1 << 15), 1 << 15)),
                dwa=int(draw(-(1 << 15), 1 << 15)),
            )
            for _ in range(5)
        )
        if mode in _ELEMENTS:
            levels = (Level(limit=4), *levels[:4])
        header = self._header(mode, depth=3, levels=(*levels, Level(), Level()), H=65535, W=65535, shift=9)
        header = replace(
            header, x_count=self.cfg.x_depth, w_count=self.cfg.w_vectors, y0=-99, x0=-99, xa0=-999
        )
        if mode in _ELEMENTS:
            header = replace(header, rows=16, mask_count=self.cfg.x_depth, mask_x=1, result=Kind.INT16)
        return join_transfer([self._fill(header, "random")])

    def faults(self) -> Iterator[tuple[str, Words]]:
        """Each way to get a transfer wrong, by name; the header's check is right unless it is the fault."""
        for name, change in self._wrong_headers():
            good = self._random_frame("forward")
            yield name, rebuilt(good, replace(good.header, **change))
        header = replace(self._random_frame("identify").header, x_count=1, w_count=1)
        yield "identify with payload", join_transfer([self._fill(header, "random")])
        words = join_transfer([self._random_frame("grad_input")])
        yield "header check", changed(words, HEADER_WORDS - 1, 1)
        yield "header check before magic", changed(words, 0, 1)
        yield "wrong payload", changed(words, HEADER_WORDS, 1 << 40)
        yield "first check word", changed(words, -2, 1)
        yield "second check word", changed(words, -1, 1 << 63)
        yield "two errors that cancel in the sum", changed(changed(words, 14, 1), 15, -1)
        for size in (*range(1, HEADER_WORDS + 2), words.size - 2, words.size - 1):
            yield f"ends after {size} words", words[:size]
        yield "ends though MORE", rebuilt_more(self._random_frame("forward"))
        yield "does not end", np.concatenate([words, [np.uint64(7)]])
        yield "two frames without MORE", np.concatenate([words, words])
        frames = [self._random_frame("forward"), self._random_frame("grad_weight")]
        second = join_transfer(frames)
        yield "second frame's check", changed(second, -1, 1)
        yield "second frame missing", second[: -frames[1].header.frame_words]
        yield from self._wrong_groups()
        unchecked = self._random_frame("grad_input", unchecked=1)
        words = join_transfer([unchecked])
        for size in (words.size - 1, words.size - 2):
            yield f"without check words ends after {size}", words[:size]
        yield "without check words does not end", np.concatenate([words, [np.uint64(7)]])
        yield "without check words ends though MORE", without_checks(unchecked, more=1)

    def _wrong_groups(self) -> Iterator[tuple[str, Words]]:
        """Frames whose reports nobody gives, or that cannot go together; an error drops what is held."""
        lone = self._random_elements("reduce")
        yield "holds without MORE", join_transfer(together([lone, lone])[:1])
        identify = self._random_frame("identify")
        yield "identify holds", join_transfer(together([identify, identify]))
        yield "identify reports for others", join_transfer(together([lone, identify]))
        fewer = replace(lone.header, planes=lone.header.planes - 1)
        yield "other planes", join_transfer(together([lone, self._fill(fewer, "random")]))
        group = join_transfer(together([*self._group(3), lone]))
        yield "frame's check behind held reports", changed(group, -1, 1)
        yield "reports held for ever", group[: -lone.header.frame_words]

    def _group(self, count: int) -> list[Frame]:
        """Frames that may report together: of any modes, with as many planes."""
        first = self._random_frame(str(self.rng.choice(MODES)))
        frames = [first]
        while len(frames) < count:
            other = self._random_frame(str(self.rng.choice(MODES)))
            fits = other.header.planes == first.header.planes
            frames.append(other if fits else self._fill(first.header, "random"))
        return frames

    def _wrong_headers(self) -> Sequence[tuple[str, dict[str, Any]]]:
        cfg = self.cfg
        return (
            ("magic", {"magic": 0xE27B}),
            ("version", {"version": VERSION + 1}),
            *((f"mode {mode}", {"mode": mode}) for mode in (7, 8, 128, 255)),
            ("ic lanes", {"ic_lanes": cfg.ic_lanes * 2}),
            ("oc lanes", {"oc_lanes": cfg.oc_lanes + 1}),
            ("x too long", {"x_count": cfg.x_depth + 1}),
            ("x far too long", {"x_count": 0xFFFF_FFFF}),
            ("w too long", {"w_count": cfg.w_vectors + 1}),
            ("w far too long", {"w_count": 0x8000_0000}),
            *((f"depth {depth}", {"depth": depth}) for depth in (0, 8, 15)),
            ("mask too long", {"mask_count": cfg.x_depth + 1}),
            ("mask far too long", {"mask_count": 0x8000_0000}),
            ("rows", {"rows": 17}),
            ("all rows", {"rows": 255}),
            ("planes", {"planes": 65, "result": Kind.INT16}),
            ("planes of int32", {"planes": 1, "result": Kind.INT32}),
            ("planes of gradients", {"mode": 3, "planes": 1, "w_kind": Kind.INT16}),
            *((f"x kind {kind}", {"x_kind": kind}) for kind in (3, 4, 7)),
            *((f"w kind {kind}", {"w_kind": kind}) for kind in (0, 2, 3, 7)),
            *((f"result {kind}", {"result": kind}) for kind in (5, 7)),
            *((f"gy kind {kind}", {"mode": 3, "w_kind": kind}) for kind in (0, 3)),
            ("int8 gy with int16 x", {"mode": 3, "w_kind": Kind.INT8, "x_kind": Kind.INT16}),
            *((f"x bits {bits}", self._kept(bits, 1)) for bits in (0, X_BITS + 1, 15)),
            *((f"gy bits {bits}", self._kept(1, bits)) for bits in (0, G_BITS + 1, 15)),
            *(
                (f"{kept} of int8", self._kept(*kept) | {"w_kind": Kind.INT8})
                for kept in ((9, 1), (1, 9), (0, 1))
            ),
            ("high bits of wide x", self._kept(1, 1) | {"x_kind": Kind.INT16}),
            ("depth before bits", {"mode": 4, "depth": 0}),
            *self._wrong_element_headers(),
            ("magic before version and mode", {"magic": 0, "version": 0, "mode": 9}),
            ("mode before lanes and length", {"mode": 9, "ic_lanes": 1, "depth": 0}),
        )

    def _kept(self, x_bits: int, g_bits: int) -> dict[str, int]:
        return {"mode": Mode.GRAD_MSB, "w_kind": Kind.INT16, "x_bits": x_bits, "g_bits": g_bits}

    def _wrong_element_headers(self) -> Sequence[tuple[str, dict[str, Any]]]:
        return (
            ("affine without coefficients", {"mode": Mode.AFFINE, "result": Kind.INT16, "rows": 0}),
            ("affine to int32", {"mode": Mode.AFFINE, "rows": 1, "result": Kind.INT32}),
            ("reduce of int32", {"mode": Mode.REDUCE, "x_kind": Kind.INT32, "result": Kind.INT16}),
        )

    def _random_frame(self, mode: str, **fields: int) -> Frame:
        if mode == "identify":
            return self._fill(self._header(mode), "zero")
        if mode in _ELEMENTS:
            return self._random_elements(mode, **fields)
        draw = self.rng.integers
        loops, iterations = [], 1
        for _ in range(int(draw(1, LEVELS + 1))):
            limit = min(int(draw(1, 6)), max(1, _MAX_RANDOM_ITERATIONS // iterations))
            iterations *= limit
            loops.append(self._loop(limit, dy=(-2, 3), dx=(-2, 3), dxa=(0, 8), dwa=(0, 3)))
        size = {"H": int(draw(1, 12)), "W": int(draw(1, 12)), "y0": int(draw(-4, 4)), "x0": int(draw(-4, 4))}
        kinds = self._kinds(mode)[int(draw(len(self._kinds(mode))))]
        depth = int(draw(1, LEVELS + 1))
        shift = int(draw(0, 16)) if mode in ("forward", "grad_input") else 0
        header = self._header(mode, depth=depth, levels=nest(*loops), shift=shift, **size, **kinds, **fields)
        return self._fill(self._summed(_sized(header, self.cfg)), "random")

    def _loop(self, limit: int, **ends: tuple[int, int]) -> Loop:
        return Loop(limit=limit, **{name: int(self.rng.integers(*end)) for name, end in ends.items()})

    def _summed(self, header: Header) -> Header:
        """The header with sums of planes, where the results are whole pixels."""
        pixels, rest = divmod(header.results * header.k_lanes, PIXEL_LANES)
        if not (header.dot and header.result in _NARROW) or rest:
            return header
        planes = self._share(pixels)
        return replace(header, plane=pixels // planes, planes=planes, relu=int(self.rng.integers(2)))

    def _share(self, pixels: int) -> int:
        """Into how many planes so many pixels go."""
        return int(self.rng.choice([planes for planes in range(1, 65) if pixels % planes == 0]))

    def _element_corners(self, mode: str) -> Iterator[Words]:
        """One pixel, extremes of all kinds, ties, masks at their limits, and every option alone."""
        kinds = product(_NARROW, _NARROW, _NARROW if mode == "affine" else (Kind.INT16,))
        for index, (x, w, result) in enumerate(kinds):
            fill = ("lowest", "highest", "mixed")[index % 3]
            fields = {"x_kind": x, "w_kind": w, "result": result, "shift": 14}
            yield join_transfer([self._random_elements(mode, fill, **fields)])
        options = ("relu", "mask_x", "mask_out", "x_spread", "w_spread", "ceiling", "dithers")
        off = dict.fromkeys(options, 0)
        for option in off:
            yield join_transfer([self._random_elements(mode, "mixed", **off | {option: 1})])
        shifts = [*product((0, 1, 31, 40, 64, 255), (0,)), *product((0, 8, 9, 10, 40, 49, 63), (1,))]
        for shift, dithers in shifts if mode == "affine" else ():
            yield join_transfer([self._random_elements(mode, "mixed", shift=shift, dithers=dithers)])
        for limit in (1, 2, 128, 255, 256):
            for signed in (0, 1):
                fields = {"mask_x": 1, "mask_limit": limit, "mask_signed": signed}
                yield join_transfer([self._random_elements(mode, "random", **fields)])

    def _random_elements(self, mode: str, fill: str = "random", **fields: int) -> Frame:
        """Planes of pixels by any strides, with any options."""
        draw, affine = self.rng.integers, mode == "affine"
        limits = [int(draw(1, most)) for most in (7, 5, 4)]
        loops = [self._loop(limit, dy=(-1, 2), dx=(-1, 2), dxa=(0, 9), dwa=(0, 9)) for limit in limits]
        pixels = limits[0] * limits[1] * limits[2]
        planes = self._share(pixels)
        masked = int(draw(0, 4))
        chosen = {
            "relu": int(affine and draw(2)),
            "mask_x": masked & 1,
            "mask_out": masked >> 1 if affine else 0,
            "mask_signed": int(draw(2)),
            "mask_limit": int(draw(0, 257)),
            "x_spread": int(draw(2)),
            "w_spread": int(draw(2)),
            "x_kind": int(draw(3)),
            "w_kind": int(draw(3)),
            "result": int(draw(3)) if affine else Kind.INT16,
            "shift": int(draw(0, 32)) if affine else 0,
            "dithers": int(affine and draw(2)),
            "phase": int(draw(DITHER_PHASES)),
            "ceiling": int(affine and draw(2) * draw(1, 1 << int(draw(1, 32)))),
            "rows": int(draw(1, limits[2] + 1)) if affine else 0,
            "planes": planes if draw(2) or not affine else 0,
            "plane": pixels // planes,
            "y0": int(draw(-3, 4)),
            "x0": int(draw(-3, 4)),
            "xa0": int(draw(0, 5)),
        } | fields
        header = self._header(mode, depth=3, levels=nest(Loop(limit=4), *loops), **chosen)
        mask_count = pixels if header.mask_x or header.mask_out else 0
        return self._fill(_sized(replace(header, mask_count=mask_count), self.cfg), fill)

    def _one(self, mode: str, fill: str, **fields: Any) -> Words:
        return join_transfer([self._fill(_sized(self._header(mode, **fields), self.cfg), fill)])

    def _header(self, mode: str, **fields: Any) -> Header:
        draw = self.rng.integers
        if mode == "grad_msb":
            fields = {"w_kind": Kind.INT16} | fields
            most = (8, 8) if fields["w_kind"] == Kind.INT8 else (X_BITS, G_BITS)
            fields = {"x_bits": int(draw(1, most[0] + 1)), "g_bits": int(draw(1, most[1] + 1))} | fields
        if mode == "grad_weight":
            fields = {"w_kind": Kind.INT16} | fields
        return Header(
            mode=Mode[mode.upper()],
            ic_lanes=self.cfg.ic_lanes,
            oc_lanes=self.cfg.oc_lanes,
            nonce=int(self.rng.integers(1 << 32)),
            **fields,
        )

    def _kinds(self, mode: str) -> list[dict[str, int]]:
        """All kinds of operands and results that a mode takes."""
        if mode == "grad_msb":
            return [{"x_kind": x, "w_kind": w} for x, w in product(_BYTES, (Kind.INT8, Kind.INT16))]
        if mode == "grad_weight":
            wide = [{"x_kind": x, "w_kind": int(Kind.INT16)} for x in _NARROW]
            return wide + [{"x_kind": int(x), "w_kind": int(Kind.INT8)} for x in _BYTES]
        return [{"x_kind": x, "result": result} for x, result in product(_NARROW, Kind)]

    def _fill(self, header: Header, fill: str) -> Frame:
        mask = np.dtype("i1" if header.mask_signed else "u1")
        low = -127 if header.dot else None  # of weights
        return Frame(
            header=header,
            coefficients=self._operand(header.coefficient_words, np.dtype("<i2"), fill),
            x=self._operand(header.x_words, KIND_DTYPES[header.x_kind], fill),
            w=self._operand(header.w_words, KIND_DTYPES[header.w_kind], fill, low=low),
            mask=self._operand(header.mask_words, mask, "random"),
        )

    def _operand(self, words: int, kind: np.dtype[Any], fill: str, *, low: int | None = None) -> NDArray[Any]:
        size, info = words * 8 // kind.itemsize, np.iinfo(kind)
        low = info.min if low is None else low
        if fill == "random":
            return self.rng.integers(low, info.max + 1, size, dtype=kind)
        extremes = {"lowest": [low], "highest": [info.max], "zero": [0], "mixed": [low, info.max, 0, 1]}
        return self.rng.choice(np.array(extremes[fill], kind), size)


def _sized(header: Header, cfg: EngineConfig) -> Header:
    """The header with payloads that fill every address that its loops reach."""
    reach = {
        name: sum(
            (level.limit - 1) * max(0, stride)
            for level, stride in zip(header.levels, _strides(header.levels, name), strict=True)
        )
        for name in ("dxa", "dwa")
    }
    x, w = header.xa0 + reach["dxa"], reach["dwa"]
    if header.elements:
        return replace(
            header, x_count=x // 2 + 1, w_count=w // 2 * 2 + 2 if header.w_kind == Kind.INT16 else w // 2 + 1
        )
    w_count = w + 1 if header.outer else (w + 1) * header.k_lanes
    pairs = header.mode == Mode.GRAD_MSB and header.w_kind == Kind.INT16
    return replace(header, x_count=x + 1, w_count=w_count + (pairs and w_count % 2))


def _strides(levels: Sequence[Level], name: str) -> list[int]:
    strides, travelled = [], 0
    for level in levels:
        strides.append(getattr(level, name) + travelled)
        travelled += (level.limit - 1) * strides[-1]
    return strides
