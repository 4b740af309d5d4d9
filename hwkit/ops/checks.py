"""Checks that several operators share; their messages name the argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ArgumentError, DtypeError
from ..op import Dtypes, Problem, dtype_name

__all__ = [
    "check_at_least",
    "check_integer_epilogue",
    "check_rank",
    "check_shape",
    "common_dtype",
    "is_integer",
]

_INTEGER_ACTIVATIONS = (None, "relu", "relu6")


def common_dtype(**arrays: Any) -> Dtypes:
    """Return the one floating dtype that all arrays have; those that are ``None`` do not count.

    Raises:
        DtypeError: an array has another dtype than the first, or one that is not supported.
    """
    (first, array), *rest = ((n, a) for n, a in arrays.items() if a is not None)
    name = dtype_name(array.dtype, first)
    for other, array in rest:
        theirs = dtype_name(array.dtype, other)
        if theirs != name:
            raise DtypeError(
                f"{other} has dtype {theirs}, but {first} has {name}: "
                f"convert one of them, as in {other}.astype('{name}')"
            )
    return Dtypes.of(name)


def check_rank(name: str, array: Any, sizes: Sequence[str]) -> tuple[int, ...]:
    """Return the shape of ``array``, which must have the sizes named.

    Raises:
        ArgumentError: it has more or fewer.
    """
    shape = tuple(int(size) for size in array.shape)
    if len(shape) != len(sizes):
        raise ArgumentError(
            f"{name} has shape {shape}, but must have {len(sizes)} dimensions ({', '.join(sizes)})"
        )
    return shape


def check_shape(name: str, array: Any, expected: tuple[int, ...], why: str) -> None:
    """Check the shape of an array that may be ``None``.

    Raises:
        ArgumentError: it is not ``expected``; ``why`` ends the sentence.
    """
    if array is not None and tuple(array.shape) != expected:
        raise ArgumentError(
            f"{name} has shape {tuple(array.shape)}, but must have {expected}, {why}"
        )


def check_at_least(problem: Problem, least: int, *names: str) -> None:
    """Raise ArgumentError unless these sizes and attributes are ``least`` or more."""
    for name in names:
        value = problem[name]
        if min(value if isinstance(value, tuple) else (value,)) < least:
            raise ArgumentError(f"{name}={value} of {problem.op.name} must be at least {least}")


def is_integer(problem: Problem) -> bool:
    """Whether the operands are integers."""
    return "int" in problem.dtypes.input


def check_integer_epilogue(problem: Problem) -> None:
    """Raise ArgumentError if an integer problem has an activation that leaves the integers."""
    if is_integer(problem):
        name = problem.activation[0] if problem.activation else None
        if name not in _INTEGER_ACTIVATIONS:
            raise ArgumentError(
                f"activation {name!r} of {problem.op.name} needs a floating dtype, "
                f"not {problem.dtypes}: choose relu or relu6, or none"
            )
