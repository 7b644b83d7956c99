# SPDX-License-Identifier: Apache-2.0
"""Frames of a weight gradient whose operands lie in the device's memory, and the gradient from their sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from e2train.config import EngineConfig
from e2train.devices.chains.plan import (
    KINDS,
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
from e2train.devices.resident import WeightGradient
from e2train.numerics.blocks import LANES, block_count
from e2train.numerics.elementwise import Kind
from e2train.numerics.frames import Header, Mode
from e2train.numerics.frames.layout import G_BITS, LEVELS, X_BITS
from e2train.numerics.rounding import Ints

__all__ = ["add_sums", "plan_gradient", "scale_bits"]

_BYTE = 8
_MOST_WORDS = 1 << 18  # of a frame's sums: they come to the host


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """The geometry that a plan depends on; of a depthwise convolution that of a block."""

    mode: Mode
    x_kind: Kind
    g_kind: Kind
    kept: tuple[int, int]
    depth: int  # blocks of x
    blocks: int  # of gy
    samples: int
    source: tuple[int, int]  # H, W
    size: tuple[int, int]  # P, Q
    kernel: tuple[int, int]
    stride: tuple[int, int]
    before: tuple[int, int]  # padding

    @property
    def vectors(self) -> int:
        """Of a pixel of gy."""
        return 2 if self.g_kind == "int16" else 1

    @property
    def tiles(self) -> int:
        """Parts of a pixel of gy that are used one after the other."""
        return self.vectors if self.mode == Mode.GRAD_WEIGHT else 1

    def height(self, rows: int) -> int:
        """Rows of x that so many rows of gy need, at most."""
        return min(self.source[0], (rows - 1) * self.stride[0] + self.kernel[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tile:
    """How much a frame takes: samples, rows and blocks of gy, blocks of x, and their rows."""

    samples: int
    rows: int
    blocks: int
    depth: int
    height: int
    y0: int = 0


def plan_gradient(call: WeightGradient, cfg: EngineConfig) -> Iterator[PlannedFrame]:
    """The frames of a call; each is tagged with the blocks of gy and of x that its sums belong to.

    Raises: ShapeError when a part of it does not fit the engine's buffers, or more high bits are to be kept
        than it has.
    """
    s = call.shape
    layer = _Layer(
        mode=Mode.GRAD_MSB if call.mode == "grad_msb" else Mode.GRAD_WEIGHT,
        x_kind=call.x.kind,
        g_kind=call.gy.kind,
        kept=_kept(call),
        depth=1 if call.depthwise else block_count(s.C),
        blocks=1 if call.depthwise else block_count(s.K),
        samples=s.N,
        source=(s.H, s.W),
        size=(s.P, s.Q),
        kernel=call.kernel,
        stride=call.stride,
        before=(call.padding[0], call.padding[2]),
    )
    tile = _choose(layer, cfg)
    if tile is None:
        raise ShapeError(
            f"{call.label}: rows of {s.W} and {s.Q} pixels do not fit the buffers of {cfg.name}; "
            "use another device"
        )
    groups: list[Range | None] = [None]
    if call.depthwise:
        groups = list(ranges(block_count(s.C), 1))
    for group in groups:
        yield from _frames(call, layer, tile, group, cfg)


def add_sums(gw: Ints, frame: PlannedFrame, results: NDArray[np.uint64], *, depthwise: bool) -> None:
    """Add sums of frames that are tagged alike to the gradient.

    Shapes: gw (K blocks * 16, C blocks * 16, R, S), of a depthwise one, of which each channel's own sums
    count, (C blocks * 16, 1, R, S); results (frames, words).
    """
    (k_low, k_high), (c_low, c_high) = frame.tag
    R, S = gw.shape[2:]
    shape = k_high - k_low, -1, c_high - c_low, R, S, LANES, _BYTE
    sums = results.view(np.int32 if frame.header.pairs else np.int64).sum(axis=0, dtype=np.int64)
    if frame.header.pairs:  # channels k and k + 8 of a block side by side
        sums = sums.reshape(*shape, 2).transpose(0, 1, 7, 6, 2, 5, 3, 4)
    else:
        sums = sums.reshape(shape).transpose(0, 1, 6, 2, 5, 3, 4)
    whole = sums.reshape((k_high - k_low) * LANES, (c_high - c_low) * LANES, R, S)
    channels = slice(k_low * LANES, k_high * LANES)
    if depthwise:
        gw[channels, 0] += whole[range(LANES), range(LANES)]
    else:
        gw[channels, c_low * LANES : c_high * LANES] += whole


def scale_bits(call: WeightGradient) -> int:
    """The power of two with which the sums of high bits come."""
    if call.mode == "grad_weight":
        return 0
    return sum(_most_kept(call)) - sum(_kept(call))


def _most_kept(call: WeightGradient) -> tuple[int, int]:
    return (X_BITS, G_BITS) if call.gy.kind == "int16" else (_BYTE, _BYTE)


def _kept(call: WeightGradient) -> tuple[int, int]:
    """High bits of x and gy; 0 for all where both have all."""
    if call.mode == "grad_weight":
        return 0, 0
    kept = call.x_bits or _BYTE, call.g_bits or _BYTE * np.dtype(call.gy.kind).itemsize
    most = _most_kept(call)
    if kept[0] > most[0] or kept[1] > most[1]:
        raise ShapeError(
            f"{call.label}: {kept[0]} high bits of x and {kept[1]} of {call.gy.kind} gy; "
            f"the engine keeps at most {most[0]} and {most[1]}"
        )
    return kept


def _frames(
    call: WeightGradient, layer: _Layer, most: _Tile, group: Range | None, cfg: EngineConfig
) -> Iterator[PlannedFrame]:
    bands = [
        _band(call, layer, (rows, blocks, depths), group, cfg)
        for rows, blocks, depths in product(
            ranges(layer.size[0], most.rows),
            ranges(layer.blocks, most.blocks),
            ranges(layer.depth, most.depth),
        )
    ]
    for samples, band in product(ranges(layer.samples, most.samples), bands):
        yield PlannedFrame(
            header=band.header(samples[1] - samples[0]),
            sources=(band.x.runs(samples), band.gy.runs(samples)),
            sample=samples[0],
            tag=band.tag,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Band:
    """Rows and blocks of gy, blocks of x, and its rows for them."""

    x: Stripe
    gy: Stripe
    tag: tuple[Range, Range]
    header: Callable[[int], Header]  # of a frame with so many samples


def _band(
    call: WeightGradient,
    layer: _Layer,
    of_tile: tuple[Range, Range, Range],
    group: Range | None,
    cfg: EngineConfig,
) -> _Band:
    """``of_tile`` are rows and blocks of gy and blocks of x, ``group`` the one of a depthwise convolution."""
    rows, blocks, depths = of_tile
    begin = rows[0] * layer.stride[0] - layer.before[0]
    end = begin + (rows[1] - rows[0] - 1) * layer.stride[0] + layer.kernel[0]
    low = min(max(begin, 0), layer.source[0] - 1)
    high = max(low + 1, min(end, layer.source[0]))
    of_x, of_gy = group or depths, group or blocks

    @cache
    def header(samples: int) -> Header:
        tile = _Tile(
            samples=samples,
            rows=rows[1] - rows[0],
            blocks=blocks[1] - blocks[0],
            depth=depths[1] - depths[0],
            height=high - low,
            y0=begin - low,
        )
        return _header(layer, tile, cfg)

    return _Band(
        x=Stripe(call.x, rows=(low, high), blocks=of_x),
        gy=Stripe(call.gy, rows=rows, blocks=of_gy),
        tag=(of_gy, of_x),
        header=header,
    )


def _loops(layer: _Layer, tile: _Tile) -> tuple[list[Loop], list[Loop]]:
    """The loops that are summed, and those over results; of both those that turn."""
    width, (_, Q), (R, S) = layer.source[1], layer.size, layer.kernel
    plane, gradients = tile.height * width, tile.rows * Q * layer.vectors
    summed = [
        Loop(limit=Q, dx=layer.stride[1], dxa=layer.stride[1], dwa=layer.vectors),
        Loop(limit=tile.rows, dy=layer.stride[0], dxa=layer.stride[0] * width, dwa=Q * layer.vectors),
        Loop(limit=tile.samples, dxa=tile.depth * plane, dwa=tile.blocks * gradients),
    ]
    results = [
        Loop(limit=S, dx=1, dxa=1),
        Loop(limit=R, dy=1, dxa=width),
        Loop(limit=tile.depth, dxa=plane),
        Loop(limit=layer.tiles, dwa=1),
        Loop(limit=tile.blocks, dwa=gradients),
    ]
    kept = [loop for loop in summed if loop.limit > 1]
    return kept or [Loop(limit=1)], [loop for loop in results if loop.limit > 1]


@lru_cache(maxsize=4096)
def _header(layer: _Layer, tile: _Tile, cfg: EngineConfig) -> Header:
    summed, results = _loops(layer, tile)
    width, Q = layer.source[1], layer.size[1]
    return Header(
        mode=layer.mode,
        ic_lanes=cfg.ic_lanes,
        oc_lanes=cfg.oc_lanes,
        unchecked=1,
        x_kind=KINDS[layer.x_kind],
        w_kind=KINDS[layer.g_kind],
        depth=len(summed),
        x_bits=layer.kept[0],
        g_bits=layer.kept[1],
        x_count=tile.samples * tile.depth * tile.height * width,
        w_count=tile.samples * tile.blocks * tile.rows * Q * layer.vectors,
        H=tile.height,
        W=width,
        y0=tile.y0,
        x0=-layer.before[1],
        xa0=tile.y0 * width - layer.before[1],
        levels=nest(summed + results),
    )


@lru_cache(maxsize=1024)
def _choose(layer: _Layer, cfg: EngineConfig) -> _Tile | None:
    """The cheapest tile that fits the buffers and the loops; None where none does."""
    if (layer.size[1] - 1) * layer.stride[1] + layer.kernel[1] > REACH:
        return None
    return min(_tiles(layer, cfg), key=lambda tile: _cycles(layer, tile, cfg), default=None)


def _tiles(layer: _Layer, cfg: EngineConfig) -> Iterator[_Tile]:
    for rows, blocks, depth in product(shares(layer.size[0]), shares(layer.blocks), shares(layer.depth)):
        height = layer.height(rows)
        vectors = depth * height * layer.source[1]
        gradients = rows * layer.size[1] * layer.vectors * blocks
        sums = blocks * layer.tiles * depth * layer.kernel[0] * layer.kernel[1]
        if vectors > cfg.x_depth or gradients > cfg.w_vectors or sums * cfg.multipliers > _MOST_WORDS:
            continue
        if (rows - 1) * layer.stride[0] + layer.kernel[0] > REACH:
            continue
        most = min(cfg.x_depth // vectors, cfg.w_vectors // gradients)
        for samples in sorted({1, *(size for size in shares(layer.samples) if size <= most)}):
            tile = _Tile(samples=samples, rows=rows, blocks=blocks, depth=depth, height=height)
            if sum(map(len, _loops(layer, tile))) <= LEVELS:
                yield tile


def _cycles(layer: _Layer, tile: _Tile, cfg: EngineConfig) -> int:
    """Estimate for all frames of a group."""
    (P, Q), (R, S) = layer.size, layer.kernel
    sums = tile.blocks * layer.tiles * tile.depth * R * S
    frames = -(-layer.samples // tile.samples) * -(-P // tile.rows)
    frames *= -(-layer.blocks // tile.blocks) * -(-layer.depth // tile.depth)
    x_words = 2 * tile.samples * tile.depth * tile.height * layer.source[1]
    g_words = 2 * tile.samples * tile.blocks * tile.rows * Q * layer.vectors
    words_out = sums * cfg.multipliers
    cycles = chain_cycles(
        frames,
        engines=cfg.engines,
        words_in=x_words + g_words,
        iterations=sums * tile.samples * tile.rows * Q,
        words_out=words_out,
        pieces=tile.samples * (2 if tile.rows == P else tile.blocks + tile.depth),
    )
    # Sums are read once more, to be added up; of two equals the smaller, as many can be added surely.
    return cycles + -(-frames // cfg.engines) * words_out + x_words + g_words + words_out
