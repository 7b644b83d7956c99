# SPDX-License-Identifier: Apache-2.0
"""A residual network forward and backward over tensors that stay in a device's memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from e2train.devices.resident import DeviceTensor
from e2train.numerics.elementwise import Written
from e2train.numerics.rounding import Ints
from e2train.numerics.scales import Floats
from e2train.runtime.resident.kinds import Kinds
from e2train.runtime.resident.memory_map import MemoryMap
from e2train.runtime.resident.network import BlockSpec, ConvNorm, Network
from e2train.runtime.resident.norm import Moments, moments, norm_gradient
from e2train.runtime.resident.operations import Operations
from e2train.runtime.resident.queue import Later
from e2train.runtime.resident.scaled import Scaled
from e2train.runtime.resident.step import (
    BlockStep,
    BodyError,
    BodyGradients,
    Choices,
    ConvStep,
    Parameters,
    WeightPolicy,
    features,
    through_shortcut,
)
from e2train.runtime.resident.weight_gradients import WeightGradients

__all__ = ["Body", "BodyError"]

Indices = NDArray[np.int64]


class Body:
    """Blocks, stem and head among them, and average pooling of a residual network, one step at a time.

    The host decides which samples run which block; activations and gradients stay on the device.
    """

    def __init__(self, network: Network, operations: Operations, kinds: Kinds) -> None:
        self._network = network
        self._ops = operations
        self._kinds = kinds
        self._maps: dict[bool, MemoryMap] = {}
        self._map: MemoryMap
        self._parameters: Mapping[str, Parameters] = {}
        self._training = False
        self._gated = True  # whether averages of every block's result may be asked for
        self._blocks: list[BlockStep] = []
        self._last_x: Scaled
        self._weights: WeightGradients
        self.observed: dict[str, tuple[Moments, float]] = {}
        """Statistics of the last forward pass by convolution, with the share of the samples that ran."""

    def forward(
        self,
        images: NDArray[np.float32],
        parameters: Mapping[str, Parameters],
        choices: Choices,
        *,
        training: bool,
        backward: bool,
    ) -> Floats:
        """Averages of the last block's channels over the pixels; ``backward`` keeps what that pass needs.

        Shapes: images (N, C, H, W), result (N, K).
        """
        N = len(images)
        self._map = self._plan(N, backward)
        self._parameters, self._training, self._gated = parameters, training, choices.some
        self._ops.begin_step(training=training)
        self._blocks, self.observed, self._ends = [], {}, self._network.first_learning(choices.first)
        x = self._ops.load_images(self._map.tensor("images", N), images)
        sums = Later(lambda: np.zeros((N, images.shape[1]), np.int64))  # nobody asks for those of images
        for spec in self._network.blocks:
            gates = None
            if spec.index is not None:
                gates = choices.gates(spec.index, partial(features, x, sums, spec.first.in_order))
            x, sums = self._block(spec, x, sums, gates, choices.any_rank)
        self._last_x = x
        return features(x, sums, self._network.last.out_order)

    def backward(
        self, gradient: Floats, policy: WeightPolicy, *, only: tuple[int, int] | None = None
    ) -> BodyGradients:
        """Gradients of everything, from those of what ``forward`` returned. Shapes: gradient (N, K).

        ``only`` are the high bits of x and gy that the policy asks for once and alone; it is asked last then.
        """
        found = BodyGradients()
        if self._ends is None:
            return found
        self._weights = WeightGradients(self._ops, found, policy, only)
        pixels = self._last_x.tensor.H * self._last_x.tensor.W
        stage = self._network.stages - 1
        pooled = self._ops.load_gradient(
            self._map.tensor("pooled", len(gradient)), gradient[:, self._network.last.out_order] / pixels
        )
        g, _ = self._ops.affine(
            f"g{stage}",
            self._map.tensor(f"g{stage}", len(gradient)),
            u=pooled,
            mask=self._last_x.mask,
            mask_out=True,
            name="pooled",
        )
        first, *behind = self._blocks[self._ends :]
        for block in reversed(behind):
            g = self._block_backward(block, g, found)
            if not block.branch:
                self._weights.ask()
        if first.branch:  # nothing before it wants a gradient
            self._branch_backward(first, g.take(first.kept), found)
        self._weights.settle()
        return found

    def end_step(self) -> None:
        """Let scales follow the magnitudes of this step, or forget these after an evaluation."""
        self._ops.settle()
        if self._training:
            self._ops.scales.advance(self._ops.over_ranks)
        else:
            self._ops.scales.forget()

    def _plan(self, samples: int, backward: bool) -> MemoryMap:
        known = self._maps.get(backward)
        if known is None or known.samples < samples:
            known = MemoryMap(self._network, self._kinds, samples=samples, backward=backward)
            room = self._ops.device.memory_bytes
            if room is not None and known.nbytes > room:
                fits = room * samples // known.nbytes
                remedy = f"use --batch {fits} or less" if fits else "the network does not fit at all"
                raise BodyError(
                    f"a step of {samples} images takes {known.nbytes} bytes of the device's memory, "
                    f"and {room} are there; {remedy}, or give the board more (Memory in docs/board.md)"
                )
            self._maps[backward] = known
            self._ops.device.reserve(max(each.nbytes for each in self._maps.values()))
        return known

    def _convolve(self, spec: ConvNorm, x: Scaled, site: str, *, share: float) -> ConvStep:
        """A convolution, and batch norm's scale and offset for what it gave."""
        p = self._parameters[spec.name]
        w = spec.in_memory(p.w)
        samples = x.tensor.N
        observes = self._training and not spec.frozen
        y, written = self._ops.convolve(
            "forward", spec, x, w, p.exponent, self._map.tensor(site, samples), site, sums=observes
        )
        norm = p.norm.ordered(spec.out_order)
        found = norm.running
        if observes:
            sums, squares = written.get().sums, written.get().squares
            assert sums is not None
            assert squares is not None
            count = samples * spec.shape.P * spec.shape.Q
            found = moments(sums, squares, count=count, exponent=y.exponent)
            self.observed[spec.name] = (found.ordered(np.argsort(spec.out_order)), share)
        scale, offset = found.affine(norm)
        return ConvStep(
            spec=spec,
            w=w,
            w_exponent=p.exponent,
            norm=norm,
            x=x,
            y=y,
            moments=found,
            scale=scale,
            offset=offset,
        )

    def _block(
        self,
        spec: BlockSpec,
        x: Scaled,
        sums: Later[Ints],
        gates: Floats | None,
        any_rank: Callable[[bool], bool],
    ) -> tuple[Scaled, Later[Ints]]:
        """The result of a block and its sums by sample; samples that skip it stay where they are."""
        N = x.tensor.N
        kept = np.arange(N) if gates is None else np.flatnonzero(gates)
        skipped = np.setdiff1d(np.arange(N), kept)
        runs = gates is None or (any_rank(len(kept) > 0) if self._training else len(kept) > 0)
        room = self._map.tensor(spec.result, N)
        offsets = (room if spec.moves else x.tensor).offsets.copy()
        parts: list[tuple[Indices, Later[Written]]] = []  # of samples, with their sums
        exponent = x.exponent
        branch: tuple[ConvStep, ...] = ()
        if runs:
            strength = float(gates[kept[0]]) if gates is not None and len(kept) else 1.0
            branch, done, written = self._branch(
                spec, x.take(kept), room.take(kept), strength, share=len(kept) / N
            )
            offsets[kept], exponent = done.tensor.offsets, done.exponent
            parts.append((kept, written))
        # All ranks ask for a scale that the samples which run the block have left unknown.
        known = self._ops.scales.known(f"x{spec.stage}") or not (self._training and runs)
        if spec.moves and (len(skipped) or (gates is not None and not known)):
            done, written = self._ops.affine(
                f"x{spec.stage}",
                room.take(skipped),
                u=x.take(skipped).seen("strided"),
                sums=self._gated or spec is self._network.blocks[-1],
                name=spec.last.name,
            )
            exponent = done.exponent
            parts.append((skipped, written))
        out = replace(room, offsets=offsets)
        result = Scaled(tensor=out, exponent=exponent, activation=spec.last.activation)
        self._blocks.append(
            BlockStep(spec=spec, x=x, kept=kept, skipped=skipped, gated=gates is not None, branch=branch)
        )

        def of_samples() -> Ints:
            stays = len(skipped) and not spec.moves
            found = sums.get().copy() if stays else np.zeros((N, room.C), np.int64)
            for samples, part in parts:
                found[samples] = part.get().sums
            return found

        return result, Later(of_samples)

    def _branch(
        self, spec: BlockSpec, x: Scaled, out: DeviceTensor, strength: float, *, share: float
    ) -> tuple[tuple[ConvStep, ...], Scaled, Later[Written]]:
        """The convolutions of a block and the sum with the shortcut, of the samples that run them."""
        shortcut = through_shortcut(spec, x, "strided")
        convs: list[ConvStep] = []
        for number, conv in enumerate(spec.convs, 1):
            convs.append(self._convolve(conv, x, f"{spec.name}.y{number}", share=share))
            if conv is not spec.last:
                x = self._norm(convs[-1], f"{spec.name}.a{number}")
        last = convs[-1]
        done, written = self._ops.affine(
            f"x{spec.stage}",
            out,
            u=last.y,
            a=strength * last.scale,
            v=shortcut,
            d=strength * last.offset,
            activation=spec.last.activation,
            sums=self._gated or spec is self._network.blocks[-1],
            steady=spec.last.frozen,
            in_place=not spec.moves,
            name=spec.last.name,
        )
        return tuple(convs), done, written

    def _norm(self, conv: ConvStep, site: str) -> Scaled:
        """Batch norm and activation."""
        out, _ = self._ops.affine(
            site,
            self._map.tensor(site, conv.y.tensor.N),
            u=conv.y,
            a=conv.scale,
            d=conv.offset,
            activation=conv.spec.activation,
            steady=conv.spec.frozen,
            name=conv.spec.name,
        )
        return out

    def _block_backward(self, block: BlockStep, g: Scaled, found: BodyGradients) -> Scaled:
        """The gradient of a block's input from that of its result, both masked by their activations."""
        spec, stage = block.spec, block.spec.stage - block.spec.moves
        N = block.x.tensor.N
        room = self._map.tensor(f"g{stage}", N) if spec.moves else g.tensor
        result = g
        if block.branch:
            mine = g.take(block.kept)
            gy = self._branch_backward(block, mine, found)
            result, _ = self._ops.affine(
                f"g{stage}",
                room.take(block.kept),
                u=self._input_backward(block.branch[0], gy, f"{spec.name}.ga0"),
                v=through_shortcut(spec, mine, "spread"),
                mask=block.x.take(block.kept).mask,
                mask_out=True,
                in_place=not spec.moves,
                name=spec.first.name,
            )
        known = self._ops.scales.known(f"g{stage}") or not block.branch
        if spec.moves and (len(block.skipped) or (block.gated and not known)):
            result, _ = self._ops.affine(
                f"g{stage}",
                room.take(block.skipped),
                u=g.take(block.skipped).seen("spread"),
                mask=block.x.take(block.skipped).mask,
                mask_out=True,
                name=spec.first.name,
            )
        return Scaled(tensor=room, exponent=result.exponent)

    def _branch_backward(self, block: BlockStep, g: Scaled, found: BodyGradients) -> Scaled:
        """The gradient of what a branch's first convolution gave, from that of the samples that ran it."""
        name, mask = block.spec.name, None  # g is masked already
        for number, conv in reversed(list(enumerate(block.branch, 1))):
            if conv.spec.frozen:
                self._weights.ask()
                gy = self._frozen_backward(conv, g, mask, f"{name}.gy{number}")
            else:
                sums = self._sums_backward(block, conv, g, mask, found)
                self._weights.ask()
                gy = self._norm_backward(conv, g, mask, sums, f"{name}.gy{number}", found)
                self._weights.take(conv, gy)
            if number > 1:
                g = self._input_backward(conv, gy, f"{name}.ga{number - 1}")
                mask = conv.x.mask
        return gy

    def _sums_backward(
        self, block: BlockStep, conv: ConvStep, g: Scaled, mask: Scaled | None, found: BodyGradients
    ) -> tuple[Floats, Floats]:
        """Sums by channel that batch norm's gradient is made of; a gate's is made of sums by sample."""
        gated = block.gated and conv is block.branch[-1]
        sums = self._ops.reduce(g, conv.y, mask, per_sample=gated, name=conv.spec.name)
        if not gated:
            return sums
        self._gate_backward(block, sums, found)
        return sums[0].sum(axis=0), sums[1].sum(axis=0)

    def _gate_backward(self, block: BlockStep, sums: tuple[Floats, Floats], found: BodyGradients) -> None:
        """The gradient of a gate is that of batch norm's result times this result, summed up by sample."""
        assert block.spec.index is not None
        last = block.branch[-1]
        gates = np.zeros(block.x.tensor.N)
        gates[block.kept] = (sums[0] * last.offset + sums[1] * last.scale).sum(axis=1)
        found.gates[block.spec.index] = gates

    def _norm_backward(
        self,
        conv: ConvStep,
        g: Scaled,
        mask: Scaled | None,
        sums: tuple[Floats, Floats],
        site: str,
        found: BodyGradients,
    ) -> Scaled:
        """The gradient of a convolution's result from that behind batch norm, or with a mask behind ReLU."""
        gradient = norm_gradient(*sums, conv.moments, conv.norm)
        back = np.argsort(conv.spec.out_order)
        found.norm_weights[conv.spec.name] = gradient.weight[back]
        found.norm_biases[conv.spec.name] = gradient.bias[back]
        gy, _ = self._ops.affine(
            site,
            self._map.tensor(site, g.tensor.N),
            u=g,
            a=gradient.a,
            v=conv.y,
            b=gradient.b,
            d=gradient.d,
            mask=mask,
            name=conv.spec.name,
        )
        return gy

    def _frozen_backward(self, conv: ConvStep, g: Scaled, mask: Scaled | None, site: str) -> Scaled:
        """The gradient of a frozen convolution's result: batch norm is scale*y + offset."""
        gy, _ = self._ops.affine(
            site,
            self._map.tensor(site, g.tensor.N),
            u=g,
            a=conv.scale,
            mask=mask,
            steady=True,
            name=conv.spec.name,
        )
        return gy

    def _input_backward(self, conv: ConvStep, gy: Scaled, site: str) -> Scaled:
        gx, _ = self._ops.convolve(
            "grad_input", conv.spec, gy, conv.w, conv.w_exponent, self._map.tensor(site, gy.tensor.N), site
        )
        return gx
