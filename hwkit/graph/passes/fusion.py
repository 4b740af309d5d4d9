"""Fusion: bias, residual and activation behind a convolution or product become its epilogue.

A transposed convolution has one only in the forms that the layout pass gives it, so that its
activation is fused after that, by a pass of its own. In the tail of a network only activations are
fused: for the rest shapes must be known.
"""

from __future__ import annotations

from ...dtypes import is_float
from ..activations import activation_of
from ..ir import Graph, Node, Value
from ..nodetype import Setting
from .weights import channels_of

__all__ = ["Makers", "Users", "run", "run_transposed", "takes_activation"]

_TRANSPOSED = ("ConvPhases", "ConvTiles")
_FUSABLE = ("Conv", "Gemm", *_TRANSPOSED)


def run(graph: Graph, setting: Setting) -> None:
    """Fuse: biases first, then sums of two images, then activations."""
    for fuse in (_bias, _residual, _activation):
        while _one(graph, fuse):
            pass


def run_transposed(graph: Graph, setting: Setting) -> None:
    """Fuse activations behind transposed convolutions."""
    makers, users = graph.makers(), graph.users()
    for node in list(graph.nodes):
        maker = makers.get(node.inputs[0]) if node.inputs and node.inputs[0] else None
        if maker is not None and maker.type in _TRANSPOSED:
            _activation(graph, node, makers, users)


def _one(graph: Graph, fuse: object) -> bool:
    makers, users = graph.makers(), graph.users()
    return any(fuse(graph, node, makers, users) for node in list(graph.nodes))  # type: ignore[operator]


Makers = dict[Value, Node]
Users = dict[Value, list[Node]]


def _source(graph: Graph, node: Node, value: Value, makers: Makers, users: Users) -> Node | None:
    """Return the convolution or product that makes a value for this node alone."""
    maker = makers.get(value)
    if maker is None or maker.type not in _FUSABLE or maker.get("activation", None) is not None:
        return None
    # Of an image in the tail nothing is known; weights are of its type and rank.
    if channels_of(maker) is None:
        return None
    if maker.type == "Conv" and len(maker.input(1).sizes) not in (3, 4):
        return None
    return maker if graph.only_user(value, users) is node else None


def _bias(graph: Graph, node: Node, makers: Makers, users: Users) -> bool:
    """A row of constants behind a MatMul makes it a Gemm."""
    if node.type != "Add" or len(node.inputs) != 2:
        return False
    left, right = node.input(0), node.input(1)
    if left.data is not None:
        left, right = right, left
    maker = makers.get(left)
    if maker is None or maker.type != "MatMul" or right.data is None or left.shape is None:
        return False
    shapes = [v.sizes for v in maker.inputs if v is not None]
    plain = [len(s) for s in shapes] == [2, 2] and is_float(left.kind)
    if not plain or graph.only_user(left, users) is not node:
        return False
    if node.output().sizes != left.sizes or right.data.size not in (1, left.sizes[1]):
        return False
    if right.data.size > 1 and right.sizes[-1] != left.sizes[1]:
        return False
    maker.type = "Gemm"
    maker.inputs = [*maker.inputs[:2], right]
    maker.outputs[0] = node.output()
    graph.remove([node])
    return True


def _residual(graph: Graph, node: Node, makers: Makers, users: Users) -> bool:
    """Add the other image in the epilogue of the convolution that comes last."""
    if node.type not in ("Add", "Sum") or len(node.inputs) != 2:
        return False
    values = [node.input(0), node.input(1)]
    unknown = values[0].shape is None or values[1].shape is None
    if unknown or values[0].sizes != values[1].sizes or values[0] is values[1]:
        return False
    order = {id(n): i for i, n in enumerate(graph.nodes)}
    found = []
    for value, other in (values, values[::-1]):
        maker = _source(graph, node, value, makers, users)
        if maker is None or maker.type != "Conv" or maker.has(3) or other.data is not None:
            continue
        before = makers.get(other)
        # The other image must be there when the convolution runs.
        if before is None or order[id(before)] < order[id(maker)]:
            found.append((order[id(maker)], maker, other))
    if not found:
        return False
    _, maker, other = max(found, key=lambda item: item[0])
    maker.inputs = [*[*maker.inputs, None, None][:3], other]
    maker.outputs[0] = node.output()
    graph.remove([node])
    return True


def _activation(graph: Graph, node: Node, makers: Makers, users: Users) -> bool:
    text = activation_of(node)
    if text is None:
        return False
    if not takes_activation(graph, node, node.input(0), makers, users):
        return False
    maker = makers[node.input(0)]
    maker.attributes["activation"] = text
    maker.outputs[0] = node.output()
    graph.remove([node])
    return True


def takes_activation(graph: Graph, node: Node, value: Value, makers: Makers, users: Users) -> bool:
    """Whether the epilogue of what makes a value for ``node`` alone can take an activation."""
    maker = _source(graph, node, value, makers, users)
    return maker is not None and _takes(maker)


def _takes(maker: Node) -> bool:
    """Whether the epilogue is the last thing that the node computes."""
    if maker.type != "Gemm" or not maker.has(2):
        return True
    c = maker.input(2)
    n = channels_of(maker)
    return c.data is not None and (c.data.size == 1 or c.sizes[-1] == n == c.data.size)
