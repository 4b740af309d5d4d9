"""Nodes that make elements, or repeat them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..ir import Array, Node, check_bytes
from ..nodetype import Glue, NodeType, Spec2

__all__ = ["node_types"]


def _expand(node: Node, x: Array, shape: Array) -> Any:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape.tolist())))


def _expand_shape(node: Node, limit: int) -> list[Spec2]:
    known = node.known(1)
    assert known is not None
    shape = np.broadcast_shapes(node.input(0).sizes, tuple(known.tolist()))
    check_bytes(shape, node.input(0).kind.itemsize, limit, f"the result of node {node}")
    return [(shape, node.input(0).kind)]


def _tiles(node: Node, rank: int) -> list[int]:
    known = node.known(1)
    assert known is not None
    if node.version >= 6:
        return [int(n) for n in known.reshape(-1)]
    # Operator set 1: a number and an axis.
    axis, found = node.known(2), [1] * rank
    assert axis is not None
    found[int(axis.reshape(-1)[0])] = int(known.reshape(-1)[0])
    return found


def _tile_shape(node: Node, limit: int) -> list[Spec2]:
    value = node.input(0)
    counts = _tiles(node, len(value.sizes))
    shape = tuple(s * n for s, n in zip(value.sizes, counts, strict=True))
    check_bytes(shape, value.kind.itemsize, limit, f"the result of node {node}")
    return [(shape, value.kind)]


def _filled(node: Node, shape: Array) -> Any:
    value = np.asarray(node.get("value", np.zeros(1, np.float32))).reshape(-1)
    return np.full(tuple(shape.tolist()), value[0])


def _filled_shape(node: Node, limit: int) -> list[Spec2]:
    known = node.known(0)
    assert known is not None
    value = np.asarray(node.get("value", np.zeros(1, np.float32)))
    check_bytes(known.tolist(), value.dtype.itemsize, limit, f"the result of node {node}")
    return [(tuple(known.tolist()), value.dtype)]


def _constant(node: Node) -> Any:
    for name, dtype in (
        ("value", None), ("value_float", "f4"), ("value_floats", "f4"),
        ("value_int", "i8"), ("value_ints", "i8"),
    ):  # fmt: skip
        if name in node.attributes:
            return np.asarray(node.attributes[name], dtype)
    raise ArgumentError(f"node {node} is a constant without a number")


def _constant_shape(node: Node, limit: int) -> list[Spec2]:
    found = _constant(node)
    return [(found.shape, found.dtype)]


def _range(node: Node, start: Array, stop: Array, step: Array) -> Any:
    count = _range_shape(node, 1 << 62)[0][0][0]
    return (start.reshape(-1)[0] + np.arange(count) * step.reshape(-1)[0]).astype(start.dtype)


def _range_shape(node: Node, limit: int) -> list[Spec2]:
    start, stop, step = (np.asarray(node.known(i)).reshape(-1)[0] for i in range(3))
    if step == 0:
        raise ArgumentError(f"node {node} counts in steps of zero")
    count = max(math.ceil((float(stop) - float(start)) / float(step)), 0)
    check_bytes((count,), 8, limit, f"the result of node {node}")
    return [((count,), node.input(0).kind)]


def _trilu(node: Node, x: Array, k: Array | None = None) -> Any:
    offset = 0 if k is None else int(k.reshape(-1)[0])
    return np.triu(x, offset) if node.get("upper", 1) else np.tril(x, offset)


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [
        Glue("Expand", function=_expand, static=(1,), shapes=_expand_shape),
        Glue(
            "Tile", function=lambda n, x, *_: np.tile(x, _tiles(n, x.ndim)), static=(1, 2),
            shapes=_tile_shape,
        ),
        Glue("ConstantOfShape", function=_filled, static=(0,), shapes=_filled_shape),
        Glue("Constant", function=_constant, shapes=_constant_shape),
        Glue("Range", function=_range, static=(0, 1, 2), shapes=_range_shape),
        Glue("Trilu", function=_trilu),
    ]  # fmt: skip
