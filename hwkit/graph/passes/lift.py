"""Lift: an activation behind nodes that only move or choose elements goes up to what computes them.

Behind a Concat of several heads, as in SSD, it would be a pass over memory of its own; in front of
it, the epilogues of the convolutions take it. One that never falls may go in front of a MaxPool.
"""

from __future__ import annotations

import math

from ..activations import activation_of
from ..ir import Graph, Node, Value
from ..nodes.windows import all_meet
from ..nodetype import Setting
from .fusion import Makers, Users, takes_activation

__all__ = ["MOVES", "run"]

MOVES = (
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "ChannelShuffle", "DepthToSpace",
    "SpaceToDepth",
)  # fmt: skip
"""What they make has the elements of their first input, each once."""

# They never fall, rounding included, and cost next to nothing in an epilogue.
_RISING = ("relu", "relu6", "clip")

Edge = tuple[Node, int]
"""A node and the position of one of its inputs."""


def run(graph: Graph, setting: Setting) -> None:
    """Lift each activation of which epilogues take half of the elements or more."""
    for node in list(graph.nodes):
        text = activation_of(node)
        if text is not None:
            _lift(graph, node, text)


def _lift(graph: Graph, node: Node, text: str) -> None:
    makers, users = graph.makers(), graph.users()
    rising = text.partition(":")[0] in _RISING
    edges = _edges(graph, (node, 0), rising, makers, users)
    taken = _taken(graph, edges, makers, users)
    left = [edge for edge in edges if edge not in taken]
    if edges == [(node, 0)] or 2 * _elements(left) > math.prod(node.output().sizes) or not taken:
        return
    for edge in edges:
        user, value = _end(edge)
        if edge in taken:
            makers[value].attributes["activation"] = text
        else:
            _insert(graph, node, user, edge[1])
    makers[node.input(0)].outputs[0] = node.output()
    graph.remove([node])


def _taken(graph: Graph, edges: list[Edge], makers: Makers, users: Users) -> list[Edge]:
    """Return the edges that begin at an epilogue with room for an activation."""
    return [edge for edge in edges if takes_activation(graph, *_end(edge), makers, users)]


def _edges(graph: Graph, edge: Edge, rising: bool, makers: Makers, users: Users) -> list[Edge]:
    """Return where the elements that pass an edge come from, and nothing else.

    A pool is passed only if epilogues are all there is before it, as it has more elements there.
    """
    node, value = _end(edge)
    maker = makers.get(value)
    if maker is None or graph.only_user(value, users) is not node:
        return [edge]
    pool = maker.type == "MaxPool" and rising and len(maker.outputs) == 1 and all_meet(maker)
    if maker.type != "Concat" and maker.type not in MOVES and not pool:
        return [edge]
    sources = range(len(maker.inputs) if maker.type == "Concat" else 1)
    found = [e for index in sources for e in _edges(graph, (maker, index), rising, makers, users)]
    return [edge] if pool and _taken(graph, found, makers, users) != found else found


def _end(edge: Edge) -> tuple[Node, Value]:
    node, index = edge
    return node, node.input(index)


def _elements(edges: list[Edge]) -> int:
    return sum(math.prod(_end(edge)[1].sizes) for edge in edges)


def _insert(graph: Graph, node: Node, user: Node, index: int) -> None:
    """Put a copy of an activation in front of an input of a node."""
    value = user.input(index)
    made = Value(f"{value.name}:{node.output().name}", value.shape, value.dtype)
    inputs = [value, *node.inputs[1:]]
    attributes = dict(node.attributes)
    twin = Node(node.type, inputs, [made], attributes, made.name, node.domain, node.version)
    place = next(i for i, n in enumerate(graph.nodes) if n is user)
    graph.nodes.insert(place, twin)
    user.inputs[index] = made
