"""onnxruntime: a model of one operator and its epilogue, run with bound buffers."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np

from ..op import Problem
from .libraries import Array, Library, Variant, from_nchw, to_nchw
from .onnx_model import Model

__all__ = ["OnnxRuntime"]

onnxruntime: Any = import_module("onnxruntime")


class OnnxRuntime(Library):
    """onnxruntime's CPU provider with all graph optimisations."""

    name = "onnxruntime"

    def __init__(self, threads: int) -> None:
        self.version = str(onnxruntime.__version__)
        self._threads = threads
        onnxruntime.set_default_logger_severity(4)

    def variants(
        self, problem: Problem, operands: tuple[Array, ...], packed: bool
    ) -> Iterator[Variant]:
        """Yield the one session; weights that are part of the model are packed by it."""
        named = {o.name: a for o, a in zip(problem.operands, operands, strict=True)}
        model = _model(problem, named, packed)
        if model is None:
            return
        session = self._session(model)
        binding = session.io_binding()
        held = {name: np.ascontiguousarray(array) for name, array in model.inputs.items()}
        for name, array in held.items():
            binding.bind_cpu_input(name, array)
        binding.bind_output(model.output, "cpu")

        def run() -> Any:
            # The bound buffers must outlive the binding, which keeps no reference of its own.
            assert held is not None
            session.run_with_iobinding(binding)
            return binding

        def result(bound: Any) -> Array:
            (answer,) = bound.copy_outputs_to_cpu()
            images = problem.op.name not in ("gemm", "matmul")
            return from_nchw(problem, answer) if images else answer

        yield Variant("weights in the model" if packed else "weights as input", run, result)

    def _session(self, model: Model) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        return onnxruntime.InferenceSession(
            model.serialise(), options, providers=["CPUExecutionProvider"]
        )


def _model(problem: Problem, named: dict[str, Array], packed: bool) -> Model | None:
    model = Model()
    constants = problem.op.constants if packed else ()
    images = problem.op.name not in ("gemm", "matmul")
    for name, array in named.items():
        view = to_nchw(problem, array) if images and array.ndim == 4 else array
        (model.constant if name in constants else model.input)(name, view)
    if problem.op.name == "conv2d":
        top, bottom, left, right = problem["pad"]
        model.node(
            "Conv",
            ["x", "w", *(["bias"] if "bias" in named else [])],
            pads=[top, left, bottom, right],
            strides=list(problem["stride"]),
            dilations=list(problem["dilation"]),
            group=problem["groups"],
        )
    elif problem.op.name == "gemm":
        _gemm(model, problem, named)
    elif problem.op.name == "matmul":
        model.node("MatMul", ["a", "b"])
    elif not _pool(model, problem):
        return None
    if "residual" in named:
        model.node("Add", [model.output, "residual"])
    _activate(model, problem)
    return model


def _gemm(model: Model, problem: Problem, named: dict[str, Array]) -> None:
    added = [name for name in ("c", "bias") if name in named]
    model.node(
        "Gemm",
        ["a", "b", *added[:1]],
        alpha=float(problem["alpha"]),
        beta=float(problem["beta"]) if added[:1] == ["c"] else 1.0,
        transA=int(problem.layout[0] == "t"),
        transB=int(problem.layout[1] == "t"),
    )
    if len(added) == 2:
        model.node("Add", [model.output, "bias"])


def _pool(model: Model, problem: Problem) -> bool:
    name = problem.op.name
    if name in ("global_avg_pool2d", "global_max_pool2d"):
        model.node("GlobalAveragePool" if "avg" in name else "GlobalMaxPool", ["x"])
        return True
    if name not in ("max_pool2d", "avg_pool2d"):
        return False
    top, bottom, left, right = problem["pad"]
    more: dict[str, Any] = {}
    if name == "avg_pool2d":
        more["count_include_pad"] = int(problem["count_include_pad"])
    if problem["dilation"] != (1, 1):
        more["dilations"] = list(problem["dilation"])
    model.node(
        "MaxPool" if name == "max_pool2d" else "AveragePool",
        ["x"],
        kernel_shape=[problem["r"], problem["s"]],
        pads=[top, left, bottom, right],
        strides=list(problem["stride"]),
        ceil_mode=int(problem["ceil_mode"]),
        **more,
    )
    return True


def _activate(model: Model, problem: Problem) -> None:
    if problem.activation is None:
        return
    name, parameters = problem.activation
    before = model.output
    plain = {"relu": "Relu", "sigmoid": "Sigmoid", "hard_swish": "HardSwish"}
    if name in plain:
        model.node(plain[name], [before])
    elif name == "leaky_relu":
        model.node("LeakyRelu", [before], alpha=parameters[0])
    elif name == "silu":
        model.node("Sigmoid", [before])
        model.node("Mul", [before, model.output])
    else:
        low, high = parameters or (0.0, 6.0)
        dtype = problem.output.dtype
        model.constant("low", np.asarray(low, dtype))
        model.constant("high", np.asarray(high, dtype))
        model.node("Clip", [before, "low", "high"])
