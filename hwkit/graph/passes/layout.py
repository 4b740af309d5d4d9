"""Layout assignment: images lie with their channels last inside, as the caller has them outside.

Nodes that work on images take them so; what computes element by element follows; everything else,
and the caller, gets them back by a transposition where one is needed.
"""

from __future__ import annotations

import math

import numpy as np

from ...dtypes import is_float
from ..ir import Graph, Node, Value
from ..nodes.phases import in_phases, plain_weights
from ..nodes.tiles import fits
from ..nodetype import Setting
from .absorb import cancel_transposes

__all__ = ["run"]

_IMAGES = (
    "Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ChannelShuffle",
)  # fmt: skip
# One pass over memory either way, as a transposition is.
_EITHER = ("GlobalAveragePool", "GlobalMaxPool", "ChannelShuffle")
_FOLLOW = (
    "Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSwish", "Swish", "HardSigmoid", "Elu", "Selu",
    "Tanh", "Exp", "Sqrt", "Neg", "Abs", "Add", "Mul", "Sub", "Div", "Sum", "Max", "Min", "Mish",
    "Softplus", "Identity", "Dropout", "PRelu", "Erf", "Gelu",
)  # fmt: skip
_AXES = ("Concat", "Split", "LRN")
_BLOCKS = ("DepthToSpace", "SpaceToDepth")
_LAST = (0, 2, 3, 1)
_FIRST = (0, 3, 1, 2)


def run(graph: Graph, setting: Setting) -> None:
    """Rewrite the nodes in order; a value that has a twin with channels last is known by it."""
    twins: dict[Value, Value] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.type in _IMAGES and _is_image(node, twins):
            nodes += _image(node, twins)
        elif _is_tiles(node, twins):
            nodes.append(_tiles(node, twins))
        elif node.type == "ConvTranspose" and not node.domain and _is_phases(node):
            nodes += _phases(node, twins)
        elif _follows(node, twins):
            nodes += _follow(node, twins)
        else:
            nodes.append(node)
    graph.nodes = _ordered(_restored(nodes, graph, twins))
    cancel_transposes(graph)


def _is_image(node: Node, twins: dict[Value, Value]) -> bool:
    value = node.input(0)
    if node.type in _EITHER and value not in twins:
        return False
    single = all(v is None for v in node.outputs[1:])
    kind = is_float(value.kind) and len(value.sizes) == 4 and single
    return kind and (node.type != "Conv" or node.input(1).data is not None)


def _twin(value: Value) -> Value:
    n, c, h, w = value.sizes
    return Value(f"{value.name}:nhwc", (n, h, w, c), value.dtype)


def _last(value: Value, twins: dict[Value, Value], nodes: list[Node]) -> Value:
    """Return the twin of a value; made by a transposition if it has none yet."""
    if value not in twins:
        twins[value] = _twin(value)
        if value.data is not None:
            twins[value].data = np.ascontiguousarray(value.data.transpose(_LAST))
        else:
            nodes.append(_transpose(value, twins[value], _LAST))
    return twins[value]


def _transpose(source: Value, target: Value, order: tuple[int, ...]) -> Node:
    return Node("Transpose", [source], [target], {"perm": list(order)}, target.name, "", 13)


def _image(node: Node, twins: dict[Value, Value]) -> list[Node]:
    made: list[Node] = []
    inputs: list[Value | None] = [_last(node.input(0), twins, made)]
    if node.type == "Conv":
        weights = node.input(1)
        assert weights.data is not None
        data = np.ascontiguousarray(weights.data.transpose(_LAST))
        inputs += [Value.constant(f"{weights.name}:nhwc", data), *node.inputs[2:3]]
        if node.has(3):
            inputs = [*[*inputs, None][:3], _last(node.input(3), twins, made)]
    twin = _twin(node.output())
    twins[node.output()] = twin
    attributes = {**node.attributes, "layout": "nhwc"}
    node.inputs = []  # weights that nobody else takes go at once
    made_node = Node(node.type, inputs, [twin], attributes, node.name, node.domain, node.version)
    return [*made, made_node]


def _is_tiles(node: Node, twins: dict[Value, Value]) -> bool:
    if node.type != "ConvTranspose" or node.domain:
        return False
    value = node.input(0)
    return value in twins and value.data is None and is_float(value.kind) and fits(node)


def _tiles(node: Node, twins: dict[Value, Value]) -> Node:
    weights, twin = node.input(1), _twin(node.output())
    assert weights.data is not None
    data = np.ascontiguousarray(weights.data.transpose(_LAST))
    inputs = [twins[node.input(0)], Value.constant(f"{weights.name}:nhwc", data), *node.inputs[2:]]
    twins[node.output()] = twin
    node.inputs = []  # weights that nobody else takes go at once
    return Node("ConvTiles", inputs, [twin], {}, node.name, "hwkit", node.version)


def _is_phases(node: Node) -> bool:
    value = node.input(0)
    return value.data is None and is_float(value.kind) and in_phases(node) is not None


def _phases(node: Node, twins: dict[Value, Value]) -> list[Node]:
    attributes, weights, twin = in_phases(node), node.input(1), _twin(node.output())
    assert attributes is not None
    assert weights.data is not None
    made: list[Node] = []
    image = _last(node.input(0), twins, made)
    data = plain_weights(weights.data, attributes["group"])
    inputs = [image, Value.constant(f"{weights.name}:nhwc", data), *node.inputs[2:3]]
    twins[node.output()] = twin
    node.inputs = []  # weights that nobody else takes go at once
    return [*made, Node("ConvPhases", inputs, [twin], attributes, node.name, "hwkit", node.version)]


