# SPDX-License-Identifier: Apache-2.0
"""Predicted signs: corners worked by hand, and every device against the spec written out."""

from dataclasses import replace

import cases
import numpy as np
import pytest
import torch
from e2train.config import load_config
from e2train.devices import ConvShape, LayerCall, ShapeError
from e2train.devices.emulator import Emulator
from e2train.devices.spec import SpecDevice
from e2train.nn import OffloadContext
from e2train.numerics import conv_grad_weight, keep_high
from e2train.numerics.psg import PSG_MODES, Psg, decided, predict_signs, sign
from e2train.runtime import Ledger, execute

HALF = 1 << 15  # beta = 0.5


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("gradient", "beta_q16", "want"),
    [
        (ints(8, -8, 8), HALF, [True, True, True]),  # all decided
        (ints(100, 1, -1), 1 << 16, [True, False, False]),  # the largest alone
        (ints(8, 4, -4, 3, -3), HALF, [True, True, True, False, False]),  # exactly at tau counts as decided
        (ints(9, 4, 5), HALF, [True, False, True]),  # tau = 4.5, not rounded
        (ints(0, 0, 0), HALF, [False, False, False]),  # zeros never are
        (ints(0, 1, -1), 0, [False, True, True]),
        (ints(-(1 << 40), -(1 << 40)), 3277, [True, True]),  # all most negative, beyond int32
        (ints(3, -3, 0), 1 << 16, [True, True, False]),  # ties at the top
    ],
)
def test_what_is_decided(gradient, beta_q16, want):
    assert decided(gradient, beta_q16).tolist() == want
    assert decided(torch.from_numpy(gradient), beta_q16).tolist() == want


def test_sign_of_zero_is_zero():
    assert sign(ints(-5, 0, 5)).tolist() == [-1, 0, 1]


