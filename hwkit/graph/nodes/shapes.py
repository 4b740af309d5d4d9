"""Nodes that move elements without computing: views where numpy can, otherwise one copy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..ir import Array, Node, check_bytes
from ..nodetype import Glue, NodeType, Spec2, View, dummy

__all__ = ["axes_of", "node_types"]


def axes_of(node: Node, rank: int, index: int = 1) -> tuple[int, ...] | None:
    """Return axes, an attribute in old operator sets and an input in new ones, as not negative.

    Raises:
        ArgumentError: one is outside the rank.
    """
    given = node.get("axes", None)
    if given is None:
        known = node.known(index)
        given = None if known is None else known.reshape(-1).tolist()
    if given is None:
        return None
    if any(not -rank <= axis < rank for axis in given):
        raise ArgumentError(f"node {node} has the axes {list(given)[:8]}, but its rank is {rank}")
    return tuple(int(axis) % rank for axis in given)


def _axis(node: Node, rank: int, default: int = 0) -> int:
    axis = int(node.get("axis", default))
    if not -rank <= axis < max(rank, 1):
        raise ArgumentError(f"node {node} has the axis {axis}, but its rank is {rank}")
    return axis % max(rank, 1)


def _reshape(node: Node, x: Array) -> Array:
    known = node.known(1)
    wanted = list(node.get("shape", [])) if known is None else known.tolist()
    keep_zero = node.get("allowzero", 0)
    sizes = [x.shape[i] if s == 0 and not keep_zero else s for i, s in enumerate(wanted)]
    return x.reshape(sizes)


def _flatten(node: Node, x: Array) -> Array:
    axis = int(node.get("axis", 1))
    axis += x.ndim if axis < 0 else 0
    return (
        x.reshape(math.prod(x.shape[:axis]), -1)
        if x.size
        else x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
    )


def _squeeze(node: Node, x: Array) -> Array:
    axes = axes_of(node, x.ndim)
    return np.squeeze(x) if axes is None else np.squeeze(x, axes)


def _unsqueeze(node: Node, x: Array) -> Array:
    given = node.get("axes", None)
    known = node.known(1)
    count = len(given) if given is not None else 0 if known is None else known.size
    axes = axes_of(node, x.ndim + count)
    return np.expand_dims(x, axes or ())


def _dropout(node: Node, x: Array) -> Array:
    training = node.known(2)
    if training is not None and training.any():
        raise ArgumentError(f"node {node} is in training mode: export the model for inference")
    return x[...]


def _concat_into(node: Node, arrays: Sequence[Any], outs: Sequence[Array]) -> Callable[[], Any]:
    axis = _axis(node, outs[0].ndim, 1)
    parts, start = [], 0
    for array in arrays:
        place = [slice(None)] * outs[0].ndim
        place[axis] = slice(start, start + array.shape[axis])
        parts.append((outs[0][tuple(place)], array))
        start += array.shape[axis]

    def run() -> None:
        for target, source in parts:
            np.copyto(target, source)

    return run


def _concat_shape(node: Node, limit: int) -> list[Spec2]:
    shapes = [v.sizes for v in node.inputs if v is not None]
    axis = _axis(node, len(shapes[0]), 1)
    rest = {(*s[:axis], *s[axis + 1 :]) for s in shapes}
    if len(rest) > 1 or len({len(s) for s in shapes}) > 1:
        raise ArgumentError(f"node {node} joins arrays of shapes {shapes[:4]} along axis {axis}")
    total = sum(s[axis] for s in shapes)
    shape = (*shapes[0][:axis], total, *shapes[0][axis + 1 :])
    check_bytes(shape, node.input(0).kind.itemsize, limit, f"the result of node {node}")
    return [(shape, node.input(0).kind)]


def _concat(node: Node, *arrays: Any) -> Any:
    return np.concatenate(arrays, _axis(node, arrays[0].ndim, 1))


def _parts(node: Node, x: Array) -> list[Array]:
    axis = _axis(node, x.ndim)
    known = node.known(1)
    sizes = node.get("split", None) if known is None else known.tolist()
    if sizes is None:
        count = int(node.get("num_outputs", len(node.outputs)))
        each = -(-x.shape[axis] // max(count, 1))
        sizes = [each] * (count - 1) + [x.shape[axis] - each * (count - 1)]
    if sum(sizes) != x.shape[axis] or min(sizes) < 0 or len(sizes) != len(node.outputs):
        raise ArgumentError(f"node {node} cannot part {x.shape[axis]} into {list(sizes)[:8]}")
    return np.split(x, np.cumsum(sizes)[:-1].tolist(), axis)


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
        # An end far before the beginning means down to the first element, which None says.
        stop = None if step < 0 and end < -(2**31) + 1 else end
        found[axis] = slice(start, stop, step)
    return tuple(found)


def _slice(node: Node, x: Array, *_: Any) -> Any:
    found = list(_slices(node, x.ndim))
    for axis, part in enumerate(found):
        downward = part.step is not None and part.step < 0 and part.stop is not None
        # Python reads -1 as the last element, ONNX as well, but below -size there is none.
        if downward and part.stop < -x.shape[axis]:
            found[axis] = slice(part.start, None, part.step)
    return x[tuple(found)]


def _gather(node: Node, x: Array, indices: Array) -> Any:
    axis = _axis(node, x.ndim)
    return np.take(x, _wrapped(node, indices, x.shape[axis]), axis)


def _wrapped(node: Node, indices: Array, size: int) -> Array:
    if indices.size and (indices.min() < -size or indices.max() >= size):
        raise ArgumentError(f"node {node} asks for an element outside the {size} that there are")
    return np.where(indices < 0, indices + size, indices)


def _gather_elements(node: Node, x: Array, indices: Array) -> Any:
    axis = _axis(node, x.ndim)
    return np.take_along_axis(x, _wrapped(node, indices, x.shape[axis]), axis)


def _gather_nd(node: Node, x: Array, indices: Array) -> Any:
    batch = int(node.get("batch_dims", 0))
    lead = indices.shape[:batch]
    flat, places = x.reshape(-1, *x.shape[batch:]), indices.reshape(-1, *indices.shape[batch:])
    picked = [a[tuple(np.moveaxis(i, -1, 0))] for a, i in zip(flat, places, strict=True)]
    return np.stack(picked).reshape(*lead, *picked[0].shape)


def _expand_shape(node: Node, limit: int) -> list[Spec2]:
    known = node.known(1)
    assert known is not None
    shape = np.broadcast_shapes(node.input(0).sizes, tuple(known.tolist()))
    check_bytes(shape, node.input(0).kind.itemsize, limit, f"the result of node {node}")
    return [(shape, node.input(0).kind)]


def _expand(node: Node, x: Array, shape: Array) -> Any:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape.tolist())))


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


def _filled_shape(node: Node, limit: int) -> list[Spec2]:
    known = node.known(0)
    assert known is not None
    value = np.asarray(node.get("value", np.zeros(1, np.float32)))
    check_bytes(known.tolist(), value.dtype.itemsize, limit, f"the result of node {node}")
    return [(tuple(known.tolist()), value.dtype)]


def _filled(node: Node, shape: Array) -> Any:
    value = np.asarray(node.get("value", np.zeros(1, np.float32))).reshape(-1)
    return np.full(tuple(shape.tolist()), value[0])


def _shape(node: Node, x: Array) -> Any:
    return np.array(x.shape[slice(node.get("start", 0), node.get("end", None))], np.int64)


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


def _range_shape(node: Node, limit: int) -> list[Spec2]:
    start, stop, step = (np.asarray(node.known(i)).reshape(-1)[0] for i in range(3))
    if step == 0:
        raise ArgumentError(f"node {node} counts in steps of zero")
    count = max(math.ceil((float(stop) - float(start)) / float(step)), 0)
    check_bytes((count,), 8, limit, f"the result of node {node}")
    return [((count,), node.input(0).kind)]


def _range(node: Node, start: Array, stop: Array, step: Array) -> Any:
    count = _range_shape(node, 1 << 62)[0][0][0]
    return (start.reshape(-1)[0] + np.arange(count) * step.reshape(-1)[0]).astype(start.dtype)


def _blocks(node: Node, rank_of: Array) -> int:
    size = int(node.get("blocksize", 0))
    if rank_of.ndim != 4 or size < 1:
        raise ArgumentError(f"node {node} needs an image and a block size of at least 1")
    return size


def _depth_to_space(node: Node, x: Array) -> Any:
    b = _blocks(node, x)
    n, c, h, w = x.shape
    if node.get("mode", "DCR") == "DCR":
        moved = x.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        moved = x.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return moved.reshape(n, c // b**2, h * b, w * b)


def _space_to_depth(node: Node, x: Array) -> Any:
    b = _blocks(node, x)
    n, c, h, w = x.shape
    order = (0, 1, 3, 5, 2, 4) if node.get("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    moved = x.reshape(n, c, h // b, b, w // b, b).transpose(order)
    return moved.reshape(n, c * b * b, h // b, w // b)


def _trilu(node: Node, x: Array, k: Array | None = None) -> Any:
    offset = 0 if k is None else int(k.reshape(-1)[0])
    return np.triu(x, offset) if node.get("upper", 1) else np.tril(x, offset)


def _copy_into(function: Callable[..., Any]) -> Callable[..., Callable[[], Any]]:
    """One copy of a view that is made once."""

    def into(node: Node, arrays: Sequence[Any], outs: Sequence[Array]) -> Callable[[], Any]:
        view = function(node, *arrays)
        return lambda: np.copyto(outs[0], view)

    return into


def _split_into(node: Node, arrays: Sequence[Any], outs: Sequence[Array]) -> Callable[[], Any]:
    parts = _parts(node, arrays[0])
    wanted = [part for part, value in zip(parts, node.outputs, strict=True) if value is not None]

    def run() -> None:
        for out, part in zip(outs, wanted, strict=True):
            np.copyto(out, part)

    return run


class Slice(Glue):
    """A view where the part lies together, otherwise one copy."""

    def __init__(self) -> None:
        super().__init__("Slice", function=_slice, static=(1, 2, 3, 4), into=_copy_into(_slice))

    def view(self, node: Node, array: Array) -> Array | None:
        """Return the part if it lies together."""
        part: Array = _slice(node, array)
        return part if part.flags.c_contiguous and part.size else None


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [
        View("Reshape", function=_reshape, static=(1,)),
        View("Flatten", function=_flatten),
        View("Squeeze", function=_squeeze, static=(1,)),
        View("Unsqueeze", function=_unsqueeze, static=(1,)),
        View("Identity", function=lambda n, x: x[...]),
        View("Dropout", function=_dropout, static=(2,)),
        Slice(),
        Glue("Concat", function=_concat, into=_concat_into, shapes=_concat_shape),
        Glue(
            "Split", function=lambda n, x, *_: tuple(_parts(n, x)), into=_split_into, static=(1,)
        ),
        Glue("Gather", function=_gather, shapes=_gather_shape),
        Glue("GatherElements", function=_gather_elements),
        Glue("GatherND", function=_gather_nd),
        Glue("Expand", function=_expand, static=(1,), shapes=_expand_shape),
        Glue(
            "Tile", function=lambda n, x, *_: np.tile(x, _tiles(n, x.ndim)), static=(1, 2),
            shapes=_tile_shape,
        ),
        Glue("ConstantOfShape", function=_filled, static=(0,), shapes=_filled_shape),
        Glue("Constant", function=_constant, shapes=_constant_shape),
        Glue("Shape", function=_shape, from_shape=True),
        Glue("Size", function=lambda n, x: np.array(x.size, np.int64), from_shape=True),
        Glue("Range", function=_range, static=(0, 1, 2), shapes=_range_shape),
        Glue("DepthToSpace", function=_depth_to_space),
        Glue("SpaceToDepth", function=_space_to_depth),
        Glue("Trilu", function=_trilu),
    ]  # fmt: skip


def _gather_shape(node: Node, limit: int) -> list[Spec2]:
    x, indices = node.input(0), node.input(1)
    axis = _axis(node, len(x.sizes))
    shape = (*x.sizes[:axis], *indices.sizes, *x.sizes[axis + 1 :])
    if indices.data is not None:
        _wrapped(node, dummy(indices), x.sizes[axis])
    check_bytes(shape, x.kind.itemsize, limit, f"the result of node {node}")
    return [(shape, x.kind)]
