# SPDX-License-Identifier: Apache-2.0
"""Images that go to a board with several pixels in a vector of 16 lanes, most of which would be empty else.

An engine unpacks them: a convolution with weights that pick the lanes of one pixel after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.config import EngineConfig
from e2train.devices.chains.plan import KINDS, Loop, PlannedFrame, Stripe, nest, ranges
from e2train.devices.protocol import ShapeError
from e2train.devices.resident import DeviceTensor, sample_bytes
from e2train.numerics.blocks import LANES, block_count
from e2train.numerics.frames import Header, Mode

__all__ = ["PACKED_AT", "Unpacking", "pack", "plan_unpacking", "unpacking"]

PACKED_AT = 1 << 43
"""In the flat memory, behind all tensors: packed images stand here, at the offset of their tensor."""

_WORTH_BYTES = 64 << 10  # to send so many more costs no more than the frames that unpack
_MOST_TRIPS = 1 << 12  # of a loop
_COUNTS = (16, 8, 4, 2)  # of pixels in a vector


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unpacking:
    """destination = the pixels of source, each of whose vectors holds ``count`` of them."""

    source: DeviceTensor
    destination: DeviceTensor
    count: int

    @property
    def label(self) -> str:
        """For messages."""
        return "images"


def unpacking(tensor: DeviceTensor) -> Unpacking | None:
    """What fills a tensor of images from packed ones; None where packing does not pay.

    >>> images = DeviceTensor(kind="int8", C=3, H=32, W=32, offsets=65536 * np.arange(8))
    >>> found = unpacking(images)
    >>> found.count, found.source.shape, images.nbytes // found.source.nbytes
    (4, (8, 16, 32, 8), 4)
    """
    fitting = [count for count in _COUNTS if count * tensor.C <= LANES and tensor.W % count == 0]
    if tensor.kind == "int16" or not fitting:
        return None
    count = fitting[0]
    W = tensor.W // count
    nbytes = sample_bytes(tensor.kind, LANES, tensor.H, W)
    if tensor.nbytes - tensor.N * nbytes < _WORTH_BYTES:
        return None
    offsets = PACKED_AT + tensor.span.first + nbytes * np.arange(tensor.N)
    source = DeviceTensor(kind=tensor.kind, C=LANES, H=tensor.H, W=W, offsets=offsets)
    return Unpacking(source=source, destination=tensor, count=count)


def pack(values: NDArray[Any], count: int) -> NDArray[Any]:
    """Shapes: (N, C, H, W) to (N, 16, H, W / count).

    >>> pack(np.arange(8, dtype=np.int8).reshape(1, 1, 1, 8), 4)[0, :, 0, 1].tolist()
    [4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 7, 0, 0, 0]
    """
    N, C, H, W = values.shape
    lanes = np.zeros((N, LANES // count, H, W // count, count), values.dtype)
    lanes[:, :C] = values.reshape(N, C, H, W // count, count)
    packed: NDArray[Any] = lanes.transpose(0, 4, 1, 2, 3).reshape(N, LANES, H, W // count)
    return packed


def plan_unpacking(call: Unpacking, cfg: EngineConfig) -> Iterator[PlannedFrame]:
    """The frames of a call, each for as many rows and samples as fit.

    Raises: ShapeError where a row does not.
    """
    source, destination = call.source, call.destination
    depth = min(cfg.x_depth, _MOST_TRIPS)
    rows = min(source.H, depth // source.W)
    if not rows:
        raise ShapeError(f"{call.label}: a row of {source.W} vectors does not fit the buffers of {cfg.name}")
    samples = depth // (source.H * source.W) if rows == source.H else 1
    weights = _weights(call.count)
    for lines in ranges(source.H, rows):
        stripe = Stripe(source, rows=lines, blocks=(0, 1))
        place = Stripe(destination, rows=lines, blocks=(0, block_count(destination.C)))
        for group in ranges(source.N, samples):
            vectors = (group[1] - group[0]) * (lines[1] - lines[0]) * source.W
            yield PlannedFrame(
                header=_header(call, vectors, cfg),
                sources=(stripe.runs(group), weights),
                results=place.runs(group),
            )


def _weights(count: int) -> NDArray[np.int8]:
    """Those of each pixel of a vector: its lanes are the first ones of the result. Shape (count, 16, 16)."""
    lanes = LANES // count
    weights = np.zeros((count, LANES, LANES), np.int8)
    for pixel in range(count):
        weights[pixel, range(lanes), range(pixel * lanes, (pixel + 1) * lanes)] = 1
    return weights


def _header(call: Unpacking, vectors: int, cfg: EngineConfig) -> Header:
    loops = [Loop(limit=call.count, dwa=1), Loop(limit=vectors, dxa=1)]
    return Header(
        mode=Mode.FORWARD,
        ic_lanes=cfg.ic_lanes,
        oc_lanes=cfg.oc_lanes,
        unchecked=1,
        x_kind=KINDS[call.source.kind],
        result=KINDS[call.destination.kind],
        depth=1,
        x_count=vectors,
        w_count=call.count * LANES,
        H=1,
        W=1,
        levels=nest([Loop(limit=1), *loops]),
    )
