# SPDX-License-Identifier: Apache-2.0
"""How much of a convolution goes into one frame: what fits the buffers and costs the fewest cycles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from e2train.config import EngineConfig
from e2train.numerics.frames.layout import CHECK_WORDS, HEADER_WORDS, TRAILER_WORDS
from e2train.runtime.axes import Axis

__all__ = ["Problem", "Tiling", "choose_tiling"]

_STORED_WORDS = 1 << 20  # results of one frame; a transfer must hold at least that frame
_REACH = 500  # positions that one tile spans: net deltas have ten bits
_FRAME_CYCLES = 200  # what a frame costs besides: filling and draining the pipelines, and host work


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A dense convolution in vectors of lanes; ``outer`` where the sum runs over samples and positions.

    ``k_vectors`` of output lanes make a tile: two where a multiplier makes two products at once.
    """

    outer: bool
    k_vectors: int = 1
    x16: bool
    samples: int
    c_tiles: int
    k_tiles: int
    rows: Axis
    cols: Axis

    @property
    def taps(self) -> int:
        """Kernel positions."""
        return len(self.rows.taps) * len(self.cols.taps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """The most of everything that a frame takes."""

    samples: int
    rows: int
    cols: int
    c_tiles: int
    k_tiles: int


@lru_cache(maxsize=4096)
def choose_tiling(problem: Problem, cfg: EngineConfig) -> Tiling:
    """The cheapest tiling that fits the buffers; a single window of one channel vector always does."""
    return min(_tilings(problem, cfg), key=lambda tiling: _cycles(problem, tiling, cfg))


def _tilings(problem: Problem, cfg: EngineConfig) -> Iterator[Tiling]:
    for c in _shares(problem.c_tiles):
        for rows in _shares(problem.rows.count):
            for cols in _shares(problem.cols.count):
                fits = _x_vectors(problem, rows, cols) * c <= cfg.x_depth
                if fits and max(problem.rows.reach(rows), problem.cols.reach(cols)) <= _REACH:
                    yield from _fill(problem, rows, cols, c, cfg)


def _fill(problem: Problem, rows: int, cols: int, c: int, cfg: EngineConfig) -> Iterator[Tiling]:
    """Add samples and output channels as far as the buffers go."""
    whole = (rows, cols) == (problem.rows.count, problem.cols.count)
    samples = cfg.x_depth // max(1, _x_vectors(problem, rows, cols) * c) if whole else 1
    for k in _shares(problem.k_tiles):
        if problem.outer:
            most = min(samples, cfg.w_vectors // (rows * cols * k * problem.k_vectors))
        else:
            most = samples if k * problem.k_vectors * problem.taps * c <= cfg.w_depth else 0
        while most > 1 and _stored_words(problem, most * rows * cols, c, k, cfg) > _STORED_WORDS:
            most -= 1
        if most and _stored_words(problem, most * rows * cols, c, k, cfg) <= _STORED_WORDS:
            n = _balanced(problem.samples, most)
            yield Tiling(samples=n, rows=rows, cols=cols, c_tiles=c, k_tiles=k)
            if not problem.outer:
                return


def _stored_words(problem: Problem, outputs: int, c: int, k: int, cfg: EngineConfig) -> int:
    """The most words that a frame's results take."""
    if problem.outer:
        return k * c * problem.taps * cfg.multipliers
    return outputs * k * problem.k_vectors * cfg.oc_lanes


def _cycles(problem: Problem, tiling: Tiling, cfg: EngineConfig) -> int:
    """Estimate: loading, computing and storing overlap, but for the first load."""
    t = tiling
    outputs = t.samples * t.rows * t.cols
    x = t.samples * _x_vectors(problem, t.rows, t.cols) * t.c_tiles
    vector_words = cfg.ic_lanes // 8
    split = t.c_tiles < problem.c_tiles and not problem.outer
    if problem.outer:
        w = outputs * t.k_tiles * problem.k_vectors
        store = t.k_tiles * t.c_tiles * problem.taps * cfg.multipliers
    else:
        lanes = problem.k_vectors * cfg.oc_lanes
        w = t.k_tiles * problem.taps * t.c_tiles * lanes
        store = outputs * t.k_tiles * lanes // (1 if split else 2)
    load = HEADER_WORDS + CHECK_WORDS + vector_words * (x * (2 if problem.x16 else 1) + w)
    compute = outputs * t.k_tiles * t.c_tiles * problem.taps
    counts = (
        (problem.samples, t.samples),
        (problem.rows.count, t.rows),
        (problem.cols.count, t.cols),
        (problem.c_tiles, t.c_tiles),
        (problem.k_tiles, t.k_tiles),
    )
    frames = 1
    for whole, part in counts:
        frames *= -(-whole // part)
    host = store if split else 0  # adds the partial sums
    turns = -(-frames // cfg.engines)
    return load + turns * (max(load, compute, store + TRAILER_WORDS) + host + _FRAME_CYCLES)


def _x_vectors(problem: Problem, rows: int, cols: int) -> int:
    """Source positions of a tile, at most."""
    down = min(problem.rows.source, problem.rows.reach(rows))
    return down * min(problem.cols.source, problem.cols.reach(cols))


def _balanced(whole: int, most: int) -> int:
    """Part size of as few equal parts as a limit allows."""
    parts = max(1, -(-whole // most))
    return max(1, -(-whole // parts))


@lru_cache(maxsize=1024)
def _shares(whole: int) -> tuple[int, ...]:
    """Sizes of equal parts, from the whole down to one.

    >>> _shares(7)
    (7, 4, 3, 2, 1)
    """
    return tuple(sorted({-(-whole // parts) for parts in range(1, whole + 1)}, reverse=True))
