"""Functions of a model: what they stand for runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")

import onnx
from onnx import TensorProto, helper, numpy_helper

import hwkit
from hwkit.errors import ArgumentError, NoKernel

OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]


def function(name: str, *nodes: Any, attributes: tuple[str, ...] = (), version: int = 18) -> Any:
    opsets = [helper.make_opsetid("", version), helper.make_opsetid("mine", 1)]
    return helper.make_function("mine", name, ["a"], ["b"], [*nodes], opsets, attributes)


def call(name: str, x: str = "a", y: str = "b", **attributes: Any) -> Any:
    return helper.make_node(name, [x], [y], domain="mine", **attributes)


def model_of(nodes: list[Any], functions: list[Any], constants: Any = ()) -> Any:
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ("n", 64)) for n in "xy"]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=OPSETS, functions=functions, ir_version=9)


def test_calls_become_the_nodes_that_they_stand_for(tmp_path: Any) -> None:
    """Nested, with attributes, names that come twice, and large constants in a file or not."""
    leaky = helper.make_node("LeakyRelu", ["t"], ["b"])
    alpha = onnx.AttributeProto(name="alpha", ref_attr_name="slope")
    alpha.type = onnx.AttributeProto.FLOAT
    leaky.attribute.append(alpha)
    silu = function(
        "Silu",
        helper.make_node("Sigmoid", ["a"], ["t"]),
        helper.make_node("Mul", ["a", "t"], ["b"]),
    )
    both = function("Both", call("Silu", y="t"), leaky, attributes=("slope",))
    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.standard_normal((64, 64), np.float32), "w")
    nodes = [
        call("Both", "x", "t", slope=0.3),
        helper.make_node("MatMul", ["t", "w"], ["b"]),
        call("Silu", "b", "y"),
    ]
    model = model_of(nodes, [silu, both], [weights])
    x = rng.standard_normal((3, 64), np.float32)
    raw = model.SerializeToString()
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    (expected,) = ort.InferenceSession(raw).run(None, {"x": x})
    path = tmp_path / "net.onnx"
    path.write_bytes(raw)
    for given in (model, raw, path):
        np.testing.assert_allclose(hwkit.load(given)(x), expected, rtol=1e-4, atol=1e-5)
    assert model.SerializeToString() == raw


def test_functions_that_stand_for_too_much_are_refused() -> None:
    """Some call themselves, some double with every level, some are nested too deep."""
    first = [call("F0", "x", "y")]
    relu = helper.make_node("Relu", ["a"], ["b"])
    circle = [function("F0", call("F1")), function("F1", call("F0"))]
    with pytest.raises(ArgumentError, match="calls itself, or too many levels"):
        hwkit.load(model_of(first, circle))
    deep = [function(f"F{i}", call(f"F{i + 1}")) for i in range(3000)]
    with pytest.raises(ArgumentError, match="calls itself, or too many levels"):
        hwkit.load(model_of(first, [*deep[::-1], function("F3000", relu)]))
    twice = [function(f"F{i}", call(f"F{i + 1}", y="t"), call(f"F{i + 1}", "t")) for i in range(60)]
    with pytest.raises(ArgumentError, match=f"stand for {2**60} nodes"):
        hwkit.load(model_of(first, [*twice, function("F60", relu)]))


def test_a_function_of_another_operator_set_is_refused() -> None:
    """Its nodes may mean something else."""
    relu = helper.make_node("Relu", ["a"], ["b"])
    with pytest.raises(NoKernel, match="Old"):
        hwkit.load(model_of([call("Old", "x", "y")], [function("Old", relu, version=12)]))


def test_a_function_that_nothing_calls_is_left_alone() -> None:
    """Whatever operator set it is written for."""
    relu = helper.make_node("Relu", ["a"], ["b"])
    x = np.linspace(-1, 1, 64, dtype=np.float32)[None]
    functions = [function("Relu6", relu), function("Old", relu, version=12)]
    model = model_of([call("Relu6", "x", "y")], functions)
    assert np.array_equal(hwkit.load(model)(x), np.maximum(x, 0))
