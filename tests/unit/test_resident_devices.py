# SPDX-License-Identifier: Apache-2.0
"""Devices with resident tensors against the NumPy spec: every result and every byte of the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cases
import numpy as np
import pytest
import resident_cases
from e2train.devices import DeviceError, native, open_device, open_resident
from e2train.devices.emulator.resident import TorchResident
from e2train.devices.memory import SpecResident
from e2train.devices.native import NativeResident
from e2train.devices.protocol import ConvShape
from e2train.devices.resident import (
    Convolution,
    ResidentDevice,
)
from e2train.numerics import ExactnessError, conv_forward, conv_grad_input, conv_grad_weight
from e2train.numerics.bounds import OUTPUT_TERMS
from e2train.numerics.elementwise import LARGEST
from e2train.numerics.rounding import DITHER_BITS, DITHER_PHASES, DITHER_STEPS
from resident_cases import Case

INT32_MAX = (1 << 31) - 1
DEVICES: dict[str, Callable[[], ResidentDevice]] = {
    "native": lambda: NativeResident(threads=1),
    "native, 2 threads": lambda: NativeResident(threads=2),
    "native, AVX2": lambda: NativeResident(threads=1, defines=("-march=x86_64_v3",)),
    "native, portable": lambda: NativeResident(threads=2, defines=("-DE2_PORTABLE", "-march=x86_64")),
    "torch": TorchResident,
    "frames": lambda: open_resident("spec"),
    "frames, 4 engines": lambda: open_resident("spec", config="zcu104"),
    "csim": lambda: open_resident("csim"),
}
RANDOM_CASES = 10  # of each operation and device


@pytest.fixture(scope="module", params=DEVICES.values(), ids=DEVICES.keys())
def device(request: pytest.FixtureRequest) -> Iterator[ResidentDevice]:
    opened = request.param()
    yield opened
    opened.close()


@pytest.mark.parametrize("case", resident_cases.CONVOLUTIONS, ids=str)
def test_convolutions_equal_spec(device, case, rng, equals_spec):
    for each in resident_cases.convolutions(case, rng):
        equals_spec(device, each)


@pytest.mark.parametrize("case", resident_cases.AFFINES, ids=str)
def test_affine_equals_spec(device, case, rng, equals_spec):
    equals_spec(device, resident_cases.affine(case, rng))


@pytest.mark.parametrize("case", resident_cases.REDUCTIONS, ids=str)
def test_reduce_equals_spec(device, case, rng, equals_spec):
    equals_spec(device, resident_cases.reduction(case, rng))


def test_random_operations_equal_spec(device, rng, equals_spec):
    for _ in range(RANDOM_CASES):
        for each in resident_cases.convolutions(resident_cases.random_convolution(rng), rng):
            equals_spec(device, each)
        equals_spec(device, resident_cases.affine(resident_cases.random_affine(rng), rng))
        equals_spec(device, resident_cases.reduction(resident_cases.random_reduction(rng), rng))


def test_random_cases_reach_what_they_are_for(rng):
    """Saturation, kinds, views, no samples, and channels that fill no block."""
    drawn = [resident_cases.random_affine(rng) for _ in range(300)]
    assert {kind for case in drawn for kind in case.kinds} == {"uint8", "int8", "int16"}
    assert {view for case in drawn for view in case.views} == {"whole", "strided", "spread", "broadcast"}
    assert {case.size[0] for case in drawn} == {0, 1, 2, 3}
    assert {case.mask for case in drawn} == {"none", "u", "result"}
    reports = [SpecResident.affine(*_written(resident_cases.affine(case, rng))) for case in drawn[:60]]
    assert 0 < sum(report.saturations > 0 for report in reports) < len(reports)
    convolutions = [resident_cases.random_convolution(rng) for _ in range(100)]
    assert {case.shape.C % 16 for case in convolutions} > {0, 1, 4}
    assert {case.shape.stride for case in convolutions} == {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert max(case.shift for case in convolutions) > 30


def _written(case: Case) -> tuple[SpecResident, Any]:
    device = SpecResident()
    device.reserve(case.nbytes)
    for tensor, values in case.inputs:
        device.write(tensor.seen("whole"), values)
    return device, case.call


def _convolution(mode: str, shape: ConvShape, x: np.ndarray, w: np.ndarray, *, shift: int = 0) -> Case:
    memory = resident_cases._Memory(np.random.default_rng(0))
    source = memory.tensor(x.dtype.name, *x.shape)
    result = (
        (shape.N, shape.K, shape.P, shape.Q) if mode == "forward" else (shape.N, shape.C, shape.H, shape.W)
    )
    destination = memory.tensor("int16", *result)
    call = Convolution(
        mode=mode,
        source=source,
        destination=destination,
        w=w,
        stride=shape.stride,
        padding=shape.padding,
        shift=shift,
        sums=mode == "forward",
    )
    return Case(
        operation="convolve",
        call=call,
        inputs=((source, x),),
        destination=destination,
        nbytes=memory.nbytes,
    )


@pytest.mark.parametrize("shift", [0, 1, 16, 31, 40])
@pytest.mark.parametrize(("last", "leaves"), [(-3, False), (-4, True), (-5, True)])
def test_grad_input_sums_at_the_edge_of_int32(device, equals_spec, last, leaves, shift):
    """516 products of -32768 and -127, and one more: 2**31 - 2**15, 2**31, 2**31 + 2**15."""
    shape = ConvShape(N=1, C=1, H=1, W=3, K=517, R=1, S=1)
    w = np.full((517, 1, 1, 1), -127, np.int8)
    w[-1] = last
    gy = np.full((1, 517, 1, 3), -32768, np.int16)
    gy[..., 1] = 32767
    gy[..., 2] = 1
    sums = conv_grad_input(gy, w, size=(1, 3), stride=(1, 1), padding=(0, 0, 0, 0))
    assert (sums.max() > INT32_MAX) == leaves
    equals_spec(device, _convolution("grad_input", shape, gy, w, shift=shift))


@pytest.mark.parametrize("pattern", ["lowest", "highest"])
def test_grad_input_sums_past_int32(device, equals_spec, pattern):
    shape = ConvShape(N=2, C=17, H=6, W=5, K=100, R=3, S=3, padding=(1, 1, 1, 1), stride=(1, 2))
    rng = np.random.default_rng(0)
    gy = cases.operand(pattern, np.int16, (2, 100, shape.P, shape.Q), rng)
    w = cases.operand("lowest", np.int8, (100, 17, 3, 3), rng, low=-127)
    sums = conv_grad_input(gy, w, size=(6, 5), stride=shape.stride, padding=shape.padding)
    assert np.abs(sums).max() > INT32_MAX
    case = _convolution("grad_input", shape, gy, w)
    equals_spec(device, case)
    written, call = _written(case)
    assert written.convolve(call).largest == LARGEST


@pytest.mark.parametrize("shift", [0, 1, 17, 25, 40])
@pytest.mark.parametrize("weight", [-127, 127])
def test_the_longest_forward_sum(device, equals_spec, weight, shift):
    """Only with half of the last bit that is dropped does it leave int32."""
    shape = ConvShape(N=1, C=OUTPUT_TERMS, H=1, W=1, K=1, R=1, S=1)
    x, w = np.full((1, shape.C, 1, 1), 255, np.uint8), np.full((1, shape.C, 1, 1), weight, np.int8)
    total = abs(int(conv_forward(x, w, stride=(1, 1), padding=(0, 0, 0, 0))[0, 0, 0, 0]))
    assert INT32_MAX - (1 << 24) < total < INT32_MAX
    equals_spec(device, _convolution("forward", shape, x, w, shift=shift))


def test_sums_that_are_too_long_are_refused():
    shape = ConvShape(N=1, C=OUTPUT_TERMS + 1, H=1, W=1, K=1, R=1, S=1)
    x, w = np.zeros((1, shape.C, 1, 1), np.uint8), np.zeros((1, shape.C, 1, 1), np.int8)
    with pytest.raises(
        ExactnessError, match=r"^forward sums C\*R\*S = 66001 products, int32 is exact up to 66000"
    ):
        _convolution("forward", shape, x, w)
    low = np.full((1, 1, 1, 1), -128, np.int8)
    with pytest.raises(
        ExactnessError,
        match=r"^layer \(forward\): weights must be in -127\.\.127, there is -128; quantise narrow$",
    ):
        _convolution("forward", ConvShape(N=1, C=1, H=1, W=1, K=1, R=1, S=1), x[:, :1], low)


@pytest.mark.parametrize("kinds", [("uint8", "int16"), ("int8", "int16"), ("uint8", "int8")], ids=str)
@pytest.mark.parametrize("size", [(20, 20), (1, 700), (9, 259)], ids=["many rows", "long row", "odd row"])
@pytest.mark.parametrize("pattern", ["lowest", "highest"])
def test_weight_gradient_sums_past_int32(device, equals_spec, rng, pattern, size, kinds):
    H, W = size
    shape = ConvShape(N=3, C=2, H=H, W=W, K=1, R=1, S=3, padding=(0, 0, 1, 1))
    case = resident_cases.weight_gradient(shape, *kinds, pattern, (0, 0), rng)
    (_, x), (_, gy) = case.inputs
    gw = conv_grad_weight(x, gy, kernel=(1, 3), stride=(1, 1), padding=shape.padding)
    past = kinds[1] == "int16" and x.any()
    assert (np.abs(gw).max() > INT32_MAX) == past
    equals_spec(device, case)


def test_the_largest_sum_of_squares_is_exact(device, equals_spec):
    """Of squares near 2**28 as often as an image of 40 by 40 has pixels."""
    shape = ConvShape(N=1, C=1, H=40, W=40, K=1, R=1, S=1)
    x, w = np.full((1, 1, 40, 40), -128, np.int8), np.full((1, 1, 1, 1), 127, np.int8)
    equals_spec(device, _convolution("forward", shape, x, w))
    case = resident_cases.affine(
        resident_cases.AffineCase(
            name="sums",
            size=(1, 1, 260, 260),
            kinds=("int16", "int16", "uint8", "int16"),
            patterns=("lowest", "lowest", "zero"),
            coefficients="largest",
        ),
        np.random.default_rng(0),
    )
    equals_spec(device, case)


def test_where_there_is_no_compiler_torch_gives_the_same_bits(monkeypatch, rng, equals_spec):
    def no_compiler(**options: Any) -> None:
        raise DeviceError("cannot build the native emulator: no clang here")

    monkeypatch.setattr("e2train.devices.native.NativeResident", no_compiler)
    with pytest.warns(
        UserWarning,
        match=r"^torch emulates the device, slowly: cannot build the native emulator: no clang here$",
    ):
        device = open_resident()
    assert isinstance(device, TorchResident)
    for each in resident_cases.convolutions(resident_cases.CONVOLUTIONS[2], rng):
        equals_spec(device, each)


def test_the_emulator_is_native_where_there_is_a_compiler():
    with open_resident(threads=2) as device:
        assert isinstance(device, NativeResident)


@pytest.mark.parametrize(
    ("opener", "spec", "options", "message"),
    [
        (open_device, "csim", {"board": "x"}, "csim takes no option 'board'; it takes: config, parallel"),
        (open_device, "emulator", {"host": "cuda"}, "emulator takes no option 'host'; it takes: fast"),
        (open_device, "spec", {"b": 1, "a": 2}, "spec takes no option 'a', 'b'; it takes: config"),
        (
            *(open_device, "pynq:HOST", {"address": "x"}),
            "pynq takes no option 'address'; it takes: config, overlay, deadline_s",
        ),
        (
            open_resident,
            "emulator",
            {"board": 1},
            "emulator takes no option 'board'; it takes: host, threads",
        ),
        (open_resident, "spec", {"board": "x"}, "spec takes no option 'board'; it takes: config"),
        (
            *(open_resident, "agent:HOST", {"board": "x"}),
            "agent takes no option 'board'; it takes: config, token_file, deadline_s",
        ),
    ],
)
def test_an_option_that_a_device_does_not_take_is_refused_with_those_that_it_takes(
    opener, spec, options, message
):
    with pytest.raises(TypeError) as error:
        opener(spec, **options)
    assert str(error.value) == f"device {message}"


def test_what_is_of_another_device_is_ignored():
    of_board = {"overlay": "", "token_file": "", "deadline_s": 3.0}
    open_device("csim", parallel=2, **of_board).close()
    open_resident("spec", threads=2, **of_board).close()


_DITHERED = [
    case for case in resident_cases.AFFINES if case.dither is not None and "extremes" not in case.name
]


@pytest.mark.parametrize("case", [case for case in _DITHERED if case.shift], ids=str)
def test_cases_of_dithering_tell_it_from_rounding_to_nearest(case, rng):
    built = resident_cases.affine(case, rng)
    written = []
    for dither in (case.dither, None, (case.dither + 64) % 256):
        device = SpecResident()
        device.reserve(built.nbytes)
        for tensor, values in built.inputs:
            device.write(tensor.seen("whole"), values)
        device.affine(replace(built.call, dither=dither))
        written.append(device.read(built.destination))
    for other in written[1:]:
        assert (written[0] != other).mean() > 0.02


def test_the_native_emulator_steps_through_phases_as_the_spec():
    text = (Path(native.__file__).parent / "elementwise.cpp").read_text()
    channel, row, column = DITHER_STEPS
    steps = f"kDitherChannel = {channel}, kDitherRow = {row}, kDitherColumn = {column}"
    assert f"{steps}, kDitherPhases = {DITHER_PHASES};" in text
    assert f"kBits = {DITHER_BITS};" in text
