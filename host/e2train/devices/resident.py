# SPDX-License-Identifier: Apache-2.0
"""Tensors that stay in a device's memory, the operations on them, and what a device must do for both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from e2train.devices.protocol import ConvShape, Counters, ShapeError, check_sums
from e2train.numerics.blocks import LANES, block_count
from e2train.numerics.elementwise import (
    COEFFICIENT_LIMIT,
    KINDS,
    LARGEST,
    OFFSET_LIMIT,
    SHIFT_LIMIT,
    VIEWS,
    Kind,
    View,
    Written,
)
from e2train.numerics.rounding import DITHER_PHASES, Ints

__all__ = [
    "ALIGNMENT",
    "Affine",
    "BatchDevice",
    "Convolution",
    "DeviceTensor",
    "Operation",
    "Reduction",
    "ResidentDevice",
    "Span",
    "WeightGradient",
    "run_one_by_one",
    "run_operation",
    "run_operations",
    "sample_bytes",
]

ALIGNMENT = 64  # of a sample in a device's memory, in bytes
_MOST_SHIFT = 40


def sample_bytes(kind: Kind, C: int, H: int, W: int) -> int:
    """Bytes of one sample in a device's memory.

    >>> sample_bytes("int16", 20, 8, 8)
    4096
    """
    return block_count(C) * LANES * H * W * np.dtype(kind).itemsize


class Span(NamedTuple):
    """Bytes of a device's memory, and whether every sample in them begins at a multiple of ``ALIGNMENT``."""

    first: int
    end: int
    aligned: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeviceTensor:
    """Samples in a device's memory, each where its offset says, in the layout NCHW16c.

    ``view`` is how an element-wise operation reads them.
    """

    kind: Kind
    C: int
    H: int
    W: int
    offsets: NDArray[np.int64]  # bytes from the start of the memory to each sample
    view: View = "whole"
    _span: Span | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.view not in VIEWS:
            raise ShapeError(f"no tensor of kind {self.kind!r} and view {self.view!r}")
        if min(self.C, self.H, self.W) < 1 or self.offsets.ndim != 1 or self.offsets.dtype != np.int64:
            raise ShapeError(f"a tensor needs channels, pixels and one int64 offset per sample, not {self}")
        self.offsets.flags.writeable = False

    @property
    def N(self) -> int:  # noqa: N802
        """Samples."""
        return len(self.offsets)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        return self.N, self.C, self.H, self.W

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample."""
        return sample_bytes(self.kind, self.C, self.H, self.W)

    @property
    def span(self) -> Span:
        """The bytes between which all samples lie, of which there is at least one."""
        if self._span is None:
            o = self.offsets
            end = int(o.max()) + self.sample_bytes
            object.__setattr__(self, "_span", Span(int(o.min()), end, not (o & (ALIGNMENT - 1)).any()))
        assert self._span is not None
        return self._span

    @property
    def nbytes(self) -> int:
        """Bytes of all samples, lanes left over included."""
        return self.N * self.sample_bytes

    def take(self, samples: NDArray[np.int64]) -> DeviceTensor:
        """Some of the samples, by their numbers."""
        return replace(self, offsets=self.offsets[samples])

    def seen(self, view: View) -> DeviceTensor:
        """The same memory, read otherwise."""
        return replace(self, view=view)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Convolution:
    """``forward``: destination = conv(source, w); ``grad_input``: destination = conv_transpose(source, w).

    Results are rounded as ``numerics.rounded_conv`` says. A depthwise one gives each channel of its own: K
    is C.
    """

    mode: Literal["forward", "grad_input"]
    source: DeviceTensor
    destination: DeviceTensor
    w: NDArray[np.int8]  # (K, C, R, S), or (C, 1, R, S) of a depthwise one
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]  # top, bottom, left, right
    shift: int
    depthwise: bool = False
    sums: bool = False  # forward alone: report sums and sums of squares by channel
    name: str = ""

    def __post_init__(self) -> None:
        x, y = (self.source, self.destination)[:: 1 if self.mode == "forward" else -1]
        sources = ("uint8", "int8") if self.mode == "forward" else ("int8", "int16")
        shape = self.shape
        results = ("int8", "int16")
        _check_depthwise(self.label, self.depthwise, x.C, y.C)
        depth = 1 if self.depthwise else x.C
        if self.w.dtype != np.int8 or self.w.ndim != 4 or self.w.shape[1] != depth:
            raise ShapeError(f"{self.label}: weights must be int8 (K, {depth}, R, S), not {self.w.shape}")
        if y.shape != (shape.N, shape.K, shape.P, shape.Q) or x.view != "whole" or y.view != "whole":
            raise ShapeError(f"{self.label}: {x.shape} with weights {self.w.shape} does not give {y.shape}")
        if self.source.kind not in sources or self.destination.kind not in results:
            raise ShapeError(
                f"{self.label}: from {self.source.kind} to {self.destination.kind}; "
                f"it takes {' or '.join(sources)} to {' or '.join(results)}"
            )
        if self.sums and self.mode != "forward":
            raise ShapeError(f"{self.label}: sums are those of forward alone")
        if not 0 <= self.shift <= _MOST_SHIFT:
            raise ShapeError(f"{self.label}: shift is {self.shift}, must be 0..{_MOST_SHIFT}")
        check_sums(self.mode, _summed(shape, self.depthwise), self.w, name=self.name)

    @property
    def shape(self) -> ConvShape:
        """The convolution's dimensions."""
        x = self.source if self.mode == "forward" else self.destination
        K, _, R, S = self.w.shape
        return ConvShape(N=x.N, C=x.C, H=x.H, W=x.W, K=K, R=R, S=S, stride=self.stride, padding=self.padding)

    @property
    def macs(self) -> int:
        """Multiply-accumulates, as ``ConvShape.macs`` counts them."""
        s = self.shape
        return s.macs // s.C if self.depthwise else s.macs

    @property
    def label(self) -> str:
        """Layer and mode, for messages."""
        return f"{self.name or 'layer'} ({self.mode})"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightGradient:
    """gw = correlate(x, gy); with ``x_bits`` and ``g_bits`` of the high bits of both alone, rounded."""

    x: DeviceTensor
    gy: DeviceTensor
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    depthwise: bool = False
    x_bits: int = 0  # high bits kept, 0: all
    g_bits: int = 0
    name: str = ""

    def __post_init__(self) -> None:
        s = self.shape
        if self.gy.shape != (s.N, s.K, s.P, s.Q) or self.x.view != "whole" or self.gy.view != "whole":
            raise ShapeError(f"{self.label}: x {self.x.shape} and gy {self.gy.shape} do not belong together")
        _check_depthwise(self.label, self.depthwise, s.C, s.K)
        if self.x.kind == "int16" or self.gy.kind == "uint8":
            raise ShapeError(
                f"{self.label}: x must have 8 bits and gy a sign, not {self.x.kind}, {self.gy.kind}"
            )
        for bits, tensor in ((self.x_bits, self.x), (self.g_bits, self.gy)):
            if not 0 <= bits <= 8 * np.dtype(tensor.kind).itemsize:
                raise ShapeError(f"{self.label}: {bits} high bits of {tensor.kind}")
        check_sums(self.mode, _summed(s, self.depthwise), name=self.name)

    @property
    def shape(self) -> ConvShape:
        """The convolution's dimensions."""
        x, (R, S) = self.x, self.kernel
        return ConvShape(
            N=x.N, C=x.C, H=x.H, W=x.W, K=self.gy.C, R=R, S=S, stride=self.stride, padding=self.padding
        )

    @property
    def weights(self) -> tuple[int, int, int, int]:
        """Shape of the gradient."""
        s = self.shape
        return s.K, 1 if self.depthwise else s.C, s.R, s.S

    @property
    def macs(self) -> int:
        """Multiply-accumulates, as ``ConvShape.macs`` counts them."""
        s = self.shape
        return s.macs // s.C if self.depthwise else s.macs

    @property
    def mode(self) -> Literal["grad_weight", "grad_msb"]:
        """Whether all bits count."""
        return "grad_msb" if self.x_bits or self.g_bits else "grad_weight"

    @property
    def label(self) -> str:
        """Layer and mode, for messages."""
        return f"{self.name or 'layer'} ({self.mode})"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Affine:
    """out = saturate(round_shift(a*u + b*v + d, shift)) as ``numerics.affine`` says; out may be u or v."""

    u: DeviceTensor
    v: DeviceTensor | None = None
    mask: DeviceTensor | None = None
    out: DeviceTensor
    a: Ints  # (C,)
    b: Ints
    d: Ints
    shift: int
    relu: bool = False
    ceiling: int = LARGEST  # of what is written, in its LSBs
    mask_limit: int = LARGEST  # the mask opens above zero and below this
    mask_out: bool = False
    sums: bool = False  # report sums per sample and channel
    dither: int | None = None  # phase of each sample's first value; None: halves are rounded up
    name: str = ""

    def __post_init__(self) -> None:
        out = self.out
        for operand in (self.u, self.v, self.mask):
            if operand is not None:
                _check_view(self.name, operand, out)
        for values, limit in (
            (self.a, COEFFICIENT_LIMIT),
            (self.b, COEFFICIENT_LIMIT),
            (self.d, OFFSET_LIMIT),
        ):
            if values.shape != (out.C,) or values.min() < -limit or values.max() > limit:
                raise ShapeError(f"{self.name} (affine): coefficients must be ({out.C},) and at most {limit}")
        if not 0 <= self.shift <= SHIFT_LIMIT or out.view != "whole":
            raise ShapeError(f"{self.name} (affine): shift is {self.shift}, must be 0..{SHIFT_LIMIT}")
        _check_limit(f"{self.name} (affine)", self.ceiling, self.mask_limit)
        if self.dither is not None and not 0 <= self.dither < DITHER_PHASES:
            raise ShapeError(f"{self.name} (affine): dither is {self.dither}, must be 0..{DITHER_PHASES - 1}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reduction:
    """Sums of u and u*v by channel, or by sample and channel, where the mask, if any, opens."""

    u: DeviceTensor
    v: DeviceTensor
    mask: DeviceTensor | None = None
    mask_limit: int = LARGEST
    per_sample: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        for operand in (self.v, self.mask):
            if operand is not None and (operand.shape != self.u.shape or operand.view != "whole"):
                raise ShapeError(f"{self.name} (reduce): {operand.shape} and {self.u.shape} differ")
        if self.u.view != "whole":
            raise ShapeError(f"{self.name} (reduce): u is read whole, not {self.u.view}")
        _check_limit(f"{self.name} (reduce)", self.mask_limit)


def _check_depthwise(label: str, depthwise: bool, C: int, K: int) -> None:
    if depthwise and K != C:
        raise ShapeError(f"{label}: a depthwise convolution of {C} channels gives as many, not {K}")


def _summed(shape: ConvShape, depthwise: bool) -> ConvShape:
    """The convolution whose products one sum adds up."""
    return replace(shape, C=1, K=1) if depthwise else shape


def _check_limit(label: str, *limits: int) -> None:
    for limit in limits:
        if not 1 <= limit <= LARGEST:
            raise ShapeError(f"{label}: ceilings must be in 1..{LARGEST}, not {limit}")


def _check_view(name: str, operand: DeviceTensor, out: DeviceTensor) -> None:
    H, W = out.H, out.W
    sizes = {
        "whole": [(H, W)],
        "strided": [(h, w) for h in (2 * H - 1, 2 * H) for w in (2 * W - 1, 2 * W)],
        "spread": [(-(-H // 2), -(-W // 2))],
        "broadcast": [(1, 1)],
    }
    if operand.N != out.N or (operand.H, operand.W) not in sizes[operand.view]:
        raise ShapeError(f"{name} (affine): {operand.shape} seen {operand.view} is no operand of {out.shape}")


Operation = Convolution | WeightGradient | Affine | Reduction


@runtime_checkable
class ResidentDevice(Protocol):
    """A device that keeps tensors in its memory and computes on them there."""

    @property
    def name(self) -> str: ...
    @property
    def memory_bytes(self) -> int | None:
        """The most that can be reserved; None where it is not known."""
        ...

    def reserve(self, nbytes: int) -> None:
        """Have at least so much memory; where it has to grow, what was in it is lost."""
        ...

    def write(self, tensor: DeviceTensor, values: NDArray[Any]) -> None:
        """Put values (N, C, H, W) of the tensor's kind into the memory."""
        ...

    def read(self, tensor: DeviceTensor) -> NDArray[Any]:
        """Values (N, C, H, W) from the memory."""
        ...

    def convolve(self, call: Convolution) -> Written: ...
    def weight_gradient(self, call: WeightGradient) -> Ints: ...
    def affine(self, call: Affine) -> Written: ...
    def reduce(self, call: Reduction) -> tuple[Ints, Ints]: ...
    def take_counters(self) -> Counters:
        """Cycles, frames and words of the operations since this was last asked, as far as there are any."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class BatchDevice(ResidentDevice, Protocol):
    """A device for which several operations at a time cost less than one by one."""

    def run_batch(self, calls: Sequence[Operation]) -> list[tuple[Any, Counters]]:
        """Operations in order, each of which may read what those before it wrote.

        Gives for each what the method of its own would, and the counters of it.
        """
        ...


def run_operations(device: ResidentDevice, calls: Sequence[Operation]) -> list[tuple[Any, Counters]]:
    """Outcomes and counters of operations in order, together where the device takes several."""
    return device.run_batch(calls) if isinstance(device, BatchDevice) else run_one_by_one(device, calls)


def run_one_by_one(device: ResidentDevice, calls: Sequence[Operation]) -> list[tuple[Any, Counters]]:
    """The same on a device that may take several, but is not asked to."""
    return [(run_operation(device, call), device.take_counters()) for call in calls]


def run_operation(device: ResidentDevice, call: Operation) -> Any:
    """What the device's method for an operation gives."""
    if isinstance(call, Convolution):
        return device.convolve(call)
    if isinstance(call, WeightGradient):
        return device.weight_gradient(call)
    return device.affine(call) if isinstance(call, Affine) else device.reduce(call)
