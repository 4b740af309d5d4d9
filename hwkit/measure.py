"""Measurement: the times of one Config and its error, or how it failed. Race: how they are taken.

The staged race: one sample of every candidate; five of those within 15 % of the best; thirty-one of
those within 5 %, interleaved, the order flipped every round. Medians throughout: a mean follows the
outliers of a busy machine, and a minimum follows the odd burst of a turbo clock.
"""

from __future__ import annotations

import math
import resource
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Generic, NamedTuple, TypeVar

from .backend import Device
from .errors import FAILURE_CLASSES

__all__ = ["Contention", "Measurement", "Race", "Sample", "level", "on_host_clock"]

ROUNDS = (1, 5, 31)
"""Samples of a candidate after each stage of the race."""

MARGINS = (1.15, 1.05)
"""How far from the best a candidate may be to enter the second and the third stage."""

MOST_FINALISTS = 64

# A first sample up to this far from the best may be an outlier of a winner: it is taken again.
_AGAIN = 1.5

# Disturbed samples of a candidate that looks slow are taken again, up to this many in all.
_RETAKES = 4

# After this many rounds of the final, those who are clearly out are left out.
_CUT_AFTER = 11

# More disturbed samples than this, and the measurement counts as taken under contention.
_MOST_DISTURBED = 0.25


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


K = TypeVar("K")
Sampler = Callable[[Sequence[K]], Sequence[Sample]]


class Race(Generic[K]):
    """The staged race among candidates that enter one by one.

    It knows candidates by their keys only, and time by ``sample`` only, so that it runs on a worker
    process, on a device in this process, and on recorded samples alike.

    Args:
        sample: takes one sample of each key, in the order given.

    Attributes:
        samples: all that was taken before the final, by key.
    """

    def __init__(self, sample: Sampler[K]) -> None:
        self._sample = sample
        self.samples: dict[K, list[Sample]] = {}
        self._level: dict[K, float] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._level

    def seconds(self, key: K) -> float:
        """Return the present estimate for a candidate; infinity for one that is not in the race."""
        return self._level.get(key, math.inf)

    def best(self) -> K | None:
        """Return the fastest candidate so far."""
        return min(self._level, key=self._level.__getitem__, default=None)

    def enter(self, key: K, *, ranked: bool = True) -> float:
        """Run the first two stages for a candidate and return its estimated seconds.

        Args:
            key: the candidate.
            ranked: whether it may become the best; if not, it is timed and left out of the race.
        """
        best = self.best()
        taken = [*self._sample([key])]
        goal = math.inf if best is None else self._level[best]
        if goal * MARGINS[0] < taken[0].seconds <= goal * _AGAIN:
            taken += self._sample([key])
        # Others on the machine make a time longer, never shorter.
        while _least(taken) > goal * MARGINS[0] and taken[-1].disturbed and len(taken) < _RETAKES:
            taken += self._sample([key])
        estimate = _least(taken)
        if estimate <= goal * MARGINS[0]:
            estimate = self._second_stage(key, best, taken)
        self.samples[key] = taken
        if ranked:
            self._level[key] = estimate
        return estimate

    def _second_stage(self, key: K, best: K | None, taken: list[Sample]) -> float:
        """Bring a candidate to five samples, each next to one of the best so far."""
        ratios: list[float] = []
        while len(taken) < ROUNDS[1]:
            if best is None:
                taken += self._sample([key])
                continue
            flipped = len(taken) % 2 == 1
            pair = self._sample([best, key] if flipped else [key, best])
            mine, theirs = pair[::-1] if flipped else pair
            taken.append(mine)
            ratios.append(mine.seconds / theirs.seconds)
        if best is None or len(ratios) < ROUNDS[1] - 2:
            return median(s.seconds for s in taken)
        return self._level[best] * median(ratios)

    def leave(self, key: K) -> None:
        """Take a candidate out, as one that failed."""
        self._level.pop(key, None)
        self.samples.pop(key, None)

    def finalists(self, always: Iterable[K] = ()) -> list[K]:
        """Return who enters the last stage, the fastest first.

        Args:
            always: candidates that take part whatever their times: the default, the incumbent.
        """
        best = self.best()
        if best is None:
            return []
        goal = self._level[best] * MARGINS[1]
        near = sorted((k for k, s in self._level.items() if s <= goal), key=self.seconds)
        invited = [k for k in dict.fromkeys(always) if k in self._level]
        rest = [k for k in near if k not in invited]
        return sorted([*invited, *rest[: MOST_FINALISTS - len(invited)]], key=self.seconds)

    def final(
        self,
        field: Sequence[K],
        always: Collection[K] = (),
        stop: Callable[[], bool] = lambda: False,
        rounds: int = ROUNDS[2],
    ) -> dict[K, list[Sample]]:
        """Run the last stage and return its samples, entry ``i`` of all taken in the same round.

        Args:
            field: who takes part.
            always: who stays to the end whatever its times.
            stop: asked after every round.
            rounds: samples of each.

        Returns:
            The samples of those who stayed to the end.
        """
        taken: dict[K, list[Sample]] = {key: [] for key in field}
        for number in range(rounds):
            order = [k for k in field if k in taken]
            order = order[::-1] if number % 2 else order
            for key, sample in zip(order, self._sample(order), strict=True):
                # A candidate can be lost in the middle of a round.
                if key in taken and key in self._level:
                    taken[key].append(sample)
            taken = {k: s for k, s in taken.items() if k in self._level}
            if number + 1 == _CUT_AFTER:
                taken = _cut(taken, always)
            if stop():
                break
        return taken


