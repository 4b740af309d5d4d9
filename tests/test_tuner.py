"""tune: budgets, order, resumption, faults, and what is kept."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit import dispatch, use
from hwkit.backend import Kernel
from hwkit.config import Config
from hwkit.errors import ArgumentError, HwkitError, HwkitWarning, NoKernel
from hwkit.op import Problem
from hwkit.records import Database
from hwkit.registry import registry
from hwkit.search import Search
from hwkit.testing import FAULTS, FakeBackend, FaultyBackend, fake, faulty
from hwkit.testing.fake import FakeDevice, FakeKernel
from hwkit.testing.faulty import FaultyKernel
from hwkit.tuner import (
    Event,
    Note,
    ProblemFinished,
    ProblemStarted,
    TrialFinished,
    parse_budget,
    tune,
)
from hwkit.worker import Limits, Worker

TEXT = "gemm float32 nn m=32 n=32 k=32"
INTEGERS = "matmul int8,int8,int32,int32 b=1 m=4 n=4 k=4"
HARMLESS = ("none", "wrong", "not_a_number", "raise", "compile", "exit", "unwritten", "before",
            "behind", "operand", "impossible")  # fmt: skip
"""Faults that a process survives."""


@pytest.fixture
def fakes() -> Iterator[None]:
    """Register the fake and the faulty backend."""
    registry().register(fake.fake, "test-fake")
    registry().register(faulty.faulty, "test-faulty")
    yield
    registry().unregister("test-fake")
    registry().unregister("test-faulty")


@pytest.fixture
def database() -> Database:
    """Return a database in memory."""
    return Database(None)


def tuned(database: Database, text: Any = TEXT, device: str = "fake:0", **options: Any) -> Any:
    """Tune one problem in this process, without a time limit."""
    defaults = {"worker": False, "budget": None, "trials": 20}
    return tune(text, device, database=database, **{**defaults, **options})[0]


def slowness(device: str, config: Config, text: str = TEXT) -> float:
    """Return how slow a Config of the plain fake kernel truly is."""
    opened = registry().device(device)
    assert isinstance(opened, FakeDevice)
    problem = registry().op("gemm").parse(text)
    return FakeKernel("gemm", opened).slowness(problem, config)


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [("30s", 30.0), ("5m", 300.0), ("1.5h", 5400.0), ("250ms", 0.25), (7, 7.0), ("8", 8.0),
     (None, math.inf)],
)  # fmt: skip
def test_parse_budget(budget: Any, seconds: float) -> None:
    """Budgets are read with their units."""
    assert parse_budget(budget) == seconds


@pytest.mark.parametrize("budget", ["", "soon", "-3s", 0, -1.0, "0s", math.nan, "3 weeks"])
def test_parse_budget_refuses(budget: Any) -> None:
    """What is no time above 0 is refused in one sentence."""
    with pytest.raises(ArgumentError, match="30s or 5m"):
        parse_budget(budget)


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "trials=0"),
        ({"timeout": -1.0}, "timeout"),
        ({"strategy": "clairvoyant"}, "clairvoyant"),
        ({"kernels": ["nobody"]}, "nobody"),
        ({"tolerance": "lax"}, "lax"),
        ({"text": []}, "no problem"),
        ({"text": "gemm float32 nn m=1"}, "lacks"),
        ({"device": "fake:9"}, "fake:9"),
        ({"kernels": "nobody"}, "kernel 'nobody'"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": "x"}, "seed='x'"),
        ({"trials": "many"}, "trials='many'"),
        ({"timeout": "long"}, "timeout='long'"),
        ({"budget": [1]}, "30s or 5m"),
        ({"text": 3}, "type int cannot be read"),
        ({"text": [None]}, "type NoneType cannot be read"),
        ({"seed": math.inf}, "seed=inf"),
        ({"trials": math.nan}, "trials=nan"),
        ({"strategy": None}, "strategy None"),
        ({"text": {TEXT: "often"}}, "'often' calls"),
        ({"text": {TEXT: math.nan}}, "nan calls"),
        ({"text": {TEXT: 0}}, "0 calls"),
        ({"kernels": 5}, "kernels=5"),
        ({"tolerance": [1e-3]}, "tolerance"),
    ],
)
def test_arguments_are_checked(database: Database, options: dict[str, Any], message: str) -> None:
    """User mistakes are named before anything runs."""
    with pytest.raises(ArgumentError, match=message):
        tuned(database, **options)


@pytest.mark.usefixtures("fakes")
def test_the_device_in_use_is_tuned(database: Database) -> None:
    """Inside ``use`` it tunes the device on which calls run."""
    with use("fake:1"):
        tuned(database, device=None, trials=1)
    assert {r.fingerprint.identity["backend"] for r in database.records()} == {"fake"}


@pytest.mark.usefixtures("fakes")
def test_numbers_of_numpy_are_numbers(database: Database) -> None:
    """A seed and a count from numpy reach the worker process, whose messages are JSON."""
    options: Any = {"worker": True, "seed": np.int64(3), "trials": np.int64(1)}
    assert tuned(database, **options).trials == 1


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("method", ["rank", "space", "default", "strict", "deterministic"])
def test_a_kernel_whose_own_code_fails_is_left_out(
    database: Database, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """A stranger's bug costs the other kernels of the problem nothing, and is told."""
    opened = registry().device("fake:0")
    assert isinstance(opened, FakeDevice)
    bad = FakeKernel("gemm", opened)
    bad.name = "bad"
    monkeypatch.setattr(bad, method, lambda *_: 1 / 0)
    kernels = (bad, *registry().kernels(opened, "gemm"))
    monkeypatch.setattr(type(registry()), "kernels", lambda *_: kernels)
    with pytest.warns(HwkitWarning, match="kernel bad of gemm is left out"):
        result = tuned(database, trials=3)
    assert result.best is not None
    assert {r.kernel for r in database.records()} == {k.name for k in kernels[1:]}


