"""ncnn: a whole network as the text and the weights that it loads; one image, no batch axis."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from ..errors import KernelFailure
from ..graph import Node, Value
from ..graph.nodes.windows import window_of
from .libraries import Array
from .ncnn_model import FUSED, LAYERS, Network, Parameter, activation_values
from .networks import folded

__all__ = ["written"]

_CHANNELS_LAST = [0, 2, 3, 1]


def written(model: Path, inputs: dict[str, Array]) -> tuple[Network, list[str]]:
    """Return the network, and the names of its outputs in the model's order."""
    graph = folded(model, inputs)
    users = graph.users()
    writer = _Writer({v: len(taken) for v, taken in users.items()}, graph.outputs)
    for value, (name, array) in zip(graph.inputs, inputs.items(), strict=True):
        if array.shape[0] != 1:
            raise KernelFailure("launch", "ncnn runs one image at a time")
        writer.network.input(name, array)
        writer.made(value, name)
    for node in graph.nodes:
        writer.add(node)
    return writer.network, [writer.take(v) for v in graph.outputs]


class _Writer:
    """Writes nodes as layers; every output that several take is split first."""

    def __init__(self, uses: dict[Value, int], outputs: list[Value]) -> None:
        self.network = Network()
        self._uses = uses
        self._outputs = outputs
        self._names: dict[Value, list[str]] = {}

    def made(self, value: Value, name: str) -> None:
        """Say under which name a value is there."""
        count = self._uses.get(value, 0) + self._outputs.count(value)
        self._names[value] = self.network.split(name, count) if count > 1 else [name]

    def take(self, value: Value) -> str:
        """Return a name of a value that nobody else has taken."""
        return self._names[value].pop()

    def add(self, node: Node) -> None:
        """Write a node."""
        writers: dict[str, Callable[[Node], None]] = {
            "Conv": self._conv, "Gemm": self._gemm, "MaxPool": self._pool,
            "AveragePool": self._pool,
        }  # fmt: skip
        if node.type in writers:
            writers[node.type](node)
        else:
            self._simple(node)
        self.made(node.output(), self.network.output)

    def _layer(self, kind: str, node: Node, numbers: dict[int, Parameter]) -> None:
        images = [v for v in node.inputs if v is not None and v.data is None]
        self.network.layer(kind, [self.take(v) for v in images], numbers)

    def _simple(self, node: Node) -> None:
        axis = int(node.get("axis", 1)) - 1
        sizes = node.output().sizes[1:]
        known = any(v is not None and v.data is not None for v in node.inputs)
        layers: dict[str, tuple[str, dict[int, Parameter]]] = {
            "GlobalAveragePool": ("Pooling", {0: 1, 4: 1}),
            "Flatten": ("Flatten", {}),
            "Add": ("BinaryOp", {0: 0}),
            "Concat": ("Concat", {0: axis}),
            "Relu": ("ReLU", {}),
            "Sigmoid": ("Sigmoid", {}),
            "Softmax": ("Softmax", {0: axis, 1: 1}),
        }
        if node.type in layers and not known:
            self._layer(layers[node.type][0], node, layers[node.type][1])
        elif node.type == "Reshape" and len(sizes) in (1, 2):
            self._layer("Reshape", node, dict(enumerate(sizes[::-1])))
        elif node.type == "Transpose" and list(node.get("perm", [])) == _CHANNELS_LAST:
            self._layer("Permute", node, {0: 3})
        else:
            raise _unwritten(node)

    def _conv(self, node: Node) -> None:
        w = node.input(1).data
        if w is None or w.ndim != 4:
            raise _unwritten(node)
        window = window_of(node, node.input(0).sizes[2:], w.shape[2:])
        top, bottom, left, right = window.pad2d
        (down, across), (tall, wide) = window.stride, window.dilation
        groups = int(node.get("group", 1))
        numbers: dict[int, Parameter] = {
            0: w.shape[0], 1: w.shape[3], 11: w.shape[2], 2: wide, 12: tall, 3: across, 13: down,
            4: left, 15: right, 14: top, 16: bottom, 5: int(node.has(2)), 6: w.size,
        }  # fmt: skip
        if groups > 1:
            numbers[7] = groups
        rest = {} if node.has(3) else self._fused(node, numbers)
        kind = "ConvolutionDepthWise" if groups > 1 else "Convolution"
        self.network.layer(kind, [self.take(node.input(0))], numbers)
        self._weights(node, w)
        if node.has(3):
            self.network.layer("BinaryOp", [self.network.output, self.take(node.input(3))], {0: 0})
            rest = _activation(node)
        for layer, values in rest.items():
            self.network.layer(layer, [self.network.output], {**values})

    def _fused(self, node: Node, numbers: dict[int, Parameter]) -> dict[str, dict[int, float]]:
        """Add the activation to the numbers of a layer, or return it as a layer of its own."""
        for layer, values in _activation(node).items():
            name = str(node.get("activation", "")).partition(":")[0]
            if name not in FUSED:
                return {layer: values}
            numbers[9] = FUSED[name]
            if values:
                numbers[10] = list(values.values())
        return {}

    def _weights(self, node: Node, weights: Array) -> None:
        self.network.weights(weights)
        bias = node.input(2).data if node.has(2) else None
        if bias is not None:
            self.network.weights(bias, tagged=False)

    def _gemm(self, node: Node) -> None:
        w = node.input(1).data
        scaled = any(node.get(name, 1.0) != 1.0 for name in ("alpha", "beta"))
        if w is None or node.get("transA", 0) or scaled:
            raise _unwritten(node)
        weights = w if node.get("transB", 0) else w.T
        numbers: dict[int, Parameter] = {
            0: weights.shape[0], 1: int(node.has(2)), 2: math.prod(weights.shape),
        }  # fmt: skip
        rest = self._fused(node, numbers)
        self.network.layer("InnerProduct", [self.take(node.input(0))], numbers)
        self._weights(node, weights)
        for layer, values in rest.items():
            self.network.layer(layer, [self.network.output], {**values})

    def _pool(self, node: Node) -> None:
        taps = node.get("kernel_shape", None)
        ceil = bool(node.get("ceil_mode", 0))
        window = window_of(node, node.input(0).sizes[2:], taps, ceil)
        if len(taps) != 2 or ceil:
            raise _unwritten(node)
        top, bottom, left, right = window.pad2d
        self._layer("Pooling", node, {
            0: int(node.type == "AveragePool"), 1: taps[1], 11: taps[0],
            2: window.stride[1], 12: window.stride[0], 3: left, 14: right, 13: top, 15: bottom,
            5: 1, 6: int(bool(node.get("count_include_pad", 0))),
        })  # fmt: skip


def _activation(node: Node) -> dict[str, dict[int, float]]:
    """Return an activation as a layer and its numbers; nothing if there is none."""
    text = node.get("activation", None)
    if text is None:
        return {}
    name, _, numbers = text.partition(":")
    values = [float(number) for number in numbers.split(",") if number]
    return {LAYERS[name]: dict(enumerate(activation_values(name, values)))}


def _unwritten(node: Node) -> KernelFailure:
    return KernelFailure("launch", f"node {node} is not written for ncnn")
