# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions and ceilings of activations: the spec by hand and by torch, devices by the spec."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from e2train import numerics
from e2train.devices import open_resident
from e2train.devices.emulator.resident import TorchResident
from e2train.devices.memory import SpecResident
from e2train.devices.native import NativeResident
from e2train.devices.protocol import ConvShape, ShapeError
from e2train.devices.resident import (
    Affine,
    Convolution,
    DeviceTensor,
    Reduction,
    ResidentDevice,
    WeightGradient,
    sample_bytes,
)
from e2train.numerics.elementwise import LARGEST
from resident_cases import is_refused

DEVICES: dict[str, Callable[[], ResidentDevice]] = {
    "native": lambda: NativeResident(threads=1),
    "native, 2 threads": lambda: NativeResident(threads=2),
    "native, portable": lambda: NativeResident(threads=2, defines=("-DE2_PORTABLE", "-march=x86_64")),
    "torch": TorchResident,
    "csim": lambda: open_resident("csim"),
}
SHAPES = (
    ConvShape(N=3, C=1, H=5, W=4, K=1, R=3, S=3, padding=(1, 1, 1, 1)),
    ConvShape(N=2, C=16, H=8, W=8, K=16, R=3, S=3, stride=(2, 2), padding=(1, 1, 1, 1)),
    ConvShape(N=2, C=20, H=7, W=9, K=20, R=3, S=3, stride=(2, 2), padding=(1, 1, 1, 1)),
    ConvShape(N=1, C=33, H=6, W=5, K=33, R=2, S=5, stride=(1, 2), padding=(0, 1, 3, 2)),
    ConvShape(N=2, C=7, H=9, W=9, K=7, R=7, S=7, stride=(2, 1), padding=(3, 3, 3, 3)),
    ConvShape(N=1, C=18, H=5, W=5, K=18, R=1, S=1, stride=(2, 2)),
    ConvShape(N=1, C=2, H=1, W=600, K=2, R=1, S=3, padding=(0, 0, 1, 1)),  # a row beyond int32's room
    ConvShape(N=1, C=1, H=1, W=3, K=1, R=1, S=5, padding=(0, 0, 4, 5)),  # columns that meet padding alone
)
PATTERNS = ("random", "lowest", "highest")


@pytest.fixture(scope="module", params=DEVICES.values(), ids=DEVICES.keys())
def device(request: pytest.FixtureRequest) -> Iterator[ResidentDevice]:
    opened = request.param()
    yield opened
    opened.close()


def _values(kind: str, shape: tuple[int, ...], pattern: str, rng: np.random.Generator) -> np.ndarray:
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    if pattern == "random":
        return rng.integers(low, high, shape, endpoint=True).astype(kind)
    return np.full(shape, low if pattern == "lowest" else high, kind)


