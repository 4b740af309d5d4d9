"""NodeType: how one type of ONNX node runs, by Plans of an Op or as glue in numpy.

A plugin adds its own by the hook ``hwkit_nodes``; hwkit's come through the same hook.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..errors import shown
from ..plans import Plan
from .ir import Array, Node, Value
from .setting import Setting

__all__ = [
    "Bind",
    "Built",
    "Glue",
    "NodeType",
    "Setting",
    "Spec2",
    "View",
    "dummy",
    "evaluate",
]

Spec2 = tuple[tuple[int, ...], Any]
"""Shape and dtype of an output."""

Bind = Callable[[Sequence[Array], Sequence[Array]], Callable[[], Any]]
"""From input and output arrays to the call that does the work."""


class Built(NamedTuple):
    """A node that can run.

    Attributes:
        bind: makes the call for given arrays.
        plans: the Plans it runs, for reports and tuning.
        packed: positions of inputs that a Plan holds packed; ``bind`` does not look at them, and
            their memory is given back.
        x_apart: whether the first input may be part of an array that is wider along the last axis.
        out_apart: whether the first output may.
    """

    bind: Bind
    plans: tuple[Plan, ...] = ()
    packed: tuple[int, ...] = ()
    x_apart: bool = False
    out_apart: bool = False


class NodeType(ABC):
    """How nodes of some ONNX types run.

    Attributes:
        types: ONNX operator types.
        domain: their domain, ``""`` for ONNX's own.
        static: positions of inputs that must be known before the run, such as Reshape's shape.
        from_shape: whether the outputs follow from the shapes of the inputs alone.
        in_place: whether the output may lie where the first input was.
        late: whether the sizes of outputs follow from data, so that they are known in a run only.
    """

    types: tuple[str, ...] = ()
    domain = ""
    static: tuple[int, ...] = ()
    from_shape = False
    in_place = False
    late = False

    @abstractmethod
    def infer(self, node: Node, setting: Setting) -> list[Spec2]:
        """Return shape and dtype of each output; inputs have theirs.

        Raises:
            ArgumentError: the shapes or attributes do not fit.
        """

    @abstractmethod
    def build(self, node: Node, setting: Setting) -> Built:
        """Do all work that can be done before a run: plan, pack weights."""

    def view(self, node: Node, array: Array) -> Array | None:
        """Return the output as a view of the first input, or ``None`` if it needs a copy."""
        return None

    def expand(self, node: Node) -> list[Node] | None:
        """Return nodes that make the same outputs in its place, or ``None`` if it runs itself.

        Inputs have shapes and dtypes by then, and those that are static are known.
        """
        return None

    def once(self, node: Node, setting: Setting) -> list[Array] | None:
        """Return the outputs for inputs that are all known, or ``None`` to infer and build."""
        return None


class Glue(NodeType):
    """Nodes computed by a function of numpy.

    Args:
        types: ONNX operator types.
        function: called as ``function(node, *arrays)``, ``None`` for inputs left out; returns an
            array or a tuple of them.
        static: as of :class:`NodeType`.
        into: called as ``into(node, arrays, outs)`` and returning the call that does the work
            without intermediate copies; by default the answer of ``function`` is copied.
        shapes: called as ``shapes(node, limit)``, returning shape and dtype of each output; by
            default ``function`` is tried on zeros.
    """

    def __init__(
        self,
        *types: str,
        function: Callable[..., Any],
        static: tuple[int, ...] = (),
        into: Callable[[Node, Sequence[Any], Sequence[Array]], Callable[[], Any]] | None = None,
        shapes: Callable[[Node, int], list[Spec2]] | None = None,
        from_shape: bool = False,
        in_place: bool = False,
        domain: str = "",
    ) -> None:
        self.types = types
        self.domain = domain
        self.static = static
        self.from_shape = from_shape
        self.in_place = in_place
        self._function = function
        self._into = into
        self._shapes = shapes

    def infer(self, node: Node, setting: Setting) -> list[Spec2]:
        """Ask for the shapes, or try the function on zeros."""
        self._known(node)
        if self._shapes is not None:
            return self._shapes(node, setting.limit)
        arrays = [None if v is None else dummy(v) for v in node.inputs]
        return [(r.shape, r.dtype) for r in _tuple(self._call(node, arrays))]

    def build(self, node: Node, setting: Setting) -> Built:
        """Return the function with its outputs in place."""
        self._known(node)
        return Built(partial(self._bind, node))

    def _known(self, node: Node) -> None:
        for index in self.static:
            node.known(index)

    def _bind(self, node: Node, ins: Sequence[Array], outs: Sequence[Array]) -> Callable[[], Any]:
        given = iter(ins)
        arrays = [None if v is None else next(given) for v in node.inputs]
        if self._into is not None:
            return self._into(node, arrays, outs)
        wanted = [i for i, v in enumerate(node.outputs) if v is not None]

        def run() -> None:
            results = _tuple(self._call(node, arrays))
            for out, index in zip(outs, wanted, strict=True):
                np.copyto(out, results[index], casting="unsafe")

        return run

    def _call(self, node: Node, arrays: Sequence[Any]) -> Any:
        with np.errstate(all="ignore"):
            return self._function(node, *arrays)


class View(NodeType):
    """Nodes whose output is the first input in another shape; they cost nothing.

    Args:
        types: ONNX operator types.
        function: called as ``function(node, array)``; returns a view wherever numpy can.
        static: as of :class:`NodeType`.
    """

    def __init__(
        self,
        *types: str,
        function: Callable[[Node, Array], Array],
        static: tuple[int, ...] = (),
    ) -> None:
        self.types = types
        self.static = static
        self._function = function

    def infer(self, node: Node, setting: Setting) -> list[Spec2]:
        """Return the view's shape."""
        for index in self.static:
            node.known(index)
        found = self._function(node, dummy(node.input(0)))
        rest = [(found.shape, np.dtype(bool)) for _ in node.outputs[1:]]
        return [(found.shape, found.dtype), *rest]

    def build(self, node: Node, setting: Setting) -> Built:
        """Return a copy, for where a view cannot be had."""

        def bind(ins: Sequence[Array], outs: Sequence[Array]) -> Callable[[], Any]:
            def run() -> None:
                np.copyto(outs[0], self._function(node, ins[0]))
                for mask in outs[1:]:  # what Dropout kept
                    mask.fill(True)

            return run

        return Built(bind)

    def view(self, node: Node, array: Array) -> Array | None:
        """Return the view."""
        if any(v is not None for v in node.outputs[1:]):
            return None
        found = self._function(node, array)
        return found if array.size == 0 or np.may_share_memory(found, array) else None


def dummy(value: Value) -> Array:
    """Return the data of a value, or zeros of its shape that take no memory."""
    if value.data is not None:
        return value.data
    return np.broadcast_to(np.zeros((), value.dtype), value.sizes)


def _tuple(result: Any) -> tuple[Array, ...]:
    parts = result if isinstance(result, tuple) else (result,)
    arrays = tuple(np.asarray(part) for part in parts)
    if any(array.dtype == object for array in arrays):
        raise TypeError(f"its function returned {shown(result)}, not an array of numbers")
    return arrays


def evaluate(kind: NodeType, node: Node, setting: Setting) -> list[Array]:
    """Run a node once on inputs that are known, or only on their shapes."""
    outs = [np.empty(v.sizes, v.kind) for v in node.outputs if v is not None]
    ins = [dummy(v) for v in node.inputs if v is not None]
    with np.errstate(all="ignore"):
        kind.build(node, setting).bind(
            [np.ascontiguousarray(a) if a.ndim else a for a in ins], outs
        )()
    return outs
