# SPDX-License-Identifier: Apache-2.0
"""The spec against judges outside it: hand-worked tables, torch in float64, and the loop written out."""

import cases
import numpy as np
import pytest
import torch
from e2train.config import load_config
from e2train.numerics import conv_forward, conv_grad_input, conv_grad_weight, round_shift, saturate, wrap
from e2train.numerics.bounds import GRAD_INPUT_TERMS, GRAD_WEIGHT_TERMS, OUTPUT_TERMS
from e2train.numerics.engine import run_transfer
from e2train.numerics.frame import Header, Level, Status, check_sums, encode_header
from e2train.packing import Frame, join_transfer, split_replies
from torch.nn import functional as F  # noqa: N812
from torch.nn.grad import conv2d_input, conv2d_weight

PYNQ = load_config("pynq_z2")
ENGINE_MODES = {"forward": 1, "grad_input": 2, "grad_weight": 3, "grad_msb": 4}


@pytest.mark.parametrize(
    ("raw", "shift", "want"),
    [
        ([-3, -2, -1, 0, 1, 2, 3], 0, [-3, -2, -1, 0, 1, 2, 3]),
        ([-3, -2, -1, 0, 1, 2, 3], 1, [-1, -1, 0, 0, 1, 1, 2]),
        ([-7, -6, -5, -2, 1, 2, 5, 6, 7], 2, [-2, -1, -1, 0, 0, 1, 1, 2, 2]),
        ([-(1 << 40), (1 << 40) - 1, 1 << 39, (1 << 39) - 1], 40, [-1, 1, 1, 0]),
    ],
)
def test_round_shift_rounds_halves_up(raw, shift, want):
    assert round_shift(np.array(raw), shift).tolist() == want


def test_a_shift_beyond_the_word_is_refused():
    with pytest.raises(ValueError, match=r"shift must be in 0\.\.62, not -1"):
        round_shift(np.array([1]), -1)


def test_saturate_clamps_and_counts():
    low, high = -(1 << 31), (1 << 31) - 1
    fitted, count = saturate(np.array([low - 1, low, -1, 0, high, high + 1]), bits=32)
    assert fitted.tolist() == [low, low, -1, 0, high, high]
    assert count == 2


def test_wrap_is_exhaustively_that_of_a_register():
    raw = np.arange(-(1 << 16), 1 << 16)
    assert (wrap(raw, bits=16) == raw.astype(np.int16)).all()


def test_bounds_are_the_longest_exact_sums_rounded_down():
    assert OUTPUT_TERMS * 255 * 127 < 1 << 31
    assert GRAD_INPUT_TERMS * 32768 * 127 < 1 << 39
    assert GRAD_WEIGHT_TERMS * 255 * 32768 < 1 << 47
    assert (GRAD_INPUT_TERMS + 1) * 32768 * 127 >= 1 << 39


@pytest.mark.parametrize("case", [case for case in cases.CORNERS if case.shape.C < 600], ids=str)
def test_convolutions_equal_torch_in_float64(case, rng, assert_same_bits):
    s, (top, bottom, left, right) = case.shape, case.shape.padding
    x = cases.operand(case.pattern, np.uint8, (s.N, s.C, s.H, s.W), rng)
    w = cases.operand(case.pattern, np.int8, (s.K, s.C, s.R, s.S), rng)
    gy = cases.operand(case.pattern, np.int16, (s.N, s.K, s.P, s.Q), rng)
    padded = F.pad(torch.from_numpy(x).double(), (left, right, top, bottom))
    wt, gyt = torch.from_numpy(w).double(), torch.from_numpy(gy).double()
    geometry = {"stride": s.stride, "padding": s.padding}
    y = conv_forward(x, w, **geometry)
    assert_same_bits(y, F.conv2d(padded, wt, stride=s.stride).long().numpy(), case="forward")
    if not s.N:
        return
    gx = conv_grad_input(gy, w, size=(s.H, s.W), **geometry)
    want = conv2d_input(padded.shape, wt, gyt, stride=s.stride).long().numpy()
    assert_same_bits(gx, want[:, :, top : top + s.H, left : left + s.W], case="grad_input")
    gw = conv_grad_weight(x, gy, kernel=(s.R, s.S), **geometry)
    want = conv2d_weight(padded, wt.shape, gyt, stride=s.stride).long().numpy()
    assert_same_bits(gw, want, case="grad_weight")


