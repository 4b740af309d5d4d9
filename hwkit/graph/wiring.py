"""From the nodes of an ONNX file to connected Nodes in an order in which they can run."""

from __future__ import annotations

from collections import ChainMap
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from .ir import Branch, Node, Value
from .tensors import array_of

__all__ = ["Names", "connect", "define", "in_order", "node_of", "text_of"]

# What an attribute is, by ``AttributeProto.AttributeType``, and the field that has its value.
_STRING, _TENSOR, _GRAPH, _STRINGS = 3, 4, 5, 8
# Types of nodes whose graphs are read.
_BRANCHING = ("If",)
_NUMBERS, _LISTS = {1: "f", 2: "i"}, {6: "floats", 7: "ints"}

Names = ChainMap[str, Value]
"""Values by name: those of a branch before those around it."""


def text_of(name: Any) -> str:
    """Return a name; protobuf gives bytes for what is no text."""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def define(values: Names, value: Value) -> Value:
    """Give a name to a value.

    Raises:
        ArgumentError: it has one already.
    """
    if value.name in values:
        raise ArgumentError(f"the name {value.name!r} is defined twice: the model is damaged")
    values[value.name] = value
    return value


def node_of(
    proto: Any, index: int, opsets: dict[str, int], folder: Path | None, limit: int
) -> Node:
    """Return a node of a file with its attributes, not yet connected.

    Raises:
        ArgumentError: an attribute is damaged, or there twice.
    """
    domain = "" if proto.domain == "ai.onnx" else text_of(proto.domain)
    name = text_of(proto.name or next((o for o in proto.output if o), "") or f"node {index}")
    attributes = {}
    for attribute in proto.attribute:
        key = text_of(attribute.name)
        if key in attributes:
            raise ArgumentError(f"node {name!r} has the attribute {key!r} twice")
        if attribute.type == _GRAPH and proto.op_type in _BRANCHING and not domain:
            attributes[key] = _branch(attribute.g, name, opsets, folder, limit)
        else:
            attributes[key] = _attribute(attribute, name, folder, limit)
    return Node(text_of(proto.op_type), [], [], attributes, name, domain, opsets.get(domain, 1))


def _attribute(attribute: Any, name: str, folder: Path | None, limit: int) -> Any:
    if attribute.ref_attr_name:
        raise ArgumentError(
            f"node {name!r} takes {text_of(attribute.name)!r} from a function, but is in none: "
            "the model is damaged"
        )
    kind = attribute.type
    if kind == _TENSOR:
        return array_of(attribute.t, folder, limit)
    if kind == _STRING:
        return attribute.s.decode("utf-8", "replace")
    if kind == _STRINGS:
        return [text.decode("utf-8", "replace") for text in attribute.strings]
    if kind in _NUMBERS:
        return getattr(attribute, _NUMBERS[kind])
    if kind in _LISTS:
        return list(getattr(attribute, _LISTS[kind]))
    return attribute  # graphs and the like, which no node type of hwkit's own takes


def _branch(
    proto: Any, name: str, opsets: dict[str, int], folder: Path | None, limit: int
) -> Branch:
    """Return a graph in an attribute, its nodes not yet connected."""
    if len(proto.input) or len(proto.sparse_initializer):
        raise ArgumentError(
            f"node {name!r} has a branch with inputs of its own or sparse constants"
        )
    constants, budget = [], limit
    for tensor in proto.initializer:
        data = array_of(tensor, folder, budget)
        budget -= data.nbytes
        constants.append(Value.constant(text_of(tensor.name), data))
    nodes = [node_of(n, i, opsets, folder, budget) for i, n in enumerate(proto.node)]
    return Branch(nodes, [], constants)


def connect(nodes: list[Node], protos: Any, values: Names) -> list[Node]:
    """Give nodes, and those of their branches, the values they take and make.

    Raises:
        ArgumentError: a name is made twice, or by nothing.
    """
    for node, proto in zip(nodes, protos, strict=True):
        node.outputs = [define(values, Value(text_of(o))) if o else None for o in proto.output]
    for node, proto in zip(nodes, protos, strict=True):
        given = [text_of(i) for i in proto.input]
        unknown = next((i for i in given if i and i not in values), None)
        if unknown is not None:
            raise ArgumentError(f"node {node} takes {unknown!r}, which nothing makes")
        node.inputs = [values[i] if i else None for i in given]
        for attribute in proto.attribute:
            branch = node.attributes[text_of(attribute.name)]
            if isinstance(branch, Branch):
                _connect_branch(branch, attribute.g, values, node)
    return nodes


def _connect_branch(branch: Branch, proto: Any, values: Names, node: Node) -> None:
    """Connect the nodes of a branch; what they take from outside becomes inputs of the node."""
    inner = values.new_child()
    for value in branch.constants:
        define(inner, value)
    branch.nodes = in_order(connect(branch.nodes, proto.node, inner))
    for info in proto.output:
        label = text_of(info.name)
        if label not in inner:
            raise ArgumentError(f"output {label!r} of a branch of node {node} is made by no node")
        branch.outputs.append(inner[label])
    node.inputs += [value for value in branch.taken() if value not in node.inputs]


def in_order(nodes: list[Node]) -> list[Node]:
    """Return nodes in an order in which they can run; that of the file if it is one."""
    makers = {id(v): i for i, n in enumerate(nodes) for v in n.outputs if v is not None}
    needs = {
        i: {makers[id(v)] for v in n.inputs if v is not None and id(v) in makers}
        for i, n in enumerate(nodes)
    }
    if all(other < i for i, others in needs.items() for other in others):
        return nodes
    try:
        return [nodes[i] for i in TopologicalSorter(needs).static_order()]
    except CycleError as error:
        circle = " needs ".join(str(nodes[i]) for i in error.args[1][:4])
        raise ArgumentError(f"the model has a cycle: {circle}") from None
