"""tune: find the fastest Kernel and Config for Problems, and keep what was learnt.

::

    hwkit.tune("gemm float32 nn m=512 n=512 k=512", budget="20s")

Every trial is one committed row of the Database, written before the next begins: a run that is
interrupted or killed loses at most the candidate it was at, and the same call goes on from there.
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from numbers import Real
from typing import Any, Union

from . import dispatch, strategies
from .answers import sampled, untunable
from .backend import Device, Kernel
from .errors import ArgumentError, NoKernel, shown
from .events import (
    Event,
    Note,
    ProblemFinished,
    ProblemStarted,
    TrialFinished,
    TuneResult,
    warn_of_failures,
)
from .op import Problem
from .preference import preferred
from .records import Database
from .registry import registry
from .roofline import Roofline
from .runner import Runner
from .search import Search
from .selection import Tolerance, check_tolerance
from .shortlist import Shortlist
from .strategies import Strategy
from .trial import Bench
from .worker import Worker

__all__ = [
    "Event", "Note", "ProblemFinished", "ProblemStarted", "TrialFinished", "TuneResult",
    "parse_budget", "tune",
]  # fmt: skip

_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h)?\Z")

Problems = Union[str, Problem, Iterable[Union[str, Problem]], Mapping[Any, int], None]


def tune(
    problems: Problems = None,
    device: str | None = None,
    *,
    budget: float | str | None = "30s",
    trials: int | None = None,
    strategy: str = "evolutionary",
    database: Database | None = None,
    seed: int = 0,
    kernels: Iterable[str] | None = None,
    on_event: Callable[[Event], None] | None = None,
    worker: bool = True,
    tolerance: Tolerance = None,
    timeout: float | None = None,
    shortlist: Shortlist | None = None,
    cold: bool = False,
) -> list[TuneResult]:
    """Find the fastest Kernel and Config for Problems on one device.

    Args:
        problems: one or more Problems or their texts; a mapping says how often each is called, and
            so does repetition. ``None`` for the sample problems of every Op.
        device: device name; the first of :func:`hwkit.use`, or the default device, if ``None``.
        budget: wall time for each Problem, setting up included: seconds, ``"30s"``, ``"5m"``, or
            ``None`` for no limit.
        trials: most candidates to try for each Problem.
        strategy: ``"exhaustive"``, ``"random"``, ``"evolutionary"``, ``"model"``, or a plugin's.
        database: where trials are kept; that of this process if ``None``.
        seed: of all random choices; the same seed asks the same questions.
        kernels: names of the Kernels to try; all that support the Problem if ``None``.
        on_event: called with what happens, in this thread; if ``None``, a problem that cannot be
            tuned is an :class:`~hwkit.HwkitWarning`.
        worker: whether candidates run in a child process, which may die. Without it they run here,
            which is for simulated devices only.
        tolerance: which candidates may win, as of a call. All are recorded.
        timeout: seconds that one candidate may take; 20 times the default's, at least 2, if
            ``None``.
        shortlist: what to try early, made where the device is not (``hwkit tune --compile-only``).
        cold: whether the device's caches are emptied before each timed run. Such records are those
            of another device, which calls use where there are no others.

    Returns:
        One result for each Problem, those first that are expected to take most of the time. What a
        candidate does raises nothing. Ctrl-C ends the run, and what is there is returned; before
        the first search it is a KeyboardInterrupt.

    Raises:
        ArgumentError: an argument is not legal.
        NoKernel: no Kernel takes a Problem that was asked for.
        Unavailable: the device cannot be opened.
    """
    began = time.monotonic()
    seconds = parse_budget(budget)
    _check_numbers(trials, timeout, seed)
    _check_given(database, shortlist)
    check_tolerance(tolerance)
    chosen, seed = _strategy(strategy), int(seed)
    opened = registry().device(preferred(device)[0][0])
    if cold:
        opened = opened.with_cold_caches()
    calls = _problems(problems, opened)
    wanted = _names(kernels)
    able = {problem: _kernels(problem, opened, wanted) for problem in calls}
    store = dispatch.database() if database is None else database
    emit = on_event or warn_of_failures
    if opened.emulated:
        emit(Note(f"{opened} is emulated: its times are estimates of a model, not measurements"))
    with _runner(opened, worker, store) as runner:
        ceilings = runner.ceilings()
        ordered = _ordered(calls, ceilings, opened)
        # Made one by one; setting up counts for the first.
        searches = (
            Search(
                problem, opened, able[problem], runner, store, chosen, seed, tolerance, ceilings,
                (time.monotonic() if index else began) + seconds,
                math.inf if trials is None else trials, timeout, emit,
                shortlist.of(problem, opened.arch) if shortlist is not None else (),
            )
            for index, problem in enumerate(ordered)
        )  # fmt: skip
        return _run_all(searches, len(ordered), seconds, emit)


def _run_all(
    searches: Iterable[Search], count: int, budget: float, emit: Callable[[Event], None]
) -> list[TuneResult]:
    """Run searches in turn, until one is interrupted; plans made before are forgotten."""
    results: list[TuneResult] = []
    limit = budget if math.isfinite(budget) else None
    try:
        for index, search in enumerate(searches, 1):
            bound = search.roofline.seconds or None
            space_size = search.arms.space_size
            emit(ProblemStarted(index, count, search.problem, space_size, bound, limit))
            results.append(search.run())
            dispatch.forget()
            emit(ProblemFinished(results[-1]))
            if results[-1].stopped_by == "interrupted":
                break
    except KeyboardInterrupt:
        # Between two searches: what the finished ones came to is not lost.
        if not results:
            raise
    return results


def parse_budget(budget: float | str | None) -> float:
    """Return a budget in seconds; infinity for ``None``.

    Raises:
        ArgumentError: it cannot be read, or is not above 0.
    """
    if budget is None:
        return math.inf
    if isinstance(budget, str):
        match = _BUDGET.match(budget.strip().lower())
        seconds = float(match[1]) * _UNITS[match[2] or "s"] if match else math.nan
    else:
        seconds = float(budget) if isinstance(budget, Real) else math.nan
    if not seconds > 0:
        raise ArgumentError(f"budget {shown(budget)} must be a time above 0: write it as 30s or 5m")
    return seconds


def _check_numbers(trials: int | None, timeout: float | None, seed: int) -> None:
    if trials is not None and not (_is_whole(trials) and trials >= 1):
        raise ArgumentError(f"trials={shown(trials)} must be a whole number above 0")
    if timeout is not None and not (isinstance(timeout, Real) and timeout > 0):
        raise ArgumentError(f"timeout={shown(timeout)} must be seconds above 0")
    if not (_is_whole(seed) and seed >= 0):
        raise ArgumentError(f"seed={shown(seed)} must be a whole number of at least 0")


def _is_whole(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return math.isfinite(value) and value == math.floor(value)


def _names(kernels: Iterable[str] | None) -> tuple[str, ...] | None:
    if kernels is None:
        return None
    if not isinstance(kernels, Iterable):
        raise ArgumentError(f"kernels={shown(kernels)} must be names of kernels: type 'hwkit ops'")
    # A string is iterable too: by its letters.
    return (kernels,) if isinstance(kernels, str) else tuple(kernels)


def _check_given(database: object, shortlist: object) -> None:
    if not isinstance(shortlist, (Shortlist, type(None))):
        raise ArgumentError(f"shortlist={shown(shortlist)} must be one: write Shortlist.read(Path)")
    if not isinstance(database, (Database, type(None))):
        raise ArgumentError(
            f"database={shown(database)} must be a hwkit.records.Database: write "
            "Database(Path(...)), or set HWKIT_DB"
        )


def _strategy(name: str) -> type[Strategy]:
    if not isinstance(name, str):
        raise ArgumentError(
            f"strategy {shown(name)} must be the name of one: {', '.join(strategies.BUILT_IN)}"
        )
    brought: dict[str, type[Strategy]] = registry().strategies()
    return brought[name] if name in brought else strategies.strategy(name)


def _problems(problems: Problems, device: Device) -> dict[Problem, int]:
    """Return the Problems and how often each is called."""
    if problems is None:
        samples = chain.from_iterable(sampled(registry().ops().values()).values())
        return dict.fromkeys((p for p in samples if _able(p, device)), 1)
    if isinstance(problems, (str, Problem)) or not isinstance(problems, Iterable):
        problems = [problems]
    if isinstance(problems, Mapping):
        given = {dispatch.parse_problem(p): _calls(p, n) for p, n in problems.items()}
    else:
        given = dict(Counter(dispatch.parse_problem(p) for p in problems))
    if not given:
        raise ArgumentError("there is no problem to tune: type 'hwkit ops' for examples")
    return given


def _calls(problem: object, count: Any) -> int:
    if not (_is_whole(count) and count >= 1):
        raise ArgumentError(f"{count!r} calls of '{problem}' must be a whole number above 0")
    return int(count)


def _able(problem: Problem, device: Device) -> list[Kernel]:
    kernels = registry().kernels(device, problem.op.name)
    return [k for k in kernels if untunable(k, problem) is None]


def _kernels(problem: Problem, device: Device, wanted: tuple[str, ...] | None) -> list[Kernel]:
    """Return the Kernels to try.

    Raises:
        ArgumentError: a name in ``wanted`` is not known.
        NoKernel: none takes the Problem.
    """
    every = registry().kernels(device, problem.op.name)
    unknown = [name for name in wanted or () if name not in {k.name for k in every}]
    if unknown:
        raise ArgumentError(
            f"kernel {unknown[0]!r} is not one of {problem.op} on {device}: "
            f"there are {', '.join(k.name for k in every) or 'none'}"
        )
    named = [k for k in every if wanted is None or k.name in wanted]
    declined = {k.name: untunable(k, problem) for k in named}
    found = [k for k in named if declined[k.name] is None]
    if not found:
        reasons = "; ".join(f"{name}: {why}" for name, why in declined.items())
        raise NoKernel(
            f"no kernel of {device} takes '{problem}' ({reasons or 'there is none'}): choose "
            f"another device{' or leave kernels= out' if wanted is not None else ''}"
        )
    return found


def _ordered(
    calls: Mapping[Problem, int], ceilings: Mapping[str, float], device: Device
) -> list[Problem]:
    """Return the Problems, those first that are expected to take most of the time."""

    def expected(problem: Problem) -> float:
        bound = Roofline.of(problem, ceilings, device).seconds
        bound = bound or 1e-9 * problem.flops + 1e-10 * problem.nbytes
        return calls[problem] * bound

    return sorted(calls, key=lambda p: (-expected(p), p.text))


@contextmanager
def _runner(device: Device, worker: bool, store: Database) -> Iterator[Runner]:
    runner: Runner = Worker(device) if worker else Bench(device)
    try:
        yield runner
    finally:
        runner.close()
        store.catch_up()
