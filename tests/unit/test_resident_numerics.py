# SPDX-License-Identifier: Apache-2.0
"""The spec of resident operations against judges outside it: hand-worked tables, and torch in float64."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import cases
import numpy as np
import pytest
import torch
from e2train.nn.residual import PaddedShortcut
from e2train.numerics import affine, dithered_shift, reduce, rounded_forward, rounded_grad_input
from e2train.numerics.blocks import from_blocks, to_blocks
from e2train.numerics.elementwise import (
    COEFFICIENT_LIMIT,
    LARGEST,
    OFFSET_LIMIT,
    SHIFT_LIMIT,
    fit,
    kind_range,
    seen,
)
from e2train.numerics.rounding import DITHER_PHASES, dither_phases
from e2train.numerics.scales import DivergenceError, kind_exponent, mantissas
from e2train.runtime.resident import Moments, NormParameters, padded_order
from e2train.runtime.resident.norm import moments, norm_gradient
from torch.nn import functional as F  # noqa: N812
from torch.nn.grad import conv2d_input

LOW, HIGH = -32768, 32767


def row(*values: int) -> np.ndarray:
    """One sample of one channel."""
    return np.array(values, np.int64).reshape(1, 1, 1, -1)


def one(value: int) -> np.ndarray:
    return np.array([value], np.int64)


def apply(u, v=None, *, a=1, b=0, d=0, shift=0, kind="int16", **how):
    out, report = affine(u, v, a=one(a), b=one(b), d=one(d), shift=shift, kind=kind, **how)
    return out.reshape(-1).tolist(), report


@pytest.mark.parametrize(
    ("u", "how", "want"),
    [
        ([-3, -2, -1, 0, 1, 2, 3], {"shift": 1}, [-1, -1, 0, 0, 1, 1, 2]),  # halves up
        ([-3, -2, -1, 0, 1, 2, 3], {"a": -1, "shift": 1}, [2, 1, 1, 0, 0, -1, -1]),
        ([1, 2, 3], {"a": 3, "d": -4, "shift": 2}, [0, 1, 1]),  # -1, 2, 5 quarters
        ([5, 6], {"d": 1 << 29, "shift": 30, "a": 0}, [1, 1]),  # a half
        ([5, 6], {"d": (1 << 29) - 1, "shift": 30, "a": 0}, [0, 0]),
        ([-200, 127, 128, 200], {"kind": "int8"}, [-128, 127, 127, 127]),
        ([-1, 0, 255, 256], {"kind": "uint8"}, [0, 0, 255, 255]),
        ([LOW, HIGH], {"a": 2}, [LOW, HIGH]),
        ([LOW, HIGH], {"a": COEFFICIENT_LIMIT, "shift": 14}, [-32766, 32765]),
        ([-2, -1, 1], {"relu": True}, [0, 0, 1]),
        ([-1, 1], {"relu": True, "shift": 1}, [0, 1]),
        ([-300, 300], {"relu": True, "kind": "int8"}, [0, 127]),
    ],
)
def test_affine_by_hand(u, how, want):
    assert apply(row(*u), **how)[0] == want


@pytest.mark.parametrize(
    ("u", "phase", "want"),
    [  # phases 0, 37, 74, 111, 148, 185, 222, 3
        (1, 0, [0, 0, 0, 0, 0, 0, 1, 0]),
        (-1, 0, [-1, -1, 0, 0, 0, 0, 0, -1]),
        (1, 255, [1, 0, 0, 0, 0, 0, 1, 0]),  # 255, 36, 73, ... 221, 2
        (8, 0, [2] * 8),
        (-8, 255, [-2] * 8),
    ],
)
def test_dithered_quarters_by_hand(u, phase, want):
    assert apply(row(*[u] * 8), shift=2, dither=phase)[0] == want


@pytest.mark.parametrize("shift", [0, 1, 3, 8, 9, 10, 17, 30])
def test_errors_of_dithering_cancel_over_all_phases(shift, rng):
    raw = rng.integers(-(1 << 31), 1 << 31, 500)
    rounded = dithered_shift(raw[:, None], shift, np.arange(DITHER_PHASES))
    exact = raw / (1 << shift)
    assert np.abs(rounded - exact[:, None]).max() < 1
    assert np.abs(rounded.mean(axis=1) - exact).max() <= 1 / 512
    whole = rng.integers(-(1 << 20), 1 << 20, 500)
    assert (dithered_shift(whole << shift, shift, rng.integers(0, DITHER_PHASES, 500)) == whole).all()


@pytest.mark.parametrize("axis", range(3))
def test_a_channel_a_row_and_a_column_meet_every_phase(axis):
    size = [1, 1, 1]
    size[axis] = DITHER_PHASES
    assert sorted(dither_phases(tuple(size), 9).reshape(-1).tolist()) == list(range(DITHER_PHASES))


def test_phases_differ_from_step_to_step_and_not_from_device_to_device(rng):
    def coefficients(count):
        return [mantissas(*rng.normal(size=(3, 16))) for _ in range(count)]

    steps = coefficients(200)
    assert len({step.phase for step in steps}) > DITHER_PHASES // 3
    step = steps[0]
    strided = replace(step, a=np.repeat(step.a, 2)[::2], d=step.d.astype(">i8"))
    assert strided.phase == step.phase


def test_affine_reports_the_largest_before_saturation_and_after_relu():
    _, report = apply(row(-300, 0, 200), kind="int8")
    assert (report.largest, report.saturations, report.sums.tolist()) == (300, 2, [[-128 + 127]])
    _, report = apply(row(-300, 0, 100), kind="int8", relu=True)
    assert (report.largest, report.saturations, report.sums.tolist()) == (100, 0, [[100]])


def test_affine_of_no_samples_reports_nothing():
    out, report = affine(
        np.zeros((0, 1, 2, 2), np.int64), None, a=one(1), b=one(0), d=one(9), shift=0, kind="int8"
    )
    assert (out.shape, report.largest, report.saturations, report.sums.shape) == ((0, 1, 2, 2), 0, 0, (0, 1))


@pytest.mark.parametrize(
    ("mask", "of_u", "of_result"),
    [
        ([1, 1, 1], [17, 27, 37], [17, 27, 37]),
        ([0, 0, 0], [7, 7, 7], [0, 0, 0]),
        ([-1, 0, 255], [7, 7, 37], [0, 0, 37]),
    ],
    ids=["open", "empty", "mixed"],
)
def test_a_mask_takes_u_or_the_result(mask, of_u, of_result):
    u, v, how = row(1, 2, 3), row(1, 1, 1), {"a": 10, "b": 2, "d": 5}
    assert apply(u, v, mask=row(*mask), **how)[0] == of_u
    assert apply(u, v, mask=row(*mask), mask_out=True, **how)[0] == of_result


def test_the_largest_sum_of_affine_stays_in_int32():
    most = COEFFICIENT_LIMIT * -LOW * 2 + OFFSET_LIMIT + (1 << SHIFT_LIMIT - 1)
    assert most <= (1 << 31) - 1
    got, report = apply(row(LOW), row(LOW), a=-COEFFICIENT_LIMIT, b=-COEFFICIENT_LIMIT, d=OFFSET_LIMIT)
    assert (got, report.largest) == ([HIGH], 2 * COEFFICIENT_LIMIT * -LOW + OFFSET_LIMIT)


def test_fit_caps_the_largest_magnitude():
    for far in (-(1 << 40), 1 << 40):
        fitted, report = fit(np.array([far, 3]), "int16")
        assert (report.largest, report.saturations) == (LARGEST, 1)
        assert fitted.tolist() == [LOW if far < 0 else HIGH, 3]
    assert [kind_range(kind) for kind in ("uint8", "int8", "int16")] == [(0, 255), (-128, 127), (LOW, HIGH)]


PIXELS = np.arange(1, 13).reshape(1, 1, 3, 4)


@pytest.mark.parametrize(
    ("x", "view", "size", "want"),
    [
        (PIXELS, "whole", (3, 4), PIXELS[0, 0].tolist()),
        (PIXELS, "strided", (2, 2), [[1, 3], [9, 11]]),
        (PIXELS[..., :3], "strided", (2, 2), [[1, 3], [9, 11]]),
        (PIXELS[:, :, :2, :2], "spread", (4, 4), [[1, 0, 2, 0], [0] * 4, [5, 0, 6, 0], [0] * 4]),
        (PIXELS[:, :, :2, :2], "spread", (3, 3), [[1, 0, 2], [0] * 3, [5, 0, 6]]),
        (PIXELS[:, :, :1, :1], "broadcast", (2, 3), [[1] * 3] * 2),
    ],
)
def test_views_by_hand(x, view, size, want):
    assert seen(x, view, (1, *size))[0, 0].tolist() == want
    wider = seen(x, view, (18, *size))
    assert wider[0, 0].tolist() == want
    assert not wider[:, 1:].any()


def test_a_view_leaves_channels_out_that_the_result_has_not():
    x = np.arange(20).reshape(1, 20, 1, 1)
    assert seen(x, "spread", (3, 2, 2))[0, :, 0, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("channels", [1, 15, 16, 17, 33])
def test_blocks_hold_channels_side_by_side_and_zeros_behind_the_last(channels, rng):
    x = rng.integers(1, 100, (2, channels, 3, 2))
    blocks = to_blocks(x)
    for n, c, h, w in np.ndindex(*x.shape):
        assert blocks[n, c // 16, h, w, c % 16] == x[n, c, h, w]
    assert np.count_nonzero(blocks) == x.size
    assert (from_blocks(blocks, channels) == x).all()


def test_reduce_by_hand():
    u, v = row(LOW, 5, HIGH), row(LOW, -1, 2)
    assert [part.tolist() for part in reduce(u, v)] == [[[4]], [[(1 << 30) - 5 + 2 * HIGH]]]
    assert [part.tolist() for part in reduce(u, v, row(0, 1, -1))] == [[[5]], [[-5]]]
    assert [part.tolist() for part in reduce(u, v, row(0, 0, 0))] == [[[0]], [[0]]]
    assert [part.shape for part in reduce(u[:0], v[:0])] == [(0, 1), (0, 1)]


@pytest.mark.parametrize("kind", ["int8", "int16"])
@pytest.mark.parametrize("case", [case for case in cases.CORNERS if case.shape.macs < 300_000], ids=str)
def test_rounded_convolutions_equal_torch_in_float64(case, kind, rng, assert_same_bits):
    s, (top, bottom, left, right) = case.shape, case.shape.padding
    x = cases.operand(case.pattern, np.int8 if case.signed else np.uint8, (s.N, s.C, s.H, s.W), rng)
    w = cases.operand(case.pattern, np.int8, (s.K, s.C, s.R, s.S), rng, low=-127)
    padded = F.pad(torch.tensor(x, dtype=torch.float64), (left, right, top, bottom))
    weights = torch.tensor(w, dtype=torch.float64)
    shift = case.shift
    low, high = kind_range(kind)

    def rounded(exact: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        unlimited = np.floor(exact.numpy() * 2.0**-shift + 0.5)
        return unlimited, np.clip(unlimited, low, high).astype(kind)

    how = {"stride": s.stride, "padding": s.padding, "shift": shift, "kind": kind}
    unlimited, want = rounded(F.conv2d(padded, weights, stride=s.stride))
    y, report = rounded_forward(x, w, **how)
    assert_same_bits(y, want, case=case.name, x=x, w=w)
    assert report.largest == np.abs(unlimited).max(initial=0)
    assert report.saturations == (unlimited != want).sum()
    assert report.sums.tolist() == want.sum(axis=(0, 2, 3), dtype=np.int64).tolist()
    assert report.squares.tolist() == (want.astype(np.float64) ** 2).sum(axis=(0, 2, 3)).tolist()

    gy = cases.operand(case.pattern, np.dtype(kind).type, (s.N, s.K, s.P, s.Q), rng)
    gradient = torch.tensor(gy, dtype=torch.float64)
    exact = conv2d_input(padded.shape, weights, gradient, stride=s.stride)
    unlimited, want = rounded(exact[:, :, top : top + s.H, left : left + s.W])
    gx, report = rounded_grad_input(gy, w, size=(s.H, s.W), **how)
    assert_same_bits(gx, want, case=case.name, gy=gy, w=w)
    assert (report.largest, report.saturations) == (
        np.abs(unlimited).max(initial=0),
        (unlimited != want).sum(),
    )


@pytest.mark.parametrize(
    ("magnitude", "kind", "want"),
    [
        (1.0, "uint8", -8),
        (1.0, "int8", -7),
        (1.0, "int16", -15),
        (1.0001, "int8", -6),
        (0.0, "int16", -105),  # the smallest
        (1e-300, "int8", -97),
    ],
)
def test_the_exponent_of_a_kind(magnitude, kind, want):
    assert kind_exponent(magnitude, kind) == want


def test_a_magnitude_that_is_not_finite_says_that_training_diverged():
    for magnitude in (math.inf, math.nan):
        with pytest.raises(DivergenceError, match=rf"^values have grown to {magnitude}: training diverged"):
            kind_exponent(magnitude, "int8")


_FIT = (
    (1.0, 0.0, 0.0),
    (0.75, -0.5, -3.0),
    (0.0, 0.0, 0.0),
    (0.0, 0.0, 0.5),
    (16383.0, 0.0, 0.0),
    (16383.4, 0.0, 1.0),
    (16383.5 / 16384, 0.0, 0.0),  # rounds up to 2**14 with a shift of 14
    (16382.5, -16382.5, 0.0),  # halves to even
    (1e-12, 0.0, 0.0),
    (1e-12, 0.0, 2.0**29),
    (0.0, 0.0, 2.0**29),
    (1.0, 1.0, -(2.0**29) + 0.4),
    (0.1, 0.1, 2.0**29 / 1024),
)


@pytest.mark.parametrize(("a", "b", "d"), _FIT)
def test_mantissas_take_the_largest_shift_that_fits(a, b, d):
    found = mantissas(*(np.array([value]) for value in (a, b, d)))

    def rounded(shift: int) -> tuple[int, ...]:
        return tuple(round(Fraction(value) * 2**shift) for value in (a, b, d))  # halves to even

    def fits(shift: int) -> bool:
        wide = rounded(shift)
        return max(abs(wide[0]), abs(wide[1])) <= COEFFICIENT_LIMIT and abs(wide[2]) <= OFFSET_LIMIT

    assert (found.a[0], found.b[0], found.d[0]) == rounded(found.shift)
    assert fits(found.shift)
    assert found.shift == max(shift for shift in range(SHIFT_LIMIT + 1) if fits(shift))


def test_mantissas_share_one_shift_over_channels():
    found = mantissas(np.array([1.0, 1 / 1024]), np.array([0.0, 2.0]), np.array([0.0, 8.0]))
    assert (found.shift, found.a.tolist(), found.b.tolist(), found.d.tolist()) == (
        12, [4096, 4], [0, 8192], [0, 32768],
    )  # fmt: skip


@pytest.mark.parametrize(("a", "d"), [(16383.6, 0.0), (1.0, 2.0**29 + 1)])
def test_coefficients_beyond_the_range_are_refused(a, d):
    with pytest.raises(
        DivergenceError,
        match=rf"^coefficients up to {a:g} and offsets up to {d:g} are beyond the results' range: ".replace(
            "+", r"\+"
        )
        + r"values have grown too much in one step, or a channel hardly varies and 8 bits are too few "
        r"for its gradient; use a smaller --lr$",
    ):
        mantissas(np.array([a]), np.array([0.0]), np.array([d]))


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_coefficients_that_are_not_finite_are_refused(value):
    zero = np.zeros(1)
    for parts in ((np.array([value]), zero, zero), (zero, zero, np.array([value]))):
        with pytest.raises(
            DivergenceError, match=r"^batch norm's coefficients are not finite: training diverged"
        ):
            mantissas(*parts)


def _norm(weight: np.ndarray, bias: np.ndarray, eps: float) -> NormParameters:
    zeros = np.zeros_like(weight)
    return NormParameters(weight=weight, bias=bias, running_mean=zeros, running_var=zeros + 1, eps=eps)


@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (1, 2, 4, 4), (2, 2, 1, 1), (1, 2, 1, 1)], ids=str)
def test_batch_norm_and_its_gradient_equal_autograd_in_float64(shape, rng):
    """Within 1e-9 of the largest value: both sides round in float64, in another order."""
    ints, exponent, eps = rng.integers(-3000, 3001, shape), -9, 1e-5
    y = torch.tensor(np.ldexp(ints.astype(np.float64), exponent), requires_grad=True)
    weight, bias = (torch.tensor(rng.normal(size=shape[1]), requires_grad=True) for _ in range(2))
    mean, var = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), unbiased=False, keepdim=True)
    out = (y - mean) / torch.sqrt(var + eps) * weight[:, None, None] + bias[:, None, None]
    g = torch.tensor(rng.normal(size=shape))
    out.backward(g)

    count = ints.size // shape[1]
    found = moments(ints.sum(axis=(0, 2, 3)), (ints**2).sum(axis=(0, 2, 3)), count=count, exponent=exponent)
    norm = _norm(weight.detach().numpy(), bias.detach().numpy(), eps)

    def close(got: np.ndarray, want: torch.Tensor) -> None:
        values = want.detach().numpy()
        np.testing.assert_allclose(got, values, rtol=0, atol=1e-9 * max(1.0, np.abs(values).max()))

    close(found.mean, mean.reshape(-1))
    close(found.var, var.reshape(-1))
    scale, offset = found.affine(norm)
    seen_y = y.detach().numpy()
    wide = (slice(None), None, None)
    close(scale[wide] * seen_y + offset[wide], out)
    sums = g.numpy().sum(axis=(0, 2, 3)), (g.numpy() * seen_y).sum(axis=(0, 2, 3))
    gradient = norm_gradient(*sums, found, norm)
    close(gradient.weight, weight.grad)
    close(gradient.bias, bias.grad)
    close(gradient.a[wide] * g.numpy() + gradient.b[wide] * seen_y + gradient.d[wide], y.grad)


def test_moments_lose_nothing_where_the_mean_is_large():
    """The variance of 2**15 - 1 and 2**15 - 2, where the difference of float32 sums would be nothing."""
    values = [HIGH, HIGH - 1] * 50_000
    found = moments(one(sum(values)), one(sum(v * v for v in values)), count=len(values), exponent=0)
    assert (found.mean.tolist(), found.var.tolist()) == ([HIGH - 0.5], [0.25])


def test_moments_of_one_value_and_of_none():
    assert moments(one(5), one(25), count=1, exponent=2).var.tolist() == [0.0]
    none = moments(one(0), one(0), count=0, exponent=2)
    assert (none.mean.tolist(), none.var.tolist(), none.count) == ([0.0], [0.0], 0)


def test_moments_keep_their_channels_in_another_order():
    found = Moments(mean=np.array([1.0, 2.0, 3.0]), var=np.array([4.0, 5.0, 6.0]), count=2).ordered(
        np.array([2, 0, 1])
    )
    assert (found.mean.tolist(), found.var.tolist()) == ([3.0, 1.0, 2.0], [6.0, 4.0, 5.0])


@pytest.mark.parametrize(("into", "channels"), [(4, 8), (16, 32), (3, 8), (5, 5)])
def test_padded_order_is_that_of_the_shortcut(into, channels, rng):
    """The device keeps x's channels in their places, the model puts new ones around them."""
    shortcut = PaddedShortcut(channels - into, stride=2)
    order = rng.permutation(into)
    x = torch.tensor(rng.integers(1, 100, (1, into, 4, 4)).astype(np.float32))
    stored = seen(x.numpy()[:, order], "strided", (channels, 2, 2))
    after = padded_order(order, front=shortcut.front, channels=channels)
    assert sorted(after) == list(range(channels))
    assert (stored == shortcut(x).numpy()[:, after]).all()
