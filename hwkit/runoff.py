"""Run-off: the best few of a search against the default, in runs next to each other.

Whoever looks best among many is partly the one that had luck, and two times taken at different
moments say as much about the machine as about the code. So the last word has a fresh comparison:
in each round everybody runs once, and what counts is the ratio within the round, the default's time
over the challenger's. The order is a cyclic Latin square that is flipped every other round.

The ratio is told by its median, and its noise by the interval between two order statistics that a
sign test at 1 % gives (Conover, Practical Nonparametric Statistics, 3.2): no distribution is
assumed, so bursts of a busy machine widen it but do not move it. It is looked at after 8, 11, 15,
... rounds, and the run-off ends as soon as every challenger is proven faster or is clearly not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

from .measure import Sample, median

__all__ = ["FEWEST", "LEAST_GAIN", "LOOKS", "Paired", "RunOff", "interval"]

LEAST_GAIN = 1.02
"""How many times faster than the default a challenger must be to take its place."""

FEWEST = 5
"""Pairs below which nothing is said. Between this and the first look all of them must agree."""

LOOKS = (8, 11, 15, 21, 31, 45, 65)
"""Rounds after which the run-off may end; after the last it does."""

# Of each interval: that the true median lies outside, when looked at once.
_RISK = 0.01

K = TypeVar("K")


@dataclass(frozen=True)
class Paired:
    """How many times faster than the default a candidate was, in rounds of one run each.

    Attributes:
        base: the default: its kernel, version and config.
        ratio: median over the rounds of the default's time over the candidate's.
        low: lower end of the interval of the ratio.
        high: upper end.
        pairs: number of rounds.
    """

    base: str
    ratio: float
    low: float
    high: float
    pairs: int

    @classmethod
    def of(cls, base: str, theirs: Sequence[float], mine: Sequence[float]) -> Paired:
        """Return the comparison of times: entry ``i`` of both was taken in the same round."""
        ratios = [a / b for a, b in zip(theirs, mine, strict=True)]
        return cls(base, median(ratios), *interval(ratios), len(ratios))

    @property
    def proven(self) -> bool:
        """Whether the candidate is faster by more than the noise, and enough to matter."""
        return self.low > 1.0 and self.ratio >= LEAST_GAIN

    @property
    def settled(self) -> bool:
        """Whether more rounds are not expected to change the answer."""
        return self.proven or self.high < LEAST_GAIN

    def __str__(self) -> str:
        return (
            f"{self.ratio:.2f}x the default ({self.low:.2f}..{self.high:.2f}, {self.pairs} pairs)"
        )


@lru_cache(None)
def _outside(count: int) -> int:
    """Return how many of the sorted values lie beyond either end of the interval."""
    tail, found = 0.0, 0
    for k in range((count + 1) // 2):
        tail += math.comb(count, k) / 2**count
        if 2 * tail > _RISK:
            break
        found = k
    return found


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the interval of the median: 99 % from 8 values on, the range of fewer."""
    ordered, k = sorted(values), _outside(len(values))
    return ordered[k], ordered[-1 - k]


class RunOff(Generic[K]):
    """A run-off of some challengers against a base.

    It knows candidates by their keys and time by ``sample``, as :class:`hwkit.race.Race` does.

    Args:
        sample: takes one sample of each key, in the order given; infinity for one that failed.
        base: key of the default.
        challengers: keys of the others.
        looks: rounds after which it may end; after the last it does.

    Attributes:
        taken: samples by key; entry ``i`` of all was taken in the same round. Who failed is gone.
    """

    def __init__(
        self,
        sample: Callable[[Sequence[K]], Sequence[Sample]],
        base: K,
        challengers: Sequence[K],
        looks: Sequence[int] = LOOKS,
    ) -> None:
        self._sample = sample
        self._looks = looks
        self._base = base
        self._running = list(challengers)
        self.taken: dict[K, list[Sample]] = {key: [] for key in [base, *challengers]}

    def run(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Run rounds until the answer is clear, the last look is over, or ``stop()`` says so."""
        for number in range(self._looks[-1]):
            if stop() or not self._running or self._base not in self.taken:
                return
            self._round(number)
            if number + 1 in self._looks and self._all_settled():
                return

    def _round(self, number: int) -> None:
        order = [self._base, *self._running]
        turn = number // 2 % len(order)
        order = order[turn:] + order[:turn]
        order = order[::-1] if number % 2 else order
        # All of a round or nothing of it, should somebody press Ctrl-C in the middle.
        for key, sample in zip(order, self._sample(order), strict=True):
            if math.isfinite(sample.seconds):
                self.taken[key].append(sample)
            else:
                self.leave(key)

    def leave(self, key: K) -> None:
        """Take one out, as one that failed."""
        self.taken.pop(key, None)
        self._running = [other for other in self._running if other != key]

    def _all_settled(self) -> bool:
        """Whether nothing is open; who is clearly not faster leaves."""
        found = {key: self._compare(key, "") for key in self._running}
        self._running = [k for k, p in found.items() if p.proven or not p.settled]
        return all(found[key].settled for key in self._running)

    def _compare(self, key: K, base: str) -> Paired:
        mine = [s.seconds for s in self.taken[key]]
        theirs = [s.seconds for s in self.taken[self._base]][: len(mine)]
        return Paired.of(base, theirs, mine)

    def verdict(self, base: str) -> dict[K, Paired]:
        """Return how each compares with the base, the base itself included.

        Empty if the base failed, or if there are too few rounds to say anything.

        Args:
            base: what to call the base.
        """
        count = len(self.taken.get(self._base, ()))
        if count < FEWEST:
            return {}
        return {key: self._compare(key, base) for key, s in self.taken.items() if len(s) >= FEWEST}
