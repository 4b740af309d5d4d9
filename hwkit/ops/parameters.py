"""Scales and zero points as callers write them: numbers or vectors, made operands of a problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arrays import host_view
from ..errors import ArgumentError, DtypeError, shown
from ..op import dtype_name
from .quantised import BYTES, OUTPUTS

__all__ = ["Parameters", "arrays_of"]

Array = np.ndarray[Any, Any]


def arrays_of(**arrays: Any) -> tuple[Any, ...]:
    """Return what has a dtype as it is, and anything else as a numpy array."""
    return tuple(a if hasattr(a, "dtype") else host_view(a, n) for n, a in arrays.items())


class Parameters:
    """Scales and zero points of a call: numbers made arrays, those of the weights alike.

    Args:
        operands: the two operands by name.
        scales: of the two operands, or ``None``; a number, of the second also one for each channel.
        zeros: likewise, of the dtypes of the operands.
        y_scale: of the output, or ``None``.
        y_zero: of the output; an array's dtype is the output's.
        out_dtype: of the output, or ``None`` to take that of ``y_zero`` or of the first operand.

    Attributes:
        per_channel: whether those of the weights are vectors.
        output: dtype of the output.

    Raises:
        ArgumentError: a parameter is missing, has a wrong shape, or does not fit its dtype.
        DtypeError: an operand is not of 8 bits.
    """

    def __init__(
        self,
        operands: Mapping[str, Any],
        scales: tuple[Any, Any],
        zeros: tuple[Any, Any],
        y_scale: Any,
        y_zero: Any,
        out_dtype: str | None,
    ) -> None:
        names = self._names = tuple(operands)
        dtypes = [dtype_name(array.dtype, name, BYTES) for name, array in operands.items()]
        self.output = _output(names, scales, y_scale, y_zero, out_dtype, dtypes[0])
        given: dict[str, tuple[Any, str]] = {}
        for name, scale, zero, dtype in zip(names, scales, zeros, dtypes, strict=True):
            if self.output != "int32":
                given[f"{name}_scale"] = scale, "float32"
            given[f"{name}_zero"] = zero, dtype
        if self.output in BYTES:
            given |= {"y_scale": (y_scale, "float32"), "y_zero": (y_zero, self.output)}
        vectors = (f"{names[1]}_scale", f"{names[1]}_zero")
        self._arrays = {n: _parameter(n, *v, n in vectors) for n, v in given.items()}
        sizes = {self._arrays[n].size for n in vectors if n in self._arrays} - {1}
        self.per_channel = bool(sizes)
        for name in vectors if sizes else ():
            if name in self._arrays and self._arrays[name].size == 1:
                self._arrays[name] = np.repeat(self._arrays[name], max(sizes))

    def arrays(self) -> tuple[Array | None, ...]:
        """Return scale and zero point of both operands and of the output, ``None`` if not used."""
        wanted = (f"{name}_{what}" for name in (*self._names, "y") for what in ("scale", "zero"))
        return tuple(self._arrays.get(name) for name in wanted)


def _output(
    names: tuple[str, ...],
    scales: tuple[Any, Any],
    y_scale: Any,
    y_zero: Any,
    out_dtype: str | None,
    first: str,
) -> str:
    """Return the dtype that a call makes, from what it gives."""
    missing = [f"{n}_scale" for n, scale in zip(names, scales, strict=True) if scale is None]
    if len(missing) == 1 or (missing and y_scale is not None):
        raise ArgumentError(
            f"{missing[0]} is missing: give the scales of both operands, or of none for int32 sums"
        )
    natural = "int32" if missing else "float32"
    if y_scale is not None:
        natural = str(getattr(y_zero, "dtype", first))
    try:
        wanted = natural if out_dtype is None else str(np.dtype(out_dtype))
    except (TypeError, ValueError, SyntaxError):
        raise DtypeError(
            f"out_dtype={shown(out_dtype)} must be one of {', '.join(OUTPUTS)}"
        ) from None
    if wanted != natural and (y_scale is None or wanted not in BYTES):
        raise ArgumentError(
            f"out_dtype={shown(out_dtype)} does not go with these parameters, which make "
            f"{natural}: y_scale makes 8 bits, the scales of both operands float32, no scale int32"
        )
    return wanted


def _parameter(name: str, value: Any, dtype: str, may_be_vector: bool) -> Array:
    array = host_view(0 if value is None else value, name)
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise ArgumentError(f"{name}={shown(value)} must be of numbers, not of {array.dtype.name}")
    if array.ndim > may_be_vector and array.size != 1:
        what = "a number, or one for each output channel" if may_be_vector else "a number"
        raise ArgumentError(f"{name} has shape {array.shape}, but must be {what}")
    array = array.reshape(()) if array.size == 1 else array
    with np.errstate(invalid="ignore", over="ignore"):  # what does not fit is told below
        narrow = array.astype(dtype)
    if dtype in BYTES and not np.array_equal(narrow, array):
        raise ArgumentError(f"{name}={shown(value)} does not fit {dtype}: pass a whole number")
    if name == "y_scale" and not 0 < narrow < np.inf:
        raise ArgumentError(f"y_scale={shown(value)} must be a finite number above 0: it divides")
    return narrow
