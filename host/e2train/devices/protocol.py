# SPDX-License-Identifier: Apache-2.0
"""What a layer asks of a device, and the two kinds of device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from e2train.config import EngineConfig
from e2train.numerics.bounds import ExactnessError, check_exact
from e2train.numerics.frames.layout import G_BITS, X_BITS

__all__ = [
    "MODES",
    "OUTER_MODES",
    "Closing",
    "ConvShape",
    "Counters",
    "DeviceError",
    "DeviceLostError",
    "LayerCall",
    "LayerResult",
    "Mode",
    "ShapeError",
    "StepLostError",
    "StreamDevice",
    "TensorDevice",
    "Transfer",
    "at_once",
    "check_sums",
    "on_host",
    "products_per_multiplier",
]

_T = TypeVar("_T")

Mode = Literal["forward", "grad_input", "grad_weight", "grad_msb"]
Words = NDArray[np.uint64]

MODES: tuple[Mode, ...] = ("forward", "grad_input", "grad_weight", "grad_msb")
OUTER_MODES: tuple[Mode, ...] = ("grad_weight", "grad_msb")  # these sum over samples and positions


class ShapeError(ValueError):
    """A convolution that the engine does not do, or operands that do not belong to it."""


class DeviceError(RuntimeError):
    """A device that cannot be opened, or that did not do what it was asked."""


class DeviceLostError(DeviceError):
    """A device that is gone: to try again is of no use."""


class StepLostError(DeviceError):
    """A device that is ready again, but has lost the tensors of a step: the step may start again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvShape:
    """One convolution: batch, channels, image, kernel, stride (rows, columns), padding (t, b, l, r)."""

    N: int
    C: int
    H: int
    W: int
    K: int
    R: int
    S: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        if self.N < 0 or min(self.C, self.H, self.W, self.K) < 1:
            raise ShapeError(f"channels and image must be at least 1 and the batch at least 0, not {self}")
        if not (1 <= self.R <= 7 and 1 <= self.S <= 7):
            raise ShapeError(f"the engine takes kernels of 1 to 7, not {self.R}x{self.S}; run it on the host")
        if not set(self.stride) <= {1, 2}:
            raise ShapeError(f"the engine takes strides 1 and 2, not {self.stride}; run it on the host")
        if min(self.padding) < 0:
            raise ShapeError(f"padding must be at least 0, not {self.padding}")
        if self.P < 1 or self.Q < 1:
            raise ShapeError(
                f"a {self.R}x{self.S} kernel does not fit a padded image of "
                f"{self.H + sum(self.padding[:2])}x{self.W + sum(self.padding[2:])}"
            )

    @property
    def P(self) -> int:  # noqa: N802
        """Output rows."""
        return (self.H + self.padding[0] + self.padding[1] - self.R) // self.stride[0] + 1

    @property
    def Q(self) -> int:  # noqa: N802
        """Output columns."""
        return (self.W + self.padding[2] + self.padding[3] - self.S) // self.stride[1] + 1

    @property
    def results(self) -> int:
        """Outputs of the forward direction."""
        return self.N * self.K * self.P * self.Q

    @property
    def macs(self) -> int:
        """Multiply-accumulates: padded taps count, zeros from stride do not."""
        return self.N * self.P * self.Q * self.K * self.C * self.R * self.S


