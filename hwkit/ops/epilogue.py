"""The fused epilogue: how callers write an activation, and what it computes, in plain numpy.

The order is fixed: accumulator, plus bias, plus residual, then the activation. NaN goes through
every activation; for infinities the formulas below hold as they stand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Union

import numpy as np

from ..errors import ArgumentError, shown
from ..op import ACTIVATIONS, Operand, Problem, numpy_dtype

__all__ = [
    "Activation",
    "apply",
    "FORMULAS",
    "LEAKY_SLOPE",
    "compute_dtype",
    "epilogue_operands",
    "epilogue_text",
    "result_dtype",
]

Array = np.ndarray[Any, Any]
Activation = Union[str, tuple[Any, ...], None]
LEAKY_SLOPE = 0.01


def epilogue_text(bias: Any, residual: Any, activation: Activation) -> tuple[str, ...]:
    """Return the epilogue words of a call.

    Args:
        bias: the array or ``None``.
        residual: the array or ``None``.
        activation: ``"relu"``, ``"leaky_relu:0.1"``, ``("clip", 0, 6)`` and the like, or ``None``.

    Raises:
        ArgumentError: the activation cannot be read.
    """
    words = ["bias"] * (bias is not None) + ["residual"] * (residual is not None)
    return (*words, *_activation_words(activation))


def _activation_words(activation: Activation) -> tuple[str, ...]:
    if activation is None:
        return ()
    parts = (activation,) if isinstance(activation, str) else activation
    if not isinstance(parts, (tuple, list)) or not parts or not isinstance(parts[0], str):
        raise ArgumentError(
            f"activation={shown(activation)} must be a name such as 'relu', a name with parameters "
            "such as 'clip:0,6' or ('clip', 0, 6), or None"
        )
    name, parameters = parts[0], parts[1:]
    if name.partition(":")[0] not in ACTIVATIONS:
        raise ArgumentError(
            f"activation={shown(activation)} is not known: choose one of {', '.join(ACTIVATIONS)}"
        )
    if name == "leaky_relu" and not parameters:
        parameters = (LEAKY_SLOPE,)
    try:
        text = ",".join(repr(float(p)) for p in parameters)
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(
            f"activation={shown(activation)} must have numbers as parameters"
        ) from None
    return (name + (f":{text}" if text else ""),)


def epilogue_operands(problem: Problem, channels: int) -> tuple[Operand, ...]:
    """Return the operands of the epilogue: bias ``(channels,)``, residual as the output."""
    dtypes = problem.dtypes
    # A quantised bias is as wide as the accumulator; a floating one is stored like the rest.
    bias = dtypes.accumulate if "int" in dtypes.accumulate else dtypes.output
    found = []
    if "bias" in problem.epilogue:
        found.append(Operand("bias", (channels,), numpy_dtype(bias)))
    if "residual" in problem.epilogue:
        found.append(Operand("residual", problem.output.shape, numpy_dtype(dtypes.output)))
    return tuple(found)


def compute_dtype(*operands: Array) -> np.dtype[Any]:
    """Return the dtype in which a reference accumulates these operands.

    int64 for integers, float64 if one is float64, otherwise float32.
    """
    if all(a.dtype.kind in "iub" for a in operands):
        return np.dtype(np.int64)
    wide = any(a.dtype == np.float64 for a in operands)
    return np.dtype(np.float64 if wide else np.float32)


def result_dtype(*operands: Array) -> np.dtype[Any]:
    """Return the dtype of a reference's answer: the operands' own, int64 for integers."""
    wide = compute_dtype(*operands)
    same = {a.dtype.newbyteorder("=") for a in operands}
    return same.pop() if len(same) == 1 and wide.kind == "f" else wide


def apply(problem: Problem, accumulator: Array, operands: tuple[Array, ...], axis: int) -> Array:
    """Return the accumulator after the problem's epilogue.

    Args:
        problem: whose epilogue.
        accumulator: in the dtype in which to compute.
        operands: bias and residual, those that the epilogue has.
        axis: of the output's channels.
    """
    rest = [a.astype(accumulator.dtype) for a in operands]
    if "bias" in problem.epilogue:
        shape = [1] * accumulator.ndim
        shape[axis] = -1
        accumulator = accumulator + rest.pop(0).reshape(shape)
    if "residual" in problem.epilogue:
        accumulator = accumulator + rest.pop(0)
    if problem.dtypes.accumulate == "int32" and accumulator.dtype.kind == "i":
        accumulator = accumulator.astype(np.int32).astype(accumulator.dtype)  # sums wrap
    if problem.activation is None:
        return accumulator
    name, parameters = problem.activation
    result: Array = FORMULAS[name](accumulator, *parameters)
    return result


def _clip(x: Array, low: float, high: float) -> Array:
    result: Array = np.minimum(np.maximum(x, low), high)
    return result


def _sigmoid(x: Array) -> Array:
    # The exponent is never positive, so exp does not overflow on the way to 0.
    decay = np.exp(-np.abs(x))
    result: Array = np.where(x < 0, decay, 1) / (1 + decay)
    return result


FORMULAS: dict[str, Callable[..., Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.minimum(np.maximum(x, 0), 6),
    "leaky_relu": lambda x, slope: np.where(x < 0, x * slope, x),
    "sigmoid": _sigmoid,
    "hard_swish": lambda x: x * _clip(x + 3, 0, 6) / 6,
    "silu": lambda x: x * _sigmoid(x),
    "clip": _clip,
}
