# SPDX-License-Identifier: Apache-2.0
"""The engine on stream words: frames in, replies out, errors included."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from e2train.config import EngineConfig
from e2train.numerics.frames.compute import NO_SUMS, compute
from e2train.numerics.frames.header import Header, check_sums, decode_header
from e2train.numerics.frames.layout import (
    CHECK_WORDS,
    COEFFICIENT_ROWS,
    G_BITS,
    HEADER_WORDS,
    LEVELS,
    MAGIC,
    MOST_PLANES,
    VERSION,
    X_BITS,
    Kind,
    Mode,
    Status,
    Words,
)
from e2train.numerics.frames.sums import add_sums, encode_sums
from e2train.numerics.frames.trailer import Trailer, encode_trailer
from e2train.numerics.rounding import Ints

__all__ = ["run_transfer", "validate_header"]

_NONCE_WORD = 3
_BYTES = (Kind.UINT8, Kind.INT8)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Report:
    """What is to be said of frames, of which all but the last one hold their reports back."""

    trailer: Trailer
    mode: int  # of the last one
    results: Words  # of all
    sums: Ints  # (planes, 2, 16): over all

    @property
    def words_of_sums(self) -> Words:
        """As the last frame's mode reports them."""
        return encode_sums(self.sums, self.mode)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Outcome:
    """What one frame led to."""

    report: _Report
    results: Words
    used: int  # words of the transfer
    holds: bool = False
    more: bool = False


def run_transfer(words: Words, cfg: EngineConfig) -> Words:
    """Reply of the engine to one transfer, whose last word carries TLAST.

    An error ends the reply: the rest of the transfer is drained. Addresses that the frame did not
    fill read as 0 here; what they hold on a device is not defined.
    """
    return np.concatenate([_reply(outcome) for outcome in _outcomes(words, cfg)])


def _outcomes(words: Words, cfg: EngineConfig) -> Iterator[_Outcome]:
    held: _Report | None = None
    while True:
        outcome = _frame(words, held, cfg)
        yield outcome
        if outcome.report.trailer.status != Status.OK or not outcome.more:
            return
        words = words[outcome.used :]
        held = outcome.report if outcome.holds else None


def _frame(words: Words, held: _Report | None, cfg: EngineConfig) -> _Outcome:
    """Judge the first frame of the words, and compute it when all is well."""
    if words.size <= HEADER_WORDS:
        nonce = int(words[_NONCE_WORD]) & 0xFFFFFFFF if words.size > _NONCE_WORD else 0
        return _failed(Status.EARLY_END, nonce, words.size)
    header = decode_header(words)
    status, used = validate_header(header, words, cfg, held=held), HEADER_WORDS
    if status is Status.OK:
        used = min(words.size, header.frame_words)
        status = _judge_frame(header, words)
    if status is not Status.OK:
        return _failed(status, header.nonce, used)
    checked = words[: HEADER_WORDS + header.payload_words]
    computed = compute(header, checked[HEADER_WORDS:], cfg)
    trailer = Trailer(
        status=status,
        nonce=header.nonce,
        iterations=header.iterations & 0xFFFFFFFF,
        saturations=computed.saturations,
        words_in=used,
        largest=computed.largest,
        read=check_sums(checked)[1],
    )
    own = _Report(mode=header.mode, trailer=trailer, results=computed.results, sums=computed.sums)
    return _Outcome(
        report=_completed(own if held is None else _joined(held, own)),
        results=computed.results,
        used=used,
        holds=bool(header.holds),
        more=bool(header.more),
    )


def _joined(held: _Report, own: _Report) -> _Report:
    """What a frame reports for others too: counts and sums add up, as wide as the engine has them."""
    one, other = held.trailer, own.trailer
    trailer = replace(
        other,
        nonce=(one.nonce + other.nonce) & 0xFFFFFFFF,
        iterations=(one.iterations + other.iterations) & 0xFFFFFFFF,
        saturations=(one.saturations + other.saturations) & 0xFFFFFFFF,
        words_in=(one.words_in + other.words_in) & 0xFFFFFFFF,
        largest=max(one.largest, other.largest),
        read=(one.read + other.read) & 0xFFFF_FFFF_FFFF_FFFF,
    )
    results = np.concatenate([held.results, own.results])
    return replace(own, trailer=trailer, results=results, sums=add_sums(held.sums, own.sums))


