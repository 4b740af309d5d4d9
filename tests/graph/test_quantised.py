"""Quantised nodes give onnxruntime's bytes, and run by the integer kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hwkit

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def model_of(node: Any, shape: tuple[int, ...], out: int, constants: dict[str, Any]) -> Any:
    """Return a model of one node from bytes."""
    helper = onnx.helper
    x = helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, shape)
    y = helper.make_tensor_value_info("y", out, None)
    held = [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    graph = helper.make_graph([node], "quantised", [x], [y], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def both(proto: Any, seed: int = 0) -> tuple[Any, Any]:
    """Return our answer and onnxruntime's."""
    model = hwkit.load(proto)
    shape = model.fixed_shapes
    assert shape is not None
    x = np.random.default_rng(seed).integers(0, 256, shape[0]).astype(np.uint8)
    session = runtime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return model(x), session.run(None, {"x": x})[0]


@pytest.mark.parametrize(("groups", "shape"), [(1, (2, 8, 9, 11)), (8, (1, 8, 14, 14))])
def test_convolution_of_bytes(groups: int, shape: tuple[int, ...]) -> None:
    """QLinearConv with a scale for each channel, whole and depthwise: at most one step apart."""
    rng = np.random.default_rng(1)
    constants = {
        "xs": np.float32(0.02), "xz": np.uint8(120),
        # Of seven bits: with eight, onnxruntime's sums of pairs saturate on AVX2 without VNNI.
        "w": rng.integers(-63, 64, (8, 8 // groups, 3, 3)).astype(np.int8),
        "ws": rng.uniform(0.001, 0.02, 8).astype(np.float32), "wz": np.zeros(8, np.int8),
        "ys": np.float32(0.3), "yz": np.uint8(128), "b": rng.integers(-900, 900, 8).astype("i4"),
    }  # fmt: skip
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    node = onnx.helper.make_node("QLinearConv", names, ["y"], pads=[1] * 4, group=groups)
    got, want = both(model_of(node, shape, onnx.TensorProto.UINT8, constants))
    assert got.dtype == np.uint8
    assert len(np.unique(want)) > 20
    # onnxruntime rounds a product of scales in float32 first.
    assert np.abs(got.astype(int) - want.astype(int)).max() <= 1
    assert (got == want).mean() > 0.99


def test_sums_of_bytes_are_exact() -> None:
    """ConvInteger and MatMulInteger give the same int32 numbers."""
    rng = np.random.default_rng(2)
    weights = rng.integers(0, 256, (4, 3, 3, 3)).astype(np.uint8)
    constants = {"w": weights, "xz": np.uint8(7), "wz": np.uint8(9)}
    node = onnx.helper.make_node("ConvInteger", ["x", "w", "xz", "wz"], ["y"], strides=[2, 2])
    got, want = both(model_of(node, (1, 3, 9, 9), onnx.TensorProto.INT32, constants))
    assert np.array_equal(got, want)
    constants = {"w": rng.integers(0, 256, (6, 5)).astype(np.uint8), "xz": np.uint8(3)}
    node = onnx.helper.make_node("MatMulInteger", ["x", "w", "xz"], ["y"])
    got, want = both(model_of(node, (4, 6), onnx.TensorProto.INT32, constants))
    assert np.array_equal(got, want)
