"""Value ranges: an activation of values that it would leave as they are is taken out.

As a Relu of averages of what has been through a Relu, where the units of ShuffleNet begin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...ops.activations import read_activation
from ..activations import standalone_of
from ..ir import Graph, Node, Value
from ..nodes.windows import all_meet
from ..nodetype import Setting
from .lift import MOVES

__all__ = ["run"]

Range = tuple[float, float]
"""The least and the greatest that elements can be, NaN left out."""

_ANY = (-math.inf, math.inf)
# Their results are among the elements of their first input.
_CHOICES = (*MOVES, "Slice", "Split", "Gather", "Expand", "GlobalMaxPool")
# Rounding may leave the range, but never changes a sign.
_MEANS = ("AveragePool", "GlobalAveragePool", "ReduceMean")
_FUSED = ("Conv", "Gemm")
_CLAMPS = {"relu": (0.0, math.inf), "relu6": (0.0, 6.0)}


def run(graph: Graph, setting: Setting) -> None:
    """Follow ranges from node to node, and take out activations that do nothing."""
    ranges: dict[Value, Range] = {}
    for node in list(graph.nodes):
        given = [_ANY if value is None else ranges.get(value, _ANY) for value in node.inputs]
        if _does_nothing(node, given) and node.output() not in graph.outputs:
            graph.replace(node.output(), node.input(0))
            graph.remove([node])
        else:
            outputs = node.outputs if node.type == "Split" else node.outputs[:1]
            found = _range(node, given)
            ranges |= {value: found for value in outputs if value is not None}


def _does_nothing(node: Node, given: Sequence[Range]) -> bool:
    text = None if node.domain else standalone_of(node)
    if text is None:
        return False
    kept = (0.0, math.inf) if text.startswith("leaky_relu:") else _clamp(text)
    return kept is not None and kept[0] <= given[0][0] and given[0][1] <= kept[1]


def _clamp(text: str) -> Range | None:
    """Return the bounds of an activation that is the identity between them, and ends there."""
    name, numbers = read_activation(text) or ("", ())
    return (numbers[0], numbers[1]) if name == "clip" else _CLAMPS.get(name)


def _range(node: Node, given: Sequence[Range]) -> Range:
    """Return the range of a node's result, for those of its inputs."""
    if node.domain not in ("", "hwkit"):
        return _ANY
    fused = node.type in _FUSED
    text = node.get("activation", None) if fused else standalone_of(node)
    if text is not None:
        return _clamp(text) or _ANY
    if node.type in _CHOICES or (node.type == "MaxPool" and all_meet(node)):
        return given[0]
    if node.type == "Concat":
        return min(low for low, _ in given), max(high for _, high in given)
    terms = given[:1] if node.type in _MEANS else given
    joined = node.type in _MEANS or node.type in ("Add", "Sum", "Mul")
    return (0.0, math.inf) if joined and all(low >= 0 for low, _ in terms) else _ANY
