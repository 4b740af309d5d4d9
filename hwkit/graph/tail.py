"""The tail of a network: nodes whose shapes depend on data, computed one by one in each run.

NonZero or NonMaxSuppression tell only in a run how much they find, and what takes their outputs
has no shape before. No Plan and no place in the arena can be made for such nodes in advance: each
gets memory of its own when its inputs are there, and it is given back after the last use.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from ..errors import ArgumentError
from .failures import guarded
from .inference import kind_of, outcome
from .ir import Array, Node, Tail, Value
from .setting import Setting

__all__ = ["Run"]


class Run:
    """One run of a Tail.

    Args:
        tail: the nodes.
        setting: what to build for; ``limit`` is for all arrays that live at once.
        given: what the nodes with shapes have made, by value.
    """

    def __init__(self, tail: Tail, setting: Setting, given: Mapping[Value, Array]) -> None:
        self._tail = tail
        self._setting = setting
        self._arrays = dict(given)
        self._last = {
            v: i for i, n in enumerate(tail.nodes) for v in n.inputs if v is not None
        } | dict.fromkeys(tail.outputs, len(tail.nodes))
        #: When each node began and ended, in seconds.
        self.times: list[tuple[float, float]] = []

    def answers(self) -> list[Array]:
        """Run, and return what the call returns.

        Raises:
            ArgumentError: a node does not fit what it gets, or needs too much memory.
        """
        for index, node in enumerate(self._tail.nodes):
            start = time.perf_counter()
            self._compute(node)
            for value in (*node.inputs, *node.outputs):
                if value is not None and self._last.get(value, index) <= index:
                    self._arrays.pop(value, None)
            self.times.append((start, time.perf_counter()))
        return [self._answer(value) for value in self._tail.outputs]

    def _compute(self, node: Node) -> None:
        inputs = [None if v is None else Value.constant(v.name, self._find(v)) for v in node.inputs]
        outputs = [None if v is None else Value(v.name) for v in node.outputs]
        known = replace(node, inputs=inputs, outputs=outputs)
        kind = kind_of(node)
        parts = guarded(node, lambda: kind.expand(known))
        if parts is None:
            found = outcome(known, self._setting)
        else:
            found = self._parts(parts, [v for v in outputs if v is not None])
        for value, array in zip([v for v in node.outputs if v is not None], found, strict=True):
            self._arrays[value] = array
        live = sum(a.nbytes for a in self._arrays.values())
        if live > self._setting.limit:
            raise ArgumentError(
                f"node {node} leaves {live} bytes alive, more than the {self._setting.limit} "
                "allowed: give memory= more if the model can be trusted"
            )

    def _parts(self, parts: list[Node], wanted: list[Value]) -> list[Array]:
        """Run what a node is made of, and return its outputs."""
        for part in parts:
            self._compute(part)
        found = [self._arrays[value] for value in wanted]
        for value in {v for part in parts for v in part.outputs if v is not None}:
            del self._arrays[value]
        return found

    def _find(self, value: Value) -> Array:
        array = self._arrays.get(value, value.data)
        assert array is not None
        return array

    def _answer(self, value: Value) -> Array:
        """Return an output that shares no memory with another, nor with a constant."""
        array = self._find(value)
        own = value.data is None and array.flags.owndata and array.flags.c_contiguous
        return array if own else array.copy()
