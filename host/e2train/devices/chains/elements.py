# SPDX-License-Identifier: Apache-2.0
"""Frames of element-wise operations on tensors in the device's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from e2train.config import EngineConfig
from e2train.devices.chains.plan import (
    KINDS,
    MOST_PIXELS,
    REACH,
    Loop,
    PlannedFrame,
    Range,
    Stripe,
    chain_cycles,
    nest,
    ranges,
    shares,
)
from e2train.devices.protocol import ShapeError
from e2train.devices.resident import Affine, DeviceTensor, Reduction
from e2train.numerics.blocks import LANES, block_count
from e2train.numerics.elementwise import LARGEST
from e2train.numerics.frames import Header, Kind, Mode
from e2train.numerics.frames.layout import COEFFICIENT_ROWS, MOST_PLANES, TRAILER_WORDS
from e2train.numerics.frames.sums import plane_words
from e2train.numerics.rounding import DITHER_PHASES, DITHER_STEPS

__all__ = ["plan_affine", "plan_reduction", "sent_coefficients"]

_QUARTERS = 4  # of a pixel
_MASK = 2  # of the operands
_MOST_LIMIT = 256  # of a mask: beyond every value of 8 bits
_COEFFICIENT = np.dtype([("a", "<i2"), ("b", "<i2"), ("d", "<i4")])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Operation:
    """What both operations have: operands, the size of the result, and the rest of the header."""

    u: DeviceTensor
    v: DeviceTensor | None
    mask: DeviceTensor | None
    out: DeviceTensor  # of a reduction u: what the size is taken from
    sums: bool
    per_sample: bool  # sums of each, else of all samples of a frame at once
    mode: Mode
    label: str
    fields: tuple[tuple[str, int], ...]
    dither: int | None = None  # phase of each sample's first value

    def planes(self, samples: int, blocks: int) -> int:
        """That a frame of so many samples and blocks reports sums of."""
        return self.sums * blocks * (samples if self.per_sample else 1)


def plan_affine(call: Affine, cfg: EngineConfig, *, first: int = 0) -> Iterator[PlannedFrame]:
    """The frames of a call; each is tagged with the samples and blocks that its sums belong to.

    Samples count from ``first`` on.

    Raises: ShapeError for a mask that the engine does not read, or a row that does not fit its buffers.
    """
    operation = _affine(call)
    return _frames(operation, _coefficients(operation, call), cfg, first)


def sent_coefficients(call: Affine) -> dict[Range, NDArray[np.void]]:
    """The coefficients that frames send, in their order, by the blocks that they are of."""
    return _coefficients(_affine(call), call)


def _affine(call: Affine) -> _Operation:
    label = f"{call.name} (affine)"
    limited = call.ceiling != LARGEST
    fields = {
        "result": KINDS[call.out.kind],
        "shift": call.shift,
        "relu": int(call.relu),
        "ceiling": call.ceiling if limited else 0,
    }
    masks = {"mask_out" if call.mask_out else "mask_x": 1, "mask_limit": min(call.mask_limit, _MOST_LIMIT)}
    return _Operation(
        u=call.u,
        v=call.v,
        mask=_checked_mask(label, call.mask),
        out=call.out,
        sums=call.sums,
        per_sample=True,
        mode=Mode.AFFINE,
        label=label,
        fields=tuple((fields | (masks if call.mask else {})).items()),
        dither=call.dither,
    )


def plan_reduction(call: Reduction, cfg: EngineConfig, *, first: int = 0) -> Iterator[PlannedFrame]:
    """The frames of a call, tagged as those of ``plan_affine``; they have sums alone.

    Raises: as ``plan_affine``.
    """
    label = f"{call.name} (reduce)"
    fields: dict[str, int] = {"result": Kind.INT16}
    masks = {"mask_x": 1, "mask_limit": min(call.mask_limit, _MOST_LIMIT)}
    operation = _Operation(
        u=call.u,
        v=call.v,
        mask=_checked_mask(label, call.mask),
        out=call.u,
        sums=True,
        per_sample=call.per_sample,
        mode=Mode.REDUCE,
        label=label,
        fields=tuple((fields | (masks if call.mask else {})).items()),
    )
    return _frames(operation, {}, cfg, first)


def _checked_mask(label: str, mask: DeviceTensor | None) -> DeviceTensor | None:
    if mask is not None and (mask.kind == "int16" or mask.view != "whole"):
        raise ShapeError(
            f"{label}: the engine reads masks of 8 bits, whole, not {mask.kind} seen {mask.view}; "
            "use another device"
        )
    return mask


def _coefficients(op: _Operation, call: Affine) -> dict[Range, NDArray[np.void]]:
    """Of every channel, by the blocks of frames; zeros where a tensor is lacking. Shapes (blocks, 16)."""
    C = call.out.C
    rows = np.zeros(block_count(C) * LANES, _COEFFICIENT)
    rows["a"][:C], rows["d"][:C] = call.a, call.d
    rows["a"][call.u.C :] = 0
    if call.v is not None:
        rows["b"][:C] = call.b
        rows["b"][call.v.C :] = 0
    if call.mask is not None:
        closed = slice(block_count(call.mask.C) * LANES, None)
        rows["a"][closed] = 0
        if call.mask_out:
            rows["b"][closed] = rows["d"][closed] = 0
    by_block = rows.reshape(-1, LANES)
    return {blocks: by_block[slice(*blocks)] for blocks in _block_ranges(op)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Band:
    """Rows and blocks of the result, and those of the operands that they need."""

    stripes: list[Stripe]  # of u, v and mask, as far as there are any
    place: Stripe | None
    header: Callable[[int], Header]  # of a frame with so many samples


def _frames(
    op: _Operation, coefficients: Mapping[Range, NDArray[np.void]], cfg: EngineConfig, first: int
) -> Iterator[PlannedFrame]:
    out = op.out
    if not out.N:
        return
    for blocks in _block_ranges(op):
        here = tuple(
            each if each is not None and blocks[0] < block_count(each.C) else None
            for each in (op.u, op.v, op.mask)
        )
        samples, rows = _tile(op, blocks, here, cfg)
        parts = (coefficients[blocks],) if coefficients else ()
        bands = [_band(op, blocks, lines, here, cfg) for lines in ranges(out.H, rows)]
        for group, band in product(ranges(out.N, samples), bands):
            yield PlannedFrame(
                header=band.header(group[1] - group[0]),
                sources=(*parts, *(stripe.runs(group) for stripe in band.stripes)),
                results=band.place.runs(group) if band.place else (),
                sample=group[0],
                tag=((group[0] + first, group[1] + first) if op.per_sample else None, blocks),
            )


def _band(
    op: _Operation, blocks: Range, lines: Range, operands: tuple[DeviceTensor | None, ...], cfg: EngineConfig
) -> _Band:
    out, apart = op.out, blocks[1] - blocks[0]
    views = tuple(None if each is None else (each.kind, each.view, each.W) for each in operands)
    read = [None if each is None else _lines(each, lines) for each in operands]
    heights = tuple(0 if each is None else each[1] - each[0] for each in read)
    fields = (*op.fields, *_dithering(op, blocks[0], lines[0]))

    @cache
    def header(samples: int) -> Header:
        count = samples, apart, lines[1] - lines[0]
        return _header(op.mode, fields, op.planes(samples, apart), count, out.W, views, heights, cfg)

    # Masks come in the order of the results.
    stripes = [
        Stripe(each, rows=own, blocks=blocks, by_block=index == _MASK and not op.per_sample)
        for index, (each, own) in enumerate(zip(operands, read, strict=True))
        if each is not None and own is not None
    ]
    place = None if op.mode == Mode.REDUCE else Stripe(out, rows=lines, blocks=blocks)
    return _Band(stripes=stripes, place=place, header=header)


def _dithering(op: _Operation, block: int, row: int) -> tuple[tuple[str, int], ...]:
    """Fields of a frame that begins with this block and row."""
    if op.dither is None:
        return ()
    of_channel, of_row, _ = DITHER_STEPS
    phase = (op.dither + block * LANES * of_channel + row * of_row) % DITHER_PHASES
    return ("dithers", 1), ("phase", phase)


def _block_ranges(op: _Operation) -> list[Range]:
    """Blocks of the result, cut where an operand ends and where coefficients do."""
    whole = block_count(op.out.C)
    ends = {block_count(each.C) for each in (op.u, op.v, op.mask) if each is not None}
    cuts = sorted({0, whole, *(end for end in ends if end < whole)} | set(range(0, whole, COEFFICIENT_ROWS)))
    return list(pairwise(cuts))


def _lines(operand: DeviceTensor, rows: Range) -> Range:
    """Rows of an operand from which these rows of the result are read."""
    first, end = rows
    if operand.view == "strided":
        return 2 * first, 2 * end - 1
    if operand.view == "spread":  # rows begin at an even one
        return first // 2, -(-end // 2)
    return (0, 1) if operand.view == "broadcast" else rows


def _tile(
    op: _Operation, blocks: Range, operands: tuple[DeviceTensor | None, ...], cfg: EngineConfig
) -> tuple[int, int]:
    """Samples and rows of a frame: as many rows as fit, and of the samples what takes the fewest cycles."""
    out, count = op.out, blocks[1] - blocks[0]
    room = (cfg.x_depth, cfg.w_vectors, cfg.x_depth)
    even = any(each is not None and each.view == "spread" for each in operands)
    for rows in shares(out.H):
        pixels = [0 if each is None else _pixels(each, rows) * count for each in operands]
        wide = [1, 2 if operands[1] is not None and operands[1].kind == "int16" else 1, 1]
        fitting = [
            vectors // (each * size) for vectors, each, size in zip(room, pixels, wide, strict=True) if each
        ]
        most = min([*fitting, _most_samples(op, rows, count)])
        aligned = rows == out.H or not even or rows % 2 == 0
        reached = max(rows, out.W) <= REACH
        if aligned and reached and most:
            return _samples(op, rows, count, most, operands, cfg), rows
    raise ShapeError(
        f"{op.label}: a row of {out.W} pixels of {out.C} channels does not fit the buffers of {cfg.name}; "
        "use another device"
    )


def _most_samples(op: _Operation, rows: int, count: int) -> int:
    """How many samples the sums of a frame may be of."""
    pixels = rows * op.out.W
    if not op.per_sample:
        return MOST_PIXELS // pixels if op.planes(1, count) <= MOST_PLANES else 0
    if pixels > MOST_PIXELS:
        return 0
    return MOST_PLANES // count if op.sums else op.out.N


def _pixels(operand: DeviceTensor, rows: int) -> int:
    """Pixels of a plane of an operand that so many rows of the result need."""
    first, end = _lines(operand, (0, rows))
    return (end - first) * operand.W


def _samples(
    op: _Operation,
    rows: int,
    count: int,
    most: int,
    operands: tuple[DeviceTensor | None, ...],
    cfg: EngineConfig,
) -> int:
    """How many samples of so many rows and blocks a frame takes, at most ``most``."""
    out = op.out
    loads = [_words(each.kind, _pixels(each, rows) * count) for each in operands if each is not None]
    stored = 0 if op.mode == Mode.REDUCE else _words(out.kind, rows * out.W * count)
    short = rows < out.H
    pieces = (stored > 0) * (count if short else 1) + sum(
        count if short or (index == _MASK and not op.per_sample) else 1
        for index, each in enumerate(operands)
        if each is not None
    )

    def cycles(samples: int) -> int:
        # Sums of samples come with each frame, those over all samples with the last one.
        reported = 0
        if op.per_sample and op.sums:
            reported = plane_words(op.mode) * op.planes(samples, count) + TRAILER_WORDS
        return chain_cycles(
            -(-out.N // samples) * -(-out.H // rows),
            engines=cfg.engines,
            words_in=samples * sum(loads),
            iterations=samples * _QUARTERS * rows * out.W * count,
            words_out=samples * stored + reported,
            pieces=samples * pieces,
        )

    return min((size for size in {1, *shares(out.N)} if size <= most), key=cycles)


def _words(kind: str, pixels: int) -> int:
    return pixels * LANES * np.dtype(kind).itemsize // 8


@lru_cache(maxsize=4096)
def _header(
    mode: Mode,
    fields: tuple[tuple[str, int], ...],
    planes: int,
    count: tuple[int, int, int],
    width: int,
    views: tuple[tuple[str, str, int] | None, ...],
    heights: tuple[int, ...],
    cfg: EngineConfig,
) -> Header:
    """``count`` is samples, blocks and rows; ``views`` are kind, view and columns of u, v and mask.

    Where sums are of fewer planes than samples have blocks, they are of all samples at once.
    """
    samples, blocks, rows = count
    u, v, mask = views
    together = 0 < planes < samples * blocks
    steps = [
        (0, 0, 0) if view is None else _steps(view[1], view[2], height)
        for view, height in zip(views[:2], heights, strict=False)
    ]
    spread = [int(view is not None and view[1] == "spread") for view in (u, v)]
    loops = [
        Loop(limit=limit, dy=dy, dx=dx, dxa=steps[0][level], dwa=steps[1][level])
        for level, (limit, dy, dx) in enumerate(((width, 0, 1), (rows, 1, 0), (samples * blocks, 0, 0)))
    ]
    if together:
        of_blocks = replace(loops.pop(), limit=blocks)
        of_samples = replace(of_blocks, limit=samples, dxa=blocks * of_blocks.dxa, dwa=blocks * of_blocks.dwa)
        loops += [of_samples, of_blocks]
    pixels = [
        0 if view is None else samples * blocks * height * view[2]
        for view, height in zip(views, heights, strict=True)
    ]
    return Header(
        mode=mode,
        ic_lanes=cfg.ic_lanes,
        oc_lanes=cfg.oc_lanes,
        unchecked=1,
        x_kind=KINDS[u[0]] if u else Kind.INT8,
        w_kind=KINDS[v[0]] if v else Kind.INT8,
        x_spread=spread[0],
        w_spread=spread[1],
        mask_signed=int(mask is not None and mask[0] == "int8"),
        depth=4 if together else 3,
        plane=rows * width * (samples if together else 1),
        planes=planes,
        rows=blocks if mode == Mode.AFFINE else 0,
        x_count=pixels[0],
        w_count=pixels[1] * (2 if v is not None and v[0] == "int16" else 1),
        mask_count=pixels[2],
        levels=nest([Loop(limit=_QUARTERS), *loops]),
        **{name: value for name, value in fields if mask is not None or not name.startswith("mask")},
    )


def _steps(view: str, columns: int, height: int) -> tuple[int, int, int]:
    """Half pixels in an operand from one column, row and plane of the result to the next."""
    plane = 2 * columns * height
    return {
        "whole": (2, 2 * columns, plane),
        "strided": (4, 4 * columns, plane),
        "spread": (1, columns, plane),
        "broadcast": (0, 0, plane),
    }[view]
