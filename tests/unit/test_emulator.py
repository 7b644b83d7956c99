# SPDX-License-Identifier: Apache-2.0
"""The emulator against the NumPy spec, with operands chosen to break floating point."""

from collections.abc import Iterator
from dataclasses import replace

import cases
import numpy as np
import pytest
import torch
from e2train import numerics
from e2train.devices.emulator import Emulator, single
from e2train.devices.emulator.device import fast_is_exact
from e2train.devices.protocol import ConvShape, LayerCall

INT32_MAX = (1 << 31) - 1
SHAPES = {
    "resnet block": ConvShape(N=3, C=16, H=10, W=9, K=8, R=3, S=3, padding=(1, 1, 1, 1)),
    "down, row and column left over": ConvShape(
        N=2, C=5, H=9, W=8, K=7, R=3, S=3, stride=(2, 2), padding=(1, 1, 1, 1)
    ),
    "projection": ConvShape(N=2, C=6, H=8, W=7, K=4, R=1, S=1, stride=(2, 2)),
    "stride in one direction": ConvShape(N=2, C=3, H=7, W=9, K=5, R=2, S=4, stride=(2, 1)),
    "uneven padding": ConvShape(N=2, C=3, H=6, W=5, K=2, R=5, S=4, padding=(0, 3, 2, 1)),
    "padding wider than the kernel": ConvShape(N=1, C=2, H=3, W=3, K=2, R=2, S=2, padding=(3, 3, 3, 3)),
    "7x7": ConvShape(N=1, C=3, H=11, W=11, K=4, R=7, S=7, stride=(2, 2), padding=(3, 3, 3, 3)),
    "one of everything": ConvShape(N=1, C=1, H=1, W=1, K=1, R=1, S=1),
    "no images": ConvShape(N=0, C=2, H=4, W=4, K=3, R=3, S=3, padding=(1, 1, 1, 1)),
    "beyond 2**24": ConvShape(N=2, C=200, H=5, W=5, K=150, R=3, S=3, padding=(1, 1, 1, 1)),
}
PATTERNS = ("random", "lowest", "highest", "alternating", "halves", "sparse extremes")


