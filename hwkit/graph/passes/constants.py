"""Constant folding: what follows from weights and shapes alone is computed once."""

from __future__ import annotations

from ..failures import guarded
from ..inference import kind_of
from ..ir import Graph
from ..nodetype import Setting, evaluate

__all__ = ["run"]


def run(graph: Graph, setting: Setting) -> None:
    """Compute nodes whose inputs are known, and take them out."""
    for node in graph.nodes:
        outputs = [v for v in node.outputs if v is not None]
        known = all(v is None or v.data is not None for v in node.inputs)
        if not known or all(v.data is not None for v in outputs):
            continue
        found = guarded(node, lambda node=node: evaluate(kind_of(node), node, setting))  # type: ignore[misc]
        for value, data in zip(outputs, found, strict=True):
            value.data = data
    graph.nodes = [n for n in graph.nodes if any(v and v.data is None for v in n.outputs)]