def _completed(report: _Report) -> _Report:
    """With what is said of all results."""
    s1, s2 = check_sums(report.results)
    out = report.results.size + report.words_of_sums.size
    return replace(report, trailer=replace(report.trailer, words_out=out, written_s1=s1, written_s2=s2))


def validate_header(
    header: Header, words: Words, cfg: EngineConfig, *, held: _Report | None = None
) -> Status:
    """What is wrong with a header, the first of these that is.

    ``held`` is the report of the frame before, where that holds it back.
    """
    check = HEADER_WORDS - 1
    checks = (
        (int(words[:check].sum(dtype=np.uint64)) == int(words[check]), Status.HEADER_CHECK),
        (header.magic == MAGIC, Status.MAGIC),
        (header.version == VERSION, Status.VERSION),
        (header.mode in list(Mode), Status.MODE),
        ((header.ic_lanes, header.oc_lanes) == (cfg.ic_lanes, cfg.oc_lanes), Status.LANES),
        (_fits(header, cfg), Status.LENGTH),
        (_kinds_fit(header), Status.KIND),
        (header.mode != Mode.GRAD_MSB or _keeps_sound_bits(header), Status.BITS),
        (_reports_in_turn(header, held), Status.HELD),
    )
    return next((status for fine, status in checks if not fine), Status.OK)


def _fits(header: Header, cfg: EngineConfig) -> bool:
    counts = (
        (header.x_count, cfg.x_depth),
        (header.w_count, cfg.w_vectors),
        (header.mask_count, cfg.x_depth),
        (header.rows, COEFFICIENT_ROWS),
        (header.planes, MOST_PLANES),
    )
    if header.mode == Mode.IDENTIFY and (header.payload_words or header.planes):
        return False
    if not 1 <= header.depth <= LEVELS or (header.mode == Mode.AFFINE and not header.rows):
        return False
    if header.planes and not (header.elements or (header.dot and header.result <= Kind.INT16)):
        return False
    return all(count <= most for count, most in counts)


def _kinds_fit(header: Header) -> bool:
    if max(header.x_kind, header.w_kind) > Kind.INT16:
        return False
    if header.elements:
        return header.result <= Kind.INT16
    if header.dot:
        return header.w_kind == Kind.INT8 and header.result <= Kind.INT64
    if header.mode == Mode.GRAD_MSB:
        return header.x_kind in _BYTES and header.w_kind != Kind.UINT8
    if header.mode == Mode.GRAD_WEIGHT:
        return header.w_kind == Kind.INT16 or (header.w_kind == Kind.INT8 and header.x_kind in _BYTES)
    return True


def _keeps_sound_bits(header: Header) -> bool:
    most = (X_BITS, G_BITS) if header.w_kind == Kind.INT16 else (8, 8)
    return 1 <= header.x_bits <= most[0] and 1 <= header.g_bits <= most[1]


def _reports_in_turn(header: Header, held: _Report | None) -> bool:
    if header.holds and (not header.more or header.mode == Mode.IDENTIFY):
        return False
    if held is None:
        return True
    return header.planes == len(held.sums) and header.mode != Mode.IDENTIFY


def _judge_frame(header: Header, words: Words) -> Status:
    size, checked = header.frame_words, HEADER_WORDS + header.payload_words
    if words.size < size:
        return Status.EARLY_END
    check_words = tuple(int(word) for word in words[checked : checked + CHECK_WORDS])
    if not header.unchecked and check_sums(words[:checked]) != check_words:
        return Status.FRAME_CHECK
    if words.size == size and header.more:
        return Status.EARLY_END
    return Status.LATE_END if words.size > size and not header.more else Status.OK


def _failed(status: Status, nonce: int, words_in: int) -> _Outcome:
    nothing = np.zeros(0, np.uint64)
    trailer = Trailer(status=status, nonce=nonce, words_in=words_in)
    return _Outcome(
        report=_Report(trailer=trailer, mode=Mode.IDENTIFY, results=nothing, sums=NO_SUMS),
        results=nothing,
        used=words_in,
    )


def _reply(outcome: _Outcome) -> Words:
    if outcome.holds:
        return outcome.results
    report = outcome.report
    sums = report.words_of_sums
    return np.concatenate([outcome.results, sums, encode_trailer(report.trailer, sums)])
