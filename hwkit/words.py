"""Words of a Problem's text: values of attributes, and the fused epilogue."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Union

import numpy as np

from .errors import ArgumentError, shown

Attribute = Union[bool, int, float, str, tuple[int, ...]]

ACTIVATIONS: dict[str, int] = {
    "relu": 0,
    "relu6": 0,
    "leaky_relu": 1,
    "sigmoid": 0,
    "hard_swish": 0,
    "silu": 0,
    "clip": 2,
}
"""Activations of an epilogue, and the number of parameters each takes."""


def read_number(word: str, text: str, kind: Callable[[str], Any]) -> Any:
    """Return ``text``, which stands in ``word``, as a number of a kind.

    Raises:
        ArgumentError: names the word, if it holds no such number.
    """
    try:
        return kind(text)
    except ValueError:
        raise ArgumentError(f"{word!r} cannot be read: numbers must follow its = or :") from None


def read_attribute(word: str, text: str, default: Attribute) -> Any:
    """Return the value ``text`` of an attribute that has this default.

    Raises:
        ArgumentError: names the word, if the value is of another kind.
    """
    if isinstance(default, bool):
        if text not in ("0", "1", "true", "false"):
            raise ArgumentError(f"{word!r} must be true or false")
        return text in ("1", "true")
    if isinstance(default, tuple):
        return tuple(read_number(word, part, int) for part in text.split(","))
    return text if isinstance(default, str) else read_number(word, text, type(default))


def print_attribute(value: Attribute) -> str:
    """Return the value of an attribute as text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value[:1] if len(set(value)) == 1 else value))
    return repr(value) if isinstance(value, float) else str(value)


def canonical_attribute(name: str, value: Any, default: Attribute) -> Attribute:
    """Return a value with the type, and for tuples the length, of the default.

    Raises:
        ArgumentError: names the attribute, if it cannot have this value.
    """
    if isinstance(default, tuple):
        values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
        if len(values) == 1:
            values *= len(default)
        if len(values) != len(default) or not all(_is_int(v) for v in values):
            raise ArgumentError(f"{name}={shown(value)} must be one whole number or {len(default)}")
        return tuple(int(v) for v in values)
    if isinstance(default, bool):
        return flag(name, value)
    if isinstance(default, int) and not _is_int(value):
        raise ArgumentError(f"{name}={shown(value)} must be a whole number")
    return number(name, value) if isinstance(default, float) else type(default)(value)


def number(name: str, value: Any) -> float:
    """Return the value of an argument that is a real number.

    Raises:
        ArgumentError: it is none, or beyond what a float holds.
    """
    try:
        if not isinstance(value, (str, bytes)):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ArgumentError(f"{name}={shown(value)} must be a number")


def flag(name: str, value: Any) -> bool:
    """Return the value of a yes-or-no argument.

    Raises:
        ArgumentError: it is none; ``"no"`` would count as true.
    """
    if isinstance(value, (bool, np.bool_)) or (_is_int(value) and value in (0, 1)):
        return bool(value)
    raise ArgumentError(f"{name}={shown(value)} must be True or False")


def _is_int(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def epilogue_words(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return epilogue words in canonical form and order: bias, residual, one activation.

    Raises:
        ArgumentError: a word is not known, comes twice, or lacks parameters.
    """
    bias = [w for w in words if w == "bias"]
    residual = [w for w in words if w == "residual"]
    rest = [w for w in words if w not in ("bias", "residual")]
    if max(len(bias), len(residual), len(rest)) > 1:
        raise ArgumentError(
            f"epilogue {'+'.join(words)} must be at most one bias, one residual, one activation"
        )
    return (*bias, *residual, *(_activation_word(w) for w in rest))


def _activation_word(word: str) -> str:
    name, _, text = word.partition(":")
    parameters = [read_number(word, p, float) for p in text.split(",") if p]
    if name not in ACTIVATIONS or len(parameters) != ACTIVATIONS[name]:
        raise ArgumentError(
            f"activation {word!r} is not known: write one of "
            + ", ".join(
                n + ":<number>" * bool(c) + ",<number>" * (c > 1) for n, c in ACTIVATIONS.items()
            )
        )
    if name == "leaky_relu" and not math.isfinite(parameters[0]):
        raise ArgumentError(f"activation {word!r} must have a finite slope")
    if name == "clip" and not parameters[0] <= parameters[1]:
        raise ArgumentError(f"activation {word!r} must have its lower bound first")
    # 1e+16 would split at the +, which parts the words of an epilogue.
    numbers = [repr(p).replace("e+", "e") for p in parameters]
    return name + (":" + ",".join(numbers) if numbers else "")
