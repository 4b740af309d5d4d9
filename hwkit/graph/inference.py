"""Shapes and dtypes of every value of a Graph, for given input shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..errors import ArgumentError
from .failures import guarded
from .ir import Graph, Node, check_bytes
from .nodetype import NodeType, Setting, evaluate
from .reading import node_type

__all__ = ["deciding_inputs", "infer", "infer_node", "kind_of"]

# Up to so many elements are computed at once, as other shapes may depend on them.
_FEW = 4096


def infer(graph: Graph, shapes: Mapping[str, tuple[int, ...]], setting: Setting) -> None:
    """Set shape and dtype of every value, and the data of small ones that are known.

    Raises:
        ArgumentError: a node does not fit, or needs more memory than is allowed.
    """
    for value in graph.inputs:
        value.shape = tuple(shapes[value.name])
        check_bytes(value.sizes, value.kind.itemsize, setting.limit, f"input {value.name!r}")
    for node in graph.nodes:
        infer_node(node, setting)


def infer_node(node: Node, setting: Setting) -> None:
    """Set what is known of the outputs of one node."""
    kind = kind_of(node)
    specs = guarded(node, lambda: kind.infer(node, setting))
    if len(specs) < len(node.outputs):
        raise ArgumentError(f"node {node} has {len(node.outputs)} outputs, but makes {len(specs)}")
    total = 0
    for value, (shape, dtype) in zip(node.outputs, specs, strict=False):
        if value is not None:
            check_bytes(shape, dtype.itemsize, setting.limit, f"{value.name!r} of node {node}")
            value.shape, value.dtype = tuple(int(size) for size in shape), dtype
            total += math.prod(value.shape)
    # A wide constant's own outputs are left to the pass that folds constants.
    known = all(v is None or v.data is not None for v in node.inputs)
    if (known or kind.from_shape) and total <= _FEW:
        for value, data in zip(
            [v for v in node.outputs if v is not None],
            guarded(node, lambda: evaluate(kind, node, setting)),
            strict=True,
        ):
            value.data = data


def kind_of(node: Node) -> NodeType:
    """Return how a node runs."""
    kind = node_type(node)
    assert kind is not None  # checked when the model was read
    return kind


def deciding_inputs(graph: Graph) -> set[str]:
    """Return the names of inputs on whose values shapes depend, as where a call gives the sizes."""
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
            found.add(value.name)
        elif not kind_of(maker).from_shape:
            pending += maker.inputs
    return found
