"""Passes and node types of a plugin: they run as hwkit's own, and what they do wrong is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import hwkit
from hwkit import ArgumentError, HwkitWarning, hookimpl
from hwkit.graph import Glue, Graph, Pass
from hwkit.registry import registry

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
helper = onnx.helper

X = np.array([[1.0, -2.0], [3.0, -4.0]], np.float32)


def model_of(*types: str) -> Any:
    """Return a model of nodes one behind the other, ONNX's or those of the domain mine."""
    names = [*(f"v{i}" for i in range(len(types))), "y"]
    nodes = [
        helper.make_node(
            t, names[i : i + 1], names[i + 1 : i + 2], domain="" if t != "Own" else "mine"
        )
        for i, t in enumerate(types)
    ]
    x = helper.make_tensor_value_info("v0", onnx.TensorProto.FLOAT, X.shape)
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    graph = helper.make_graph(nodes, "test", [x], [y])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@contextmanager
def plugin(**hooks: Callable[[], Any]) -> Iterator[None]:
    """Register a plugin that has these hooks."""
    parts = {n: staticmethod(hookimpl(specname=n)(hook)) for n, hook in hooks.items()}
    registry().register(type("Plugin", (), parts)(), "mine")
    try:
        yield
    finally:
        registry().unregister("mine")


def passing(run: Callable[[Graph], None]) -> Any:
    """Return a plugin of the pass "odd"."""
    return plugin(hwkit_passes=lambda: [Pass("odd", 5, lambda graph, setting: run(graph))])


def test_a_pass_runs_and_can_be_left_out() -> None:
    """It comes through the hook, like ours."""

    def negate(graph: Graph) -> None:
        for node in graph.nodes:
            node.type = "Abs" if node.type == "Neg" else node.type

    with passing(negate):
        assert np.array_equal(hwkit.load(model_of("Neg"))(X), abs(X))
        assert np.array_equal(hwkit.load(model_of("Neg"), without=("odd",))(X), -X)


def _loop(graph: Graph) -> None:
    graph.nodes[0].inputs[0] = graph.nodes[-1].output()


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (lambda graph: 1 // 0, "failed on model 'test' with ZeroDivisionError"),
        (lambda graph: graph.nodes.clear(), "nothing makes the output 'y'"),
        (lambda graph: graph.nodes.reverse(), r"node 'y' \(Abs\) takes 'v1', which no node before"),
        (_loop, r"node 'v1' \(Neg\) takes 'y', which no node before it makes"),
    ],
)
def test_a_pass_that_spoils_the_graph_is_named(run: Callable[[Graph], None], said: str) -> None:
    """Nothing that cannot run is built, and the message says how to load without the pass."""
    with passing(run):
        with pytest.raises(ArgumentError, match=rf"pass 'odd' .*{said}.*without=\('odd',\)"):
            hwkit.load(model_of("Neg", "Abs"))
        assert np.array_equal(hwkit.load(model_of("Neg", "Abs"), without="odd")(X), abs(X))


@pytest.mark.parametrize("rank", ["first", None])
def test_a_pass_without_a_rank_is_left_out(rank: Any) -> None:
    """Networks load without it, with a warning."""
    with plugin(hwkit_passes=lambda: [Pass("odd", rank, lambda graph, setting: None)]):
        with pytest.warns(HwkitWarning, match=r"'mine' failed in hwkit_passes .*is no number"):
            assert "odd" not in registry().passes()
        assert np.array_equal(hwkit.load(model_of("Neg"))(X), -X)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda node, x: None, "its function returned None, not an array of numbers"),
        (lambda node, x: np.array([X, None], object), "its function returned array"),
        (lambda node, x: 1 // 0, "ZeroDivisionError"),
    ],
)
def test_a_node_type_that_returns_no_array_is_named(function: Any, said: str) -> None:
    """The sentence has the node and what its function did."""
    own = Glue("Own", function=function, domain="mine")
    named = pytest.raises(ArgumentError, match=rf"node 'y' \(Own\) .*{said}")
    with plugin(hwkit_nodes=lambda: [own]), named:
        hwkit.load(model_of("Own"))
