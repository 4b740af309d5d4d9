"""Nodes that read images at places between the pixels which another array names."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...errors import ArgumentError
from ..ir import Array, Node, check_bytes
from ..nodetype import Glue, NodeType, Spec2

__all__ = ["node_types"]

_MODES = {
    "nearest": "nearest", "linear": "linear", "bilinear": "linear", "cubic": "cubic",
    "bicubic": "cubic",
}  # fmt: skip
_PADDINGS = ("zeros", "border", "reflection")
_CUBIC = -0.75


class _Taps(NamedTuple):
    """Pixels of one axis that take part, ``(taps, places)``, with their weights."""

    pixel: Array
    weight: Array


def _ends(size: int, corners: bool) -> tuple[float, float]:
    """Return the first and the last place of an axis that are inside the image."""
    return (0.0, size - 1.0) if corners else (-0.5, size - 0.5)


def _reflected(places: Array, low: float, high: float) -> Array:
    """Return places as seen in mirrors at both ends."""
    width = high - low
    if width <= 0:
        return np.full_like(places, low)
    beyond = np.where(places < low, low - places, places - high)
    turns = np.trunc(beyond / width)
    rest, even = beyond - turns * width, turns % 2 == 0
    found = np.where((places < low) == even, low + rest, high - rest)
    inside = (places >= low) & (places <= high)
    return np.where(inside, places, found).astype(places.dtype)


def _taps(places: Array, size: int, mode: str, padding: str, corners: bool) -> _Taps:
    low, high = _ends(size, corners)
    places = ((places + 1) * size - 1) / 2 if not corners else (places + 1) / 2 * (size - 1)
    places = np.rint(places) if mode == "nearest" else places
    if padding == "border" and mode != "cubic":  # of cubic only the taps, as torch has it
        outside = (places < low) | (places > high)
        places = np.where(outside, np.clip(places, 0, size - 1), places)
    elif padding == "reflection":
        places = _reflected(places, low, high)
    # Far outside is far enough: a larger number would not fit an index.
    places = np.clip(np.nan_to_num(places), -(2**24), 2**24)
    first = np.floor(places)
    x, one = (places - first).astype(places.dtype), np.ones_like(places)
    begin, weights = 0, [one]
    if mode == "linear":
        weights = [1 - x, x]
    elif mode == "cubic":
        begin, weights = -1, [_far(x + 1), _near(x), _near(1 - x), _far(2 - x)]
    index = np.stack([first + begin + i for i in range(len(weights))])
    weight = np.stack(weights)
    if padding == "zeros":
        weight = np.where((index >= 0) & (index < size), weight, 0)
    elif padding == "reflection":
        index = np.trunc(_reflected(index, low, high))
    return _Taps(np.clip(index, 0, size - 1).astype(np.int64), weight)


def _near(x: Array) -> Array:
    """Keys, "Cubic Convolution Interpolation", IEEE TASSP 29 (1981), equation 4, within 1."""
    return ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1


def _far(x: Array) -> Array:
    """The same between 1 and 2."""
    return ((_CUBIC * x - 5 * _CUBIC) * x + 8 * _CUBIC) * x - 4 * _CUBIC


def _sample(node: Node, x: Array, grid: Array) -> Any:
    mode, padding, corners = _options(node)
    ((shape, _),) = _sample_shape(node, 1 << 62)
    wide = x if x.dtype.kind == "f" and x.dtype.itemsize >= 4 else x.astype(np.float32)
    grid = grid.astype(wide.dtype)
    axes = x.ndim - 2
    found = np.zeros((*shape[:2], math.prod(shape[2:])), wide.dtype)
    for image in range(shape[0]):
        # The last number of a place belongs to the first axis.
        places = grid[image].reshape(-1, axes).T[::-1]
        taps = [
            _taps(p, size, mode, padding, corners)
            for p, size in zip(places, x.shape[2:], strict=True)
        ]
        channels = wide[image]
        for corner in itertools.product(*(range(len(t.weight)) for t in taps)):
            pixels = (slice(None), *(t.pixel[i] for t, i in zip(taps, corner, strict=True)))
            weight = math.prod(t.weight[i] for t, i in zip(taps, corner, strict=True))
            found[image] += channels[pixels] * weight
    return found.reshape(shape).astype(x.dtype)


def _options(node: Node) -> tuple[str, str, bool]:
    mode = node.get("mode", "linear")
    padding = node.get("padding_mode", "zeros")
    if mode not in _MODES or padding not in _PADDINGS:
        raise ArgumentError(f"node {node} has the mode {mode!r} and the padding {padding!r}")
    return _MODES[mode], padding, bool(node.get("align_corners", 0))


def _sample_shape(node: Node, limit: int) -> list[Spec2]:
    x, grid = node.input(0).sizes, node.input(1).sizes
    axes = len(x) - 2
    if axes < 1 or len(grid) != axes + 2 or grid[-1] != axes or grid[0] != x[0] or 0 in x[2:]:
        raise ArgumentError(f"node {node} has places of shape {grid} for an image of {x}")
    _options(node)
    shape = (*x[:2], *grid[1:-1])
    check_bytes(shape, node.input(0).kind.itemsize, limit, f"the result of node {node}")
    return [(shape, node.input(0).kind)]


def _grid(node: Node, theta: Array, size: Array) -> Any:
    """Places of all pixels, turned and moved by a matrix for each image."""
    sizes = tuple(int(n) for n in size)[2:]
    corners = bool(node.get("align_corners", 0))
    lines = [_line(n, corners, theta.dtype) for n in sizes]
    places = np.stack([*np.meshgrid(*lines, indexing="ij")[::-1], np.ones(sizes, theta.dtype)], -1)
    found = places.reshape(-1, len(sizes) + 1) @ theta.transpose(0, 2, 1)
    return found.reshape(len(theta), *sizes, len(sizes))


def _line(size: int, corners: bool, dtype: Any) -> Array:
    if corners:
        return np.linspace(-1, 1, size, dtype=dtype)
    return ((2 * np.arange(size) + 1) / size - 1).astype(dtype)


def _grid_shape(node: Node, limit: int) -> list[Spec2]:
    theta, known = node.input(0), node.known(1)
    assert known is not None
    sizes: Sequence[int] = known.reshape(-1).tolist()
    axes = len(sizes) - 2
    if axes not in (2, 3) or min(sizes) < 1 or theta.sizes != (sizes[0], axes, axes + 1):
        raise ArgumentError(f"node {node} has matrices of shape {theta.sizes} for {sizes[:8]}")
    shape = (sizes[0], *sizes[2:], axes)
    check_bytes(shape, theta.kind.itemsize, limit, f"the result of node {node}")
    return [(shape, theta.kind)]


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [
        Glue("GridSample", function=_sample, shapes=_sample_shape),
        Glue("AffineGrid", function=_grid, shapes=_grid_shape, static=(1,)),
    ]