@pytest.mark.parametrize(
    ("raw", "bits", "kept", "signed", "want"),
    [
        ((0, 7, 8, 23, 24, 247, 248, 255), 8, 4, False, (0, 0, 1, 1, 2, 15, 15, 15)),
        ((-128, -121, -120, -8, -9, 119, 120, 127), 8, 4, True, (-8, -8, -7, 0, -1, 7, 7, 7)),
        ((0, 127, 128, 255), 8, 1, False, (0, 1, 1, 1)),
        ((-128, -65, -64, 0, 127), 8, 1, True, (-1, -1, 0, 0, 0)),
        ((-32768, -32, -33, 31, 32, 32767), 16, 10, True, (-512, 0, -1, 0, 1, 511)),
    ],
)
def test_kept_bits_are_rounded_and_stay_in_range(raw, bits, kept, signed, want):
    assert keep_high(ints(*raw), bits=bits, kept=kept, signed=signed).tolist() == list(want)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "guess"}, "psg_mode must be one of resolve, sparsify, predict, not 'guess'"),
        ({"x_bits": 5}, "psg_x_bits must be in 1..4, not 5"),
        ({"g_bits": 11}, "psg_g_bits must be in 1..10, not 11"),
        ({"g_bits": 0}, "psg_g_bits must be in 1..10, not 0"),
        ({"beta": 1.5}, "psg_beta must be in 0..1, not 1.5"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole text is compared
        Psg(**settings)
    assert str(error.value) == message


def test_a_call_without_bits_is_refused():
    shape = ConvShape(N=1, C=1, H=1, W=1, K=1, R=1, S=1)
    x, gy = np.zeros((1, 1, 1, 1), np.uint8), np.zeros((1, 1, 1, 1), np.int16)
    with pytest.raises(ShapeError) as error:
        LayerCall(mode="grad_msb", shape=shape, a=x, b=gy, x_bits=5, g_bits=10)
    assert str(error.value) == "layer (grad_msb): 5 high bits of x, must be 1..4 in grad_msb and else 0"


@pytest.mark.parametrize("mode", PSG_MODES)
@pytest.mark.parametrize("kept", [(4, 10), (2, 3)])
@pytest.mark.parametrize("device", [Emulator(), SpecDevice(load_config("pynq_z2"))], ids=lambda d: d.name)
def test_signs_equal_the_paper_written_out(device, kept, mode, rng):
    shape = ConvShape(N=2, C=17, H=6, W=5, K=19, R=3, S=3, padding=(1, 1, 1, 1))
    x = cases.operand("random", np.uint8, (2, 17, 6, 5), rng)
    gy = cases.operand("random", np.int16, (2, 19, 6, 5), rng)
    call = LayerCall(mode="grad_weight", shape=shape, a=x, b=gy, name="conv")
    ledger = Ledger()

    def compute(x_bits: int, g_bits: int):
        part = call.of_high_bits(x_bits, g_bits)
        result = execute(part, device)
        ledger.add(part, result)
        return result.value

    signs, decided_by_high_bits, gw_msb, again = predict_signs(
        Psg(mode=mode, x_bits=kept[0], g_bits=kept[1], beta=0.25), compute
    )
    geometry = {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1, 1, 1)}
    half_x, half_g = 2 ** (7 - kept[0]), 2 ** (15 - kept[1])
    x_msb = np.minimum((x.astype(int) + half_x) // (2 * half_x), 2 ** kept[0] - 1)
    g_msb = np.minimum((gy.astype(int) + half_g) // (2 * half_g), 2 ** (kept[1] - 1) - 1)
    predicted, full = conv_grad_weight(x_msb, g_msb, **geometry), conv_grad_weight(x, gy, **geometry)
    sure = np.abs(predicted) * 4 >= np.abs(predicted).max()
    want = {
        "resolve": np.where(sure, np.sign(predicted), np.sign(full)),
        "sparsify": np.where(sure, np.sign(predicted), 0),
        "predict": np.sign(predicted),
    }[mode]
    assert (np.asarray(signs) == want).all()
    assert (np.asarray(gw_msb) == predicted).all()
    assert (again is None) if mode != "resolve" else (np.asarray(again) == full).all()
    count = np.count_nonzero(predicted) if mode == "predict" else sure.sum()
    assert int(decided_by_high_bits.sum()) == count
    passes = ["grad_msb", "grad_weight"] if mode == "resolve" else ["grad_msb"]
    assert [row.mode for row in ledger.snapshot()] == passes


def test_a_fully_decided_layer_needs_no_second_pass(rng):
    shape = ConvShape(N=1, C=16, H=4, W=4, K=8, R=1, S=1)
    x, gy = np.full((1, 16, 4, 4), 255, np.uint8), np.full((1, 8, 4, 4), -32768, np.int16)
    call = LayerCall(mode="grad_weight", shape=shape, a=x, b=gy)
    modes = []

    def compute(x_bits: int, g_bits: int):
        part = call.of_high_bits(x_bits, g_bits)
        modes.append(part.mode)
        return execute(part, Emulator()).value

    assert (predict_signs(Psg(mode="resolve"), compute)[0] == -1).all()
    assert modes == ["grad_msb"]


@pytest.mark.parametrize("psg", [None, *(Psg(mode=mode, beta=0.25) for mode in PSG_MODES)], ids=str)
def test_scaled_signs_are_as_large_as_the_gradient_that_they_are_signs_of(psg):
    """Of a gradient whose elements are equal in magnitude but for rounding they are the gradient itself."""
    x = torch.full((1, 1, 2, 2), 240, dtype=torch.uint8)
    gy = torch.full((1, 3, 2, 2), -16384, dtype=torch.int16)
    gy[0, 1], gy[0, 2] = 16384, 0
    call = LayerCall(mode="grad_weight", shape=ConvShape(N=1, C=1, H=2, W=2, K=3, R=1, S=1), a=x, b=gy)
    context = OffloadContext(device=Emulator(), psg=psg, magnitudes="mean")

    def compute(x_bits: int, g_bits: int) -> torch.Tensor:
        return context.run(call.of_high_bits(x_bits, g_bits))

    got = context.weight_gradient("conv", compute, 0.5, gy_bits=16)
    each = 4 * 240 * 16384 * 0.5 * 2 / 3  # two of three elements have it
    assert got.flatten().tolist() == [-each, each, 0.0]


@pytest.mark.parametrize("mode", PSG_MODES)
def test_signs_with_magnitudes_of_their_own_are_the_predicted_gradient(mode):
    """What beta leaves open is in full or absent; 3 bits of x and 10 of gy make 240 and 100 224 and 128."""
    x = torch.tensor([240], dtype=torch.uint8).reshape(1, 1, 1, 1)
    gy = torch.tensor([-16384, 100, 0], dtype=torch.int16).reshape(1, 3, 1, 1)
    call = LayerCall(mode="grad_weight", shape=ConvShape(N=1, C=1, H=1, W=1, K=3, R=1, S=1), a=x, b=gy)
    psg = Psg(mode=mode, x_bits=3, g_bits=10, beta=0.25)
    context = OffloadContext(device=Emulator(), psg=psg, magnitudes="each")

    def compute(x_bits: int, g_bits: int) -> torch.Tensor:
        return context.run(call.of_high_bits(x_bits, g_bits))

    got = context.weight_gradient("conv", compute, 0.5, gy_bits=16)
    small = {"predict": 224 * 128, "sparsify": 0, "resolve": 240 * 100}[mode]
    assert got.flatten().tolist() == [-224 * 16384 / 2, small / 2, 0.0]
    with pytest.raises(ValueError, match="signs that are voted on have no magnitudes of their own"):
        replace(context, votes=True)
