"""Elementwise nodes on the Op ``elementwise``, where it has them; numpy does the rest.

As an Op, any backend can bring its own kernels, and they are checked and tuned like all others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ...arrays import Spec
from ...dtypes import is_float
from ...errors import NoKernel
from ...ops.elementwise import folded
from ..activations import standalone_of
from ..ir import Array, Node, Value
from ..nodetype import Built, NodeType, Setting, Spec2

__all__ = ["Planned"]

_OPERATORS = {
    "Add": "add", "Sum": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide",
    "Max": "maximum", "Min": "minimum", "PRelu": "prelu",
}  # fmt: skip
_EITHER_WAY = ("add", "multiply")
# Below this numpy is done before a Plan has been made, and shapes are computed of few elements.
_FEW = 64

Joined = tuple[int, int, str]
"""Positions of x and of the other operand, and the operator."""


class Planned(NodeType):
    """A type of nodes that a Plan runs wherever the Op and the device have it.

    Args:
        plain: how it runs otherwise.
    """

    def __init__(self, plain: NodeType) -> None:
        self.types = plain.types
        self.domain = plain.domain
        self.static = plain.static
        self.in_place = plain.in_place
        self._plain = plain

    def infer(self, node: Node, setting: Setting) -> list[Spec2]:
        """Return what the plain type says."""
        return self._plain.infer(node, setting)

    def build(self, node: Node, setting: Setting) -> Built:
        """Plan, or take the plain type."""
        built = self._built(node, setting) if _worth(node) else None
        return self._plain.build(node, setting) if built is None else built

    def _built(self, node: Node, setting: Setting) -> Built | None:
        activation = standalone_of(node)
        found = (0, None, "add") if activation is not None else _joined(node)
        if found is None:
            return None
        first, second, operator = found
        x, other = node.input(first), None if second is None else node.input(second)
        sizes = folded(x.sizes, None if other is None else other.sizes)
        if sizes is None:
            return None
        b, _, c, _ = sizes
        shapes = [sizes] if other is None else [sizes, (b, 1, c, 1)]
        try:
            plan = setting.plan(
                "elementwise",
                *(Spec(shape, x.kind) for shape in shapes),
                operator=operator,
                activation=activation,
            )
        except NoKernel:
            # A device without such kernels would have to bring the arrays here and back.
            return None
        where = [i for i in (first, second) if i is not None]

        def bind(ins: Sequence[Array], outs: Sequence[Array]) -> Callable[[], Any]:
            given = [ins[i].reshape(shape) for i, shape in zip(where, shapes, strict=True)]
            return partial(plan, *given, out=outs[0].reshape(sizes))

        return Built(bind, (plan,))


def _worth(node: Node) -> bool:
    """Whether there is something to compute in each run, and of a dtype that the Op takes."""
    values = [v for v in node.inputs if v is not None]
    if not values or node.outputs[0] is None or all(v.data is not None for v in values):
        return False
    kind = node.output().kind
    return is_float(kind) and math.prod(node.output().sizes) >= _FEW


def _joined(node: Node) -> Joined | None:
    """Return the operands of a node that joins two, the first of the shape of the result."""
    operator = _OPERATORS.get(node.type)
    if operator is None or len(node.inputs) != 2 or (node.version < 7 and node.type != "Sum"):
        return None
    a, b = node.input(0), node.input(1)
    if a.kind != b.kind or (node.type == "PRelu" and _by_channel(a, b)):
        return None
    if a.sizes == node.output().sizes:
        return 0, 1, operator
    return (1, 0, operator) if operator in _EITHER_WAY and b.sizes == node.output().sizes else None


def _by_channel(x: Value, slope: Value) -> bool:
    """Whether a vector of slopes may belong to the channels, not to the last axis."""
    return len(slope.sizes) == 1 < len(x.sizes) and slope.sizes[0] > 1
