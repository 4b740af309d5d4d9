"""Dtypes of a Problem: their names, and what numpy calls them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .errors import ArgumentError, DtypeError, Unavailable

FLOATS = ("float32", "float64", "float16", "bfloat16")
INTEGERS = ("int8", "uint8", "int32", "int64")


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the numpy dtype of a dtype name.

    Raises:
        Unavailable: bfloat16 without ``ml_dtypes``.
    """
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise Unavailable("bfloat16 needs ml_dtypes: pip install ml_dtypes") from None
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether a numpy dtype is one of the floating dtypes that operators take.

    The kind does not say so: bfloat16 of ``ml_dtypes`` has the kind ``"V"``, as plain bytes have.
    """
    return dtype.name in FLOATS


def widened(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return float16 and bfloat16 as float32, all else as it is.

    For sums and for what takes several steps, so that there is one rounding, at the end: numpy adds
    bfloat16 in bfloat16, where 256 + 1 is 256.
    """
    narrow = is_float(array.dtype) and array.dtype.itemsize < 4
    return array.astype(np.float32) if narrow else array


def dtype_name(dtype: object, argument: str, allowed: tuple[str, ...] = FLOATS) -> str:
    """Return the name of a dtype, whatever its byte order.

    Args:
        dtype: a numpy dtype, or what has one's name.
        argument: name of the argument that has it, for the message.
        allowed: names to accept.

    Raises:
        DtypeError: the dtype is not one of ``allowed``.
    """
    name = str(getattr(dtype, "name", dtype))
    if name not in allowed:
        raise DtypeError(
            f"{argument} has dtype {name}, but must be one of {', '.join(allowed)}: "
            f"convert it, as in {argument}.astype('{allowed[0]}')"
        )
    return name


class Dtypes(NamedTuple):
    """The four dtypes of a Problem, by name."""

    input: str
    weight: str
    output: str
    accumulate: str

    @classmethod
    def of(cls, name: str) -> Dtypes:
        """Return one floating dtype for all, with float32 accumulation where it is narrower."""
        return cls(name, name, name, "float32" if name in ("float16", "bfloat16") else name)

    @classmethod
    def parse(cls, text: str) -> Dtypes:
        """Read one dtype, or four with commas."""
        names = text.split(",")
        unknown = [n for n in names if n not in FLOATS + INTEGERS * (len(names) > 1)]
        if unknown or len(names) not in (1, 4):
            raise ArgumentError(
                f"dtype {text!r} cannot be read: write one of {', '.join(FLOATS)}, "
                "or four with commas for input, weight, output and accumulator"
            )
        return cls.of(names[0]) if len(names) == 1 else cls(*names)

    def __str__(self) -> str:
        usual = self.input in FLOATS and self == Dtypes.of(self.input)
        return self.input if usual else ",".join(self)
