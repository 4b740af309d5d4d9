"""Absorption: padding that a convolution or pool can do, and transpositions that cancel or that a
product can do."""

from __future__ import annotations

from ...dtypes import is_float
from ..ir import Graph, Node
from ..nodetype import Setting

__all__ = ["cancel_transposes", "run"]

_PADDED = ("Conv", "MaxPool", "AveragePool")


def run(graph: Graph, setting: Setting) -> None:
    """Absorb pads and transpositions."""
    _pads(graph)
    cancel_transposes(graph)
    _products(graph)


def _pads(graph: Graph) -> None:
    makers, users = graph.makers(), graph.users()
    for node in graph.nodes:
        pad = makers.get(node.inputs[0]) if node.inputs and node.inputs[0] else None
        if node.type not in _PADDED or pad is None or pad.type != "Pad":
            continue
        alone = graph.only_user(pad.output(), users) is node
        if alone and _takes(node, pad) and (amounts := _amounts(node, pad)) is not None:
            rank = len(amounts) // 2
            # VALID means no padding, whatever is said beside it.
            valid = node.attributes.pop("auto_pad", "") == "VALID"
            old = [0] * 2 * rank if valid else node.get("pads", None) or [0] * 2 * rank
            node.attributes["pads"] = [a + b for a, b in zip(old, amounts, strict=True)]
            if node.type == "AveragePool":
                node.attributes["count_include_pad"] = 1
            node.inputs[0] = pad.input(0)
    dead = [n for n in graph.nodes if n.type == "Pad" and n.output() not in graph.users()]
    graph.remove(n for n in dead if n.output() not in graph.outputs)


def _takes(node: Node, pad: Node) -> bool:
    """Whether padding by zeros means the same to the node."""
    fill = pad.known(2) if pad.has(2) else None
    value = float(pad.get("value", 0.0)) if fill is None else float(fill.reshape(-1)[0])
    plain = pad.get("mode", "constant") == "constant" and not node.get("ceil_mode", 0)
    if not plain or node.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID", ""):
        return False
    if node.type == "MaxPool":
        return value == float("-inf") and len(node.outputs) == 1
    own = any(node.get("pads", None) or [])
    return value == 0.0 and (
        node.type == "Conv" or not own or bool(node.get("count_include_pad", 0))
    )


def _amounts(node: Node, pad: Node) -> list[int] | None:
    """Return the padding of the spatial axes, or ``None`` if it touches others or cuts."""
    before = pad.input(0).sizes
    given = pad.known(1) if pad.has(1) else None
    pads = list(pad.get("pads", [])) if given is None else [int(p) for p in given.reshape(-1)]
    if pad.has(3) or len(pads) != 2 * len(before):
        return None
    rank = len(before)
    edges = [*pads[:2], *pads[rank : rank + 2]]
    if any(edges) or min(pads) < 0:
        return None
    return [*pads[2:rank], *pads[rank + 2 :]]


def cancel_transposes(graph: Graph) -> None:
    """Join transpositions of transpositions; one that undoes the other takes both away."""
    makers = graph.makers()
    for node in list(graph.nodes):
        if node.type != "Transpose":
            continue
        first = makers.get(node.input(0))
        if first is None or first.type != "Transpose":
            continue
        inner, outer = _order(first), _order(node)
        joined = [inner[axis] for axis in outer]
        node.inputs[0] = first.input(0)
        node.attributes["perm"] = joined
        if joined == sorted(joined) and node.output() not in graph.outputs:
            graph.replace(node.output(), first.input(0))
            graph.remove([node])


def _order(node: Node) -> list[int]:
    rank = len(node.input(0).sizes)
    return list(node.get("perm", range(rank)[::-1]))


def _products(graph: Graph) -> None:
    """Let Gemm read transposed matrices as they lie, and MatMul become such a Gemm."""
    makers = graph.makers()
    for node in graph.nodes:
        if node.type not in ("Gemm", "MatMul") or len(node.input(1).sizes) != 2:
            continue
        if len(node.input(0).sizes) != 2 or not is_float(node.input(0).kind):
            continue
        for index, flag in ((0, "transA"), (1, "transB")):
            source = makers.get(node.input(index))
            if source is not None and source.type == "Transpose" and _order(source) == [1, 0]:
                node.type = "Gemm"
                node.attributes[flag] = 1 - int(node.get(flag, 0))
                node.inputs[index] = source.input(0)
