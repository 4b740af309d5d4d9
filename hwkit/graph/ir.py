"""Graph, Node and Value: a network as data, small enough to be rewritten by passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError

__all__ = [
    "Array",
    "Branch",
    "Graph",
    "Node",
    "Stamp",
    "Tail",
    "Value",
    "check_bytes",
    "one_line",
    "printable",
]

Array = np.ndarray[Any, Any]

Stamp = tuple[int, int]
"""Time of the last change in nanoseconds, and size in bytes, of a file."""


@dataclass(eq=False)
class Value:
    """One array between nodes.

    Attributes:
        name: as in the model; values that passes add have names of their own.
        shape: sizes, ``None`` while unknown; a size that may vary is ``None`` or its name.
        dtype: numpy dtype, ``None`` while unknown.
        data: the array itself if it is known before the first run.
    """

    name: str
    shape: tuple[Any, ...] | None = None
    dtype: np.dtype[Any] | None = None
    data: Array | None = None

    @classmethod
    def constant(cls, name: str, data: Array) -> Value:
        """Return a Value that is known."""
        return cls(name, data.shape, data.dtype, data)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape, which must be known."""
        assert self.shape is not None
        return self.shape

    @property
    def kind(self) -> np.dtype[Any]:
        """The dtype, which must be known."""
        assert self.dtype is not None
        return self.dtype

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.sizes) * self.kind.itemsize


@dataclass(eq=False)
class Node:
    """One operator of a network.

    Attributes:
        type: its ONNX operator type, as ``"Conv"``.
        inputs: what goes in; ``None`` where an optional input is left out.
        outputs: what comes out; ``None`` where nobody asks for it.
        attributes: ONNX attributes as Python values, and what passes add.
        name: as in the model, or made up.
        domain: ``""`` for ONNX's own operators.
        version: operator set that the model is written for.
    """

    type: str
    inputs: list[Value | None]
    outputs: list[Value | None]
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    domain: str = ""
    version: int = 0

    def input(self, index: int) -> Value:
        """Return an input that must be there.

        Raises:
            ArgumentError: it is left out.
        """
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            raise ArgumentError(f"node {self} lacks its input {index}: export the model again")
        return value

    def output(self, index: int = 0) -> Value:
        """Return an output that must be there."""
        value = self.outputs[index] if index < len(self.outputs) else None
        if value is None:
            raise ArgumentError(f"node {self} lacks its output {index}: export the model again")
        return value

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def known(self, index: int) -> Array | None:
        """Return the value of an optional input, ``None`` if it is left out.

        Raises:
            ArgumentError: it is given, but not known before the run.
        """
        if not self.has(index):
            return None
        value = self.input(index)
        if value.data is None:
            raise ArgumentError(
                f"node {self} takes its input {index} ({value.name!r}) from data, which hwkit "
                "supports for constants and shapes only: export the model with fixed shapes"
            )
        return value.data

    def get(self, name: str, default: Any) -> Any:
        """Return an attribute."""
        return self.attributes.get(name, default)

    def __str__(self) -> str:
        return f"{self.name[:100]!r} ({printable(self.type)})"


@dataclass(eq=False)
class Branch:
    """A graph in an attribute of a node, as those of If; what it takes from outside it names.

    Attributes:
        nodes: every node after those it needs.
        outputs: what it gives to the node.
        constants: its own.
    """

    nodes: list[Node]
    outputs: list[Value]
    constants: list[Value] = field(default_factory=list)

    def taken(self) -> list[Value]:
        """Return the values it takes from outside that are not known."""
        own = {v for node in self.nodes for v in node.outputs}
        asked = [v for node in self.nodes for v in node.inputs] + list(self.outputs)
        found = (v for v in asked if v is not None and v not in own and v.data is None)
        return list(dict.fromkeys(found))


@dataclass(eq=False)
class Tail:
    """What runs after all other nodes, because its shapes depend on their data.

    Attributes:
        nodes: every node after those it needs; their outputs have no shapes.
        outputs: what a call returns.
    """

    nodes: list[Node]
    outputs: list[Value]

    def rewrite(self, run: Callable[[Graph, Any], None], setting: Any) -> None:
        """Run a pass on the nodes; values that a run makes have neither shape nor dtype."""
        graph = Graph(self.nodes, [], self.outputs)
        run(graph, setting)
        self.nodes, self.outputs = graph.nodes, graph.outputs


