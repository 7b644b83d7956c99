# SPDX-License-Identifier: Apache-2.0
"""A residual network forward and backward over tensors that stay in a device's memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from e2train.devices.resident import DeviceTensor
from e2train.numerics.elementwise import Kind
from e2train.numerics.rounding import Ints
from e2train.numerics.scales import Floats
from e2train.runtime.resident.memory_map import MemoryMap
from e2train.runtime.resident.network import BlockSpec, ConvNorm, Network
from e2train.runtime.resident.norm import Moments, NormParameters, moments, norm_gradient
from e2train.runtime.resident.operations import Operations, Scaled

__all__ = ["Body", "BodyError", "BodyGradients", "Choices", "Parameters", "WeightPolicy", "body_kinds"]

Indices = NDArray[np.int64]
# Makes a weight gradient of a function that computes its integers from so many high bits of x and gy (0:
# all), and of their scale. Shapes: (K, C, R, S), channels in the model's order.
WeightPolicy = Callable[[str, Callable[[int, int], Ints], float], Floats]


class BodyError(ValueError):
    """A step that the device has no room for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What a convolution with batch norm computes with; channels in the model's order."""

    w: NDArray[np.int8]  # (K, C, R, S)
    exponent: int  # of the weights
    norm: NormParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Who decides which samples run which block.

    ``gates`` is asked block by block, with the averages of the block's input (N, C); it returns (N,), where
    zero skips, or None where all samples run. ``any_rank`` tells whether a flag is up on some rank.
    """

    gates: Callable[[int, Floats], Floats | None]
    any_rank: Callable[[bool], bool]


@dataclass(slots=True, kw_only=True)
class BodyGradients:
    """Gradients by the name of a convolution, and of each gate; channels in the model's order."""

    weights: dict[str, Floats] = field(default_factory=dict)
    norm_weights: dict[str, Floats] = field(default_factory=dict)
    norm_biases: dict[str, Floats] = field(default_factory=dict)
    gates: dict[int, Floats] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Conv:
    """A convolution with batch norm in this step: what went in, what came out, and scale*y + offset."""

    spec: ConvNorm
    w: NDArray[np.int8]
    w_exponent: int
    norm: NormParameters
    x: Scaled
    y: Scaled
    moments: Moments
    scale: Floats
    offset: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Block:
    """A block in this step; where no rank had samples for it, there is no branch."""

    spec: BlockSpec
    x: Scaled
    out: Scaled
    kept: Indices
    skipped: Indices
    gated: bool
    branch: tuple[_Conv, Scaled, _Conv] | None  # first convolution, what it gave behind ReLU, second


def body_kinds(network: Network, *, result: Kind, gradient: Kind) -> dict[str, Kind]:
    """Every tensor with a scale of its own, and the kind of its integers.

    The results of a stage's blocks share one scale, so that a sample that skips a block needs no work at all.
    """
    kinds: dict[str, Kind] = {"images": "int8", "pooled": "int16", "stem.y": result, "stem.gy": gradient}
    for block in network.blocks:
        kinds |= {f"{block.index}.{name}": result for name in ("y1", "y2", "ga1", "gx")}
        kinds |= {f"{block.index}.{name}": gradient for name in ("gy1", "gy2")}
        kinds[f"{block.index}.a1"] = "uint8"
    for stage in range(network.stages):
        kinds |= {f"x{stage}": "uint8", f"g{stage}": "int16"}
    return kinds