def check_sums(mode: Mode, shape: ConvShape, w: Any = None, *, name: str = "") -> None:
    """Refuse a convolution whose sums an accumulator of the engine might not hold.

    Raises: ExactnessError.
    """
    s = shape
    terms = {"forward": s.C * s.R * s.S, "grad_input": s.K * s.R * s.S}.get(mode, s.N * s.P * s.Q)
    check_exact(mode, terms, name=name)
    if w is not None and int(w.min()) < -127:
        label = f"{name or 'layer'} ({mode})"
        raise ExactnessError(f"{label}: weights must be in -127..127, there is -128; quantise narrow")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCall:
    """One convolution to be computed, forward or backward; grad_msb is grad_weight of rounded high bits.

    Shapes: forward (x, w) -> int32 (N, K, P, Q); grad_input (gy, w) -> int32 (N, C, H, W);
    grad_weight, grad_msb (x, gy) -> int64 (K, C, R, S). x uint8 or int8, w int8, gy int16; NumPy or torch.
    """

    mode: Mode
    shape: ConvShape
    a: Any
    b: Any
    shift: int = 0  # grad_input alone: right shift of the result, halves up
    x_bits: int = 0  # grad_msb alone: high bits kept of x and of gy
    g_bits: int = 0
    name: str = ""

    def __post_init__(self) -> None:
        s = self.shape
        x, w, gy = (s.N, s.C, s.H, s.W), (s.K, s.C, s.R, s.S), (s.N, s.K, s.P, s.Q)
        if self.mode not in MODES:
            raise ShapeError(f"{self.label}: mode must be one of {', '.join(MODES)}")
        operands = OPERANDS[self.mode]
        shapes = {"x": x, "w": w, "gy": gy}
        for role, operand in zip(operands, (self.a, self.b), strict=True):
            if tuple(operand.shape) != shapes[role]:
                raise ShapeError(f"{self.label}: {role} is {tuple(operand.shape)}, must be {shapes[role]}")
            if dtype_name(operand) not in _DTYPES[role]:
                raise ShapeError(
                    f"{self.label}: {role} is {dtype_name(operand)}, must be {' or '.join(_DTYPES[role])}"
                )
        if not 0 <= self.shift <= (40 if self.mode == "grad_input" else 0):
            raise ShapeError(f"{self.label}: shift is {self.shift}, must be 0, or 0..40 in grad_input")
        for role, kept, most in (("x", self.x_bits, X_BITS), ("gy", self.g_bits, G_BITS)):
            low, high = (1, most) if self.mode == "grad_msb" else (0, 0)
            if not low <= kept <= high:
                raise ShapeError(
                    f"{self.label}: {kept} high bits of {role}, must be 1..{most} in grad_msb and else 0"
                )

    def of_high_bits(self, x_bits: int, g_bits: int) -> LayerCall:
        """A weight gradient from so many high bits of x and gy; from all of them where there are none."""
        return replace(self, mode="grad_msb", x_bits=x_bits, g_bits=g_bits) if x_bits else self

    @property
    def label(self) -> str:
        """Layer and mode, for messages."""
        return f"{self.name or 'layer'} ({self.mode})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What was executed; adds up. ``cycles`` is None where the device has no clock."""

    macs: int = 0
    host_macs: int = 0  # in float32, of what does not run on the device
    elementwise: int = 0  # multiply-adds of affine and reduce
    dram_bytes: int = 0  # that resident operations address in the device's memory
    host_bytes: int = 0  # that cross between host and a device with resident tensors
    cycles: int | None = None
    words_in: int = 0
    words_out: int = 0
    frames: int = 0
    retries: int = 0
    remote_calls: int = 0
    device_s: float = 0.0  # waiting for a board, and what of it moved bytes
    moving_s: float = 0.0

    def __add__(self, other: Counters) -> Counters:
        # What stayed on the host takes no cycles; otherwise a part is not the whole.
        parts = [part.cycles for part in (self, other) if part.macs or part.frames or part.cycles]
        timed = [cycles for cycles in parts if cycles is not None]
        return Counters(
            macs=self.macs + other.macs,
            host_macs=self.host_macs + other.host_macs,
            elementwise=self.elementwise + other.elementwise,
            dram_bytes=self.dram_bytes + other.dram_bytes,
            host_bytes=self.host_bytes + other.host_bytes,
            cycles=sum(timed) if timed and len(timed) == len(parts) else None,
            words_in=self.words_in + other.words_in,
            words_out=self.words_out + other.words_out,
            frames=self.frames + other.frames,
            retries=self.retries + other.retries,
            remote_calls=self.remote_calls + other.remote_calls,
            device_s=self.device_s + other.device_s,
            moving_s=self.moving_s + other.moving_s,
        )


