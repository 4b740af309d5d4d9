"""Quantised glue as onnxruntime writes it, domain com.microsoft: bytes in, bytes out.

The order of operations and roundings is that of onnxruntime's kernels for processors with fused
multiply-adds (mlas, qladd.cpp and qlmul.cpp), so that the bytes are the same as theirs. What
depends on one byte is a table of its 256 values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..ir import Array, Node, check_bytes
from ..nodetype import Glue, NodeType, Spec2
from .axes import axis_of
from .reductions import softmax
from .scaling import to_range
from .windows import Window, padded, taps_of, window_of

__all__ = ["MICROSOFT", "node_types"]

MICROSOFT = "com.microsoft"

_BYTES = ("int8", "uint8")


def _one(node: Node, parameter: Array | None, default: float = 0.0) -> Any:
    """Return a scale or zero point of the whole array as float32."""
    if parameter is None:
        return np.float32(default)
    if parameter.size != 1:
        raise ArgumentError(f"node {node} has {parameter.shape} scales or zero points, not one")
    return np.float32(parameter.reshape(-1)[0])


def _fused(x: Array, factor: Any, offset: Any) -> Array:
    """Return ``x * factor + offset`` with one rounding to float32."""
    exact: Array = x.astype(np.float64) * np.float64(factor) + offset
    return exact.astype(np.float32)


def _add(
    node: Node, a: Array, sa: Any, za: Any, b: Array, sb: Any, zb: Any, sc: Any, zc: Any
) -> Any:
    kind = a.dtype
    sa, za, sb, zb, sc, zc = (_one(node, p) for p in (sa, za, sb, zb, sc, zc))
    left, right = sa / sc, sb / sc
    offset = zc - (left * za + right * zb)
    other = _fused(b, right, offset)
    return to_range(np.rint(_fused(a, left, other)), kind)


def _multiply(
    node: Node, a: Array, sa: Any, za: Any, b: Array, sb: Any, zb: Any, sc: Any, zc: Any
) -> Any:
    kind = a.dtype
    sa, za, sb, zb, sc, zc = (_one(node, p) for p in (sa, za, sb, zb, sc, zc))
    product = (a.astype(np.float32) - za) * (b.astype(np.float32) - zb)
    return to_range(np.rint(product * (sa * sb / sc) + zc), kind)


def _joined_shape(node: Node, limit: int) -> list[Spec2]:
    a, b = node.input(0), node.input(3)
    if a.kind != b.kind or a.kind.name not in _BYTES:
        raise ArgumentError(f"node {node} joins {a.kind} and {b.kind}, not bytes of one type")
    shape = np.broadcast_shapes(a.sizes, b.sizes)
    check_bytes(shape, 1, limit, f"the result of node {node}")
    return [(shape, a.kind)]


def _every_byte(kind: np.dtype[Any]) -> Array:
    """Return all values in the order of their bits."""
    return np.arange(256, dtype=np.uint8).view(kind)


def _quantised(values: Array, scale: Any, zero: Any, kind: np.dtype[Any]) -> Array:
    return to_range(np.rint(values / scale) + zero, kind)


def _by_table(
    node: Node, function: Callable[[Array], Array], x: Array, sx: Any, zx: Any, sy: Any, zy: Any
) -> Array:
    sx, zx, sy, zy = (_one(node, p) for p in (sx, zx, sy, zy))
    values = sx * (_every_byte(x.dtype).astype(np.float32) - zx)
    return _quantised(function(values), sy, zy, x.dtype)[x.view(np.uint8)]


def _sigmoid(node: Node, *given: Any) -> Any:
    return _by_table(node, lambda x: 1 / (1 + np.exp(-x)), *given)


def _leaky(node: Node, *given: Any) -> Any:
    alpha = np.float32(node.get("alpha", 0.01))
    return _by_table(node, lambda x: np.where(x >= 0, x, x * alpha), *given)


def _softmax(node: Node, x: Array, sx: Any, zx: Any, sy: Any, zy: Any) -> Any:
    # Exponentials of differences: the zero point of the input does not matter.
    values = _one(node, sx) * x.astype(np.float32)
    plain = replace(node, version=int(node.get("opset", 13)))
    return _quantised(softmax(plain, values), _one(node, sy), _one(node, zy), x.dtype)


def _like(node: Node, limit: int) -> list[Spec2]:
    if node.input(0).kind.name not in _BYTES:
        raise ArgumentError(f"node {node} takes bytes, not {node.input(0).kind}")
    return [(node.input(0).sizes, node.input(0).kind)]


def _mean_of_image(node: Node, x: Array, sx: Any, zx: Any, sy: Any, zy: Any) -> Any:
    axes = tuple(range(1, x.ndim - 1)) if node.get("channels_last", 0) else tuple(range(2, x.ndim))
    sx, zx, sy, zy = (_one(node, p) for p in (sx, zx, sy, zy))
    count = math.prod(x.shape[axis] for axis in axes)
    sums = x.sum(axes, np.int64, keepdims=True) - int(zx) * count
    factor = sx / (sy * np.float32(count))
    return to_range(np.rint(sums.astype(np.float32) * factor) + zy, x.dtype)


def _mean_of_image_shape(node: Node, limit: int) -> list[Spec2]:
    ((shape, kind),) = _like(node, limit)
    ones = (1,) * (len(shape) - 2)
    last = node.get("channels_last", 0)
    return [((shape[0], *ones, shape[-1]) if last else (*shape[:2], *ones), kind)]


def _pooled(node: Node, shape: tuple[int, ...]) -> tuple[Window, int]:
    """Return the windows, and the axis of the channels."""
    last = bool(node.get("channels_last", 0))
    taps = node.get("kernel_shape", None)
    if taps is None or len(shape) < 3:
        raise ArgumentError(f"node {node} lacks its kernel_shape, or pools no image")
    image = shape[1:-1] if last else shape[2:]
    return window_of(node, image, taps, bool(node.get("ceil_mode", 0))), len(
        shape
    ) - 1 if last else 1


def _mean(node: Node, x: Array, sx: Any, zx: Any, sy: Any, zy: Any) -> Any:
    window, axis = _pooled(node, x.shape)
    values = _one(node, sx) * (np.moveaxis(x, axis, 1).astype(np.float32) - _one(node, zx))
    total = np.sum(taps_of(padded(values, window, 0), window), 0, np.float32)
    ones = np.ones((1, 1, *values.shape[2:]), np.float32)
    if node.get("count_include_pad", 0):
        count = np.float32(math.prod(window.taps))
    else:
        count = np.sum(taps_of(padded(ones, window, 0), window), 0)
    # Unlike the others it multiplies by an inverse, and rounds with the zero point added.
    inverse = np.float32(1) / _one(node, sy)
    found = to_range(np.rint(total / count * inverse + _one(node, zy)), x.dtype)
    return np.moveaxis(found, 1, axis)


def _mean_shape(node: Node, limit: int) -> list[Spec2]:
    ((shape, kind),) = _like(node, limit)
    window, axis = _pooled(node, shape)
    size = (*window.size, shape[-1]) if axis != 1 else (shape[1], *window.size)
    check_bytes((shape[0], *size), 4, limit, f"the result of node {node}")
    return [((shape[0], *size), kind)]


def _concat(node: Node, sy: Array, zy: Array, *given: Array) -> Any:
    parts = []
    for x, scale, zero in zip(given[::3], given[1::3], given[2::3], strict=True):
        same = _one(node, scale) == _one(node, sy) and _one(node, zero) == _one(node, zy)
        parts.append(x if same else _by_table(node, lambda v: v, x, scale, zero, sy, zy))
    return np.concatenate(parts, axis_of(node, parts[0].ndim))


def _concat_shape(node: Node, limit: int) -> list[Spec2]:
    values = [node.input(i) for i in range(2, len(node.inputs), 3)]
    kind = node.input(1).kind
    if not values or len(node.inputs) % 3 != 2 or any(v.kind != kind for v in values):
        raise ArgumentError(
            f"node {node} needs arrays of {kind} with a scale and a zero point each"
        )
    axis = axis_of(node, len(values[0].sizes))
    rest = {(*v.sizes[:axis], *v.sizes[axis + 1 :]) for v in values}
    if len(rest) > 1:
        raise ArgumentError(f"node {node} joins arrays of shapes {[v.sizes for v in values[:4]]}")
    shape = list(values[0].sizes)
    shape[axis] = sum(v.sizes[axis] for v in values)
    check_bytes(shape, 1, limit, f"the result of node {node}")
    return [(tuple(shape), kind)]


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    glue = partial(Glue, domain=MICROSOFT)
    return [
        glue("QLinearAdd", function=_add, shapes=_joined_shape),
        glue("QLinearMul", function=_multiply, shapes=_joined_shape),
        glue("QLinearSigmoid", function=_sigmoid, shapes=_like),
        glue("QLinearLeakyRelu", function=_leaky, shapes=_like),
        glue("QLinearSoftmax", function=_softmax, shapes=_like),
        glue("QLinearGlobalAveragePool", function=_mean_of_image, shapes=_mean_of_image_shape),
        glue("QLinearAveragePool", function=_mean, shapes=_mean_shape),
        glue("QLinearConcat", function=_concat, shapes=_concat_shape),
    ]
