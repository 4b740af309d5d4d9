"""Pad, by a number, the edge, or what lies on the other side of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..ir import Array, Node, check_bytes
from ..nodetype import Glue, NodeType, Spec2
from .axes import axes_of

__all__ = ["node_types"]

_MODES = ("constant", "reflect", "edge", "wrap")


def _pads(node: Node, rank: int) -> list[tuple[int, int]]:
    known = node.known(1)
    given = node.get("pads", None) or node.get("paddings", None) if known is None else known
    pads = [int(p) for p in np.asarray([] if given is None else given).reshape(-1)]
    axes = axes_of(node, rank, 3) if node.has(3) else tuple(range(rank))
    if axes is None or len(pads) != 2 * len(axes):
        raise ArgumentError(f"node {node} has {len(pads)} pads for an array of {rank} axes")
    found = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        found[axis] = (pads[i], pads[len(axes) + i])
    return found


def _pad_shape(node: Node, limit: int) -> list[Spec2]:
    value = node.input(0)
    pads = _pads(node, len(value.sizes))
    shape = tuple(s + b + a for s, (b, a) in zip(value.sizes, pads, strict=True))
    check_bytes(shape, value.kind.itemsize, limit, f"the result of node {node}")
    return [(shape, value.kind)]


def _mode(node: Node) -> str:
    mode: str = node.get("mode", "constant")
    if mode not in _MODES:
        raise ArgumentError(f"node {node} pads by {mode!r}: hwkit has {[*_MODES]}")
    return mode


def _cut(widths: list[tuple[int, int]], shape: Sequence[int]) -> tuple[slice, ...]:
    """Return what negative pads leave."""
    return tuple(slice(max(-b, 0), s - max(-a, 0)) for s, (b, a) in zip(shape, widths, strict=True))


def _grown(widths: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(max(b, 0), max(a, 0)) for b, a in widths]


def _fill(node: Node, fill: Any, dtype: Any) -> Any:
    value = node.get("value", 0.0) if fill is None else np.asarray(fill).reshape(-1)[0]
    return np.asarray(value).astype(dtype)


def _pad(node: Node, x: Array, pads: Any = None, fill: Any = None, axes: Any = None) -> Any:
    widths, mode = _pads(node, x.ndim), _mode(node)
    part, grow = x[_cut(widths, x.shape)], _grown(widths)
    if mode != "constant":
        how: Any = mode
        return np.pad(part, grow, how)
    return np.pad(part, grow, constant_values=_fill(node, fill, x.dtype))


def _pad_into(node: Node, arrays: Sequence[Any], outs: Sequence[Array]) -> Callable[[], Any]:
    """Copy the array once, and then one border after the other from what is there."""
    x, out, mode = arrays[0], outs[0], _mode(node)
    widths = _pads(node, x.ndim)
    part, grow = x[_cut(widths, x.shape)], _grown(widths)
    far = any(max(width) >= size for width, size in zip(grow, part.shape, strict=True))
    if mode == "wrap" or (mode == "reflect" and far) or 0 in part.shape:
        return lambda: np.copyto(out, _pad(node, *arrays))
    inner = [slice(b, b + s) for (b, _), s in zip(grow, part.shape, strict=True)]
    target, copies = out[tuple(inner)], []
    for axis, ((before, after), size) in enumerate(zip(grow, part.shape, strict=True)):
        # Along the axes before this one the borders are there already.
        place = (*(slice(None),) * (axis + 1), *inner[axis + 1 :])
        rows = np.moveaxis(out[place], axis, 0)
        last = before + size - 1
        if before:
            low = rows[before : before + 1] if mode == "edge" else rows[2 * before : before : -1]
            copies.append((rows[:before], low))
        if after:
            high = rows[last : last + 1] if mode == "edge" else rows[last - 1 :: -1][:after]
            copies.append((rows[last + 1 :], high))

    def run() -> None:
        np.copyto(target, part)
        for border, source in copies:
            np.copyto(border, source)

    def constant() -> None:
        value = _fill(node, arrays[2] if len(arrays) > 2 else None, out.dtype)
        for border, _ in copies:
            np.copyto(border, value)
        np.copyto(target, part)

    return constant if mode == "constant" else run


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [Glue("Pad", function=_pad, static=(1, 3), into=_pad_into, shapes=_pad_shape)]
