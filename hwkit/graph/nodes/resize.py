"""Resize and Upsample.

Interpolation is a product with one small matrix an axis: a row for each new pixel, with the weights
of the old ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ...errors import ArgumentError
from ..ir import Array, Node, check_bytes
from ..nodetype import Glue, NodeType, Spec2
from .axes import axes_of

__all__ = ["node_types"]


def _cubic(distance: Array, a: float) -> Array:
    """Keys, "Cubic convolution interpolation", IEEE ASSP 29 (1981), equation 15."""
    d = np.abs(distance)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def _source(node: Node, n: int, m: int, scale: float, roi: tuple[float, float]) -> Array:
    """Return where each of ``m`` new pixels lies among ``n`` old ones.

    The nearest pixel is looked for in float32, as PyTorch and onnxruntime do: there new pixel 12 at
    the scale 1.2 is old pixel 10, while float32's 1.2 is above 1.2 and in float64 its floor is 9.
    """
    nearest = node.get("mode", "nearest") == "nearest"
    x = np.arange(m, dtype=np.float32 if nearest else np.float64)
    mode = node.get("coordinate_transformation_mode", "half_pixel")
    if node.type == "Upsample" or node.version < 11:
        mode = "asymmetric"
    if mode == "asymmetric":
        return x / scale
    if mode == "align_corners":
        # The new length is not rounded: so says the standard's test, not onnxruntime.
        return x * (n - 1) / (scale * n - 1) if m > 1 else x * 0
    if mode == "half_pixel":
        return (x + 0.5) / scale - 0.5
    if mode == "tf_half_pixel_for_nn":  # until operator set 12
        return (x + 0.5) / scale
    if mode == "pytorch_half_pixel":
        return (x + 0.5) / scale - 0.5 if m > 1 else x * 0
    if mode == "half_pixel_symmetric":
        exact = scale * n
        return n / 2 * (1 - m / exact) + (x + 0.5) / scale - 0.5
    if mode == "tf_crop_and_resize":
        start, end = roi
        if m > 1:
            return start * (n - 1) + x * (end - start) * (n - 1) / (m - 1)
        return x * 0 + 0.5 * (start + end) * (n - 1)
    raise ArgumentError(f"node {node} has the unknown coordinate mode {mode!r}")


def _nearest(node: Node, places: Array, n: int) -> Array:
    mode = node.get("nearest_mode", "round_prefer_floor")
    if node.type == "Upsample" or node.version < 11:
        # Operator set 10 leaves it open; onnxruntime, and onnx's own test, round up to shrink.
        mode = "ceil" if len(places) < n else "floor"
    exact: Array = places.astype(np.float64)  # halves are added exactly
    rounded = {
        "round_prefer_floor": np.ceil(exact - 0.5),
        "round_prefer_ceil": np.floor(exact + 0.5),
        "floor": np.floor(exact),
        "ceil": np.ceil(exact),
    }.get(mode)
    if rounded is None:
        raise ArgumentError(f"node {node} has the unknown nearest_mode {mode!r}")
    return np.clip(rounded, 0, n - 1).astype(np.int64)


def _matrix(node: Node, n: int, m: int, scale: float, roi: tuple[float, float]) -> Array:
    """Return the weights (m, n) of one axis."""
    places = _source(node, n, m, scale, roi)
    found = np.zeros((m, n))
    mode = node.get("mode", "nearest")
    if mode == "nearest":
        found[np.arange(m), _nearest(node, places, n)] = 1
        return found
    wide = min(scale, 1.0) if node.get("antialias", 0) else 1.0
    reach = (2 if mode == "cubic" else 1) / wide
    first = np.floor(places - reach).astype(np.int64)
    total = np.zeros(m)
    parts = []
    for step in range(math.ceil(2 * reach) + 2):
        index = first + step
        distance = (places - index) * wide
        if mode == "cubic":
            weight = _cubic(distance, node.get("cubic_coeff_a", -0.75))
        else:
            weight = np.maximum(1 - np.abs(distance), 0)
        outside = (index < 0) | (index >= n)
        if node.get("exclude_outside", 0):
            weight = np.where(outside, 0, weight)
        total += weight
        parts.append((np.clip(index, 0, n - 1), weight))
    for index, weight in parts:
        np.add.at(found, (np.arange(m), index), weight / total)
    return found


def _target(node: Node, shape: tuple[int, ...]) -> tuple[list[int], list[float], Array | None]:
    """Return new sizes, scales and region of interest of every axis."""
    rank = len(shape)
    old = node.type == "Upsample" or node.version < 11
    roi = None if old else node.known(1)
    known = node.known(1 if old else 2)
    given = node.get("scales", None) if known is None or known.size == 0 else known
    sizes = None if old else node.known(3)
    axes = axes_of(node, rank, 99) or tuple(range(rank))
    scales, wanted = [1.0] * rank, list(shape)
    region = np.array([0.0] * rank + [1.0] * rank)
    if roi is not None and roi.size:
        for i, axis in enumerate(axes):
            region[axis], region[rank + axis] = roi[i], roi[len(axes) + i]
    if sizes is not None and sizes.size:
        ratios = [int(s) / shape[a] for a, s in zip(axes, sizes, strict=True)]
        policy = node.get("keep_aspect_ratio_policy", "stretch")
        ends = {"not_larger": min, "not_smaller": max}
        same = ends[policy](ratios) if policy in ends else None
        for axis, size, ratio in zip(axes, sizes, ratios, strict=True):
            scales[axis] = ratio if same is None else same
            wanted[axis] = int(size) if same is None else math.floor(same * shape[axis] + 0.5)
    elif given is not None:
        for axis, scale in zip(axes, np.asarray(given).reshape(-1).tolist(), strict=True):
            if not 0 < scale < 2**31:
                raise ArgumentError(f"node {node} has the scale {scale}")
            scales[axis] = scale
            # Scales are of the whole axis, whatever is cropped, and ten by float32's 0.7 is seven:
            # onnxruntime and onnx agree.
            wanted[axis] = math.floor(np.float32(shape[axis]) * np.float32(scale))
    else:
        raise ArgumentError(f"node {node} has neither scales nor sizes")
    return wanted, scales, region


def _crops(node: Node) -> bool:
    return bool(node.get("coordinate_transformation_mode", "") == "tf_crop_and_resize")


def _resize_shape(node: Node, limit: int) -> list[Spec2]:
    value = node.input(0)
    wanted, _, _ = _target(node, value.sizes)
    check_bytes(wanted, value.kind.itemsize, limit, f"the result of node {node}")
    for old, new in zip(value.sizes, wanted, strict=True):
        if old != new:
            check_bytes((old, new), 8, limit, f"the weights of node {node}")
    return [(tuple(wanted), value.kind)]


class _Step(NamedTuple):
    """What happens to one axis.

    Attributes:
        axis: its position.
        places: old pixel of each new one, ``None`` if several are weighed.
        weights: of the old pixels (columns) in each new one (rows), ``None`` if one is taken.
        outside: new pixels that lie outside the image, ``None`` if none can.
    """

    axis: int
    places: Array | None
    weights: Array | None
    outside: Array | None


def _steps(node: Node, shape: tuple[int, ...], dtype: Any) -> list[_Step]:
    wanted, scales, region = _target(node, shape)
    assert region is not None
    steps = []
    for axis, (n, m) in enumerate(zip(shape, wanted, strict=True)):
        roi = (
            (float(region[axis]), float(region[len(shape) + axis])) if _crops(node) else (0.0, 1.0)
        )
        if n == m and scales[axis] == 1.0 and roi == (0.0, 1.0):
            continue
        source = _source(node, n, m, scales[axis], roi)
        if node.get("mode", "nearest") == "nearest" and not _crops(node):
            steps.append(_Step(axis, _nearest(node, source, n), None, None))
            continue
        outside = (source < 0) | (source > n - 1) if _crops(node) else None
        weights = _matrix(node, n, m, scales[axis], roi).astype(dtype)
        steps.append(_Step(axis, None, weights, outside))
    return steps


def _along(x: Array, step: _Step, fill: float) -> Array:
    """Return an array with one axis resized."""
    if step.weights is None:
        assert step.places is not None
        taken: Array = np.take(x, step.places, step.axis)
        return taken
    before, after = x.shape[: step.axis], x.shape[step.axis + 1 :]
    m, n = step.weights.shape
    y: Array
    if after:
        y = np.matmul(step.weights, x.reshape(math.prod(before), n, math.prod(after)))
    else:
        y = np.matmul(x.reshape(math.prod(before), n), step.weights.T)
    y = y.reshape(*before, m, *after)
    if step.outside is not None:
        y = np.where(step.outside.reshape(-1, *(1,) * len(after)), y.dtype.type(fill), y)
    return y


def _wide(x: Array) -> np.dtype[Any]:
    return np.dtype(np.float32 if x.dtype == np.float32 else np.float64)


def _resized(node: Node, x: Array, steps: list[_Step]) -> Array:
    wide = any(step.weights is not None for step in steps)
    y = x.astype(_wide(x), copy=False) if wide else x
    for step in steps:
        y = _along(y, step, node.get("extrapolation_value", 0.0))
    if x.dtype.kind in "iu" and y.dtype.kind == "f":
        info = np.iinfo(x.dtype)
        y = np.clip(np.rint(y), info.min, info.max)
    return y.astype(x.dtype, copy=False)


def _resize(node: Node, x: Array, *_: Any) -> Any:
    return _resized(node, x, _steps(node, x.shape, _wide(x)))


def _repeats(step: _Step, size: int) -> int:
    """Return how often each pixel of an axis comes, 0 if not all come equally often, in order."""
    if step.places is None or len(step.places) % size:
        return 0
    times = len(step.places) // size
    return times if np.array_equal(step.places, np.arange(size).repeat(times)) else 0


def _resize_into(node: Node, arrays: Sequence[Any], outs: Sequence[Array]) -> Callable[[], Any]:
    x, out = arrays[0], outs[0]
    if not out.size:
        return lambda: None
    steps = _steps(node, x.shape, _wide(x))
    times = [1] * x.ndim
    for step in steps:
        times[step.axis] = _repeats(step, x.shape[step.axis])
    if 0 in times:
        return lambda: np.copyto(out, _resized(node, x, steps))
    # Each pixel several times: one copy into an array that has an axis more for each axis.
    wide = [n for pair in zip(x.shape, times, strict=True) for n in pair]
    target = out.reshape(wide)
    source = x.reshape([n for size in x.shape for n in (size, 1)])
    return partial(np.copyto, target, source)


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [
        Glue(
            "Resize",
            "Upsample",
            function=_resize,
            static=(1, 2, 3),
            shapes=_resize_shape,
            into=_resize_into,
        ),
    ]
