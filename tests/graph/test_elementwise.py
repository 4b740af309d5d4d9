"""Elementwise nodes run by Plans of the Op where it has them, and give what numpy gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hwkit
from hwkit.graph.nodes import elementwise
from hwkit.op import relative_error

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
helper = onnx.helper

SHAPE = (2, 6, 5, 7)

UNARY: list[tuple[str, dict[str, Any]]] = [
    ("Relu", {}), ("LeakyRelu", {"alpha": 0.2}), ("Sigmoid", {}), ("HardSigmoid", {"alpha": 0.3}),
    ("HardSwish", {}), ("Tanh", {}), ("Exp", {}), ("Elu", {"alpha": 1.5}), ("Erf", {}),
    ("Gelu", {}), ("Gelu", {"approximate": "tanh"}), ("Mish", {}),
]  # fmt: skip


def model_of(kind: str, shapes: list[tuple[int, ...]], dtype: str, **attributes: Any) -> Any:
    """Return a model of one node."""
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    names = "abc"[: len(shapes)]
    inputs = [helper.make_tensor_value_info(n, code, s) for n, s in zip(names, shapes, strict=True)]
    y = helper.make_tensor_value_info("y", code, None)
    node = helper.make_node(kind, list(names), ["y"], **attributes)
    graph = helper.make_graph([node], "test", inputs, [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8)


def check(proto: Any, monkeypatch: pytest.MonkeyPatch, planned: bool) -> None:
    """Run by the Op and by numpy."""
    model = hwkit.load(proto)
    assert [bool(step.plans) for step in model.program().steps] == [planned]
    inputs = model.random_inputs()
    got = model.run(inputs)["y"]
    monkeypatch.setattr(elementwise.Planned, "_built", lambda *_: None)
    plain = hwkit.load(proto)
    assert not plain.program().steps[0].plans
    want = plain.run({n: np.asarray(a) for n, a in inputs.items()})["y"]
    limit = {"float64": 1e-13, "float16": 2e-3}.get(got.dtype.name, 2e-6)
    assert got.dtype == want.dtype
    assert relative_error(got, want.astype(np.float64)) < limit


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize(("kind", "attributes"), UNARY)
def test_activations(
    kind: str, attributes: dict[str, Any], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every activation of the Op, in every dtype."""
    check(model_of(kind, [SHAPE], dtype, **attributes), monkeypatch, True)


@pytest.mark.parametrize(
    "second", [SHAPE, (6, 1, 1), (7,), (2, 6, 1, 1), (1, 1, 1, 1), (2, 1, 5, 1)]
)
@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu", "Sum"])
def test_two_operands(kind: str, second: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever broadcasts to x, except what a vector of slopes may mean otherwise."""
    check(
        model_of(kind, [SHAPE, second], "float32"), monkeypatch, kind != "PRelu" or len(second) > 1
    )


def test_the_smaller_operand_may_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum is the same either way; a difference is not."""
    check(model_of("Mul", [(6, 1, 1), SHAPE], "float32"), monkeypatch, True)
    check(model_of("Sub", [(6, 1, 1), SHAPE], "float32"), monkeypatch, False)


def test_what_the_op_has_not_is_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole numbers, few elements, and shapes that make another one."""
    check(model_of("Add", [SHAPE, SHAPE], "int32"), monkeypatch, False)
    check(model_of("Tanh", [(3, 4)], "float32"), monkeypatch, False)
    check(model_of("Add", [(9, 1, 9), (1, 9, 9)], "float32"), monkeypatch, False)