def operand(pattern: str, dtype: type, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Integers of the whole range of ``dtype``, in a pattern that stresses partial sums."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    index = np.arange(int(np.prod(shape))).reshape(shape)
    extremes = {
        "lowest": lambda: np.full(shape, low),
        "highest": lambda: np.full(shape, high),
        "alternating": lambda: np.where(index % 2, low, high),
        # The first half of the channels sums up as far as it can, the second half cancels it.
        "halves": lambda: np.where(np.arange(shape[1])[:, None, None] * 2 < shape[1], high, low) + 0 * index,
        "sparse extremes": lambda: rng.choice([low, 0, 1, high], shape),
        "random": lambda: rng.integers(low, high + 1, shape),
    }
    return extremes[pattern]().astype(dtype)


def calls(shape: ConvShape, pattern: str, rng: np.random.Generator) -> Iterator[LayerCall]:
    """Every mode, x signed and unsigned, shifts from none to one that rounds."""
    s = shape
    w = operand(pattern, np.int8, (s.K, s.C, s.R, s.S), rng)
    gy = operand(pattern, np.int16, (s.N, s.K, s.P, s.Q), rng)
    for dtype in (np.uint8, np.int8):
        x = operand(pattern, dtype, (s.N, s.C, s.H, s.W), rng)
        yield LayerCall(mode="forward", shape=s, a=x, b=w)
        yield LayerCall(mode="grad_weight", shape=s, a=x, b=gy)
        for x_bits, g_bits in ((4, 10), (1, 1), (3, 5)):
            yield LayerCall(mode="grad_msb", shape=s, a=x, b=gy, x_bits=x_bits, g_bits=g_bits)
    for shift in (0, 1, 13):
        yield LayerCall(mode="grad_input", shape=s, a=gy, b=w, shift=shift)


def spec(call: LayerCall) -> tuple[np.ndarray, int]:
    s = call.shape
    how = {"stride": s.stride, "padding": s.padding}
    if call.mode == "forward":
        return numerics.conv_forward(call.a, call.b, **how).astype(np.int32), 0
    if call.mode == "grad_msb":
        return cases.high_bits_gradient(call), 0
    if call.mode == "grad_weight":
        return numerics.conv_grad_weight(call.a, call.b, kernel=(s.R, s.S), **how), 0
    full = numerics.conv_grad_input(call.a, call.b, size=(s.H, s.W), **how)
    value, saturations = numerics.saturate(numerics.round_shift(full, call.shift), bits=32)
    return value.astype(np.int32), saturations


def assert_equals_spec(emulator: Emulator, call: LayerCall) -> None:
    result = emulator.compute(call)
    want, saturations = spec(call)
    np.testing.assert_array_equal(result.value, want, strict=True, err_msg=call.label)
    assert result.saturations == saturations
    assert result.counters.macs == call.shape.macs


@pytest.fixture(scope="module", params=[True, False], ids=["fast", "plain"])
def emulator(request: pytest.FixtureRequest) -> Emulator:
    if request.param and not fast_is_exact():
        pytest.skip("float32 convolutions are plain multiply-add only with oneDNN on x86-64")
    return Emulator(fast=request.param)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_equals_spec(emulator: Emulator, shape: ConvShape, pattern: str) -> None:
    for call in calls(shape, pattern, np.random.default_rng(1)):
        assert_equals_spec(emulator, call)


@pytest.mark.parametrize("x_dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("pattern", ["lowest", "highest", "halves"])
def test_grad_weight_sums_past_int32(emulator: Emulator, pattern: str, x_dtype: type) -> None:
    shape = ConvShape(N=36, C=1, H=64, W=64, K=1, R=1, S=1)  # 147,456 equal products of 2**14
    rng = np.random.default_rng(2)
    x, gy = operand(pattern, x_dtype, (36, 1, 64, 64), rng), operand(pattern, np.int16, (36, 1, 64, 64), rng)
    assert_equals_spec(emulator, LayerCall(mode="grad_weight", shape=shape, a=x, b=gy))
    assert_equals_spec(emulator, LayerCall(mode="grad_msb", shape=shape, a=x, b=gy, x_bits=4, g_bits=10))


@pytest.mark.parametrize("pattern", ["lowest", "highest"])
@pytest.mark.parametrize(
    "size", [(33, 32), (3, 1100), (5, 9)], ids=["many rows", "a row too long", "images left over"]
)
def test_grad_weight_splits_samples_and_positions(
    emulator: Emulator, size: tuple[int, int], pattern: str
) -> None:
    shape = ConvShape(N=25, C=2, H=size[0], W=size[1], K=2, R=3, S=3, padding=(1, 1, 1, 1))
    rng = np.random.default_rng(9)
    x = operand(pattern, np.uint8, (25, 2, *size), rng)
    gy = operand(pattern, np.int16, (25, 2, *size), rng)
    assert_equals_spec(emulator, LayerCall(mode="grad_weight", shape=shape, a=x, b=gy))
    assert_equals_spec(emulator, LayerCall(mode="grad_msb", shape=shape, a=x, b=gy, x_bits=4, g_bits=10))


def test_one_thread_equals_spec(emulator: Emulator) -> None:
    """With one thread and a small batch torch would turn to NNPACK, whose Winograd rounds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for call in calls(SHAPES["resnet block"], "random", np.random.default_rng(3)):
            assert_equals_spec(emulator, call)
    finally:
        torch.set_num_threads(threads)


def test_low_precision_products_allowed_by_the_user_stay_exact(emulator: Emulator) -> None:
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        for call in calls(SHAPES["beyond 2**24"], "sparse extremes", np.random.default_rng(4)):
            assert_equals_spec(emulator, call)
    finally:
        torch.set_float32_matmul_precision(precision)


def test_saturations_are_counted(emulator: Emulator) -> None:
    shape = ConvShape(N=1, C=1, H=1, W=2, K=600, R=1, S=1)
    gy, w = np.full((1, 600, 1, 2), 32_767, np.int16), np.full((600, 1, 1, 1), 127, np.int8)
    gy[..., 1] = 1
    result = emulator.compute(LayerCall(mode="grad_input", shape=shape, a=gy, b=w))
    assert result.value.tolist() == [[[[INT32_MAX, 76_200]]]]
    assert result.saturations == 1


def test_tensors_give_a_tensor(emulator: Emulator) -> None:
    call = next(calls(SHAPES["projection"], "random", np.random.default_rng(5)))
    tensors = LayerCall(mode=call.mode, shape=call.shape, a=torch.tensor(call.a), b=torch.tensor(call.b))
    value = emulator.compute(tensors).value
    assert isinstance(value, torch.Tensor)
    assert value.dtype == torch.int32
    np.testing.assert_array_equal(value.numpy(), spec(call)[0])


def test_strided_and_read_only_operands(emulator: Emulator) -> None:
    call = next(calls(SHAPES["resnet block"], "random", np.random.default_rng(6)))
    x = np.asfortranarray(call.a)
    x.flags.writeable = False
    assert_equals_spec(emulator, LayerCall(mode="forward", shape=call.shape, a=x, b=call.b))
    tensor = torch.tensor(call.a).contiguous(memory_format=torch.channels_last)
    value = emulator.compute(
        LayerCall(mode="forward", shape=call.shape, a=tensor, b=torch.tensor(call.b))
    ).value
    np.testing.assert_array_equal(value.numpy(), spec(call)[0])


def test_channel_groups_stay_within_24_bits() -> None:
    w = torch.full((2, 500, 3, 3), -128, dtype=torch.int8)
    groups = single.channel_groups(w, 255)
    assert [g.start for g in groups] == [0, *(g.stop for g in groups[:-1])]
    assert groups[-1].stop == 500
    longest = max(g.stop - g.start for g in groups)
    assert 255 * 128 * 9 * longest <= 1 << 24 < 255 * 128 * 9 * (longest + 1)


def test_one_group_where_the_operands_are_small() -> None:
    assert single.channel_groups(torch.ones((2, 500, 3, 3), dtype=torch.int8), 255) == [slice(0, 500)]


@pytest.mark.parametrize(
    "host",
    [
        "cpu",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
        ),
    ],
)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_tensors_of_a_host_equal_spec(shape: ConvShape, host: str) -> None:
    for call in calls(shape, "sparse extremes", np.random.default_rng(8)):
        a, b = torch.tensor(call.a).to(host), torch.tensor(call.b).to(host)
        result = Emulator().compute(replace(call, a=a, b=b))
        want, saturations = spec(call)
        assert result.value.device.type == host
        np.testing.assert_array_equal(result.value.cpu().numpy(), want, strict=True)
        assert result.saturations == saturations
