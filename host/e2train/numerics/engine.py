# SPDX-License-Identifier: Apache-2.0
"""The engine on stream words: the executable spec of the kernel, errors included."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2train.config import EngineConfig
from e2train.numerics.frame import (
    G_BITS,
    HEADER_WORDS,
    LEVELS,
    MAGIC,
    MODE_IDS,
    NONCE_BITS,
    REPLY_MAGIC,
    VERSION,
    X_BITS,
    Header,
    Status,
    Words,
    check_sums,
    decode_header,
)
from e2train.numerics.rounding import Ints, keep_high, round_shift, saturate, wrap

__all__ = ["ACC_BITS", "FIELD_BITS", "run_transfer"]

ACC_BITS = 48  # the P register of a DSP slice
FIELD_BITS = 14  # distance of the two products of grad_msb in one multiplier: each is below 2**13
_CHUNK = 1 << 12  # iterations at a time: bounds the memory of the gathered operands
_MAX_SHIFT = 53  # a sum of lanes has at most 52 bits: from here on every result is 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What one frame led to."""

    status: Status
    nonce: int
    words_in: int
    more: bool = False
    iterations: int = 0
    saturations: int = 0
    results: Words


def run_transfer(words: Words, cfg: EngineConfig) -> Words:
    """Reply of the engine to one transfer, whose last word carries TLAST.

    An error ends the reply: the rest of the transfer is swallowed. Addresses that the frame did not
    fill read as 0 here; what they hold on a device is not defined.
    """
    replies = [_reply(outcome) for outcome in _outcomes(words, cfg)]
    return np.concatenate(replies)


def _outcomes(words: Words, cfg: EngineConfig) -> Iterator[_Outcome]:
    while True:
        outcome = _frame(words, cfg)
        yield outcome
        if outcome.status is not Status.OK or not outcome.more:
            return
        words = words[outcome.words_in :]


def _frame(words: Words, cfg: EngineConfig) -> _Outcome:
    """Judge the first frame of the words, and compute it when all is well."""
    if words.size <= HEADER_WORDS:
        nonce = int(words[3]) & (1 << NONCE_BITS) - 1 if words.size > 3 else 0
        return _failed(Status.EARLY_END, nonce, words.size)
    header = decode_header(words)
    status = _judge_header(header, words, cfg)
    used = HEADER_WORDS
    if status is Status.OK:
        used = min(words.size, header.frame_words)
        status = _judge_frame(header, words)
    if status is not Status.OK:
        return _failed(status, header.nonce, used)
    payload = words[HEADER_WORDS : header.frame_words - 2]
    results, saturations = _compute(header, payload, cfg)
    return _Outcome(
        status=status,
        nonce=header.nonce,
        words_in=used,
        more=header.more,
        iterations=header.iterations,
        saturations=saturations,
        results=results,
    )


def _judge_header(header: Header, words: Words, cfg: EngineConfig) -> Status:
    payload = header.x_count + header.w_count
    fits = header.x_count <= cfg.x_depth and header.w_count <= cfg.w_vectors and 1 <= header.depth <= LEVELS
    judgements = (
        (int(words[:11].sum(dtype=np.uint64)) == int(words[11]), Status.HEADER_CHECK),
        (header.magic == MAGIC, Status.MAGIC),
        (header.version == VERSION, Status.VERSION),
        (header.mode in MODE_IDS.values(), Status.MODE),
        ((header.ic_lanes, header.oc_lanes) == (cfg.ic_lanes, cfg.oc_lanes), Status.LANES),
        (fits and not (header.mode == MODE_IDS["identify"] and payload), Status.LENGTH),
        (header.mode != MODE_IDS["grad_msb"] or _keeps_sound_bits(header), Status.BITS),
    )
    return next((status for fine, status in judgements if not fine), Status.OK)


def _keeps_sound_bits(header: Header) -> bool:
    return not header.x16 and 1 <= header.x_bits <= X_BITS and 1 <= header.g_bits <= G_BITS


def _judge_frame(header: Header, words: Words) -> Status:
    size = header.frame_words
    if words.size < size:
        return Status.EARLY_END
    if check_sums(words[: size - 2]) != (int(words[size - 2]), int(words[size - 1])):
        return Status.FRAME_CHECK
    if words.size == size and header.more:
        return Status.EARLY_END
    return Status.LATE_END if words.size > size and not header.more else Status.OK


def _failed(status: Status, nonce: int, words_in: int) -> _Outcome:
    return _Outcome(status=status, nonce=nonce, words_in=words_in, results=np.zeros(0, np.uint64))


def _reply(outcome: _Outcome) -> Words:
    o = outcome
    trailer = [
        REPLY_MAGIC | VERSION << 16 | o.status << 24 | o.nonce << 32,
        (o.iterations & 0xFFFFFFFF) | o.saturations << 32,
        o.words_in | o.results.size << 32,
    ]
    words = np.concatenate([o.results, np.array(trailer, np.uint64)])
    return np.concatenate([words, np.array(check_sums(words), np.uint64)])


