# SPDX-License-Identifier: Apache-2.0
"""The spec against judges outside it: hand-worked tables, and torch in float64."""

import cases
import numpy as np
import pytest
import torch
from e2train.numerics import conv_forward, conv_grad_input, conv_grad_weight, round_shift, saturate, wrap
from e2train.numerics.bounds import GRAD_INPUT_TERMS, GRAD_WEIGHT_TERMS, OUTPUT_TERMS
from torch.nn import functional as F  # noqa: N812
from torch.nn.grad import conv2d_input, conv2d_weight


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
