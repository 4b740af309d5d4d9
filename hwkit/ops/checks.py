"""Checks that several operators share; their messages name the argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import Array, check_out, writable_view
from ..errors import ArgumentError, DtypeError
from ..op import Dtypes, Problem, dtype_name

__all__ = [
    "check_at_least",
    "check_integer_epilogue",
    "check_rank",
    "check_shape",
    "common_dtype",
    "is_integer",
    "out_view",
    "product_dtypes",
    "sum_dtype",
]

_INTEGER_ACTIVATIONS = (None, "relu", "relu6")


def common_dtype(**arrays: Any) -> Dtypes:
    """Return the one floating dtype that all arrays have; those that are ``None`` do not count.

    Raises:
        DtypeError: an array has another dtype than the first, or one that is not supported.
    """
    (first, array), *rest = ((n, a) for n, a in arrays.items())
    _check_given(first, array)
    name = dtype_name(array.dtype, first)
    for other, array in rest:
        if array is None:
            continue
        theirs = dtype_name(array.dtype, other)
        if theirs != name:
            raise DtypeError(
                f"{other} has dtype {theirs}, but {first} has {name}: "
                f"convert one of them, as in {other}.astype('{name}')"
            )
    return Dtypes.of(name)


def _check_given(name: str, array: Any) -> None:
    if array is None:
        raise ArgumentError(f"{name} is None, but must be an array: pass one")


def product_dtypes(**arrays: Any) -> Dtypes:
    """Return the dtypes of a product: as :func:`common_dtype`, or 8-bit integers with int32 sums.

    Args:
        arrays: the two operands first, then those that are added; ``None`` where left out.

    Raises:
        DtypeError: as there; or what is added to 8-bit products is not int32.
    """
    names = list(arrays)
    for name in names[:2]:
        _check_given(name, arrays[name])
    found = [str(getattr(arrays[n].dtype, "name", arrays[n].dtype)) for n in names[:2]]
    if not set(found) <= {"int8", "uint8"}:
        return common_dtype(**arrays)
    for name in names[2:]:
        if arrays[name] is not None:
            dtype_name(arrays[name].dtype, name, ("int32",))
    return Dtypes(found[0], found[1], "int32", "int32")


def sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of a result from that of the first operand."""
    return np.dtype(np.int32) if dtype.kind in "iu" else dtype


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


def out_view(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return a writable view of ``out``.

    Raises:
        ArgumentError: it has not this shape, or cannot be written.
        DtypeError: a result of this dtype cannot be cast to its own.
    """
    view = writable_view(out)
    check_out(view, shape, dtype)
    return view