def test_a_convolution_worked_by_hand():
    x = np.array([[[[1, 2], [3, 4]]]], np.uint8)
    w = np.array([[[[1, -1], [2, 0]]]], np.int8)
    geometry = {"stride": (1, 1), "padding": (0, 1, 0, 0)}
    assert conv_forward(x, w, **geometry).tolist() == [[[[5], [-1]]]]
    gy = np.array([[[[10], [100]]]], np.int16)
    assert conv_grad_input(gy, w, size=(2, 2), **geometry).tolist() == [[[[10, -10], [120, -100]]]]
    assert conv_grad_weight(x, gy, kernel=(2, 2), **geometry).tolist() == [[[[310, 420], [30, 40]]]]


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
    x16, xsigned = bool(rng.integers(2)), bool(rng.integers(2))
    msb = (
        {"x_bits": int(rng.integers(1, 5)), "g_bits": int(rng.integers(1, 11))} if mode == "grad_msb" else {}
    )
    header = Header(
        mode=ENGINE_MODES[mode],
        ic_lanes=16,
        oc_lanes=8,
        x16=x16 and not msb,
        xsigned=xsigned,
        **msb,
        wide=bool(rng.integers(2)),
        shift=int(rng.integers(0, 60)),
        x_count=PYNQ.x_depth,
        w_count=PYNQ.w_vectors,
        H=int(rng.integers(1, 9)),
        W=int(rng.integers(1, 9)),
        y0=int(rng.integers(-3, 4)),
        x0=int(rng.integers(-3, 4)),
        nonce=int(rng.integers(1 << 32)),
        depth=int(rng.integers(1, 8)),
        levels=levels,
    )
    x = rng.integers(0, 256, header.x_words * 8).astype(np.uint8)
    return Frame(header=header, x=x, w=rng.integers(0, 256, header.w_words * 8).astype(np.uint8))


def high_part(numbers: np.ndarray, bits: int, kept: int, signed: bool) -> np.ndarray:
    """Nearest multiples of what the low bits hold, halves up, as far as there are ``kept`` bits for them."""
    nearest = np.floor(numbers / 2.0 ** (bits - kept) + 0.5).astype(np.int64)
    return np.minimum(nearest, 2 ** (kept - 1) - 1 if signed else 2**kept - 1)


