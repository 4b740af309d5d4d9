"""From an ONNX file to a Graph: everything is checked, nothing in the file is trusted."""

from __future__ import annotations

import math
import os
import warnings
from collections import ChainMap
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ArgumentError, HwkitWarning, NoKernel, Unavailable
from ..registry import registry
from .functions import inlined
from .ir import Branch, Graph, Node, Stamp, Value, one_line, printable
from .message import read_bytes, read_file
from .nodetype import NodeType
from .tensors import array_of, numpy_type
from .wire import Cut, cut_file, without_arrays
from .wiring import Names, connect, define, in_order, node_of, text_of

__all__ = ["default_limit", "node_type", "read", "stamp"]

# Of the operators of ONNX; what a later one says of a node is not known.
_LAST_OPSET = 28
_MOST_SIZE = 2**40
_MOST_SHOWN = 20


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
    if _has_functions(proto):
        proto = inlined(proto, name, limit)
    folder = None if parsed.path is None else parsed.path.parent
    opsets = {entry.domain: int(entry.version) for entry in proto.opset_import}
    opsets.setdefault("", opsets.get("ai.onnx", 1))
    _check_opset(opsets[""], name)
    graph = proto.graph
    if len(graph.sparse_initializer):
        raise ArgumentError(f"model {name} has sparse constants: convert them to dense ones")
    values: Names = ChainMap()
    budget = limit
    for index, tensor in enumerate(graph.initializer):
        data = array_of(tensor, folder, budget, parsed.cut.get(index))
        budget -= data.nbytes
        define(values, Value.constant(text_of(tensor.name), data))
    inputs = []
    for info in graph.input:
        known = values.get(text_of(info.name))
        if known is not None and known.data is not None:
            continue  # old models list constants as inputs too
        inputs.append(define(values, _input(info)))
    made = [node_of(n, i, opsets, folder, budget) for i, n in enumerate(graph.node)]
    _check_supported(made, name)
    nodes = connect(made, graph.node, values)
    outputs = []
    for info in graph.output:
        label = text_of(info.name)
        if label not in values:
            raise ArgumentError(f"output {label!r} of the model is made by no node")
        outputs.append(values[label])
    if not outputs:
        raise ArgumentError(f"model {name} has no outputs: it is empty or damaged")
    label = text_of(graph.name) or name
    return Graph(in_order(nodes), inputs, outputs, label, _files(parsed))


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


def _has_functions(proto: Any) -> bool:
    return len(getattr(proto, "functions", ())) > 0


def _check_opset(version: int, name: str) -> None:
    if version < 1:
        raise ArgumentError(
            f"model {name} is of opset {version}, but they begin with 1: export it again"
        )
    if version > _LAST_OPSET:
        warnings.warn(
            f"model {name} is of opset {version}, and hwkit knows those up to {_LAST_OPSET}: if "
            f"its answers are not what you expect, export it with opset {_LAST_OPSET}",
            HwkitWarning,
            stacklevel=4,
        )


def _parse(model: Any) -> _Parsed:
    if hasattr(model, "graph") and hasattr(model, "opset_import"):
        return _Parsed(model, repr(model.graph.name), None, {})
    raw = isinstance(model, (bytes, bytearray))
    if not raw and not isinstance(model, (str, os.PathLike)):
        raise ArgumentError(
            f"a model is the path of an ONNX file, its bytes or a ModelProto, not {model!r:.60}"
        )
    path = None if raw else Path(model)
    if "\0" in str(path):  # open refuses it with a ValueError
        raise ArgumentError(f"a model's path has no null characters, as {str(path)!r:.60} has")
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


def _input(info: Any) -> Value:
    name = text_of(info.name)
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


def _with_branches(nodes: list[Node]) -> list[Node]:
    """Return nodes, and those in their branches."""
    found = []
    for node in nodes:
        found.append(node)
        for branch in node.attributes.values():
            if isinstance(branch, Branch):
                found += _with_branches(branch.nodes)
    return found


def node_type(node: Node) -> NodeType | None:
    """Return how a node runs, or ``None``."""
    return registry().node_types().get((node.domain, node.type))


def _check_supported(nodes: list[Node], name: str) -> None:
    missing = [node for node in _with_branches(nodes) if node_type(node) is None]
    if not missing:
        return
    shown = "; ".join(f"{n}{_attributes(n)}" for n in missing[:_MOST_SHOWN])
    rest = missing[_MOST_SHOWN:]
    types = ", ".join(dict.fromkeys(printable(n.type) for n in rest))
    more = f"; and {len(rest)} more ({types})" if rest else ""
    number = "1 node" if len(missing) == 1 else f"{len(missing)} nodes"
    raise NoKernel(
        f"model {name} has {number} that hwkit cannot run: {shown}{more}; a plugin adds a node "
        "type by the hook hwkit_nodes, see docs/networks.md"
    )


def _attributes(node: Node) -> str:
    parts = []
    for name, value in node.attributes.items():
        text = repr(value) if isinstance(value, (int, float, str, list)) else "..."
        parts.append(f"{printable(name)}={text[:40]}")
    kind = f" of {printable(node.domain)}" if node.domain else ""
    return f"{kind} {' '.join(parts)}".rstrip()
