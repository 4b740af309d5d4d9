"""Activations that stand alone: those of an epilogue, and more, in plain numpy.

A call writes them as :func:`hwkit.ops.conv2d` does: a name, ``"elu:0.5"``, ``("clip", 0, 6)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..errors import ArgumentError, shown
from .epilogue import FORMULAS, LEAKY_SLOPE, Activation

__all__ = ["ALONE", "activation_word", "formula", "read_activation"]

Array = np.ndarray[Any, Any]


class Alone(NamedTuple):
    """One activation.

    Attributes:
        formula: called with an array and the parameters.
        defaults: of its parameters; ``None`` where one must be given.
    """

    formula: Callable[..., Array]
    defaults: tuple[float | None, ...] = ()


def _erf(x: Array) -> Array:
    found: Array = np.vectorize(math.erf, otypes=[float])(x) if x.size else np.zeros_like(x)
    return found.astype(x.dtype, copy=False)


def _gelu_tanh(x: Array) -> Array:
    result: Array = x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return result


def _mish(x: Array) -> Array:
    result: Array = x * np.tanh(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))
    return result


ALONE: dict[str, Alone] = {
    "none": Alone(lambda x: x),
    "relu": Alone(FORMULAS["relu"]),
    "relu6": Alone(FORMULAS["relu6"]),
    "clip": Alone(FORMULAS["clip"], (None, None)),
    "leaky_relu": Alone(FORMULAS["leaky_relu"], (LEAKY_SLOPE,)),
    "sigmoid": Alone(FORMULAS["sigmoid"]),
    "hard_swish": Alone(FORMULAS["hard_swish"]),
    "silu": Alone(FORMULAS["silu"]),
    "tanh": Alone(np.tanh),
    "exp": Alone(np.exp),
    "elu": Alone(lambda x, alpha: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x), (1.0,)),
    "hard_sigmoid": Alone(lambda x, a, b: np.minimum(np.maximum(x * a + b, 0), 1), (0.2, 0.5)),
    "erf": Alone(_erf),
    "gelu": Alone(lambda x: x / 2 * (1 + _erf(x / math.sqrt(2)))),
    "gelu_tanh": Alone(_gelu_tanh),
    "mish": Alone(_mish),
}
"""All that can be asked for, by name."""


def activation_word(activation: Activation) -> str:
    """Return an activation as it stands in a Problem, ``"none"`` for ``None``.

    Raises:
        ArgumentError: it is not known, or its parameters are not numbers that it can have.
    """
    parts: tuple[Any, ...]
    if activation is None or isinstance(activation, str):
        name, _, text = (activation or "none").partition(":")
        parts = (name, *filter(None, text.split(",")))
    else:
        parts = tuple(activation) if isinstance(activation, (tuple, list)) else ()
    if not parts or not isinstance(parts[0], str) or parts[0] not in ALONE:
        raise ArgumentError(
            f"activation={shown(activation)} is not known: choose one of {', '.join(ALONE)}"
        )
    name = parts[0]
    defaults = ALONE[name].defaults
    given = parts[1:] or defaults
    try:
        numbers = [math.nan if p is None else float(p) for p in given]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    # Bounds may be infinite; a slope or a factor may not.
    good = all(not math.isnan(p) if name == "clip" else math.isfinite(p) for p in numbers)
    if len(numbers) != len(defaults) or not good or (name == "clip" and numbers[0] > numbers[1]):
        raise ArgumentError(
            f"activation={shown(activation)} must be {name}"
            + ":" * bool(defaults)
            + ",".join(["<number>"] * len(defaults))
            + " with its lower bound first" * (name == "clip")
        )
    return name + ":" * bool(numbers) + ",".join(map(repr, numbers))


def read_activation(word: str) -> tuple[str, tuple[float, ...]] | None:
    """Return name and parameters of a word of :func:`activation_word`, ``None`` for ``"none"``."""
    name, _, text = word.partition(":")
    return None if name == "none" else (name, tuple(float(p) for p in text.split(",") if p))


def formula(word: str, x: Array) -> Array:
    """Return what an activation makes of an array, in the array's precision."""
    found = read_activation(word)
    return x if found is None else ALONE[found[0]].formula(x, *found[1])
