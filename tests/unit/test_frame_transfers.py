# SPDX-License-Identifier: Apache-2.0
"""Frames of the convolutions against their loops written out, and transfers of several frames."""

import numpy as np
import pytest
from e2train.config import load_config
from e2train.numerics import round_shift
from e2train.numerics.frames import (
    KIND_DTYPES,
    Header,
    Kind,
    Level,
    Mode,
    Status,
    Trailer,
    check_sums,
    decode_trailer,
    encode_header,
    run_transfer,
)
from e2train.numerics.frames.layout import HEADER_WORDS, TRAILER_WORDS, VERSION
from e2train.packing import Frame, join_transfer, split_replies

PYNQ = load_config("pynq_z2")
LANES = {"ic_lanes": 16, "oc_lanes": 8}


def random_frame(mode: str, rng: np.random.Generator) -> Frame:
    """Any loops over any addresses: nothing that a planner would ask for."""
    levels = tuple(
        Level(
            limit=int(rng.integers(1, 4)),
            dy=int(rng.integers(-3, 4)),
            dx=int(rng.integers(-3, 4)),
            dxa=int(rng.integers(-40, 40)),
            dwa=int(rng.integers(-40, 40)),
        )
        for _ in range(7)
    )
    kinds = {"x_kind": int(rng.integers(3)), "result": int(rng.integers(5))}
    if mode in ("GRAD_WEIGHT", "GRAD_MSB"):
        kinds["w_kind"] = int(rng.integers(1, 3))
    if mode == "GRAD_MSB" or kinds.get("w_kind") == Kind.INT8:
        kinds["x_kind"] = int(rng.integers(2))
    if mode == "GRAD_MSB":
        most = (8, 8) if kinds["w_kind"] == Kind.INT8 else (4, 10)
        kinds |= {"x_bits": int(rng.integers(1, most[0] + 1)), "g_bits": int(rng.integers(1, most[1] + 1))}
    header = Header(
        mode=Mode[mode],
        **LANES,
        **kinds,
        shift=int(rng.integers(0, 60)),
        x_count=PYNQ.x_depth,
        w_count=PYNQ.w_vectors,
        H=int(rng.integers(1, 9)),
        W=int(rng.integers(1, 9)),
        y0=int(rng.integers(-3, 4)),
        x0=int(rng.integers(-3, 4)),
        xa0=int(rng.integers(-40, 40)),
        nonce=int(rng.integers(1 << 32)),
        depth=int(rng.integers(1, 8)),
        levels=levels,
    )
    x = rng.integers(0, 256, header.x_words * 8).astype(np.uint8)
    w = rng.integers(0, 256, header.w_words * 8).astype(np.uint8)
    return Frame(header=header, x=x, w=np.maximum(w.view(np.int8), -127) if header.dot else w)


def high_part(numbers: np.ndarray, bits: int, kept: int, signed: bool) -> np.ndarray:
    """Nearest multiples of what the low bits hold, halves up, as far as there are ``kept`` bits for them."""
    nearest = np.floor(numbers / 2.0 ** (bits - kept) + 0.5).astype(np.int64)
    return np.minimum(nearest, 2 ** (kept - 1) - 1 if signed else 2**kept - 1)


def factors(h: Header, w: np.ndarray, at: int) -> np.ndarray:
    """What each output lane (and lane of its pair) multiplies the input lanes by: (k, 1 or 16)."""
    if h.dot:
        rows = w.view(np.int8).reshape(-1, h.k_lanes, 16)
        return rows[at % len(rows)].astype(np.int64)
    kind = np.dtype("<i2" if h.w_kind == Kind.INT16 else "i1")
    lanes = w.view(kind).reshape(4096, -1).astype(np.int64)
    if h.mode == Mode.GRAD_MSB:
        bits, most = (16, 10) if h.w_kind == Kind.INT16 else (8, 8)
        lanes = high_part(lanes, bits, h.g_bits, True) * 2 ** (most - h.g_bits)
    at %= 4096
    both = np.concatenate([lanes[at & ~1], lanes[at | 1]]) if h.w_kind == Kind.INT16 else lanes[at]
    return (both if h.pairs else lanes[at])[:, None]


def written_out(frame: Frame) -> np.ndarray:
    """The engine's sums by its loop, one iteration after the other; before shift and saturation."""
    h = frame.header
    x = frame.x.view(KIND_DTYPES[h.x_kind]).reshape(-1, 16).astype(np.int64)
    if h.mode == Mode.GRAD_MSB:
        most = 4 if h.w_kind == Kind.INT16 else 8
        x = high_part(x, 8, h.x_bits, h.x_kind == Kind.INT8) * 2 ** (most - h.x_bits)
    counters, (iy, ix, xa, wa) = [0] * 7, (h.y0, h.x0, h.xa0, 0)
    acc, sums, first = np.zeros((h.k_lanes, 16), np.int64), [], True
    while True:
        inside = 0 <= iy < h.H and 0 <= ix < h.W
        a = x[xa % len(x)] if inside else np.zeros(16, np.int64)
        acc = (0 if first else acc) + a * factors(h, frame.w, wa)
        level = next((i for i, level in enumerate(h.levels) if counters[i] + 1 < level.limit), 7)
        first = level >= h.depth
        if first:
            # In outer modes input lane by input lane; of pairs output lane o, then o + 8.
            order = acc.reshape(-1, 8, 16).transpose(2, 1, 0).reshape(-1) if h.outer else acc.sum(axis=1)
            sums.append(order)
        if level == 7:
            return np.concatenate(sums)
        counters[:level] = [0] * level
        counters[level] += 1
        step = h.levels[level]
        iy, ix, xa, wa = iy + step.dy, ix + step.dx, xa + step.dxa, wa + step.dwa


