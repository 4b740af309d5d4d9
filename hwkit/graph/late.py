"""Node types whose outputs have sizes that data tell, and types that are made of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .ir import Array, Node
from .nodetype import Built, NodeType, Spec2
from .setting import Setting

__all__ = ["Composite", "Late"]


class Late(NodeType):
    """Nodes whose outputs have sizes that only the data of the inputs tell, as NonZero.

    In a network they run after everything that has shapes, and what takes their outputs runs after
    them; see :class:`hwkit.graph.tail.Run`.

    Args:
        types: ONNX operator types.
        function: called as ``function(node, limit, *arrays)``, ``None`` for inputs left out;
            returns an array or a tuple of them, and allocates no more than ``limit`` bytes.
        domain: of the types.
    """

    late = True

    def __init__(self, *types: str, function: Callable[..., Any], domain: str = "") -> None:
        self.types = types
        self.domain = domain
        self._function = function

    def infer(self, node: Node, setting: Setting) -> list[Spec2]:
        """Compute the outputs; the inputs are known."""
        return [(a.shape, a.dtype) for a in self.once(node, setting)]

    def build(self, node: Node, setting: Setting) -> Built:
        """Return a copy of what is computed once."""

        def bind(ins: Sequence[Array], outs: Sequence[Array]) -> Callable[[], Any]:
            wanted = [i for i, v in enumerate(node.outputs) if v is not None]

            def run() -> None:
                found = self.once(node, setting)
                for out, index in zip(outs, wanted, strict=True):
                    np.copyto(out, found[index])

            return run

        return Built(bind)

    def once(self, node: Node, setting: Setting) -> list[Array]:
        """Compute the outputs."""
        arrays = [None if v is None else v.data for v in node.inputs]
        with np.errstate(all="ignore"):
            found = self._function(node, setting.limit, *arrays)
        return [np.asarray(a) for a in (found if isinstance(found, tuple) else (found,))]


class Composite(NodeType):
    """Nodes that other nodes stand for, which passes then see like all others.

    Args:
        types: operator types.
        parts: called as ``parts(node)``, returning nodes that make the same outputs; the inputs
            have shapes and dtypes.
        domain: of the types.
        static: as of :class:`hwkit.graph.NodeType`.
    """

    def __init__(
        self,
        *types: str,
        parts: Callable[[Node], list[Node]],
        domain: str = "",
        static: tuple[int, ...] = (),
    ) -> None:
        self.types = types
        self.domain = domain
        self.static = static
        self._parts = parts

    def expand(self, node: Node) -> list[Node]:
        """Return the nodes that stand for it."""
        return self._parts(node)

    def infer(self, node: Node, setting: Setting) -> list[Spec2]:
        """Refuse: it never runs itself."""
        raise NotImplementedError(f"node {node} runs as the nodes it is made of")

    def build(self, node: Node, setting: Setting) -> Built:
        """Refuse: it never runs itself."""
        raise NotImplementedError(f"node {node} runs as the nodes it is made of")
