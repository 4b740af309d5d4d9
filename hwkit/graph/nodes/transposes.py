"""Transpose, and the channel shuffle that a pass makes of three nodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...arrays import Spec
from ...errors import DtypeError, NoKernel
from ...ops.transpose import permuted
from ..ir import Array, Node
from ..nodetype import Built, NodeType, Setting, Spec2, View

__all__ = ["ChannelShuffle", "Transpose", "node_types"]


def _permutation(node: Node, rank: int) -> tuple[int, ...]:
    return tuple(node.get("perm", range(rank)[::-1]))


# With so few, numpy is four times as fast when it copies them one by one.
_FEW_CHANNELS = 8
# Below this numpy is done before a Plan has been made.
_FEW = 64


def _planned(node: Node, setting: Setting, sizes: tuple[int, int, int] | None) -> Built | None:
    """Return the Plan that moves the elements of a node as matrices, if there is one."""
    x = node.input(0)
    if sizes is None or math.prod(sizes) < _FEW or x.data is not None:
        return None
    b, r, c = sizes
    try:
        plan = setting.plan("transpose", Spec(sizes, x.kind))
    except (DtypeError, NoKernel):
        return None

    def bind(ins: Sequence[Array], outs: Sequence[Array]) -> Callable[[], Any]:
        return partial(plan, ins[0].reshape(sizes), out=outs[0].reshape(b, c, r))

    return Built(bind, (plan,))


class Transpose(View):
    """A view where only axes of size 1 move, otherwise one copy."""

    def __init__(self) -> None:
        super().__init__("Transpose", function=lambda n, x: x.transpose(_permutation(n, x.ndim)))

    def view(self, node: Node, array: Array) -> Array | None:
        """Return the view if it lies as its shape says."""
        found = array.transpose(_permutation(node, array.ndim))
        return found.reshape(found.shape) if found.flags.c_contiguous else None

    def build(self, node: Node, setting: Setting) -> Built:
        """Plan; numpy copies what is no transposition of matrices, few channels one by one."""
        order = _permutation(node, len(node.input(0).sizes))
        planned = _planned(node, setting, permuted(node.input(0).sizes, order))
        if planned is not None:
            return planned
        if len(order) < 2 or not 2 <= node.output().sizes[-1] <= _FEW_CHANNELS:
            return super().build(node, setting)

        def bind(ins: Sequence[Array], outs: Sequence[Array]) -> Callable[[], Any]:
            source, target = ins[0].transpose(order), outs[0]
            parts = [(target[..., i], source[..., i]) for i in range(target.shape[-1])]

            def run() -> None:
                for to, of in parts:
                    np.copyto(to, of)

            return run

        return Built(bind)


class ChannelShuffle(NodeType):
    """Channels of each group in turns, as a pass makes of Reshape, Transpose and Reshape.

    Reference: Zhang and others, "ShuffleNet", arXiv:1707.01083, section 3.1. The attribute
    ``groups`` says how many groups the channels are in, ``layout`` where they lie.
    """

    types = ("ChannelShuffle",)
    domain = "hwkit"

    def infer(self, node: Node, setting: Setting) -> list[Spec2]:
        """Return the shape, which stays."""
        return [(node.input(0).sizes, node.input(0).kind)]

    def build(self, node: Node, setting: Setting) -> Built:
        """Plan where groups and channels are the last axes, otherwise return one copy."""
        groups = int(node.get("groups", 1))
        axis = 3 if node.get("layout", "nchw") == "nhwc" else 1
        *places, channels = node.input(0).sizes
        sizes = math.prod(places), groups, channels // groups
        planned = _planned(node, setting, sizes if axis == 3 else None)
        if planned is not None:
            return planned

        def bind(ins: Sequence[Array], outs: Sequence[Array]) -> Callable[[], Any]:
            shape = ins[0].shape
            ends = shape[:axis], shape[axis + 1 :]
            source = ins[0].reshape(*ends[0], groups, -1, *ends[1]).swapaxes(axis, axis + 1)
            return partial(np.copyto, outs[0].reshape(source.shape), source)

        return Built(bind)


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [Transpose(), ChannelShuffle()]
