"""Nodes that give the elements of an array another shape, or tell its shape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..ir import Array, Node
from ..nodetype import Glue, NodeType, View
from .axes import axes_of

__all__ = ["node_types"]


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


def _shape(node: Node, x: Array) -> Any:
    return np.array(x.shape[slice(node.get("start", 0), node.get("end", None))], np.int64)


def _blocks(node: Node, rank_of: Array) -> int:
    size = int(node.get("blocksize", 0))
    if rank_of.ndim != 4 or size < 1:
        raise ArgumentError(f"node {node} needs an image and a block size of at least 1")
    return size


def _depth_to_space(node: Node, x: Array) -> Any:
    """Channels become blocks of pixels; the layout pass may have put the channels last."""
    b, last = _blocks(node, x), node.get("layout", "nchw") == "nhwc"
    n, c, h, w = (x.shape[i] for i in ((0, 3, 1, 2) if last else range(4)))
    sizes = (b, b, c // b**2) if node.get("mode", "DCR") == "DCR" else (c // b**2, b, b)
    moved = x.reshape(n, h, w, *sizes) if last else x.reshape(n, *sizes, h, w)
    rows, columns, depth = (0, 1, 2) if node.get("mode", "DCR") == "DCR" else (1, 2, 0)
    if last:
        moved = moved.transpose(0, 1, 3 + rows, 2, 3 + columns, 3 + depth)
        return moved.reshape(n, h * b, w * b, c // b**2)
    moved = moved.transpose(0, 1 + depth, 4, 1 + rows, 5, 1 + columns)
    return moved.reshape(n, c // b**2, h * b, w * b)


def _space_to_depth(node: Node, x: Array) -> Any:
    """Blocks of pixels become channels, from either layout."""
    b, last = _blocks(node, x), node.get("layout", "nchw") == "nhwc"
    n, c, h, w = (x.shape[i] for i in ((0, 3, 1, 2) if last else range(4)))
    turned = node.get("mode", "DCR") == "CRD"
    if last:
        moved = x.reshape(n, h // b, b, w // b, b, c)
        moved = moved.transpose((0, 1, 3, 5, 2, 4) if turned else (0, 1, 3, 2, 4, 5))
        return moved.reshape(n, h // b, w // b, c * b * b)
    moved = x.reshape(n, c, h // b, b, w // b, b)
    moved = moved.transpose((0, 1, 3, 5, 2, 4) if turned else (0, 3, 5, 1, 2, 4))
    return moved.reshape(n, c * b * b, h // b, w // b)


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [
        View("Reshape", function=_reshape, static=(1,)),
        View("Flatten", function=_flatten),
        View("Squeeze", function=_squeeze, static=(1,)),
        View("Unsqueeze", function=_unsqueeze, static=(1,)),
        View("Identity", function=lambda n, x: x[...]),
        View("Dropout", function=_dropout, static=(2,)),
        Glue("Shape", function=_shape, from_shape=True),
        Glue("Size", function=lambda n, x: np.array(x.size, np.int64), from_shape=True),
        Glue("DepthToSpace", function=_depth_to_space),
        Glue("SpaceToDepth", function=_space_to_depth),
    ]
