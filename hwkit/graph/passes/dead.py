"""Dead code: nodes that nobody needs, and nodes that change nothing."""

from __future__ import annotations

from ..ir import Graph, Node
from ..nodetype import Setting

__all__ = ["run"]


def run(graph: Graph, setting: Setting) -> None:
    """Take out identities, then whatever leads to no output."""
    _forget_extras(graph)
    for node in list(graph.nodes):
        if _changes_nothing(node) and node.output() not in graph.outputs:
            graph.replace(node.output(), node.input(0))
            graph.remove([node])
    needed = {id(value) for value in graph.outputs}
    kept = []
    for node in reversed(graph.nodes):
        if any(v is not None and id(v) in needed for v in node.outputs):
            kept.append(node)
            needed.update(id(v) for v in node.inputs if v is not None)
    graph.nodes = kept[::-1]


# Their further outputs are for training, or say where a maximum was; most models ask for none.
_EXTRAS = ("Dropout", "MaxPool", "BatchNormalization")


def _forget_extras(graph: Graph) -> None:
    """Leave away further outputs that nobody takes: a node with them fits fewer passes."""
    wanted = {id(v) for node in graph.nodes for v in node.inputs if v is not None}
    wanted |= {id(v) for v in graph.outputs}
    for node in graph.nodes:
        if node.type in _EXTRAS and not any(id(v) in wanted for v in node.outputs[1:]):
            del node.outputs[1:]


def _changes_nothing(node: Node) -> bool:
    if len(node.outputs) != 1 or not node.inputs or node.inputs[0] is None:
        return False
    if node.type in ("Identity", "Dropout"):
        return True
    same = node.input(0).shape == node.output().shape
    if node.type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand"):
        return same
    if node.type == "Cast":
        return node.input(0).dtype == node.output().dtype
    if node.type == "Transpose":
        perm = list(node.get("perm", []))
        return bool(perm) and perm == sorted(perm)
    return False