def _tensors(*kinds_and_shapes: tuple[str, tuple[int, int, int, int]]) -> tuple[list[DeviceTensor], int]:
    """Tensors one behind the other, and the bytes that they take."""
    found, start = [], 0
    for kind, (N, C, H, W) in kinds_and_shapes:
        step = -(-sample_bytes(kind, C, H, W) // 64) * 64  # type: ignore[arg-type]
        offsets = start + np.arange(N, dtype=np.int64) * step
        found.append(DeviceTensor(kind=kind, C=C, H=H, W=W, offsets=offsets))  # type: ignore[arg-type]
        start += N * step
    return found, start


def _both(
    device: ResidentDevice, nbytes: int, inputs: list[tuple[DeviceTensor, np.ndarray]], run: Any
) -> Any:
    """What ``run`` gives of a device and of the spec, with the same tensors in their memories."""
    results = []
    for each in (device, SpecResident()):
        each.reserve(nbytes)
        for tensor, values in inputs:
            each.write(tensor, values)
        results.append(run(each))
    return results


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("mode", ["forward", "grad_input"])
@pytest.mark.parametrize("s", SHAPES, ids=str)
def test_depthwise_convolutions_equal_the_spec(
    device: ResidentDevice,
    s: ConvShape,
    mode: Literal["forward", "grad_input"],
    pattern: str,
    rng: np.random.Generator,
    assert_same_bits: Callable[..., None],
) -> None:
    x, y = (s.N, s.C, s.H, s.W), (s.N, s.K, s.P, s.Q)
    w = np.maximum(_values("int8", (s.C, 1, s.R, s.S), pattern, rng), -127)
    kinds = ("uint8", "int8") if mode == "forward" else ("int8", "int16")
    for kind, result, shift in ((kinds[0], "int8", 3), (kinds[1], "int16", 0), (kinds[1], "int16", 33)):
        (source, destination), nbytes = _tensors(
            *zip((kind, result), (x, y) if mode == "forward" else (y, x), strict=True)
        )
        call = Convolution(
            mode=mode,
            source=source,
            destination=destination,
            w=w,
            stride=s.stride,
            padding=s.padding,
            shift=shift,
            depthwise=True,
            sums=mode == "forward",
        )
        if is_refused(device, call, nbytes):
            continue
        values = _values(kind, source.shape, pattern, rng)

        def run(each: ResidentDevice, call: Convolution = call) -> Any:
            written = each.convolve(call)
            return written, each.read(call.destination)

        (got, got_values), (want, want_values) = _both(device, nbytes, [(source, values)], run)
        assert_same_bits(got_values, want_values, case=f"{s} {kind} to {result}", values=values, w=w)
        assert (got.largest, got.saturations) == (want.largest, want.saturations)
        if mode == "forward":
            assert_same_bits(got.sums, want.sums, case="sums")
            assert_same_bits(got.squares, want.squares, case="squares")


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("s", SHAPES, ids=str)
def test_depthwise_weight_gradients_equal_the_spec(
    device: ResidentDevice,
    s: ConvShape,
    pattern: str,
    rng: np.random.Generator,
    assert_same_bits: Callable[..., None],
) -> None:
    for x_kind, g_kind, bits in (
        ("uint8", "int16", (0, 0)),
        ("int8", "int8", (0, 0)),
        ("uint8", "int16", (4, 10)),
    ):
        (x, gy), nbytes = _tensors((x_kind, (s.N, s.C, s.H, s.W)), (g_kind, (s.N, s.K, s.P, s.Q)))
        inputs = [(tensor, _values(tensor.kind, tensor.shape, pattern, rng)) for tensor in (x, gy)]
        call = WeightGradient(
            x=x,
            gy=gy,
            kernel=(s.R, s.S),
            stride=s.stride,
            padding=s.padding,
            depthwise=True,
            x_bits=bits[0],
            g_bits=bits[1],
        )
        if is_refused(device, call, nbytes):
            continue
        got, want = _both(device, nbytes, inputs, lambda each, call=call: each.weight_gradient(call))
        assert_same_bits(got, want, case=f"{s} {x_kind} {g_kind} {bits}", x=inputs[0][1], gy=inputs[1][1])


@pytest.mark.parametrize("s", SHAPES, ids=str)
def test_spec_of_depthwise_convolutions_equals_torch(s: ConvShape, rng: np.random.Generator) -> None:
    top, bottom, left, right = s.padding
    x = _values("uint8", (s.N, s.C, s.H, s.W), "random", rng)
    w = _values("int8", (s.C, 1, s.R, s.S), "random", rng)
    gy = _values("int16", (s.N, s.K, s.P, s.Q), "random", rng)
    leaf_x, leaf_w = (torch.from_numpy(values).double().requires_grad_() for values in (x, w))
    y = F.conv2d(F.pad(leaf_x, (left, right, top, bottom)), leaf_w, stride=s.stride, groups=s.C)
    y.backward(torch.from_numpy(gy).double())
    how: dict[str, Any] = {"stride": s.stride, "padding": s.padding}
    found = (
        numerics.conv_forward(x, w, **how),
        numerics.conv_grad_input(gy, w, size=(s.H, s.W), depthwise=True, **how),
        numerics.conv_grad_weight(x, gy, kernel=(s.R, s.S), depthwise=True, **how),
    )
    for got, want in zip(found, (y.detach(), leaf_x.grad, leaf_w.grad), strict=True):
        assert want is not None
        assert np.array_equal(got, want.numpy())


def test_ceilings_and_masks_by_hand() -> None:
    u = np.array([[[[-9, 0, 5, 11, 12, 40]]]])
    one, zero = np.array([1]), np.array([0])
    out, report = numerics.affine(u, None, a=one, b=zero, d=zero, shift=1, kind="uint8", relu=True, ceiling=6)
    assert out[0, 0, 0].tolist() == [0, 0, 3, 6, 6, 6]  # 5.5 rounds up to the ceiling
    assert (report.largest, report.saturations) == (6, 0)
    assert report.sums is not None
    assert report.sums.tolist() == [[21]]
    g = np.array([[[[1, 2, 4, 8, 16, 32]]]])
    sums, products = numerics.reduce(g, g, mask=out, mask_limit=6)
    assert (sums.tolist(), products.tolist()) == ([[4]], [[16]])
    for mask_out, want in ((False, [7, 7, 11, 7, 7, 7]), (True, [0, 0, 11, 0, 0, 0])):
        masked, _ = numerics.affine(
            g,
            None,
            a=one,
            b=zero,
            d=7 * one,
            shift=0,
            kind="int8",
            mask=out,
            mask_limit=6,
            mask_out=mask_out,
        )
        assert masked[0, 0, 0].tolist() == want


@pytest.mark.parametrize("limit", [1, 2, 200, 255, 256, 32_767, 32_768, LARGEST])
@pytest.mark.parametrize("kind", ["uint8", "int16"])
def test_ceilings_and_masks_equal_the_spec(
    device: ResidentDevice,
    kind: str,
    limit: int,
    rng: np.random.Generator,
    assert_same_bits: Callable[..., None],
) -> None:
    shape = (2, 20, 5, 7)
    (u, v, mask, out), nbytes = _tensors(("int16", shape), ("int16", shape), (kind, shape), (kind, shape))
    inputs = [(tensor, _values(tensor.kind, shape, "random", rng)) for tensor in (u, v, mask)]
    inputs[2][1][0, 0, 0, :5] = [0, 1, 200, 199, 201]
    inputs[2][1][0, 1, 0, :3] = np.clip([limit - 1, limit, limit + 1], 0, np.iinfo(kind).max)
    a, b = (rng.integers(-9000, 9000, 20) for _ in range(2))
    d = rng.integers(-(1 << 25), 1 << 25, 20)
    for how in ({}, {"mask": mask}, {"mask": mask, "mask_out": True}):
        call = Affine(
            u=u,
            v=v,
            out=out,
            a=a,
            b=b,
            d=d,
            shift=12,
            relu=True,
            ceiling=limit,
            mask_limit=limit,
            sums=True,
            **how,
        )
        if is_refused(device, call, nbytes):
            continue

        def run(each: ResidentDevice, call: Affine = call) -> Any:
            written = each.affine(call)
            return written, each.read(call.out)

        (got, got_values), (want, want_values) = _both(device, nbytes, inputs, run)
        assert_same_bits(got_values, want_values, case=f"affine {limit} {sorted(how)}")
        assert_same_bits(got.sums, want.sums, case="sums")
        assert (got.largest, got.saturations) == (want.largest, want.saturations)
        assert want.largest <= limit
    reduction = Reduction(u=u, v=v, mask=mask, mask_limit=limit)
    if is_refused(device, reduction, nbytes):
        return
    for got, want in zip(*_both(device, nbytes, inputs, lambda each: each.reduce(reduction)), strict=True):
        assert_same_bits(got, want, case=f"reduce {limit}")


def test_calls_that_make_no_sense_are_refused() -> None:
    (x, y, few), _ = _tensors(("int8", (1, 4, 3, 3)), ("int16", (1, 4, 3, 3)), ("int16", (1, 3, 3, 3)))
    how: dict[str, Any] = {"stride": (1, 1), "padding": (0, 0, 0, 0), "depthwise": True}
    for w, destination, message in (
        ((4, 1, 1, 1), few, "layer (forward): a depthwise convolution of 4 channels gives as many, not 3"),
        ((4, 4, 1, 1), y, "layer (forward): weights must be int8 (K, 1, R, S), not (4, 4, 1, 1)"),
    ):
        with pytest.raises(ShapeError) as caught:
            Convolution(
                mode="forward", source=x, destination=destination, w=np.zeros(w, np.int8), shift=0, **how
            )
        assert str(caught.value) == message
    with pytest.raises(ShapeError) as caught:
        WeightGradient(x=x, gy=few, kernel=(1, 1), **how)
    assert (
        str(caught.value) == "layer (grad_weight): a depthwise convolution of 4 channels gives as many, not 3"
    )
    with pytest.raises(ShapeError) as caught:
        Reduction(u=y, v=y, mask_limit=0, name="norm")
    assert str(caught.value) == f"norm (reduce): ceilings must be in 1..{LARGEST}, not 0"
