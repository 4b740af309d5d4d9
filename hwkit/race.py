"""Race: how the times of many candidates are taken, most of them of those that may be the fastest.

The staged race: one sample of every candidate; five of those within 15 % of the best; thirty-one of
those within 5 %, interleaved, the order flipped every round. Five samples do not tell who is within
5 %, so the final begins with all within 20 % and leaves out the others after eleven rounds; those
who are still within 2.5 % after thirty-one go on to a hundred and one, because two runs should
choose the same. Medians throughout: a mean follows the outliers of a busy machine, and a minimum
follows the odd burst of a turbo clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Generic, TypeVar

from .measure import Sample, median

__all__ = ["MARGINS", "Race", "level"]

ROUNDS = (1, 5, 31)
"""Samples of a candidate after each stage of the race."""

MARGINS = (1.15, 1.05)
"""How far from the best a candidate may be to enter the second and the third stage."""

INVITED = 1.2
"""How far from the best a candidate may be, by its first samples, to begin the final."""

MOST_FINALISTS = 64

# A first sample up to this far from the best may be an outlier of a winner: it is taken again.
_AGAIN = 1.5

# Disturbed samples of a candidate that looks slow are taken again, up to this many in all.
_RETAKES = 4

# Rounds of the final after which those further from the best than this are left out.
_CUTS = {11: MARGINS[1], ROUNDS[2]: 1.025}
_LAST = 101

# Dividing a candidate's samples by the drift of the others must narrow them to this share for the
# drift to be believed.
_DRIFT = 0.9

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
        taken: what :meth:`final` returns, or has so far, should Ctrl-C end it.
    """

    def __init__(self, sample: Sampler[K]) -> None:
        self._sample = sample
        self.samples: dict[K, list[Sample]] = {}
        self.taken: dict[K, list[Sample]] = {}
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
        times = [s.seconds for s in taken]
        if best is None or len(ratios) < ROUNDS[1] - 2:
            return median(times)
        # The ratios of a very busy machine are wild: what was never seen is not believed.
        return min(max(self._level[best] * median(ratios), min(times) / _AGAIN), max(times))

    def confirm(self, key: K, rounds: int = 15) -> float:
        """Return the estimate for a candidate after more samples, which replace what was there."""
        times = [self._sample([key])[0].seconds for _ in range(rounds) if key in self._level]
        if key in self._level:
            self._level[key] = median(times)
        return self.seconds(key)

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
        goal = self._level[best] * INVITED
        near = sorted((k for k, s in self._level.items() if s <= goal), key=self.seconds)
        invited = [k for k in dict.fromkeys(always) if k in self._level]
        rest = [k for k in near if k not in invited]
        return sorted([*invited, *rest[: MOST_FINALISTS - len(invited)]], key=self.seconds)

    def final(
        self,
        field: Sequence[K],
        always: Collection[K] = (),
        stop: Callable[[], bool] = lambda: False,
        rounds: int = _LAST,
    ) -> dict[K, list[Sample]]:
        """Run the last stage and return its samples, entry ``i`` of all taken in the same round.

        Args:
            field: who takes part.
            always: who takes part in 31 rounds whatever its times.
            stop: asked after every round.
            rounds: most samples of each.

        Returns:
            The samples of those who took 31, and of those who were there at the end.
        """
        self.taken = {}
        settled: dict[K, list[Sample]] = {}
        taken: dict[K, list[Sample]] = {key: [] for key in field}
        for number in range(rounds):
            order = [k for k in field if k in taken]
            order = order[::-1] if number % 2 else order
            for key, sample in zip(order, self._sample(order), strict=True):
                # A candidate can be lost in the middle of a round.
                if key in taken and key in self._level:
                    taken[key].append(sample)
            taken = {k: s for k, s in taken.items() if k in self._level}
            if number + 1 in _CUTS:
                before, taken = taken, _cut(taken, _CUTS[number + 1])
                if number + 1 < ROUNDS[2]:
                    taken |= {k: before[k] for k in always if k in before}
                else:
                    settled = {k: s for k, s in before.items() if k not in taken}
            self.taken = {key: [*samples] for key, samples in (settled | taken).items()}
            if stop() or (number + 1 >= ROUNDS[2] and len(taken) < 2):
                break
        return self.taken


def _least(taken: Sequence[Sample]) -> float:
    return min(s.seconds for s in taken)


def _cut(taken: dict[K, list[Sample]], margin: float) -> dict[K, list[Sample]]:
    levels = level(taken)
    goal = min(levels.values(), default=0.0) * margin
    return {k: s for k, s in taken.items() if levels[k] <= goal}


def level(taken: dict[K, list[Sample]]) -> dict[K, float]:
    """Return the median time of each, after the drift that all shared has been taken out.

    A round in which everybody was slower says something about the machine, not about the
    candidates: its samples are divided by the median of the ratios to each candidate's own median,
    as long as that makes the samples agree better. For two candidates this is the paired median of
    ratios. Who took part in fewer rounds is compared over those rounds.
    """
    found: dict[K, float] = {}
    for rounds in sorted({len(samples) for samples in taken.values()} - {0}):
        there = {k: s[:rounds] for k, s in taken.items() if len(s) >= rounds}
        found |= _level({k: [s.seconds for s in samples] for k, samples in there.items()})
    return found


def _level(times: dict[K, list[float]]) -> dict[K, float]:
    own = {k: median(t) for k, t in times.items()}
    if len(times) < 2 or min(own.values()) <= 0:
        return own
    ratios = {k: [s / own[k] for s in t] for k, t in times.items()}
    # A drift that is real shows in the others, too.
    foretold = sum(
        _spread(_without(r, [o for j, o in ratios.items() if j != k])) for k, r in ratios.items()
    )
    if foretold > _DRIFT * sum(map(_spread, ratios.values())):
        return own
    return {k: own[k] * median(_without(r, list(ratios.values()))) for k, r in ratios.items()}


def _without(samples: list[float], drifting: list[list[float]]) -> list[float]:
    """Return samples divided by the median of ``drifting`` in each round."""
    shared = [median(together) for together in zip(*drifting, strict=True)]
    return [s / d for s, d in zip(samples, shared, strict=True)]


def _spread(samples: list[float]) -> float:
    middle = median(samples)
    return median(abs(s - middle) for s in samples)
