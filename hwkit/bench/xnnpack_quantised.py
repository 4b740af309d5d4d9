"""8-bit problems as TensorFlow Lite models, in the forms that XNNPACK takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..op import Problem
from .libraries import Array
from .tflite_model import FlatModel, Scale

__all__ = ["product"]


def product(problem: Problem, named: dict[str, Array]) -> FlatModel | None:
    """Return a fully connected layer of int8, or ``None`` if XNNPACK has none of the kind.

    Args:
        problem: a qmatmul.
        named: its operands by name.
    """
    if not allowed(problem, named, "b_zero") or problem["b"] != 1:
        return None
    model = FlatModel()
    b = named["b"][0] if problem.layout == "nt" else named["b"][0].T
    left, right = named["a_scale"], named["b_scale"]
    inputs = [
        model.input(named["a"][0], Scale(left, named["a_zero"])),
        model.constant(b, weights_scale(right)),
        model.constant(*bias(problem, named, left * right)),
    ]
    model.operator(
        "FULLY_CONNECTED", inputs, problem.output.shape[1:], "FullyConnectedOptions",
        stored=stored(problem, named),
    )  # fmt: skip
    return model


def allowed(problem: Problem, named: dict[str, Array], zero: str) -> bool:
    """Whether types are what XNNPACK has: int8 throughout, weights without a zero point."""
    int8 = problem.dtypes[:3] == ("int8", "int8", "int8")
    return int8 and problem.activation is None and not np.any(named[zero])


def weights_scale(scale: Array, axis: int = 0) -> Scale:
    """Return the scale of weights, whose zero points are 0."""
    return Scale(scale, np.zeros_like(scale), axis)


def bias(problem: Problem, named: dict[str, Array], scale: Array) -> tuple[Array, Scale]:
    """Return the bias, or zeros, with the scale that the format demands."""
    channels = problem["k"] if problem.op.name == "qconv2d" else problem["n"]
    values: Any = named.get("bias", np.zeros(channels, np.int32))
    return values, weights_scale(scale)


def stored(problem: Problem, named: dict[str, Array]) -> tuple[str, Scale]:
    """Return dtype and scale of the answer."""
    return problem.dtypes.output, Scale(named["y_scale"], named["y_zero"])
