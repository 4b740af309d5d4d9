"""Functions of a model: the nodes that they stand for take the place of their calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ..errors import ArgumentError, Unavailable
from ..registry import registry
from .ir import one_line

__all__ = ["inlined"]

# Functions that call others twice each double what they stand for with every level.
_MOST_NODES = 1_000_000
_MOST_DEPTH = 100


class _Size(NamedTuple):
    nodes: int
    data: int
    depth: int


def inlined(proto: Any, name: str, limit: int) -> Any:
    """Return a model whose functions have been put in the place of their calls.

    What a node type does already stays a call, and so does what was written for other operator
    sets than the model's: its nodes may mean something else.

    Args:
        proto: a ``ModelProto`` with functions.
        name: of the model, for people.
        limit: most bytes of all nodes.

    Raises:
        ArgumentError: a function calls itself, or they stand for too much.
        Unavailable: the package ``onnx`` is missing.
    """
    known = registry().node_types()
    bodies = {(f.domain, f.name): f for f in proto.functions}
    opsets = _opsets(proto)
    wanted = {
        key: body.node
        for key, body in bodies.items()
        if key not in known and _opsets(body).items() <= opsets.items()
    }
    if not wanted:
        return proto
    sizes: dict[tuple[str, str], _Size] = {}
    whole = _Size(0, 0, 0)
    for nodes in (*wanted.values(), proto.graph.node):
        whole = _size(nodes, wanted, sizes, (), name)
    if whole.nodes > _MOST_NODES or whole.data > limit:
        raise ArgumentError(
            f"model {name} has functions that stand for {whole.nodes} nodes of {whole.data} bytes, "
            "too many to be put in place"
        )
    try:
        from onnx.inliner import inline_selected_functions
    except ImportError:
        raise Unavailable(
            f"model {name} has functions, which need the package onnx: pip install 'hwkit[onnx]'"
        ) from None
    if len(wanted) < len(proto.functions):  # onnx refuses a model for any function in it
        whole_model, proto = proto, type(proto)()
        proto.CopyFrom(whole_model)
        del proto.functions[:]
        proto.functions.extend(bodies[key] for key in wanted)
    try:
        return inline_selected_functions(proto, list(wanted))
    except Exception as error:  # of protobuf, and of the C++ of onnx
        raise ArgumentError(
            f"model {name} has functions that cannot be put in place ({one_line(error)}): check "
            "the model with onnx.checker"
        ) from None


def _opsets(proto: Any) -> dict[str, int]:
    return {entry.domain: int(entry.version) for entry in proto.opset_import}


def _size(
    nodes: Iterable[Any],
    bodies: dict[tuple[str, str], Any],
    sizes: dict[tuple[str, str], _Size],
    above: tuple[tuple[str, str], ...],
    name: str,
) -> _Size:
    """Return how much nodes stand for; ``sizes`` keeps that of functions, ``above`` are callers."""
    number = data = depth = 0
    for node in _all(nodes):
        key = node.domain, node.op_type
        if key not in bodies:
            number, data = number + 1, data + node.ByteSize()
            continue
        if key not in sizes and key not in above and len(above) < _MOST_DEPTH:
            sizes[key] = _size(bodies[key], bodies, sizes, (*above, key), name)
        found = sizes.get(key, _Size(0, 0, _MOST_DEPTH))
        number, data = number + found.nodes, data + found.data
        depth = max(depth, found.depth + 1)
        if depth > _MOST_DEPTH:
            raise ArgumentError(
                f"model {name} has a function {key[1]!r} that calls itself, or too many levels"
            )
    return _Size(number, data, depth)


def _all(nodes: Iterable[Any]) -> Iterator[Any]:
    """Yield nodes, and those of the graphs in their attributes."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                waiting += graph.node
