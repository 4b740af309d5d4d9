"""Arms: what a search tries first, and how Kernels share the trials."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest

from hwkit import answers
from hwkit.arms import Arm, Arms
from hwkit.config import Config
from hwkit.errors import PluginError
from hwkit.measure import Measurement
from hwkit.op import Problem
from hwkit.records import Database
from hwkit.records.record import Record
from hwkit.registry import registry
from hwkit.settings import Settings
from hwkit.strategies import Random
from hwkit.testing import FakeBackend
from hwkit.testing.fake import FakeDevice, FakeKernel

TEXT = "gemm float32 nn m=32 n=32 k=32"


@pytest.fixture
def device() -> FakeDevice:
    """Return a fake device."""
    return FakeBackend().open(0)


@pytest.fixture
def problem() -> Problem:
    """Return a small problem."""
    return registry().op("gemm").parse(TEXT)


@pytest.fixture
def database() -> Database:
    """Return a database in memory."""
    return Database(None)


def arms(
    problem: Problem, device: FakeDevice, database: Database, tolerance: float | None = None
) -> Arms:
    """Return the arms of the two fake kernels."""
    kernels = [FakeKernel("gemm", device, loose) for loose in (True, False)]
    return Arms(problem, device, kernels, database, Random, 0, tolerance)


def record(
    device: FakeDevice,
    config: Config,
    seconds: float | None,
    kernel: str = "fake",
    text: str = TEXT,
) -> Record:
    """Return a record of a fake kernel; without seconds, of a crash."""
    measured = Measurement.failed("crash", "gone")
    if seconds is not None:
        measured = Measurement(seconds, (seconds,) * 31, 1e-7)
    return Record(text, "gemm", kernel, 1, config, device.arch, device.fingerprint, measured)


def first(found: Arms) -> list[tuple[str, Config, bool]]:
    """Return the whole portfolio."""
    return [(a.kernel.name, c, known) for a, c, known in found.portfolio(lambda: False)]


def test_defaults_come_first(problem: Problem, device: FakeDevice, database: Database) -> None:
    """With nothing known, the portfolio is the default of each kernel, by rank and name."""
    default = FakeKernel("gemm", device).default(problem)
    found = arms(problem, device, database)
    assert first(found) == [("fake", default, False), ("fake_loose", default, False)]
    assert found.space_size == 300
    assert not found.plain


def test_the_default_of_a_call_comes_first(
    problem: Problem, device: FakeDevice, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel of higher rank that the tolerance does not admit waits: no call would run it."""
    monkeypatch.setattr(FakeKernel, "rank", lambda kernel, problem: 5 * kernel._loose)
    for tolerance, names in ((None, ["fake", "fake_loose"]), (1e-2, ["fake_loose", "fake"])):
        found = first(arms(problem, device, database, tolerance))
        assert [name for name, _, _ in found] == names


def test_incumbent_comes_before_the_defaults(
    problem: Problem, device: FakeDevice, database: Database
) -> None:
    """What runs now is tried first, the winner of another device after the defaults."""
    space = FakeKernel("gemm", device).space(problem)
    mine, theirs = [c for c, _ in zip(space, range(2), strict=False)]
    database.add(record(device, mine, 1e-3))
    database.add(record(FakeBackend().open(1), theirs, 1e-3))
    found = first(arms(problem, device, database))
    assert found[0] == ("fake", mine, True)
    assert ("fake", theirs, False) in found[3:]
    assert len(found) == len(set(found))


def test_records_that_cannot_be_used_are_left_out(
    problem: Problem, device: FakeDevice, database: Database
) -> None:
    """Unknown kernels, other versions and Configs outside the space are no advice."""
    database.add(record(device, Config({"tile": 3}), 1e-3))
    database.add(record(device, Config(), 1e-3, kernel="stranger"))
    assert len(first(arms(problem, device, database))) == 2


def test_what_was_tried_is_not_asked_again(
    problem: Problem, device: FakeDevice, database: Database
) -> None:
    """Trials of before, failures included, are told to the strategy and left out."""
    space = FakeKernel("gemm", device).space(problem)
    every = list(space)
    for number, config in enumerate(every[:-3]):
        database.add(record(device, config, None if number % 2 else 1e-3))
    arm = next(a for a in arms(problem, device, database).all if a.kernel.name == "fake")
    asked = [arm.ask() for _ in range(4)]
    assert set(asked) == {*every[-3:], None}
    assert sum(math.isinf(s) for s in arm.known.values()) == len(every[:-3]) // 2


