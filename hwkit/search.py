"""Search: the tuning of one Problem, from the first candidate to the final.

First the portfolio: the default of every Kernel, the incumbent, what won for near Problems and on
other devices, all measured here. Then the strategies, one for each Kernel, which share the trials
by how close each has come to the best. Then the final, and the run-off against the default.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute

from .arms import Arm, Arms
from .backend import Device, Kernel
from .candidate import Candidate
from .config import Config
from .ending import Ending
from .errors import HwkitError
from .events import Event, Note, TrialFinished, TuneResult
from .field import Field
from .measure import Measurement
from .op import Problem
from .records import Database
from .records.ranking import pick
from .records.record import Record
from .roofline import Roofline
from .runner import Lost, Runner
from .selection import Tolerance
from .strategies import Strategy
from .worker import Worker

__all__ = ["Search"]

_FIRST = 3  # tried in vain before a budget that is too small for any ends the search

# Builds that take longer and more of the time than this are done several at a time.
_LONG_BUILD, _BUILD_SHARE = 0.02, 0.1
_MOST_BUILDS = min(4, os.cpu_count() or 1)


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
    ceilings: Mapping[str, float] = attribute(default_factory=dict)
    deadline: float = math.inf
    trials: float = math.inf
    timeout: float | None = None
    emit: Callable[[Event], None] = lambda event: None
    shortlist: Sequence[tuple[str, int, Config]] = ()

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self.field = Field(self.runner, self._bury)
        self._ending = Ending(self.field, self.database, self.deadline, self._began)
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
            self._ending.final(self._tried)
            self._ending.run_off()
        except KeyboardInterrupt:
            stopped = "interrupted"
        except HwkitError as error:
            self.emit(Note(f"'{self.problem}' cannot be tuned further: {error}", failed=True))
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
        if now + self._ending.reserve() + self._step >= self.deadline:
            return "budget"
        return "speed of light" if self._at_the_limit() else None

    def _at_the_limit(self) -> bool:
        """Whether the best reaches the roofline; not by a lucky sample, but by many."""
        race = self.field.race
        best = race.best()
        if best is None or not self.arms.plain or not self.roofline.reached(race.seconds(best)):
            return False
        return self.roofline.reached(race.confirm(best))

    def _explore(self) -> str:
        owed = True
        for arm, config, known in self.arms.portfolio(lambda: self.field.default is not None):
            over = self._over()
            # Whatever the budget, a default is measured, and not only what ran until now.
            nothing = owed or (self.field.race.best() is None and self._tried < _FIRST)
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
        key = self.field.add(candidate)
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
        if key in self.field.race and candidate.is_default and self._is_first(arm):
            self.field.default = key
        if key in self.field.race and incumbent:
            self.field.incumbent = key
        arm.tell(config, self.field.race.seconds(key))
        self.field.let_go()
        self.emit(self._event(record))

    def _is_first(self, arm: Arm) -> bool:
        """Whether a Kernel comes before that of the default so far, if there is one.

        What runs now may be the default of a Kernel that another has overtaken since then.
        """
        default = self.field.default
        if default is None:
            return True
        mine, held = (
            (-kernel.rank(self.problem), kernel.name)
            for kernel in (arm.kernel, self.field.candidates[default].arm.kernel)
        )
        return mine < held

    def _measure(self, key: int, candidate: Candidate) -> Measurement:
        checked = self.runner.check(key, candidate.arm.kernel, candidate.config)
        candidate.error = checked.error
        self._building += checked.build
        if checked.failure is not None:
            return Measurement.failed(checked.failure, checked.reason, checked.error)
        if self.field.default is None:
            self._set_timeout(checked.build + checked.run)
        try:
            seconds = self.field.enter(key, ranked=candidate.may_win(self.tolerance))
        except Lost as lost:
            return Measurement.failed(lost.failure, lost.reason, checked.error)
        impossible = self.roofline.impossible(seconds, candidate.strict)
        if impossible:
            self.field.leave(key)
            return Measurement.failed("wrong", impossible, checked.error)
        return Measurement.of(self.field.race.samples[key], checked.error)

    def _bury(self, candidate: Candidate, lost: Lost) -> None:
        """Record that a candidate failed after it had been measured."""
        failed = Measurement.failed(lost.failure, lost.reason, candidate.error)
        candidate.arm.tell(candidate.config, math.inf)
        self._failures[lost.failure] += 1
        self.database.add(candidate.record(failed))

    # Ending.

    def _result(self, stopped: str) -> TuneResult:
        key = self.field.default
        default = None if key is None else self.field.candidates[key].result
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
        tried = [c for c in self.field.candidates.values() if c.may_win(self.tolerance)]
        return pick([c.result for c in tried if c.result is not None], default)

    def _event(self, record: Record) -> TrialFinished:
        seconds, key = self.field.best, self.field.default
        default = math.inf if key is None else self.field.race.seconds(key)
        left = self.deadline - time.monotonic()
        return TrialFinished(
            record, seconds, default, self.roofline.share(seconds), self._tried,
            dict(self._failures), max(0.0, left) if math.isfinite(left) else None,
        )  # fmt: skip
