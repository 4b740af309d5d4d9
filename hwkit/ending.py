"""Ending: the final and the run-off of a search, and the time that is kept aside for them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from dataclasses import field as attribute

from .field import Field
from .measure import Measurement, Sample
from .race import MARGINS, level
from .records import Database
from .records.ranking import pick
from .runoff import FEWEST, LOOKS, RunOff

__all__ = ["Ending"]

# Fewer rounds than this in the final tell too little: rather fewer finalists.
_LEAST_ROUNDS = 15

# Part of the budget that is kept for the final and for the run-off, at most.
_FINAL_SHARE, _RUNOFF_SHARE = 0.25, 0.25

# The run-off should have time to look a third time, and twice as much where estimates were lucky.
_ROUNDS = 2 * LOOKS[2]

# Part of the budget by which a run-off may overrun it, should the machine have been slower still.
_OVERRUN = 0.02

# Who is in the run-off besides the default, the incumbent and what an earlier one has proven.
_CHALLENGERS, _MOST = 3, 5


@dataclass
class Ending:
    """The end of a search.

    Attributes:
        field: the candidates.
        database: where their records are kept.
        deadline: on the monotonic clock; infinity for none.
        began: when the search began.
    """

    field: Field
    database: Database
    deadline: float
    began: float
    _taken: dict[int, list[Sample]] = attribute(default_factory=dict, init=False)
    _levels: dict[int, float] = attribute(default_factory=dict, init=False)
    _pick: int | None = attribute(default=None, init=False)

    def reserve(self) -> float:
        """Return the seconds to keep for the end."""
        if math.isinf(self.deadline):
            return 0.0
        budget = self.deadline - self.began
        finalists = self.field.race.finalists(self.field.always)
        final = min(_FINAL_SHARE * budget, _LEAST_ROUNDS * self.field.round(finalists))
        return final + self._kept()

    def _kept(self) -> float:
        """Return the seconds to keep for the run-off."""
        default, challengers = self.field.default, self._challengers()
        if default is None or not challengers or math.isinf(self.deadline):
            return 0.0
        seconds = _ROUNDS * self.field.round([default, *challengers])
        return min(_RUNOFF_SHARE * (self.deadline - self.began), seconds)

    def final(self, tried: int) -> None:
        """Run the last stage of the race, and keep what it measures, also if Ctrl-C ends it.

        Args:
            tried: number of candidates tried in the search.
        """
        field, always = self.field, self.field.always
        keys = field.race.finalists(always)
        end = self.deadline - self._kept()
        left = end - time.monotonic()
        while len(keys) > max(2, len(always)) and _LEAST_ROUNDS * field.round(keys) > left:
            keys.remove(next(k for k in reversed(keys) if k not in always))
        alone = tried == 1 and keys == [field.incumbent]
        if not keys or field.round(keys) > left or alone:
            return
        try:
            field.race.final(keys, always, lambda: time.monotonic() > end)
        finally:
            self._keep_final()

    def _keep_final(self) -> None:
        field, self._taken = self.field, self.field.race.taken
        self._levels = level(self._taken)
        for key, samples in self._taken.items():
            candidate = field.candidates[key]
            measured = Measurement.of(samples, candidate.error, self._levels[key])
            self.database.add(candidate.record(measured))
        results = {key: field.candidates[key].result for key in self._taken}
        best, _ = pick(record for record in results.values() if record is not None)
        self._pick = next((key for key, record in results.items() if record is best), None)

    def _seconds(self, key: int) -> float:
        return self._levels.get(key, self.field.race.seconds(key))

    def _challengers(self) -> list[int]:
        """Return who is to be compared with the default, the most important first.

        That is the canonical pick of the final: another that is as fast in the run-off does not
        take its place, so that two searches choose the same.
        """
        race, default = self.field.race, self.field.default
        alive = [key for key in race.samples if key in race and key != default]
        alive.sort(key=self._seconds)
        if default is None or default not in race or not alive:
            return []
        # Whom the final has left out on the way is not fast, whatever its first samples said.
        near = [key for key in alive if key in self._taken or not self._taken] or alive
        goal = min(MARGINS[1] * self._seconds(near[0]), self._seconds(default))
        fast = [key for key in near if self._seconds(key) <= goal]
        fast.sort(key=lambda key: key != self._pick)
        before = [k for k in alive if k == self.field.incumbent or self._was_proven(k)]
        return [*dict.fromkeys([*fast[:1], *before, *fast[1:_CHALLENGERS]])][:_MOST]

    def _was_proven(self, key: int) -> bool:
        candidate = self.field.candidates[key]
        return candidate.config in candidate.arm.proven

    def run_off(self) -> None:
        """Compare the best few with the default in pairs, and keep what came of it.

        What a Ctrl-C leaves of it is kept, too, if it says anything.
        """
        default, challengers = self.field.default, self._challengers()
        now = time.monotonic()
        end = max(self.deadline, now + _OVERRUN * (self.deadline - self.began))
        left = end - now
        while challengers and FEWEST * self.field.round([*challengers, default or 0]) > left:
            challengers.pop()
        if default is None or not challengers:
            return
        off = RunOff(self.field.sample, default, challengers)
        try:
            off.run(lambda: time.monotonic() > end)
            # After so many runs the answer must still be right.
            for key, found in off.verdict("").items():
                if found.proven and not self.field.recheck(key):
                    off.leave(key)
        finally:
            self._keep_run_off(off, default)

    def _keep_run_off(self, off: RunOff[int], default: int) -> None:
        candidates = self.field.candidates
        held = candidates[default].result
        verdict = off.verdict(held.name) if held is not None else {}
        times = self._together({key: off.taken[key] for key in verdict})
        levels = level(times)
        self.database.add_all(
            candidates[key].record(
                Measurement.of(times[key], candidates[key].error, levels[key]), found
            )
            for key, found in verdict.items()
        )

    def _together(self, taken: dict[int, list[Sample]]) -> dict[int, list[Sample]]:
        """Return the samples of the run-off with those of the final behind them.

        Only fresh pairs tell whether a candidate beats the default; which of those that do is the
        fastest, all rounds tell that they had together.
        """
        rounds = max(map(len, taken.values()), default=0)
        # Who left early was not faster, and its samples would not be of the same rounds.
        stayed = {k for k, samples in taken.items() if len(samples) == rounds}
        return {k: s + self._taken.get(k, []) if k in stayed else s for k, s in taken.items()}
