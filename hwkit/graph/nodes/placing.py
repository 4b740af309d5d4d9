"""Nodes that put elements at places which other arrays name, or sort and select them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..ir import Array, Node, check_bytes
from ..nodetype import Glue, NodeType, Spec2, dummy
from .axes import axis_of
from .parts import within, wrapped

__all__ = ["node_types"]

# Elements from which, and the share below which, TopK looks for candidates before it sorts.
_MANY, _FEW_OF = 1024, 4

_REDUCTIONS: dict[str, np.ufunc | None] = {
    "none": None, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum,
}  # fmt: skip


def _put(node: Node, found: Array, places: tuple[Array, ...], updates: Array) -> Array:
    reduction = node.get("reduction", "none")
    if reduction not in _REDUCTIONS:
        raise ArgumentError(f"node {node} has the unknown reduction {reduction!r}")
    ufunc: Any = _REDUCTIONS[reduction]
    if ufunc is None:
        found[places] = updates
    else:
        # Unlike an assignment, this counts places that come several times.
        ufunc.at(found, places, updates)
    return found


def _scatter_elements(node: Node, x: Array, indices: Array, updates: Array) -> Any:
    axis = axis_of(node, x.ndim)
    within(node, x, indices, axis)
    if indices.shape != updates.shape:
        raise ArgumentError(f"node {node} has {indices.shape} places for {updates.shape} updates")
    places: list[Array] = list(np.indices(indices.shape, sparse=True))
    places[axis] = wrapped(node, indices, x.shape[axis])
    return _put(node, x.copy(), tuple(places), updates)


def _scatter_nd(node: Node, x: Array, indices: Array, updates: Array) -> Any:
    depth = indices.shape[-1] if indices.ndim else 0
    if not 1 <= depth <= x.ndim or updates.shape != (*indices.shape[:-1], *x.shape[depth:]):
        raise ArgumentError(
            f"node {node} puts updates of shape {updates.shape} at places of {indices.shape} in an "
            f"array of {x.shape}"
        )
    places = tuple(wrapped(node, indices[..., i], x.shape[i]) for i in range(depth))
    return _put(node, x.copy(), places, updates)


def _like_input(node: Node, limit: int) -> list[Spec2]:
    return [(node.input(0).sizes, node.input(0).kind)]


def _scatter_shape(function: Callable[..., Any]) -> Callable[[Node, int], list[Spec2]]:
    def shapes(node: Node, limit: int) -> list[Spec2]:
        # Places are zero where they are not yet known; this looks at the shapes only.
        function(node, *(dummy(node.input(i)) for i in range(3)))
        return _like_input(node, limit)

    return shapes


def _top(node: Node, x: Array, k: Array) -> Any:
    axis, count = axis_of(node, x.ndim, -1), _count(node, k, x)
    largest, size = bool(node.get("largest", 1)), x.shape[axis]
    # A few of many, as of the boxes of a detector: the rest need not be sorted.
    if 0 < _FEW_OF * count <= size >= _MANY and x.dtype.kind in "fiu":
        rows = np.moveaxis(x, axis, -1)
        order = np.empty((*rows.shape[:-1], count), np.int64)
        for place in np.ndindex(rows.shape[:-1]):
            row = rows[place]
            near = _candidates(row, count, largest)
            order[place] = near[_sorted(row[near], 0, largest)[:count]]
        order = np.moveaxis(order, -1, axis)
    else:
        order = np.take(_sorted(x, axis, largest), np.arange(count), axis)
    return np.take_along_axis(x, order, axis), order.astype(np.int64)


def _sorted(x: Array, axis: int, largest: bool) -> Array:
    """Return places in order; of equal elements the first comes first, whichever end is wanted."""
    if largest:
        back: Array = np.argsort(np.flip(x, axis), axis, "stable")
        found: Array = x.shape[axis] - 1 - np.flip(back, axis)
        return found
    return np.argsort(x, axis, "stable")


def _candidates(row: Array, count: int, largest: bool) -> Array:
    """Return the places of what may be among the first ``count``, from left to right."""
    if row.dtype.kind == "f" and np.isnan(row).any():
        return np.arange(row.size)  # it compares with nothing
    at = row.size - count if largest else count - 1
    last = np.partition(row, at)[at]
    return np.flatnonzero(row >= last if largest else row <= last)


def _count(node: Node, k: Array, x: Array) -> int:
    axis = int(node.get("axis", -1))
    count = int(np.asarray(k).reshape(-1)[0])
    if not 0 <= count <= x.shape[axis]:
        raise ArgumentError(f"node {node} takes {count} of the {x.shape[axis]} elements there are")
    return count


def _top_shape(node: Node, limit: int) -> list[Spec2]:
    x, known = node.input(0), node.known(1)
    axis = axis_of(node, len(x.sizes), -1)
    given = np.asarray(node.get("k", 0) if known is None else known)
    shape = (*x.sizes[:axis], _count(node, given, dummy(x)), *x.sizes[axis + 1 :])
    return [(shape, x.kind), (shape, np.dtype(np.int64))]


def _one_hot(node: Node, indices: Array, depth: Array, values: Array) -> Any:
    size, axis = int(depth.reshape(-1)[0]), axis_of(node, indices.ndim + 1, -1)
    places = indices.astype(np.int64)
    places = np.expand_dims(np.where(places < 0, places + size, places), axis)
    shape = [size if i == axis else 1 for i in range(indices.ndim + 1)]
    return np.where(places == np.arange(size).reshape(shape), values[1], values[0])


def _one_hot_shape(node: Node, limit: int) -> list[Spec2]:
    depth, sizes = node.known(1), node.input(0).sizes
    assert depth is not None
    size, axis = int(depth.reshape(-1)[0]), axis_of(node, len(sizes) + 1, -1)
    shape = (*sizes[:axis], size, *sizes[axis:])
    if size < 0 or node.input(2).sizes != (2,):
        raise ArgumentError(f"node {node} needs a depth of at least 0, and two values")
    check_bytes(shape, node.input(2).kind.itemsize, limit, f"the result of node {node}")
    return [(shape, node.input(2).kind)]


def _eye(node: Node, x: Array) -> Any:
    from ..tensors import numpy_type

    code = int(node.get("dtype", 0))
    dtype = numpy_type(code, f"node {node}") if code else x.dtype
    if x.ndim != 2:
        raise ArgumentError(f"node {node} needs a matrix, not an array of shape {x.shape}")
    return np.eye(x.shape[0], x.shape[1], int(node.get("k", 0)), dtype)


def _reverse(node: Node, x: Array, lengths: Array) -> Any:
    time, batch = int(node.get("time_axis", 0)), int(node.get("batch_axis", 1))
    if {time, batch} != {0, 1} or x.ndim < 2 or lengths.shape != (x.shape[batch],):
        raise ArgumentError(f"node {node} needs a length for each sequence of {x.shape}")
    step = np.arange(x.shape[time])[:, None]
    source = np.where(step < lengths, lengths - 1 - step, step)
    source = source if time == 0 else source.T
    source = source.reshape(source.shape + (1,) * (x.ndim - 2))
    return np.take_along_axis(x, source, time)


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [
        Glue(
            "ScatterElements", "Scatter", function=_scatter_elements,
            shapes=_scatter_shape(_scatter_elements),
        ),
        Glue("ScatterND", function=_scatter_nd, shapes=_scatter_shape(_scatter_nd)),
        Glue("TopK", function=_top, static=(1,), shapes=_top_shape),
        Glue("OneHot", function=_one_hot, static=(1,), shapes=_one_hot_shape),
        Glue("EyeLike", function=_eye, from_shape=True),
        Glue("ReverseSequence", function=_reverse, shapes=_like_input),
    ]  # fmt: skip
