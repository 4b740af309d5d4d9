"""The hooks: each has a runnable example, and a plugin made of it is accepted and asked."""

from __future__ import annotations

import inspect
import re
import textwrap
import types
from pathlib import Path
from typing import Any

import pytest
from toy import ToyBackend, ToyDevice, ToyKernel

from hwkit import Op, Problem, hookimpl, hookspecs
from hwkit.op import Operand
from hwkit.registry import Registry
from hwkit.strategies import Strategy

HOOKS = [name for name in hookspecs.__all__ if name.startswith("hwkit_")]
ARGUMENTS = {"hwkit_backends": [], "hwkit_kernels": ["device"], "hwkit_nodes": [],
             "hwkit_ops": [], "hwkit_passes": [], "hwkit_records": [],
             "hwkit_strategies": []}  # fmt: skip


class Softmax(Op):
    """A third party's Op, as the examples assume it."""

    name = "softmax"
    sizes = ("m", "n")

    def problem(self, *operands: Any, **arguments: Any) -> Problem:
        raise NotImplementedError

    def operands(self, problem: Problem) -> tuple[Operand, ...]:
        return ()

    def output(self, problem: Problem) -> Operand:
        raise NotImplementedError

    def reference(self, problem: Problem, *operands: Any) -> Any:
        raise NotImplementedError

    def flops(self, problem: Problem) -> int:
        return 0


class AbacusBackend(ToyBackend):
    """What the example of hwkit_backends assumes."""

    name = "abacus"

    def open(self, index: int) -> ToyDevice:
        device = ToyDevice(index)
        device.backend = "abacus"
        return device


class Annealing(Strategy):
    """What the example of hwkit_strategies assumes."""

    def ask(self) -> Any:
        return None

    def tell(self, config: Any, seconds: float) -> None:
        pass


def example(hook: str, folder: Path) -> types.ModuleType:
    """Return the example in a hook's docstring, run as a module of ``folder``."""
    text = inspect.getdoc(getattr(hookspecs, hook)) or ""
    _, found, code = text.partition("Example::\n")
    assert found, f"{hook} has no example"
    module = types.ModuleType(f"example_{hook}")
    module.__file__ = str(folder / "example.py")
    vars(module).update(
        AbacusBackend=AbacusBackend,
        AbacusGemm=lambda: ToyKernel("gemm", "abacus"),
        Softmax=Softmax,
        Annealing=Annealing,
    )
    exec(compile(textwrap.dedent(code), module.__file__, "exec"), vars(module))
    return module


def test_hooks_are_these_with_these_arguments() -> None:
    """Names and arguments are what plugins are written against."""
    assert {n: [*inspect.signature(getattr(hookspecs, n)).parameters] for n in HOOKS} == ARGUMENTS


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_says_when_it_is_called(hook: str) -> None:
    """An author must know whether it may be slow."""
    assert re.search(r"Called (once|when)", inspect.getdoc(getattr(hookspecs, hook)) or "")


def test_example_of_backends_runs(tmp_path: Path) -> None:
    """The backend is listed."""
    found = Registry([("example", example("hwkit_backends", tmp_path))], entry_points=False)
    assert list(found.backends()) == ["abacus"]


def test_example_of_kernels_runs(tmp_path: Path) -> None:
    """The kernel is there for its device, and not for others."""
    backends, kernels = (example(f"hwkit_{n}", tmp_path) for n in ("backends", "kernels"))
    found = Registry([("backends", backends), ("kernels", kernels)], entry_points=False)
    assert [k.name for k in found.kernels(found.device("abacus:0"))] == ["abacus"]
    assert found.kernels(ToyDevice(0)) == ()


def test_example_of_ops_runs(tmp_path: Path) -> None:
    """The Op is listed."""
    found = Registry([("example", example("hwkit_ops", tmp_path))], entry_points=False)
    assert list(found.ops()) == ["softmax"]


def test_example_of_nodes_runs(tmp_path: Path) -> None:
    """The node type is listed by its domain and type."""
    found = Registry([("example", example("hwkit_nodes", tmp_path))], entry_points=False)
    assert list(found.node_types()) == [("abacus", "Cube")]


def test_example_of_passes_runs(tmp_path: Path) -> None:
    """The pass is listed, and takes the node out that it says."""
    from hwkit.graph import Graph, Node, Setting, Value

    found = Registry([("example", example("hwkit_passes", tmp_path))], entry_points=False)
    assert list(found.passes()) == ["dropout"]
    x, y, z = Value("x"), Value("y"), Value("z")
    graph = Graph([Node("Dropout", [x], [y]), Node("Neg", [y], [z])], [x], [z])
    found.passes()["dropout"].run(graph, Setting())
    assert [node.type for node in graph.nodes] == ["Neg"]
    assert graph.nodes[0].inputs == [x]


def test_example_of_records_runs(tmp_path: Path) -> None:
    """The files beside the module are found."""
    (tmp_path / "abacus.jsonl").touch()
    found = Registry([("example", example("hwkit_records", tmp_path))], entry_points=False)
    assert found.record_files() == (tmp_path / "abacus.jsonl",)


def test_example_of_strategies_runs(tmp_path: Path) -> None:
    """The strategy is found by its name."""
    found = Registry([("example", example("hwkit_strategies", tmp_path))], entry_points=False)
    assert found.strategies() == {"annealing": Annealing}


def test_hooks_return_data_and_may_be_called_twice(tmp_path: Path) -> None:
    """Nothing is mutated by a hook."""
    module = example("hwkit_backends", tmp_path)
    assert len(module.hwkit_backends()) == len(module.hwkit_backends()) == 1
    assert hookimpl.project_name == hookspecs.hookspec.project_name == "hwkit"
