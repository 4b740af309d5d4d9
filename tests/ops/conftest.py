"""What the tests of operators share: peers that skip with their name, and random arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="session")
def torch() -> Any:
    """The module torch, on one thread."""
    module = pytest.importorskip("torch", reason="torch is not installed: pip install hwkit[peers]")
    module.set_num_threads(1)
    return module


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator, fresh for each test."""
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def onnx_node() -> Callable[..., Array]:
    """Run one ONNX node with onnxruntime: ``onnx_node("MaxPool", x, kernel_shape=[2, 2])``."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install hwkit[onnx]")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3

    def run(kind: str, *inputs: Array, **attributes: Any) -> Array:
        types = [onnx.helper.np_dtype_to_tensor_dtype(a.dtype) for a in inputs]
        names = [f"i{position}" for position in range(len(inputs))]
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node(kind, names, ["y"], **attributes)],
            "one_node",
            [
                onnx.helper.make_tensor_value_info(n, t, a.shape)
                for n, t, a in zip(names, types, inputs, strict=True)
            ],
            [onnx.helper.make_tensor_value_info("y", types[0], None)],
        )
        opset = onnx.helper.make_opsetid("", 22)
        model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
        session = runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        result: Array = session.run(None, dict(zip(names, inputs, strict=True)))[0]
        return result

    return run
