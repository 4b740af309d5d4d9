"""Measurement: the times of one Config and its error against the reference, or how it failed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .errors import FAILURE_CLASSES

__all__ = ["Measurement", "Sample", "median"]

# More disturbed samples than this, and the measurement counts as taken under contention.
_MOST_DISTURBED = 0.25


def median(values: Iterable[float]) -> float:
    """Return the value in the middle, or the mean of both, without the imports of statistics."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


@dataclass(frozen=True)
class Measurement:
    """The times of one Config and its error against the reference, or the failure and its class.

    Attributes:
        seconds: median of the samples, of a final with the drift that all finalists shared taken
            out; infinity if the candidate failed.
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

    @classmethod
    def of(
        cls, samples: Sequence[Sample], error: float, seconds: float | None = None
    ) -> Measurement:
        """Return the Measurement of a candidate that was timed.

        Args:
            samples: in the order in which they were taken.
            error: relative Frobenius error against float64.
            seconds: what to call its time; the median of the samples if ``None``.
        """
        times = tuple(s.seconds for s in samples)
        middle = median(times) if seconds is None else min(max(seconds, min(times)), max(times))
        disturbed = sum(s.disturbed for s in samples) > _MOST_DISTURBED * len(samples)
        return cls(middle, times, error, contended=disturbed)


class Sample(NamedTuple):
    """Seconds per run, and whether something else used the machine meanwhile."""

    seconds: float
    disturbed: bool = False