def _follows(node: Node, twins: dict[Value, Value]) -> bool:
    """Whether a node computes the same on twins, and has one to begin with."""
    values = [v for v in node.inputs if v is not None]
    images = [v for v in values if v in twins and v.data is None]
    outputs = [v for v in node.outputs if v is not None]
    if not images or any(len(v.sizes) != 4 for v in outputs) or node.version < 7:
        return False
    if node.type in _FOLLOW:
        if node.type in ("Clip", "Dropout"):
            return len(outputs) == 1
        # The others must be images as well, the same for every place, or small.
        others = [v for v in values if v not in images]
        return all(_spread(v) if v.data is not None else _small(v, outputs[0]) for v in others)
    if node.type in ("Resize", "Upsample"):
        return _scales(node)
    if node.type in _BLOCKS:
        return is_float(values[0].kind)
    if node.type == "Pad":
        return node.version >= 11 and not node.has(3) and node.input(1).data is not None
    if node.type not in _AXES:
        return False
    static = values[1:] if node.type == "Split" else []
    return all(v in twins for v in values if v not in static)


def _spread(value: Value) -> bool:
    return math.prod(value.sizes) == 1 or len(value.sizes) <= 4


def _small(value: Value, result: Value) -> bool:
    """Whether a value is soon transposed beside the work that is to be done with it."""
    few = math.prod(value.sizes) * 8 <= math.prod(result.sizes)
    return len(value.sizes) == 4 and few and is_float(value.kind)


def _scales(node: Node) -> bool:
    """Resizing whose parameters name all four axes, with no axes attribute to translate."""
    known = [node.inputs[i] for i in range(1, len(node.inputs)) if node.has(i)]
    plain = all(v is not None and v.data is not None and v.data.size in (0, 4) for v in known)
    return plain and node.get("axes", None) is None


def _follow(node: Node, twins: dict[Value, Value]) -> list[Node]:
    attributes = dict(node.attributes)
    made: list[Node] = []
    inputs: list[Value | None] = []
    parameters = node.type in ("Clip", "Split", "Dropout", "Resize", "Upsample", "Pad")
    for index, value in enumerate(node.inputs):
        if value is None or (parameters and index > 0):
            inputs.append(_permuted(node, value))
        elif value.data is None:
            inputs.append(_last(value, twins, made))
        else:
            inputs.append(twins[value] if value in twins else _constant(node, value))
    if node.type == "Upsample" and len(attributes.get("scales") or ()) == 4:
        attributes["scales"] = [attributes["scales"][axis] for axis in _LAST]
    if node.type in _BLOCKS:
        attributes["layout"] = "nhwc"
    if node.type in _AXES:
        axis = int(attributes.get("axis", 1 if node.type in ("Concat", "LRN") else 0)) % 4
        # Axis 1 of the image is the last of its twin.
        attributes["axis"] = 3 if node.type == "LRN" else (0, 3, 1, 2)[axis]
    outputs: list[Value | None] = []
    for value in node.outputs:
        if value is not None:
            twins[value] = _twin(value)
        outputs.append(None if value is None else twins[value])
    return [*made, Node(node.type, inputs, outputs, attributes, node.name, "", node.version)]


def _permuted(node: Node, value: Value | None) -> Value | None:
    """Return scales, sizes or pads in the order of the twin's axes."""
    if value is None or node.type not in ("Resize", "Upsample", "Pad") or value.data is None:
        return value
    if node.type == "Pad" and value.data.size == 8:
        pads = value.data.reshape(2, 4)[:, list(_LAST)].reshape(-1)
        return Value.constant(f"{value.name}:nhwc", np.ascontiguousarray(pads))
    if value.data.size != 4:
        return value
    return Value.constant(f"{value.name}:nhwc", value.data[list(_LAST)])


def _constant(node: Node, value: Value) -> Value:
    assert value.data is not None
    data = value.data
    if node.type == "PRelu" and data.ndim == 1 and data.size > 1:
        data = data.reshape(-1, 1, 1)
    if data.size == 1:
        return Value.constant(f"{value.name}:nhwc", data.reshape((1,) * 4))
    data = data.reshape((1,) * (4 - data.ndim) + data.shape)
    return Value.constant(f"{value.name}:nhwc", np.ascontiguousarray(data.transpose(_LAST)))


def _restored(nodes: list[Node], graph: Graph, twins: dict[Value, Value]) -> list[Node]:
    """Add a transposition for every value that is still asked for in its first form."""
    made = {id(v) for node in nodes for v in node.outputs if v is not None}
    wanted = {id(v) for node in nodes for v in node.inputs if v is not None}
    wanted |= {id(v) for v in graph.outputs}
    back = [
        _transpose(twin, value, _FIRST)
        for value, twin in twins.items()
        if id(value) in wanted and id(value) not in made and value.data is None
        and value not in graph.inputs
    ]  # fmt: skip
    return nodes + back


def _ordered(nodes: list[Node]) -> list[Node]:
    """Return the nodes so that each comes after what it needs, otherwise in their order."""
    makers = {id(v): n for n in nodes for v in n.outputs if v is not None}
    done: set[int] = set()
    found: list[Node] = []
    for node in nodes:
        stack = [node]
        while stack:
            top = stack[-1]
            needs = [makers.get(id(v)) for v in top.inputs if v is not None]
            missing = [n for n in needs if n is not None and id(n) not in done]
            if missing:
                stack += missing[:1]
                continue
            stack.pop()
            if id(top) not in done:
                done.add(id(top))
                found.append(top)
    return found
