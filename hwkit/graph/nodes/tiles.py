"""Transposed convolutions whose windows are as large as their strides, as those of a U-Net.

No two windows overlap, so that with channels last they are one product, whose rows are then put
beside each other: nothing is added up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...arrays import Spec
from ...errors import ArgumentError
from ..ir import Array, Node
from ..nodetype import Built, NodeType, Setting, Spec2

__all__ = ["ConvTiles", "fits", "node_types"]


class ConvTiles(NodeType):
    """What the layout pass makes of such a ConvTranspose.

    Inputs: image ``(n, h, w, c)``, weights ``(c, kh, kw, k)`` and maybe a bias ``(k,)``, the last
    two constants; the result is ``(n, h * kh, w * kw, k)``. Maybe the attribute ``activation``, as
    of :func:`hwkit.ops.gemm`.
    """

    types = ("ConvTiles",)
    domain = "hwkit"

    def infer(self, node: Node, setting: Setting) -> list[Spec2]:
        """Return the shape of the result."""
        (n, h, w, c), (depth, kh, kw, k) = node.input(0).sizes, node.input(1).sizes
        if c != depth:
            raise ArgumentError(f"node {node} has weights for {depth} channels, not for {c}")
        return [((n, h * kh, w * kw, k), node.input(0).kind)]

    def build(self, node: Node, setting: Setting) -> Built:
        """Plan the product of pixels and weights, with the bias of each tap."""
        x, weights = node.input(0), node.input(1).data
        (n, h, w, c), (_, kh, kw, k) = x.sizes, node.input(1).sizes
        assert weights is not None
        rows, columns = n * h * w, kh * kw * k
        bias = node.input(2).data if node.has(2) else None
        row = None if bias is None else np.tile(bias, kh * kw)
        plan = setting.plan(
            "gemm", Spec((rows, c), x.kind), Spec((c, columns), x.kind), None,
            None if row is None else Spec((columns,), x.kind), packed=True,
            activation=node.get("activation", None),
        )  # fmt: skip
        held = plan.prepack(weights.reshape(c, columns), *([] if row is None else [row]))

        def bind(ins: Sequence[Array], outs: Sequence[Array]) -> Callable[[], Any]:
            pixels = ins[0].reshape(rows, c)
            target = outs[0].reshape(n, h, kh, w, kw * k)

            def run() -> None:
                tiles = held(pixels).reshape(n, h, w, kh, kw * k)
                np.copyto(target, tiles.transpose(0, 1, 3, 2, 4))

            return run

        return Built(bind, (held,), (1, 2) if node.has(2) else (1,))


def fits(node: Node) -> bool:
    """Whether a ConvTranspose is of this kind."""
    if node.type != "ConvTranspose" or len(node.input(0).sizes) != 4:
        return False
    taps, image = node.input(1).sizes[2:], node.input(0).sizes[2:]
    whole = tuple(t * i for t, i in zip(taps, image, strict=True))
    known = all(node.input(i).data is not None for i in (1, 2) if node.has(i))
    plain = not any([*(node.get("pads", None) or []), *(node.get("output_padding", None) or [])])
    dense = all(d == 1 for d in node.get("dilations", None) or [])
    strides = tuple(node.get("strides", None) or (1, 1))
    return (
        known and plain and dense and strides == taps and int(node.get("group", 1)) == 1
        and node.output().sizes[2:] == whole and 0 not in (*node.input(0).sizes, math.prod(taps))
    )  # fmt: skip


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [ConvTiles()]
