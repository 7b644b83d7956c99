# SPDX-License-Identifier: Apache-2.0
"""Where the tensors of one step stand in a device's memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from e2train.devices.resident import ALIGNMENT, DeviceTensor, sample_bytes
from e2train.numerics.elementwise import Kind
from e2train.runtime.resident.arena import Buffer, place
from e2train.runtime.resident.kinds import Kinds
from e2train.runtime.resident.network import BlockSpec, Network

__all__ = ["MemoryMap"]


class MemoryMap:
    """A place for each tensor of a step of ``samples`` images, planned once.

    With ``backward``, what the backward pass reads is kept until then.
    """

    def __init__(self, network: Network, kinds: Kinds, *, samples: int, backward: bool) -> None:
        self.samples = samples
        self._shapes: dict[str, tuple[Kind, int, int, int]] = {}
        self._offsets: dict[str, NDArray[np.int64]] = {}  # of every sample
        self._kinds = kinds
        lives = _training_lives(network) if backward else _evaluation_lives(network)
        buffers = []
        for name, shape, first, last in self._tensors(network, lives):
            self._shapes[name] = shape
            nbytes = samples * _aligned(*shape)
            buffers.append(Buffer(name=name, nbytes=nbytes, first=first, last=last))
        starts, self.nbytes = place(buffers)
        for name, start in starts.items():
            self._offsets[name] = start + np.arange(samples) * _aligned(*self._shapes[name])

    def tensor(self, name: str, samples: int | NDArray[np.int64]) -> DeviceTensor:
        """A tensor of the first so many samples, or of those with these numbers."""
        kind, C, H, W = self._shapes[name]
        numbers = slice(samples) if isinstance(samples, int) else samples
        return DeviceTensor(kind=kind, C=C, H=H, W=W, offsets=self._offsets[name][numbers])

    def _tensors(
        self, network: Network, lives: dict[str, tuple[int, int]]
    ) -> Iterator[tuple[str, tuple[Kind, int, int, int], int, int]]:
        image, kinds = network.first.shape, self._kinds
        shapes: dict[str, tuple[Kind, int, int, int]] = {
            "images": ("int8", image.C, image.H, image.W),
            "pooled": ("int16", network.last.shape.K, 1, 1),
        }
        for block in network.blocks:
            for number, conv in enumerate(block.convs, 1):
                s = conv.shape
                out = s.K, s.P, s.Q
                shapes |= {
                    f"{block.name}.y{number}": (kinds.result, *out),
                    f"{block.name}.a{number}": (conv.kind, *out),
                    f"{block.name}.gy{number}": (kinds.gradient, *out),
                    f"{block.name}.ga{number - 1}": (kinds.input_gradient, s.C, s.H, s.W),
                }
            s = block.last.shape
            shapes[f"g{block.stage}"] = (kinds.block_gradient, s.K, s.P, s.Q)
        for name, shape in shapes.items():
            if name in lives:
                yield (name, shape, *lives[name])


def _aligned(kind: Kind, C: int, H: int, W: int) -> int:
    return -(-sample_bytes(kind, C, H, W) // ALIGNMENT) * ALIGNMENT


def _evaluation_lives(network: Network) -> dict[str, tuple[int, int]]:
    """Moment p is that of the block at place p. Skipped samples of a stage may wait until its end."""
    # The last block that reads the samples of a stage is the one that leaves it, if any.
    ends = {block.stage: min(now + 1, len(network.blocks) - 1) for now, block in enumerate(network.blocks)}
    lives = {"images": (0, 0)}
    for now, block in enumerate(network.blocks):
        lives |= _numbered(block, ("y", "a"), (now, now))
        lives[block.result] = (now, ends[block.stage])
    return lives


def _training_lives(network: Network) -> dict[str, tuple[int, int]]:
    """As above; the block at place p goes backward at moment 2*blocks - p."""
    count = len(network.blocks)
    lives = {"images": (0, 2 * count), "pooled": (count, count)}
    for now, block in enumerate(network.blocks):
        back = 2 * count - now
        lives |= _numbered(block, ("y", "a"), (now, back)) | _numbered(block, ("gy", "ga"), (back, back))
        # The weight gradient of a block's first convolution is computed beside the block before.
        lives[f"{block.name}.gy1"] = (back, back + 1)
        if now:
            lives[f"{block.name}.ga0"] = (back, back)
        # From the block behind the stage, or the averages, back to the block that begins it.
        _, end = lives.get(f"g{block.stage}", (back, back))
        lives[f"g{block.stage}"] = (back - 1, end)
    return lives


def _numbered(block: BlockSpec, kinds: tuple[str, ...], life: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """The same life for these tensors of each convolution of a block."""
    numbers = range(1, 1 + len(block.convs))
    return {f"{block.name}.{kind}{number}": life for kind in kinds for number in numbers}
