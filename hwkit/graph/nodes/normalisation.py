"""Normalisation by mean and variance, by a norm, or by the neighbouring channels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...arrays import Spec
from ...dtypes import widened
from ...errors import ArgumentError, NoKernel
from ..ir import Array, Node
from ..nodetype import Built, Glue, NodeType, Setting, Spec2
from .convolution import call_plan

__all__ = ["node_types"]


def _batch_norm(
    node: Node, x: Array, scale: Array, bias: Array, mean: Array, variance: Array
) -> Any:
    shape = (-1, *(1,) * (x.ndim - 2))
    dtype, kinds = x.dtype, (mean.dtype, variance.dtype)
    x, scale, bias, mean, variance = map(widened, (x, scale, bias, mean, variance))
    epsilon = node.get("epsilon", 1e-5)
    if node.get("training_mode", 0):
        axes = (0, *range(2, x.ndim))
        keep = node.get("momentum", 0.9)
        now, spread = x.mean(axes), x.var(axes)
        y = (x - now.reshape(shape)) / np.sqrt(spread.reshape(shape) + epsilon)
        y = y * scale.reshape(shape) + bias.reshape(shape)
        means = mean * keep + now * (1 - keep)
        variances = variance * keep + spread * (1 - keep)
        return y.astype(dtype), means.astype(kinds[0]), variances.astype(kinds[1])
    factor = scale / np.sqrt(variance + np.asarray(epsilon, variance.dtype))
    offset = bias - mean * factor
    return (x * factor.reshape(shape) + offset.reshape(shape)).astype(dtype)


def _batch_norm_shape(node: Node, limit: int) -> list[Spec2]:
    x = node.input(0)
    if len(x.sizes) < 2 or any(node.input(i).sizes != (x.sizes[1],) for i in range(1, 5)):
        raise ArgumentError(f"node {node} needs one value for each of the channels of {x.sizes}")
    if node.get("training_mode", 0):
        return [(x.sizes, x.kind), *((node.input(i).sizes, node.input(i).kind) for i in (3, 4))]
    return [(x.sizes, x.kind)] * max(len(node.outputs), 1)


def _centred(node: Node, wide: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Return numbers less their mean, in memory of their own, and one over their deviation."""
    y = wide - wide.mean(axes, keepdims=True)
    variance = np.square(y).mean(axes, keepdims=True)
    return y, 1 / np.sqrt(variance + node.get("epsilon", 1e-5))


def _instance_norm(node: Node, x: Array, scale: Array, bias: Array) -> Any:
    shape = (-1, *(1,) * (x.ndim - 2))
    y, inverse = _centred(node, widened(x), tuple(range(2, x.ndim)))
    y *= inverse * scale.reshape(shape)
    y += bias.reshape(shape)
    return y.astype(x.dtype, copy=False)


def _layer_norm(node: Node, x: Array, scale: Array, bias: Array | None = None) -> Any:
    axis = int(node.get("axis", -1)) % x.ndim
    axes = tuple(range(axis, x.ndim))
    wide = widened(x)
    mean = wide.mean(axes, keepdims=True)
    inverse = 1 / np.sqrt(wide.var(axes, keepdims=True) + node.get("epsilon", 1e-5))
    y = (wide - mean) * inverse * scale + (0 if bias is None else bias)
    return y.astype(x.dtype), mean.astype(wide.dtype), inverse.astype(wide.dtype)


def _root_mean_square(node: Node, x: Array, scale: Array) -> Any:
    axis = int(node.get("axis", -1)) % x.ndim
    wide = widened(x)
    power = np.square(wide).mean(tuple(range(axis, x.ndim)), keepdims=True)
    return (wide / np.sqrt(power + node.get("epsilon", 1e-5)) * scale).astype(x.dtype)


def _group_norm(node: Node, x: Array, scale: Array, bias: Array) -> Any:
    """Wu and He, "Group Normalization", arXiv:1803.08494, equation 1."""
    groups, channels = int(node.get("num_groups", 1)), x.shape[1]
    wide = widened(x)
    y, inverse = _centred(node, wide.reshape(x.shape[0], groups, -1), (2,))
    y *= inverse
    y = y.reshape(x.shape)
    # Before operator set 21 there is one number a group.
    each = [
        np.repeat(p, channels // p.size).reshape(-1, *(1,) * (x.ndim - 2)) for p in (scale, bias)
    ]
    y *= each[0]
    y += each[1]
    return y.astype(x.dtype, copy=False)


def _group_norm_shape(node: Node, limit: int) -> list[Spec2]:
    x, groups = node.input(0), int(node.get("num_groups", 1))
    channels = x.sizes[1] if len(x.sizes) > 1 else 0
    given = {node.input(i).sizes for i in (1, 2)}
    if groups < 1 or channels < 1 or channels % groups or not given <= {(groups,), (channels,)}:
        raise ArgumentError(
            f"node {node} parts {channels} channels into {groups} groups, with scale and bias of "
            f"{sorted(given)}"
        )
    return [(x.sizes, x.kind)]


def _mean_variance(node: Node, x: Array) -> Any:
    axes = tuple(int(a) for a in node.get("axes", None) or (0, *range(2, x.ndim)))
    wide = widened(x)
    spread = wide.std(axes, keepdims=True) + wide.dtype.type(1e-9)
    return ((wide - wide.mean(axes, keepdims=True)) / spread).astype(x.dtype)


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
    wide = widened(x)
    if p == 1:
        norm = np.abs(wide).sum(axis, keepdims=True)
    else:
        norm = np.sqrt((wide * wide).sum(axis, keepdims=True))
    return np.where(norm == 0, 0, wide / norm).astype(x.dtype)


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [
        Glue("BatchNormalization", function=_batch_norm, shapes=_batch_norm_shape),
        Glue("InstanceNormalization", function=_instance_norm),
        Glue("LayerNormalization", function=_layer_norm),
        Glue("RMSNormalization", function=_root_mean_square),
        Glue("GroupNormalization", function=_group_norm, shapes=_group_norm_shape),
        Glue("MeanVarianceNormalization", function=_mean_variance),
        LocalResponse(),
        Glue("LpNormalization", function=_lp_normalise),
    ]
