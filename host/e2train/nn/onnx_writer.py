# SPDX-License-Identifier: Apache-2.0
"""A deployed network as an ONNX model: QCDQ, which onnxruntime runs, or QONNX, which FINN and hls4ml read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import onnx
from brevitas.nn import QuantConv2d, QuantIdentity
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from e2train.nn.deploy import DeployedNet
from e2train.nn.residual import PaddedShortcut
from e2train.nn.skipping import GatedSkip, StochasticDepth

__all__ = ["Dialect", "write_onnx"]

Dialect = Literal["onnx", "qonnx"]

_OPSET = 21  # the first whose QuantizeLinear has 16 bits
_IR_VERSION = 10
_QONNX = "qonnx.custom_op.general"
_SIX = 6.0


def write_onnx(
    net: DeployedNet,
    *,
    image: tuple[int, int, int],
    dialect: Dialect,
    metadata: Mapping[str, str],
    batch: int | str = "N",
) -> onnx.ModelProto:
    """The model of ``images`` (N, C, H, W), normalised, to ``logits`` (N, classes), for any or a fixed N."""
    graph = _Graph(dialect)
    logits = _network(net, graph)
    graph.rename(logits, "logits")
    classifier = [module for module in net.net.head.modules() if isinstance(module, nn.Linear)][-1]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "e2train",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, *image])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, classifier.out_features])],
            graph.initializers,
        ),
        opset_imports=[
            helper.make_opsetid("", _OPSET),
            *([helper.make_opsetid(_QONNX, 1)] if dialect == "qonnx" else []),
        ],
        ir_version=_IR_VERSION,
        producer_name="e2train",
    )
    helper.set_model_props(model, dict(metadata))
    return model


class _Graph:
    """Nodes and constants of a model in the making; values are known by their names."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one result, and return the result's name."""
        result = f"{name or kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [result], name=result, **attributes))
        return result

    def constant(self, values: Any, name: str) -> str:
        """Add a constant, and return its name."""
        name = f"{name}_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def rename(self, value: str, name: str) -> None:
        """Give the result of the last node another name."""
        assert self.nodes[-1].output[0] == value
        self.nodes[-1].output[0] = name

    def quantise(self, x: str, scale: float, *, bits: int, signed: bool, narrow: bool = False) -> str:
        """Round to integers times a scale, halves to even, and saturate."""
        if self.dialect == "qonnx":
            inputs = [self.constant(np.float32(value), "quant") for value in (scale, 0.0, bits)]
            return self.node(
                "Quant",
                x,
                *inputs,
                domain=_QONNX,
                signed=int(signed),
                narrow=int(narrow),
                rounding_mode="ROUND",
            )
        dtype = np.dtype(f"{'' if signed else 'u'}int{bits}")
        step, zero = self.constant(np.float32(scale), "scale"), self.constant(dtype.type(0), "zero")
        return self.node("DequantizeLinear", self.node("QuantizeLinear", x, step, zero), step, zero)

    def weight(self, layer: QuantConv2d, name: str) -> str:
        """The integers of a convolution's weights times their scale."""
        quantised = layer.quant_weight()
        scale = float(quantised.scale)
        if self.dialect == "qonnx":
            values = self.constant(_array(quantised.value), name)
            return self.quantise(values, scale, bits=8, signed=True, narrow=True)
        ints = self.constant(np.rint(_array(quantised.value) / scale).astype(np.int8), name)
        step, zero = self.constant(np.float32(scale), "scale"), self.constant(np.int8(0), "zero")
        return self.node("DequantizeLinear", ints, step, zero)


def _network(net: DeployedNet, graph: _Graph) -> str:
    model = net.net
    x = _emit(graph, model.stem, "images", "stem")
    gates = _gates(model.policy, graph)
    for index, block in enumerate(model.blocks):
        name = f"blocks.{index}"
        branch = _emit(graph, block.branch, x, f"{name}.branch")  # type: ignore[arg-type]
        if index in model.skippable and (gate := gates(index, x)) is not None:
            branch = graph.node("Mul", branch, gate)
        if block.shortcut is not None:
            shortcut = _emit(graph, block.shortcut, x, f"{name}.shortcut")  # type: ignore[arg-type]
            branch = graph.node("Add", shortcut, branch, name=name)
        x = _emit(graph, block.activation, branch, name)  # type: ignore[arg-type]
    return _emit(graph, model.head, x, "head")


def _emit(graph: _Graph, module: nn.Module, x: str, name: str) -> str:
    """Add what a module computes, and return the name of its result."""
    if isinstance(module, nn.Sequential):
        for index, part in enumerate(module):
            x = _emit(graph, part, x, f"{name}.{index}")
        return x
    for kind, emit in _EMITTERS.items():
        if isinstance(module, kind):
            return emit(graph, module, x, name)
    raise NotImplementedError(f"{name}: no ONNX of a {type(module).__name__}")


def _conv(graph: _Graph, layer: QuantConv2d, x: str, name: str) -> str:
    x = _quantised(graph, layer.input_quant, x)
    y = graph.node(
        "Conv",
        x,
        graph.weight(layer, f"{name}.weight"),
        name=name,
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.stride),
        pads=[*layer.padding, *layer.padding],
        group=layer.groups,
    )
    if layer.bias is not None:  # by itself: a Conv's would be rounded to integers where it is run
        y = graph.node("Add", y, graph.constant(_array(layer.bias).reshape(-1, 1, 1), f"{name}.bias"))
    return _quantised(graph, layer.output_quant, y) if layer.output_quant.is_quant_enabled else y