@pytest.mark.parametrize("mode", ["FORWARD", "GRAD_INPUT", "GRAD_WEIGHT", "GRAD_MSB"])
@pytest.mark.parametrize("index", range(10))
def test_any_frame_equals_its_loop_written_out(mode, index, rng):
    frame = random_frame(mode, rng)
    want, header = written_out(frame), frame.header
    reply = split_replies(run_transfer(join_transfer([frame]), PYNQ), [header])[0]
    if header.outer:
        assert (reply.results.view(np.int32 if header.pairs else np.int64) == want).all()
        return
    if header.result == Kind.INT64:
        assert (reply.results.view(np.int64) == want).all()
        return
    rounded, info = round_shift(want, header.shift), np.iinfo(KIND_DTYPES[header.result])
    fitted = np.clip(rounded, info.min, info.max)
    assert (reply.results.view(KIND_DTYPES[header.result]) == fitted).all()
    assert reply.saturations == np.count_nonzero(fitted != rounded)
    assert reply.largest == min(np.abs(rounded).max(), (1 << 31) - 1)


def one_row(**changes) -> Frame:
    """One iteration on one row of weights."""
    fields = {
        "mode": 2,
        **LANES,
        "x_kind": Kind.INT16,
        "x_count": 1,
        "w_count": 8,
        "H": 1,
        "W": 1,
    }
    header = Header(**(fields | {"nonce": 0x12345678} | changes))
    x = np.full(header.x_words * 4, -32768, np.int16)
    return Frame(header=header, x=x, w=np.full(header.w_words * 8, -127, np.int8))


@pytest.mark.parametrize(("iterations", "saturations"), [(32, 0), (33, 8), (4096, 8)])
def test_the_worst_case_saturates_once_after_the_whole_sum(iterations, saturations):
    frame = one_row(levels=(Level(limit=iterations), *[Level()] * 6))
    reply = split_replies(run_transfer(join_transfer([frame]), PYNQ), [frame.header])[0]
    want = min(iterations * 16 * 32768 * 127, (1 << 31) - 1)
    assert reply.results.view(np.int32).tolist() == [want] * 8
    assert reply.saturations == saturations


def replies(words: np.ndarray) -> tuple[list[int], int]:
    """Fields of a lone error reply: status, nonce, words in; and that all else in it is as it must be."""
    reply = run_transfer(words, PYNQ)
    assert reply.size == TRAILER_WORDS
    assert check_sums(reply[:-2]) == (int(reply[-2]), int(reply[-1]))
    trailer = decode_trailer(reply)
    nothing = Trailer(status=trailer.status, nonce=trailer.nonce, words_in=trailer.words_in)
    assert trailer == nothing
    return [trailer.status, trailer.nonce], trailer.words_in


@pytest.mark.parametrize(
    "changes", [{"w_count": 4097}, {"depth": 0}, {"depth": 15}, {"mode": 0}], ids=lambda changes: str(changes)
)
def test_every_wrong_length_is_found(changes):
    frame = one_row(**changes)
    assert replies(join_transfer([frame])) == ([Status.LENGTH, 0x12345678], HEADER_WORDS)


def test_headers_are_judged_in_order():
    wrong = {"magic": 0, "version": 0, "mode": 9, "ic_lanes": 4, "depth": 0}
    right = {"magic": 0xE27A, "version": VERSION, "mode": 1, "ic_lanes": 16, "depth": 1}
    words = np.append(encode_header(Header(oc_lanes=8, **wrong)), np.uint64(0))
    words[HEADER_WORDS - 1] ^= np.uint64(1)
    found = [replies(words)[0][0]]
    for key in right:
        words = np.append(encode_header(Header(oc_lanes=8, **wrong)), np.uint64(0))
        found.append(replies(words)[0][0])
        wrong[key] = right[key]
    assert found == [
        Status.HEADER_CHECK,
        Status.MAGIC,
        Status.VERSION,
        Status.MODE,
        Status.LANES,
        Status.LENGTH,
    ]


def test_a_flipped_bit_in_the_payload_is_found():
    words = join_transfer([one_row()])
    for at in (HEADER_WORDS, words.size - 3, words.size - 2, words.size - 1):
        noisy = words.copy()
        noisy[at] ^= np.uint64(1 << 63)
        assert replies(noisy) == ([Status.FRAME_CHECK, 0x12345678], words.size)


def test_a_transfer_may_end_early_anywhere():
    words = join_transfer([one_row()])
    for size in range(1, words.size):
        fields, words_in = replies(words[:size])
        assert words_in == size
        assert fields == [Status.EARLY_END, 0x12345678 if size > 3 else 0]


def test_more_frames_announced_than_sent_are_an_early_end():
    words = join_transfer([one_row(), one_row()])
    first = words[: words.size // 2]
    assert replies(first) == ([Status.EARLY_END, 0x12345678], first.size)


def test_words_after_the_last_frame_are_a_late_end():
    words = join_transfer([one_row()])
    assert replies(np.append(words, words)) == ([Status.LATE_END, 0x12345678], words.size)


def test_an_error_ends_the_reply_and_drains_the_rest():
    good = one_row()
    words = join_transfer([good, one_row(version=9), good])
    reply = run_transfer(words, PYNQ)
    assert reply.size == (4 + TRAILER_WORDS) + TRAILER_WORDS
    assert decode_trailer(reply[-TRAILER_WORDS:]).status == Status.VERSION
