"""From an ONNX file to a Graph: everything is checked, nothing in the file is trusted."""

from __future__ import annotations

import math
import os
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ArgumentError, NoKernel, Unavailable
from ..registry import registry
from .ir import Graph, Node, Stamp, Value, one_line, printable
from .message import read_bytes, read_file
from .nodetype import NodeType
from .tensors import array_of, numpy_type
from .wire import Cut, cut_file, without_arrays

__all__ = ["default_limit", "node_type", "read", "stamp"]

_MOST_SIZE = 2**40
_MOST_SHOWN = 20

# What an attribute is, by ``AttributeProto.AttributeType``, and the field that has its value.
_STRING, _TENSOR, _STRINGS = 3, 4, 8
_NUMBERS, _LISTS = {1: "f", 2: "i"}, {6: "floats", 7: "ints"}


def default_limit() -> int:
    """Return the bytes that a model may have by default: half of the machine's memory."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (ValueError, OSError, AttributeError):
        return 1 << 32


def read(model: Any, limit: int) -> Graph:
    """Return the Graph of a model.

    Args:
        model: path, bytes, or a ``ModelProto``.
        limit: most bytes of one array, and of all constants.

    Raises:
        ArgumentError: the model is damaged, contradicts itself, or is too large.
        NoKernel: node types are not supported; all of them are listed.
        Unavailable: the model is unusual, and the package ``onnx`` is missing.
    """
    parsed = _parse(model)
    proto, name = parsed.proto, parsed.name
    folder = None if parsed.path is None else parsed.path.parent
    opsets = {entry.domain: int(entry.version) for entry in proto.opset_import}
    opsets.setdefault("", opsets.get("ai.onnx", 1))
    graph = proto.graph
    if len(graph.sparse_initializer):
        raise ArgumentError(f"model {name} has sparse constants: convert them to dense ones")
    values: dict[str, Value] = {}
    budget = limit
    for index, tensor in enumerate(graph.initializer):
        data = array_of(tensor, folder, budget, parsed.cut.get(index))
        budget -= data.nbytes
        _define(values, Value.constant(_text(tensor.name), data))
    inputs = []
    for info in graph.input:
        known = values.get(_text(info.name))
        if known is not None and known.data is not None:
            continue  # old models list constants as inputs too
        inputs.append(_define(values, _input(info)))
    made = [_node(n, i, opsets, folder, budget) for i, n in enumerate(graph.node)]
    _check_supported(made, name)
    nodes = _connect(made, graph.node, values)
    outputs = []
    for info in graph.output:
        label = _text(info.name)
        if label not in values:
            raise ArgumentError(f"output {label!r} of the model is made by no node")
        outputs.append(values[label])
    if not outputs:
        raise ArgumentError(f"model {name} has no outputs: it is empty or damaged")
    label = _text(graph.name) or name
    return Graph(_sorted(nodes), inputs, outputs, label, _files(parsed))


class _Parsed(NamedTuple):
    """A model as a message.

    Attributes:
        proto: the message, without its large constants.
        name: for people.
        path: the file; ``None`` if it came from memory.
        cut: the large constants by position.
    """

    proto: Any
    name: str
    path: Path | None
    cut: dict[int, Cut]


def _parse(model: Any) -> _Parsed:
    if hasattr(model, "graph") and hasattr(model, "opset_import"):
        return _Parsed(model, repr(model.graph.name), None, {})
    raw = isinstance(model, (bytes, bytearray))
    if not raw and not isinstance(model, (str, os.PathLike)):
        raise ArgumentError(
            f"a model is the path of an ONNX file, its bytes or a ModelProto, not {model!r:.60}"
        )
    path = None if raw else Path(model)
    name = "in memory" if path is None else repr(path.name)
    try:
        proto, cut = read_bytes(bytes(model)) if path is None else read_file(path)
        if proto is None:
            proto, cut = _by_protobuf(bytes(model) if path is None else path, name)
    except OSError as error:
        raise ArgumentError(
            f"model {str(path)!r} cannot be read ({error.strerror}): give the path of an ONNX file"
        ) from None
    if not proto.HasField("graph"):
        raise ArgumentError(f"model {name} has no graph: it is not an ONNX file, or truncated")
    if len(proto.graph.initializer) <= max(cut, default=-1):
        raise ArgumentError(f"model {name} is damaged: its constants cannot be counted")
    return _Parsed(proto, name, path, cut)


def _by_protobuf(model: bytes | Path, name: str) -> tuple[Any, dict[int, Cut]]:
    """Read what is unusual, or damaged."""
    try:
        import onnx
    except ImportError:
        raise Unavailable(
            f"model {name} is damaged, or needs the package onnx: pip install 'hwkit[onnx]'"
        ) from None
    message, cut = without_arrays(model) if isinstance(model, bytes) else cut_file(model)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(message)
    except Exception as error:  # of google.protobuf, whose classes change from version to version
        raise ArgumentError(
            f"model {name} is not an ONNX file, or it is truncated ({one_line(error)})"
        ) from None
    return proto, cut


def stamp(path: Path) -> Stamp:
    """Return what tells whether a file has changed."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _files(parsed: _Parsed) -> dict[Path, Stamp]:
    """Return the files of a model with their stamps; nothing if it came from memory."""
    if parsed.path is None:
        return {}
    places = [e.value for t in parsed.proto.graph.initializer for e in t.external_data
              if e.key == "location"]  # fmt: skip
    paths = dict.fromkeys([parsed.path, *(parsed.path.parent / place for place in places)])
    return {path.absolute(): stamp(path) for path in paths}


