"""Batch-norm folding: a factor and an offset for each channel go into weights and bias.

What stands alone becomes a depthwise convolution of one tap, which takes bias and activation along.
In the tail of a network only norms are folded: whether they fit, weights say without any shape.
"""

from __future__ import annotations

import numpy as np

from ...dtypes import is_float
from ..ir import Array, Graph, Node, Value
from ..nodetype import Setting
from .weights import channels_of

__all__ = ["run"]

_LINEAR = ("Conv", "ConvTranspose", "Gemm")


def run(graph: Graph, setting: Setting) -> None:
    """Fold until nothing changes."""
    _fold_all(graph)
    for node in graph.nodes:
        _alone(graph, node)
    # What scales a norm that now is a convolution goes into that.
    _fold_all(graph)


def _fold_all(graph: Graph) -> None:
    """Fold what can be folded; nodes come in order, so that a chain of them goes into its first.

    A chain is joined to one factor and one offset before anything is rounded.
    """
    makers, users = graph.makers(), graph.users()
    joined: dict[Node, tuple[Array, Array]] = {}
    gone = []
    for node in graph.nodes:
        found = _channels(node, makers)
        if found is None:
            continue
        source, factor, offset = found
        before = makers.get(source)
        if before is None or before.type not in _LINEAR:
            continue
        fits = _takes(before) and factor.size == channels_of(before)
        if fits and graph.only_user(source, users) is node:
            old = joined.get(before)
            joined[before] = (
                (factor, offset) if old is None else (old[0] * factor, old[1] * factor + offset)
            )
            before.outputs[0] = node.output()
            makers[node.output()] = before
            gone.append(node)
    for node, (factor, offset) in joined.items():
        _fold(node, factor, offset)
    graph.remove(gone)


def _channels(node: Node, makers: dict[Value, Node]) -> tuple[Value, Array, Array] | None:
    """Return what a node multiplies and adds for each channel, and to which value."""
    if node.type == "BatchNormalization":
        return _normalisation(node)
    if node.type not in ("Mul", "Add", "Sub", "Div") or len(node.inputs) != 2:
        return None
    left, right = node.input(0), node.input(1)
    if left.data is not None and node.type in ("Mul", "Add"):
        left, right = right, left
    before = makers.get(left)
    if right.data is None or before is None or left.shape is None:
        return None
    if node.output().sizes != left.sizes or len(left.sizes) < 2:
        return None
    values = _by_channel(node, right.data, left.sizes)
    if values is None:
        return None
    one, zero = np.ones_like(values), np.zeros_like(values)
    if node.type == "Div":
        # By zero: infinities that weights must not have, where an image is zero they are NaN.
        return (left, one / values, zero) if values.all() else None
    parts = {"Mul": (values, zero), "Add": (one, values), "Sub": (one, -values)}
    return left, *parts[node.type]


def _by_channel(node: Node, data: Array, shape: tuple[int, ...]) -> Array | None:
    """Return one value for each channel, or ``None`` if the constant varies otherwise."""
    if node.version < 7 and node.get("broadcast", 0):
        axis = int(node.get("axis", len(shape) - data.ndim))
        data = data.reshape((1,) * axis + data.shape + (1,) * (len(shape) - axis - data.ndim))
    full = (1,) * (len(shape) - data.ndim) + data.shape
    if len(full) != len(shape) or any(s != 1 for i, s in enumerate(full) if i != 1):
        return None
    if not is_float(data.dtype) or full[1] not in (1, shape[1]):
        return None
    return np.broadcast_to(data.reshape(-1), (shape[1],)).astype(np.float64)


def _normalisation(node: Node) -> tuple[Value, Array, Array] | None:
    values = [node.input(i).data for i in range(1, 5)]
    if node.get("training_mode", 0) or any(v is not None for v in node.outputs[1:]):
        return None
    if any(v is None for v in values):
        return None
    scale, bias, mean, variance = (np.asarray(v, np.float64) for v in values)
    factor = scale / np.sqrt(variance + node.get("epsilon", 1e-5))
    return node.input(0), factor, bias - mean * factor


def _takes(node: Node) -> bool:
    """Whether weights and bias of a node are known, and nothing comes after them in it."""
    if channels_of(node) is None or node.has(3):
        return False
    return node.get("activation", None) is None and _bias(node) is not None


def _fold(node: Node, factor: Array, offset: Array) -> None:
    """Multiply the weights of a node and change its bias, in float64, with one rounding."""
    weights, base = node.input(1).data, _bias(node)
    assert weights is not None
    assert base is not None
    scaled = _scaled(node, weights, factor)
    name = node.output().name
    node.inputs[1] = Value.constant(f"{name}:weights", scaled)
    bias = Value.constant(f"{name}:bias", (base * factor + offset).astype(weights.dtype))
    node.inputs = [*node.inputs[:2], bias]
    if node.type == "Gemm":
        node.attributes["beta"] = 1.0


def _bias(node: Node) -> Array | None:
    """Return the bias of each channel in float64, or ``None`` if it is not known as such."""
    count = channels_of(node)
    assert count is not None
    if not node.has(2):
        return np.zeros(count)
    held = node.input(2).data
    if held is None:
        return None
    if held.size not in (1, count) or (held.size > 1 and held.shape[-1] != count):
        return None
    beta = node.get("beta", 1.0) if node.type == "Gemm" else 1.0
    return np.broadcast_to(held.reshape(-1), (count,)).astype(np.float64) * beta


def _scaled(node: Node, weights: Array, factor: Array) -> Array:
    if node.type == "Conv":
        return _times(weights, factor.reshape(-1, *(1,) * (weights.ndim - 1)))
    if node.type == "Gemm":
        return _times(weights, factor[:, None] if node.get("transB", 0) else factor)
    groups = int(node.get("group", 1))
    # Weights of a transposed convolution: input channels, then output channels of a group.
    parts = weights.reshape(groups, -1, *weights.shape[1:])
    shape = (groups, 1, weights.shape[1], *(1,) * (weights.ndim - 2))
    found: Array = _times(parts, factor.reshape(shape)).reshape(weights.shape)
    return found


def _times(weights: Array, factor: Array) -> Array:
    """Return products in float64, rounded once; piece by piece, without a copy in float64."""
    found: Array = np.empty_like(weights)
    np.multiply(weights, factor, out=found, dtype=np.float64, casting="same_kind")
    return found


def _alone(graph: Graph, node: Node) -> None:
    found = _normalisation(node) if node.type == "BatchNormalization" else None
    shape = node.input(0).shape
    if found is None or shape is None or len(shape) != 4 or not is_float(node.input(0).kind):
        return
    source, factor, offset = found
    name, dtype = node.output().name, source.kind
    weights = Value.constant(f"{name}:weights", factor.astype(dtype).reshape(-1, 1, 1, 1))
    node.type, node.attributes = "Conv", {"group": source.sizes[1]}
    node.inputs = [source, weights, Value.constant(f"{name}:bias", offset.astype(dtype))]
    node.outputs = node.outputs[:1]
