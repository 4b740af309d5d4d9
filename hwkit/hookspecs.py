"""The seven hooks. Each returns data, is called off the path of a call, and has an example.

A plugin is a module named by an entry point of the group ``hwkit``; its functions carry
:data:`hookimpl`. Registering is all there is to it::

    [project.entry-points.hwkit]
    abacus = "hwkit_abacus"
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from .backend import Backend, Device, Kernel
    from .graph import NodeType, Pass
    from .op import Op
    from .strategies import Strategy

__all__ = [
    "hookimpl",
    "hookspec",
    "hwkit_backends",
    "hwkit_kernels",
    "hwkit_nodes",
    "hwkit_ops",
    "hwkit_passes",
    "hwkit_records",
    "hwkit_strategies",
]

hookspec = pluggy.HookspecMarker("hwkit")
hookimpl = pluggy.HookimplMarker("hwkit")


@hookspec
def hwkit_backends() -> Iterable[Backend]:  # type: ignore[empty-body]
    """Return the Backends of this plugin. Called once.

    Importing the plugin and calling this must not import a driver: that belongs into
    ``Backend.count`` and ``Backend.open``.

    Example::

        from hwkit import hookimpl

        @hookimpl
        def hwkit_backends():
            return [AbacusBackend()]
    """


@hookspec
def hwkit_kernels(device: Device) -> Iterable[Kernel]:  # type: ignore[empty-body]
    """Return the Kernels of this plugin that can run on ``device``. Called once per opened device.

    ``device`` may belong to another plugin: this is how a vendor adds a faster GEMM to ``cpu``.

    Example::

        from hwkit import hookimpl

        @hookimpl
        def hwkit_kernels(device):
            return [AbacusGemm()] if device.backend == "abacus" else []
    """


@hookspec
def hwkit_ops() -> Iterable[Op]:  # type: ignore[empty-body]
    """Return the Ops of this plugin. Called once; two Ops of one name are an error.

    Example::

        from hwkit import hookimpl

        @hookimpl
        def hwkit_ops():
            return [Softmax()]
    """


@hookspec
def hwkit_nodes() -> Iterable[NodeType]:  # type: ignore[empty-body]
    """Return how types of ONNX nodes run: glue in numpy, or Plans of an Op.

    Called once. Two NodeTypes of one type and domain are an error.

    Example::

        import numpy as np
        from hwkit import hookimpl
        from hwkit.graph import Glue

        @hookimpl
        def hwkit_nodes():
            return [Glue("Cube", function=lambda node, x: x * x * x, domain="abacus")]
    """


@hookspec
def hwkit_passes() -> Iterable[Pass]:  # type: ignore[empty-body]
    """Return passes, each of which rewrites the Graph of a network in place. Called once.

    Example::

        from hwkit import hookimpl
        from hwkit.graph import Pass

        def drop_dropout(graph, setting):
            for node in [n for n in graph.nodes if n.type == "Dropout"]:
                if node.output() not in graph.outputs:
                    graph.replace(node.output(), node.input(0))
                    graph.remove([node])

        @hookimpl
        def hwkit_passes():
            return [Pass("dropout", 15, drop_dropout)]
    """


@hookspec
def hwkit_records() -> Iterable[Path]:  # type: ignore[empty-body]
    """Return files of shipped Records, JSON lines, lower in the Database than the user's own.

    Called once.

    Example::

        from pathlib import Path
        from hwkit import hookimpl

        @hookimpl
        def hwkit_records():
            return sorted(Path(__file__).parent.glob("*.jsonl"))
    """


@hookspec
def hwkit_strategies() -> Iterable[tuple[str, type[Strategy]]]:  # type: ignore[empty-body]
    """Return search strategies as ``(name, class)``. Called when a name is asked for.

    Example::

        from hwkit import hookimpl

        @hookimpl
        def hwkit_strategies():
            return [("annealing", Annealing)]
    """
