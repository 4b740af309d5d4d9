"""Idioms: activations and means that exporters write as several nodes become the one they are.

PyTorch writes hard-swish as ``x * clip(x + 3, 0, 6) / 6``, silu, mish and gelu in parts too, and
Keras has its global pooling as ReduceMean. One node is one pass over memory, and epilogues take it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from ...dtypes import is_float
from ..activations import bounds_of
from ..ir import Graph, Node, Value
from ..nodetype import Setting
from .fusion import Makers, Users

__all__ = ["run"]

# How near a number of an idiom is as such a dtype has it.
_NEAR = {"float16": 1e-3, "bfloat16": 2.0**-8}
_POOLS = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool"}


def run(graph: Graph, setting: Setting) -> None:
    """Rewrite the innermost first: a hard-swish may contain a hard-sigmoid."""
    for node in list(graph.nodes):
        _pool(graph, node)
    for find in (_hard_sigmoid, _hard_swish, _silu, _mish, _gelu):
        _sweep(graph, find)


class _Known:
    """What a search asks of a graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._makers: Makers = graph.makers()
        self._users: Users = graph.users()

    def before(self, user: Node, value: Value, *types: str) -> Node | None:
        """Return the node of some types that makes a value for this user alone."""
        maker = self._makers.get(value)
        if maker is None or maker.type not in types:
            return None
        return maker if self._graph.only_user(value, self._users) is user else None


Found = tuple[str, Value, dict[str, float], list[Node]]
"""Type, operand and attributes of what a node comes to, and the nodes that are no longer needed."""


def _sweep(graph: Graph, find: Callable[[_Known, Node], Found | None]) -> None:
    known = _Known(graph)
    gone: list[Node] = []
    for node in list(graph.nodes):
        if not node.outputs or not is_float(node.output().kind):
            continue
        found = find(known, node)
        if found is None or found[1].sizes != node.output().sizes:
            continue
        node.type, operand, node.attributes, parts = found
        node.inputs = [operand]
        gone += parts
    graph.remove(gone)


def _pairs(node: Node) -> Iterator[tuple[Value, Value]]:
    """Yield the operands of a node that joins two, both ways if their order does not matter."""
    if len(node.inputs) == 2 and node.version >= 7:
        a, b = node.input(0), node.input(1)
        yield a, b
        if node.type in ("Add", "Mul"):
            yield b, a


def _by(node: Node | None, operation: str, number: float) -> Value | None:
    """Return what a node adds a number to, or multiplies with it; a division is a product."""
    for value, other in _pairs(node) if node is not None else ():
        if other.data is None or other.data.size != 1 or value.data is not None or node is None:
            continue
        given = float(other.data.reshape(-1)[0])
        if node.type == "Div" and operation == "Mul" and given:
            given = 1 / given
        elif node.type != operation:
            continue
        if math.isclose(given, number, rel_tol=_NEAR.get(other.kind.name, 1e-6)):
            return value
    return None


def _gate(known: _Known, user: Node, value: Value) -> tuple[Value, list[Node]] | None:
    """Return x of ``clip(x + 3, 0, 6)``."""
    clip = known.before(user, value, "Clip")
    if clip is None or bounds_of(clip) != (0.0, 6.0):
        return None
    add = known.before(clip, clip.input(0), "Add")
    x = _by(add, "Add", 3.0)
    return None if x is None or add is None else (x, [add, clip])


def _hard_sigmoid(known: _Known, node: Node) -> Found | None:
    inner = _by(node, "Mul", 1 / 6)
    found = None if inner is None else _gate(known, node, inner)
    return found and ("HardSigmoid", found[0], {"alpha": 1 / 6, "beta": 0.5}, found[1])


def _hard_swish(known: _Known, node: Node) -> Found | None:
    product = _by(node, "Mul", 1 / 6)
    inner = None if product is None else known.before(node, product, "Mul")
    if inner is not None:
        for x, value in _pairs(inner):
            found = _gate(known, inner, value)
            if found is not None and found[0] is x:
                return "HardSwish", x, {}, [*found[1], inner]
    if node.type != "Mul":
        return None
    for x, value in _pairs(node):
        gate = known.before(node, value, "HardSigmoid")
        if gate is None or gate.input(0) is not x:
            continue
        if abs(gate.get("alpha", 0.2) - 1 / 6) < 1e-6 and gate.get("beta", 0.5) == 0.5:
            return "HardSwish", x, {}, [gate]
    return None


def _silu(known: _Known, node: Node) -> Found | None:
    for x, value in _pairs(node) if node.type == "Mul" else ():
        gate = known.before(node, value, "Sigmoid")
        if gate is not None and gate.input(0) is x:
            return "Swish", x, {}, [gate]
    return None


def _mish(known: _Known, node: Node) -> Found | None:
    for x, value in _pairs(node) if node.type == "Mul" else ():
        tanh = known.before(node, value, "Tanh")
        inner = None if tanh is None else known.before(tanh, tanh.input(0), "Softplus")
        if tanh is not None and inner is not None and inner.input(0) is x:
            return "Mish", x, {}, [inner, tanh]
    return None


def _gelu(known: _Known, node: Node) -> Found | None:
    """``x * (1 + erf(x / sqrt(2))) / 2``, as PyTorch exports it."""
    product = _by(node, "Mul", 0.5)
    outer = None if product is None else known.before(node, product, "Mul")
    for x, value in _pairs(outer) if outer is not None else ():
        add = known.before(outer, value, "Add") if outer is not None else None
        inner = _by(add, "Add", 1.0)
        erf = known.before(add, inner, "Erf") if add is not None and inner is not None else None
        scaled = known.before(erf, erf.input(0), "Div", "Mul") if erf is not None else None
        if scaled is not None and _by(scaled, "Mul", math.sqrt(0.5)) is x:
            parts = [n for n in (scaled, erf, add, outer) if n is not None]
            return "Gelu", x, {}, parts
    return None


def _pool(graph: Graph, node: Node) -> None:
    """A reduction over both axes of an image is a global pooling."""
    if node.type not in _POOLS or len(node.input(0).sizes) != 4 or node.input(0).data is not None:
        return
    known = node.known(1) if node.has(1) else None
    axes = node.get("axes", None) if known is None else known.reshape(-1).tolist()
    if axes is None or sorted(int(a) % 4 for a in axes) != [2, 3]:
        return
    x, kind = node.input(0), node.input(0).kind
    if not is_float(kind) or 0 in x.sizes:
        return
    if not node.get("keepdims", 1):
        pooled = Value(f"{node.output().name}:pooled", (*x.sizes[:2], 1, 1), x.dtype)
        flat = Node("Flatten", [pooled], node.outputs, {"axis": 1}, node.name, "", 13)
        place = next(i for i, n in enumerate(graph.nodes) if n is node)
        graph.nodes.insert(place + 1, flat)
        node.outputs, node.name = [pooled], f"{node.name}:pooled"
    node.type, node.inputs, node.attributes = _POOLS[node.type], [x], {}
