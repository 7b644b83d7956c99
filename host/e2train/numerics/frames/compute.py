# SPDX-License-Identifier: Apache-2.0
"""What the engine computes for one frame, on integers: the executable spec of every mode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from e2train.config import EngineConfig
from e2train.numerics.elementwise import LARGEST, opens
from e2train.numerics.frames.header import Header
from e2train.numerics.frames.layout import (
    COEFFICIENT_FIELDS,
    COEFFICIENT_ROWS,
    G_BITS,
    KIND_DTYPES,
    PIXEL_LANES,
    X_BITS,
    Kind,
    Mode,
    Words,
)
from e2train.numerics.rounding import (
    DITHER_BITS,
    DITHER_PHASES,
    DITHER_STEPS,
    Ints,
    dithered_shift,
    keep_high,
    round_shift,
    wrap,
)

__all__ = ["ACC_BITS", "FIELD_BITS", "NO_SUMS", "SUM_BITS", "Computed", "compute"]

ACC_BITS = 48  # the P register of a DSP slice
SUM_BITS = 40  # of all lanes
FIELD_BITS = 16  # distance of the two sums of one accumulator: a product is below 2**15
_CHUNK = 1 << 12  # iterations at a time: bounds the memory of the gathered operands
_MAX_SHIFT = SUM_BITS  # from here on every result is 0
_MAX_DITHERED = SUM_BITS + DITHER_BITS  # from here on dithering gives 0 too


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """Results as words in the order in which they leave, and what is reported of them."""

    results: Words
    sums: Ints  # (planes, 2, 16): of values, and of products
    saturations: int = 0
    largest: int = 0


_NOTHING = np.zeros(0, np.uint64)
NO_SUMS: Ints = np.zeros((0, 2, PIXEL_LANES), np.int64)


def compute(header: Header, payload: Words, cfg: EngineConfig) -> Computed:
    """Run one frame; addresses that it did not fill read as 0."""
    if header.mode == Mode.IDENTIFY:
        lanes = cfg.ic_lanes | cfg.oc_lanes << 16 | cfg.x_depth << 32
        results = np.array([lanes, cfg.w_depth | cfg.hash32 << 32], np.uint64)
        return Computed(results=results, sums=NO_SUMS)
    ends = np.cumsum([header.coefficient_words, header.x_words, header.w_words])
    coefficients, x_words, w_words, mask = np.split(payload, ends)
    x = np.zeros((cfg.x_depth, cfg.ic_lanes), np.int64)
    x[: header.x_count] = x_words.view(KIND_DTYPES[header.x_kind]).reshape(-1, cfg.ic_lanes)
    w = np.zeros((cfg.w_vectors, cfg.ic_lanes), np.uint8)
    w[: header.w_count] = w_words.view(np.uint8).reshape(-1, cfg.ic_lanes)
    if header.outer:
        return Computed(results=_outer(header, x, w, cfg), sums=NO_SUMS)
    if header.dot:
        return _finish(header, np.concatenate(list(_dot(header, x, w, cfg))).reshape(-1))
    return _elements(header, coefficients, x, w, mask)


def _dot(header: Header, x: Ints, w: NDArray[np.uint8], cfg: EngineConfig) -> Iterator[Ints]:
    """Sums over lanes and iterations, shape (results, k_lanes)."""
    rows = w.view(np.int8).reshape(-1, header.k_lanes, cfg.ic_lanes).astype(np.int64)
    for x_at, w_at in _addresses(header, cfg.x_depth, rows.shape[0]):
        products = _padded(x, x_at)
        if not header.pairs:
            sums = np.einsum("gdc,gdoc->goc", products, rows[w_at])
            yield wrap(wrap(sums, ACC_BITS).sum(axis=2), SUM_BITS)
            continue
        even, odd = rows[:, 0::2], rows[:, 1::2]
        # The even weight's sign is borrowed from the odd one, which then has to fit 8 bits.
        odd = wrap(odd - (even < 0), 8) + (even < 0)
        low, high = (np.einsum("gdc,gdoc->goc", products, part[w_at]) for part in (even, odd))
        low, acc = _accumulated(low, high, cfg)
        total = low.sum(axis=2)
        upper = wrap(acc.sum(axis=2) - total, ACC_BITS) >> FIELD_BITS
        yield np.stack([total, upper], axis=2).reshape(len(total), -1)


def _outer(header: Header, x: Ints, w: NDArray[np.uint8], cfg: EngineConfig) -> Words:
    """A sum for every pair of lanes; with two products per multiplier int32 side by side, else int64."""
    gy = _gradients(header, w, cfg)
    if header.mode == Mode.GRAD_MSB:
        kept, bits = (header.x_bits, header.g_bits), 8 * (1 + (header.w_kind == Kind.INT16))
        signed = header.x_kind == Kind.INT8
        x_most, g_most = (X_BITS, G_BITS) if bits == 16 else (8, 8)
        x = keep_high(x, bits=8, kept=kept[0], signed=signed) << x_most - kept[0]
        gy = keep_high(gy, bits=bits, kept=kept[1], signed=True) << g_most - kept[1]
    words = []
    for x_at, g_at in _addresses(header, cfg.x_depth, cfg.w_vectors):
        factors = _padded(x, x_at)
        if not header.pairs:
            sums = np.einsum("gdc,gdo->gco", factors, gy[g_at])
            words.append(wrap(sums, ACC_BITS).reshape(-1).view(np.uint64))
            continue
        halves = _halves(header, gy, g_at)
        low, high = (np.einsum("gdc,gdo->gco", factors, half) for half in halves)
        # The low sums of high bits come times 4 there, so that both kinds of gy have the same fields.
        scale = 2 if header.mode == Mode.GRAD_MSB and header.w_kind == Kind.INT16 else 0
        low, acc = _accumulated(low << scale, high, cfg)
        high = wrap(acc - low, ACC_BITS) >> FIELD_BITS
        words.append((wrap(low >> scale, 32) & 0xFFFFFFFF | high << 32).reshape(-1).view(np.uint64))
    return np.concatenate(words)


def _gradients(header: Header, w: NDArray[np.uint8], cfg: EngineConfig) -> Ints:
    """Vectors of gy: (w_vectors, OL) of int16, (w_vectors, 2 * OL) of int8."""
    kind = np.dtype("<i2" if header.w_kind == Kind.INT16 else "i1")
    return w.view(kind).reshape(cfg.w_vectors, -1).astype(np.int64)


def _halves(header: Header, gy: Ints, g_at: Ints) -> tuple[Ints, Ints]:
    """The two gradients of each multiplier: of two vectors of int16, or of the halves of one of int8."""
    if header.w_kind == Kind.INT16:
        return gy[g_at & ~1], gy[g_at | 1]
    half = gy.shape[1] // 2
    return gy[g_at][..., :half], gy[g_at][..., half:]


def _accumulated(low: Ints, high: Ints, cfg: EngineConfig) -> tuple[Ints, Ints]:
    """An accumulator's low sum, which a counter of its wraps extends, and all of it."""
    wrap_bits = (cfg.w_vectors - 1).bit_length()
    return wrap(low, FIELD_BITS + wrap_bits), wrap((high << FIELD_BITS) + low, ACC_BITS)


