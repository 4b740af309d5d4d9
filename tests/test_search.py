"""Search: what a whole tuning run achieves, on recorded times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path
from statistics import fmean

import pytest

from hwkit import Problem
from hwkit.config import Config
from hwkit.records import Database
from hwkit.records.record import Record
from hwkit.registry import registry
from hwkit.runner import Lost
from hwkit.search import Search
from hwkit.strategies import Random
from hwkit.testing import FakeBackend, ReplayBackend
from hwkit.testing.fake import FakeDevice, FakeKernel
from hwkit.testing.replay import ReplayDevice
from hwkit.trial import Bench
from hwkit.tuner import tune

DATA = Path(__file__).parent / "data" / "replay"
FILES = sorted(DATA.glob("*.json.gz"))


@pytest.fixture
def database() -> Database:
    """Return a database in memory."""
    return Database(None)


def search(database: Database, trials: int = 12, noise: float = 0.01) -> tuple[Search, FakeDevice]:
    """Return the search of one small problem on a fake device."""
    device = FakeBackend(noise).open(0)
    problem = registry().op("gemm").parse("gemm float32 nn m=32 n=32 k=32")
    kernels = [FakeKernel("gemm", device)]
    return Search(problem, device, kernels, Bench(device), database, Random, trials=trials), device


def test_a_search_needs_no_registry(database: Database) -> None:
    """A search runs on any device, kernel and runner that it is given."""
    found, _ = search(database)
    result = found.run()
    assert (result.trials, result.stopped_by) == (12, "trials")
    assert result.best is not None
    assert result.best.measurement.seconds <= result.default.measurement.seconds  # type: ignore[union-attr]


def test_the_best_may_die_before_the_final(database: Database) -> None:
    """A candidate that fails after it had been timed is out, and the run ends well."""
    found, _ = search(database)
    bench = found.runner
    assert isinstance(bench, Bench)
    sample, doomed = bench.sample, []

    def dying(keys: list[int]) -> object:
        best = found.field.race.best()
        if len(found.field.candidates) == 12 and best is not None and not doomed:
            doomed.append(best)
        if doomed and doomed[0] in keys:
            raise Lost(doomed[0], "crash", "worn out")
        return sample(keys)

    bench.sample = dying  # type: ignore[method-assign, assignment]
    result = found.run()
    lost = found.field.candidates[doomed[0]].config
    assert result.best is not None
    assert result.best.config != lost
    assert result.failures == {"crash": 1}
    assert [r.config for r in database.records(ok=False)] == [lost]


def test_default_that_fails_leaves_the_others(database: Database) -> None:
    """Without a default there is still a winner, and no speedup is claimed."""
    found, _ = search(database)
    kernel = found.kernels[0]
    build = kernel.build

    def failing(problem: object, config: Config) -> object:
        if config == kernel.default(found.problem):
            raise RuntimeError("not today")
        return build(problem, config)  # type: ignore[arg-type]

    kernel.build = failing  # type: ignore[method-assign, assignment]
    result = found.run()
    assert result.best is not None
    assert (result.default, result.speedup) == (None, None)
    assert result.failures == {"compile": 1}


def test_the_default_is_that_of_the_first_kernel(database: Database) -> None:
    """A kernel that came after the last tuning is the default to beat, whatever ran until now."""
    found, device = search(database, trials=1)
    old = found.run()
    assert old.best is not None
    assert old.best.default

    class Newer(FakeKernel):
        def rank(self, problem: Problem) -> int:
            return 5

    newer = Newer("gemm", device)
    newer.name = "newer"
    for deadline, trials in ((math.inf, 2), (0.0, 9)):
        again = Search(
            found.problem, device, [*found.kernels, newer], Bench(device), database, Random,
            trials=trials, deadline=deadline,
        )  # fmt: skip
        result = again.run()
        assert result.default is not None
        assert result.default.kernel == "newer"


def fresh(records: Iterable[Record]) -> Iterator[Record]:
    """Yield records whose samples are in no other: those of a run-off hold those of the final."""
    found = list(records)
    raced = {r.candidate: r.measurement.samples for r in found if r.race is not None}
    for record in found:
        samples = record.measurement.samples
        inside = raced.get(record.candidate, ())[-len(samples) :] == samples
        if record.race is not None or not inside:
            yield record


def winner(file: Path, seed: int) -> tuple[Config, float]:
    """Try everything; return the pick, and the time of all samples over that of seven of each."""
    backend = ReplayBackend(file, space=DATA / "convolution_space.json", seed=seed)
    registry().register(backend, "test-recorded")
    try:
        device = registry().device("replay:0")
        assert isinstance(device, ReplayDevice)
        database = Database(None)
        result = tune(
            device.problem, "replay:0", database=database, worker=False, budget=None,
            seed=seed, strategy="exhaustive",
        )[0]  # fmt: skip
        assert result.best is not None
        spent = sum(sum(r.measurement.samples) for r in fresh(database.records()))
        seven = 7 * sum(fmean(samples) for samples in device.recording.samples.values())
        return result.best.config, spent / seven
    finally:
        registry().unregister("test-recorded")


@pytest.mark.slow
def test_two_tunings_agree_on_the_pick() -> None:
    """Independent tunings choose the same in 80 % of cases, for a quarter of a mean of seven."""
    agreement, cost = [], []
    for file in FILES:
        found = [winner(file, seed) for seed in range(10)]
        agreement.append(fmean(a[0] == b[0] for a, b in combinations(found, 2)))
        cost.append(fmean(share for _, share in found))
    assert fmean(agreement) >= 0.8
    assert fmean(cost) <= 0.25