def _least(taken: Sequence[Sample]) -> float:
    return min(s.seconds for s in taken)


def _cut(taken: dict[K, list[Sample]], always: Collection[K]) -> dict[K, list[Sample]]:
    levels = level(taken)
    goal = min(levels.values(), default=0.0) * MARGINS[1]
    return {k: s for k, s in taken.items() if levels[k] <= goal or k in always}


def level(taken: dict[K, list[Sample]]) -> dict[K, float]:
    """Return the median time of each, after the drift that all shared has been taken out.

    A round in which everybody was slower says something about the machine, not about the
    candidates: its samples are divided by the median of the ratios to each candidate's own median.
    For two candidates this is the paired median of ratios.
    """
    times = {k: [s.seconds for s in samples] for k, samples in taken.items() if samples}
    own = {k: median(t) for k, t in times.items()}
    rounds = min(map(len, times.values()), default=0)
    drift = [median(t[i] / own[k] for k, t in times.items()) for i in range(rounds)]
    return {
        k: median(s / d for s, d in zip(t, drift, strict=False) if d > 0) if rounds else own[k]
        for k, t in times.items()
    }


def on_host_clock(device: Device) -> bool:
    """Whether a device's times are wall time of the host, which other processes lengthen."""
    return type(device).time is Device.time


class Contention:
    """Notices that something else uses the machine.

    Two signs: this process was taken off a CPU against its will, or a tiny loop whose time is known
    became slower, which also shows a neighbour outside a virtual machine.
    """

    _SLOWER = 1.3

    def __init__(self) -> None:
        self._data = bytes(64 * 1024)
        self._calm = min(self._probe() for _ in range(9))

    def _probe(self) -> float:
        start = time.perf_counter()
        zlib.crc32(self._data)
        return time.perf_counter() - start

    @staticmethod
    def evictions() -> int:
        """Return how often this process was taken off a CPU against its will."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw

    def slowed(self) -> bool:
        """Whether the loop is slower than it was; the best of two, for one blip is nothing."""
        now = min(self._probe(), self._probe())
        self._calm = min(self._calm, now)
        return now > self._SLOWER * self._calm
