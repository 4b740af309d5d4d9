"""Ending: what the final and the run-off of a search decide, on simulated times."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from hwkit import Problem
from hwkit.measure import Sample
from hwkit.records import Database
from hwkit.records.record import Record
from hwkit.registry import registry
from hwkit.runner import Checked, Lost
from hwkit.search import Search
from hwkit.strategies import Random
from hwkit.testing import FakeBackend
from hwkit.testing.fake import FakeKernel
from hwkit.trial import Bench

TEXT = "gemm float32 nn m=32 n=32 k=32"


class Flat(FakeKernel):
    """A kernel whose Configs take the time of the default, those of one tile a share of it."""

    share = 1.0

    def slowness(self, problem: Problem, config: Mapping[str, Any]) -> float:
        """Return 2, or less for the tile 16."""
        return 2.0 * (self.share if config["tile"] == 16 else 1.0)


def search(database: Database, seed: int = 0, share: float = 1.0, **options: Any) -> Search:
    """Return a search under 3 % noise in which Configs with a tile of 16 take ``share``."""
    device = FakeBackend(0.03, seed).open(0)
    kernel = Flat("gemm", device)
    kernel.share = share
    facts: dict[str, Any] = {"trials": 25, "seed": seed, **options}
    problem = registry().op("gemm").parse(TEXT)
    return Search(problem, device, [kernel], Bench(device), database, Random, **facts)


def chosen(found: Search) -> Record:
    """Return what a call runs by the records of a search."""
    here = found.device.arch, found.device.fingerprint
    return next(iter(found.database.candidates(TEXT, *here))).record


@pytest.mark.parametrize("seed", range(10))
def test_a_lucky_candidate_does_not_win(seed: int) -> None:
    """Where all take the same time the default stays, whoever had the best trials."""
    found = search(Database(None), seed)
    result = found.run()
    assert result.best is not None
    assert result.best.default
    assert chosen(found) == result.best


@pytest.mark.parametrize("seed", range(5))
def test_a_faster_candidate_wins(seed: int) -> None:
    """What is truly 10 % faster takes the default's place, and its record says by how much."""
    found = search(Database(None), seed, 0.9)
    result = found.run()
    assert result.best is not None
    assert result.best.config["tile"] == 16
    race = result.best.race
    assert race is not None
    assert race.low <= 1 / 0.9 <= race.high
    assert result.speedup == race.ratio
    assert chosen(found) == result.best


@pytest.mark.parametrize("doomed_is_default", [False, True])
def test_who_fails_in_the_run_off_is_dropped(doomed_is_default: bool) -> None:
    """A crash in the run-off costs the candidate its place, and the search goes on."""
    found = search(Database(None), 1, 0.9)
    bench = found.runner
    assert isinstance(bench, Bench)
    sample = bench.sample
    doomed: list[int] = []

    def dying(keys: Sequence[int]) -> list[Sample]:
        default = found.field.default
        if doomed and doomed[0] in keys:
            raise Lost(doomed[0], "crash", "worn out")
        if ended and not doomed:
            others = [key for key in keys if key != default]
            doomed.append(default if doomed_is_default and default is not None else others[0])
        return sample(keys)

    ended: list[bool] = []
    final = found._ending.final

    def end(tried: int) -> None:
        final(tried)
        ended.append(True)

    bench.sample = dying  # type: ignore[method-assign]
    found._ending.final = end  # type: ignore[method-assign]
    result = found.run()
    lost = found.field.candidates[doomed[0]]
    assert result.failures == {"crash": 1}
    assert result.best is not None
    assert result.best.config != lost.config
    assert result.stopped_by == "trials"


def test_a_wrong_answer_after_the_run_off_is_no_winner() -> None:
    """Who was proven faster is checked once more; one that is wrong by then is out."""
    found = search(Database(None), 1, 0.9)
    bench = found.runner
    assert isinstance(bench, Bench)
    run_off = found._ending.run_off

    def begin() -> None:
        wrong = Checked(1.0, failure="wrong", reason="it answers otherwise now")
        bench.check = lambda key, kernel, config: wrong  # type: ignore[method-assign]
        run_off()

    found._ending.run_off = begin  # type: ignore[method-assign]
    result = found.run()
    assert result.best is not None
    assert result.best.default
    assert set(result.failures) == {"wrong"}
    assert all(r.default for r in found.database.records() if r.race is not None)


