# SPDX-License-Identifier: Apache-2.0
"""Frames of a convolution whose operand and result lie in the device's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product
from typing import Any

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
    Run,
    Stripe,
    chain_cycles,
    nest,
    ranges,
    shares,
)
from e2train.devices.chains.windows import Columns, Phase, phases, turns
from e2train.devices.protocol import ShapeError
from e2train.devices.resident import Convolution, DeviceTensor
from e2train.numerics.blocks import LANES, block_count
from e2train.numerics.elementwise import Kind
from e2train.numerics.frames import Header, Mode
from e2train.numerics.frames.layout import LEVELS, MOST_PLANES

__all__ = ["plan_convolution", "sent_weights"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What one kind of frame computes: some rows and columns of results, by the same weights.

    A depthwise convolution is one of 16 channels for each block.
    """

    mode: Mode
    kind: Kind
    result: Kind
    depth: int  # blocks that are summed
    blocks: int  # of the result
    height: int  # of the source
    width: int
    samples: int
    sums: bool
    shift: int
    rows: Phase
    columns: Columns

    @property
    def tiles(self) -> int:
        """Parts of a pixel that are computed one after the other."""
        return 2 if self.kind == "int16" else 1

    @property
    def k_lanes(self) -> int:
        """Output channels computed at once."""
        return LANES // self.tiles

    @property
    def taps(self) -> tuple[int, int]:
        """Rows and columns of a window."""
        return len(self.rows.taps), len(self.columns.phases[0].taps)

    @property
    def block_rows(self) -> int:
        """Rows of weights for a block of results."""
        R, S = self.taps
        return len(self.columns.phases) * self.tiles * R * S * self.depth


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tile:
    """How much a frame takes: samples, rows and blocks of results, and the rows of the source for them."""

    samples: int
    rows: int
    blocks: int
    height: int
    y0: int = 0  # of the first window, counted from the first of these rows


def plan_convolution(call: Convolution, cfg: EngineConfig) -> Iterator[PlannedFrame]:
    """The frames of a call; each is tagged with the blocks of its result.

    Raises: ShapeError when a part of it does not fit the engine's buffers.
    """
    kernels = _kernels(call)
    for part, tile in _parts(call, cfg, call.source.N):
        for group, kernel in enumerate(kernels):
            weights = _weights(part, tile, kernel)
            yield from _frames(call, part, tile, weights, group if call.depthwise else None, cfg)


def sent_weights(call: Convolution, cfg: EngineConfig, samples: int) -> dict[Any, NDArray[np.int8]]:
    """The weights that frames send of a call with so many samples, in their order, by what they are."""
    kernels = _kernels(call)
    return {
        (number, group, blocks): each
        for number, (part, tile) in enumerate(_parts(call, cfg, samples))
        for group, kernel in enumerate(kernels)
        for blocks, each in _weights(part, tile, kernel).items()
    }


def _parts(call: Convolution, cfg: EngineConfig, samples: int) -> Iterator[tuple[_Part, _Tile]]:
    """What frames of a call with so many samples compute, and how much each of them takes.

    Raises: ShapeError.
    """
    x, y = call.source, call.destination
    _, _, R, S = call.w.shape
    transposed = call.mode == "grad_input"
    rows = phases(y.H, kernel=R, step=call.stride[0], before=call.padding[0], transposed=transposed)
    columns = phases(y.W, kernel=S, step=call.stride[1], before=call.padding[2], transposed=transposed)
    for phase, turn in product(rows, turns(columns)):
        part = _Part(
            mode=Mode.GRAD_INPUT if transposed else Mode.FORWARD,
            kind=x.kind,
            result=y.kind,
            depth=1 if call.depthwise else block_count(x.C),
            blocks=1 if call.depthwise else block_count(y.C),
            height=x.H,
            width=x.W,
            samples=samples,
            sums=call.sums,
            shift=call.shift,
            rows=phase,
            columns=turn,
        )
        tile = _choose(part, cfg)
        if tile is None:
            raise ShapeError(
                f"{call.label}: a row of {x.W} pixels of {x.C} channels, or its weights, does not fit the "
                f"buffers of {cfg.name}; use another device"
            )
        yield part, tile


def _kernels(call: Convolution) -> list[NDArray[np.int8]]:
    """Weights as the mode uses them, (K blocks * 16, C blocks * 16, R, S), of each group."""
    if call.depthwise:
        C, _, R, S = call.w.shape
        count = block_count(C)
        lanes = np.zeros((count * LANES, R, S), np.int8)
        lanes[:C] = call.w[:, 0]
        diagonal = np.zeros((count, LANES, LANES, R, S), np.int8)
        diagonal[:, range(LANES), range(LANES)] = lanes.reshape(count, LANES, R, S)
        return list(diagonal)
    w = call.w if call.mode == "forward" else call.w.swapaxes(0, 1)
    K, C, R, S = w.shape
    whole = np.zeros((block_count(K) * LANES, block_count(C) * LANES, R, S), np.int8)
    whole[:K, :C] = w
    return [whole]


