"""Measurement: the times of one Config and its error, or how it failed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .errors import FAILURE_CLASSES

__all__ = ["Measurement"]


@dataclass(frozen=True)
class Measurement:
    """The times of one Config and its error against the reference, or the failure and its class.

    Attributes:
        seconds: median of the samples; infinity if the candidate failed.
        samples: seconds per run, one entry a sample, in the order in which they were taken.
        error: relative Frobenius error against float64; NaN if it was never checked.
        failure: one of :data:`hwkit.errors.FAILURE_CLASSES`, or ``None``.
        reason: one line on the failure.
        contended: whether something else used the machine meanwhile.
    """

    seconds: float
    samples: tuple[float, ...] = ()
    error: float = math.nan
    failure: str | None = None
    reason: str = ""
    contended: bool = False

    def __post_init__(self) -> None:
        if self.failure is not None and self.failure not in FAILURE_CLASSES:
            raise ValueError(f"failure class {self.failure!r} is not one of {FAILURE_CLASSES}")

    @property
    def ok(self) -> bool:
        """Whether the candidate ran and was timed."""
        return self.failure is None

    @classmethod
    def failed(cls, failure: str, reason: str, error: float = math.nan) -> Measurement:
        """Return the Measurement of a candidate that failed."""
        return cls(math.inf, (), error, failure, reason)
