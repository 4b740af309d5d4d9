"""Whole networks: an ONNX model as a Graph of nodes, rewritten by passes, run by Plans.

::

    model = hwkit.load("model.onnx")
    y = model(x)

Node types and passes come through the hooks ``hwkit_nodes`` and ``hwkit_passes``; this module is
the plugin that brings hwkit's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..hookspecs import hookimpl

__all__ = [
    "Built",
    "Composite",
    "Glue",
    "Graph",
    "Late",
    "Model",
    "Node",
    "NodeType",
    "Pass",
    "Setting",
    "Value",
    "View",
    "hwkit_nodes",
    "hwkit_passes",
    "load",
]

if TYPE_CHECKING:
    from .ir import Graph, Node, Value
    from .late import Composite, Late
    from .model import Model, load
    from .nodetype import Built, Glue, NodeType, View
    from .passes import Pass
    from .setting import Setting

# Loaded when first asked for: the registry imports this module with every other plugin.
_LATE = {
    "Built": "nodetype",
    "Composite": "late",
    "Glue": "nodetype",
    "Graph": "ir",
    "Late": "late",
    "Model": "model",
    "Node": "ir",
    "NodeType": "nodetype",
    "Pass": "passes",
    "Setting": "setting",
    "Value": "ir",
    "View": "nodetype",
    "load": "model",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_LATE[name]}", __name__), name)
    globals()[name] = value
    return value


@hookimpl
def hwkit_nodes() -> Iterable[NodeType]:
    """Return the node types that hwkit runs."""
    from .nodes import node_types

    return node_types()


@hookimpl
def hwkit_passes() -> Iterable[Pass]:
    """Return hwkit's own passes."""
    from .passes import own_passes

    return own_passes()