def _frames(
    call: Convolution,
    part: _Part,
    most: _Tile,
    weights: dict[Range, NDArray[np.int8]],
    group: int | None,
    cfg: EngineConfig,
) -> Iterator[PlannedFrame]:
    """The frames of one part; ``group`` is the block of a depthwise one."""
    own = None if group is None else (group, group + 1)
    bands = [_band(call, part, rows, list(weights), own, cfg) for rows in ranges(part.rows.count, most.rows)]
    for samples, band in product(ranges(part.samples, most.samples), bands):
        source = band.source.runs(samples)
        for blocks, part_of_weights in weights.items():
            yield PlannedFrame(
                header=band.header(samples[1] - samples[0], blocks),
                sources=(source, part_of_weights),
                results=band.places[blocks](samples),
                sample=samples[0],
                tag=own or blocks,
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Band:
    """Rows of results, and the rows of the source for them."""

    source: Stripe
    places: dict[Range, Callable[[Range], list[Run]]]  # of some blocks and samples, as they leave
    header: Callable[[int, Range], Header]  # of a frame with so many samples and some blocks


def _band(
    call: Convolution,
    part: _Part,
    rows: Range,
    of_frames: list[Range],
    own: Range | None,
    cfg: EngineConfig,
) -> _Band:
    """``of_frames`` are blocks of results, ``own`` is the block of a depthwise convolution."""
    begin = part.rows.start + rows[0] * part.rows.step
    end = begin + part.rows.reach(rows[1] - rows[0])
    low = min(max(begin, 0), part.height - 1)
    high = max(low + 1, min(end, part.height))

    @cache
    def header(samples: int, blocks: Range) -> Header:
        tile = _Tile(
            samples=samples,
            rows=rows[1] - rows[0],
            blocks=blocks[1] - blocks[0],
            height=high - low,
            y0=begin - low,
        )
        return _header(part, tile, cfg)

    return _Band(
        source=Stripe(call.source, rows=(low, high), blocks=own or (0, part.depth)),
        places={blocks: _places(call.destination, part, rows, own or blocks) for blocks in of_frames},
        header=header,
    )


def _places(y: DeviceTensor, part: _Part, rows: Range, blocks: Range) -> Callable[[Range], list[Run]]:
    """Where results of samples go, in the order in which they leave."""
    phase, columns = part.rows, part.columns
    if phase.every == 1 and columns.width == y.W:
        return Stripe(y, rows=rows, blocks=blocks, by_block=part.sums).runs
    # Of an input gradient, which has no sums.
    pixel, offsets = LANES * np.dtype(y.kind).itemsize, y.offsets.tolist()
    starts = [
        ((block * y.H + phase.first + row * phase.every) * y.W + columns.first) * pixel
        for block in range(*blocks)
        for row in range(*rows)
    ]
    size = columns.width * pixel
    return lambda samples: [(offset + at, size) for offset in offsets[slice(*samples)] for at in starts]


def _weights(part: _Part, most: _Tile, kernel: NDArray[np.int8]) -> dict[Range, NDArray[np.int8]]:
    """The weights of frames, by their blocks of results."""
    rows = _weight_rows(part, kernel)
    return {blocks: np.ascontiguousarray(rows[slice(*blocks)]) for blocks in ranges(part.blocks, most.blocks)}


def _weight_rows(part: _Part, kernel: NDArray[np.int8]) -> NDArray[np.int8]:
    """Shapes: (K, C, R, S) to (K blocks, turns, tiles, C blocks, R, S, k_lanes, 16)."""
    padded = np.pad(kernel, ((0, 0), (0, 0), (0, 1), (0, 1)))  # NO_TAP is the last one
    of_rows = padded[:, :, part.rows.taps]
    taken = np.stack([of_rows[..., phase.taps] for phase in part.columns.phases])
    count, _, _, R, S = taken.shape
    split: NDArray[np.int8] = taken.reshape(
        count, part.blocks, part.tiles, part.k_lanes, part.depth, LANES, R, S
    )
    return split.transpose(1, 0, 2, 4, 6, 7, 3, 5)


def _loops(part: _Part, tile: _Tile) -> tuple[list[Loop], list[Loop]]:
    """The loops that are summed, and those over results; of both those that turn."""
    (R, S), columns = part.taps, part.columns
    plane, row = tile.height * part.width, R * S * part.depth
    apart = columns.phases[-1].start - columns.phases[0].start
    step = columns.phases[0].step
    summed = [
        Loop(limit=S, dx=1, dxa=1, dwa=1),
        Loop(limit=R, dy=1, dxa=part.width, dwa=S),
        Loop(limit=part.depth, dxa=plane, dwa=R * S),
    ]
    of_blocks = Loop(limit=tile.blocks, dwa=part.block_rows)
    of_samples = Loop(limit=tile.samples, dxa=part.depth * plane)
    results = [
        Loop(limit=part.tiles, dwa=row),
        Loop(limit=len(columns.phases), dx=apart, dxa=apart, dwa=part.tiles * row),
        Loop(limit=columns.count, dx=step, dxa=step),
        Loop(limit=tile.rows, dy=part.rows.step, dxa=part.rows.step * part.width),
        # Sums are those of all samples at once: a plane is a block of them.
        *((of_samples, of_blocks) if part.sums else (of_blocks, of_samples)),
    ]
    kept = [loop for loop in summed if loop.limit > 1]
    return kept or [Loop(limit=1)], [loop for loop in results if loop.limit > 1]


@lru_cache(maxsize=4096)
def _header(part: _Part, tile: _Tile, cfg: EngineConfig) -> Header:
    summed, results = _loops(part, tile)
    x0 = part.columns.phases[0].start
    return Header(
        mode=part.mode,
        ic_lanes=cfg.ic_lanes,
        oc_lanes=cfg.oc_lanes,
        unchecked=1,
        x_kind=KINDS[part.kind],
        result=KINDS[part.result],
        shift=part.shift,
        depth=len(summed),
        plane=tile.samples * tile.rows * part.columns.width if part.sums else 0,
        planes=tile.blocks if part.sums else 0,
        x_count=tile.samples * part.depth * tile.height * part.width,
        w_count=tile.blocks * part.block_rows * part.k_lanes,
        H=tile.height,
        W=part.width,
        y0=tile.y0,
        x0=x0,
        xa0=tile.y0 * part.width + x0,
        levels=nest(summed + results),
    )


@lru_cache(maxsize=1024)
def _choose(part: _Part, cfg: EngineConfig) -> _Tile | None:
    """The cheapest tile that fits the buffers and the loops; None where none does."""
    if part.columns.phases[0].reach(part.columns.count) > REACH:
        return None
    found = list(_tiles(part, cfg))
    return min(found, key=lambda tile: _cycles(part, tile, cfg), default=None)


def _tiles(part: _Part, cfg: EngineConfig) -> Iterator[_Tile]:
    for rows in shares(part.rows.count):
        height = min(part.height, part.rows.reach(rows))
        vectors = part.depth * height * part.width
        if vectors > cfg.x_depth or part.rows.reach(rows) > REACH:
            continue
        for blocks in shares(part.blocks):
            too_many = part.sums and blocks > MOST_PLANES
            if too_many or blocks * part.block_rows * part.k_lanes > cfg.w_vectors:
                continue
            most = cfg.x_depth // vectors
            if part.sums:
                most = min(most, MOST_PIXELS // (rows * part.columns.width))
            for samples in {1, *(size for size in shares(part.samples) if size <= most)} if most else ():
                tile = _Tile(samples=samples, rows=rows, blocks=blocks, height=height)
                if sum(map(len, _loops(part, tile))) <= LEVELS:
                    yield tile


def _cycles(part: _Part, tile: _Tile, cfg: EngineConfig) -> int:
    """Estimate for all frames of the part."""
    n, columns = tile.samples, part.columns
    itemsize, size = np.dtype(part.kind).itemsize, np.dtype(part.result).itemsize
    pixels = n * tile.rows * columns.width * tile.blocks
    R, S = part.taps
    whole = tile.rows == part.rows.count
    whole_rows = part.rows.every == 1 and len(columns.phases) == 1
    whole_results = whole and whole_rows and not part.sums
    frames = -(-part.samples // n) * -(-part.rows.count // tile.rows) * -(-part.blocks // tile.blocks)
    return chain_cycles(
        frames,
        engines=cfg.engines,
        words_in=2 * (n * part.depth * tile.height * part.width * itemsize)
        + 2 * tile.blocks * part.block_rows * part.k_lanes,
        iterations=pixels * part.tiles * R * S * part.depth,
        words_out=2 * pixels * size,
        pieces=n * (1 if whole else part.depth)
        + n * (1 if whole_results else tile.blocks * (1 if whole_rows else tile.rows)),
    )
