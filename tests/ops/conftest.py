"""What the tests of operators share: peers that skip with their name, and random arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hwkit.bench.onnx_model import Model

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
    """Run one ONNX node with onnxruntime: ``onnx_node("MaxPool", x, kernel_shape=[2, 2])``.

    ``dtype`` is that of the result, where it is not that of the last input.
    """
    runtime = pytest.importorskip(
        "onnxruntime", reason="onnxruntime is not installed: pip install hwkit[peers]"
    )
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3

    def run(kind: str, *inputs: Array, dtype: str = "", **attributes: Any) -> Array:
        model = Model()
        for position, array in enumerate(inputs):
            model.input(f"x{position}", array)
        model.node(kind, [*model.inputs], **attributes)
        model.dtype = dtype or model.dtype
        session = runtime.InferenceSession(
            model.serialise(), options, providers=["CPUExecutionProvider"]
        )
        result: Array = session.run(None, model.inputs)[0]
        return result

    return run