def at_once(parts: Sequence[Counters], engines: int) -> Counters:
    """The sum of what so many engines run at a time, in this order: the longest of them is the time.

    >>> parts = [Counters(frames=1, cycles=cycles) for cycles in (5, 7, 1)]
    >>> at_once(parts, 2).cycles, at_once(parts, 1).cycles
    (8, 13)
    """
    whole = Counters()
    for first in range(0, len(parts), engines):
        turn = parts[first : first + engines]
        together = sum(turn, Counters())
        if together.cycles is not None:
            together = replace(together, cycles=max(part.cycles or 0 for part in turn))
        whole += together
    return whole


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerResult:
    """The integers of a call, how many were saturated, and what it took."""

    value: Any
    saturations: int = 0
    counters: Counters = field(default_factory=Counters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """The words that came back for one transfer, and what it took, as far as the device reports it."""

    reply: Words
    cycles: int | None = None  # from first word in to last word out
    remote_calls: int = 0
    device_s: float = 0.0
    moving_s: float = 0.0


class Closing:
    """A device that a ``with`` block closes at its end."""

    def close(self) -> None:
        """Let go of what is held."""

    def __enter__(self: _T) -> _T:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Device(Protocol):
    @property
    def name(self) -> str: ...
    def close(self) -> None: ...
    def __enter__(self: _T) -> _T: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class TensorDevice(_Device, Protocol):
    """A device that takes whole tensors."""

    def compute(self, call: LayerCall) -> LayerResult:
        """Compute one call exactly: the integers that the NumPy spec defines, in the shape of its mode.

        The call is valid, and its sums fit the engine's accumulators. NumPy operands give a NumPy result.

        Raises: DeviceError when the device fails, which then has tried as often as is of use.
        """
        ...


@runtime_checkable
class StreamDevice(_Device, Protocol):
    """A device behind a pair of 64-bit streams, such as the engine behind its DMA."""

    @property
    def config(self) -> EngineConfig: ...
    @property
    def parallel(self) -> int:
        """How many transfers may run at once, from as many threads."""
        ...

    @property
    def tries(self) -> int:
        """How often a transfer that fails is worth trying, the first time included."""
        ...

    def transfer(self, words: Words, *, reply_words: int) -> Transfer:
        """Send whole frames as one packet, whose last word carries TLAST, and return the packet that replies.

        What the words say is the caller's business, and so is whether the reply, of at most ``reply_words``
        words, is the one that belongs to them.

        Raises: DeviceError when no reply comes; the device is ready for another try then. DeviceLostError
            when it is not.
        """
        ...


OPERANDS = {
    "forward": ("x", "w"),
    "grad_input": ("gy", "w"),
    "grad_weight": ("x", "gy"),
    "grad_msb": ("x", "gy"),
}
_DTYPES = {"x": ("uint8", "int8"), "w": ("int8",), "gy": ("int16",)}


def dtype_name(operand: Any) -> str:
    """The name that NumPy and torch share for a dtype."""
    return str(operand.dtype).removeprefix("torch.")


def on_host(operand: Any) -> NDArray[Any]:
    """An operand as NumPy, wherever torch holds it."""
    return np.asarray(operand.cpu() if hasattr(operand, "cpu") else operand)


def products_per_multiplier(mode: str, gradient_bits: int = 16) -> int:
    """Products that a multiplier of the engine makes in a cycle: two of 8 bits, or of high bits, share one.

    >>> products_per_multiplier("forward"), products_per_multiplier("grad_weight")
    (2, 1)
    """
    return 2 if mode in ("forward", "grad_msb") or gradient_bits <= 8 else 1
