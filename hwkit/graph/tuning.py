"""Tuning of a network: the budget goes where calls, time and what there is to gain are largest.

What was found counts only for the Problems whose nodes became faster inside the network: alone, a
kernel finds its weights in the caches. Then the whole network runs before and after in turns, as in
:mod:`hwkit.runoff`; where it did not gain more than the noise, nothing that was found is kept.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..backend import Device
from ..config import Config
from ..measure import Sample
from ..op import Problem
from ..registry import registry
from ..roofline import Roofline
from ..runoff import LOOKS, Paired, RunOff
from .ir import Array
from .model import Model
from .program import Program

__all__ = ["NetworkResult", "Records", "shares", "tune_model"]

# What a kernel may be expected to gain where the device's ceilings are not known.
_GAIN = 0.5
_LEAST_GAIN = 0.05
# A problem that got less could not even start its worker.
_LEAST_SECONDS = 1.0

# A run of a network takes long: fewer turns than those of a kernel.
_LOOKS = LOOKS[:4]

Tune = Callable[[Mapping[Problem, int], float], Any]
"""Called with Problems and their counts, and seconds; answers ``False`` to end the tuning."""


class Records(NamedTuple):
    """Where trials are kept; each is a Database.

    Attributes:
        tried: all that tuning finds.
        kept: what a process that loads the model later asks.
        trial: a copy of ``kept`` in memory, to try what would be added to it.
    """

    tried: Any
    kept: Any
    trial: Any


@dataclass(frozen=True)
class NetworkResult:
    """What tuning a network came to.

    Attributes:
        before: seconds of a run before, measured in turns with ``after``.
        after: seconds of a run with what was found.
        problems: seconds of budget by problem, those that got some.
        gained: those that became faster inside the network.
        kept: whether the model runs what was found; it does only where that is faster by more than
            the noise.
        race: what the turns showed.
    """

    before: float
    after: float
    problems: dict[Problem, float]
    gained: tuple[Problem, ...]
    kept: bool
    race: Paired

    @property
    def speedup(self) -> float:
        """How much faster a run is now."""
        return self.race.ratio if self.kept else 1.0


def shares(model: Model, inputs: Mapping[str, Array], rounds: int = 5) -> dict[Problem, float]:
    """Return for each Problem of a network calls x time x expected gain, in seconds."""
    arrays, program = model.prepared(inputs)
    program(arrays)
    runs = [program.timed(arrays) for _ in range(rounds)]
    device = registry().device(model.device)
    found: dict[Problem, float] = {}
    for index, step in enumerate(program.steps):
        seconds = statistics.median(run[index][1] - run[index][0] for run in runs)
        for plan in step.plans:
            part = seconds / len(step.plans)
            gain = part * _gain(plan.problem, part, device)
            found[plan.problem] = found.get(plan.problem, 0.0) + gain
    return found


def _gain(problem: Problem, seconds: float, device: Device) -> float:
    share = Roofline.of(problem, device.ceilings(), device).share(seconds)
    return _GAIN if share is None else min(max(1.0 - share, _LEAST_GAIN), 1.0)


def tune_model(
    model: Model,
    inputs: Mapping[str, Array],
    budget: float,
    tune: Tune,
    records: Records,
    takes: Callable[[Problem], bool] = lambda problem: True,
) -> NetworkResult:
    """Tune the Problems of a network.

    Args:
        model: the network; it runs what was found afterwards, if that is faster.
        inputs: a set of inputs, which fixes the shapes.
        budget: seconds for all Problems together.
        tune: keeps its trials in ``records.tried``.
        records: where they are, and where those of Problems that gained are to be kept.
        takes: whether a Problem is to be tuned; the budget is for those alone.
    """
    arrays, old = model.prepared(inputs)
    spent = _spend(model, inputs, budget, tune, takes)
    found = model.built(inputs, records.tried)
    gained = tuple(p for p in spent if p in _faster(old, found, arrays))
    del found
    better = [r for p in gained for r in records.tried.records("user", problem=str(p))]
    records.trial.add_all(better)
    new = model.built(inputs, records.trial)
    before, race = compare(old, new, arrays)
    kept = bool(gained) and race.low > 1.0
    if kept:
        records.kept.add_all(better)
        model.keep(new, old)
    return NetworkResult(before, before / race.ratio, spent, gained, kept, race)


def _spend(
    model: Model,
    inputs: Mapping[str, Array],
    budget: float,
    tune: Tune,
    takes: Callable[[Problem], bool],
) -> dict[Problem, float]:
    """Tune, and return what each Problem got."""
    arrays, _ = model.prepared(inputs)
    counts = model.problems(tuple(a.shape for a in arrays))
    weights = shares(model, inputs)
    order = sorted(filter(takes, counts), key=lambda p: -weights.get(p, 0.0))
    spent: dict[Problem, float] = {}
    left = budget
    for index, problem in enumerate(order):
        rest = sum(weights.get(p, 0.0) for p in order[index:])
        seconds = left * weights.get(problem, 0.0) / rest if rest else 0.0
        if seconds < _LEAST_SECONDS:
            if left < _LEAST_SECONDS:
                break
            seconds = min(left, _LEAST_SECONDS)
        start = time.monotonic()
        spent[problem] = seconds
        if tune({problem: counts[problem]}, seconds) is False:
            break
        left -= time.monotonic() - start
    return spent


def _faster(old: Program, new: Program, arrays: list[Array], rounds: int = 7) -> set[Problem]:
    """Return the Problems that run otherwise, and in less time, in the new program."""
    runs: dict[Program, list[list[tuple[float, float]]]] = {old: [], new: []}
    for turn in range(rounds + 1):
        for program in (old, new) if turn % 2 else (new, old):
            runs[program].append(program.timed(arrays))
    totals: dict[Program, dict[Problem, float]] = {old: {}, new: {}}
    for program, times in runs.items():
        for index, step in enumerate(program.steps):
            seconds = statistics.median(run[index][1] - run[index][0] for run in times[1:])
            for plan in step.plans:
                total = totals[program]
                total[plan.problem] = total.get(plan.problem, 0.0) + seconds
    # What runs as before is faster or slower by the noise alone.
    before, after = _choices(old), _choices(new)
    return {
        p
        for p, seconds in totals[new].items()
        if seconds < totals[old].get(p, 0.0) and after[p] != before[p]
    }


def _choices(program: Program) -> dict[Problem, tuple[str, Config]]:
    """Return the kernel and the Config that each Problem runs by."""
    plans = (plan for step in program.steps for plan in step.plans)
    return {plan.problem: (plan.kernel.name, plan.config) for plan in plans}


def compare(old: Program, new: Program, arrays: list[Array]) -> tuple[float, Paired]:
    """Return the median seconds of the old program, and how many times faster the new one is."""
    for _ in range(2):
        old(arrays)
        new(arrays)

    def sample(programs: Sequence[Program]) -> list[Sample]:
        found = []
        for program in programs:
            start = time.perf_counter()
            program(arrays)
            found.append(Sample(time.perf_counter() - start))
        return found

    turns = RunOff(sample, old, [new], _LOOKS)
    turns.run()
    before = statistics.median(s.seconds for s in turns.taken[old])
    return before, turns.verdict("before")[new]