def _compute(header: Header, payload: Words, cfg: EngineConfig) -> tuple[Words, int]:
    if header.mode == MODE_IDS["identify"]:
        lanes = cfg.ic_lanes | cfg.oc_lanes << 16 | cfg.x_depth << 32
        return np.array([lanes, cfg.w_depth | cfg.hash32 << 32], np.uint64), 0
    x = _x_buffer(header, payload[: header.x_words], cfg)
    w = np.zeros(cfg.w_vectors * cfg.ic_lanes, np.int8)
    loaded = payload[header.x_words :].view(np.int8)
    w[: loaded.size] = loaded
    if header.outer:
        gy = w.view("<i2").reshape(-1, cfg.oc_lanes).astype(np.int64)
        return (_outer_msb if header.mode == MODE_IDS["grad_msb"] else _outer)(header, x, gy), 0
    return _dot(header, x, w.reshape(-1, cfg.oc_lanes, cfg.ic_lanes))


def _x_buffer(header: Header, payload: Words, cfg: EngineConfig) -> Ints:
    """The x vectors, and after the last one a vector of zeros for padding. Shape (x_depth + 1, IL)."""
    dtype = "<i2" if header.x16 else "i1" if header.xsigned else "u1"
    buffer = np.zeros((cfg.x_depth + 1, cfg.ic_lanes), np.int64)
    buffer[: header.x_count] = payload.view(dtype).reshape(-1, cfg.ic_lanes)
    return buffer


def _dot(header: Header, x: Ints, w: NDArray[np.int8]) -> tuple[Words, int]:
    """Modes forward and grad_input: sum over lanes and iterations; x (X, IL), w (rows, OL, IL)."""
    sums = []
    for x_at, w_at in _addresses(header, x.shape[0] - 1, w.shape[0]):
        products = np.einsum("gdc,gdoc->goc", x[x_at], w[w_at].astype(np.int64))
        sums.append(wrap(products, ACC_BITS).sum(axis=2))
    y = np.concatenate(sums)
    if header.wide:
        return y.reshape(-1).view(np.uint64), 0
    shift = header.shift & 63  # the engine has six bits for it
    shifted = round_shift(y, shift) if shift < _MAX_SHIFT else np.zeros_like(y)
    fitted, saturations = saturate(shifted, bits=32)
    return fitted.astype("<i4").reshape(-1).view(np.uint64), saturations


def _outer(header: Header, x: Ints, gy: Ints) -> Words:
    """Mode grad_weight: every pair of lanes has its own sum; x (X, IL), gy (vectors, OL)."""
    sums = []
    for x_at, gy_at in _addresses(header, x.shape[0] - 1, gy.shape[0]):
        sums.append(wrap(np.einsum("gdc,gdo->gco", x[x_at], gy[gy_at]), ACC_BITS))
    return np.concatenate(sums).reshape(-1).view(np.uint64)


def _outer_msb(header: Header, x: Ints, gy: Ints) -> Words:
    """Mode grad_msb: high bits alone, each x with two vectors of gy in one multiplier; shapes as above.

    Fewer bits than the most stay at the top of their fields: the sums are multiples of a power of two then.
    An accumulator adds up ``x * (gy_odd << FIELD_BITS) + x * gy_even``. How often its low field has wrapped
    is counted beside it, which tells the two sums apart at the end.
    """
    x = keep_high(x, bits=8, kept=header.x_bits, signed=header.xsigned) << X_BITS - header.x_bits
    gy = keep_high(gy, bits=16, kept=header.g_bits, signed=True) << G_BITS - header.g_bits
    wrap_bits = (gy.shape[0] // 2).bit_length() - 1
    words: list[Ints] = []
    for x_at, gy_at in _addresses(header, x.shape[0] - 1, gy.shape[0]):
        even = np.einsum("gdc,gdo->gco", x[x_at], gy[gy_at & ~1])
        odd = np.einsum("gdc,gdo->gco", x[x_at], gy[gy_at | 1])
        acc = wrap((odd << FIELD_BITS) + even, ACC_BITS)
        wraps = wrap(even >> FIELD_BITS, wrap_bits)
        low = (wraps << FIELD_BITS) + (even & (1 << FIELD_BITS) - 1)
        high = wrap((acc >> FIELD_BITS) - wraps, 32)
        words.append((low & 0xFFFFFFFF) | high << 32)
    return np.concatenate(words).reshape(-1).view(np.uint64)


def _addresses(header: Header, x_depth: int, w_depth: int) -> Iterator[tuple[Ints, Ints]]:
    """Addresses of x (x_depth stands for padding) and w, in chunks of shape (results, iterations each)."""
    iy = wrap(header.y0 + _travel(header, "dy"), 16)
    ix = wrap(header.x0 + _travel(header, "dx"), 16)
    inside = (iy >= 0) & (iy < header.H) & (ix >= 0) & (ix < header.W)
    x_at = np.where(inside, _travel(header, "dxa") % x_depth, x_depth).reshape(header.results, -1)
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