def written_out(frame: Frame) -> list[int]:
    """The engine's sums by its loop, one iteration after the other; before shift and saturation."""
    h = frame.header
    x = (
        frame.x.view(np.int16 if h.x16 else np.int8 if h.xsigned else np.uint8)
        .reshape(-1, 16)
        .astype(np.int64)
    )
    rows = frame.w.view(np.int8).reshape(-1, 8, 16).astype(np.int64)
    vectors = frame.w.view(np.int16).reshape(-1, 8).astype(np.int64)
    if h.mode == 4:
        x = high_part(x, 8, h.x_bits, h.xsigned) * 2 ** (4 - h.x_bits)
        vectors = high_part(vectors, 16, h.g_bits, True) * 2 ** (10 - h.g_bits)
    counters, (iy, ix, xa, wa) = [0] * 7, (h.y0, h.x0, 0, 0)
    acc, sums, first = np.zeros((8, 16), np.int64), [], True
    while True:
        inside = 0 <= iy < h.H and 0 <= ix < h.W
        a = x[xa % len(x)] if inside else np.zeros(16, np.int64)
        b = vectors[wa % len(vectors)][:, None] if h.mode == 3 else rows[wa % len(rows)]
        if h.mode == 4:  # two vectors, whose sums alternate in the reply
            b = vectors[[wa % len(vectors) // 2 * 2, wa % len(vectors) // 2 * 2 + 1]].T[:, None, :]
            a = a[:, None]
        acc = (0 if first else acc) + a[None, :] * b
        level = next((i for i, level in enumerate(h.levels) if counters[i] + 1 < level.limit), 7)
        first = level >= h.depth
        if first:
            outer = acc.swapaxes(0, 1).reshape(-1)
            sums += outer.tolist() if h.mode >= 3 else acc.sum(axis=1).tolist()
        if level == 7:
            return sums
        counters[:level] = [0] * level
        counters[level] += 1
        step = h.levels[level]
        iy, ix, xa, wa = iy + step.dy, ix + step.dx, xa + step.dxa, wa + step.dwa


@pytest.mark.parametrize("mode", ENGINE_MODES)
@pytest.mark.parametrize("index", range(6))
def test_any_frame_equals_its_loop_written_out(mode, index, rng):
    frame = random_frame(mode, rng)
    want, header = np.array(written_out(frame)), frame.header
    reply = split_replies(run_transfer(join_transfer([frame]), PYNQ), [header])[0]
    if mode == "grad_msb":
        assert (reply.results.view(np.int32) == want).all()
    elif mode == "grad_weight" or header.wide:
        assert (reply.results.view(np.int64) == want).all()
        assert reply.saturations == 0
    else:
        fitted, saturations = saturate(round_shift(want, header.shift), bits=32)
        assert (reply.results.view(np.int32) == fitted).all()
        assert reply.saturations == saturations


def one_row(**changes) -> Frame:
    """One iteration on one row of weights."""
    fields = {
        "mode": 2,
        "ic_lanes": 16,
        "oc_lanes": 8,
        "x16": True,
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
    assert reply.size == 5
    assert check_sums(reply[:3]) == (int(reply[3]), int(reply[4]))
    first, counts, sizes = (int(word) for word in reply[:3])
    assert (first & 0xFFFFFF, counts, sizes >> 32) == (0x02E27B, 0, 0)
    return [first >> 24 & 0xFF, first >> 32], sizes


HEADER_ERRORS = {
    Status.MAGIC: {"magic": 0xE27B},
    Status.VERSION: {"version": 1},
    Status.MODE: {"mode": 5},
    Status.LANES: {"oc_lanes": 16},
    Status.LENGTH: {"x_count": 2049},
    Status.BITS: {"mode": 4, "x16": False, "x_bits": 5, "g_bits": 10},
}


@pytest.mark.parametrize("status", HEADER_ERRORS, ids=lambda status: status.name)
def test_a_wrong_header_is_answered_with_its_status(status):
    frame = one_row(**HEADER_ERRORS[status])
    assert replies(join_transfer([frame])) == ([status, 0x12345678], 12)


@pytest.mark.parametrize(
    "changes", [{"w_count": 4097}, {"depth": 0}, {"depth": 8}, {"mode": 0}], ids=lambda changes: str(changes)
)
def test_every_wrong_length_is_found(changes):
    frame = one_row(**changes)
    assert replies(join_transfer([frame])) == ([Status.LENGTH, 0x12345678], 12)


def test_headers_are_judged_in_order():
    wrong = {"magic": 0, "version": 0, "mode": 9, "ic_lanes": 4, "depth": 0}
    right = {"magic": 0xE27A, "version": 2, "mode": 1, "ic_lanes": 16, "depth": 1}
    words = np.append(encode_header(Header(oc_lanes=8, **wrong)), np.uint64(0))
    words[11] ^= np.uint64(1)
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
    for at in (12, words.size - 3, words.size - 2, words.size - 1):
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


def test_an_error_ends_the_reply_and_swallows_the_rest():
    good = one_row()
    words = join_transfer([good, one_row(version=9), good])
    reply = run_transfer(words, PYNQ)
    assert reply.size == (4 + 5) + 5
    assert int(reply[9]) >> 24 & 0xFF == Status.VERSION
