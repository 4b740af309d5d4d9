"""Errors of results against float64: how they are measured, and how large they may be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# Elements that are compared at a time, which a core's cache holds.
_PART = 1 << 16

# One rounding of the output more than float32 accumulation, for the two that are stored narrow.
BUDGETS = {
    "float32": 2e-6,
    "float64": 1e-13,
    "float16": 2.0**-11 + 2e-6,
    "bfloat16": 2.0**-8 + 2e-6,
}
"""Relative errors that are allowed by default, by the dtype of the output."""


def relative_error(result: Array, reference: Array) -> float:
    """Return the relative Frobenius error of ``result`` against a float64 ``reference``.

    Infinity where the two differ in where they are NaN, +Inf or -Inf; the absolute error where the
    reference is zero; 0.0 for empty arrays.
    """
    got, want = np.asarray(result), np.asarray(reference)
    if got.shape != want.shape:
        return math.inf
    # Part by part: arrays of float64 as large as the answer would cost more than the comparison.
    got, want = got.reshape(-1), want.reshape(-1)
    parts = [slice(at, at + _PART) for at in range(0, got.size, _PART)]
    # Scaled before squaring: float64 operands near the end of the range must not overflow the norm.
    scale = max((_largest(np.asarray(want[part], np.float64)) for part in parts), default=0.0)
    difference = norm = 0.0
    for part in parts:
        found = _squares(
            np.asarray(got[part], np.float64), np.asarray(want[part], np.float64), scale or 1.0
        )
        if found is None:
            return math.inf
        difference, norm = difference + found[0], norm + found[1]
    return math.sqrt(difference / norm) if norm else math.sqrt(difference)


def _largest(want: Array) -> float:
    """Return the largest finite magnitude; 0.0 if there is none."""
    magnitudes = np.abs(want)
    largest = float(magnitudes.max(initial=0.0))
    if math.isfinite(largest):
        return largest
    return float(magnitudes[np.isfinite(magnitudes)].max(initial=0.0))


def _squares(got: Array, want: Array, scale: float) -> tuple[float, float] | None:
    """Return the sums of squares of the difference and of what is wanted, both over ``scale``.

    ``None`` where one is not finite and the other is something else.
    """
    finite = np.isfinite(want)
    if not finite.all():
        if not np.array_equal(got[~finite], want[~finite], equal_nan=True):
            return None
        got, want = got[finite], want[finite]
    if not np.isfinite(got).all():
        return None
    off, size = (got - want) / scale, want / scale
    # Not by BLAS, whose threads would cost more than they do. What is far off may be infinite.
    with np.errstate(over="ignore"):
        return float(np.square(off, out=off).sum()), float(np.square(size, out=size).sum())
