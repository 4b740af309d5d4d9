"""Field: the candidates of a search that are built, and the race that they are in."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence

from .candidate import Candidate
from .measure import Sample
from .race import Race
from .runner import Lost, Runner

__all__ = ["Field"]

# Who is this close to the best stays built, to be raced again.
_NEAR = 1.25
_MOST_HELD = 96


class Field:
    """The candidates of a search by their keys, and their race.

    Args:
        runner: what builds, checks and times.
        bury: told of a candidate that had been measured and failed later.

    Attributes:
        race: the staged race.
        candidates: all that were tried.
        default: key of the default, ``None`` before it has succeeded.
        incumbent: key of what ran before the search, ``None`` if nothing did.
    """

    def __init__(self, runner: Runner, bury: Callable[[Candidate, Lost], None]) -> None:
        self._runner = runner
        self._bury = bury
        self.race: Race[int] = Race(self.sample)
        self.candidates: dict[int, Candidate] = {}
        self.default: int | None = None
        self.incumbent: int | None = None
        self._entering = -1
        self._spent = self._sampled = 0.0  # wall time of sampling, and the seconds it measured

    @property
    def always(self) -> list[int]:
        """Who takes part in the final whatever its time: the default, the incumbent."""
        return [key for key in (self.default, self.incumbent) if key is not None]

    @property
    def best(self) -> float:
        """Estimated seconds of the fastest; infinity if there is none."""
        best = self.race.best()
        return math.inf if best is None else self.race.seconds(best)

    def add(self, candidate: Candidate) -> int:
        """Return the key of a new candidate."""
        key = len(self.candidates)
        self.candidates[key] = candidate
        return key

    def enter(self, key: int, *, ranked: bool) -> float:
        """Let a candidate that was checked into the race; return its estimated seconds.

        Args:
            key: the candidate.
            ranked: whether it may become the best.

        Raises:
            Lost: it failed.
        """
        self._entering = key
        try:
            return self.race.enter(key, ranked=ranked)
        finally:
            self._entering = -1

    def leave(self, key: int) -> None:
        """Take a candidate out and let go of it."""
        self.race.leave(key)
        self._runner.drop([key])

    def sample(self, keys: Sequence[int]) -> list[Sample]:
        """Take a sample of each; who is lost on the way is buried, and has infinity.

        Raises:
            Lost: the one that is entering the race failed.
        """
        found: dict[int, Sample] = {}
        while True:
            alive = [k for k in keys if k in self.race or k == self._entering]
            begin = time.monotonic()
            try:
                found = dict(zip(alive, self._runner.sample(alive), strict=True))
                self._spent += time.monotonic() - begin
                # By the estimates, as round() counts: on a busy machine samples take longer.
                least = (min(s.seconds, self.race.seconds(k)) for k, s in found.items())
                self._sampled += sum(max(seconds, 1e-4) for seconds in least)
                break
            except Lost as lost:
                if lost.key == self._entering or lost.key not in self.race:
                    raise
                self.leave(lost.key)
                self._bury(self.candidates[lost.key], lost)
        return [found.get(key, Sample(math.inf)) for key in keys]

    def recheck(self, key: int) -> bool:
        """Whether the answer of a candidate is still right; if not, it is buried."""
        candidate = self.candidates[key]
        checked = self._runner.check(key, candidate.arm.kernel, candidate.config)
        if checked.failure is not None:
            self.leave(key)
            self._bury(candidate, Lost(key, checked.failure, checked.reason))
        return checked.failure is None

    def round(self, keys: Iterable[int]) -> float:
        """Return about how many seconds of wall time one sample of each takes."""
        # A warm run before each sample, and what sampling has cost so far beyond that.
        cost = max(2.0, self._spent / self._sampled if self._sampled else 0.0)
        return sum(cost * max(self.race.seconds(key), 1e-4) for key in keys)

    def let_go(self) -> None:
        """Drop what cannot come into the final any more."""
        goal = _NEAR * self.best
        held = set(self.race.samples)
        near = {k for k in held if k in self.race and self.race.seconds(k) <= goal}
        keep = set(sorted(near, key=self.race.seconds)[:_MOST_HELD])
        keep |= {*self.race.finalists(self.always), *self.always}
        for key in held - keep:
            self.leave(key)
