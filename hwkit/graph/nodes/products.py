"""Gemm and MatMul, on the Ops gemm and matmul."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...arrays import Spec
from ...dtypes import is_float, widened
from ...errors import ArgumentError
from ...ops import matmul
from ..ir import Array, Node, Value, check_bytes
from ..nodetype import Built, Glue, NodeType, Setting, Spec2
from .convolution import call_plan

__all__ = ["Gemm", "MatMul", "node_types", "product_shape"]


class Gemm(NodeType):
    """``alpha a b + beta c``, fused if c is a row or the whole result, and known weights packed."""

    types = ("Gemm",)

    def infer(self, node: Node, setting: Setting) -> list[Spec2]:
        """Return (m, n)."""
        m, n, _ = self._sizes(node)
        return [((m, n), node.input(0).kind)]

    def _sizes(self, node: Node) -> tuple[int, int, int]:
        a, b = self._matrix(node, 0), node.input(1).sizes
        if len(a) != 2 or len(b) != 2:
            raise ArgumentError(f"node {node} multiplies shapes {a} and {b}, not two matrices")
        m, k = a[::-1] if node.get("transA", 0) else a
        depth, n = b[::-1] if node.get("transB", 0) else b
        if k != depth:
            raise ArgumentError(f"node {node} multiplies {a} and {b}, whose depths differ")
        if node.has(2):
            # The third operand must broadcast to the result, not the other way round.
            found = np.broadcast_shapes(node.input(2).sizes, (m, n))
            if found != (m, n):
                raise ArgumentError(f"node {node} adds {node.input(2).sizes} to {(m, n)}")
        return m, n, k

    def _matrix(self, node: Node, index: int) -> tuple[int, ...]:
        shape = node.input(index).sizes
        # Old models leave images to be flattened.
        return shape if len(shape) == 2 else (shape[0], math.prod(shape[1:]))

    def build(self, node: Node, setting: Setting) -> Built:
        """Plan; pack b and a row c that are known."""
        m, n, k = self._sizes(node)
        a, b = node.input(0), node.input(1)
        if not is_float(a.kind) or 0 in (m, n, k):
            return Built(partial(_plain, node))
        row = self._row(node, n)
        shapes = self._matrix(node, 0), b.sizes
        plan = setting.plan(
            "gemm",
            *(Spec(s, a.kind) for s in shapes),
            None,
            None if row is None else Spec((n,), a.kind),
            packed=b.data is not None and (row is not None or not node.has(2)),
            alpha=float(node.get("alpha", 1.0)),
            transpose_a=bool(node.get("transA", 0)),
            transpose_b=bool(node.get("transB", 0)),
            activation=node.get("activation", None),
        )
        if row is not None and b.data is not None:
            held = plan.prepack(b.data, row)
            return Built(lambda ins, outs: call_plan(held)(ins[:1], outs), (held,), (1, 2))
        if not node.has(2) and b.data is not None:
            held = plan.prepack(b.data)
            return Built(lambda ins, outs: call_plan(held)(ins[:1], outs), (held,), (1,))
        if row is not None:
            return Built(lambda ins, outs: call_plan(plan)([ins[0], ins[1], row], outs), (plan,))
        return Built(partial(self._added, node, plan), (plan,))

    def _row(self, node: Node, n: int) -> Array | None:
        """Return c as one value a column, if it is known and the same for every row."""
        c = node.inputs[2] if node.has(2) else None
        if c is None or c.data is None or math.prod(c.sizes) not in (1, n):
            return None
        if c.data.size > 1 and c.sizes[-1] != n:
            return None
        scaled = c.data.reshape(-1).astype(np.float64) * node.get("beta", 1.0)
        return np.ascontiguousarray(np.broadcast_to(scaled.astype(c.data.dtype), (n,)))

    def _added(
        self, node: Node, plan: Any, ins: Sequence[Array], outs: Sequence[Array]
    ) -> Callable[[], Any]:
        product = call_plan(plan)(ins[:2], outs)
        if len(ins) < 3:
            return product
        beta = outs[0].dtype.type(node.get("beta", 1.0))

        def run() -> None:
            product()
            np.add(outs[0], ins[2] if beta == 1 else beta * ins[2], out=outs[0])

        return run


def _plain(node: Node, ins: Sequence[Array], outs: Sequence[Array]) -> Callable[[], Any]:
    """Whole numbers, and matrices without elements, in numpy."""

    def run() -> None:
        a = ins[0].reshape(ins[0].shape[0], math.prod(ins[0].shape[1:]))
        a = a.T if node.get("transA", 0) else a
        b = ins[1].T if node.get("transB", 0) else ins[1]
        total = node.get("alpha", 1.0) * np.matmul(a, b)
        if len(ins) > 2:
            total = total + node.get("beta", 1.0) * ins[2]
        np.copyto(outs[0], total, casting="unsafe")

    return run


class MatMul(NodeType):
    """A product by the rules of ``numpy.matmul``; one known matrix is packed."""

    types = ("MatMul",)

    def infer(self, node: Node, setting: Setting) -> list[Spec2]:
        """Return numpy's shape."""
        a, b = node.input(0), node.input(1)
        shape = product_shape(a, b)
        check_bytes(shape, a.kind.itemsize, setting.limit, f"the result of node {node}")
        return [(shape, a.kind)]

    def build(self, node: Node, setting: Setting) -> Built:
        """Plan one gemm where b is a matrix, else leave it to the public function."""
        a, b = node.input(0), node.input(1)
        if not is_float(a.kind) or 0 in (*a.sizes, *b.sizes):
            return Built(lambda ins, outs: partial(np.matmul, *ins, out=outs[0]))
        if len(b.sizes) == 2 and len(a.sizes) >= 2:
            rows = math.prod(a.sizes[:-1])
            plan = setting.plan(
                "gemm", Spec((rows, a.sizes[-1]), a.kind), Spec(b.sizes, a.kind),
                packed=b.data is not None, activation=node.get("activation", None),
            )  # fmt: skip
            if b.data is None:
                return Built(call_plan(plan), (plan,))
            held = plan.prepack(b.data)
            return Built(lambda ins, outs: call_plan(held)(ins[:1], outs), (held,), (1,))

        def bind(ins: Sequence[Array], outs: Sequence[Array]) -> Callable[[], Any]:
            if outs[0].ndim == 0:
                return lambda: np.copyto(outs[0], matmul(*ins, device=setting.device))
            return partial(
                matmul, *ins, out=outs[0], device=setting.device, tolerance=setting.tolerance
            )

        return Built(bind)


def product_shape(a: Value, b: Value) -> tuple[int, ...]:
    """Return the shape of numpy's product."""
    left, right = a.sizes, b.sizes
    if not left or not right or left[-1] != right[-2 if len(right) > 1 else 0]:
        raise ArgumentError(f"shapes {left} and {right} cannot be multiplied")
    batch = np.broadcast_shapes(left[:-2], right[:-2])
    rows = left[-2:-1] if len(left) > 1 else ()
    return (*batch, *rows, *(right[-1:] if len(right) > 1 else ()))


def _einsum(node: Node, *arrays: Array) -> Any:
    equation = str(node.get("equation", "")).replace(" ", "")
    kind = arrays[0].dtype
    # numpy has no sums of bfloat16 here.
    wide = [widened(a) for a in arrays]
    return np.einsum(equation, *wide, optimize=True).astype(kind, copy=False)


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [Gemm(), MatMul(), Glue("Einsum", function=_einsum)]
