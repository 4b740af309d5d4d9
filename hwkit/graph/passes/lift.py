"""Lift: an activation behind nodes that only move elements goes up to what computes them.

Behind a Concat of several heads, as in SSD, it would be a pass over memory of its own; in front of
it, the epilogues of the convolutions take it.
"""

from __future__ import annotations

import math

from ..activations import activation_of
from ..ir import Graph, Node, Value
from ..nodetype import Setting
from .fusion import Makers, Users, takes_activation

__all__ = ["run"]

# What they make has the elements of their first input, each once.
_MOVES = (
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "ChannelShuffle", "DepthToSpace",
    "SpaceToDepth",
)  # fmt: skip

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
    edges = _edges(graph, (node, 0), makers, users)
    taken = [edge for edge in edges if takes_activation(graph, *_end(edge), makers, users)]
    if edges == [(node, 0)] or 2 * _elements(taken) < _elements(edges) or not taken:
        return
    for edge in edges:
        user, value = _end(edge)
        if edge in taken:
            makers[value].attributes["activation"] = text
        else:
            _insert(graph, node, user, edge[1])
    makers[node.input(0)].outputs[0] = node.output()
    graph.remove([node])


def _edges(graph: Graph, edge: Edge, makers: Makers, users: Users) -> list[Edge]:
    """Return where the elements that pass an edge come from, and nothing else."""
    node, value = _end(edge)
    maker = makers.get(value)
    if maker is None or graph.only_user(value, users) is not node:
        return [edge]
    if maker.type == "Concat":
        sources = range(len(maker.inputs))
    elif maker.type in _MOVES:
        sources = range(1)
    else:
        return [edge]
    return [e for index in sources for e in _edges(graph, (maker, index), makers, users)]


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