def _quantised(graph: _Graph, quant: Any, x: str) -> str:
    bits, signed = int(quant.bit_width()), bool(quant.is_signed)
    return graph.quantise(x, float(quant.scale()), bits=bits, signed=signed)


def _norm(graph: _Graph, norm: nn.BatchNorm2d, x: str, name: str) -> str:
    tensors = {"weight": norm.weight, "bias": norm.bias, "mean": norm.running_mean, "var": norm.running_var}
    constants = [graph.constant(_array(value), f"{name}.{key}") for key, value in tensors.items()]
    return graph.node("BatchNormalization", x, *constants, name=name, epsilon=norm.eps)


def _max_pool(graph: _Graph, pool: nn.MaxPool2d, x: str, name: str) -> str:
    sides = {"kernel_shape": pool.kernel_size, "strides": pool.stride, "pads": pool.padding}
    values = {key: [value] * (4 if key == "pads" else 2) for key, value in sides.items()}
    return graph.node("MaxPool", x, name=name, **values)


def _padded_shortcut(graph: _Graph, shortcut: PaddedShortcut, x: str, name: str) -> str:
    def ints(*values: int) -> str:
        return graph.constant(np.array(values, np.int64), name)

    step = ints(shortcut.stride, shortcut.stride)
    strided = graph.node("Slice", x, ints(0, 0), ints(1 << 30, 1 << 30), ints(2, 3), step)
    pads = ints(0, shortcut.front, 0, 0, 0, shortcut.back, 0, 0)
    return graph.node("Pad", strided, pads, name=name)


def _linear(graph: _Graph, linear: nn.Linear, x: str, name: str) -> str:
    return _gemm(graph, x, linear.weight, linear.bias, name)


def _gemm(graph: _Graph, x: str, weight: Tensor, bias: Tensor, name: str) -> str:
    constants = [graph.constant(_array(value), name) for value in (weight, bias)]
    return graph.node("Gemm", x, *constants, name=name, transB=1)


_EMITTERS: dict[type[nn.Module], Callable[[_Graph, Any, str, str], str]] = {
    QuantConv2d: _conv,
    QuantIdentity: lambda graph, quant, x, name: _quantised(graph, quant.act_quant, x),
    nn.BatchNorm2d: _norm,
    nn.Identity: lambda graph, module, x, name: x,
    nn.ReLU6: lambda graph, module, x, name: graph.node(
        "Clip", x, *(graph.constant(np.float32(value), name) for value in (0.0, _SIX))
    ),
    nn.ReLU: lambda graph, module, x, name: graph.node("Relu", x),
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveAvgPool2d: lambda graph, module, x, name: graph.node("GlobalAveragePool", x),
    nn.Flatten: lambda graph, module, x, name: graph.node("Flatten", x),
    nn.Linear: _linear,
    PaddedShortcut: _padded_shortcut,
}


def _gates(policy: nn.Module, graph: _Graph) -> Callable[[int, str], str | None]:
    """What gives the factor of a block's branch, from the block's number and input."""
    if isinstance(policy, StochasticDepth):
        survival = policy.survival
        return lambda index, x: graph.constant(np.float32(survival(index)), f"survival.{index}")
    if isinstance(policy, GatedSkip):
        return _GatedSkip(policy, graph)
    return lambda index, x: None


class _GatedSkip:
    """The gates of ``GatedSkip``: an LSTM over the blocks, whose rounded probability is 1 or 0."""

    def __init__(self, policy: GatedSkip, graph: _Graph) -> None:
        self._policy = policy
        self._graph = graph
        self._state: tuple[str, str] | None = None

    def __call__(self, index: int, x: str) -> str:
        graph, policy = self._graph, self._policy
        means = graph.node("Flatten", graph.node("GlobalAveragePool", x))
        features = _linear(graph, policy.embed[str(index)], means, f"gate.{index}.embed")  # type: ignore[arg-type]
        hidden = self._lstm(features)
        probability = graph.node("Sigmoid", _linear(graph, policy.out, hidden, f"gate.{index}.out"))
        half = graph.constant(np.float32(0.5), "half")
        decision = graph.node("Cast", graph.node("Greater", probability, half), to=TensorProto.FLOAT)
        shape = graph.constant(np.array([-1, 1, 1, 1], np.int64), "shape")
        return graph.node("Reshape", decision, shape, name=f"gate.{index}")

    def _lstm(self, x: str) -> str:
        """One step; gates in torch's order: input, forget, cell, output."""
        graph, cell = self._graph, self._policy.lstm
        total = _gemm(graph, x, cell.weight_ih, cell.bias_ih, "lstm.input")
        if self._state is None:
            recurrent = graph.constant(_array(cell.bias_hh), "lstm.bias")
        else:
            recurrent = _gemm(graph, self._state[0], cell.weight_hh, cell.bias_hh, "lstm.hidden")
        total = graph.node("Add", total, recurrent)
        parts = []
        for part, kind in enumerate(("Sigmoid", "Sigmoid", "Tanh", "Sigmoid")):
            bounds = (part * cell.hidden_size, (part + 1) * cell.hidden_size)
            start, end, axis = (graph.constant(np.array([v], np.int64), "slice") for v in (*bounds, 1))
            parts.append(graph.node(kind, graph.node("Slice", total, start, end, axis)))
        entered, kept, candidate, shown = parts
        state = graph.node("Mul", entered, candidate)
        if self._state is not None:
            state = graph.node("Add", graph.node("Mul", kept, self._state[1]), state)
        hidden = graph.node("Mul", shown, graph.node("Tanh", state))
        self._state = hidden, state
        return hidden


def _array(tensor: Tensor | None) -> NDArray[np.float32]:
    assert tensor is not None
    return tensor.detach().cpu().numpy().astype(np.float32)
