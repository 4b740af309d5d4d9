"""Transposed convolutions whose windows overlap, as plain convolutions with stride 1.

Pixels of the result whose places have the same remainder by the stride s meet the same taps, every
s-th of the window: they are a convolution of the image with these taps turned round. All s * s of
them together do the same products as the transposed one, and nothing is added up in memory; see
Shi et al., "Is the deconvolution layer the same as a convolutional layer?", arXiv:1609.07009.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...arrays import Spec
from ...errors import ArgumentError
from ...ops.activations import activation_word, formula
from ...plans import Plan
from ..ir import Array, Node
from ..nodetype import Built, NodeType, Setting, Spec2
from .convolution import ConvTranspose

__all__ = ["ConvPhases", "in_phases", "node_types", "plain_weights"]


class _Phase(NamedTuple):
    """Places of the result along one axis that meet the same taps.

    Attributes:
        first: the first of them; the others follow in steps of the stride.
        length: how many.
        taps: the taps they meet, in the order of the image.
        pads: of the image, before and after.
    """

    first: int
    length: int
    taps: tuple[int, ...]
    pads: tuple[int, int]


def _phases(taps: int, stride: int, cut: int, size: int, image: int) -> list[_Phase]:
    """Return the phases of an axis whose first ``cut`` places are cut away."""
    found = []
    for first in range(min(stride, size)):
        rest, start = (first + cut) % stride, (first + cut) // stride
        mine = tuple(range(rest, taps, stride))[::-1]
        count = -(-(size - first) // stride)
        pads = len(mine) - 1 - start, start + count - image
        found.append(_Phase(first, count, mine, pads))
    return found


def _axes(node: Node) -> tuple[list[_Phase], list[_Phase]]:
    """Return the phases of the rows and of the columns of a ConvPhases."""
    image, taps = node.input(0).sizes[1:3], node.input(1).sizes[1:3]
    strides, cut, size = (node.get(name, ()) for name in ("strides", "cut", "size"))
    rows, columns = (
        _phases(t, s, c, o, i)
        for t, s, c, o, i in zip(taps, strides, cut, size, image, strict=True)
    )
    return rows, columns


class ConvPhases(NodeType):
    """What the layout pass makes of such a ConvTranspose.

    Inputs: image ``(n, h, w, c)``, weights ``(k, kh, kw, c / groups)`` as of a convolution, not
    turned round, and maybe a bias ``(k,)``, the last two constants. Attributes: ``strides``;
    ``cut``, the places cut away before each axis; ``size`` of the result; ``group``; maybe
    ``activation``, as of :func:`hwkit.ops.conv2d`.
    """

    types = ("ConvPhases",)
    domain = "hwkit"

    def infer(self, node: Node, setting: Setting) -> list[Spec2]:
        """Return the shape of the result."""
        x, w = node.input(0), node.input(1)
        if x.sizes[3] != w.sizes[3] * int(node.get("group", 1)):
            raise ArgumentError(f"node {node} has weights of {w.sizes} for an image of {x.sizes}")
        return [((x.sizes[0], *node.get("size", ()), w.sizes[0]), x.kind)]

    def build(self, node: Node, setting: Setting) -> Built:
        """Plan a convolution for each phase that meets taps."""
        parts = [
            (self._plan(node, setting, row, column), row, column)
            for row, column in itertools.product(*_axes(node))
        ]
        strides = node.get("strides", ())
        unmet = _unmet(node)

        def bind(ins: Sequence[Array], outs: Sequence[Array]) -> Callable[[], Any]:
            calls = []
            for plan, row, column in parts:
                place = outs[0][:, row.first :: strides[0], column.first :: strides[1]]
                calls.append((plan, place))

            def run() -> None:
                for plan, place in calls:
                    np.copyto(place, unmet if plan is None else plan(ins[0]))

            return run

        plans = tuple(plan for plan, _, _ in parts if plan is not None)
        return Built(bind, plans, (1, 2) if node.has(2) else (1,))

    def _plan(self, node: Node, setting: Setting, row: _Phase, column: _Phase) -> Plan | None:
        x, weights = node.input(0), node.input(1).data
        bias = node.input(2).data if node.has(2) else None
        assert weights is not None
        if not row.taps or not column.taps:
            return None
        part = np.ascontiguousarray(weights[:, row.taps][:, :, column.taps])
        plan = setting.plan(
            "conv2d", Spec(x.sizes, x.kind), Spec(part.shape, x.kind),
            None if bias is None else Spec(bias.shape, x.kind), packed=True,
            padding=(*row.pads, *column.pads), groups=int(node.get("group", 1)), layout="nhwc",
            activation=node.get("activation", None),
        )  # fmt: skip
        return plan.prepack(part, *([] if bias is None else [bias]))


def _unmet(node: Node) -> Array:
    """Return the result ``(k,)`` or ``(1,)`` at places that no tap meets."""
    bias = node.input(2).data if node.has(2) else np.zeros(1, node.input(0).kind)
    assert bias is not None
    found = formula(activation_word(node.get("activation", None)), bias.astype(np.float64))
    return found.astype(bias.dtype)


def in_phases(node: Node) -> dict[str, Any] | None:
    """Return the attributes of the ConvPhases that a ConvTranspose can be, or ``None``."""
    if node.type != "ConvTranspose" or len(node.input(0).sizes) != 4:
        return None
    known = all(node.input(i).data is not None for i in (1, 2) if node.has(i))
    if not known or any(d != 1 for d in node.get("dilations", None) or []):
        return None
    size, cut = ConvTranspose().sizes(node)
    taps, image = node.input(1).sizes[2:], node.input(0).sizes[2:]
    strides = tuple(node.get("strides", None) or (1, 1))
    if 0 in (*size, *node.input(0).sizes, *node.input(1).sizes) or min(size) < 1:
        return None
    for axis in range(2):
        for phase in _phases(taps[axis], strides[axis], cut[axis], size[axis], image[axis]):
            # Convolutions do not cut their images.
            if phase.taps and min(phase.pads) < 0:
                return None
    group = int(node.get("group", 1))
    return {"strides": strides, "cut": cut, "size": size, "group": group}


def plain_weights(weights: Array, groups: int) -> Array:
    """Return weights ``(c, k / groups, kh, kw)`` as ``(k, kh, kw, c / groups)``."""
    c, k, *taps = weights.shape
    parts = weights.reshape(groups, c // groups, k, math.prod(taps))
    found = parts.transpose(0, 2, 3, 1).reshape(groups * k, *taps, c // groups)
    return np.ascontiguousarray(found)


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [ConvPhases()]
