"""Nodes that onnxruntime's optimizer makes of several, domain com.microsoft.

They are taken apart again, so that hwkit's own passes fuse them as its kernels can.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..ir import Node, Value
from ..late import Composite
from ..nodetype import NodeType
from .qlinear import MICROSOFT

__all__ = ["node_types"]

_ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "Relu": (), "Sigmoid": (), "Tanh": (), "LeakyRelu": ("alpha",), "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"), "Clip": ("min", "max"), "Softplus": (), "Softsign": (),
    "ThresholdedRelu": ("alpha",), "HardSwish": (),
}  # fmt: skip
_OPSET = 13
_LAST, _FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


class _Parts:
    """Nodes that take the place of one."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.nodes: list[Node] = []

    def add(self, kind: str, *inputs: Value | None, **attributes: Any) -> Value:
        """Add a node of ONNX's own, and return its output."""
        name = f"{self._node.name}:{len(self.nodes)}"
        made = Value(name)
        self.nodes.append(Node(kind, list(inputs), [made], attributes, name, "", _OPSET))
        return made

    def activate(self, x: Value, kind: str, numbers: list[float]) -> Value:
        """Add the activation of a fused node; none if it has no name."""
        if not kind:
            return x
        names = _ACTIVATIONS.get(kind)
        if names is None or len(numbers) > len(names):
            raise ArgumentError(f"node {self._node} has the unknown activation {kind!r}")
        if kind == "Clip":
            bounds = [self.constant(np.float32(n)) for n in numbers]
            return self.add("Clip", x, *bounds)
        return self.add(kind, x, **dict(zip(names, numbers, strict=False)))

    def constant(self, data: Any) -> Value:
        """Return a constant."""
        return Value.constant(f"{self._node.name}:constant", np.asarray(data))

    def end(self, value: Value) -> list[Node]:
        """Return the nodes, of which the last makes the output."""
        for node in self.nodes:
            node.outputs = [self._node.output() if v is value else v for v in node.outputs]
            node.inputs = [self._node.output() if v is value else v for v in node.inputs]
        return self.nodes


def _given(node: Node, *names: str) -> dict[str, Any]:
    return {name: node.attributes[name] for name in names if name in node.attributes}


def _optional(node: Node, index: int) -> Value | None:
    return node.inputs[index] if node.has(index) else None


_WINDOW = ("kernel_shape", "strides", "pads", "dilations", "auto_pad", "group", "ceil_mode")


def _conv(node: Node) -> list[Node]:
    parts = _Parts(node)
    bias = [] if _optional(node, 2) is None else [node.input(2)]
    y = parts.add("Conv", node.input(0), node.input(1), *bias, **_given(node, *_WINDOW))
    if node.has(3):
        y = parts.add("Add", y, node.input(3))
    numbers = list(node.get("activation_params", []))
    return parts.end(parts.activate(y, node.get("activation", ""), numbers))


def _gemm(node: Node) -> list[Node]:
    parts = _Parts(node)
    given = [node.input(0), node.input(1), *([node.input(2)] if node.has(2) else [])]
    y = parts.add("Gemm", *given, **_given(node, "alpha", "beta", "transA", "transB"))
    kind = node.get("activation", "")
    names = ("activation_alpha", "activation_beta")[: len(_ACTIVATIONS.get(kind, ()))]
    return parts.end(
        parts.activate(y, kind, [node.attributes[n] for n in names if n in node.attributes])
    )


def _matmul(node: Node) -> list[Node]:
    if node.get("transBatchA", 0) or node.get("transBatchB", 0):
        raise ArgumentError(f"node {node} turns batches: export the model without this fusion")
    parts = _Parts(node)
    sides = []
    for index, name in enumerate(("transA", "transB")):
        value, rank = node.input(index), len(node.input(index).sizes)
        if node.get(name, 0) and rank > 1:
            perm = [*range(rank - 2), rank - 1, rank - 2]
            value = parts.add("Transpose", value, perm=perm)
        sides.append(value)
    y = parts.add("MatMul", *sides)
    alpha = float(node.get("alpha", 1.0))
    if alpha != 1.0:
        y = parts.add("Mul", y, parts.constant(np.array(alpha, node.input(0).kind)))
    return parts.end(y)


def _gelu(approximate: str) -> Callable[[Node], list[Node]]:
    def parts_of(node: Node) -> list[Node]:
        parts, x = _Parts(node), node.input(0)
        if node.has(1):
            x = parts.add("Add", x, node.input(1))
        return parts.end(parts.add("Gelu", x, approximate=approximate))

    return parts_of