@dataclass(eq=False)
class Graph:
    """Nodes in an order in which they can run.

    Attributes:
        nodes: every node after those it needs.
        inputs: what a call gives.
        outputs: what a call returns, or what the tail takes.
        name: of the model, for people.
        files: paths it was read from, and what they looked like then; none if it came from memory.
        tail: what runs afterwards; only passes that need no shape change it.
    """

    nodes: list[Node]
    inputs: list[Value]
    outputs: list[Value]
    name: str = ""
    files: dict[Path, Stamp] = field(default_factory=dict)
    tail: Tail | None = None

    def users(self) -> dict[Value, list[Node]]:
        """Return the nodes that take each value, once for each time; outputs have none here."""
        found: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in node.inputs:
                if value is not None:
                    found.setdefault(value, []).append(node)
        return found

    def makers(self) -> dict[Value, Node]:
        """Return the node that makes each value."""
        return {v: node for node in self.nodes for v in node.outputs if v is not None}

    def only_user(self, value: Value, users: dict[Value, list[Node]]) -> Node | None:
        """Return the one node that takes a value which nothing else needs."""
        takers = users.get(value, [])
        return takers[0] if len(takers) == 1 and value not in self.outputs else None

    def remove(self, nodes: Iterable[Node]) -> None:
        """Take nodes out."""
        gone = set(map(id, nodes))
        self.nodes = [node for node in self.nodes if id(node) not in gone]

    def replace(self, old: Value, new: Value) -> None:
        """Let every node that takes ``old`` take ``new``; outputs stay as they are."""
        for node in self.nodes:
            node.inputs = [new if value is old else value for value in node.inputs]

    def fault(self) -> str | None:
        """Return why the nodes cannot run in their order, or ``None`` if they can."""
        there = set(self.inputs)
        for node in self.nodes:
            for value in node.inputs:
                if value is not None and value.data is None and value not in there:
                    return f"node {node} takes {value.name!r}, which no node before it makes"
            there.update(value for value in node.outputs if value is not None)
        missing = [v.name for v in self.outputs if v.data is None and v not in there]
        return f"nothing makes the output {missing[0]!r}" if missing else None

    def clone(self) -> Graph:
        """Return a copy that passes may change; the data of constants are shared."""
        twins: dict[int, Value] = {}

        def twin(value: Value) -> Value:
            if id(value) not in twins:
                twins[id(value)] = Value(value.name, value.shape, value.dtype, value.data)
            return twins[id(value)]

        def copy(n: Node) -> Node:
            attributes = {
                name: Branch([*map(copy, a.nodes)], [*map(twin, a.outputs)])
                if isinstance(a, Branch)
                else a
                for name, a in n.attributes.items()
            }
            inputs = [None if v is None else twin(v) for v in n.inputs]
            outputs = [None if v is None else twin(v) for v in n.outputs]
            return Node(n.type, inputs, outputs, attributes, n.name, n.domain, n.version)

        nodes = [*map(copy, self.nodes)]
        ends = [*map(twin, self.inputs)], [*map(twin, self.outputs)]
        return Graph(nodes, *ends, self.name, dict(self.files))


def check_bytes(shape: Iterable[int], itemsize: int, limit: int, what: str) -> None:
    """Check that an array may be allocated.

    Raises:
        ArgumentError: a size is negative, or it needs more than ``limit`` bytes.
    """
    sizes = tuple(int(size) for size in shape)
    need = math.prod(sizes) * itemsize
    if min(sizes, default=0) < 0 or need > limit:
        raise ArgumentError(
            f"{what} has the shape {_short(sizes)}, which is negative or needs more than the "
            f"{limit} bytes allowed: give memory= more bytes if the model can be trusted"
        )


def _short(sizes: tuple[int, ...]) -> str:
    return str(sizes) if len(sizes) <= 8 else f"{sizes[:8]}..."


def printable(text: str) -> str:
    """Return a text of a file so that it can stand in a sentence."""
    return "".join(c if c.isprintable() else "?" for c in text[:100])


def one_line(error: BaseException) -> str:
    """Return the first line of an exception's message, not too long for a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]
