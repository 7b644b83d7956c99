# SPDX-License-Identifier: Apache-2.0
"""Transfers for the engine: corners, random loop nests, and every way to get a frame wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from e2train.config import EngineConfig
from e2train.numerics.frame import (
    G_BITS,
    HEADER_WORDS,
    LEVELS,
    MODE_IDS,
    NONCE_BITS,
    VERSION,
    X_BITS,
    Header,
    Level,
    check_sums,
    encode_header,
)
from e2train.packing.frames import Frame, join_transfer
from numpy.typing import NDArray

__all__ = ["MODES", "Cases", "Loop", "nest"]

Words = NDArray[np.uint64]

MODES = ("forward", "grad_input", "grad_weight", "grad_msb")

_MAX_RANDOM_ITERATIONS = 96
_WORD = (1 << 64) - 1


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
        window = {"H": 4, "W": 4}
        deep = nest(Loop(limit=64, dxa=1, dwa=0))
        yield self._one(mode, "random", depth=1, levels=nest(Loop(limit=1)), **window)
        yield self._one(mode, "random", depth=LEVELS, levels=nest(Loop(limit=1)), **window)
        for fill in ("lowest", "highest", "mixed", "zero"):
            for flags in self._flags(mode):
                yield self._one(mode, fill, depth=1, levels=deep, **window, **flags)
        yield self._one(
            mode, "random", depth=1, levels=nest(Loop(limit=1), Loop(limit=24, dxa=1, dwa=1)), **window
        )
        outside = {"H": 1, "W": 3, "y0": -2, "x0": -1}
        taps = nest(Loop(limit=3, dx=1, dxa=1, dwa=1), Loop(limit=4, dy=1))
        for depth in (1, 2):
            yield self._one(mode, "random", depth=depth, levels=taps, **outside)
        if mode in ("forward", "grad_input"):
            for shift in (0, 1, 7, 31, 40, 63, 255):
                yield self._one(mode, "mixed", depth=1, levels=deep, shift=shift, x16=True, **window)
        if mode == "grad_msb":
            for x_bits, g_bits in product(range(1, X_BITS + 1), (1, 2, G_BITS)):
                kept = {"x_bits": x_bits, "g_bits": g_bits, "xsigned": bool(x_bits % 2)}
                yield self._one(mode, "mixed", depth=1, levels=deep, **kept, **window)

    def random(self, mode: str, count: int) -> Iterator[Words]:
        """Random nests over random operands."""
        for _ in range(count):
            yield join_transfer([self._random_frame(mode)])

    def many_frames(self) -> Words:
        """One transfer of several frames of all modes, an identification among them."""
        modes = self.rng.choice([*MODES, "identify"], int(self.rng.integers(2, 6)))
        return join_transfer([self._random_frame(str(mode)) for mode in modes])

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
        header = self._header(mode, depth=3, levels=(*levels, Level(), Level()), H=65535, W=65535, shift=9)
        header = replace(header, x_count=self.cfg.x_depth, w_count=self.cfg.w_vectors, y0=-99, x0=-99)
        return join_transfer([self._fill(header, "random")])

    def faults(self) -> Iterator[tuple[str, Words]]:
        """Each way to get a transfer wrong, by name; the header's check is right unless it is the fault."""
        for name, change in self._wrong_headers():
            good = self._random_frame("forward")
            yield name, _rebuilt(good, replace(good.header, **change))
        identify = self._random_frame("identify")
        yield "identify with payload", self._with_payload(identify.header)
        words = join_transfer([self._random_frame("grad_input")])
        yield "header check", _changed(words, 11, 1)
        yield "header check before magic", _changed(words, 0, 1)
        yield "wrong payload", _changed(words, HEADER_WORDS, 1 << 40)
        yield "first check word", _changed(words, -2, 1)
        yield "second check word", _changed(words, -1, 1 << 63)
        yield "two errors that cancel in the sum", _changed(_changed(words, 12, 1), 13, -1)
        for size in (*range(1, HEADER_WORDS + 2), words.size - 2, words.size - 1):
            yield f"ends after {size} words", words[:size]
        yield "ends though MORE", _rebuilt_more(self._random_frame("forward"))
        yield "does not end", np.concatenate([words, [np.uint64(7)]])
        yield "two frames without MORE", np.concatenate([words, words])
        second = join_transfer([self._random_frame("forward"), self._random_frame("grad_weight")])
        yield "second frame's check", _changed(second, -1, 1)
        yield "second frame missing", second[: -self._size_of_last(second)]

    def _wrong_headers(self) -> Sequence[tuple[str, dict[str, Any]]]:
        cfg = self.cfg
        return (
            ("magic", {"magic": 0xE27B}),
            ("version", {"version": VERSION + 1}),
            *((f"mode {mode}", {"mode": mode}) for mode in (5, 6, 128, 255)),
            ("ic lanes", {"ic_lanes": cfg.ic_lanes * 2}),
            ("oc lanes", {"oc_lanes": cfg.oc_lanes + 1}),
            ("x too long", {"x_count": cfg.x_depth + 1}),
            ("x far too long", {"x_count": 0xFFFF_FFFF}),
            ("w too long", {"w_count": cfg.w_vectors + 1}),
            ("w far too long", {"w_count": 0x8000_0000}),
            *((f"depth {depth}", {"depth": depth}) for depth in (0, 8, 15)),
            *((f"x bits {bits}", {"mode": 4, "x_bits": bits, "g_bits": 1}) for bits in (0, X_BITS + 1, 15)),
            *((f"gy bits {bits}", {"mode": 4, "x_bits": 1, "g_bits": bits}) for bits in (0, G_BITS + 1, 15)),
            ("high bits of wide x", {"mode": 4, "x_bits": 1, "g_bits": 1, "x16": True}),
            ("depth before bits", {"mode": 4, "depth": 0}),
            ("magic before version and mode", {"magic": 0, "version": 0, "mode": 9}),
            ("mode before lanes and length", {"mode": 9, "ic_lanes": 1, "depth": 0}),
        )

    def _random_frame(self, mode: str) -> Frame:
        if mode == "identify":
            return self._fill(self._header(mode), "zero")
        draw = self.rng.integers
        loops, iterations = [], 1
        for _ in range(int(draw(1, LEVELS + 1))):
            limit = min(int(draw(1, 6)), max(1, _MAX_RANDOM_ITERATIONS // iterations))
            iterations *= limit
            loops.append(
                Loop(
                    limit=limit,
                    dy=int(draw(-2, 3)),
                    dx=int(draw(-2, 3)),
                    dxa=int(draw(0, 8)),
                    dwa=int(draw(0, 3)),
                )
            )
        size = {"H": int(draw(1, 12)), "W": int(draw(1, 12)), "y0": int(draw(-4, 4)), "x0": int(draw(-4, 4))}
        flags = self._flags(mode)[int(draw(len(self._flags(mode))))]
        depth = int(draw(1, LEVELS + 1))
        shift = int(draw(0, 16)) if mode in ("forward", "grad_input") else 0
        header = self._header(mode, depth=depth, levels=nest(*loops), shift=shift, **size, **flags)
        return self._fill(_sized(header, self.cfg), "random")

    def _one(self, mode: str, fill: str, **fields: Any) -> Words:
        return join_transfer([self._fill(_sized(self._header(mode, **fields), self.cfg), fill)])

    def _header(self, mode: str, **fields: Any) -> Header:
        draw = self.rng.integers
        if mode == "grad_msb":
            fields = {"x_bits": int(draw(1, X_BITS + 1)), "g_bits": int(draw(1, G_BITS + 1))} | fields
        return Header(
            mode=MODE_IDS[mode],
            ic_lanes=self.cfg.ic_lanes,
            oc_lanes=self.cfg.oc_lanes,
            nonce=int(self.rng.integers(1 << NONCE_BITS)),
            **fields,
        )

    def _flags(self, mode: str) -> list[dict[str, bool]]:
        kinds: list[dict[str, bool]] = [{"x16": True}, {"xsigned": True}, {}]
        if mode == "grad_msb":
            return kinds[1:]
        if mode == "grad_weight":
            return kinds
        return kinds + [kind | {"wide": True} for kind in kinds]

    def _fill(self, header: Header, fill: str) -> Frame:
        x_type = np.dtype("<i2" if header.x16 else "i1" if header.xsigned else "u1")
        w_type = np.dtype("<i2" if header.outer else "i1")
        return Frame(
            header=header,
            x=self._operand(header.x_words, x_type, fill),
            w=self._operand(header.w_words, w_type, fill),
        )

    def _operand(self, words: int, kind: np.dtype[Any], fill: str) -> NDArray[Any]:
        size, info = words * 8 // kind.itemsize, np.iinfo(kind)
        if fill == "random":
            return self.rng.integers(info.min, info.max + 1, size, dtype=kind)
        extremes = {
            "lowest": [info.min],
            "highest": [info.max],
            "zero": [0],
            "mixed": [info.min, info.max, 0, 1],
        }
        return self.rng.choice(np.array(extremes[fill], kind), size)

    def _with_payload(self, header: Header) -> Words:
        return join_transfer([self._fill(replace(header, x_count=1, w_count=1), "random")])

    def _size_of_last(self, words: Words) -> int:
        """Words of the second frame: the first one's own header says where it starts."""
        counts = int(words[1])
        x16 = int(words[0]) >> 49 & 1
        vectors = (counts & 0xFFFFFFFF) * (1 + x16) + (counts >> 32)
        return int(words.size) - (HEADER_WORDS + vectors * self.cfg.ic_lanes // 8 + 2)


def _sized(header: Header, cfg: EngineConfig) -> Header:
    """The header with payloads that fill every address that its loops reach."""
    reach = {
        name: sum(
            (level.limit - 1) * max(0, stride)
            for level, stride in zip(header.levels, _strides(header.levels, name), strict=True)
        )
        for name in ("dxa", "dwa")
    }
    w_count = reach["dwa"] + 1 if header.outer else (reach["dwa"] + 1) * cfg.oc_lanes
    pairs = header.mode == MODE_IDS["grad_msb"]
    return replace(header, x_count=reach["dxa"] + 1, w_count=w_count + (pairs and w_count % 2))


def _strides(levels: Sequence[Level], name: str) -> list[int]:
    strides, travelled = [], 0
    for level in levels:
        strides.append(getattr(level, name) + travelled)
        travelled += (level.limit - 1) * strides[-1]
    return strides


def _rebuilt(frame: Frame, header: Header) -> Words:
    """The frame's payload behind another header, with check words that fit."""
    body = np.concatenate([encode_header(header), join_transfer([frame])[HEADER_WORDS:-2]])
    return np.concatenate([body, np.array(check_sums(body), np.uint64)])


def _rebuilt_more(frame: Frame) -> Words:
    return _rebuilt(frame, replace(frame.header, more=True))


def _changed(words: Words, at: int, by: int) -> Words:
    changed = words.copy()
    changed[at] = (int(changed[at]) + by) & _WORD
    return changed
