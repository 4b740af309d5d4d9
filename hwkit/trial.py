"""Bench: builds, checks and times candidates on an opened device.

It runs in the disposable child process of :mod:`hwkit.worker`, or in this process for devices that
cannot take it down (emulators, recorded times). A candidate is never timed before it is right:

* it runs on two sets of random inputs and is compared with the float64 reference;
* its output lies between guard zones and is filled with NaN, or with a pattern for integers, so
  that what it does not write and what it writes elsewhere shows; scratch memory that the run
  exposes is filled likewise;
* its operands must be unchanged, and a claim to be deterministic must hold;
* if the problem says that its constants are packed beforehand, the packed run is checked and timed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .backend import Device, Kernel, Run, no_run
from .config import Config
from .contention import Contention, on_host_clock
from .errors import KernelFailure
from .guard import Guarded, poison
from .measure import Sample
from .op import Problem, relative_error
from .runner import Checked, Lost
from .trial_inputs import TrialInput, trial_inputs

__all__ = ["WIDEST", "Bench"]

WIDEST = 5e-2
"""The widest error that any tolerance could ask for; beyond it an answer is wrong."""

# A sample shorter than this is a batch of runs, so that the clock's resolution does not matter.
_SHORT, _BATCH, _MOST_REPEATS = 50e-6, 100e-6, 1000

# Where the caches are emptied, each run of a batch is timed by itself, and that takes longer.
_MOST_COLD = 16


@dataclass
class _Built:
    call: Callable[..., Any]
    repeats: int


def _ignore(phase: str, key: int) -> None:
    """Report progress to nobody."""


@dataclass
class _Ahead:
    """What came of building a candidate: a run or an error, and the seconds it took."""

    run: Run | None
    error: BaseException | None
    seconds: float


class Bench:
    """Builds, checks and times candidates of one problem at a time.

    Args:
        device: where.
        progress: told ``(phase, key)`` before anything that could hang or crash; phases are
            ``"prepare"``, ``"build"``, ``"run"`` and ``"idle"``.
        folder: where references are kept for the process that follows a crash.
    """

    def __init__(
        self,
        device: Device,
        progress: Callable[[str, int], None] = _ignore,
        folder: Path | None = None,
    ) -> None:
        self.device = device
        self._progress = progress
        self._folder = folder
        self._built: dict[int, _Built] = {}
        self._ahead: dict[tuple[str, Config], _Ahead] = {}
        self._inputs: list[TrialInput] = []
        self._taken = 0.0  # seconds of the last run of a check
        self._contention = Contention() if on_host_clock(device) else None

    def prepare(self, problem: Problem, seed: int) -> float:
        """Make inputs and references of a problem."""
        self._progress("prepare", -1)
        self.close()
        self.problem, self._seed = problem, seed

        def make() -> None:
            self._inputs = self._make_inputs()
            self._out = Guarded(self.device, problem.output)

        seconds = _clock(make)
        self._progress("idle", -1)
        return seconds

    def _make_inputs(self) -> list[TrialInput]:
        return trial_inputs(self.problem, self.device, self._seed, self._folder)

    def check(self, key: int, kernel: Kernel, config: Config) -> Checked:
        """Build a candidate, check it, and keep it under ``key`` if it is right."""
        build = run = 0.0
        phase = "compile"
        error = math.nan
        try:
            self._progress("build", key)
            ahead = self._ahead.pop((kernel.name, config), None) or self._build(kernel, config)
            built, build = ahead.run, ahead.seconds
            if ahead.error is not None:
                raise ahead.error
            if built is None or not callable(built):
                raise KernelFailure("compile", no_run(built))
            phase = "launch"
            self._progress("run", key)
            errors: list[float] = []
            run = _clock(lambda: errors.extend(self._errors(built)))
            error = max(errors)
            self._judge(error)
            if kernel.deterministic(self.problem, config):
                self._repeat(built)
            call = self._bound(built, self._inputs[0])
            repeats = self._repeats(call, self._taken)
        except BaseException as caught:
            return Checked(error, build, run, 1, *_failure(caught, phase))
        finally:
            self._progress("idle", -1)
        self._built[key] = _Built(call, repeats)
        return Checked(error, build, run, repeats)

    def _bound(self, run: Run, given: TrialInput) -> partial[Any]:
        """Return ``run`` on these operands, the constants packed if the problem says so."""
        pack = getattr(run, "prepack", None)
        if not self.problem.packed or pack is None:
            return partial(run, *given.buffers)
        held = {i: given.buffers[i] for i in self.problem.constants}
        rest = [b for i, b in enumerate(given.buffers) if i not in held]
        return partial(pack(held), *rest)

    def _build(self, kernel: Kernel, config: Config) -> _Ahead:
        run: Run | None = None
        error: BaseException | None = None
        start = time.perf_counter()
        try:
            run = kernel.build(self.problem, config)
        except BaseException as caught:
            error = caught
        return _Ahead(run, error, time.perf_counter() - start)

    def build_ahead(self, candidates: Sequence[tuple[Kernel, Config]]) -> None:
        """Build candidates at the same time, in threads: compilers are other processes."""
        self._progress("build", -1)
        with ThreadPoolExecutor(len(candidates)) as pool:
            built = pool.map(lambda candidate: self._build(*candidate), candidates)
            names = [(kernel.name, config) for kernel, config in candidates]
            self._ahead = dict(zip(names, built, strict=True))
        self._progress("idle", -1)

    def rebuild(self, key: int, kernel: Kernel, config: Config, repeats: int) -> None:
        """Build a candidate that was checked before, in a process that is no more.

        Raises:
            Lost: it cannot be built any more.
        """
        try:
            self._progress("build", key)
            call = self._bound(kernel.build(self.problem, config), self._inputs[0])
            self._built[key] = _Built(call, repeats)
        except BaseException as caught:
            raise Lost(key, *_failure(caught, "compile")) from caught
        finally:
            self._progress("idle", -1)

    def _errors(self, run: Run) -> Iterable[float]:
        for number, given in enumerate(self._inputs):
            bound = self._bound(run, given)
            poison(bound.func)
            self._taken = self.device.time(partial(bound, out=self._out.fresh(number)))
            outside = self._out.broken()
            if outside:
                raise KernelFailure("wrong", f"it wrote {outside} its output")
            changed = given.changed()
            if changed is not None:
                # What follows must not be judged by inputs that are spoilt.
                self._inputs = self._make_inputs()
                raise KernelFailure("wrong", f"it changed its operand {changed}")
            yield relative_error(self._out.result(), given.reference)

    @staticmethod
    def _judge(error: float) -> None:
        # NaN must not pass.
        if not error <= WIDEST:
            what = (
                "its answer has NaN, infinity or unwritten elements where the reference has not"
                if math.isinf(error)
                else f"its relative error {error:.1e} exceeds {WIDEST:.0e}"
            )
            raise KernelFailure("wrong", what)

    def _repeat(self, run: Run) -> None:
        first = self._out.result().tobytes()
        self._bound(run, self._inputs[-1])(out=self._out.fresh(0))
        if self._out.result().tobytes() != first:
            raise KernelFailure("wrong", "it claims to be deterministic, but two runs differ")

    def _repeats(self, bound: Callable[..., Any], seconds: float) -> int:
        """Return how many runs make a sample, from what checking one took."""
        if seconds > 8 * _SHORT:
            return 1
        call = partial(bound, out=self._out.buffer)
        call()
        seconds = min(self.device.time(call), self.device.time(call))
        if not seconds < _SHORT:
            return 1
        most = _MOST_COLD if self.device.cold_caches else _MOST_REPEATS
        return min(most, math.ceil(_BATCH / max(seconds, 1e-9)))

    def sample(self, keys: Sequence[int]) -> list[Sample]:
        """Take one sample of each, in this order."""
        slowed = self._contention is not None and self._contention.slowed()
        samples = [self._sample(key) for key in keys]
        slowed = slowed or (self._contention is not None and self._contention.slowed())
        self._progress("idle", -1)
        return [Sample(s.seconds, s.disturbed or slowed) for s in samples]

    def _sample(self, key: int) -> Sample:
        self._progress("run", key)
        built = self._built[key]
        call, repeats = partial(built.call, out=self._out.buffer), built.repeats

        try:
            # Another candidate ran before: its data is in the caches.
            call()
            before = Contention.evictions()
            seconds = self._seconds(call, repeats)
            evicted = self._contention is not None and Contention.evictions() > before
        except BaseException as caught:
            raise Lost(key, *_failure(caught, "launch")) from caught
        return Sample(seconds, evicted)

    def _seconds(self, call: Callable[..., Any], repeats: int) -> float:
        """Return the seconds of one run in a batch."""

        def batch() -> None:
            for _ in range(repeats):
                call()

        if self.device.cold_caches:
            return sum(self.device.time(call) for _ in range(repeats)) / repeats
        return self.device.time(batch) / repeats

    def drop(self, keys: Iterable[int]) -> None:
        """Let go of candidates."""
        for key in keys:
            self._built.pop(key, None)

    def ceilings(self) -> dict[str, float]:
        """Return the measured ceilings of the device."""
        return dict(self.device.ceilings())

    def close(self) -> None:
        """Let go of everything."""
        self._built.clear()
        self._ahead.clear()
        self._inputs.clear()


def _clock(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _failure(caught: BaseException, phase: str) -> tuple[str, str]:
    """Return class and reason of what a candidate raised."""
    if isinstance(caught, KeyboardInterrupt):
        raise caught
    failed = KernelFailure.of(caught, phase)
    return failed.failure, str(failed)
