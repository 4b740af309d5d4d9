"""Reductions, softmax and running sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...dtypes import widened
from ..ir import Array, Node
from ..nodetype import Glue, NodeType
from .axes import axes_of

__all__ = ["node_types", "softmax"]


def _log_sum(x: Array, axis: tuple[int, ...]) -> Any:
    top = x.max(axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    return np.log(np.exp(x - top).sum(axis, keepdims=True)) + top


def _extreme(name: str) -> Callable[[Array, tuple[int, ...]], Any]:
    def reduce(x: Array, axis: tuple[int, ...]) -> Any:
        if x.dtype.kind == "b":
            return (np.all if name == "min" else np.any)(x, axis, keepdims=True)
        info: Any = np.iinfo(x.dtype) if x.dtype.kind in "iu" else None
        ends = (info.max, info.min) if info else (np.inf, -np.inf)
        initial = ends[0] if name == "min" else ends[1]
        return getattr(x, name)(axis, keepdims=True, initial=initial)

    return reduce


_REDUCTIONS: dict[str, Callable[[Array, tuple[int, ...]], Any]] = {
    "ReduceSum": lambda x, a: x.sum(a, keepdims=True),
    "ReduceMean": lambda x, a: x.mean(a, keepdims=True),
    "ReduceProd": lambda x, a: x.prod(a, keepdims=True),
    "ReduceMax": _extreme("max"),
    "ReduceMin": _extreme("min"),
    "ReduceL1": lambda x, a: np.abs(x).sum(a, keepdims=True),
    "ReduceL2": lambda x, a: np.sqrt(np.square(x).sum(a, keepdims=True)),
    "ReduceLogSum": lambda x, a: np.log(x.sum(a, keepdims=True)),
    "ReduceSumSquare": lambda x, a: np.square(x).sum(a, keepdims=True),
    "ReduceLogSumExp": _log_sum,
}


def _reduction(name: str) -> Glue:
    def function(node: Node, x: Array, *_: Any) -> Any:
        axes = axes_of(node, x.ndim)
        if axes is None or (not axes and node.get("axes", None) is None):
            if node.get("noop_with_empty_axes", 0):
                axes = ()
                if name in ("ReduceSum", "ReduceMean", "ReduceProd", "ReduceMax", "ReduceMin"):
                    return np.array(x)
            else:
                axes = tuple(range(x.ndim))
        found = np.asarray(_REDUCTIONS[name](widened(x), axes)).astype(x.dtype, copy=False)
        if node.get("keepdims", 1):
            return found
        return found.reshape([s for i, s in enumerate(x.shape) if i not in axes])

    return Glue(name, function=function, static=(1,))


def _arg(name: str) -> Glue:
    def function(node: Node, x: Array) -> Any:
        axis = int(node.get("axis", 0))
        pick: Any = getattr(np, name)
        if node.get("select_last_index", 0):
            found = x.shape[axis] - 1 - pick(np.flip(x, axis), axis)
        else:
            found = pick(x, axis)
        found = np.asarray(found, np.int64)
        return np.expand_dims(found, axis) if node.get("keepdims", 1) else found

    return Glue({"argmax": "ArgMax", "argmin": "ArgMin"}[name], function=function)


# Rows up to so long are turned, so many at once that they stay in a cache.
_NARROW, _BLOCK = 64, 2048


def _rows(node: Node, x: Array) -> tuple[Array, int]:
    """Return the array as softmax sees it: before operator set 13 the last axes are one."""
    if node.version >= 13:
        return x, int(node.get("axis", -1))
    axis = int(node.get("axis", 1)) % max(x.ndim, 1)
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:])), 1


def softmax(node: Node, x: Array) -> Any:
    """Return exponentials along the axis of a node, their sum being 1."""
    rows, axis = _rows(node, widened(x))
    last = axis % rows.ndim == rows.ndim - 1 if rows.ndim else False
    if rows.size and last and rows.shape[-1] <= _NARROW:
        short = _narrow_softmax(rows.reshape(-1, rows.shape[-1]))
        return short.reshape(x.shape).astype(x.dtype, copy=False)
    e = np.exp(rows - rows.max(axis, keepdims=True, initial=-np.inf))
    e /= e.sum(axis, keepdims=True)
    return e.reshape(x.shape).astype(x.dtype, copy=False)


def _narrow_softmax(rows: Array) -> Array:
    """The same along short rows: some at once, turned so that numpy's loops are long."""
    found = np.empty_like(rows)
    for start in range(0, len(rows), _BLOCK):
        e = np.array(rows[start : start + _BLOCK].T, order="C")  # a copy in any case
        e -= e.max(0)
        np.exp(e, out=e)
        e /= e.sum(0)
        found[start : start + _BLOCK] = e.T
    return found


def _log_softmax(node: Node, x: Array) -> Any:
    rows, axis = _rows(node, widened(x))
    moved = rows - rows.max(axis, keepdims=True, initial=-np.inf)
    found = moved - np.log(np.exp(moved).sum(axis, keepdims=True))
    return found.reshape(x.shape).astype(x.dtype, copy=False)


def _hardmax(node: Node, x: Array) -> Any:
    rows, axis = _rows(node, x)
    best = np.expand_dims(rows.argmax(axis), axis)
    found = np.zeros_like(rows)
    np.put_along_axis(found, best, 1, axis)
    return found.reshape(x.shape)


def _cumulative(node: Node, x: Array, axis: Array) -> Any:
    place = int(np.asarray(axis).reshape(-1)[0])
    wide = widened(np.flip(x, place) if node.get("reverse", 0) else x)
    total = np.cumsum(wide, place, dtype=wide.dtype)
    if node.get("exclusive", 0):
        total = total - wide
    total = np.flip(total, place) if node.get("reverse", 0) else total
    return total.astype(x.dtype, copy=False)


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [
        *(_reduction(name) for name in _REDUCTIONS),
        _arg("argmax"),
        _arg("argmin"),
        Glue("Softmax", function=softmax),
        Glue("LogSoftmax", function=_log_softmax),
        Glue("Hardmax", function=_hardmax),
        Glue("CumSum", function=_cumulative, static=(1,)),
    ]
