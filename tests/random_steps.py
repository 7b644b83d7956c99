# SPDX-License-Identifier: Apache-2.0
"""Steps of operations on tensors of random places and sizes, run by a board and by the spec."""

from __future__ import annotations

from typing import Any

import numpy as np
from e2train.devices.chains.board import BoardResident
from e2train.devices.chains.partial_sums import SumsLater
from e2train.devices.memory import SpecResident
from e2train.devices.resident import (
    Affine,
    Convolution,
    DeviceTensor,
    Operation,
    Reduction,
    WeightGradient,
    run_operation,
)
from e2train.numerics.elementwise import COEFFICIENT_LIMIT, OFFSET_LIMIT
from e2train.numerics.rounding import DITHER_PHASES

__all__ = ["TENSORS", "Step", "added", "run", "same"]

TENSORS = 1 << 20  # bytes of the memory


class Step:
    """Operations on tensors of random places and sizes, with other values each time."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.waiting: list[tuple[SumsLater, Any]] = []
        self.samples = int(rng.integers(3, 8))  # one for each engine at least
        self.size = 2 * int(rng.integers(2, 4))
        self.channels = int(rng.choice([16, 24, 40]))
        self.stride = int(rng.integers(1, 3))
        self.dithers, self.masks, self.sums, self.per_sample = (bool(each) for each in rng.integers(0, 2, 4))
        self.place = 128 * int(rng.integers(1, 9))
        self.images = self.tensor("int8", 3, self.size)
        self.x = self.tensor("uint8", self.channels, self.size)
        self.first = self.tensor("int8", self.channels, self.size)
        half = -(-self.size // self.stride)
        self.y = self.tensor("int8", self.channels, half)
        self.wide = self.tensor("int16", self.channels, half)
        self.gx = self.tensor("int8", self.channels, self.size)

    def tensor(self, kind: str, channels: int, size: int) -> DeviceTensor:
        each = -(-16 * -(-channels // 16) * size * size * np.dtype(kind).itemsize // 64) * 64 + 64
        offsets = self.place + each * self.rng.permutation(self.samples).astype(np.int64)
        self.place += each * self.samples
        assert self.place < TENSORS
        return DeviceTensor(kind=kind, C=channels, H=size, W=size, offsets=offsets)  # type: ignore[arg-type]

    def values(self, tensor: DeviceTensor) -> np.ndarray:
        info = np.iinfo(tensor.kind)
        return self.rng.integers(info.min, info.max, tensor.shape, endpoint=True).astype(tensor.kind)

    def weights(self, C: int) -> np.ndarray:
        return self.rng.integers(-127, 128, (self.channels, C, 3, 3)).astype(np.int8)

    def coefficients(self, limit: int) -> np.ndarray:
        return self.rng.integers(-limit, limit + 1, self.channels)

    def affine(self, u: DeviceTensor, out: DeviceTensor, **more: Any) -> Affine:
        return Affine(
            u=u,
            out=out,
            a=self.coefficients(COEFFICIENT_LIMIT),
            b=self.coefficients(COEFFICIENT_LIMIT),
            d=self.coefficients(OFFSET_LIMIT),
            shift=int(self.rng.integers(0, 24)),
            dither=int(self.rng.integers(DITHER_PHASES)) if self.dithers else None,
            name="norm",
            **more,
        )

    def operations(self) -> list[Operation]:
        stride, padding = (self.stride, self.stride), (1, 1, 1, 1)
        moved: dict[str, Any] = {"stride": stride, "padding": padding}
        mask = self.x if self.masks else None
        return [
            Convolution(
                mode="forward",
                source=self.images,
                destination=self.first,
                w=self.weights(3),
                stride=(1, 1),
                padding=padding,
                shift=int(self.rng.integers(0, 12)),
                name="stem",
            ),
            Convolution(
                mode="forward",
                source=self.x,
                destination=self.wide,
                w=self.weights(self.channels),
                shift=int(self.rng.integers(0, 9)),
                sums=self.sums,
                name="conv",
                **moved,
            ),
            self.affine(self.wide, self.y, relu=self.masks, sums=self.per_sample),
            Reduction(u=self.y, v=self.wide, per_sample=self.per_sample, name="norm"),
            Convolution(
                mode="grad_input",
                source=self.y,
                destination=self.gx,
                w=self.weights(self.channels),
                shift=int(self.rng.integers(0, 12)),
                name="conv",
                **moved,
            ),
            WeightGradient(x=self.x, gy=self.y, kernel=(3, 3), name="conv", **moved),
            self.affine(self.gx, self.gx, v=self.first, mask=mask, mask_out=self.masks),
        ]


def same(found: Any, want: Any) -> None:
    if isinstance(found, SumsLater):
        found = found.get()
    if isinstance(want, tuple):
        for one, other in zip(found, want, strict=True):
            np.testing.assert_array_equal(one, other)
    elif isinstance(want, np.ndarray):
        np.testing.assert_array_equal(found, want)
    else:
        assert (found.largest, found.saturations) == (want.largest, want.saturations)
        for name in ("sums", "squares"):
            one, other = getattr(found, name, None), getattr(want, name, None)
            assert (one is None) == (other is None)
            if one is not None:
                np.testing.assert_array_equal(one, other)


def run(step: Step, device: BoardResident, spec: SpecResident, *, later: int = 0) -> None:
    """One step on both, with new values: the same outcomes and memories.

    Gradients whose sums are still on the board are asked for ``later`` steps later.
    """
    for tensor in (step.images, step.x):
        values = step.values(tensor)
        for each in (device, spec):
            each.write(tensor, values)
    calls = step.operations()
    outcomes = []
    for part in (calls[:3], calls[3:]):
        outcomes += [outcome for outcome, _ in device.run_batch(part)]
    wanted = [run_operation(spec, call) for call in calls]
    for found, want in zip(outcomes, wanted, strict=True):
        if isinstance(found, SumsLater):
            step.waiting.append((found, want))
        else:
            same(found, want)
    while len(step.waiting) > later:
        same(*step.waiting.pop(0))
    for tensor in (step.first, step.wide, step.y, step.gx):
        np.testing.assert_array_equal(device.read(tensor), spec.read(tensor))


def added(device: BoardResident) -> int:
    """Frames by which the last batch added up partial sums."""
    return len(device._sums.added)
