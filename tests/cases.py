# SPDX-License-Identifier: Apache-2.0
"""Convolutions to test every device with: corners first, then random ones."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from e2train.devices.protocol import ConvShape, LayerCall
from e2train.numerics import (
    conv_forward,
    conv_grad_input,
    conv_grad_weight,
    keep_high,
    round_shift,
    saturate,
)

SAME = (1, 1, 1, 1)


@dataclass(frozen=True, kw_only=True)
class ConvCase:
    """A shape with a pattern for its operands."""

    name: str
    shape: ConvShape
    pattern: str = "random"
    signed: bool = False  # x is int8, not uint8
    shift: int = 0

    def __str__(self) -> str:
        return self.name


def _case(
    name: str, /, *, pattern: str = "random", signed: bool = False, shift: int = 0, **shape
) -> ConvCase:
    full = {"N": 2, "C": 16, "H": 8, "W": 8, "K": 16, "R": 3, "S": 3, "padding": SAME} | shape
    return ConvCase(name=name, shape=ConvShape(**full), pattern=pattern, signed=signed, shift=shift)


_SMALL = {"N": 2, "C": 3, "H": 9, "W": 7, "K": 5}

CORNERS = (
    _case("one of everything", N=1, C=1, H=1, W=1, K=1, R=1, S=1, padding=(0, 0, 0, 0)),
    _case("no images", N=0),
    _case("resnet block", shift=9),
    _case("signed x", signed=True, shift=1),
    _case("one channel in", C=1, shift=2),
    _case("one channel out", K=1, shift=3),
    _case("one lane too many", C=17, K=9, shift=4),
    _case("down", C=16, K=32, stride=(2, 2), shift=5),
    _case("down, odd image", C=17, H=9, W=7, stride=(2, 2), shift=6),
    _case("projection", C=16, K=32, R=1, S=1, stride=(2, 2), padding=(0, 0, 0, 0)),
    _case("7x7", **_SMALL, R=7, S=7, padding=(3, 3, 3, 3)),
    _case("7x7 down", **_SMALL, R=7, S=7, padding=(3, 3, 3, 3), stride=(2, 2)),
    _case("kernel as big as the image", **_SMALL, R=7, S=7, padding=(0, 0, 0, 0)),
    _case("stride in one direction", **_SMALL, R=4, S=2, stride=(2, 1)),
    _case("even kernel, uneven padding", **_SMALL, R=2, S=6, padding=(0, 3, 2, 5)),
    _case("padding wider than the kernel", **_SMALL, R=1, S=2, padding=(4, 5, 6, 4), stride=(2, 2)),
    _case("rows and columns left over", **_SMALL, R=2, S=2, padding=(0, 0, 0, 0), stride=(2, 2)),
    _case("a line", N=3, C=2, H=1, W=40, K=3, R=1, S=5, padding=(0, 0, 2, 2)),
    _case("image larger than the buffer", N=2, C=5, H=60, W=70, K=3, shift=7),
    _case("line longer than a tile may be", N=1, C=2, H=3, W=530, K=2),
    _case("channels split", N=1, C=600, H=4, W=4, K=9, R=7, S=7, padding=(3, 3, 3, 3), shift=8),
    _case("weights larger than the buffer", N=1, C=64, H=5, W=5, K=136, shift=8),
    _case("all lowest", pattern="lowest", signed=True),
    _case("all highest", pattern="highest"),
    _case("alternating extremes", pattern="alternating", signed=True),
    _case("input gradient saturates", N=1, C=8, H=4, W=4, K=300, pattern="lowest"),
    _case(
        "input gradient split and saturates",
        N=1,
        C=8,
        H=3,
        W=3,
        K=520,
        R=5,
        S=5,
        padding=(2, 2, 2, 2),
        pattern="highest",
    ),
)


def random_case(rng: np.random.Generator) -> ConvCase:
    """Any convolution that the engine takes, small enough for the spec."""
    R, S = (int(size) for size in rng.integers(1, 8, 2))
    top, bottom, left, right = (int(size) for size in rng.integers(0, 5, 4))
    H, W = int(rng.integers(max(1, R - top - bottom), 20)), int(rng.integers(max(1, S - left - right), 20))
    N, C, K = int(rng.integers(1, 4)), int(rng.integers(1, 40)), int(rng.integers(1, 40))
    stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    shape = ConvShape(N=N, C=C, H=H, W=W, K=K, R=R, S=S, stride=stride, padding=(top, bottom, left, right))
    signed, shift = bool(rng.integers(2)), int(rng.integers(0, 20))
    return ConvCase(name=f"{shape}", shape=shape, signed=signed, shift=shift)


def operand(
    pattern: str, dtype: type, shape: tuple[int, ...], rng: np.random.Generator, *, low: int | None = None
):
    """Integers of the whole range of a dtype, or from ``low`` up."""
    info = np.iinfo(dtype)
    low = info.min if low is None else low
    if pattern == "random":
        return rng.integers(low, info.max + 1, shape).astype(dtype)
    if pattern == "alternating":
        return np.where(np.arange(int(np.prod(shape))).reshape(shape) % 2, low, info.max).astype(dtype)
    return np.full(shape, low if pattern == "lowest" else info.max, dtype)


def calls(case: ConvCase, rng: np.random.Generator) -> Iterator[tuple[LayerCall, np.ndarray, int]]:
    """The three calls of a case, each with the spec's result and count of saturations."""
    s, geometry = case.shape, {"stride": case.shape.stride, "padding": case.shape.padding}
    x = operand(case.pattern, np.int8 if case.signed else np.uint8, (s.N, s.C, s.H, s.W), rng)
    w = operand(case.pattern, np.int8, (s.K, s.C, s.R, s.S), rng, low=-127)
    gy = operand(case.pattern, np.int16, (s.N, s.K, s.P, s.Q), rng)
    y = conv_forward(x, w, **geometry)
    yield LayerCall(mode="forward", shape=s, a=x, b=w, name=case.name), y.astype(np.int32), 0
    gx = round_shift(conv_grad_input(gy, w, size=(s.H, s.W), **geometry), case.shift)
    fitted, saturations = saturate(gx, bits=32)
    call = LayerCall(mode="grad_input", shape=s, a=gy, b=w, shift=case.shift, name=case.name)
    yield call, fitted.astype(np.int32), saturations
    gw = conv_grad_weight(x, gy, kernel=(s.R, s.S), **geometry)
    yield LayerCall(mode="grad_weight", shape=s, a=x, b=gy, name=case.name), gw, 0
    kept = {"x_bits": int(rng.integers(1, 5)), "g_bits": int(rng.integers(1, 11))}
    call = LayerCall(mode="grad_msb", shape=s, a=x, b=gy, name=case.name, **kept)
    yield call, high_bits_gradient(call), 0


def high_bits_gradient(call: LayerCall) -> np.ndarray:
    """The spec's result of a grad_msb call."""
    s = call.shape
    x = keep_high(call.a.astype(np.int64), bits=8, kept=call.x_bits, signed=call.a.dtype == np.int8)
    gy = keep_high(call.b.astype(np.int64), bits=16, kept=call.g_bits, signed=True)
    return conv_grad_weight(x, gy, kernel=(s.R, s.S), stride=s.stride, padding=s.padding)
