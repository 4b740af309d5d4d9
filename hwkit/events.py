"""What a tuning run tells while it goes on, and what comes out of it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union

from .errors import HwkitWarning
from .op import Problem
from .records.record import Record

__all__ = [
    "Event",
    "Note",
    "ProblemFinished",
    "ProblemStarted",
    "TrialFinished",
    "TuneResult",
    "warn_of_failures",
]


@dataclass(frozen=True)
class TuneResult:
    """What came of tuning one Problem.

    Attributes:
        problem: the Problem.
        best: what a call runs from now on; ``None`` if every candidate failed.
        default: the default that ``best`` is compared with; ``None`` if it failed.
        ties: those that cannot be told apart from ``best``.
        trials: candidates tried in this run.
        failures: how many failed, by class.
        pruned: Configs that were ruled out without running.
        seconds: wall time.
        stopped_by: ``"budget"``, ``"trials"``, ``"exhausted"``, ``"speed of light"``,
            ``"interrupted"``, or ``"setup"`` where nothing could be tried.
        roofline_share: share of the roofline that ``best`` reaches; ``None`` if it is not known.
    """

    problem: Problem
    best: Record | None
    default: Record | None
    ties: tuple[Record, ...] = ()
    trials: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    pruned: int = 0
    seconds: float = 0.0
    stopped_by: str = "exhausted"
    roofline_share: float | None = None

    @property
    def speedup(self) -> float | None:
        """How many times faster ``best`` is than ``default``; ``None`` if one of them failed.

        By the pairs of their run-off, where there was one.
        """
        if self.best is None or self.default is None:
            return None
        if self.best.race is not None and self.best.race.base == self.default.name:
            return self.best.race.ratio
        return self.default.measurement.seconds / self.best.measurement.seconds


@dataclass(frozen=True)
class ProblemStarted:
    """A Problem begins.

    Attributes:
        index: its number, from 1.
        count: number of Problems.
        problem: the Problem.
        space_size: number of Configs of all Kernels together.
        roofline: least seconds that the device's ceilings allow; ``None`` if it is not known.
        budget: seconds for it, or ``None``.
    """

    index: int
    count: int
    problem: Problem
    space_size: int
    roofline: float | None = None
    budget: float | None = None


@dataclass(frozen=True)
class TrialFinished:
    """A candidate was tried.

    Attributes:
        record: the trial.
        best: seconds of the best so far; infinity if there is none.
        default: seconds of the default; infinity if it failed or was not tried yet.
        roofline_share: share of the roofline that the best reaches, or ``None``.
        trials: number of trials so far.
        failures: how many failed so far, by class.
        seconds_left: of the budget, or ``None``.
    """

    record: Record
    best: float
    default: float
    roofline_share: float | None
    trials: int
    failures: Mapping[str, int]
    seconds_left: float | None


@dataclass(frozen=True)
class ProblemFinished:
    """A Problem ended."""

    result: TuneResult


@dataclass(frozen=True)
class Note:
    """Something worth knowing, in one sentence.

    Attributes:
        text: the sentence.
        failed: whether it says why a problem could not be tuned.
    """

    text: str
    failed: bool = False


Event = Union[ProblemStarted, TrialFinished, ProblemFinished, Note]


def warn_of_failures(event: Event) -> None:
    """Take events where nobody else does: why a problem could not be tuned is a warning."""
    if isinstance(event, Note) and event.failed:
        warnings.warn(event.text, HwkitWarning, stacklevel=6)
