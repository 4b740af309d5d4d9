"""8-bit problems as other libraries take them: operands that all of them allow, and ONNX models."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..memory import on_line
from ..op import Problem
from .onnx_model import Model

__all__ = ["OPS", "ROUNDING", "operands_of", "qdq_model", "qlinear_model"]

Array = np.ndarray[Any, Any]

OPS = ("qconv2d", "qmatmul")
"""Operators on 8-bit integers."""

ROUNDING = 5e-3
"""Relative error of 8-bit answers that another library may have: some round halves otherwise, or
multiply by the scales in another order, which moves a few answers by one."""

_BYTES = ("int8", "uint8")
_WEIGHTS = ("w", "b")
_MATRICES = ("w_zero", "a_zero", "b_zero")


def operands_of(problem: Problem) -> tuple[Array, ...]:
    """Return random operands, each from the start of a cache line on, as libraries allocate them.

    Those of 8 bits are as quantisers make them for all processors.
    int8 weights have 7 bits: without VNNI most libraries add two products in 16 bits that saturate,
    so their answers for larger ones are wrong. int8 weights and matrices have the zero point 0.
    """
    drawn = zip(problem.operands, problem.random_operands(0), strict=True)
    return tuple(on_line(_as_quantised(operand.name, array)) for operand, array in drawn)


def _as_quantised(name: str, array: Array) -> Array:
    if array.dtype != np.int8:
        return array
    return np.zeros_like(array) if name in _MATRICES else array >> 1 if name in _WEIGHTS else array


def qlinear_model(problem: Problem, named: dict[str, Array], packed: bool) -> Model | None:
    """Return a model of ONNX's own 8-bit operators, or ``None`` if they cannot say the problem.

    Args:
        problem: of one of :data:`OPS`.
        named: operands by name, images in the order n, c, h, w.
        packed: whether weights are part of the model.
    """
    if problem.activation is not None:
        return None
    if problem.op.name == "qconv2d":
        return _conv(problem, named, packed) if problem.dtypes.output in _BYTES else None
    if "bias" in named or problem["b"] != 1:
        return None
    model = _with_operands(problem, _matrices(problem, named), packed)
    if problem.dtypes.output == "int32":
        model.node("MatMulInteger", ["a", "b", "a_zero", "b_zero"])
    elif problem.dtypes.output in _BYTES:
        model.node(
            "QLinearMatMul",
            ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "y_scale", "y_zero"],
        )
    else:
        return None
    return model


def qdq_model(problem: Problem, named: dict[str, Array]) -> Model | None:
    """Return a float32 model between (de)quantisations, which compilers turn into 8-bit kernels.

    Args:
        problem: of one of :data:`OPS`.
        named: operands by name, images in the order n, c, h, w; the weights become constants.
    """
    if problem.dtypes.output not in _BYTES or problem.activation is not None:
        return None
    images = problem.op.name == "qconv2d"
    if not images:
        if problem["b"] != 1:
            return None
        named = _matrices(problem, named)
    model = _with_operands(problem, named, packed=True)
    left, right = ("x", "w") if images else ("a", "b")
    # The axis of an image's filters, and of a matrix's columns.
    axis = {"axis": 0 if images else 1} if problem["per_channel"] else {}
    model.node("DequantizeLinear", [left, f"{left}_scale", f"{left}_zero"])
    real = [model.output]
    model.node("DequantizeLinear", [right, f"{right}_scale", f"{right}_zero"], **axis)
    real.append(model.output)
    bias: list[str] = []
    if "bias" in named:
        scale = named[f"{left}_scale"] * named[f"{right}_scale"]
        model.constant("real_bias", (named["bias"] * scale).astype(np.float32))
        bias = ["real_bias"]
    if images:
        model.node("Conv", real + bias, **_window(problem))
    else:
        model.node("MatMul", real)
        if bias:
            model.node("Add", [model.output, *bias])
    model.node("QuantizeLinear", [model.output, "y_scale", "y_zero"])
    return model


def _conv(problem: Problem, named: dict[str, Array], packed: bool) -> Model:
    model = _with_operands(problem, named, packed)
    names = ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero"]
    model.node("QLinearConv", names + ["bias"] * ("bias" in named), **_window(problem))
    return model


def _with_operands(problem: Problem, named: dict[str, Array], packed: bool) -> Model:
    """Return a model whose parameters are constants, since libraries take them only so."""
    model = Model()
    fed = ("x", "a") if packed else ("x", "w", "a", "b")
    for name, array in named.items():
        (model.input if name in fed else model.constant)(name, array)
    model.dtype = problem.dtypes.output
    return model


def _matrices(problem: Problem, named: dict[str, Array]) -> dict[str, Array]:
    """Return a batch of one as plain matrices, the right one not transposed."""
    b = named["b"][0]
    return {**named, "a": named["a"][0], "b": b.T if problem.layout == "nt" else b}


def _window(problem: Problem) -> dict[str, Any]:
    top, bottom, left, right = problem["pad"]
    return {
        "pads": [top, left, bottom, right], "strides": list(problem["stride"]),
        "dilations": list(problem["dilation"]), "group": problem["groups"],
    }  # fmt: skip
