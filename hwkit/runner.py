"""Runner: what the tuner asks of those who build, check and time candidates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from .backend import Kernel
from .config import Config
from .measure import Sample
from .op import Problem

__all__ = ["Checked", "Lost", "Runner"]


@dataclass(frozen=True)
class Checked:
    """What came of building and checking a candidate.

    Attributes:
        error: the larger relative error of the two inputs; NaN if it was never compared.
        build: seconds that building took.
        run: seconds that checking took.
        repeats: runs in one sample.
        failure: class of the failure, or ``None``.
        reason: one line on the failure.
    """

    error: float = math.nan
    build: float = 0.0
    run: float = 0.0
    repeats: int = 1
    failure: str | None = None
    reason: str = ""


class Lost(Exception):
    """A candidate that had passed its check failed while it was timed."""

    def __init__(self, key: int, failure: str, reason: str) -> None:
        super().__init__(reason)
        self.key, self.failure, self.reason = key, failure, reason


class Runner(Protocol):
    """A :class:`hwkit.trial.Bench`, here or in a child process."""

    def prepare(self, problem: Problem, seed: int) -> float:
        """Make inputs and references of a problem, drop what is held; return the seconds taken."""

    def check(self, key: int, kernel: Kernel, config: Config) -> Checked:
        """Build a candidate, check it, and keep it under ``key`` if it is right."""

    def build_ahead(self, candidates: Sequence[tuple[Kernel, Config]]) -> None:
        """Build candidates at the same time; :meth:`check` then finds them built."""

    def sample(self, keys: Sequence[int]) -> list[Sample]:
        """Take one sample of each, in this order.

        Raises:
            Lost: one of them failed.
        """

    def drop(self, keys: Iterable[int]) -> None:
        """Let go of candidates."""

    def ceilings(self) -> dict[str, float]:
        """Return the measured ceilings of the device."""

    def close(self) -> None:
        """Let go of everything."""
