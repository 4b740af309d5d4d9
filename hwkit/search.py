"""Search: the tuning of one Problem, from the first candidate to the final.

First the portfolio: the default of every Kernel, the incumbent, what won for near Problems and on
other devices, all measured here. Then the strategies, one for each Kernel, which share the trials
by how close each has come to the best. Then the final.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .arms import Arm, Arms
from .backend import Device, Kernel
from .candidate import Candidate
from .errors import HwkitError
from .events import Event, Note, TrialFinished, TuneResult
from .measure import Measurement, Race, Sample, level
from .op import Problem
from .records import Database
from .records.ranking import pick
from .records.record import Record
from .roofline import Roofline
from .runner import Lost, Runner
from .selection import Tolerance
from .space import Config
from .strategies import Strategy
from .worker import Worker

__all__ = ["Search"]

# Who is this close to the best stays built, to be raced again.
_NEAR = 1.25

_FIRST = 3  # tried in vain before a budget that is too small for any ends the search

# Fewer rounds than this in the final tell too little: rather fewer finalists.
_LEAST_ROUNDS = 15

# Builds that take longer and more of the time than this are done several at a time.
_LONG_BUILD, _BUILD_SHARE = 0.02, 0.1
_MOST_BUILDS = min(4, os.cpu_count() or 1)

# Part of the budget that is kept for the final, at most.
_FINAL_SHARE = 0.35


@dataclass
class Search:
    """The tuning of one Problem.

    Attributes:
        problem: the Problem.
        device: where.
        kernels: those that support it.
        runner: what builds, checks and times.
        database: where trials are kept.
        strategy: class of the strategy.
        seed: of all random choices.
        tolerance: which candidates may win.
        ceilings: of the device.
        deadline: on the monotonic clock; infinity for none.
        trials: most candidates to try.
        timeout: seconds for one candidate; by the default's time if ``None``.
        emit: takes events.
        shortlist: kernel, version and Config of what to try early.
    """

    problem: Problem
    device: Device
    kernels: Sequence[Kernel]
    runner: Runner
    database: Database
    strategy: type[Strategy]
    seed: int = 0
    tolerance: Tolerance = None
    ceilings: Mapping[str, float] = field(default_factory=dict)
    deadline: float = math.inf
    trials: float = math.inf
    timeout: float | None = None
    emit: Callable[[Event], None] = lambda event: None
    shortlist: Sequence[tuple[str, int, Config]] = ()

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._race: Race[int] = Race(self._sample)
        self._candidates: dict[int, Candidate] = {}
        self._entering = -1
        self._spent = self._sampled = 0.0  # wall time of sampling, and the seconds it measured
        self._default: int | None = None
        self._incumbent: int | None = None
        self._step, self._last = 0.0, time.monotonic()  # what a trial takes, the choice included
        self._tried = 0
        self._pruned = 0
        self._building = 0.0
        self._failures: Counter[str] = Counter()
        self.roofline = Roofline.of(self.problem, self.ceilings, self.device)
        self.arms = Arms(
            self.problem, self.device, self.kernels, self.database, self.strategy, self.seed,
            self.tolerance, self.shortlist,
        )  # fmt: skip

    def run(self) -> TuneResult:
        """Tune, and return what came of it; never raises for what a candidate does."""
        try:
            self._prepare()
            stopped = self._explore()
            self._final()
        except KeyboardInterrupt:
            stopped = "interrupted"
        except HwkitError as error:
            self.emit(Note(f"'{self.problem}' cannot be tuned further: {error}"))
            stopped = "setup"
        return self._result(stopped)

    # Setting up.

    def _prepare(self) -> None:
        worker = self.runner if isinstance(self.runner, Worker) else None
        if worker is not None:
            worker.limits.prepare = min(600.0, max(2.0, self.deadline - time.monotonic() + 1))
        seconds = self.runner.prepare(self.problem, self.seed)
        if worker is not None:
            worker.limits.run = self.timeout or max(10.0, 30 * seconds)

    def _set_timeout(self, seconds: float) -> None:
        """Derive the time limit from what checking the default took."""
        if isinstance(self.runner, Worker):
            self.runner.limits.run = self.timeout or max(2.0, 20 * seconds)

    # Choosing.

    def _over(self) -> str | None:
        """Return why the search ends now, or ``None``."""
        if self._tried >= self.trials:
            return "trials"
        now = time.monotonic()
        self._step = max(now - self._last, 0.9 * self._step)
        self._last = now
        if now + self._reserve() + self._step >= self.deadline:
            return "budget"
        return "speed of light" if self._at_the_limit() else None

    def _at_the_limit(self) -> bool:
        """Whether the best reaches the roofline; not by a lucky sample, but by many."""
        best = self._race.best()
        if (
            best is None
            or not self.arms.plain
            or not self.roofline.reached(self._race.seconds(best))
        ):
            return False
        return self.roofline.reached(self._race.confirm(best))

    def _reserve(self) -> float:
        """Return the seconds to keep for the final."""
        if math.isinf(self.deadline):
            return 0.0
        most = _FINAL_SHARE * (self.deadline - self._began)
        field = self._race.finalists(self._always())
        return min(most, _LEAST_ROUNDS * self._round(field))

    def _round(self, field: Sequence[int]) -> float:
        """Return about how many seconds of wall time one round of a final takes."""
        # A warm run before each sample, and what sampling has cost so far beyond that.
        cost = max(2.0, self._spent / self._sampled if self._sampled else 0.0)
        return sum(cost * max(self._race.seconds(key), 1e-4) for key in field)

    def _always(self) -> list[int]:
        return [key for key in (self._default, self._incumbent) if key is not None]

    def _explore(self) -> str:
        owed = True
        for arm, config, known in self.arms.portfolio(lambda: self._default is not None):
            over = self._over()
            # Whatever the budget, a default is measured, and not only what ran until now.
            nothing = owed or (self._race.best() is None and self._tried < _FIRST)
            if over is not None and (over == "trials" or not nothing):
                return over
            self._try(arm, config, incumbent=known)
            owed = owed and known and (arm is not self.arms.all[0] or config != arm.default)
        while (over := self._over()) is None:
            turn = self.arms.choose()
            if turn is None:
                return "exhausted"
            asked = self._ask(turn)
            if not asked:
                turn.done = True
            for number, config in enumerate(asked):
                if not number or self._over() is None:
                    self._try(turn, config)
        return over

    def _ask(self, arm: Arm) -> list[Config]:
        """Return what to try next; several, built at the same time, where builds take long."""
        share = self._building / max(time.monotonic() - self._began, 1e-9)
        many = self._tried and self._building / self._tried > _LONG_BUILD and share > _BUILD_SHARE
        room = min(_MOST_BUILDS if many else 1, self.trials - self._tried)
        asked = [c for _ in range(max(1, int(room))) if (c := arm.ask()) is not None]
        if len(asked) > 1:
            self.runner.build_ahead([(arm.kernel, config) for config in asked])
        return asked

    # Trying.

    def _try(self, arm: Arm, config: Config, incumbent: bool = False) -> None:
        candidate = Candidate(self.problem, self.device, arm, config)
        if candidate.ruled_out() is not None:
            self._pruned += 1
            arm.tell(config, math.inf)
            return
        key = len(self._candidates)
        self._candidates[key] = candidate
        kernel = arm.kernel
        token = self.database.begin(
            self.problem, self.device.arch, self.device.fingerprint, kernel.name, kernel.version,
            config, **candidate.facts(),
        )  # fmt: skip
        try:
            record = candidate.record(self._measure(key, candidate))
        except BaseException:
            self.database.finish(token)
            raise
        self.database.finish(token, record)
        arm.trials += 1
        self._tried += 1
        if not record.ok:
            self._failures[str(record.measurement.failure)] += 1
        if key in self._race and candidate.is_default and self._is_first(arm):
            self._default = key
        if key in self._race and incumbent:
            self._incumbent = key
        arm.tell(config, self._race.seconds(key))
        self._let_go()
        self.emit(self._event(record))

    def _is_first(self, arm: Arm) -> bool:
        """Whether a Kernel comes before that of the default so far, if there is one.

        What runs now may be the default of a Kernel that another has overtaken since then.
        """
        if self._default is None:
            return True
        mine, held = (
            (-kernel.rank(self.problem), kernel.name)
            for kernel in (arm.kernel, self._candidates[self._default].arm.kernel)
        )
        return mine < held

    def _measure(self, key: int, candidate: Candidate) -> Measurement:
        checked = self.runner.check(key, candidate.arm.kernel, candidate.config)
        candidate.error = checked.error
        self._building += checked.build
        if checked.failure is not None:
            return Measurement.failed(checked.failure, checked.reason, checked.error)
        if self._default is None:
            self._set_timeout(checked.build + checked.run)
        self._entering = key
        try:
            seconds = self._race.enter(key, ranked=candidate.may_win(self.tolerance))
        except Lost as lost:
            return Measurement.failed(lost.failure, lost.reason, checked.error)
        finally:
            self._entering = -1
        impossible = self.roofline.impossible(seconds, candidate.strict)
        if impossible:
            self._race.leave(key)
            self.runner.drop([key])
            return Measurement.failed("wrong", impossible, checked.error)
        return Measurement.of(self._race.samples[key], checked.error)

    def _sample(self, keys: Sequence[int]) -> list[Sample]:
        """Take samples for the race; who is lost on the way is buried, and has infinity."""
        found: dict[int, Sample] = {}
        while True:
            alive = [k for k in keys if k in self._race or k == self._entering]
            begin = time.monotonic()
            try:
                found = dict(zip(alive, self.runner.sample(alive), strict=True))
                self._spent += time.monotonic() - begin
                # By the estimates, as _round counts: on a busy machine samples take longer.
                least = (min(s.seconds, self._race.seconds(k)) for k, s in found.items())
                self._sampled += sum(max(seconds, 1e-4) for seconds in least)
                break
            except Lost as lost:
                if lost.key == self._entering or lost.key not in self._race:
                    raise
                self._bury(lost)
        return [found.get(key, Sample(math.inf)) for key in keys]

    def _bury(self, lost: Lost) -> None:
        """Record that a candidate failed after it had been measured."""
        candidate = self._candidates[lost.key]
        self._race.leave(lost.key)
        self.runner.drop([lost.key])
        failed = Measurement.failed(lost.failure, lost.reason, candidate.error)
        candidate.arm.tell(candidate.config, math.inf)
        self._failures[lost.failure] += 1
        self.database.add(candidate.record(failed))

    def _let_go(self) -> None:
        """Drop what cannot come into the final any more."""
        near = self._race.finalists(self._always())
        best = self._race.best()
        goal = math.inf if best is None else _NEAR * self._race.seconds(best)
        held = set(self._race.samples)
        keep = {k for k in held if k in self._race and self._race.seconds(k) <= goal}
        keep = set(sorted(keep, key=self._race.seconds)[:96]) | {*near, *self._always()}
        gone = held - keep
        for key in gone:
            self._race.leave(key)
        self.runner.drop(gone)

    # Ending.

    def _final(self) -> None:
        always = self._always()
        field = self._race.finalists(always)
        left = self.deadline - time.monotonic()
        while len(field) > max(2, len(always)) and _LEAST_ROUNDS * self._round(field) > left:
            field.remove(next(k for k in reversed(field) if k not in always))
        alone = self._tried == 1 and field == [self._incumbent]
        if not field or self._round(field) > left or alone:
            return
        taken = self._race.final(field, always, lambda: time.monotonic() > self.deadline)
        levels = level(taken)
        for key, samples in taken.items():
            candidate = self._candidates[key]
            measurement = Measurement.of(samples, candidate.error, levels[key])
            self.database.add(candidate.record(measurement))

    def _result(self, stopped: str) -> TuneResult:
        default = None if self._default is None else self._candidates[self._default].result
        best, ties = self._winner(default)
        return TuneResult(
            problem=self.problem,
            best=best,
            default=default if default is not None and default.ok else None,
            ties=ties,
            trials=self._tried,
            failures=dict(self._failures),
            pruned=self._pruned,
            seconds=time.monotonic() - self._began,
            stopped_by=stopped,
            roofline_share=None if best is None else self.roofline.share(best.measurement.seconds),
        )

    def _winner(self, default: Record | None) -> tuple[Record | None, tuple[Record, ...]]:
        """Return what a call runs from now on, and its ties."""
        here = self.device.arch, self.device.fingerprint
        for match in self.database.candidates(self.problem, *here):
            if match.distance or not match.same_device or match.stale:
                break
            if self.arms.fits(match.record):
                return match.record, match.ties
        tried = [c for c in self._candidates.values() if c.may_win(self.tolerance)]
        return pick([c.result for c in tried if c.result is not None], default)

    def _event(self, record: Record) -> TrialFinished:
        best = self._race.best()
        seconds = math.inf if best is None else self._race.seconds(best)
        default = math.inf if self._default is None else self._race.seconds(self._default)
        left = self.deadline - time.monotonic()
        return TrialFinished(
            record, seconds, default, self.roofline.share(seconds), self._tried,
            dict(self._failures), max(0.0, left) if math.isfinite(left) else None,
        )  # fmt: skip