class Body:
    """Stem, blocks and average pooling of a residual network, one step at a time.

    The host decides which samples run which block and computes coefficients per channel; activations and
    gradients stay on the device.
    """

    def __init__(self, network: Network, operations: Operations, *, result: Kind, gradient: Kind) -> None:
        self._network = network
        self._ops = operations
        self._kinds: tuple[Kind, Kind] = (result, gradient)
        self._maps: dict[bool, MemoryMap] = {}
        self._map: MemoryMap
        self._parameters: Mapping[str, Parameters] = {}
        self._training = False
        self._stem: _Conv
        self._blocks: list[_Block] = []
        self._last_x: Scaled
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
        self._parameters, self._training = parameters, training
        self._ops.training = training
        self._blocks, self.observed = [], {}
        x = self._ops.load_images(self._map.tensor("images", N), images)
        self._stem = self._convolve(self._network.stem, x, "stem.y", share=1.0)
        x, sums = self._norm(self._stem, "x0", "stem.x", sums=True)
        assert sums is not None
        for spec in self._network.blocks:
            means = _model_order(_means(x, sums), spec.first.in_order)
            x, sums = self._block(spec, x, sums, choices.gates(spec.index, means), choices.any_rank)
        self._last_x = x
        return _model_order(_means(x, sums), self._network.last.out_order)

    def backward(self, gradient: Floats, policy: WeightPolicy) -> BodyGradients:
        """Gradients of everything, from those of what ``forward`` returned. Shapes: gradient (N, K)."""
        found = BodyGradients()
        pixels = self._last_x.tensor.H * self._last_x.tensor.W
        stage = self._network.stages - 1
        pooled = self._ops.load_gradient(
            self._map.tensor("pooled", len(gradient)), gradient[:, self._network.last.out_order] / pixels
        )
        g, _ = self._ops.affine(
            f"g{stage}",
            self._map.tensor(f"g{stage}", len(gradient)),
            u=pooled,
            a=np.ones(gradient.shape[1]),
            mask=self._last_x,
            mask_out=True,
            name="pooled",
        )
        for block in reversed(self._blocks):
            g = self._block_backward(block, g, found, policy)
        sums = self._ops.reduce(g, self._stem.y, None, per_sample=False, name=self._stem.spec.name)
        gy = self._norm_backward(self._stem, g, None, sums, "stem.gy", found)
        self._weights_backward(self._stem, gy, found, policy)
        return found

    def end_step(self) -> None:
        """Let scales follow the magnitudes of this step, or forget these after an evaluation."""
        if self._training:
            self._ops.scales.advance(self._ops.over_ranks)
        else:
            self._ops.scales.forget()

    def _plan(self, samples: int, backward: bool) -> MemoryMap:
        known = self._maps.get(backward)
        if known is None or known.samples < samples:
            result, gradient = self._kinds
            known = MemoryMap(
                self._network, samples=samples, result=result, gradient=gradient, backward=backward
            )
            room = self._ops.device.memory_bytes
            if room is not None and known.nbytes > room:
                fits = room * samples // known.nbytes
                remedy = f"use --batch {fits} or less" if fits else "the network does not fit at all"
                raise BodyError(
                    f"a step of {samples} images takes {known.nbytes} bytes of the device's memory, "
                    f"and {room} are there; {remedy}"
                )
            self._maps[backward] = known
            self._ops.device.reserve(max(each.nbytes for each in self._maps.values()))
        return known

    def _convolve(self, spec: ConvNorm, x: Scaled, site: str, *, share: float) -> _Conv:
        """A convolution, and batch norm's scale and offset for what it gave."""
        p = self._parameters[spec.name]
        w = p.w
        if spec.reordered:
            w = np.ascontiguousarray(w[np.ix_(spec.out_order, spec.in_order)])
        samples = x.tensor.N
        y, written = self._ops.convolve(
            "forward", spec, x, w, p.exponent, self._map.tensor(site, samples), site, sums=self._training
        )
        norm = p.norm.ordered(spec.out_order)
        found = norm.running
        if self._training:
            assert written.sums is not None
            assert written.squares is not None
            count = samples * spec.shape.P * spec.shape.Q
            found = moments(written.sums, written.squares, count=count, exponent=y.exponent)
            self.observed[spec.name] = (found.ordered(np.argsort(spec.out_order)), share)
        scale, offset = found.affine(norm)
        return _Conv(
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

    def _norm(self, conv: _Conv, site: str, name: str, *, sums: bool = False) -> tuple[Scaled, Ints | None]:
        """Batch norm and ReLU."""
        out = self._map.tensor(name, conv.y.tensor.N)
        return self._ops.affine(
            site,
            out,
            u=conv.y,
            a=conv.scale,
            d=conv.offset,
            relu=True,
            sums=sums,
            name=conv.spec.name,
        )

    def _block(
        self, spec: BlockSpec, x: Scaled, sums: Ints, gates: Floats | None, any_rank: Callable[[bool], bool]
    ) -> tuple[Scaled, Ints]:
        """The result of a block and its sums by sample; samples that skip it stay where they are."""
        N = x.tensor.N
        kept = np.arange(N) if gates is None else np.flatnonzero(gates)
        skipped = np.setdiff1d(np.arange(N), kept)
        runs = gates is None or (any_rank(len(kept) > 0) if self._training else len(kept) > 0)
        room = self._map.tensor(f"{spec.index}.x", N)
        out = room if spec.moves else replace(room, offsets=x.tensor.offsets.copy())
        out_sums = np.zeros((N, room.C), np.int64) if spec.moves else sums.copy()
        exponent = x.exponent
        branch = None
        if runs:
            strength = float(gates[kept[0]]) if gates is not None and len(kept) else 1.0
            branch, done, kept_sums = self._branch(
                spec, x.take(kept), room.take(kept), strength, share=len(kept) / N
            )
            out.offsets[kept], out_sums[kept], exponent = done.tensor.offsets, kept_sums, done.exponent
        if len(skipped) and spec.moves:
            done, skipped_sums = self._ops.affine(
                f"x{spec.stage}",
                room.take(skipped),
                u=x.take(skipped).seen("strided"),
                a=np.ones(room.C),
                sums=True,
                name=spec.second.name,
            )
            out_sums[skipped], exponent = skipped_sums, done.exponent
        result = Scaled(tensor=out, exponent=exponent)
        self._blocks.append(
            _Block(
                spec=spec, x=x, out=result, kept=kept, skipped=skipped, gated=gates is not None, branch=branch
            )
        )
        return result, out_sums

    def _branch(
        self, spec: BlockSpec, x: Scaled, out: DeviceTensor, strength: float, *, share: float
    ) -> tuple[tuple[_Conv, Scaled, _Conv], Scaled, Ints]:
        """Two convolutions and the sum with the shortcut, of the samples that run them."""
        first = self._convolve(spec.first, x, f"{spec.index}.y1", share=share)
        a1, _ = self._norm(first, f"{spec.index}.a1", f"{spec.index}.a1")
        second = self._convolve(spec.second, a1, f"{spec.index}.y2", share=share)
        done, sums = self._ops.affine(
            f"x{spec.stage}",
            out,
            u=second.y,
            a=strength * second.scale,
            v=x.seen("strided") if spec.moves else x,
            b=np.ones(out.C),
            d=strength * second.offset,
            relu=True,
            sums=True,
            name=spec.second.name,
        )
        assert sums is not None
        return (first, a1, second), done, sums

    def _block_backward(self, block: _Block, g: Scaled, found: BodyGradients, policy: WeightPolicy) -> Scaled:
        """The gradient of a block's input from that of its result, both masked by the ReLU behind them."""
        spec, stage = block.spec, block.spec.stage - block.spec.moves
        N = block.x.tensor.N
        room = self._map.tensor(f"g{stage}", N) if spec.moves else g.tensor
        result = g
        if block.branch is not None:
            mine, x = g.take(block.kept), block.x.take(block.kept)
            gx = self._branch_backward(block, mine, x, found, policy)
            result, _ = self._ops.affine(
                f"g{stage}",
                room.take(block.kept),
                u=gx,
                a=np.ones(room.C),
                v=mine.seen("spread") if spec.moves else mine,
                b=np.ones(room.C),
                mask=x,
                mask_out=True,
                name=spec.first.name,
            )
        if len(block.skipped) and spec.moves:
            result, _ = self._ops.affine(
                f"g{stage}",
                room.take(block.skipped),
                u=g.take(block.skipped).seen("spread"),
                a=np.ones(room.C),
                mask=block.x.take(block.skipped),
                mask_out=True,
                name=spec.first.name,
            )
        return Scaled(tensor=room, exponent=result.exponent)

    def _branch_backward(
        self, block: _Block, g: Scaled, x: Scaled, found: BodyGradients, policy: WeightPolicy
    ) -> Scaled:
        """What the branch adds to the gradient of the block's input."""
        assert block.branch is not None
        (first, a1, second), at = block.branch, block.spec.index
        sums = self._ops.reduce(g, second.y, None, per_sample=block.gated, name=second.spec.name)
        if block.gated:
            gates = np.zeros(block.x.tensor.N)
            gates[block.kept] = (sums[0] * second.offset + sums[1] * second.scale).sum(axis=1)
            found.gates[at] = gates
            sums = sums[0].sum(axis=0), sums[1].sum(axis=0)
        gy2 = self._norm_backward(second, g, None, sums, f"{at}.gy2", found)
        self._weights_backward(second, gy2, found, policy)
        ga1 = self._input_backward(second, gy2, f"{at}.ga1")
        sums = self._ops.reduce(ga1, first.y, a1, per_sample=False, name=first.spec.name)
        gy1 = self._norm_backward(first, ga1, a1, sums, f"{at}.gy1", found)
        self._weights_backward(first, gy1, found, policy)
        return self._input_backward(first, gy1, f"{at}.gx")

    def _norm_backward(
        self,
        conv: _Conv,
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

    def _weights_backward(self, conv: _Conv, gy: Scaled, found: BodyGradients, policy: WeightPolicy) -> None:
        spec = conv.spec
        back = np.ix_(np.argsort(spec.out_order), np.argsort(spec.in_order))

        def integers(x_bits: int, g_bits: int) -> Ints:
            gw = self._ops.weight_gradient(spec, conv.x, gy, x_bits=x_bits, g_bits=g_bits)
            return gw[back] if spec.reordered else gw

        scale = float(np.ldexp(1.0, conv.x.exponent + gy.exponent))
        found.weights[spec.name] = policy(spec.name, integers, scale)

    def _input_backward(self, conv: _Conv, gy: Scaled, site: str) -> Scaled:
        gx, _ = self._ops.convolve(
            "grad_input",
            conv.spec,
            gy,
            conv.w,
            conv.w_exponent,
            self._map.tensor(site, gy.tensor.N),
            site,
        )
        return gx


def _means(x: Scaled, sums: Ints) -> Floats:
    """Averages over the pixels, from sums of integers. Shapes: (N, C)."""
    means: Floats = np.ldexp(sums / (x.tensor.H * x.tensor.W), x.exponent)
    return means


def _model_order(stored: Floats, order: Indices) -> Floats:
    """Channels as the model numbers them. Shapes: (N, C)."""
    values = np.empty_like(stored)
    values[:, order] = stored
    return values
