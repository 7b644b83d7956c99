# SPDX-License-Identifier: Apache-2.0
"""Where the tensors of one step stand in a device's memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from e2train.devices.resident import DeviceTensor, sample_bytes
from e2train.numerics.elementwise import Kind
from e2train.runtime.resident.arena import ALIGNMENT, Buffer, place
from e2train.runtime.resident.network import BlockSpec, Network

__all__ = ["MemoryMap"]


class MemoryMap:
    """A place for each tensor of a step of ``samples`` images, planned once.

    With ``backward``, what the backward pass reads is kept until then.
    """

    def __init__(
        self, network: Network, *, samples: int, result: Kind, gradient: Kind, backward: bool
    ) -> None:
        self.samples = samples
        self._shapes: dict[str, tuple[Kind, int, int, int]] = {}
        self._result, self._gradient = result, gradient
        lives = _training_lives(network) if backward else _evaluation_lives(network)
        buffers = []
        for name, shape, first, last in self._tensors(network, lives):
            self._shapes[name] = shape
            nbytes = samples * _aligned(*shape)
            buffers.append(Buffer(name=name, nbytes=nbytes, first=first, last=last))
        self._starts, self.nbytes = place(buffers)

    def tensor(self, name: str, samples: int | np.ndarray[tuple[int], np.dtype[np.int64]]) -> DeviceTensor:
        """A tensor of the first so many samples, or of those with these numbers."""
        kind, C, H, W = shape = self._shapes[name]
        numbers = np.arange(samples) if isinstance(samples, int) else samples
        offsets = self._starts[name] + numbers.astype(np.int64) * _aligned(*shape)
        return DeviceTensor(kind=kind, C=C, H=H, W=W, offsets=offsets)

    def _tensors(
        self, network: Network, lives: dict[str, tuple[int, int]]
    ) -> Iterator[tuple[str, tuple[Kind, int, int, int], int, int]]:
        s = network.stem.shape
        shapes: dict[str, tuple[Kind, int, int, int]] = {
            "images": ("int8", s.C, s.H, s.W),
            "stem.y": (self._result, s.K, s.P, s.Q),
            "stem.x": ("uint8", s.K, s.P, s.Q),
            "g0": ("int16", s.K, s.P, s.Q),
        }
        for block in network.blocks:
            a, b = block.first.shape, block.second.shape
            shapes |= {
                f"{block.index}.y1": (self._result, a.K, a.P, a.Q),
                f"{block.index}.a1": ("uint8", a.K, a.P, a.Q),
                f"{block.index}.y2": (self._result, b.K, b.P, b.Q),
                f"{block.index}.x": ("uint8", b.K, b.P, b.Q),
                f"{block.index}.gy2": (self._gradient, b.K, b.P, b.Q),
                f"{block.index}.ga1": (self._result, a.K, a.P, a.Q),
                f"{block.index}.gy1": (self._gradient, a.K, a.P, a.Q),
                f"{block.index}.gx": (self._result, a.C, a.H, a.W),
                f"g{block.stage}": ("int16", b.K, b.P, b.Q),
            }
        shapes["stem.gy"] = (self._gradient, s.K, s.P, s.Q)
        shapes["pooled"] = ("int16", network.last.shape.K, 1, 1)
        for name, shape in shapes.items():
            if name in lives:
                yield (name, shape, *lives[name])


def _aligned(kind: Kind, C: int, H: int, W: int) -> int:
    return -(-sample_bytes(kind, C, H, W) // ALIGNMENT) * ALIGNMENT


def _stage_ends(network: Network) -> dict[int, int]:
    """The moment of the last block that reads the samples of a stage: the one that leaves it, if any."""
    ends = {block.stage: 1 + block.index for block in network.blocks}
    return {stage: end + (end < len(network.blocks)) for stage, end in ends.items()}


def _evaluation_lives(network: Network) -> dict[str, tuple[int, int]]:
    """Moment 0 is the stem's, 1 + i block i's. Skipped samples of a stage may wait until its end."""
    ends = _stage_ends(network)
    lives = {"images": (0, 0), "stem.y": (0, 0), "stem.x": (0, ends.get(0, 1))}
    for block in network.blocks:
        now = 1 + block.index
        lives |= {f"{block.index}.{name}": (now, now) for name in ("y1", "a1", "y2")}
        lives[f"{block.index}.x"] = (now, max(now, ends[block.stage]))
    return lives


def _training_lives(network: Network) -> dict[str, tuple[int, int]]:
    """As above; block i goes backward at moment 2*blocks - i, the stem at 2*blocks + 1."""
    count = len(network.blocks)
    end = 2 * count + 1
    lives = {name: (0, end) for name in ("images", "stem.y", "stem.x")}
    lives["stem.gy"] = (end, end)
    lives["pooled"] = (count + 1, count + 1)
    for block in network.blocks:
        now, back = 1 + block.index, 2 * count - block.index
        lives |= {f"{block.index}.{name}": (now, back) for name in ("y1", "a1", "y2", "x")}
        lives |= {f"{block.index}.{name}": (back, back) for name in ("gy2", "ga1", "gy1", "gx")}
    for stage in range(network.stages):
        lives[f"g{stage}"] = _gradient_life(network.blocks, stage)
    return lives


def _gradient_life(blocks: tuple[BlockSpec, ...], stage: int) -> tuple[int, int]:
    """From the block behind the stage, or the head, back to the block or stem that begins it."""
    count = len(blocks)
    last = max((block.index for block in blocks if block.stage == stage), default=-1)
    begins = min((block.index for block in blocks if block.stage == stage), default=-1)
    first = 2 * count - (last + 1) if last + 1 < count else count + 1
    return first, 2 * count - begins if stage else 2 * count + 1
