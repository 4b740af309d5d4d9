"""A Graph with shapes, made ready to run: plans built, weights packed, memory placed.

A step is a node bound to its arrays. Arrays between nodes lie in one arena and never move, so that
a step is bound once; only the steps that touch what a call brings or takes away are bound anew.
Small results lie in the arena too, and a call takes copies away: at the end of a run that has gone
through the caches, binding takes longer.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Union

import numpy as np

from ..memory import aligned
from ..plans import Plan
from .arena import Block, check_limit, columns_of, lower_bound, place, stretch, strides_of
from .failures import failure, guarded
from .inference import kind_of
from .ir import Array, Graph, Node, Value
from .nodetype import Built
from .setting import Setting
from .tail import Run

__all__ = ["LATE", "Memory", "Program", "Step"]

# Results of more bytes are written where the caller finds them.
_COPIED = 256 << 10

LATE = "planned in each run, by its data"
"""What is said of a node in the tail instead of its kernel."""


class Memory(NamedTuple):
    """Bytes of a Program.

    Attributes:
        arena: what lies between nodes; what only a run can tell the size of has its own memory.
        bound: the least that any placement needs.
        constants: weights that nodes read as they are, without those that plans hold packed.
    """

    arena: int
    bound: int
    constants: int


# Inputs and outputs of a node.
_Known = tuple[list[Union[Array, Value]], list[Union[Array, Value]]]


class Step(NamedTuple):
    """A node that has been built.

    Attributes:
        node: what it computes.
        plans: the Plans that it runs; none for glue.
        fixed: its call if all its arrays stay where they are.
        bind: makes its call otherwise; ``None`` in the tail, where each run makes its own.
    """

    node: Node
    plans: tuple[Plan, ...]
    fixed: Callable[[], Any] | None
    bind: Callable[[Sequence[Array], Sequence[Array]], Callable[[], Any]] | None


class Program:
    """Runs one Graph for one set of input shapes; safe from threads, one run at a time.

    Args:
        graph: with shapes, after its passes.
        setting: what to build for.

    Raises:
        ArgumentError: the arena would be larger than is allowed.
        NoKernel: no kernel of the device takes a Problem.
    """

    def __init__(self, graph: Graph, setting: Setting) -> None:
        self.graph = graph
        self._lock = threading.Lock()
        # A view has no memory of its own: its root has, and what makes the view of an array.
        self._views: dict[Value, tuple[Value, Callable[[Array], Array]]] = {}
        nodes = [node for node in graph.nodes if not self._is_view(node)]
        self._arrays: dict[Value, Array] = {}
        built: dict[int, Built] = {}
        results = {self._root(v) for v in graph.outputs} - set(graph.inputs)
        results = {value for value in results if value.data is None}
        # What each call makes anew, and what it copies.
        self._fresh = {value for value in results if value.nbytes > _COPIED}
        self._copied = results - self._fresh
        setting = setting._replace(made={})
        # Before anything is packed: that takes time and memory of its own.
        check_limit(self._least(nodes), setting.limit)
        # Those with the largest weights first: packing needs both forms for a moment.
        for index in sorted(range(len(nodes)), key=lambda i: -_weight(nodes[i])):
            built[index] = self._built(nodes[index], setting)
        self._join(nodes, built)
        arena, bound = self._place(nodes, setting.limit)
        self.memory = Memory(arena, bound, self._hold(nodes))
        self.steps = [self._step(node, built[index]) for index, node in enumerate(nodes)]
        self._calls = [step.fixed for step in self.steps]
        self._loose = {i: self._known(s.node) for i, s in enumerate(self.steps) if s.fixed is None}
        self._setting = setting._replace(made=None)
        if graph.tail is not None:
            self.steps += [Step(node, (), None, None) for node in graph.tail.nodes]

    def _is_view(self, node: Node) -> bool:
        if len(node.inputs) < 1 or node.inputs[0] is None or node.outputs[0] is None:
            return False
        value = node.input(0)
        if value.data is not None or any(v is not None for v in node.outputs[1:]):
            return False
        # Only the layout matters; no element is read.
        blank = np.zeros(1, f"V{value.kind.itemsize}")
        probe = np.lib.stride_tricks.as_strided(
            blank, value.sizes, strides_of(value), writeable=False
        )
        found = guarded(node, lambda: kind_of(node).view(node, probe))
        if found is None or not found.flags.c_contiguous:
            return False
        self._views[node.output()] = value, partial(_view, node)
        return True

    def _join(self, nodes: list[Node], built: dict[int, Built]) -> None:
        """Let what a Concat puts together be written where it belongs in the first place."""
        made = {v for node in nodes for v in node.outputs if v is not None and v.data is None}
        made -= set(self.graph.outputs) | {self._root(v) for v in self.graph.outputs}
        loose = self._loose_values(nodes, built) & made
        whole_rows: set[Value] = set()  # parts of them are pieces of one row, and must remain so
        for node in filter(_is_concat, nodes):
            whole, start, column = node.output(), 0, 0
            axis = int(node.get("axis", 1)) % len(whole.sizes)
            together = math.prod(whole.sizes[:axis]) == 1
            for value in node.inputs:
                assert value is not None
                root, size, columns = self._root(value), math.prod(value.sizes), value.sizes[axis]
                alike = root.nbytes == value.nbytes and root.kind == whole.kind
                if together and alike and root in made and root is not self._root(whole):
                    self._views[root] = whole, partial(stretch, start, size, root.sizes)
                    whole_rows.add(whole)
                elif axis == len(whole.sizes) - 1 and root is value and value in loose - whole_rows:
                    self._views[value] = whole, partial(columns_of, column, columns)
                start += size
                column += columns

    def _loose_values(self, nodes: list[Node], built: dict[int, Built]) -> set[Value]:
        """Return the values that may be part of an array that is wider along the last axis."""
        loose: set[Value] = set()
        for index, node in enumerate(nodes):
            if built[index].out_apart or _is_concat(node):
                loose.add(node.output())
        takes = {id(node) for index, node in enumerate(nodes) if built[index].x_apart}
        for node in self.graph.nodes:
            if not _is_concat(node):
                loose -= {v for v in node.inputs[id(node) in takes :] if v is not None}
        return loose

    def _root(self, value: Value) -> Value:
        while value in self._views:
            value = self._views[value][0]
        return value

    def _built(self, node: Node, setting: Setting) -> Built:
        """Build a node, and give back the memory of constants that its plan holds packed."""
        found: Built = guarded(node, lambda: kind_of(node).build(node, setting))
        for index in found.packed:
            if node.has(index):
                old = node.input(index)
                node.inputs[index] = gone = Value(old.name, old.shape, old.dtype)
                self._arrays[gone] = np.broadcast_to(np.zeros((), gone.kind), gone.sizes)
        return found

    def _blocks(self, nodes: list[Node]) -> dict[Value, Block]:
        """Return what lies between nodes, with the steps from which and to which it is needed."""
        first: dict[Value, int] = {}
        last: dict[Value, int] = {}
        for index, node in enumerate(nodes):
            for value in node.outputs:
                if value is not None:
                    first.setdefault(self._root(value), index)
                    last[self._root(value)] = index
            for value in node.inputs:
                if value is not None and value.data is None:
                    last[self._root(value)] = index
        last.update(dict.fromkeys(self._copied, len(nodes)))
        kept = [v for v in first if v not in self._fresh and v.data is None]
        return {v: Block(v.nbytes, first[v], last[v]) for v in kept}

    def _least(self, nodes: list[Node]) -> int:
        """Return bytes that any placement needs, told before plans say what a Concat may join."""
        joined = {
            self._root(value)
            for node in filter(_is_concat, nodes)
            for value in (*node.inputs, *node.outputs)
            if value is not None
        }
        return lower_bound([b for v, b in self._blocks(nodes).items() if v not in joined])

    def _place(self, nodes: list[Node], limit: int) -> tuple[int, int]:
        """Place what lies between nodes; return the bytes that takes, and the least possible."""
        blocks = self._blocks(nodes)
        offsets, total = place(list(blocks.values()))
        check_limit(total, limit)
        block = aligned(total)
        for value, offset in zip(blocks, offsets, strict=True):
            part = block[offset : offset + value.nbytes]
            self._arrays[value] = part.view(value.kind).reshape(value.sizes)
        return total, lower_bound(list(blocks.values()))

    def _hold(self, nodes: list[Node]) -> int:
        """Keep the constants that nodes read as they are; return their bytes."""
        constants: dict[int, int] = {}
        for node in nodes:
            for value in (*node.inputs, *node.outputs):
                if value is not None and value.data is not None:
                    self._arrays[value] = np.require(value.data, None, ("C", "A"))
                    constants[id(value.data)] = value.data.nbytes
        return sum(constants.values())

    def _step(self, node: Node, built: Built) -> Step:
        step = Step(node, built.plans, None, built.bind)
        known = self._known(node)
        if any(isinstance(a, Value) for arrays in known for a in arrays):
            return step
        return step._replace(fixed=self._bound(step, known, {}))

    def _known(self, node: Node) -> _Known:
        """Return the arrays of a node, and Values in place of those that each call brings anew."""
        ins, outs = (
            [self._find(v, {}) if self._root(v) in self._arrays else v for v in side if v]
            for side in (node.inputs, node.outputs)
        )
        return ins, outs

    def _bound(self, step: Step, known: _Known, arrays: Mapping[Value, Array]) -> Callable[[], Any]:
        ins, outs = (
            [self._find(a, arrays) if isinstance(a, Value) else a for a in side] for side in known
        )
        assert step.bind is not None
        call: Callable[[], Any] = guarded(step.node, partial(step.bind, ins, outs))
        return call

    def _find(self, value: Value, arrays: Mapping[Value, Array]) -> Array:
        if value in self._views:
            source, view = self._views[value]
            return view(self._find(source, arrays))
        array = arrays.get(value)
        if array is None:
            array = self._arrays.get(value, value.data)
        assert array is not None
        return array

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Run; inputs are C-contiguous arrays of the right shapes and dtypes."""
        return self._run(inputs, None)

    def timed(self, inputs: Sequence[Array]) -> list[tuple[float, float]]:
        """Run, and return when each step began and ended, in seconds."""
        times: list[tuple[float, float]] = []
        self._run(inputs, times)
        return times

    def _run(self, inputs: Sequence[Array], times: list[tuple[float, float]] | None) -> list[Array]:
        arrays = dict(zip(self.graph.inputs, inputs, strict=True))
        for value in self._fresh:
            arrays[value] = np.empty(value.sizes, value.dtype)
        with self._lock, np.errstate(all="ignore"):
            calls = self._calls
            for index, known in self._loose.items():
                calls[index] = self._bound(self.steps[index], known, arrays)
            done = 0
            try:
                for call in calls:
                    start = 0.0 if times is None else time.perf_counter()
                    call()  # type: ignore[misc]
                    if times is not None:
                        times.append((start, time.perf_counter()))
                    done += 1
            except Exception as error:
                raise failure(self.steps[done].node, error) from error
            for index in self._loose:
                calls[index] = None  # keep nothing of the caller's alive
            if self.graph.tail is None:
                return [self._answer(value, arrays) for value in self.graph.outputs]
            # Constants are not handed over: the tail has them, and copies of weights take time.
            given = [value for value in self.graph.outputs if value.data is None]
            tail = Run(self.graph.tail, self._setting, {v: self._answer(v, arrays) for v in given})
            answers = tail.answers()
        if times is not None:
            times += tail.times
        return answers

    def _answer(self, value: Value, arrays: dict[Value, Array]) -> Array:
        found = self._find(value, arrays)
        return found if self._root(value) in self._fresh else found.copy()


def _weight(node: Node) -> int:
    return max((v.nbytes for v in node.inputs if v is not None and v.data is not None), default=0)


def _view(node: Node, array: Array) -> Array:
    found = kind_of(node).view(node, array)
    assert found is not None
    return found


def _is_concat(node: Node) -> bool:
    return node.type == "Concat" and not node.domain
