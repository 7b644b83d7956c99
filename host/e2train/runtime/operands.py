# SPDX-License-Identifier: Apache-2.0
"""A call's tensors as vectors, packed once; frames are cut from them, results gathered into one array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.devices.protocol import OUTER_MODES, LayerCall, on_host
from e2train.numerics import round_shift, saturate
from e2train.numerics.frames import Header
from e2train.packing import (
    Frame,
    Reply,
    channels_first,
    channels_last,
    gradient_from_lanes,
    weight_rows,
)
from e2train.runtime.plan import Block, Plan
from e2train.runtime.tiling import Problem

__all__ = ["Operands", "Results"]


class Operands:
    """What the frames of one call are cut from."""

    def __init__(self, plan: Plan, call: LayerCall) -> None:
        self._ic, self._oc = plan.config.ic_lanes, plan.config.oc_lanes
        a, b = on_host(call.a), on_host(call.b)
        self._x = channels_last(a, self._ic)
        self._gy = channels_last(b, self._oc * plan.k_vectors) if call.mode in OUTER_MODES else None
        self._w = self._kernels(plan, b) if self._gy is None else {}

    def frame(self, block: Block, header: Header) -> Frame:
        """The frame of one block, under its header with a nonce."""
        w = self._dot_w(block) if self._gy is None else self._outer_w(block, self._gy)
        return Frame(header=header, x=self._block_x(block), w=w)

    def _kernels(self, plan: Plan, w: NDArray[np.int8]) -> dict[Problem, NDArray[np.int8]]:
        """Rows of weights for each problem; in grad_input of the flipped, transposed kernel."""
        swapped = w.transpose(1, 0, 2, 3) if plan.mode == "grad_input" else w
        return {
            problem: weight_rows(
                swapped[:, :, problem.rows.taps][:, :, :, problem.cols.taps],
                ic_lanes=self._ic,
                oc_lanes=self._oc * plan.k_vectors,
            )
            for problem in {block.problem: None for block in plan.blocks}
        }

    def _block_x(self, block: Block) -> NDArray[Any]:
        """The source part that the windows meet."""
        part = self._x[
            slice(*block.samples),
            block.rows.low : block.rows.high,
            block.cols.low : block.cols.high,
            block.c_tiles[0] * self._ic : block.c_tiles[1] * self._ic,
        ]
        return np.ascontiguousarray(part)

    def _dot_w(self, block: Block) -> NDArray[Any]:
        rows = self._w[block.problem]
        return np.ascontiguousarray(rows[slice(*block.k_tiles), :, :, slice(*block.c_tiles)])

    def _outer_w(self, block: Block, gy: NDArray[Any]) -> NDArray[Any]:
        rows, cols = block.problem.rows, block.problem.cols
        tile = self._oc * block.problem.k_vectors
        lanes = slice(block.k_tiles[0] * tile, block.k_tiles[1] * tile)
        return np.ascontiguousarray(
            gy[slice(*block.samples), rows.place(block.rows), cols.place(block.cols), lanes]
        )


class Results:
    """The array that the frames' results add up to."""

    def __init__(self, plan: Plan) -> None:
        s, cfg = plan.shape, plan.config
        self._plan = plan
        self._saturations = 0
        if plan.mode in OUTER_MODES:
            tiles = (-(-s.K // (cfg.oc_lanes * plan.k_vectors)), -(-s.C // cfg.ic_lanes))
            lanes_of_tile = (cfg.ic_lanes, cfg.oc_lanes, plan.k_vectors)
            self._sums: NDArray[Any] = np.zeros((*tiles, s.R, s.S, *lanes_of_tile), np.int64)
            return
        size, channels = ((s.P, s.Q), s.K) if plan.mode == "forward" else ((s.H, s.W), s.C)
        self._lanes = cfg.oc_lanes * plan.k_vectors
        lanes = -(-channels // self._lanes) * self._lanes
        self._channels = channels
        self._sums = np.zeros((s.N, *size, lanes), np.int64 if plan.wide else np.int32)

    def add(self, block: Block, reply: Reply) -> None:
        """Take in the results of one frame."""
        self._saturations += reply.saturations
        if self._plan.mode in OUTER_MODES:
            part = self._sums[slice(*block.k_tiles), slice(*block.c_tiles)]
        else:
            part = self._sums[
                slice(*block.samples),
                block.problem.rows.place(block.rows),
                block.problem.cols.place(block.cols),
                block.k_tiles[0] * self._lanes : block.k_tiles[1] * self._lanes,
            ]
        pairs = self._plan.mode in OUTER_MODES and self._plan.k_vectors > 1
        kind = np.dtype(np.int32) if pairs else self._sums.dtype
        results = reply.results.view(kind).reshape(part.shape)
        if self._plan.wide:
            part += results
        else:
            part[...] = results

    def value(self) -> tuple[NDArray[Any], int]:
        """The call's result, and how many of its elements were saturated."""
        s = self._plan.shape
        if self._plan.mode in OUTER_MODES:
            return gradient_from_lanes(self._sums >> self._plan.scale_bits, K=s.K, C=s.C), self._saturations
        if not self._plan.wide:
            return channels_first(self._sums, self._channels), self._saturations
        fitted, saturations = saturate(round_shift(self._sums, self._plan.shift), bits=32)
        return channels_first(fitted.astype(np.int32), self._channels), saturations
