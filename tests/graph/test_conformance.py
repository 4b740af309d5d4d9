"""The official ONNX tests: nodes by type, and what PyTorch exported. All of them pass."""

from __future__ import annotations

import importlib
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")

COMPUTE = (
    "averagepool", "conv", "convinteger", "convtranspose", "dequantizelinear",
    "dynamicquantizelinear", "gemm", "globalaveragepool", "globalmaxpool", "lppool", "matmul",
    "matmulinteger", "maxpool", "maxunpool", "qlinearconv", "qlinearmatmul", "quantizelinear",
)  # fmt: skip
GLUE = (
    "abs", "add", "affinegrid", "and_", "argmax", "argmin", "batch_normalization", "cast",
    "castlike", "ceil", "clip", "compress", "concat", "constant", "constantofshape", "cumsum",
    "depthtospace", "div", "einsum", "elu", "equal", "erf", "exp", "expand", "eyelike", "flatten",
    "floor", "gather", "gatherelements", "gathernd", "gelu", "greater", "greater_or_equal",
    "gridsample", "groupnormalization", "hardmax", "hardsigmoid", "hardswish",
    "instance_normalization", "isinf", "isnan", "layernormalization", "leakyrelu", "less",
    "less_or_equal", "log", "logsoftmax", "lpnormalization", "lrn", "max", "mean",
    "meanvariancenormalization", "min", "mish", "mod", "mul", "neg", "nonmaxsuppression", "nonzero",
    "not_", "onehot", "or_", "pad", "pow", "prelu", "rangeop", "reciprocal", "reduce_log_sum",
    "reduce_log_sum_exp", "reducel1", "reducel2", "reducemax", "reducemean", "reducemin",
    "reduceprod", "reducesum", "reducesumsquare", "relu", "reshape", "resize", "reversesequence",
    "rmsnormalization", "roialign", "round", "scatter", "scatterelements", "scatternd", "selu",
    "shape", "shrink", "sigmoid", "sign", "sin", "size", "slice", "softmax", "softplus", "softsign",
    "spacetodepth", "split", "sqrt", "squeeze", "sub", "sum", "swish", "tanh", "thresholdedrelu",
    "tile", "topk", "transpose", "trilu", "unique", "unsqueeze", "upsample", "where", "xor",
)  # fmt: skip
EXPORTED = {"pytorch-converted": 82, "pytorch-operator": 35}

# Strings, control flow in expanded functions, and powers of two without a sign are no part of it.
OUTSIDE = ("string", "e8m0", "sequence", "identity_opt", "_expanded", "training_dropout")
LEAST = {"compute": 98, "glue": 121}


def node_tests(modules: tuple[str, ...]) -> list[Any]:
    """Return the tests that modules of the package onnx generate when they are imported."""
    nodes = importlib.import_module("onnx.backend.test.case.node")
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in modules:
            start = len(nodes._NodeTestCases)
            importlib.import_module(f"onnx.backend.test.case.node.{module}")
            found += nodes._NodeTestCases[start:]
    return [t for t in found if not any(word in t.name for word in OUTSIDE)]


def failures(tests: list[tuple[str, Any, Any]]) -> list[str]:
    """Return what goes wrong, a line for each test; a test is (name, model, data sets)."""
    from onnx.backend.test.runner import Runner

    from hwkit.testing.onnx_backend import OnnxBackend

    found = []
    for name, model, sets in tests:
        try:
            prepared = OnnxBackend.prepare(model, "CPU")
            for inputs, outputs in sets:
                got = prepared.run([plain(i) for i in inputs])
                Runner.assert_similar_outputs([plain(o) for o in outputs], got, 1e-3, 1e-7)
        except Exception as error:
            found.append(f"{name}: {' '.join(str(error).split())[:200]}")
    return found


def plain(tensor: Any) -> Any:
    """Return a tensor of a test as a numpy array."""
    return onnx.numpy_helper.to_array(tensor) if hasattr(tensor, "dims") else np.asarray(tensor)


@pytest.mark.parametrize("part", ["compute", "glue"])
def test_official_node_tests_pass(part: str) -> None:
    """Every test of the operators above passes; none is skipped."""
    tests = node_tests(COMPUTE if part == "compute" else GLUE)
    assert len(tests) >= LEAST[part]
    assert not failures([(t.name, t.model, t.data_sets) for t in tests])


@pytest.mark.parametrize("kind", EXPORTED)
def test_models_exported_by_pytorch_pass(kind: str) -> None:
    """Every model of these two collections gives the answers that lie beside it."""
    root = Path(os.path.dirname(importlib.import_module("onnx.backend.test").__file__ or ""))
    folders = sorted((root / "data" / kind).iterdir())
    assert len(folders) >= EXPORTED[kind]

    def arrays(folder: Path, name: str) -> list[Any]:
        count = len(list(folder.glob(f"{name}_*.pb")))
        return [onnx.load_tensor(str(folder / f"{name}_{i}.pb")) for i in range(count)]

    tests = []
    for folder in folders:
        sets = [
            (arrays(s, "input"), arrays(s, "output"))
            for s in sorted(folder.glob("test_data_set_*"))
        ]
        assert sets
        tests.append((folder.name, onnx.load(str(folder / "model.onnx")), sets))
    assert not failures(tests)