def _elements(header: Header, coefficients: Words, x: Ints, w: NDArray[np.uint8], mask: Words) -> Computed:
    """Iteration i is for lanes 4 * (i % 4) and the next three of a pixel."""
    count = header.iterations
    lanes = 4 * (np.arange(count) % 4)[:, None] + np.arange(4)
    iy, ix = wrap(header.y0 + _travel(header, "dy"), 16), wrap(header.x0 + _travel(header, "dx"), 16)
    odd = (iy | ix) & 1
    u = x[((header.xa0 + _travel(header, "dxa") >> 1) % x.shape[0])[:, None], lanes]
    v = _second(header, w, lanes)
    u = np.where((odd & header.x_spread)[:, None], 0, u)
    v = np.where((odd & header.w_spread)[:, None], 0, v)
    values = np.zeros((x.shape[0], PIXEL_LANES), np.int64)
    values[: header.mask_count] = mask.view("i1" if header.mask_signed else "u1").reshape(-1, PIXEL_LANES)
    pixel = np.arange(count)[:, None] // 4 % x.shape[0]
    is_open = opens(values[pixel, lanes], header.mask_limit)
    u = np.where(is_open | (not header.mask_x), u, 0)
    closed = (~is_open & bool(header.mask_out)).reshape(-1)
    if header.mode == Mode.REDUCE:
        return _finish(header, u.reshape(-1), other=v.reshape(-1), closed=closed)
    numbers = np.zeros(COEFFICIENT_ROWS * PIXEL_LANES, np.uint64)
    numbers[: coefficients.size] = coefficients
    each = prod(level.limit for level in header.levels[: header.depth])
    row = (np.arange(count) // each % header.rows)[:, None]
    a, b, d = (part.reshape(-1, PIXEL_LANES)[row, lanes] for part in _coefficients(numbers))
    of_channel, of_row, of_column = DITHER_STEPS
    phases = header.phase + (PIXEL_LANES * row + lanes) * of_channel + (iy * of_row + ix * of_column)[:, None]
    dither = phases.reshape(-1) % DITHER_PHASES if header.dithers else None
    return _finish(header, (a * u + b * v + d).reshape(-1), closed=closed, dither=dither)


def _second(header: Header, w: NDArray[np.uint8], lanes: Ints) -> Ints:
    """The second operand: an int16 pixel takes two vectors, one of 8 bits takes one."""
    at = _travel(header, "dwa")
    wide = header.w_kind == Kind.INT16
    pixels = w.view(KIND_DTYPES[header.w_kind]).reshape(-1, PIXEL_LANES).astype(np.int64)
    vector = (at & ~1 if wide else at >> 1) % w.shape[0]
    values: Ints = pixels[(vector >> 1 if wide else vector)[:, None], lanes]
    return values


def _coefficients(words: Words) -> Iterator[Ints]:
    for field in COEFFICIENT_FIELDS:
        yield wrap((words >> np.uint64(field.low)).astype(np.int64), field.bits)


def _finish(
    header: Header,
    raw: Ints,
    *,
    other: Ints | None = None,
    closed: NDArray[np.bool_] | None = None,
    dither: Ints | None = None,
) -> Computed:
    """Round, clamp and saturate sums; they leave as words, and what is asked is reported of them."""
    kind = Kind(header.result)
    if kind is Kind.INT64:
        return Computed(results=raw.view(np.uint64), sums=NO_SUMS)
    shift = min(header.shift, 63)  # the engine has six bits for it
    if dither is not None:
        value = dithered_shift(raw, min(shift, _MAX_DITHERED), dither)
    else:
        value = round_shift(raw, shift) if shift < _MAX_SHIFT else np.zeros_like(raw)
    if header.relu:
        value = np.maximum(value, 0)
    if header.ceiling:
        value = np.minimum(value, header.ceiling)
    if closed is not None:
        value = np.where(closed, 0, value)
    info = np.iinfo(KIND_DTYPES[kind])
    fitted = np.clip(value, info.min, info.max)
    narrow = fitted.astype(KIND_DTYPES[kind])
    return Computed(
        results=narrow.view(np.uint8)[: 8 * header.result_words].view(np.uint64),  # whole words
        sums=_sums(header, fitted, fitted if other is None else other),
        saturations=int(np.count_nonzero(fitted != value)),
        largest=min(int(np.abs(value).max(initial=0)), LARGEST),
    )


def _sums(header: Header, values: Ints, others: Ints) -> Ints:
    """For each plane and channel the sum of the values, and that of their products with the others."""
    if not header.planes:
        return NO_SUMS
    planes = np.resize(values, (header.planes, header.plane, PIXEL_LANES))
    products = planes * np.resize(others, planes.shape)
    sums: Ints = np.stack([planes.sum(axis=1), products.sum(axis=1)], axis=1)
    return sums


def _padded(x: Ints, x_at: Ints) -> Ints:
    """Vectors of x, zeros where the address is that behind the last one."""
    outside = (x_at == x.shape[0])[..., None]
    return np.where(outside, 0, x[np.minimum(x_at, x.shape[0] - 1)])


def _addresses(header: Header, x_depth: int, w_depth: int) -> Iterator[tuple[Ints, Ints]]:
    """Addresses of x (x_depth stands for padding) and w, in chunks of shape (results, iterations each)."""
    iy = wrap(header.y0 + _travel(header, "dy"), 16)
    ix = wrap(header.x0 + _travel(header, "dx"), 16)
    inside = (iy >= 0) & (iy < header.H) & (ix >= 0) & (ix < header.W)
    x_at = np.where(inside, (header.xa0 + _travel(header, "dxa")) % x_depth, x_depth).reshape(
        header.results, -1
    )
    w_at = (_travel(header, "dwa") % w_depth).reshape(header.results, -1)
    step = max(1, _CHUNK // x_at.shape[1])
    for first in range(0, header.results, step):
        yield x_at[first : first + step], w_at[first : first + step]


def _travel(header: Header, delta: str) -> Ints:
    """Where a position has got to at each iteration, by the net deltas of the loop levels."""
    at = np.zeros(1, np.int64)
    for level in header.levels:
        stride = int(at[-1]) + getattr(level, delta)  # a level starts where the inner ones end
        at = (np.arange(level.limit)[:, None] * stride + at).reshape(-1)
    return at
