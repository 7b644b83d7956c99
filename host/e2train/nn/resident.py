# SPDX-License-Identifier: Apache-2.0
"""A residual network whose convolutions, batch norms and sums run over tensors that stay on a device."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from e2train.devices.protocol import ShapeError
from e2train.devices.resident import ResidentDevice
from e2train.nn.context import OffloadContext
from e2train.nn.layers import refuse_tracing
from e2train.nn.quantisers import NonFiniteInputError, widened
from e2train.nn.quantities import ConvScales, Quantity, rounded_norm
from e2train.nn.resident_limits import KnownLayers, check_context, check_gate, check_norms, check_numbers
from e2train.nn.resident_network import describe
from e2train.nn.residual import ResidualNet
from e2train.nn.skipping import RunAll
from e2train.nn.turns import turns_of
from e2train.numerics.rounding import Ints
from e2train.numerics.scales import Floats, power_of_two
from e2train.runtime.resident import (
    Body,
    BodyGradients,
    Choices,
    Kinds,
    NormParameters,
    Operations,
    Parameters,
    Scales,
    body_kinds,
)

__all__ = ["ResidentBody", "quantise_weight"]

_WEIGHT_MOST = 127


class ResidentBody(nn.Module):
    """Stem, blocks and average pooling of a model on a device; the model keeps its parameters.

    The running maxima that scales follow are part of the model's state. A backward pass must come before the
    next forward pass of any model on the device, which overwrites what it needs. A copy shares the device and
    the ledger. Threads take turns.
    """

    def __init__(
        self,
        model: ResidualNet,
        context: OffloadContext,
        *,
        image: tuple[int, int, int],
        result_bits: int = 16,
        input_gradient_bits: int = 0,
        block_gradient_bits: int = 16,
        decay: float = 0.95,
        gradient_range: float = 1.0,
        dithered: bool = False,
    ) -> None:
        """``image`` is the shape (C, H, W) of what comes in; the rest is as the settings of these names.

        Raises: ResidentError when the model is built otherwise than a program on the device can follow.
        """
        super().__init__()
        check_context(context)
        self._known = KnownLayers(model)
        check_numbers(
            image,
            decay,
            gradient_range,
            result_bits=result_bits,
            input_gradient_bits=input_gradient_bits or result_bits,
            gradient_bits=context.gradient_bits,
            block_gradient_bits=block_gradient_bits,
        )
        self.context = context
        self._network = describe(model, image)
        self._kinds = Kinds.of_bits(
            result=result_bits,
            input_gradient=input_gradient_bits,
            gradient=context.gradient_bits,
            block_gradient=block_gradient_bits,
        )
        self._scaling: dict[str, Any] = {
            "decay": decay,
            "gradient_range": gradient_range,
            "dithered": dithered,
        }
        self._layers = {conv.name: _layers(model, conv.name) for conv in self._network.convs}
        self.maxima: Tensor
        count = len(body_kinds(self._network, self._kinds))
        self.register_buffer("maxima", torch.zeros(count, dtype=torch.float64))
        self._begin()

    def _begin(self) -> None:
        """Rebuild the program; what it has learnt is in ``maxima``."""
        device = self.context.device
        assert isinstance(device, ResidentDevice)
        kinds = body_kinds(self._network, self._kinds)
        self._scales = Scales(kinds, self.maxima.numpy(), **self._scaling)
        self._operations = Operations(device, self._scales, self.context.ledger, over_ranks=self._over_ranks)
        self._body = Body(self._network, self._operations, self._kinds)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ResidentBody:
        """As torch does, but ``maxima`` keep their bits where a model is cast to narrower floats."""
        exact = self.maxima
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.maxima.dtype != torch.float64:
            self.maxima = exact
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ResidentBody:
        twin = ResidentBody.__new__(ResidentBody)
        memo[id(self)] = twin
        shared = {"_network": self._network}
        kept = {
            key: value
            for key, value in self.__dict__.items()
            if key not in ("_scales", "_operations", "_body", *shared)
        }
        twin.__dict__.update(copy.deepcopy(kept, memo) | shared)
        twin._begin()
        return twin

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights of the convolutions, by name."""
        return {name: conv.weight for name, (conv, _) in self._layers.items()}

    def scales(self, survival: Callable[[int], float] = lambda index: 1.0) -> dict[str, ConvScales]:
        """What evaluations compute with, by convolution; ``survival`` weights the branch of a block.

        Raises: ValueError when some tensor has no scale yet.
        """
        self._scales.maxima = self.maxima.numpy()
        found, before = {}, "images"
        parameters = self._quantised()
        for block in self._network.blocks:
            site, result = before, f"x{block.stage}"
            for number, conv in enumerate(block.convs, 1):
                last, p, x = conv is block.last, parameters[conv.name], self._quantity(site)
                site = f"{block.name}.a{number}"
                w = Quantity(bits=8, signed=True, scale=2.0**p.exponent)
                y = self._quantity(f"{block.name}.y{number}")
                y = replace(y, scale=max(y.scale, x.scale * w.scale))  # a shift is never negative
                added = self._quantity(before).scale if last and block.shortcut != "none" else 0.0
                strength = survival(block.index) if last and block.index is not None else 1.0
                norm = rounded_norm(
                    p.norm, y.scale, self._quantity(result if last else site).scale, added, strength
                )
                found[conv.name] = ConvScales(
                    x=x, w=w, y=y, a=self._quantity(result) if last else None, norm=norm
                )
            before = result
        return found

    def _quantity(self, site: str) -> Quantity:
        if not self._scales.known(site):
            raise ValueError(f"{site} has no scale yet: the model has not been trained")
        kind = np.dtype(self._scales.kind(site))
        return Quantity(
            bits=8 * kind.itemsize, signed=kind.kind == "i", scale=2.0 ** self._scales.exponent(site)
        )

    def run(self, model: ResidualNet, images: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Averages of the last block's channels, and how many samples ran each block.

        Shapes: images (N, C, H, W), averages (N, K).
        Raises: ShapeError for images of another shape; NonFiniteInputError; ResidentError where layers are
            no longer those of before; NotImplementedError where they want a gradient, or torch traces.
        """
        refuse_tracing("the model")
        averages, runs = self._run(model, images)
        return averages, runs

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _run(self, model: ResidualNet, images: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        with turns_of(self.context.device).lock:
            return self._run_alone(model, images)

    def _run_alone(self, model: ResidualNet, images: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        self._check(images)
        self._known.check(model)
        norms = {conv.name: (self._layers[conv.name][1], conv.frozen) for conv in self._network.convs}
        check_norms(norms, training=model.training)
        self._scales.maxima = self.maxima.numpy()  # where a state has been loaded
        dtype = images.dtype if images.is_floating_point() else torch.float32
        turns = turns_of(self.context.device)
        turns.number += 1
        gates: dict[int, Tensor] = {}
        skippable = model.skippable
        model.policy.begin(images)
        runs = [len(images)] * len(model.blocks)

        def decide(index: int, means: Callable[[], Floats]) -> Floats | None:
            if index not in skippable or isinstance(model.policy, RunAll):
                return None
            features = torch.from_numpy(means()).to(dtype)[:, :, None, None]
            gate = model.policy.gate(index, features.to(images.device))
            if gate is None:
                return None
            check_gate(index, gate.detach(), len(images), training=model.training)
            gates[index] = gate
            runs[index] = int(gate.detach().count_nonzero())
            return _array(gate)

        training, differentiable = model.training, torch.is_grad_enabled()
        learns = self._network.first_learning(0) is not None
        backward = training and differentiable and learns
        means = self._body.forward(
            _array(images, np.float32),
            self._quantised(),
            Choices(
                gates=decide,
                any_rank=self.context.group.any,
                some=bool(skippable) and not isinstance(model.policy, RunAll),
                first=model.first_updated,
            ),
            training=training,
            backward=backward,
        )
        if training:
            self._follow_statistics()
        if not backward:
            self._body.end_step()
        averages = torch.from_numpy(means).to(images.device, dtype)
        if differentiable:
            turn = turns.number if backward else None
            tensors = [tensor for layers in self._layers.values() for tensor in _parameters(*layers)]
            averages = _Backward.apply(self, turn, averages, list(gates), *gates.values(), *tensors)  # type: ignore[no-untyped-call]
        return averages, tuple(runs)

    def drop_step(self) -> None:
        """Forget the magnitudes of a step that was given up; ``maxima`` are those from before it."""
        self._operations.drop_step()

    def _check(self, images: Tensor) -> None:
        s = self._network.first.shape
        if images.dim() != 4 or tuple(images.shape[1:]) != (s.C, s.H, s.W) or not len(images):
            raise ShapeError(
                f"images must be (N, {s.C}, {s.H}, {s.W}) with N from 1 on, not {tuple(images.shape)}"
            )
        if not bool(images.isfinite().all()):
            raise NonFiniteInputError("the images hold values that are not finite")
        if images.requires_grad and torch.is_grad_enabled():
            raise NotImplementedError(
                "with resident tensors images get no gradient; detach them, or use a model without a device"
            )

    def gradients(self, turn: int | None, gradient: Tensor, gates: list[int]) -> list[Tensor | None]:
        """Gradients of these gates and all parameters, from those of the averages; None where nothing ran.

        From a gradient that is not finite all are infinite and nothing runs: a loss scaler skips the step.

        Raises: RuntimeError when they were taken before, another forward pass has come between, or the
            forward pass was an evaluation.
        """
        with turns_of(self.context.device).lock:
            return self._gradients(turn, gradient, gates)

    def _gradients(self, turn: int | None, gradient: Tensor, gates: list[int]) -> list[Tensor | None]:
        turns = turns_of(self.context.device)
        if turn is None:
            raise RuntimeError(
                "an evaluation with resident tensors keeps nothing for a backward pass; call model.train() "
                "first"
            )
        if turn != turns.number:
            raise RuntimeError(
                "the device's memory no longer holds this forward pass: with resident tensors each forward "
                "pass has one backward pass, before the next forward pass of any model on the device"
            )
        turns.number += 1
        if self.context.group.any(not bool(gradient.isfinite().all())):  # else ranks wait for each other
            tensors = [tensor for layers in self._layers.values() for tensor in _parameters(*layers)]
            of_gates = [gradient.new_full((len(gradient),), math.inf) for _ in gates]
            return [*of_gates, *(torch.full_like(tensor, math.inf) for tensor in tensors)]
        found = self._body.backward(
            _array(gradient), self._weight_gradient, only=self.context.bits_asked_once
        )
        self._body.end_step()
        values = [found.gates.get(index) for index in gates]
        values += [value for name in self._layers for value in _of_layer(found, name)]
        return [None if value is None else torch.from_numpy(value).to(gradient) for value in values]

    def _quantised(self) -> dict[str, Parameters]:
        found = {}
        for name, (conv, norm) in self._layers.items():
            ints, exponent = quantise_weight(conv.weight)
            found[name] = Parameters(
                w=_array(ints, np.int8),
                exponent=exponent,
                norm=NormParameters(
                    weight=_array(norm.weight),
                    bias=_array(norm.bias),
                    running_mean=_array(_buffer(norm.running_mean)),
                    running_var=_array(_buffer(norm.running_var)),
                    eps=norm.eps,
                ),
            )
        return found

    @torch.no_grad()
    def _follow_statistics(self) -> None:
        """Move running statistics as nn.BatchNorm2d does, by less where samples skipped."""
        for name, (moments, share) in self._body.observed.items():
            norm = self._layers[name][1]
            if not moments.count:
                continue
            _buffer(norm.num_batches_tracked).add_(1)
            factor = (
                1 / int(_buffer(norm.num_batches_tracked)) if norm.momentum is None else norm.momentum * share
            )
            unbiased = moments.var * (moments.count / max(1, moments.count - 1))
            for running, now in ((norm.running_mean, moments.mean), (norm.running_var, unbiased)):
                buffer = _buffer(running)
                buffer.copy_(torch.from_numpy((1 - factor) * _array(buffer) + factor * now))

    def _weight_gradient(self, name: str, integers: Callable[[int, int], Ints], scale: float) -> Floats:
        def compute(x_bits: int, g_bits: int) -> Tensor:
            return torch.from_numpy(integers(x_bits, g_bits))

        bits = self.context.gradient_bits
        return _array(self.context.weight_gradient(name, compute, scale, gy_bits=bits))

    def _over_ranks(self, values: Floats) -> Floats:
        return _array(self.context.group.max(torch.from_numpy(values)))


class _Backward(torch.autograd.Function):
    """Has averages that were computed without a graph depend on gates and parameters."""

    @staticmethod
    def forward(
        ctx: Any, body: ResidentBody, turn: int | None, averages: Tensor, gates: list[int], *_: Tensor
    ) -> Tensor:
        ctx.body, ctx.turn, ctx.gates = body, turn, gates
        return averages.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise NotImplementedError(
                "a model with resident tensors is differentiable once, without create_graph=True; take "
                "second derivatives of a model without a device"
            )
        return None, None, None, None, *ctx.body.gradients(ctx.turn, gradient, ctx.gates)


def quantise_weight(weight: Tensor) -> tuple[Tensor, int]:
    """int8 in [-127, 127] and their exponent, as the quantiser ``WeightInt8`` gives them.

    Raises: DivergenceError when a weight is not finite.

    >>> ints, exponent = quantise_weight(torch.tensor([0.5, -0.25, 0.001]))
    >>> ints.tolist(), exponent
    ([127, -64, 0], -8)
    """
    held = weight.detach()
    exponent = power_of_two(float(held.abs().max())) - 7
    ints = torch.round(held * 2.0**-exponent).clamp(-_WEIGHT_MOST, _WEIGHT_MOST)
    return ints.to(torch.int8), exponent


def _layers(model: nn.Module, name: str) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A convolution by its name, and the batch norm behind it."""
    parent, _, index = name.rpartition(".")
    branch = model.get_submodule(parent)
    conv, norm = branch.get_submodule(index), branch.get_submodule(str(int(index) + 1))
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return conv, norm


def _parameters(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor]:
    return conv.weight, norm.weight, norm.bias


def _of_layer(found: BodyGradients, name: str) -> tuple[Floats | None, Floats | None, Floats | None]:
    return found.weights.get(name), found.norm_weights.get(name), found.norm_biases.get(name)


def _buffer(buffer: Tensor | None) -> Tensor:
    assert buffer is not None
    return buffer


def _array(tensor: Tensor, dtype: Any = np.float64) -> NDArray[Any]:
    held = tensor.detach()
    return (widened(held) if held.is_floating_point() else held).cpu().numpy().astype(dtype)