def test_what_failed_here_is_not_tried_again(
    problem: Problem, device: FakeDevice, database: Database
) -> None:
    """A candidate that crashed here stays out, though it won elsewhere or is the default."""
    kernel = FakeKernel("gemm", device)
    default, winner = kernel.default(problem), next(iter(kernel.space(problem)))
    for config in (default, winner):
        database.add(record(device, config, None))
        database.add(record(FakeBackend().open(1), config, 1e-3))
    assert first(arms(problem, device, database)) == [("fake_loose", default, False)]


def test_what_a_run_that_ended_early_found_is_raced_again(
    problem: Problem, device: FakeDevice, database: Database
) -> None:
    """A few samples do not beat a finalist, but bring a candidate into the next run."""
    every = list(FakeKernel("gemm", device).space(problem))
    database.add(record(device, every[0], 1e-3))
    few = Measurement(0.8e-3, (0.8e-3,) * 5, 1e-7)
    early = replace(record(device, every[1], 1.0), measurement=few)
    database.add(early)
    found = first(arms(problem, device, database))
    assert found[0] == ("fake", every[0], True)
    assert ("fake", every[1], False) in found


def test_screening_then_the_better_kernel(
    problem: Problem, device: FakeDevice, database: Database
) -> None:
    """Each kernel gets a few trials, then the better one most, a hopeless one next to none."""
    found = arms(problem, device, database)

    def shares(ratio: float) -> Counter[str]:
        turns: Counter[str] = Counter()
        for arm in found.all:
            arm.trials, arm.best = 0, math.inf
        for _ in range(200):
            arm = found.choose()
            assert arm is not None
            arm.trials += 1
            arm.best = ratio if arm.kernel.name == "fake_loose" else 1.0
            turns[arm.kernel.name] += 1
        return turns

    assert 70 < shares(1.0)["fake"] < 130
    assert 4 <= shares(1.3)["fake_loose"] < 50
    assert shares(10.0)["fake_loose"] <= 4


def test_nobody_is_left(problem: Problem, device: FakeDevice, database: Database) -> None:
    """When all spaces are tried, it is nobody's turn."""
    found = arms(problem, device, database)
    for arm in found.all:
        arm.done = True
    assert found.choose() is None


def test_what_a_call_would_not_run_is_no_incumbent(
    problem: Problem, device: FakeDevice, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record whose workspace or error a call refuses does not fit a search either."""
    found = arms(problem, device, database)
    good = record(device, FakeKernel("gemm", device).default(problem), 1e-3)
    assert found.fits(good)
    assert not found.fits(replace(good, measurement=replace(good.measurement, error=1e-5)))
    monkeypatch.setattr(FakeKernel, "workspace", lambda *_: 1000)
    monkeypatch.setattr(answers, "settings", lambda: Settings(workspace_limit=999))
    assert not found.fits(good)


def test_tables_of_other_devices_reach_the_strategy(
    problem: Problem, device: FakeDevice, database: Database
) -> None:
    """A strategy sees what other devices measured, one table a device, failures as infinity."""
    other = FakeBackend().open(1)
    good, bad = [
        c for c, _ in zip(FakeKernel("gemm", device).space(problem), range(2), strict=False)
    ]
    database.add(record(other, good, 2e-3))
    database.add(record(other, bad, None))
    database.add(record(device, good, 1e-3))
    arm: Arm = next(a for a in arms(problem, device, database).all if a.kernel.name == "fake")
    assert arm.strategy.tables == ({good: 2e-3, bad: math.inf},)


class Repeating(Random):
    """Random choice with replacement, which never ends."""

    def ask(self) -> Config | None:
        return self.space.sample(self.rng)


class Broken(Random):
    """A stranger's strategy with a bug."""

    def ask(self) -> Config | None:
        raise RuntimeError("boom")


def test_a_strategy_that_never_ends(
    problem: Problem, device: FakeDevice, database: Database
) -> None:
    """One that asks for what is known, again and again, is done when everything is known."""
    kernels = [FakeKernel("gemm", device)]
    arm = Arms(problem, device, kernels, database, Repeating, 0, None).all[0]
    while (config := arm.ask()) is not None:
        arm.tell(config, 1.0)
    assert len(arm.known) > 1


def test_a_strategy_that_fails_is_named(
    problem: Problem, device: FakeDevice, database: Database
) -> None:
    """A stranger's bug is one sentence, which the search reports."""
    kernels = [FakeKernel("gemm", device)]
    arm = Arms(problem, device, kernels, database, Broken, 0, None).all[0]
    with pytest.raises(PluginError, match=r"strategy Broken of .* failed with Runt.*: boom"):
        arm.ask()
