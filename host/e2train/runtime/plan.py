# SPDX-License-Identifier: Apache-2.0
"""A layer's call as frames for the engine, and where each frame's results go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

from e2train.config import EngineConfig
from e2train.devices.protocol import (
    OUTER_MODES,
    ConvShape,
    LayerCall,
    dtype_name,
    products_per_multiplier,
)
from e2train.numerics.frames import Header, Kind, Level, Mode
from e2train.numerics.frames.layout import G_BITS, LEVELS, X_BITS
from e2train.runtime.axes import Axis, Span, phase_axes, window_axis
from e2train.runtime.tiling import Problem, choose_tiling

__all__ = ["Block", "Plan", "plan"]

Range = tuple[int, int]  # first, end


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One frame: the part of a problem that it computes."""

    problem: Problem
    samples: Range
    c_tiles: Range
    k_tiles: Range
    rows: Span
    cols: Span
    header: Header

    @property
    def cycles(self) -> int:
        """About how long the engine is busy with it."""
        return max(self.header.iterations, self.header.frame_words, self.header.result_words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All frames of a call; ``wide`` where their results are partial sums for the host to add."""

    mode: str
    shape: ConvShape
    config: EngineConfig
    shift: int
    wide: bool
    blocks: tuple[Block, ...]
    scale_bits: int = 0  # the sums of grad_msb come times a power of two

    @property
    def k_vectors(self) -> int:
        """Vectors of output lanes in a tile."""
        return products_per_multiplier(self.mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loop:
    """One loop level by absolute strides."""

    limit: int
    y: int = 0
    x: int = 0
    xa: int = 0
    wa: int = 0


def plan(call: LayerCall, config: EngineConfig) -> Plan:
    """Cut a call into frames that fit the engine's buffers. Equal geometry is planned once."""
    return _plan(call.mode, call.shape, call.shift, (call.x_bits, call.g_bits), dtype_name(call.a), config)


@lru_cache(maxsize=1024)
def _plan(
    mode: str, shape: ConvShape, shift: int, kept: tuple[int, int], dtype: str, config: EngineConfig
) -> Plan:
    problems = _problems(mode, shape, config) if shape.N else []
    tilings = [choose_tiling(problem, config) for problem in problems]
    # All frames of a call are wide when any must be: their sums meet in one array.
    split = any(t.c_tiles < p.c_tiles for p, t in zip(problems, tilings, strict=True))
    wide = mode in OUTER_MODES or split
    blocks: list[Block] = []
    for problem, t in zip(problems, tilings, strict=True):
        parts = product(
            _ranges(problem.samples, t.samples),
            problem.rows.spans(t.rows),
            problem.cols.spans(t.cols),
            _ranges(problem.k_tiles, t.k_tiles),
            _ranges(problem.c_tiles, t.c_tiles),
        )
        for n, rows, cols, k, c in parts:
            if rows.size and cols.size:  # a tile in padding alone is zero
                common = Header(
                    mode=Mode[mode.upper()],
                    ic_lanes=config.ic_lanes,
                    oc_lanes=config.oc_lanes,
                    x_kind=Kind[dtype.upper()],
                    w_kind=Kind.INT16 if problem.outer else Kind.INT8,
                    result=Kind.INT64 if wide else Kind.INT32,
                    shift=0 if wide else shift,
                    x_bits=kept[0],
                    g_bits=kept[1],
                )
                blocks.append(_block(problem, common, (n, c, k), (rows, cols), config))
    scale_bits = X_BITS + G_BITS - sum(kept) if mode == "grad_msb" else 0
    return Plan(
        mode=mode,
        shape=shape,
        config=config,
        shift=shift,
        wide=wide,
        blocks=tuple(blocks),
        scale_bits=scale_bits,
    )


def _problems(mode: str, s: ConvShape, config: EngineConfig) -> list[Problem]:
    if mode == "grad_input":
        pairs: Iterator[tuple[Axis, Axis]] = product(
            phase_axes(s.H, source=s.P, kernel=s.R, step=s.stride[0], before=s.padding[0]),
            phase_axes(s.W, source=s.Q, kernel=s.S, step=s.stride[1], before=s.padding[2]),
        )
        source, result = s.K, s.C
    else:
        rows = window_axis(s.H, kernel=s.R, step=s.stride[0], before=s.padding[0], count=s.P)
        cols = window_axis(s.W, kernel=s.S, step=s.stride[1], before=s.padding[2], count=s.Q)
        pairs = iter([(rows, cols)])
        source, result = s.C, s.K
    k_vectors = products_per_multiplier(mode)
    return [
        Problem(
            outer=mode in OUTER_MODES,
            k_vectors=k_vectors,
            x16=mode == "grad_input",
            samples=s.N,
            c_tiles=-(-source // config.ic_lanes),
            k_tiles=-(-result // (k_vectors * config.oc_lanes)),
            rows=rows,
            cols=cols,
        )
        for rows, cols in pairs
    ]


def _block(
    problem: Problem,
    common: Header,
    ranges: tuple[Range, Range, Range],
    spans: tuple[Span, Span],
    config: EngineConfig,
) -> Block:
    (n, c, k), (rows, cols) = ranges, spans
    sizes = samples, c_tiles, k_tiles = n[1] - n[0], c[1] - c[0], k[1] - k[0]
    vectors = samples * rows.size * cols.size * c_tiles
    if problem.outer:
        loops = _outer_loops(problem, rows, cols, sizes)
        w_count = samples * rows.count * cols.count * k_tiles * problem.k_vectors
        wa_modulus = config.w_vectors
    else:
        loops = _dot_loops(problem, rows, cols, sizes)
        w_count = k_tiles * problem.taps * c_tiles * config.oc_lanes * problem.k_vectors
        wa_modulus = config.w_depth // problem.k_vectors
    header = replace(
        common,
        x_count=vectors,
        w_count=w_count,
        H=rows.size,
        W=cols.size,
        y0=rows.start,
        x0=cols.start,
        xa0=_signed((rows.start * cols.size + cols.start) * c_tiles, config.x_depth),
        depth=3,
        levels=_levels(loops, config.x_depth, wa_modulus),
    )
    return Block(problem=problem, samples=n, c_tiles=c, k_tiles=k, rows=rows, cols=cols, header=header)


def _dot_loops(problem: Problem, rows: Span, cols: Span, sizes: tuple[int, int, int]) -> list[_Loop]:
    """Innermost first: input channels, kernel columns and rows are summed; then k, q, p, n."""
    n, c, k = sizes
    r, s = len(problem.rows.taps), len(problem.cols.taps)
    line = cols.size * c
    return [
        _Loop(limit=c, xa=1, wa=1),
        _Loop(limit=s, x=1, xa=c, wa=c),
        _Loop(limit=r, y=1, xa=line, wa=s * c),
        _Loop(limit=k, wa=r * s * c),
        _Loop(limit=cols.count, x=problem.cols.step, xa=problem.cols.step * c),
        _Loop(limit=rows.count, y=problem.rows.step, xa=problem.rows.step * line),
        _Loop(limit=n, xa=rows.size * line),
    ]


def _outer_loops(problem: Problem, rows: Span, cols: Span, sizes: tuple[int, int, int]) -> list[_Loop]:
    """Innermost first: output columns, rows and samples are summed; then s, r, c, k."""
    n, c, k = sizes
    line, gy = cols.size * c, k * problem.k_vectors
    return [
        _Loop(limit=cols.count, x=problem.cols.step, xa=problem.cols.step * c, wa=gy),
        _Loop(limit=rows.count, y=problem.rows.step, xa=problem.rows.step * line, wa=cols.count * gy),
        _Loop(limit=n, xa=rows.size * line, wa=rows.count * cols.count * gy),
        _Loop(limit=len(problem.cols.taps), x=1, xa=c),
        _Loop(limit=len(problem.rows.taps), y=1, xa=line),
        _Loop(limit=c, xa=1),
        _Loop(limit=k, wa=problem.k_vectors),
    ]


def _levels(loops: Sequence[_Loop], x_modulus: int, w_modulus: int) -> tuple[Level, ...]:
    """Absolute strides as net deltas, which take back what the inner levels travelled."""
    levels = []
    y = x = xa = wa = 0  # travel of the inner levels
    for loop in loops:
        levels.append(
            Level(
                limit=loop.limit,
                dy=loop.y - y,
                dx=loop.x - x,
                dxa=_signed(loop.xa - xa, x_modulus),
                dwa=_signed(loop.wa - wa, w_modulus),
            )
            if loop.limit > 1
            else Level()
        )
        turns = loop.limit - 1
        y, x, xa, wa = y + turns * loop.y, x + turns * loop.x, xa + turns * loop.xa, wa + turns * loop.wa
    return tuple(levels) + (Level(),) * (LEVELS - len(levels))


def _signed(delta: int, modulus: int) -> int:
    """The same step round a buffer, by the shorter way."""
    return (delta + modulus // 2) % modulus - modulus // 2


def _ranges(whole: int, size: int) -> list[Range]:
    return [(first, min(first + size, whole)) for first in range(0, whole, size)]
