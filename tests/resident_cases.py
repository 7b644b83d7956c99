# SPDX-License-Identifier: Apache-2.0
"""Operations on resident tensors to test every device with: corners first, then random ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import cases
import numpy as np
import pytest
from e2train.devices.chains import ChainResident
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
from e2train.numerics.elementwise import COEFFICIENT_LIMIT, KINDS, OFFSET_LIMIT, VIEWS

ALIGNMENT = 64
Written = tuple[DeviceTensor, np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A call with the values of its operands, and the memory that they lie in."""

    operation: Literal["convolve", "weight_gradient", "affine", "reduce"]
    call: Any
    inputs: tuple[Written, ...]
    destination: DeviceTensor | None
    nbytes: int

    def __str__(self) -> str:
        return f"{self.call}"


class _Memory:
    """Places tensors one behind the other: samples in any order, with gaps between them."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self.nbytes = ALIGNMENT

    def tensor(self, kind: str, N: int, C: int, H: int, W: int) -> DeviceTensor:
        size = -(-sample_bytes(kind, C, H, W) // ALIGNMENT) * ALIGNMENT
        size += ALIGNMENT * int(self._rng.integers(2))
        offsets = self.nbytes + self._rng.permutation(N) * size
        self.nbytes += N * size
        return DeviceTensor(kind=kind, C=C, H=H, W=W, offsets=offsets.astype(np.int64))

    def filled(self, pattern: str, kind: str, N: int, C: int, H: int, W: int) -> Written:
        tensor = self.tensor(kind, N, C, H, W)
        return tensor, _values(pattern, tensor, self._rng)


def _values(pattern: str, tensor: DeviceTensor, rng: np.random.Generator) -> np.ndarray:
    info = np.iinfo(tensor.kind)
    if pattern == "zero":
        return np.zeros(tensor.shape, tensor.kind)
    if pattern == "sparse extremes":
        return rng.choice([info.min, 0, 1, info.max], tensor.shape).astype(tensor.kind)
    return cases.operand(pattern, np.dtype(tensor.kind).type, tensor.shape, rng)


CONVOLUTIONS = tuple(case for case in cases.CORNERS if case.shape.macs < 700_000)


def convolutions(case: cases.ConvCase, rng: np.random.Generator) -> Iterator[Case]:
    """forward, grad_input and weight gradients of a case, results and gradients of 8 and of 16 bits."""
    s, how = case.shape, {"stride": case.shape.stride, "padding": case.shape.padding}
    x_kind = "int8" if case.signed else "uint8"
    w = cases.operand(case.pattern, np.int8, (s.K, s.C, s.R, s.S), rng, low=-127)
    for kind in ("int8", "int16"):
        memory = _Memory(rng)
        x = memory.filled(case.pattern, x_kind, s.N, s.C, s.H, s.W)
        y = memory.tensor(kind, s.N, s.K, s.P, s.Q)
        call = Convolution(
            mode="forward", source=x[0], destination=y, w=w, shift=case.shift, sums=kind == "int16", **how
        )
        yield Case(operation="convolve", call=call, inputs=(x,), destination=y, nbytes=memory.nbytes)
        memory = _Memory(rng)
        gy = memory.filled(case.pattern, kind, s.N, s.K, s.P, s.Q)
        gx = memory.tensor(str(rng.choice(["int8", "int16"])), s.N, s.C, s.H, s.W)
        call = Convolution(mode="grad_input", source=gy[0], destination=gx, w=w, shift=case.shift, **how)
        yield Case(operation="convolve", call=call, inputs=(gy,), destination=gx, nbytes=memory.nbytes)
        most = 8 * np.dtype(kind).itemsize
        for bits in ((0, 0), (4, min(10, most)), (int(rng.integers(1, 9)), int(rng.integers(1, most + 1)))):
            yield weight_gradient(s, x_kind, kind, case.pattern, bits, rng)


def weight_gradient(
    s: ConvShape, x_kind: str, gy_kind: str, pattern: str, bits: tuple[int, int], rng: np.random.Generator
) -> Case:
    """A weight gradient from so many high bits of x and gy."""
    memory = _Memory(rng)
    x = memory.filled(pattern, x_kind, s.N, s.C, s.H, s.W)
    gy = memory.filled(pattern, gy_kind, s.N, s.K, s.P, s.Q)
    call = WeightGradient(
        x=x[0],
        gy=gy[0],
        kernel=(s.R, s.S),
        stride=s.stride,
        padding=s.padding,
        x_bits=bits[0],
        g_bits=bits[1],
    )
    return Case(
        operation="weight_gradient", call=call, inputs=(x, gy), destination=None, nbytes=memory.nbytes
    )


def random_convolution(rng: np.random.Generator) -> cases.ConvCase:
    """Any small convolution, also of no samples and of extreme operands; shifts beyond every sum."""
    case = cases.random_case(rng)
    pattern = str(rng.choice(["random", "lowest", "highest", "alternating"]))
    s = case.shape
    N, C, K = (
        int(rng.integers(0, 4)),
        int(rng.choice([1, 3, 16, 20, 33])),
        int(rng.choice([1, 8, 16, 17, 40])),
    )
    shape = ConvShape(N=N, C=C, H=s.H, W=s.W, K=K, R=s.R, S=s.S, stride=s.stride, padding=s.padding)
    return cases.ConvCase(
        name=f"{shape}",
        shape=shape,
        pattern=pattern,
        signed=case.signed,
        shift=int(rng.integers(0, 41)),
    )


def is_refused(device: ResidentDevice, call: Any, nbytes: int) -> bool:
    """Whether a device runs chains of an engine that does not do this; it must say so then in one line."""
    if not isinstance(device, ChainResident):
        return False
    message = _refused_by_engine(call, device.config.name)
    if message is None:
        return False
    device.reserve(nbytes)
    operations = {Affine: device.affine, Reduction: device.reduce, WeightGradient: device.weight_gradient}
    with pytest.raises(ShapeError, match=rf"^[^\n]*{re.escape(message)}$"):
        operations.get(type(call), device.convolve)(call)
    return True


def _refused_by_engine(call: Any, board: str) -> str | None:
    """The end of the line with which an engine refuses a call; None where it computes it."""
    mask = getattr(call, "mask", None)
    if mask is not None and (mask.kind == "int16" or mask.view != "whole"):
        return f"reads masks of 8 bits, whole, not {mask.kind} seen {mask.view}; use another device"
    if isinstance(call, Affine | Reduction):
        return None
    if isinstance(call, WeightGradient) and call.mode == "grad_msb" and call.gy.kind == "int16":
        kept = call.x_bits or 8, call.g_bits or 16
        if kept[0] > 4 or kept[1] > 10:
            return f"{kept[0]} high bits of x and {kept[1]} of int16 gy; the engine keeps at most 4 and 10"
    if max(call.shape.W, call.shape.Q) > 500 or call.shape.C > 30_000:
        return f"fit the buffers of {board}; use another device"
    return None


@dataclass(frozen=True, kw_only=True)
class AffineCase:
    """An affine operation: how its operands are stored and read, and what they hold."""

    name: str
    size: tuple[int, int, int, int] = (2, 16, 5, 4)
    kinds: tuple[str, str, str, str] = ("int16", "uint8", "uint8", "uint8")  # u, v, mask, out
    views: tuple[str, str, str] = ("whole", "whole", "whole")
    channels: tuple[int, int, int] = (0, 0, 0)  # of u, v and mask; 0: as many as the result
    odd: bool = False  # strided operands lack their last row and column
    patterns: tuple[str, str, str] = ("random", "random", "random")
    coefficients: Literal["random", "largest", "opposed", "one"] = "random"
    shift: int = 14
    v: bool = True
    mask: Literal["none", "u", "result"] = "none"
    relu: bool = False
    sums: bool = True
    in_place: Literal["", "u", "v"] = ""
    dither: int | None = None

    def __str__(self) -> str:
        return self.name


_EXTREMES = tuple(
    AffineCase(
        name=f"{coefficients} coefficients, {pattern}, shift {shift}, {kind}",
        kinds=("int16", "int16", "int16", kind),
        patterns=(pattern, pattern, "random"),
        coefficients=coefficients,
        shift=shift,
    )
    for coefficients, pattern in (
        ("largest", "lowest"),
        ("largest", "highest"),
        ("opposed", "lowest"),
        ("one", "sparse extremes"),
    )
    for shift, kind in ((0, "int16"), (1, "int8"), (30, "uint8"), (16, "int16"))
)
_SHORTCUTS = tuple(
    AffineCase(name=f"{view} {'uvm'[at]}{', odd' * odd}", views=views, odd=odd, mask=mask, size=(2, 16, 5, 7))
    for at in range(3)
    for view, odd in (("strided", False), ("strided", True), ("spread", False), ("broadcast", False))
    for mask in ("u", "result")
    for views in [tuple(view if index == at else "whole" for index in range(3))]
    if at == 2 or mask == "u"
)
AFFINES = (
    AffineCase(name="one of everything", size=(1, 1, 1, 1)),
    AffineCase(name="no samples", size=(0, 16, 3, 3)),
    AffineCase(name="one channel too many", size=(2, 17, 5, 4)),
    AffineCase(name="more pixels than one chunk", size=(1, 33, 9, 9)),
    AffineCase(name="ties", coefficients="one", shift=1, v=False, kinds=("int16", "uint8", "uint8", "int16")),
    *(AffineCase(name=f"dithered, shift {shift}", dither=shift, shift=shift, size=(2, 33, 3, 5),
                 kinds=("int16", "uint8", "uint8", "int16")) for shift in (20, 30)),
    *(AffineCase(name=f"dithered, shift {shift}", dither=250 - shift, shift=shift, size=(2, 33, 3, 5),
                 kinds=("int16", "uint8", "uint8", "int16"), coefficients="one") for shift in range(12)),
    AffineCase(name="dithered, channels that v has not", dither=9, size=(2, 33, 3, 4), channels=(0, 16, 0),
               shift=18, kinds=("int16", "uint8", "uint8", "int16")),
    *(AffineCase(name=f"dithered {sign} extremes", dither=255, shift=30, coefficients=sign,
                 patterns=("highest", "highest", "zero")) for sign in ("largest", "opposed")),
    AffineCase(name="dithered to int8", dither=77, size=(3, 40, 13, 11), mask="u", shift=20,
               kinds=("int8", "int16", "uint8", "int8"), patterns=("random", "random", "sparse extremes")),
    AffineCase(name="dithered, ReLU", dither=130, relu=True, shift=21),
    AffineCase(name="dithered, frames of rows", dither=200, size=(2, 16, 47, 50), shift=20, v=False),
    AffineCase(name="dithered, frames of blocks", dither=200, size=(2, 273, 2, 3), shift=20),
    AffineCase(name="dithered, result masked", dither=3, mask="result", patterns=("random",) * 3, shift=18,
               kinds=("int16", "uint8", "uint8", "int16")),
    AffineCase(name="ReLU", relu=True, kinds=("int16", "uint8", "uint8", "int16")),
    AffineCase(name="ReLU saturates", relu=True, shift=3),
    AffineCase(name="u masked", mask="u", patterns=("random", "random", "sparse extremes")),
    AffineCase(name="result masked", mask="result", patterns=("random", "random", "sparse extremes")),
    AffineCase(name="empty mask of u", mask="u", patterns=("random", "random", "zero")),
    AffineCase(name="empty mask of the result", mask="result", patterns=("highest", "highest", "zero")),
    AffineCase(
        name="mask below zero",
        mask="result",
        kinds=("int16", "uint8", "int8", "int16"),
        patterns=("random", "random", "lowest"),
    ),
    AffineCase(name="open mask", mask="u", patterns=("random", "random", "highest")),
    AffineCase(name="masked and ReLU", mask="result", relu=True, patterns=("random", "random", "random")),
    AffineCase(name="channels that v has not", size=(2, 33, 3, 4), channels=(0, 16, 0),
               views=("whole", "strided", "whole")),
    AffineCase(name="channels that u and mask have not", size=(2, 33, 3, 4), channels=(20, 0, 5),
               mask="result"),
    AffineCase(name="channels that the result has not", size=(2, 20, 3, 4), channels=(40, 33, 48), mask="u"),
    AffineCase(name="gradient of a strided shortcut", size=(2, 16, 5, 7), channels=(0, 32, 0), mask="result",
               kinds=("int16", "int16", "uint8", "int16"), views=("whole", "spread", "whole")),
    AffineCase(name="in place of u", kinds=("int16", "int8", "uint8", "int16"), in_place="u", mask="result"),
    AffineCase(name="in place of v", kinds=("int16", "int16", "uint8", "int16"), in_place="v", mask="u"),
    *_SHORTCUTS,
    *_EXTREMES,
)  # fmt: skip


def affine(case: AffineCase, rng: np.random.Generator) -> Case:
    """A case with its operands drawn."""
    memory, (N, C, H, W) = _Memory(rng), case.size
    operands = [
        memory.filled(pattern, kind, N, own or C, *_stored(view, H, W, odd=case.odd))
        for pattern, kind, own, view in zip(
            case.patterns, case.kinds, case.channels, case.views, strict=False
        )
    ]
    u, v, mask = (tensor.seen(view) for (tensor, _), view in zip(operands, case.views, strict=True))
    out = {"": memory.tensor(case.kinds[3], N, C, H, W), "u": u, "v": v}[case.in_place]
    a, b, d = _coefficients(case.coefficients, C, rng)
    call = Affine(
        u=u,
        v=v if case.v else None,
        mask=mask if case.mask != "none" else None,
        out=out,
        a=a,
        b=b,
        d=d,
        shift=case.shift,
        relu=case.relu,
        mask_out=case.mask == "result",
        sums=case.sums,
        dither=case.dither,
    )
    return Case(operation="affine", call=call, inputs=tuple(operands), destination=out, nbytes=memory.nbytes)


def _stored(view: str, H: int, W: int, *, odd: bool) -> tuple[int, int]:
    sizes = {
        "whole": (H, W),
        "strided": (2 * H - odd, 2 * W - odd),
        "spread": (-(-H // 2), -(-W // 2)),
        "broadcast": (1, 1),
    }
    return sizes[view]


def _coefficients(pattern: str, C: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    one, most, offset = np.ones(C, np.int64), COEFFICIENT_LIMIT, OFFSET_LIMIT
    if pattern == "random":
        return (
            *(rng.integers(-most, most + 1, C) for _ in range(2)),
            rng.integers(-offset, offset + 1, C),
        )
    if pattern == "one":
        return one, one, 0 * one
    sign = 1 if pattern == "largest" else -1
    return most * one, sign * most * one, sign * offset * one


def random_affine(rng: np.random.Generator) -> AffineCase:
    """Any affine operation on a few samples."""
    C = int(rng.choice([1, 3, 16, 17, 33]))

    def each(choices: tuple[Any, ...], count: int) -> tuple[Any, ...]:
        return tuple(choices[int(index)] for index in rng.integers(0, len(choices), count))

    views = each(VIEWS, 3)
    return AffineCase(
        name="random",
        size=(int(rng.integers(0, 4)), C, int(rng.integers(1, 13)), int(rng.integers(1, 13))),
        kinds=each(KINDS, 4),
        views=views,
        channels=each((0, 0, max(1, C - 16), C + 16), 3),
        odd=bool(rng.integers(2)),
        patterns=each(("random", "lowest", "highest", "sparse extremes"), 3),
        coefficients=each(("random", "largest", "opposed", "one"), 1)[0],
        shift=int(rng.integers(0, 31)),
        v=bool(rng.integers(2)),
        mask=each(("none", "u", "result"), 1)[0],
        relu=bool(rng.integers(2)),
        sums=bool(rng.integers(2)),
        dither=int(rng.integers(256)) if rng.integers(2) else None,
    )


@dataclass(frozen=True, kw_only=True)
class ReductionCase:
    """Sums of u and u*v."""

    name: str
    size: tuple[int, int, int, int] = (3, 16, 5, 4)
    kinds: tuple[str, str, str] = ("int16", "int16", "uint8")  # u, v, mask
    patterns: tuple[str, str, str] = ("random", "random", "sparse extremes")
    mask: bool = False
    per_sample: bool = False

    def __str__(self) -> str:
        return self.name


REDUCTIONS = (
    ReductionCase(name="one of everything", size=(1, 1, 1, 1)),
    ReductionCase(name="no samples", size=(0, 16, 3, 3)),
    ReductionCase(name="no samples, per sample", size=(0, 16, 3, 3), per_sample=True),
    ReductionCase(name="one sample", size=(1, 16, 3, 3), per_sample=True),
    ReductionCase(name="one channel too many", size=(2, 17, 9, 9), per_sample=True, mask=True),
    ReductionCase(name="masked", mask=True),
    ReductionCase(name="empty mask", mask=True, patterns=("highest", "highest", "zero")),
    ReductionCase(name="mask below zero", mask=True, kinds=("int8", "int16", "int8"),
                  patterns=("random", "random", "lowest")),
    ReductionCase(name="products past int32", size=(2, 1, 9, 9), patterns=("lowest", "lowest", "zero")),
    ReductionCase(name="sums past int32", size=(1, 1, 260, 260), patterns=("lowest", "highest", "zero")),
)  # fmt: skip


def reduction(case: ReductionCase, rng: np.random.Generator) -> Case:
    """A case with its operands drawn."""
    memory = _Memory(rng)
    operands = [
        memory.filled(pattern, kind, *case.size)
        for pattern, kind in zip(case.patterns, case.kinds, strict=True)
    ]
    u, v, mask = (tensor for tensor, _ in operands)
    call = Reduction(u=u, v=v, mask=mask if case.mask else None, per_sample=case.per_sample)
    return Case(operation="reduce", call=call, inputs=tuple(operands), destination=None, nbytes=memory.nbytes)


def random_reduction(rng: np.random.Generator) -> ReductionCase:
    """Any reduction over a few samples."""
    C, (H, W) = int(rng.choice([1, 3, 16, 17, 33])), rng.integers(1, 13, 2)
    return ReductionCase(
        name="random",
        size=(int(rng.integers(0, 4)), C, int(H), int(W)),
        kinds=tuple(KINDS[int(index)] for index in rng.integers(0, 3, 3)),
        patterns=tuple(str(name) for name in rng.choice(["random", "lowest", "highest"], 3)),
        mask=bool(rng.integers(2)),
        per_sample=bool(rng.integers(2)),
    )
