"""If: one of two graphs, chosen before the run where the condition is known, else in the run."""

from __future__ import annotations

from ...errors import ArgumentError
from ..ir import Branch, Node
from ..late import Composite
from ..nodetype import NodeType

__all__ = ["node_types"]


def _chosen(node: Node) -> list[Node]:
    """Return the nodes of the branch that the condition chooses, and what names its results."""
    condition = node.known(0)
    if condition is None or condition.size != 1:
        raise ArgumentError(f"node {node} needs one condition")
    branch = node.get("then_branch" if condition.reshape(()) else "else_branch", None)
    if not isinstance(branch, Branch) or len(branch.outputs) < len(node.outputs):
        raise ArgumentError(f"node {node} lacks a branch, or an output of one")
    names = [
        Node("Identity", [made], [wanted], {}, wanted.name, "", node.version)
        for made, wanted in zip(branch.outputs, node.outputs, strict=False)
        if wanted is not None
    ]
    return [*branch.nodes, *names]


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [Composite("If", parts=_chosen, static=(0,))]