def interrupted(stage: Any, name: str, found: Search, after: int) -> Search:
    """Let Ctrl-C be pressed after so many rounds of what the method ``name`` of ``stage`` holds."""
    held, bench = getattr(stage, name), found.runner
    assert isinstance(bench, Bench)
    sample: Callable[[Sequence[int]], list[Sample]] = bench.sample

    def begin(*given: Any) -> Any:
        rounds = iter(range(after))

        def press(keys: Sequence[int]) -> list[Sample]:
            if next(rounds, None) is None:
                raise KeyboardInterrupt
            return sample(keys)

        bench.sample = press  # type: ignore[method-assign]
        return held(*given)

    setattr(stage, name, begin)
    return found


def without_its_run_off(database: Database, after: int) -> Search:
    """Return a search whose run-off is interrupted after so many rounds."""
    found = search(database, 2, 0.9)
    return interrupted(found._ending, "run_off", found, after)


@pytest.mark.parametrize("after", [0, 12])
def test_an_interrupted_final_keeps_its_samples(after: int) -> None:
    """Ctrl-C in the final: the whole rounds of it are records, as if the time had ended it."""
    found = search(Database(None), 2, 0.9)
    interrupted(found.field.race, "final", found, after)
    assert found.run().stopped_by == "interrupted"
    rounds = {len(r.measurement.samples) for r in found.database.records()}
    assert max(rounds) == max(after, 5)


def test_an_interrupted_run_off_is_held_again() -> None:
    """Ctrl-C loses no trial, what was said by then is kept, and the same call goes on."""
    database = Database(None)
    first = without_its_run_off(database, 2).run()
    assert first.stopped_by == "interrupted"
    trials = set(database.records())
    assert all(r.race is None for r in trials)
    assert without_its_run_off(database, 7).run().stopped_by == "interrupted"
    assert {r.race.pairs for r in database.records() if r.race is not None} == {7}
    last = search(database, 2, 0.9).run()
    assert trials < set(database.records())
    assert last.best is not None
    assert last.best.race is not None
    assert last.best.race.proven


def test_what_ran_before_is_raced_again() -> None:
    """A candidate that was proven once must prove itself in the next search, too."""
    database = Database(None)
    best = search(database, 3, 0.9).run().best
    assert best is not None
    again = search(database, 3).run().best
    assert again is not None
    assert again.default
    raced = [r for r in database.records() if r.config == best.config and r.race is not None]
    assert len(raced) == 2


def test_time_is_kept_for_the_end() -> None:
    """The end has up to half of the budget, and a search without one keeps nothing."""
    now = time.monotonic()
    found = search(Database(None), 1, 0.9, deadline=now + 1000.0)
    found._ending.final = lambda tried: None  # type: ignore[method-assign]
    found._ending.run_off = lambda: None  # type: ignore[method-assign]
    found.run()
    assert 0.0 < found._ending.reserve() <= 500.0
    found._ending.deadline = math.inf
    assert found._ending.reserve() == 0.0


def test_a_budget_that_is_over_holds_no_run_off() -> None:
    """Where there is no time for a few pairs, none are run and trials decide."""
    database = Database(None)
    found = search(database, 1, 0.9, deadline=time.monotonic() + 1000.0)
    final = found._ending.final

    def late(tried: int) -> None:
        final(tried)
        found._ending.began = found._ending.deadline = time.monotonic()

    found._ending.final = late  # type: ignore[method-assign]
    result = found.run()
    assert result.best is not None
    assert result.best.config["tile"] == 16
    assert all(r.race is None for r in database.records())


def test_the_run_off_repeats_with_the_seed() -> None:
    """On simulated times two searches with one seed say the same to the last digit."""
    found = [search(Database(None), 4, 0.9).run().best for _ in range(2)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].race == found[1].race
    assert found[0].measurement == found[1].measurement