@pytest.mark.usefixtures("fakes")
def test_configs_whose_facts_fail_are_left_out(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method that fails for some configs costs those, not the search, and is told."""

    def workspace(kernel: Kernel, problem: Problem, config: Config) -> int:
        if config != kernel.default(problem):
            raise RuntimeError("boom")
        return 0

    monkeypatch.setattr(FakeKernel, "workspace", workspace)
    with pytest.warns(HwkitWarning, match="configs of kernel .* left out, .* RuntimeError: boom"):
        result = tuned(database, trials=3)
    assert result.best is not None
    assert result.pruned > result.trials


@pytest.mark.usefixtures("fakes")
def test_no_kernel_of_those_wanted(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the kernels that were asked for are blamed, and none with 'True'."""
    with pytest.raises(NoKernel, match=r"takes '.*' \(there is none\).*leave kernels= out"):
        tuned(database, kernels=[])
    monkeypatch.setattr(FakeKernel, "storage", "int8")
    with pytest.raises(NoKernel, match="keeps packed constants in int8"):
        tuned(database)


def test_a_database_is_no_path() -> None:
    """The path of a file is not taken for a Database; the sentence has what to write."""
    with pytest.raises(ArgumentError, match=r"database='x\.db' must be a hwkit\.records\.Database"):
        tune(TEXT, database="x.db")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"shortlist='x' must be one: write Shortlist\.read"):
        tune(TEXT, shortlist="x")  # type: ignore[arg-type]


@pytest.mark.usefixtures("fakes")
def test_problem_without_a_kernel(database: Database) -> None:
    """A problem that no kernel takes is an error that says who declined and why."""
    with pytest.raises(NoKernel, match="floating-point"):
        tuned(database, "gemm int8,int8,int32,int32 nn m=4 n=4 k=4")


@pytest.mark.usefixtures("fakes")
def test_result_is_what_a_call_runs(database: Database) -> None:
    """The best of the result is the first record that dispatch finds, and beats the default."""
    result = tuned(database, trials=60)
    device = registry().device("fake:0")
    matches = database.candidates(TEXT, device.arch, device.fingerprint)
    fitting = next(m for m in matches if m.record.measurement.error <= 2e-6)
    assert result.best == fitting.record
    assert result.ties == fitting.ties
    assert result.speedup > 1.2
    assert slowness("fake:0", result.best.config) < slowness("fake:0", result.default.config)
    assert (result.trials, result.stopped_by, result.failures) == (60, "trials", {})
    assert result.best.race.proven
    assert result.best.race.base == result.default.race.base == result.default.name
    assert result.speedup == result.best.race.ratio
    # Those of the final, and those of the run-off.
    assert len(result.default.measurement.samples) == 31 + result.default.race.pairs


