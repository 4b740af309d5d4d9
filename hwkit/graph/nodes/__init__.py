"""How hwkit's own ONNX node types run."""

from __future__ import annotations

from ..nodetype import NodeType
from . import (
    branches,
    convolution,
    elementwise,
    fills,
    finding,
    fused,
    normalisation,
    pads,
    parts,
    phases,
    placing,
    pooling,
    products,
    qlinear,
    quantised,
    reductions,
    regions,
    resize,
    sampling,
    scaling,
    shapes,
    tiles,
    transposes,
)

__all__ = ["node_types"]

_MODULES = (
    branches,
    convolution,
    elementwise,
    fills,
    finding,
    fused,
    normalisation,
    pads,
    parts,
    phases,
    placing,
    pooling,
    products,
    qlinear,
    quantised,
    reductions,
    regions,
    resize,
    sampling,
    scaling,
    shapes,
    tiles,
    transposes,
)


def node_types() -> list[NodeType]:
    """Return the node types of the modules of this package."""
    return [kind for module in _MODULES for kind in module.node_types()]
