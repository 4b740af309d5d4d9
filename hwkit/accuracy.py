"""Errors of results against float64: how they are measured, and how large they may be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

# One rounding of the output more than float32 accumulation, for the two that are stored narrow.
BUDGETS = {
    "float32": 2e-6,
    "float64": 1e-13,
    "float16": 2.0**-11 + 2e-6,
    "bfloat16": 2.0**-8 + 2e-6,
}
"""Relative errors that are allowed by default, by the dtype of the output."""


def relative_error(result: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> float:
    """Return the relative Frobenius error of ``result`` against a float64 ``reference``.

    Infinity where the two differ in where they are NaN, +Inf or -Inf; the absolute error where the
    reference is zero; 0.0 for empty arrays.
    """
    got, want = np.asarray(result, np.float64), np.asarray(reference, np.float64)
    if got.shape != want.shape:
        return math.inf
    finite = np.isfinite(want)
    if not finite.all():
        if not np.array_equal(got[~finite], want[~finite], equal_nan=True):
            return math.inf
        got, want = got[finite], want[finite]
    if not np.isfinite(got).all():
        return math.inf
    # Scaled before squaring: float64 operands near the end of the range must not overflow the norm.
    scale = float(np.abs(want).max(initial=0.0)) or 1.0
    difference = float(np.linalg.norm((got - want).ravel() / scale))
    norm = float(np.linalg.norm(want.ravel() / scale))
    return difference / norm if norm else difference
