"""Nodes that find elements; how many there are, only their data tell."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..ir import Array, Node, check_bytes
from ..late import Late
from ..nodetype import NodeType

__all__ = ["node_types"]


def _non_zero(node: Node, limit: int, x: Array) -> Any:
    rank = max(x.ndim, 1)
    check_bytes((rank, int(np.count_nonzero(x))), 8, limit, f"the result of node {node}")
    return np.array(np.nonzero(np.atleast_1d(x)), np.int64)


def _compress(node: Node, limit: int, x: Array, condition: Array) -> Any:
    axis = node.get("axis", None)
    if axis is None:
        x, axis = x.reshape(-1), 0
    if not -x.ndim <= axis < x.ndim or condition.ndim != 1 or len(condition) > x.shape[axis]:
        raise ArgumentError(
            f"node {node} has {condition.size} conditions for axis {axis} of {x.shape}"
        )
    return np.compress(condition, x, axis)


def _unique(node: Node, limit: int, x: Array) -> Any:
    """Elements, or slices of an axis, each once; with the first place, the number, the count."""
    axis = node.get("axis", None)
    if axis is not None and not -x.ndim <= axis < x.ndim:
        raise ArgumentError(f"node {node} has the axis {axis}, but its rank is {x.ndim}")
    what = x.reshape(-1) if axis is None else x
    unique, first, number, count = np.unique(what, True, True, True, axis or 0)
    number = number.reshape(-1)
    if not node.get("sorted", 1):
        order = np.argsort(first, kind="stable")
        unique, first, count = np.take(unique, order, axis or 0), first[order], count[order]
        number = np.argsort(order, kind="stable")[number]
    return unique, *(a.astype(np.int64) for a in (first, number, count))


def _select(
    node: Node, limit: int, boxes: Array, scores: Array, most: Array | None = None,
    overlap: Array | None = None, least: Array | None = None,
) -> Any:  # fmt: skip
    """Choose for each class the boxes of the best scores that do not overlap a better one."""
    if (
        boxes.ndim != 3 or scores.ndim != 3 or boxes.shape[2] != 4
        or (boxes.shape[0], boxes.shape[1]) != (scores.shape[0], scores.shape[2])
    ):  # fmt: skip
        raise ArgumentError(
            f"node {node} has boxes of shape {boxes.shape} and scores of {scores.shape}"
        )
    count = min(max(int(_scalar(most, 0)), 0), boxes.shape[1])
    bound, floor = np.float32(_scalar(overlap, 0.0)), _scalar(least, -math.inf)
    check_bytes((*scores.shape[:2], count, 3), 8, limit, f"the result of node {node}")
    found = []
    for image in range(scores.shape[0] if count else 0):
        corners = _corners(boxes[image], bool(node.get("center_point_box", 0)))
        for kind in range(scores.shape[1]):
            for box in _greedy(corners, scores[image, kind], count, bound, floor):
                found.append((image, kind, box))
    return np.array(found, np.int64).reshape(-1, 3)


def _scalar(value: Array | None, default: float) -> Any:
    return default if value is None or value.size == 0 else value.reshape(-1)[0]


def _corners(boxes: Array, centred: bool) -> Array:
    """Return (5, n): low and high ends along both axes, and the area of each box."""
    if centred:
        x, y, w, h = (boxes[:, i] for i in range(4))
        low0, high0, low1, high1 = x - w / 2, x + w / 2, y - h / 2, y + h / 2
    else:
        low0, high0 = np.minimum(boxes[:, 0], boxes[:, 2]), np.maximum(boxes[:, 0], boxes[:, 2])
        low1, high1 = np.minimum(boxes[:, 1], boxes[:, 3]), np.maximum(boxes[:, 1], boxes[:, 3])
    return np.stack([low0, high0, low1, high1, (high0 - low0) * (high1 - low1)])


def _greedy(boxes: Array, scores: Array, most: int, bound: Any, floor: Any) -> list[int]:
    """Take the best box that is left, drop what overlaps it, and so on."""
    left = np.flatnonzero(scores > floor)
    left = left[np.argsort(-scores[left], kind="stable")]
    taken: list[int] = []
    while len(left) and len(taken) < most:
        best, left = int(left[0]), left[1:]
        taken.append(best)
        low0, high0, low1, high1, area = boxes[:, left]
        one = boxes[:, best]
        first = np.minimum(high0, one[1]) - np.maximum(low0, one[0])
        second = np.minimum(high1, one[3]) - np.maximum(low1, one[2])
        common = np.maximum(first, 0) * np.maximum(second, 0)
        union = area + one[4] - common
        whole = (common > 0) & (area > 0) & (one[4] > 0) & (union > 0)
        left = left[~(whole & (common / np.where(whole, union, 1) > bound))]
    return taken


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [
        Late("NonZero", function=_non_zero),
        Late("Compress", function=_compress),
        Late("Unique", function=_unique),
        Late("NonMaxSuppression", function=_select),
    ]