def _quick_gelu(node: Node) -> list[Node]:
    parts = _Parts(node)
    return parts.end(parts.add("Swish", node.input(0), alpha=float(node.get("alpha", 1.702))))


def _max_pool(node: Node) -> list[Node]:
    parts = _Parts(node)
    x = parts.add("Transpose", node.input(0), perm=_FIRST)
    y = parts.add("MaxPool", x, **_given(node, *_WINDOW))
    return parts.end(parts.add("Transpose", y, perm=_LAST))


def _qlinear_conv(node: Node) -> list[Node]:
    parts, inputs = _Parts(node), list(node.inputs)
    last = bool(node.get("channels_last", 0))
    if last:
        inputs[0] = parts.add("Transpose", inputs[0], perm=_FIRST)
    y = parts.add("QLinearConv", *inputs, **_given(node, *_WINDOW))
    return parts.end(parts.add("Transpose", y, perm=_LAST) if last else y)


def _same(kind: str) -> Callable[[Node], list[Node]]:
    def parts_of(node: Node) -> list[Node]:
        parts = _Parts(node)
        return parts.end(parts.add(kind, *node.inputs, **_given(node, "axis")))

    return parts_of


def _scaled(parts: _Parts, sums: Value, scale: Value, bias: Value | None) -> list[Node]:
    """Return sums of bytes as float32, scaled, with a bias."""
    y = parts.add("Mul", parts.add("Cast", sums, to=1), scale)
    return parts.end(y if bias is None else parts.add("Add", y, bias))


def _integer_matmul(node: Node) -> list[Node]:
    parts = _Parts(node)
    zeros = [_optional(node, i) for i in (4, 5)]
    sums = parts.add("MatMulInteger", node.input(0), node.input(1), *zeros)
    scale = parts.add("Mul", node.input(2), node.input(3))
    return _scaled(parts, sums, scale, _optional(node, 6))


def _dynamic_matmul(node: Node) -> list[Node]:
    parts = _Parts(node)
    x = parts.add("DynamicQuantizeLinear", node.input(0))
    scale, zero = Value(f"{x.name}:scale"), Value(f"{x.name}:zero")
    parts.nodes[-1].outputs += [scale, zero]
    sums = parts.add("MatMulInteger", x, node.input(1), zero, _optional(node, 3))
    return _scaled(parts, sums, parts.add("Mul", scale, node.input(2)), _optional(node, 4))


def _qgemm(node: Node) -> list[Node]:
    """Sums of bytes and C; float32 if there is no scale of the result."""
    parts, sides = _Parts(node), [node.input(0), node.input(3)]
    for index, name in enumerate(("transA", "transB")):
        if node.get(name, 0):
            sides[index] = parts.add("Transpose", sides[index], perm=[1, 0])
    sums = parts.add("MatMulInteger", *sides, node.input(2), node.input(5))
    if node.has(6):
        sums = parts.add("Add", sums, node.input(6))
    scale = parts.add("Mul", node.input(1), node.input(4))
    alpha = float(node.get("alpha", 1.0))
    if alpha != 1.0:
        scale = parts.add("Mul", scale, parts.constant(np.float32(alpha)))
    y = parts.add("Cast", sums, to=1)
    if not node.has(7):
        return parts.end(parts.add("Mul", y, scale))
    y = parts.add("Mul", y, parts.add("Div", scale, node.input(7)))
    return parts.end(parts.add("QuantizeLinear", y, parts.constant(np.float32(1)), node.input(8)))


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    made = {
        "FusedConv": _conv, "FusedGemm": _gemm, "FusedMatMul": _matmul, "TransposeMatMul": _matmul,
        "Gelu": _gelu("none"), "BiasGelu": _gelu("none"), "FastGelu": _gelu("tanh"),
        "QuickGelu": _quick_gelu, "NhwcMaxPool": _max_pool, "QLinearConv": _qlinear_conv,
        "QuantizeLinear": _same("QuantizeLinear"), "DequantizeLinear": _same("DequantizeLinear"),
        "MatMulIntegerToFloat": _integer_matmul, "DynamicQuantizeMatMul": _dynamic_matmul,
        "QGemm": _qgemm,
    }  # fmt: skip
    composite = partial(Composite, domain=MICROSOFT)
    return [composite(name, parts=parts) for name, parts in made.items()]
