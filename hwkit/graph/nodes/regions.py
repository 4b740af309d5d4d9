"""Nodes that bring regions of images, as a detector proposes them, to one size."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ...errors import ArgumentError
from ..ir import Array, Node, check_bytes
from ..nodetype import Glue, NodeType, Spec2
from .parts import wrapped

__all__ = ["node_types"]

# A region with more samples along an axis is no region of an image.
_MOST_SAMPLES = 1 << 22


class _Samples(NamedTuple):
    """Samples along one axis: two pixels each and their weights, ``(bins, samples)``.

    Samples outside the image have weights of zero.
    """

    low: Array
    high: Array
    low_weight: Array
    high_weight: Array

    def matrix(self, size: int) -> Array:
        """Return ``(bins, size)``: what each pixel gives to each bin."""
        found = np.zeros((len(self.low), size), np.float32)
        rows = np.arange(len(self.low))[:, None]
        np.add.at(found, (rows, self.low), self.low_weight)
        np.add.at(found, (rows, self.high), self.high_weight)
        return found


def _samples(start: Any, length: Any, bins: int, count: int, size: int) -> _Samples:
    """He et al., "Mask R-CNN", arXiv:1703.06870, section 3: places are not rounded."""
    width = np.float32(length / np.float32(bins))
    steps = (np.arange(count, dtype=np.float32) + np.float32(0.5)) * width / np.float32(count or 1)
    places = start + np.arange(bins, dtype=np.float32)[:, None] * width + steps
    inside = (places >= -1) & (places <= size)
    places = np.clip(np.where(inside, places, 0), 0, size - 1)
    low = places.astype(np.int64)
    part = places - low.astype(np.float32)
    return _Samples(
        low, np.minimum(low + 1, size - 1), np.where(inside, 1 - part, 0), np.where(inside, part, 0)
    )


def _align(node: Node, x: Array, regions: Array, images: Array) -> Any:
    ((shape, _),) = _align_shape(node, 1 << 62)
    scale = np.float32(node.get("spatial_scale", 1.0))
    mode = node.get("coordinate_transformation_mode", "half_pixel" if node.version >= 16 else "")
    ratio = int(node.get("sampling_ratio", 0))
    found = np.zeros(shape, np.float32)
    for index, image in enumerate(wrapped(node, images, max(len(x), 1))):
        ends = regions[index].astype(np.float32) * scale
        ends = ends - np.float32(0.5) if mode == "half_pixel" else ends
        lengths = ends[2:] - ends[:2]
        lengths = lengths if mode == "half_pixel" else np.maximum(lengths, np.float32(1))
        axes = []
        for axis in (1, 0):  # a region has its x first, an image its y
            bins, size, length = shape[3 - axis], x.shape[3 - axis], lengths[axis]
            count = ratio or math.ceil(np.nan_to_num(length / np.float32(bins)))
            if count * bins > _MOST_SAMPLES:
                raise ArgumentError(f"node {node} has a region of {length} pixels")
            axes.append(_samples(ends[axis], length, bins, max(count, 0), size))
        pooled = _greatest if node.get("mode", "avg") == "max" else _mean
        found[index] = pooled(x[image].astype(np.float32, copy=False), *axes)
    return found.astype(x.dtype)


def _mean(x: Array, rows: _Samples, columns: _Samples) -> Any:
    count = rows.low.shape[1] * columns.low.shape[1]
    sums = rows.matrix(x.shape[1]) @ (x @ columns.matrix(x.shape[2]).T)
    return sums / np.float32(max(count, 1))


def _greatest(x: Array, rows: _Samples, columns: _Samples) -> Any:
    """The greatest of the weighted pixels, not of the samples: so ONNX has it."""
    bins = len(rows.low), len(columns.low)
    found = np.zeros((len(x), *bins), np.float32)
    if rows.low.size == 0 or columns.low.size == 0:
        return found
    best = np.full((len(x), rows.low.size, columns.low.size), -np.inf, np.float32)
    for index, weight in ((rows.low, rows.low_weight), (rows.high, rows.high_weight)):
        for other, factor in (
            (columns.low, columns.low_weight), (columns.high, columns.high_weight),
        ):  # fmt: skip
            weights = weight.reshape(-1, 1) * factor.reshape(-1)
            np.maximum(best, x[:, index.reshape(-1, 1), other.reshape(-1)] * weights, out=best)
    parts = best.reshape(len(x), *rows.low.shape, *columns.low.shape)
    return parts.max((2, 4))


def _align_shape(node: Node, limit: int) -> list[Spec2]:
    x, regions, images = (node.input(i).sizes for i in range(3))
    size = (int(node.get("output_height", 1)), int(node.get("output_width", 1)))
    if (
        len(x) != 4 or regions != (*images, 4) or len(images) != 1 or min(size) < 1
        or 0 in x[2:] or int(node.get("sampling_ratio", 0)) < 0
    ):  # fmt: skip
        raise ArgumentError(f"node {node} has regions of shape {regions} of images of {x}")
    if node.get("mode", "avg") not in ("avg", "max"):
        raise ArgumentError(f"node {node} has the unknown mode {node.get('mode', '')!r}")
    shape = (images[0], x[1], *size)
    check_bytes(shape, 4, limit, f"the result of node {node}")
    return [(shape, node.input(0).kind)]


def _pool(node: Node, x: Array, regions: Array) -> Any:
    """Girshick, "Fast R-CNN", arXiv:1504.08083, section 2.1: ends are rounded to pixels."""
    ((shape, _),) = _pool_shape(node, 1 << 62)
    scale = np.float32(node.get("spatial_scale", 1.0))
    images = wrapped(node, regions[:, 0].astype(np.int64), max(len(x), 1))
    places = regions[:, 1:].astype(np.float32) * scale
    places = np.clip(np.nan_to_num(places), -(2**30), 2**30)
    ends = (np.sign(places) * np.floor(np.abs(places) + np.float32(0.5))).astype(np.int64)
    found = np.zeros(shape, x.dtype)
    for index, image in enumerate(images):
        first, last = ends[index, :2], ends[index, 2:]
        rows, columns = (
            _bins(first[axis], last[axis], shape[3 - axis], x.shape[3 - axis]) for axis in (1, 0)
        )
        for i, (top, bottom) in enumerate(rows):
            for j, (left, right) in enumerate(columns):
                if bottom > top and right > left:
                    found[index, :, i, j] = x[image, :, top:bottom, left:right].max((1, 2))
    return found


def _bins(first: int, last: int, bins: int, size: int) -> list[tuple[int, int]]:
    width = np.float32(max(last - first + 1, 1)) / np.float32(bins)
    found = []
    for index in range(bins):
        low = int(np.floor(np.float32(index) * width)) + int(first)
        high = int(np.ceil(np.float32(index + 1) * width)) + int(first)
        found.append((min(max(low, 0), size), min(max(high, 0), size)))
    return found


def _pool_shape(node: Node, limit: int) -> list[Spec2]:
    x, regions = node.input(0).sizes, node.input(1).sizes
    size = tuple(node.get("pooled_shape", ()))
    if len(x) != 4 or len(regions) != 2 or regions[1] != 5 or len(size) != 2 or min(size) < 1:
        raise ArgumentError(f"node {node} has regions of shape {regions} of images of {x}")
    shape = (regions[0], x[1], *size)
    check_bytes(shape, node.input(0).kind.itemsize, limit, f"the result of node {node}")
    return [(shape, node.input(0).kind)]


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [
        Glue("RoiAlign", function=_align, shapes=_align_shape),
        Glue("MaxRoiPool", function=_pool, shapes=_pool_shape),
    ]
