"""Numbers to bytes by a scale and a zero point, and back, as ONNX defines it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..ir import Array, Node
from ..nodetype import Glue, NodeType

__all__ = ["node_types", "to_range"]


def _along(parameter: Array, shape: Sequence[int], node: Node) -> Array:
    """Return a scale or zero point so that it broadcasts to ``shape``."""
    if parameter.size == 1 and parameter.ndim <= 1:
        return parameter.reshape(())
    axis = int(node.get("axis", 1))
    axis += len(shape) if axis < 0 else 0
    block = int(node.get("block_size", 0))
    if parameter.ndim == len(shape) and (block or parameter.ndim > 1):
        block = block or -(-shape[axis] // parameter.shape[axis])
        wide = np.repeat(parameter, block, axis)
        return wide[tuple(slice(0, s) for s in shape)]
    if axis >= len(shape) or parameter.shape != (shape[axis],):
        raise ArgumentError(
            f"node {node} has {parameter.shape} scales for the axis {axis} of {tuple(shape)}"
        )
    return parameter.reshape([-1 if i == axis else 1 for i in range(len(shape))])


def _target(node: Node, zero: Array | None) -> np.dtype[Any]:
    from ..tensors import numpy_type

    if zero is not None:
        found: np.dtype[Any] = zero.dtype
        return found
    code = int(node.get("output_dtype", 0))
    return numpy_type(code, f"node {node}") if code else np.dtype(np.uint8)


def _limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    import ml_dtypes

    whole = dtype.kind in "iu" or "int" in dtype.name
    ask: Any = ml_dtypes.iinfo if whole else ml_dtypes.finfo
    info = ask(dtype)
    return float(info.min), float(info.max)


def to_range(values: Array, dtype: np.dtype[Any]) -> Array:
    """Return values as another type, those beyond its range as its ends."""
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.clip(values, info.min, info.max).astype(dtype)
    low, high = _limits(dtype)
    return np.clip(values, low, high).astype(dtype)


def _quantise(node: Node, x: Array, scale: Array, zero: Array | None = None) -> Any:
    dtype = _target(node, zero)
    wide = np.float32 if x.dtype.itemsize <= 4 else x.dtype
    values = x.astype(wide) / _along(scale, x.shape, node).astype(wide)
    whole = "int" in dtype.name
    values = np.rint(values) if whole else values
    if zero is not None:
        values = values + _along(zero, x.shape, node).astype(wide)
    return to_range(values, dtype)


def _dequantise(node: Node, x: Array, scale: Array, zero: Array | None = None) -> Any:
    from ..tensors import numpy_type

    code = int(node.get("output_dtype", 0))
    dtype = numpy_type(code, f"node {node}") if code else scale.dtype
    values = x.astype(np.float32)
    if zero is not None:
        values = values - _along(zero, x.shape, node).astype(np.float32)
    return (values * _along(scale, x.shape, node).astype(np.float32)).astype(dtype)


def _dynamic(node: Node, x: Array) -> Any:
    low, high = min(float(x.min(initial=0)), 0.0), max(float(x.max(initial=0)), 0.0)
    scale = np.float32((np.float32(high) - np.float32(low)) / np.float32(255)) or np.float32(1)
    zero = np.uint8(np.clip(np.rint(-np.float32(low) / scale), 0, 255))
    y = np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.uint8)
    return y, np.float32(scale), zero


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [
        Glue("QuantizeLinear", function=_quantise),
        Glue("DequantizeLinear", function=_dequantise),
        Glue("DynamicQuantizeLinear", function=_dynamic),
    ]
