"""Reductions, softmax and normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...arrays import Spec
from ...errors import ArgumentError, NoKernel
from ..ir import Array, Node
from ..nodetype import Built, Glue, NodeType, Setting, Spec2
from .axes import axes_of
from .convolution import call_plan

__all__ = ["node_types"]


def _log_sum(x: Array, axis: tuple[int, ...]) -> Any:
    top = x.max(axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    return np.log(np.exp(x - top).sum(axis, keepdims=True)) + top


def _extreme(name: str) -> Callable[[Array, tuple[int, ...]], Any]:
    def reduce(x: Array, axis: tuple[int, ...]) -> Any:
        if x.dtype.kind == "b":
            return (np.all if name == "min" else np.any)(x, axis, keepdims=True)
        info: Any = np.iinfo(x.dtype) if x.dtype.kind in "iu" else None
        ends = (info.max, info.min) if info else (np.inf, -np.inf)
        initial = ends[0] if name == "min" else ends[1]
        return getattr(x, name)(axis, keepdims=True, initial=initial)

    return reduce


_REDUCTIONS: dict[str, Callable[[Array, tuple[int, ...]], Any]] = {
    "ReduceSum": lambda x, a: x.sum(a, keepdims=True),
    "ReduceMean": lambda x, a: x.mean(a, keepdims=True),
    "ReduceProd": lambda x, a: x.prod(a, keepdims=True),
    "ReduceMax": _extreme("max"),
    "ReduceMin": _extreme("min"),
    "ReduceL1": lambda x, a: np.abs(x).sum(a, keepdims=True),
    "ReduceL2": lambda x, a: np.sqrt(np.square(x).sum(a, keepdims=True)),
    "ReduceLogSum": lambda x, a: np.log(x.sum(a, keepdims=True)),
    "ReduceSumSquare": lambda x, a: np.square(x).sum(a, keepdims=True),
    "ReduceLogSumExp": _log_sum,
}


def _reduction(name: str) -> Glue:
    def function(node: Node, x: Array, *_: Any) -> Any:
        axes = axes_of(node, x.ndim)
        if axes is None or (not axes and node.get("axes", None) is None):
            if node.get("noop_with_empty_axes", 0):
                axes = ()
                if name in ("ReduceSum", "ReduceMean", "ReduceProd", "ReduceMax", "ReduceMin"):
                    return np.array(x)
            else:
                axes = tuple(range(x.ndim))
        found = np.asarray(_REDUCTIONS[name](x, axes)).astype(x.dtype, copy=False)
        if node.get("keepdims", 1):
            return found
        return found.reshape([s for i, s in enumerate(x.shape) if i not in axes])

    return Glue(name, function=function, static=(1,))


def _arg(name: str) -> Glue:
    def function(node: Node, x: Array) -> Any:
        axis = int(node.get("axis", 0))
        pick: Any = getattr(np, name)
        if node.get("select_last_index", 0):
            found = x.shape[axis] - 1 - pick(np.flip(x, axis), axis)
        else:
            found = pick(x, axis)
        found = np.asarray(found, np.int64)
        return np.expand_dims(found, axis) if node.get("keepdims", 1) else found

    return Glue({"argmax": "ArgMax", "argmin": "ArgMin"}[name], function=function)


def _rows(node: Node, x: Array) -> tuple[Array, int]:
    """Return the array as softmax sees it: before operator set 13 the last axes are one."""
    if node.version >= 13:
        return x, int(node.get("axis", -1))
    axis = int(node.get("axis", 1)) % max(x.ndim, 1)
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:])), 1


def _softmax(node: Node, x: Array) -> Any:
    rows, axis = _rows(node, x)
    e = np.exp(rows - rows.max(axis, keepdims=True, initial=-np.inf))
    e /= e.sum(axis, keepdims=True)
    return e.reshape(x.shape)


def _log_softmax(node: Node, x: Array) -> Any:
    rows, axis = _rows(node, x)
    moved = rows - rows.max(axis, keepdims=True, initial=-np.inf)
    return (moved - np.log(np.exp(moved).sum(axis, keepdims=True))).reshape(x.shape)


def _hardmax(node: Node, x: Array) -> Any:
    rows, axis = _rows(node, x)
    best = np.expand_dims(rows.argmax(axis), axis)
    found = np.zeros_like(rows)
    np.put_along_axis(found, best, 1, axis)
    return found.reshape(x.shape)


def _batch_norm(
    node: Node, x: Array, scale: Array, bias: Array, mean: Array, variance: Array
) -> Any:
    shape = (-1, *(1,) * (x.ndim - 2))
    epsilon = node.get("epsilon", 1e-5)
    if node.get("training_mode", 0):
        axes = (0, *range(2, x.ndim))
        keep = node.get("momentum", 0.9)
        now, spread = x.mean(axes), x.var(axes)
        y = (x - now.reshape(shape)) / np.sqrt(spread.reshape(shape) + epsilon)
        y = y * scale.reshape(shape) + bias.reshape(shape)
        means = mean * keep + now * (1 - keep)
        variances = variance * keep + spread * (1 - keep)
        return y.astype(x.dtype), means.astype(mean.dtype), variances.astype(variance.dtype)
    factor = scale / np.sqrt(variance + np.asarray(epsilon, variance.dtype))
    offset = bias - mean * factor
    return (x * factor.reshape(shape) + offset.reshape(shape)).astype(x.dtype)


def _batch_norm_shape(node: Node, limit: int) -> list[Spec2]:
    x = node.input(0)
    if len(x.sizes) < 2 or any(node.input(i).sizes != (x.sizes[1],) for i in range(1, 5)):
        raise ArgumentError(f"node {node} needs one value for each of the channels of {x.sizes}")
    if node.get("training_mode", 0):
        return [(x.sizes, x.kind), *((node.input(i).sizes, node.input(i).kind) for i in (3, 4))]
    return [(x.sizes, x.kind)] * max(len(node.outputs), 1)


def _instance_norm(node: Node, x: Array, scale: Array, bias: Array) -> Any:
    axes, shape = tuple(range(2, x.ndim)), (-1, *(1,) * (x.ndim - 2))
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    y = (x - mean) / np.sqrt(variance + node.get("epsilon", 1e-5))
    return (y * scale.reshape(shape) + bias.reshape(shape)).astype(x.dtype)


def _layer_norm(node: Node, x: Array, scale: Array, bias: Array | None = None) -> Any:
    axis = int(node.get("axis", -1)) % x.ndim
    axes = tuple(range(axis, x.ndim))
    wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
    mean = wide.mean(axes, keepdims=True)
    inverse = 1 / np.sqrt(wide.var(axes, keepdims=True) + node.get("epsilon", 1e-5))
    y = (wide - mean) * inverse * scale + (0 if bias is None else bias)
    return y.astype(x.dtype), mean.astype(wide.dtype), inverse.astype(wide.dtype)


class LocalResponse(NodeType):
    """LRN; images of other ranks are folded into rows. The attribute ``axis`` may be the last."""

    types = ("LRN",)

    def infer(self, node: Node, setting: Setting) -> list[Spec2]:
        """Return the shape, which stays."""
        return [(node.input(0).sizes, node.input(0).kind)]

    def build(self, node: Node, setting: Setting) -> Built:
        """Plan."""
        x, rank = node.input(0), len(node.input(0).sizes)
        axis = int(node.get("axis", 1))
        last = axis == rank - 1 != 1
        if rank < 2 or axis not in (1, rank - 1):
            raise ArgumentError(f"node {node} needs a batch and channels")
        before, after = x.sizes[:axis], x.sizes[axis + 1 :]
        shape = (1, 1, math.prod(before), x.sizes[axis])
        if not last:
            shape = (x.sizes[0], x.sizes[1], 1, math.prod(after))
        arguments: dict[str, Any] = {
            "size": int(node.get("size", 1)),
            "alpha": float(node.get("alpha", 1e-4)),
            "beta": float(node.get("beta", 0.75)),
            "bias": float(node.get("bias", 1.0)),
            "layout": "nhwc" if last else "nchw",
        }
        try:
            plan = setting.plan("local_response_norm", Spec(shape, x.kind), **arguments)
        except NoKernel:
            # The arrays are the host's anyhow.
            setting = setting._replace(device="cpu:0")
            plan = setting.plan("local_response_norm", Spec(shape, x.kind), **arguments)
        return Built(call_plan(plan), (plan,))


def _lp_normalise(node: Node, x: Array) -> Any:
    p, axis = int(node.get("p", 2)), int(node.get("axis", -1))
    norm = (
        np.abs(x).sum(axis, keepdims=True) if p == 1 else np.sqrt((x * x).sum(axis, keepdims=True))
    )
    return np.where(norm == 0, 0, x / norm).astype(x.dtype)


def _cumulative(node: Node, x: Array, axis: Array) -> Any:
    place = int(np.asarray(axis).reshape(-1)[0])
    x = np.flip(x, place) if node.get("reverse", 0) else x
    total = np.cumsum(x, place, dtype=x.dtype)
    if node.get("exclusive", 0):
        total = total - x
    return np.flip(total, place) if node.get("reverse", 0) else total


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [
        *(_reduction(name) for name in _REDUCTIONS),
        _arg("argmax"),
        _arg("argmin"),
        Glue("Softmax", function=_softmax),
        Glue("LogSoftmax", function=_log_softmax),
        Glue("Hardmax", function=_hardmax),
        Glue("BatchNormalization", function=_batch_norm, shapes=_batch_norm_shape),
        Glue("InstanceNormalization", function=_instance_norm),
        Glue("LayerNormalization", function=_layer_norm),
        LocalResponse(),
        Glue("LpNormalization", function=_lp_normalise),
        Glue("CumSum", function=_cumulative, static=(1,)),
    ]
