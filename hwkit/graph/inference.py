"""Shapes and dtypes of every value of a Graph, for given input shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

from ..errors import ArgumentError
from .failures import guarded
from .ir import Array, Graph, Node, Tail, check_bytes
from .nodetype import NodeType, evaluate
from .reading import node_type
from .setting import Setting

__all__ = ["MOST_DECIDING", "deciding_inputs", "infer", "infer_node", "kind_of", "outcome"]

# Up to so many elements are computed at once, as other shapes may depend on them.
_FEW = 4096

MOST_DECIDING = 64
"""Inputs of more elements are data: no program is made for each of their values."""


def infer(graph: Graph, shapes: Mapping[str, tuple[int, ...]], setting: Setting) -> None:
    """Set shape and dtype of every value, and the data of small ones that are known.

    Raises:
        ArgumentError: a node does not fit, or needs more memory than is allowed.
    """
    for value in graph.inputs:
        value.shape = tuple(shapes[value.name])
        check_bytes(value.sizes, value.kind.itemsize, setting.limit, f"input {value.name!r}")
    pending, late, nodes = graph.nodes[::-1], [], []
    while pending:
        node = pending.pop()
        if _is_late(node):
            late.append(node)
            continue
        parts = guarded(node, partial(kind_of(node).expand, node))
        if parts is not None:
            pending += parts[::-1]
            continue
        infer_node(node, setting)
        nodes.append(node)
    graph.nodes = nodes
    _split(graph, late)


def _is_late(node: Node) -> bool:
    """Whether the shapes of a node's outputs depend on data that only a run makes."""
    kind = kind_of(node)
    open_ = {i for i, v in enumerate(node.inputs) if v is not None and v.data is None}
    if any(v is not None and v.shape is None for v in node.inputs):
        return True
    return bool(open_) if kind.late else not open_.isdisjoint(kind.static)


def _split(graph: Graph, late: list[Node]) -> None:
    """Part a Graph into what has shapes, and the nodes whose shapes depend on its results."""
    if not late:
        return
    needed, kept = set(graph.outputs), []
    for node in reversed(late):
        if not needed.isdisjoint(node.outputs):
            kept.append(node)
            needed.update(v for v in node.inputs if v is not None)
    if not kept:
        return
    made = {v for node in kept for v in node.outputs}
    graph.tail = Tail(kept[::-1], graph.outputs)
    asked = [v for node in graph.tail.nodes for v in node.inputs] + graph.outputs
    given = (v for v in asked if v is not None and v not in made and v.data is None)
    graph.outputs = list(dict.fromkeys(given))


def infer_node(node: Node, setting: Setting) -> None:
    """Set what is known of the outputs of one node."""
    kind = kind_of(node)
    total = _set_shapes(node, kind, setting)
    # A wide constant's own outputs are left to the pass that folds constants.
    known = all(v is None or v.data is not None for v in node.inputs)
    if (known or kind.from_shape) and total <= _FEW:
        for value, data in zip(
            [v for v in node.outputs if v is not None],
            guarded(node, lambda: evaluate(kind, node, setting)),
            strict=True,
        ):
            value.data = data


def outcome(node: Node, setting: Setting) -> list[Array]:
    """Return the outputs of a node whose inputs are known, those that are asked for."""
    kind = kind_of(node)
    found: list[Array] | None = guarded(node, lambda: kind.once(node, setting))
    if found is not None:
        return [a for a, v in zip(found, node.outputs, strict=False) if v is not None]
    _set_shapes(node, kind, setting)
    view: Array | None = guarded(node, lambda: _view(node, kind))
    if view is not None:
        return [view]
    made: list[Array] = guarded(node, lambda: evaluate(kind, node, setting))
    return made


def _view(node: Node, kind: NodeType) -> Array | None:
    """Return the output of a node that only reshapes its first input, ``None`` for all others.

    A part of the input is none: it would keep memory alive that nobody counts.
    """
    source = node.inputs[0] if node.inputs else None
    if source is None or source.data is None or len(node.outputs) != 1 or None in node.outputs:
        return None
    found = kind.view(node, source.data)
    whole = found is not None and found.flags.c_contiguous and found.nbytes == source.data.nbytes
    return found if whole else None


def _set_shapes(node: Node, kind: NodeType, setting: Setting) -> int:
    """Set shapes and dtypes of the outputs; return how many elements they have."""
    specs = guarded(node, lambda: kind.infer(node, setting))
    if len(specs) < len(node.outputs):
        raise ArgumentError(f"node {node} has {len(node.outputs)} outputs, but makes {len(specs)}")
    total = 0
    for value, (shape, dtype) in zip(node.outputs, specs, strict=False):
        if value is not None:
            check_bytes(shape, dtype.itemsize, setting.limit, f"{value.name!r} of node {node}")
            value.shape, value.dtype = tuple(int(size) for size in shape), dtype
            total += math.prod(value.shape)
    return total


def kind_of(node: Node) -> NodeType:
    """Return how a node runs."""
    kind = node_type(node)
    assert kind is not None  # checked when the model was read
    return kind


def deciding_inputs(graph: Graph) -> set[str]:
    """Return the names of inputs on whose values shapes depend, as where a call gives the sizes.

    What follows a node whose sizes only a run tells runs in the tail, whatever decides about it.
    """
    makers = graph.makers()
    pending = [
        node.inputs[index]
        for node in graph.nodes
        for index in kind_of(node).static
        if index < len(node.inputs)
    ]
    seen: set[int] = set()
    found: set[str] = set()
    while pending:
        value = pending.pop()
        if value is None or value.data is not None or id(value) in seen:
            continue
        seen.add(id(value))
        maker = makers.get(value)
        if maker is None:
            sizes = [size for size in value.shape or () if isinstance(size, int)]
            if math.prod(sizes) <= MOST_DECIDING:
                found.add(value.name)
        elif not (kind_of(maker).from_shape or kind_of(maker).late):
            pending += maker.inputs
    return found
