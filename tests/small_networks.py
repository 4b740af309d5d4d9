"""Networks of a few nodes, and their answers beside those of onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

import hwkit
from hwkit.dtypes import numpy_dtype

__all__ = ["FLOAT", "INT64", "check", "helper", "narrowed", "network"]

FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def network(
    nodes: list[Any], inputs: dict[str, Any], outputs: list[str], constants: dict[str, Any]
) -> Any:
    """Return a model of nodes; the inputs have shapes as of these arrays."""
    kind = helper.np_dtype_to_tensor_dtype
    ins = [helper.make_tensor_value_info(n, kind(a.dtype), a.shape) for n, a in inputs.items()]
    outs = [helper.make_empty_tensor_value_info(name) for name in outputs]
    held = [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "late", ins, outs, held)
    domains = {"", *(node.domain for node in nodes)}
    opsets = [helper.make_opsetid(d, 1 if d else 17) for d in sorted(domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def check(model: Any, inputs: dict[str, Any], tolerance: float = 0.0) -> hwkit.graph.Model:
    """Compare with onnxruntime, and return the loaded model."""
    typed = onnx.shape_inference.infer_shapes(model)
    kinds = {v.name: v for v in (*typed.graph.value_info, *typed.graph.output)}
    for out in model.graph.output:
        out.type.CopyFrom(kinds[out.name].type)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    loaded = hwkit.load(model)
    got = loaded.run(inputs)
    for name, want in zip(loaded.outputs, session.run(None, inputs), strict=True):
        assert (got[name].shape, got[name].dtype) == (want.shape, want.dtype)
        np.testing.assert_allclose(got[name], want, rtol=tolerance, atol=tolerance)
    return loaded


def narrowed(model: Any, dtype: str) -> Any:
    """Return a copy of a float32 model with inputs and constants of another floating dtype."""
    found, wanted = onnx.ModelProto(), numpy_dtype(dtype)
    found.CopyFrom(model)
    code = helper.np_dtype_to_tensor_dtype(wanted)
    for tensor in found.graph.initializer:
        if tensor.data_type == FLOAT:
            array = onnx.numpy_helper.to_array(tensor).astype(wanted)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for value in (*found.graph.input, *found.graph.output, *found.graph.value_info):
        if value.type.tensor_type.elem_type == FLOAT:
            value.type.tensor_type.elem_type = code
    return found
