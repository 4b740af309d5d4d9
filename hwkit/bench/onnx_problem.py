"""A problem as an ONNX model of one operator and its epilogue, for those who read ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..op import Problem
from .libraries import PRODUCTS, Array, to_nchw
from .onnx_model import Model
from .quantised import OPS, qlinear_model

__all__ = ["model_of"]


def model_of(problem: Problem, named: dict[str, Array], packed: bool) -> Model | None:
    """Return an ONNX model of a problem with its epilogue, or ``None`` if ONNX has none.

    Args:
        problem: what to compute.
        named: its operands by name; images become NCHW.
        packed: whether operands that do not change are part of the model, not inputs.
    """
    images = problem.op.name not in PRODUCTS
    if images:
        named = {n: to_nchw(problem, a) if a.ndim == 4 else a for n, a in named.items()}
    if problem.op.name in OPS:
        return qlinear_model(problem, named, packed)
    model = Model()
    constants = problem.op.constants if packed else ()
    for name, array in named.items():
        (model.constant if name in constants else model.input)(name, array)
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
