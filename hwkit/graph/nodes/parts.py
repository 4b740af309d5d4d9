"""Nodes that join arrays, part one, or pick elements of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..ir import Array, Node, check_bytes
from ..nodetype import Glue, NodeType, Spec2, dummy
from .axes import axis_of

__all__ = ["node_types", "within", "wrapped"]


def _concat(node: Node, *arrays: Any) -> Any:
    return np.concatenate(arrays, axis_of(node, arrays[0].ndim, 1))


def _concat_into(node: Node, arrays: Sequence[Any], outs: Sequence[Array]) -> Callable[[], Any]:
    axis = axis_of(node, outs[0].ndim, 1)
    parts, start = [], 0
    for array in arrays:
        place = [slice(None)] * outs[0].ndim
        place[axis] = slice(start, start + array.shape[axis])
        parts.append((outs[0][tuple(place)], array))
        start += array.shape[axis]
    # A Program may have had a part written where it belongs.
    parts = [(t, s) for t, s in parts if not _same(t, s)]

    def run() -> None:
        for target, source in parts:
            np.copyto(target, source)

    return run


def _same(a: Array, b: Array) -> bool:
    """Whether arrays of one shape are the same elements in memory."""
    apart = a.strides != b.strides and not (a.flags.c_contiguous and b.flags.c_contiguous)
    return a.ctypes.data == b.ctypes.data and not apart


def _concat_shape(node: Node, limit: int) -> list[Spec2]:
    shapes = [v.sizes for v in node.inputs if v is not None]
    axis = axis_of(node, len(shapes[0]), 1)
    rest = {(*s[:axis], *s[axis + 1 :]) for s in shapes}
    if len(rest) > 1 or len({len(s) for s in shapes}) > 1:
        raise ArgumentError(f"node {node} joins arrays of shapes {shapes[:4]} along axis {axis}")
    total = sum(s[axis] for s in shapes)
    shape = (*shapes[0][:axis], total, *shapes[0][axis + 1 :])
    check_bytes(shape, node.input(0).kind.itemsize, limit, f"the result of node {node}")
    return [(shape, node.input(0).kind)]


def _parts(node: Node, x: Array) -> list[Array]:
    axis = axis_of(node, x.ndim)
    known = node.known(1)
    sizes = node.get("split", None) if known is None else known.tolist()
    if sizes is None:
        count = int(node.get("num_outputs", len(node.outputs)))
        each = -(-x.shape[axis] // max(count, 1))
        sizes = [each] * (count - 1) + [x.shape[axis] - each * (count - 1)]
    if sum(sizes) != x.shape[axis] or min(sizes) < 0 or len(sizes) != len(node.outputs):
        raise ArgumentError(f"node {node} cannot part {x.shape[axis]} into {list(sizes)[:8]}")
    return np.split(x, np.cumsum(sizes)[:-1].tolist(), axis)


def _split_into(node: Node, arrays: Sequence[Any], outs: Sequence[Array]) -> Callable[[], Any]:
    parts = _parts(node, arrays[0])
    wanted = [part for part, value in zip(parts, node.outputs, strict=True) if value is not None]

    def run() -> None:
        for out, part in zip(outs, wanted, strict=True):
            np.copyto(out, part)

    return run


def _slices(node: Node, rank: int) -> tuple[slice, ...]:
    starts, ends, axes, steps = (
        (
            [int(v) for v in node.get(name, [])]
            if (known := node.known(i)) is None
            else known.reshape(-1).tolist()
        )
        for i, name in enumerate(("starts", "ends", "axes", "steps"), 1)
    )
    found = [slice(None)] * rank
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = axes[i] if axes else i
        step = steps[i] if steps else 1
        if not -rank <= axis < rank or step == 0:
            raise ArgumentError(f"node {node} slices the axis {axis} of {rank} in steps of {step}")
        found[axis] = slice(start, end, step)
    return tuple(found)


def _slice(node: Node, x: Array, *_: Any) -> Any:
    found = list(_slices(node, x.ndim))
    for axis, part in enumerate(found):
        if part.step is not None and part.step < 0:
            # Below -size there is nothing: from there means from the first element, to there means
            # down to it, which None says.
            size = x.shape[axis]
            stop = None if part.stop < -size else part.stop
            found[axis] = slice(max(part.start, -size), stop, part.step)
    return x[tuple(found)]


def _copy_into(function: Callable[..., Any]) -> Callable[..., Callable[[], Any]]:
    """One copy of a view that is made once."""

    def into(node: Node, arrays: Sequence[Any], outs: Sequence[Array]) -> Callable[[], Any]:
        view = function(node, *arrays)
        return lambda: np.copyto(outs[0], view)

    return into


class Slice(Glue):
    """A view where the part lies together, otherwise one copy."""

    def __init__(self) -> None:
        super().__init__("Slice", function=_slice, static=(1, 2, 3, 4), into=_copy_into(_slice))

    def view(self, node: Node, array: Array) -> Array | None:
        """Return the part if it lies together."""
        part: Array = _slice(node, array)
        return part if part.flags.c_contiguous and part.size else None


def _gather(node: Node, x: Array, indices: Array) -> Any:
    axis = axis_of(node, x.ndim)
    return np.take(x, wrapped(node, indices, x.shape[axis]), axis)


def _gather_shape(node: Node, limit: int) -> list[Spec2]:
    x, indices = node.input(0), node.input(1)
    axis = axis_of(node, len(x.sizes))
    shape = (*x.sizes[:axis], *indices.sizes, *x.sizes[axis + 1 :])
    if indices.data is not None:
        wrapped(node, dummy(indices), x.sizes[axis])
    check_bytes(shape, x.kind.itemsize, limit, f"the result of node {node}")
    return [(shape, x.kind)]


def wrapped(node: Node, indices: Array, size: int) -> Array:
    """Return indices of an axis as not negative.

    Raises:
        ArgumentError: one is outside its size.
    """
    if indices.size and (indices.min() < -size or indices.max() >= size):
        raise ArgumentError(f"node {node} asks for an element outside the {size} that there are")
    return np.where(indices < 0, indices + size, indices)


def _gather_elements(node: Node, x: Array, indices: Array) -> Any:
    axis = axis_of(node, x.ndim)
    part = x[within(node, x, indices, axis)]
    return np.take_along_axis(part, wrapped(node, indices, x.shape[axis]), axis)


def within(node: Node, x: Array, indices: Array, axis: int) -> tuple[slice, ...]:
    """Return the part of ``x`` that indices by element speak of: they may be fewer than ``x`` has.

    Raises:
        ArgumentError: there are more of them along another axis.
    """
    sizes = [*indices.shape[:axis], *x.shape[axis : axis + 1], *indices.shape[axis + 1 :]]
    if x.ndim != indices.ndim or any(n > s for n, s in zip(sizes, x.shape, strict=True)):
        raise ArgumentError(
            f"node {node} has indices of shape {indices.shape} for an array of {x.shape}"
        )
    return tuple(slice(0, size) for size in sizes)


def _gather_nd(node: Node, x: Array, indices: Array) -> Any:
    batch = int(node.get("batch_dims", 0))
    count = math.prod(indices.shape[:batch])
    out = np.empty((*indices.shape[:-1], *x.shape[batch + indices.shape[-1] :]), x.dtype)
    # Sizes are written out: with no index at all, -1 could be any.
    flat, places, found = (a.reshape(count, *a.shape[batch:]) for a in (x, indices, out))
    for to, a, i in zip(found, flat, places, strict=True):
        to[...] = a[tuple(np.moveaxis(i, -1, 0))]
    return out


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [
        Slice(),
        Glue("Concat", function=_concat, into=_concat_into, shapes=_concat_shape),
        Glue("Split", function=lambda n, x, *_: tuple(_parts(n, x)), into=_split_into, static=(1,)),
        Glue("Gather", function=_gather, shapes=_gather_shape),
        Glue("GatherElements", function=_gather_elements),
        Glue("GatherND", function=_gather_nd),
    ]
