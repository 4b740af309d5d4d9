"""Pooling nodes: two-dimensional ones on hwkit's Ops, all else in numpy, tap by tap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...arrays import Spec
from ...dtypes import is_float, widened
from ...errors import ArgumentError
from ..ir import Array, Node
from ..nodetype import Built, Glue, NodeType, Setting, Spec2
from .convolution import _flat, apart, call_plan, spatial
from .windows import Window, padded, taps_of, window_of

__all__ = ["node_types"]


class Pool(NodeType):
    """MaxPool, AveragePool and LpPool."""

    types = ("MaxPool", "AveragePool", "LpPool")

    def infer(self, node: Node, setting: Setting) -> list[Spec2]:
        """Return the shape of the result, and of the places of the greatest."""
        window, x = self._window(node), node.input(0)
        last = node.get("layout", "nchw") == "nhwc"
        n, c = x.sizes[0], x.sizes[-1 if last else 1]
        shape = (n, *window.size, c) if last else (n, c, *window.size)
        return [(shape, x.kind), (shape, np.dtype(np.int64))][: len(node.outputs)]

    def _window(self, node: Node) -> Window:
        image = spatial(node, node.input(0).sizes)
        taps = node.get("kernel_shape", None)
        if taps is None or not image:
            raise ArgumentError(f"node {node} lacks its kernel_shape, or pools no image")
        return window_of(node, image, taps, bool(node.get("ceil_mode", 0)))

    def build(self, node: Node, setting: Setting) -> Built:
        """Plan, or take numpy for what the Ops do not have."""
        window, x = self._window(node), node.input(0)
        only = all(v is None for v in node.outputs[1:])
        if len(window.taps) <= 2 and is_float(x.kind) and only and node.type != "LpPool":
            return self._planned(node, setting, window)

        def bind(ins: Sequence[Array], outs: Sequence[Array]) -> Callable[[], Any]:
            compute = {"MaxPool": _max, "AveragePool": _mean, "LpPool": _norm}[node.type]
            return lambda: compute(node, window, ins[0], outs)

        return Built(bind)

    def _planned(self, node: Node, setting: Setting, window: Window) -> Built:
        x = node.input(0)
        more: dict[str, Any] = {}
        if node.type == "AveragePool":
            more["count_include_pad"] = bool(node.get("count_include_pad", 0))
        plan = setting.plan(
            "max_pool2d" if node.type == "MaxPool" else "avg_pool2d",
            Spec(_flat(x.sizes), x.kind),
            kernel=window.pair(window.taps),
            stride=window.pair(window.stride),
            padding=window.pad2d,
            dilation=window.pair(window.dilation),
            ceil_mode=bool(node.get("ceil_mode", 0)) and node.get("auto_pad", "NOTSET") == "NOTSET",
            layout=node.get("layout", "nchw"),
            **more,
        )
        return apart(node, Built(call_plan(plan), (plan,)))


def _max(node: Node, window: Window, x: Array, outs: Sequence[Array]) -> None:
    lowest = -np.inf if is_float(x.dtype) else np.iinfo(x.dtype).min
    views = taps_of(padded(x, window, lowest), window)
    best = views[0].copy()
    which = np.zeros(best.shape, np.int64)
    for tap, view in enumerate(views[1:], 1):
        greater = view > best
        best[greater] = view[greater]
        which[greater] = tap
    np.copyto(outs[0], best)
    if len(outs) > 1:
        np.copyto(outs[1], _places(node, window, x, which))


def _places(node: Node, window: Window, x: Array, which: Array) -> Array:
    """Return the place of each greatest element in the flat array; padding never wins."""
    rank = len(window.taps)
    taps = np.unravel_index(which, window.taps)
    spots = []
    for axis in range(rank):
        start = np.arange(window.size[axis]) * window.stride[axis] - window.before[axis]
        start = start.reshape(-1, *(1,) * (rank - axis - 1))
        spots.append(start + taps[axis] * window.dilation[axis])
    column = node.get("storage_order", 0)
    order = range(rank) if not column else range(rank - 1, -1, -1)
    flat: Array = np.zeros_like(which)
    for axis in order:
        flat = flat * x.shape[2 + axis] + spots[axis]
    image = np.arange(x.shape[0] * x.shape[1]).reshape(x.shape[:2] + (1,) * rank)
    found: Array = flat + image * math.prod(x.shape[2:])
    return found


def _mean(node: Node, window: Window, x: Array, outs: Sequence[Array]) -> None:
    total = sum(taps_of(padded(x.astype(np.float64), window, 0), window))
    inside = np.ones((1, 1, *x.shape[2:]))
    if node.get("count_include_pad", 0):
        sizes = [
            b + i + a for b, i, a in zip(window.before, x.shape[2:], window.after, strict=True)
        ]
        bare = window._replace(before=(0,) * len(sizes))
        count = sum(taps_of(padded(np.ones((1, 1, *sizes)), bare, 0), bare))
    else:
        count = sum(taps_of(padded(inside, window, 0), window))
    np.copyto(outs[0], total / np.maximum(count, 1), casting="unsafe")


def _norm(node: Node, window: Window, x: Array, outs: Sequence[Array]) -> None:
    p = int(node.get("p", 2))
    views = taps_of(padded(np.abs(x.astype(np.float64)), window, 0), window)
    np.copyto(outs[0], sum(v**p for v in views) ** (1 / p), casting="unsafe")


class GlobalPool(NodeType):
    """GlobalAveragePool and GlobalMaxPool; images of other ranks are folded into rows."""

    types = ("GlobalAveragePool", "GlobalMaxPool")

    def infer(self, node: Node, setting: Setting) -> list[Spec2]:
        """Return one pixel for each channel."""
        x = node.input(0)
        if node.get("layout", "nchw") == "nhwc":
            return [((x.sizes[0], 1, 1, x.sizes[3]), x.kind)]
        return [((*x.sizes[:2], *(1,) * (len(x.sizes) - 2)), x.kind)]

    def build(self, node: Node, setting: Setting) -> Built:
        """Plan."""
        x, layout = node.input(0), node.get("layout", "nchw")
        shape = x.sizes
        if len(shape) != 4:
            shape = (*shape[:2], 1, math.prod(shape[2:]))
        name = "global_avg_pool2d" if node.type == "GlobalAveragePool" else "global_max_pool2d"
        plan = setting.plan(name, Spec(shape, x.kind), layout=layout)
        return Built(call_plan(plan), (plan,))


def _global_norm(node: Node, x: Array) -> Any:
    p = int(node.get("p", 2))
    axes = tuple(range(2, x.ndim))
    return ((np.abs(widened(x)) ** p).sum(axes, keepdims=True) ** (1 / p)).astype(x.dtype)


def _unpool(node: Node, x: Array, places: Array, shape: Array | None = None) -> Any:
    if shape is not None:
        sizes = [int(s) for s in shape]
    else:
        taps = node.get("kernel_shape", [])
        strides = node.get("strides", None) or [1] * len(taps)
        pads = node.get("pads", None) or [0] * 2 * len(taps)
        sizes = [
            *x.shape[:2],
            *(
                (i - 1) * s + t - pads[a] - pads[len(taps) + a]
                for a, (i, s, t) in enumerate(zip(x.shape[2:], strides, taps, strict=True))
            ),
        ]
    natural = sizes
    if shape is not None and node.get("kernel_shape", None):
        natural = [*_unpool(node, x, np.zeros_like(places)).shape]
    found = np.zeros(natural, x.dtype)
    found.reshape(-1)[places.reshape(-1)] = x.reshape(-1)
    if natural == sizes:
        return found
    wide = np.zeros(sizes, x.dtype)
    wide[tuple(slice(0, s) for s in natural)] = found
    return wide


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [
        Pool(),
        GlobalPool(),
        Glue("GlobalLpPool", function=_global_norm),
        Glue("MaxUnpool", function=_unpool, static=(2,)),
    ]