@pytest.mark.usefixtures("fakes")
def test_tolerance_decides_who_wins(database: Database) -> None:
    """A loose kernel wins only where the tolerance lets it, from the same trials."""
    assert tuned(database).best.kernel == "fake"
    assert tuned(database, tolerance=1e-2).best.kernel == "fake_loose"
    assert tuned(database, tolerance="strict").best.kernel == "fake"


@pytest.mark.usefixtures("fakes")
def test_every_trial_is_a_row(database: Database) -> None:
    """Each trial is one record, each finalist one more, and nothing stays in quarantine."""
    events: list[Event] = []
    result = tuned(database, on_event=events.append)
    trials = [e.record for e in events if isinstance(e, TrialFinished)]
    kept = list(database.records(problem=TEXT))
    assert len(trials) == result.trials == 20
    assert set(trials) <= set(kept)
    assert database.counts()["quarantined"] == 0


@pytest.mark.usefixtures("fakes")
def test_same_seed_same_trials() -> None:
    """Two runs with one seed on a noiseless device ask the same, another seed asks otherwise."""
    orders = []
    for seed in (1, 1, 2):
        registry().unregister("test-fake")
        registry().register(FakeBackend(noise=0.0), "test-fake")
        events: list[Event] = []
        tuned(Database(None), seed=seed, on_event=events.append)
        orders.append([e.record.config for e in events if isinstance(e, TrialFinished)])
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


@pytest.mark.usefixtures("fakes")
def test_resume_tries_nothing_twice(database: Database) -> None:
    """A second run goes on: only what runs now and its rivals are measured again."""
    first, second = [], []
    tuned(database, trials=30, on_event=first.append)
    tuned(database, trials=30, on_event=second.append)
    before = {e.record.candidate for e in first if isinstance(e, TrialFinished)}
    after = [e.record.candidate for e in second if isinstance(e, TrialFinished)]
    assert len(after) == len(set(after)) == 30
    assert len(before & set(after)) < 12


@pytest.mark.usefixtures("fakes")
def test_exhausted_space(database: Database) -> None:
    """A small space is tried completely, and then the run ends."""
    registry().unregister("test-faulty")
    registry().register(FaultyBackend(["none"]), "test-faulty")
    result = tuned(database, device="faulty:0", trials=None)
    assert (result.trials, result.stopped_by) == (7, "exhausted")
    assert result.best.config["tile"] == 16
    again = tuned(database, device="faulty:0", trials=None)
    assert again.stopped_by == "exhausted"
    assert again.trials < 7


