"""TensorFlow Lite: a whole network in its operators, images with their channels last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import KernelFailure
from ..graph import Node, Value
from ..graph.nodes.windows import Window, window_of
from .libraries import Array
from .networks import folded
from .tflite_model import FlatModel

__all__ = ["written"]

_SAME, _VALID = 0, 1
_FUSED = {"relu": 1, "relu6": 3}
_CHANNELS_LAST = [0, 2, 3, 1]


def written(model: Path, inputs: dict[str, Array]) -> FlatModel:
    """Return the model."""
    graph = folded(model, inputs)
    writer = _Writer()
    for value, array in zip(graph.inputs, inputs.values(), strict=True):
        image = array.transpose(_CHANNELS_LAST) if array.ndim == 4 else array
        writer.numbers[value] = writer.model.input(image)
    for node in graph.nodes:
        writer.add(node)
    writer.model.outputs = [writer.numbers[v] for v in graph.outputs]
    return writer.model


def _shape(value: Value) -> tuple[int, ...]:
    s = value.sizes
    return (s[0], *s[2:], s[1]) if len(s) == 4 else s


class _Writer:
    """Writes nodes; values of four axes lie with their second axis last."""

    def __init__(self) -> None:
        self.model = FlatModel()
        self.numbers: dict[Value, int] = {}
        # Transposed to the order that the model lies in already: nothing to do, until reshaped.
        self._as_given: set[Value] = set()

    def add(self, node: Node) -> None:
        """Write a node."""
        writers: dict[str, Callable[[Node], int]] = {
            "Conv": self._conv, "Gemm": self._gemm, "MaxPool": self._pool,
            "AveragePool": self._pool, "GlobalAveragePool": self._mean, "Reshape": self._reshape,
            "Flatten": self._reshape, "Concat": self._concat, "Add": self._sum,
            "Sigmoid": self._sigmoid, "Transpose": self._transpose,
        }  # fmt: skip
        moved = any(v in self._as_given for v in node.inputs if v is not None)
        if node.type not in writers or (moved and node.type != "Reshape"):
            raise _unwritten(node)
        self.numbers[node.output()] = writers[node.type](node)

    def _of(self, node: Node, index: int = 0) -> int:
        return self.numbers[node.input(index)]

    def _operator(
        self, kind: str, inputs: Sequence[int], node: Node, options: str = "", **values: Any
    ) -> int:
        return self.model.operator(kind, inputs, _shape(node.output()), options, **values)

    def _constants(self, node: Node, weights: Array) -> list[int]:
        count = node.output().sizes[1]
        bias = node.input(2).data if node.has(2) else np.zeros(count, np.float32)
        if bias is None:
            raise _unwritten(node)
        bias = np.broadcast_to(bias.reshape(-1), (count,))
        return [self.model.constant(weights), self.model.constant(np.array(bias, np.float32))]

    def _padding(self, node: Node, window: Window, fill: float) -> tuple[int, int]:
        """Return the image, padded apart where SAME and VALID do not say it, and which of them."""
        x = self._of(node)
        image = node.input(0).sizes[2:]
        if not any(window.before + window.after):
            return x, _VALID
        if _is_same(window, image):
            return x, _SAME
        top, bottom, left, right = window.pad2d
        n, h, w, c = _shape(node.input(0))
        shape = (n, h + top + bottom, w + left + right, c)
        borders = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
        held = [x, self.model.constant(borders)]
        if fill == 0:
            return self.model.operator("PAD", held, shape, "PadOptions"), _VALID
        held.append(self.model.constant(np.array([fill], np.float32)))
        return self.model.operator("PADV2", held, shape, "PadV2Options"), _VALID

    def _conv(self, node: Node) -> int:
        w = node.input(1).data
        groups = int(node.get("group", 1))
        if w is None or w.ndim != 4 or groups not in (1, node.input(0).sizes[1]):
            raise _unwritten(node)
        window = window_of(node, node.input(0).sizes[2:], w.shape[2:])
        x, padding = self._padding(node, window, 0.0)
        fused = _activation(node)
        values: dict[str, Any] = {
            "padding": padding, "strideH": window.stride[0], "strideW": window.stride[1],
            "dilationHFactor": window.dilation[0], "dilationWFactor": window.dilation[1],
            "fusedActivationFunction": 0 if node.has(3) else fused,
        }  # fmt: skip
        kind, options, order = "CONV_2D", "Conv2DOptions", (0, 2, 3, 1)
        if groups > 1:
            kind, options, order = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", (1, 2, 3, 0)
            values["depthMultiplier"] = w.shape[0] // groups
        parts = [x, *self._constants(node, w.transpose(order))]
        y = self._operator(kind, parts, node, options, **values)
        if not node.has(3):
            return y
        both = [y, self._of(node, 3)]
        return self._operator("ADD", both, node, "AddOptions", fusedActivationFunction=fused)

    def _gemm(self, node: Node) -> int:
        w = node.input(1).data
        scaled = any(node.get(name, 1.0) != 1.0 for name in ("alpha", "beta"))
        if w is None or node.get("transA", 0) or scaled:
            raise _unwritten(node)
        parts = [self._of(node), *self._constants(node, w if node.get("transB", 0) else w.T)]
        return self._operator(
            "FULLY_CONNECTED", parts, node, "FullyConnectedOptions",
            fusedActivationFunction=_activation(node),
        )  # fmt: skip

    def _pool(self, node: Node) -> int:
        taps, most = node.get("kernel_shape", None), node.type == "MaxPool"
        window = window_of(node, node.input(0).sizes[2:], taps)
        plain = most or not any(window.before + window.after)
        if len(taps) != 2 or node.get("ceil_mode", 0) or not plain:
            raise _unwritten(node)
        x, padding = self._padding(node, window, float(np.finfo(np.float32).min))
        return self._operator(
            "MAX_POOL_2D" if most else "AVERAGE_POOL_2D", [x], node, "Pool2DOptions",
            padding=padding, strideH=window.stride[0], strideW=window.stride[1],
            filterHeight=taps[0], filterWidth=taps[1],
        )  # fmt: skip

    def _mean(self, node: Node) -> int:
        axes = self.model.constant(np.array([1, 2], np.int32))
        return self._operator("MEAN", [self._of(node), axes], node, "ReducerOptions", keepDims=True)

    def _reshape(self, node: Node) -> int:
        source, x = node.input(0), self._of(node)
        image = len(source.sizes) == 4 and source not in self._as_given
        if len(node.output().sizes) == 4:
            raise _unwritten(node)
        if image and max(source.sizes[2:]) > 1:
            order = self.model.constant(np.array([0, 3, 1, 2], np.int32))
            x = self.model.operator("TRANSPOSE", [x, order], source.sizes, "TransposeOptions")
        shape = self.model.constant(np.array(node.output().sizes, np.int32))
        return self._operator("RESHAPE", [x, shape], node, "ReshapeOptions")

    def _transpose(self, node: Node) -> int:
        if list(node.get("perm", [])) != _CHANNELS_LAST:
            raise _unwritten(node)
        self._as_given.add(node.output())
        return self._of(node)

    def _concat(self, node: Node) -> int:
        axis = int(node.get("axis", 1))
        axis = 3 if len(node.output().sizes) == 4 and axis == 1 else axis
        parts = [self._of(node, i) for i in range(len(node.inputs))]
        return self._operator("CONCATENATION", parts, node, "ConcatenationOptions", axis=axis)

    def _sum(self, node: Node) -> int:
        return self._operator("ADD", [self._of(node), self._of(node, 1)], node, "AddOptions")

    def _sigmoid(self, node: Node) -> int:
        return self._operator("LOGISTIC", [self._of(node)], node)


def _is_same(window: Window, image: Sequence[int]) -> bool:
    """Whether the padding is what TensorFlow calls SAME: half of it, rounded down, in front."""
    for size, out, taps, stride, spread, before in zip(
        image, window.size, window.taps, window.stride, window.dilation, window.before, strict=True
    ):
        total = max((out - 1) * stride + (taps - 1) * spread + 1 - size, 0)
        if out != -(-size // stride) or before != total // 2:
            return False
    return True


def _activation(node: Node) -> int:
    text = node.get("activation", None)
    if text is not None and text not in _FUSED:
        raise _unwritten(node)
    return 0 if text is None else _FUSED[text]


def _unwritten(node: Node) -> KernelFailure:
    return KernelFailure("launch", f"node {node} is not written for TensorFlow Lite")
