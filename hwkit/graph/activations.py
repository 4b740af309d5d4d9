"""The activation that a node is, as operators take it: in an epilogue, or alone."""

from __future__ import annotations

import math

import numpy as np

from .ir import Node

__all__ = ["activation_of", "bounds_of", "standalone_of"]

_PLAIN = {"Relu": "relu", "Sigmoid": "sigmoid", "HardSwish": "hard_swish", "Swish": "silu"}
_ALONE = {"Tanh": "tanh", "Exp": "exp", "Erf": "erf", "Mish": "mish"}
_NUMBERS = {
    "LeakyRelu": ("leaky_relu", (0.01,)),
    "Elu": ("elu", (1.0,)),
    "HardSigmoid": ("hard_sigmoid", (0.2, 0.5)),
}


def activation_of(node: Node) -> str | None:
    """Return the activation that a node is, as of :func:`hwkit.ops.conv2d`, or ``None``."""
    if node.type in _PLAIN:
        return _PLAIN[node.type] if node.get("alpha", 1.0) == 1.0 else None
    if node.type == "LeakyRelu":
        return f"leaky_relu:{_number(node, 'alpha', 0.01)!r}"
    bounds = bounds_of(node)
    if bounds is None:
        return None
    low, high = bounds
    if low == 0.0 and high in (6.0, math.inf):
        return "relu6" if high == 6.0 else "relu"
    finite = math.isfinite(low) and math.isfinite(high)
    return f"clip:{low!r},{high!r}" if finite and low <= high else None


def standalone_of(node: Node) -> str | None:
    """Return the activation that a node is, as of :func:`hwkit.ops.elementwise`, or ``None``."""
    if node.type in _ALONE:
        return _ALONE[node.type]
    if node.type == "Gelu":
        return "gelu" if node.get("approximate", "none") == "none" else "gelu_tanh"
    if node.type in _NUMBERS:
        word, defaults = _NUMBERS[node.type]
        numbers = [_number(node, n, d) for n, d in zip(("alpha", "beta"), defaults, strict=False)]
        good = all(map(math.isfinite, numbers))
        return f"{word}:{','.join(map(repr, numbers))}" if good else None
    bounds = bounds_of(node)
    if bounds is None or not bounds[0] <= bounds[1]:
        return activation_of(node)
    return activation_of(node) or f"clip:{bounds[0]!r},{bounds[1]!r}"


def _number(node: Node, name: str, default: float) -> float:
    """Return an attribute as float32 has it."""
    return float(np.float32(node.get(name, default)))


def bounds_of(node: Node) -> tuple[float, float] | None:
    """Return the bounds of a Clip, ``None`` if it is none or they are not known."""
    if node.type != "Clip":
        return None
    ends = []
    for index, name, default in ((1, "min", -np.inf), (2, "max", np.inf)):
        value = node.inputs[index] if node.has(index) else None
        if value is not None and value.data is None:
            return None
        given = node.get(name, default) if value is None or value.data is None else value.data
        ends.append(float(np.asarray(given).reshape(-1)[0]))
    return ends[0], ends[1]