def _text(name: Any) -> str:
    """Return a name; protobuf gives bytes for what is no text."""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _define(values: dict[str, Value], value: Value) -> Value:
    if value.name in values:
        raise ArgumentError(f"the name {value.name!r} is defined twice: the model is damaged")
    values[value.name] = value
    return value


def _input(info: Any) -> Value:
    name = _text(info.name)
    if not info.type.HasField("tensor_type"):
        raise ArgumentError(f"input {name!r} is not a tensor, which hwkit needs")
    tensor = info.type.tensor_type
    dtype = numpy_type(tensor.elem_type, f"input {name!r}")
    if not tensor.HasField("shape"):
        return Value(name, None, dtype)
    shape: list[Any] = []
    for dim in tensor.shape.dim:
        known = dim.HasField("dim_value") and not dim.dim_param
        shape.append(int(dim.dim_value) if known else dim.dim_param or None)
    fixed = [size for size in shape if isinstance(size, int)]
    if min(fixed, default=0) < 0 or math.prod(fixed) > _MOST_SIZE or len(shape) > 64:
        raise ArgumentError(f"input {name!r} has the absurd shape {shape[:8]}")
    return Value(name, tuple(shape), dtype)


def _node(proto: Any, index: int, opsets: dict[str, int], folder: Path | None, limit: int) -> Node:
    domain = "" if proto.domain == "ai.onnx" else _text(proto.domain)
    name = _text(proto.name or next((o for o in proto.output if o), "") or f"node {index}")
    attributes = {}
    for attribute in proto.attribute:
        key = _text(attribute.name)
        if key in attributes:
            raise ArgumentError(f"node {name!r} has the attribute {key!r} twice")
        attributes[key] = _attribute(attribute, name, folder, limit)
    return Node(_text(proto.op_type), [], [], attributes, name, domain, opsets.get(domain, 1))


def _attribute(attribute: Any, name: str, folder: Path | None, limit: int) -> Any:
    if attribute.ref_attr_name:
        raise ArgumentError(
            f"node {name!r} takes {_text(attribute.name)!r} from a function, but is in none: "
            "the model is damaged"
        )
    kind = attribute.type
    if kind == _TENSOR:
        return array_of(attribute.t, folder, limit)
    if kind == _STRING:
        return attribute.s.decode("utf-8", "replace")
    if kind == _STRINGS:
        return [text.decode("utf-8", "replace") for text in attribute.strings]
    if kind in _NUMBERS:
        return getattr(attribute, _NUMBERS[kind])
    if kind in _LISTS:
        return list(getattr(attribute, _LISTS[kind]))
    return attribute  # graphs and the like, which no node type of hwkit's own takes


def node_type(node: Node) -> NodeType | None:
    """Return how a node runs, or ``None``."""
    return registry().node_types().get((node.domain, node.type))


def _check_supported(nodes: list[Node], name: str) -> None:
    missing = [node for node in nodes if node_type(node) is None]
    if not missing:
        return
    shown = "; ".join(f"{n}{_attributes(n)}" for n in missing[:_MOST_SHOWN])
    more = f"; and {len(missing) - _MOST_SHOWN} more" if len(missing) > _MOST_SHOWN else ""
    raise NoKernel(
        f"model {name} has {len(missing)} nodes that hwkit cannot run: {shown}{more}; a plugin "
        "adds a node type by the hook hwkit_nodes, see plugins/README.md"
    )


def _attributes(node: Node) -> str:
    parts = []
    for name, value in node.attributes.items():
        text = repr(value) if isinstance(value, (int, float, str, list)) else "..."
        parts.append(f"{printable(name)}={text[:40]}")
    kind = f" of {printable(node.domain)}" if node.domain else ""
    return f"{kind} {' '.join(parts)}".rstrip()


def _connect(nodes: list[Node], protos: Any, values: dict[str, Value]) -> list[Node]:
    for node, proto in zip(nodes, protos, strict=True):
        node.outputs = [_define(values, Value(_text(o))) if o else None for o in proto.output]
    for node, proto in zip(nodes, protos, strict=True):
        given = [_text(i) for i in proto.input]
        unknown = next((i for i in given if i and i not in values), None)
        if unknown is not None:
            raise ArgumentError(f"node {node} takes {unknown!r}, which nothing makes")
        node.inputs = [values[i] if i else None for i in given]
    return nodes


def _sorted(nodes: list[Node]) -> list[Node]:
    """Return nodes in an order in which they can run; that of the file if it is one."""
    makers = {id(v): i for i, n in enumerate(nodes) for v in n.outputs if v is not None}
    needs = {
        i: {makers[id(v)] for v in n.inputs if v is not None and id(v) in makers}
        for i, n in enumerate(nodes)
    }
    if all(other < i for i, others in needs.items() for other in others):
        return nodes
    try:
        return [nodes[i] for i in TopologicalSorter(needs).static_order()]
    except CycleError as error:
        circle = " needs ".join(str(nodes[i]) for i in error.args[1][:4])
        raise ArgumentError(f"the model has a cycle: {circle}") from None
