# SPDX-License-Identifier: Apache-2.0
"""What devices with resident tensors refuse: one line that says what came and what was wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from e2train.devices import DeviceError, ShapeError, open_resident
from e2train.devices.emulator.resident import TorchResident
from e2train.devices.memory import SpecResident
from e2train.devices.native import NativeResident
from e2train.devices.resident import (
    Affine,
    Convolution,
    DeviceTensor,
    Reduction,
    ResidentDevice,
    WeightGradient,
)

DEVICES = {
    "spec": SpecResident,
    "native": NativeResident,
    "torch": TorchResident,
    "frames": lambda: open_resident("spec"),
}


@pytest.fixture(params=DEVICES.values(), ids=DEVICES.keys())
def any_device(request: pytest.FixtureRequest) -> Iterator[ResidentDevice]:
    with request.param() as opened:
        yield opened


def _at(*offsets: int, **fields: Any) -> DeviceTensor:
    shape = {"kind": "uint8", "C": 16, "H": 2, "W": 2} | fields
    return DeviceTensor(offsets=np.array(offsets, np.int64), **shape)


@pytest.mark.parametrize(
    ("offset", "reserved"), [(-64, 128), (64, 64), (96, 256)], ids=["before", "beyond", "not aligned"]
)
def test_a_tensor_outside_the_memory_is_refused(any_device, offset, reserved):
    any_device.reserve(reserved)
    message = (
        f"^a tensor at bytes {offset} to {offset + 64} is not in the {reserved} bytes reserved, "
        "or not aligned to 64$"
    )
    with pytest.raises(ShapeError, match=message):
        any_device.read(_at(offset))
    with pytest.raises(ShapeError, match=message):
        any_device.write(_at(offset), np.zeros((1, 16, 2, 2), np.uint8))
    inside = _at(0)
    one = np.ones(16, np.int64)
    call = Affine(u=inside, out=_at(offset), a=one, b=one, d=one, shift=0)
    with pytest.raises(ShapeError, match=message):
        any_device.affine(call)
    with pytest.raises(ShapeError, match=message):
        any_device.reduce(Reduction(u=inside, v=inside, mask=_at(offset)))


def test_values_of_another_kind_or_shape_are_refused(any_device):
    any_device.reserve(64)
    with pytest.raises(ShapeError, match=r"^int16\(1, 16, 2, 2\) cannot be written as uint8\(1, 16, 2, 2\)$"):
        any_device.write(_at(0), np.zeros((1, 16, 2, 2), np.int16))
    with pytest.raises(ShapeError, match=r"^uint8\(2, 16, 2, 2\) cannot be written as uint8\(1, 16, 2, 2\)$"):
        any_device.write(_at(0), np.zeros((2, 16, 2, 2), np.uint8))


def test_a_closed_native_emulator_computes_nothing():
    device = NativeResident()
    device.reserve(64)
    device.close()
    device.reserve(64)
    with pytest.raises(DeviceError, match=r"^the native emulator is closed$"):
        device.reduce(Reduction(u=_at(0), v=_at(0)))


_ONE = np.ones(16, np.int64)


def _forward(C: int = 16, K: int = 4, kind: str = "int8", shift: int = 0) -> Convolution:
    return Convolution(
        mode="forward",
        source=_at(0, C=C),
        destination=_at(64, C=K, kind=kind),
        w=np.zeros((4, 16, 1, 1), np.int8),
        shift=shift,
        stride=(1, 1),
        padding=(0, 0, 0, 0),
    )


def _correlation(gy: DeviceTensor, **bits: int) -> WeightGradient:
    return WeightGradient(x=_at(0), gy=gy, kernel=(1, 1), stride=(1, 1), padding=(0, 0, 0, 0), **bits)


def _affine(u: DeviceTensor | None = None, **fields: Any) -> Affine:
    return Affine(
        u=u or _at(0), out=_at(64), **{"a": _ONE, "b": _ONE, "d": _ONE, "shift": 0, "name": "conv"} | fields
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: _at(0, kind="int32"), "no tensor of kind 'int32' and view 'whole'"),
        (lambda: _at(0).seen("upside down"), "no tensor of kind 'uint8' and view 'upside down'"),
        (
            lambda: _forward(K=5),
            "layer (forward): (1, 16, 2, 2) with weights (4, 16, 1, 1) does not give (1, 5, 2, 2)",
        ),
        (
            lambda: _forward(C=3),
            "layer (forward): weights must be int8 (K, 3, R, S), not (4, 16, 1, 1)",
        ),
        (
            lambda: _forward(kind="uint8"),
            "layer (forward): from uint8 to uint8; it takes uint8 or int8 to int8 or int16",
        ),
        (
            lambda: replace(
                _forward(),
                mode="grad_input",
                source=_at(64, C=4, kind="int8"),
                destination=_at(0, kind="int8"),
                sums=True,
            ),
            "layer (grad_input): sums are those of forward alone",
        ),
        (
            lambda: _forward(shift=41),
            "layer (forward): shift is 41, must be 0..40",
        ),
        (
            lambda: _correlation(_at(64, C=4)),
            "layer (grad_weight): x must have 8 bits and gy a sign, not uint8, uint8",
        ),
        (
            lambda: _correlation(_at(64, kind="int8"), x_bits=4, g_bits=9),
            "layer (grad_msb): 9 high bits of int8",
        ),
        (
            lambda: _correlation(_at(64, 128, kind="int8")),
            "layer (grad_weight): x (1, 16, 2, 2) and gy (2, 16, 2, 2) do not belong together",
        ),
        (
            lambda: _affine(a=16_384 * _ONE),
            "conv (affine): coefficients must be (16,) and at most 16383",
        ),
        (
            lambda: _affine(d=(1 + (1 << 29)) * _ONE),
            "conv (affine): coefficients must be (16,) and at most 536870912",
        ),
        (
            lambda: _affine(a=np.iinfo(np.int64).min * _ONE),
            "conv (affine): coefficients must be (16,) and at most 16383",
        ),
        (
            lambda: _affine(shift=31),
            "conv (affine): shift is 31, must be 0..30",
        ),
        (
            lambda: _affine(dither=256),
            "conv (affine): dither is 256, must be 0..255",
        ),
        (
            lambda: _affine(_at(0).seen("strided")),
            "conv (affine): (1, 16, 2, 2) seen strided is no operand of (1, 16, 2, 2)",
        ),
        (
            lambda: Reduction(u=_at(0), v=_at(64, C=3), name="conv"),
            "conv (reduce): (1, 3, 2, 2) and (1, 16, 2, 2) differ",
        ),
    ],
)
def test_calls_that_make_no_sense_are_refused_in_one_line(build, message):
    with pytest.raises(ShapeError) as refused:
        build()
    assert str(refused.value) == message


def test_every_device_follows_the_protocol(any_device):
    assert isinstance(any_device, ResidentDevice)