@pytest.mark.usefixtures("fakes")
def test_speed_of_light(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends at 95 % of the roofline, unless a kernel saves arithmetic."""
    monkeypatch.setattr(FakeKernel, "slowness", lambda *_: 1.02)
    result = tuned(database, kernels=["fake"])
    assert (result.trials, result.stopped_by) == (1, "speed of light")
    assert result.roofline_share == pytest.approx(1 / 1.02, rel=0.05)
    assert tuned(Database(None)).stopped_by == "trials"


@pytest.mark.usefixtures("fakes")
def test_budget_is_kept(database: Database) -> None:
    """The wall time of a run stays near its budget, and the final is part of it."""
    start = time.monotonic()
    result = tuned(database, budget=1.0, trials=None, strategy="random")
    assert result.stopped_by in ("budget", "exhausted")
    assert time.monotonic() - start < 4.0
    assert result.best is not None


@pytest.mark.usefixtures("fakes")
def test_tiny_budget_still_measures_the_default(database: Database) -> None:
    """Whatever the budget, there is a default and a winner."""
    result = tuned(database, budget=1e-6, trials=None)
    assert (result.trials, result.stopped_by) == (1, "budget")
    assert result.best.candidate == result.default.candidate


@pytest.mark.usefixtures("fakes")
def test_portfolio_comes_first() -> None:
    """After the defaults come the winners of other devices and of near problems."""
    database = Database(None)
    there = tuned(database, device="fake:1", trials=40, kernels=["fake"])
    near = tuned(database, "gemm float32 nn m=32 n=32 k=64", trials=40, kernels=["fake"])
    events: list[Event] = []
    tuned(database, trials=12, kernels=["fake"], on_event=events.append)
    first = [e.record.config for e in events if isinstance(e, TrialFinished)]
    assert first[0] == there.default.config
    assert there.best.config in first[1:12]
    assert near.best.config in first[1:12]


@pytest.mark.usefixtures("fakes")
def test_incumbent_is_measured_again(database: Database) -> None:
    """What runs now is the first trial of the next run."""
    best = tuned(database, trials=40).best
    events: list[Event] = []
    tuned(database, trials=3, on_event=events.append)
    trials = [e.record for e in events if isinstance(e, TrialFinished)]
    assert trials[0].candidate == best.candidate
    assert trials[0].created > best.created


@pytest.mark.usefixtures("fakes")
def test_all_candidates_fail(database: Database) -> None:
    """Where nothing works, the result says so and nothing is raised."""
    registry().unregister("test-faulty")
    registry().register(FaultyBackend(["none", "wrong"]), "test-faulty")
    device = registry().device("faulty:0")
    kernel = registry().kernels(device, "gemm")[0]
    assert isinstance(kernel, FaultyKernel)
    kernel._faults = ("wrong",)
    kernel.default = lambda problem: Config({"tile": 8, "fault": "wrong"})  # type: ignore[method-assign]
    result = tuned(database, device="faulty:0", trials=None)
    assert (result.best, result.default, result.speedup) == (None, None, None)
    assert result.failures == {"wrong": 7}
    assert result.stopped_by == "exhausted"


@pytest.mark.usefixtures("fakes")
def test_static_check_prunes(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kernel rules out by itself is not run; a check that fails rules out."""
    built: list[Config] = []
    build = FakeKernel.build

    def static_check(kernel: Kernel, problem: Problem, config: Config) -> str | None:
        if config["tile"] == 64:
            raise RuntimeError("no such tile")
        return None if config["tile"] == 8 else "too many registers"

    def note(kernel: FakeKernel, problem: Problem, config: Config) -> Any:
        built.append(config)
        return build(kernel, problem, config)

    monkeypatch.setattr(FakeKernel, "static_check", static_check)
    monkeypatch.setattr(FakeKernel, "build", note)
    with pytest.warns(HwkitWarning, match="static_check failed with RuntimeError: no such tile"):
        result = tuned(database, trials=None, kernels=["fake"])
    assert {config["tile"] for config in built} == {8}
    assert result.trials == len(set(built)) == 24
    assert result.pruned == 150 - 24


@pytest.mark.usefixtures("fakes")
def test_last_resort_is_not_tried_where_something_works(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel of negative rank is left out when another one works."""
    rank = lambda kernel, problem: -1 if kernel.name == "fake_loose" else 0  # noqa: E731
    monkeypatch.setattr(FakeKernel, "rank", rank)
    tuned(database)
    assert {r.kernel for r in database.records()} == {"fake"}


@pytest.mark.usefixtures("fakes")
def test_problems_are_ordered_by_calls_times_time(database: Database) -> None:
    """The problem that takes most of the time in all comes first; repetition counts."""
    small, large = TEXT, "gemm float32 nn m=64 n=64 k=64"

    def order(problems: Any) -> list[str]:
        results = tune(problems, "fake:0", database=database, worker=False, trials=1, budget=None)
        return [r.problem.text for r in results]

    assert order([small, large]) == [large, small]
    assert order([small] * 20 + [large]) == [small, large]
    assert order({small: 20, large: 1}) == [small, large]


@pytest.mark.usefixtures("fakes")
def test_sample_problems_of_every_op(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without problems, the samples that the device supports are tuned."""
    registry().unregister("test-fake")
    registry().register(FakeBackend(ops=["matmul"]), "test-fake")
    texts = [f"matmul float32 b=1 m={m} n=8 k=8" for m in (8, 16, 32)]
    monkeypatch.setattr(type(registry().op("matmul")), "samples", (*texts, INTEGERS))
    results = tune(None, "fake:0", database=database, worker=False, trials=1, budget=None)
    assert sorted(r.problem.text for r in results) == sorted(texts)


@pytest.mark.usefixtures("fakes")
def test_events_tell_the_story(database: Database) -> None:
    """Problems start and finish, trials carry the best so far, the default and the roofline."""
    events: list[Event] = []
    result = tuned(database, trials=5, budget=60, on_event=events.append)
    started, *trials, finished = events
    assert isinstance(started, ProblemStarted)
    assert (started.index, started.count, started.space_size) == (1, 1, 300)
    assert started.roofline == pytest.approx(2 * 32**3 / fake.RATE)
    assert isinstance(finished, ProblemFinished)
    assert finished.result == result
    last = trials[-1]
    assert isinstance(last, TrialFinished)
    assert last.trials == 5
    assert last.best <= last.default < math.inf
    assert last.roofline_share is not None
    assert last.seconds_left is not None
    assert 0 < last.seconds_left < 60


@pytest.mark.usefixtures("fakes")
def test_interrupt_keeps_everything(database: Database) -> None:
    """Ctrl-C ends the run after what was tried, and the next problem is not begun."""

    def interrupt(event: Event) -> None:
        if isinstance(event, TrialFinished) and event.trials == 4:
            raise KeyboardInterrupt

    problems = [TEXT, "gemm float32 nn m=16 n=16 k=16"]
    results = tune(
        problems, "fake:0", database=database, worker=False, budget=None, on_event=interrupt
    )
    assert [(r.trials, r.stopped_by) for r in results] == [(4, "interrupted")]
    assert results[0].best is not None
    assert database.counts()["trials"] == 4
    assert database.counts()["quarantined"] == 0


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("kind", [ProblemStarted, ProblemFinished])
def test_interrupt_between_problems_keeps_the_results(database: Database, kind: type) -> None:
    """Ctrl-C outside of a search loses no result of those before, and is raised if none is."""
    seen: list[Event] = []

    def interrupt(event: Event) -> None:
        if isinstance(event, kind):
            seen.append(event)
            if len(seen) == number:
                raise KeyboardInterrupt

    problems = [TEXT, "gemm float32 nn m=16 n=16 k=16"]
    options: Any = {"database": database, "worker": False, "trials": 2, "on_event": interrupt}
    number = 2
    results = tune(problems, "fake:0", **options)
    assert len(results) == (1 if kind is ProblemStarted else 2)
    assert results[0].best is not None
    seen.clear()
    number = 1
    if kind is ProblemStarted:
        with pytest.raises(KeyboardInterrupt):
            tune(problems, "fake:0", **options)


@pytest.mark.usefixtures("fakes")
def test_what_is_in_memory_is_written_at_the_end(tmp_path: Path) -> None:
    """Trials that could not be written are, if they can be when the run ends, also by Ctrl-C."""
    folder = tmp_path / "folder"
    folder.write_text("not a folder")
    database = Database(folder / "tuning.db")

    def mend(event: Event) -> None:
        if isinstance(event, ProblemFinished):
            folder.unlink()
            raise KeyboardInterrupt

    with pytest.warns(HwkitWarning, match="not kept"):
        tune(TEXT, "fake:0", database=database, worker=False, trials=2, on_event=mend)
    assert database.counts()["not_kept"] == 0
    assert Database(folder / "tuning.db").counts()["trials"] >= 2


@pytest.mark.usefixtures("fakes")
def test_interrupt_within_a_trial_takes_it_out_of_quarantine(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A candidate that was interrupted by the user is not at fault, and may be tried again."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeKernel, "build", interrupt)
    result = tuned(database)
    assert (result.trials, result.stopped_by) == (0, "interrupted")
    counts = database.counts()
    assert (counts["trials"], counts["quarantined"]) == (0, 0)


@pytest.mark.usefixtures("fakes")
def test_setup_that_fails_is_noted(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference that cannot be computed ends the problem with a note, not the run."""

    def prepare(*_: Any) -> float:
        raise HwkitError("no memory for the reference")

    monkeypatch.setattr("hwkit.trial.Bench.prepare", prepare)
    events: list[Event] = []
    result = tuned(database, on_event=events.append)
    assert (result.best, result.stopped_by) == (None, "setup")
    assert any(isinstance(e, Note) and "no memory" in e.text for e in events)
    with pytest.warns(HwkitWarning, match="cannot be tuned further: no memory for the reference"):
        tuned(database)


@pytest.mark.usefixtures("fakes")
def test_plans_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call after the tuning asks the records anew and runs the tuned Config."""
    database = Database(None)
    monkeypatch.setattr(dispatch, "database", lambda: database)
    before = dispatch.plan_problem(TEXT, "fake:0")
    result = tuned(database, trials=40)
    after = dispatch.plan_problem(TEXT, "fake:0")
    assert before.source == "default"
    assert (after.source, after.config) == ("user record", result.best.config)


class Tight(FaultyKernel):
    """A kernel whose default is the best, others up to 30 % behind, and many of them fail."""

    def slowness(self, problem: Problem, config: Mapping[str, Any]) -> float:
        """Return 1.2 for the default's tile, and more the further away."""
        return 1.2 * (1 + 0.04 * abs(math.log2(config["tile"] / 8)))


class TightBackend(FaultyBackend):
    """Brings the tight kernel for gemm."""

    def _make(self, op: str, device: FakeDevice) -> FaultyKernel:
        return Tight(op, device, self._faults)


@pytest.mark.parametrize(
    ("kind", "seeds"),
    [
        ("noise", range(10)),
        ("faults", range(10)),
        pytest.param("noise", range(10, 100), marks=pytest.mark.slow),
        pytest.param("faults", range(10, 100), marks=pytest.mark.slow),
    ],
)
def test_never_slower_than_the_default(kind: str, seeds: range) -> None:
    """In 200 tunings under 3 % noise and injected faults, no pick is slower beyond a tie."""
    violations = []
    for seed in seeds:
        backend = FakeBackend(0.03, seed) if kind == "noise" else TightBackend(HARMLESS, 0.03, seed)
        name = backend.name
        registry().register(backend, "test-noisy")
        try:
            size = 16 + seed % 5 * 8
            text = f"gemm float32 nn m=32 n={size} k=32"
            chosen = ["fake"] if kind == "noise" else ["faulty"]
            result = tuned(Database(None), text, f"{name}:0", seed=seed, trials=14, kernels=chosen)
            problem = registry().op("gemm").parse(text)
            device = registry().device(f"{name}:0")
            kernel = next(k for k in registry().kernels(device, "gemm") if k.name == chosen[0])
            assert isinstance(kernel, FakeKernel)
            default = kernel.slowness(problem, kernel.default(problem))
            if kernel.slowness(problem, result.best.config) > 1.01 * default:
                violations.append((seed, result.best.config))
        finally:
            registry().unregister("test-noisy")
    assert violations == []


@pytest.mark.usefixtures("fakes")
def test_faults_in_a_worker_are_recorded_and_the_run_goes_on(database: Database) -> None:
    """Every fault is a row under its class, in one run that finds the winner."""
    faults = [f for f in FAULTS if f != "memory"]
    result = tuned(
        database, device="faulty:0", worker=True, trials=20, timeout=0.5, strategy="exhaustive"
    )
    assert result.best.config == Config({"tile": 8, "fault": "none"})
    for record in database.records():
        fault = str(record.config["fault"])
        if fault in faults:
            assert record.measurement.failure == FAULTS[fault]
            assert bool(record.measurement.reason) == (fault != "none")
    assert {r.config["fault"] for r in database.records()} == set(FAULTS)


@pytest.mark.usefixtures("fakes")
def test_tune_in_a_worker_from_a_thread(database: Database) -> None:
    """A worker serves a run that is not in the main thread."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(tuned(database, worker=True, trials=5)))
    thread.start()
    thread.join()
    assert found[0].trials == 5


def test_kill_9_of_a_run_loses_only_the_running_candidate(tmp_path: Path) -> None:
    """After kill -9 each finished trial is there, and the one that ran is not tried again."""
    path = tmp_path / "tuning.db"
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from hwkit.records import Database\n"
        "from hwkit.registry import registry\n"
        "from hwkit.testing import faulty\n"
        "from hwkit.testing.faulty import FaultyKernel\n"
        "from hwkit.tuner import TrialFinished, tune\n"
        "registry().register(faulty.faulty, 'faulty')\n"
        "def tell(event):\n"
        "    if isinstance(event, TrialFinished):\n"
        "        print(event.record.config['fault'], flush=True)\n"
        f"tune({TEXT!r}, 'faulty:0', database=Database(Path({str(path)!r})), budget=None,\n"
        "     trials=20, strategy='exhaustive', timeout=float(sys.argv[1]), on_event=tell)\n"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, str(script)]
    with subprocess.Popen([*command, "300"], stdout=subprocess.PIPE, text=True, env=environ) as run:
        assert run.stdout is not None
        told = []
        # The first fault that does not end by itself is where the run is killed.
        while len(told) < 8:
            told.append(run.stdout.readline().strip())
        time.sleep(0.3)
        run.send_signal(signal.SIGKILL)
    database = Database(path)
    kept = [str(r.config["fault"]) for r in database.records(problem=TEXT)]
    assert sorted(set(told)) == sorted(set(kept) - {"hang"})
    database.close()
    tried_before = {r.config for r in database.records(problem=TEXT)}
    done = subprocess.run(
        [*command, "0.5"], stdout=subprocess.PIPE, text=True, env=environ, check=True
    )
    assert done.stdout
    again = [r for r in database.records(problem=TEXT) if r.config in tried_before and not r.ok]
    assert len({(r.kernel, r.config) for r in again}) == len(again)


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("worker", [False, True])
def test_slow_builds_are_done_several_at_a_time(
    database: Database, monkeypatch: pytest.MonkeyPatch, worker: bool
) -> None:
    """Where building takes most of the time, candidates are built ahead, and none is lost."""
    ahead: list[int] = []
    real = Search._ask

    def ask(search: Search, arm: Any) -> list[Config]:
        search._building += 10.0  # as if each build so far had taken long
        asked = real(search, arm)
        ahead.append(len(asked))
        return asked

    monkeypatch.setattr("hwkit.search._MOST_BUILDS", 4)
    monkeypatch.setattr(Search, "_ask", ask)
    result = tuned(database, trials=21, worker=worker, strategy="random")
    assert result.trials == 21
    assert max(ahead) == 4
    assert len({r.candidate for r in database.records()}) == 21


@pytest.mark.usefixtures("fakes")
def test_crash_while_building_ahead_is_put_down_to_its_candidate(database: Database) -> None:
    """A candidate that takes the process down in a common build is found by building alone."""
    device = registry().device("faulty:0")
    kernel = registry().kernels(device, "gemm")[0]
    problem = registry().op("gemm").parse(TEXT)
    with Worker(device, Limits(run=0.5)) as runner:
        runner.prepare(problem, 0)
        configs = [Config({"tile": 8, "fault": f}) for f in ("none", "compile", "segfault")]
        runner.build_ahead([(kernel, config) for config in configs])
        failures = [runner.check(i, kernel, c).failure for i, c in enumerate(configs)]
        assert failures == [None, "compile", "crash"]


@pytest.mark.slow
def test_kill_9_at_random_moments(tmp_path: Path) -> None:
    """40 runs on one database, killed at random: all that was told is kept, nothing is damaged."""
    path, script = tmp_path / "tuning.db", tmp_path / "run.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from hwkit.records import Database\n"
        "from hwkit.registry import registry\n"
        "from hwkit.testing import fake\n"
        "from hwkit.tuner import TrialFinished, tune\n"
        "registry().register(fake.fake, 'fake')\n"
        "def tell(event):\n"
        "    if isinstance(event, TrialFinished):\n"
        "        print(event.record.id, event.record.config, flush=True)\n"
        f"database = Database(Path({str(path)!r}))\n"
        "tune(sys.argv[1], 'fake:0', database=database, budget=None, worker=False,\n"
        "     strategy='random', kernels=['fake'], on_event=tell)\n"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    rng = random.Random(7)
    told: set[str] = set()
    for number in range(40):
        text = f"gemm float32 nn m=32 n=32 k={32 + 8 * (number // 4)}"
        with subprocess.Popen(
            [sys.executable, str(script), text], stdout=subprocess.PIPE, text=True, env=environ
        ) as run:
            assert run.stdout is not None
            told.add(run.stdout.readline().split(" ")[0])
            time.sleep(rng.uniform(0.0, 0.3))
            run.kill()
            told |= {line.split(" ")[0] for line in run.stdout if line.endswith("\n")}
    database = Database(path)
    records = list(database.records())
    assert told - {""} <= {r.id for r in records}
    assert len(told) >= 40
    assert database.verify() == {}
    failed = [(r.problem, r.config) for r in records if not r.ok]
    assert len(failed) == len(set(failed)) <= 40
    after = [r for r in records if r.ok and (r.problem, r.config) in set(failed)]
    crashed = {(r.problem, r.config): r.created for r in records if not r.ok}
    assert all(r.created < crashed[r.problem, r.config] for r in after)
