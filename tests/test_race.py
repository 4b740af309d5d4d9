"""The staged race, on simulated times."""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from hwkit.measure import Sample
from hwkit.race import Race, level


class Track:
    """Samples of candidates whose true seconds are known."""

    def __init__(self, times: dict[str, float], noise: float = 0.0, seed: int = 0) -> None:
        self.times = times
        self.noise = noise
        self.rng = random.Random(seed)
        self.taken: Counter[str] = Counter()
        self.orders: list[list[str]] = []
        self.factor: Callable[[int], float] = lambda number: 1.0

    def __call__(self, keys: Sequence[str]) -> list[Sample]:
        self.orders.append(list(keys))
        found = []
        for key in keys:
            self.taken[key] += 1
            drift = self.factor(sum(self.taken.values()))
            found.append(Sample(self.times[key] * drift * math.exp(self.rng.gauss(0, self.noise))))
        return found


def test_stages_take_1_5_and_31_samples() -> None:
    """Who is near the best gets more samples: 5 within 15 %, 31 within 5 %, 101 within 2.5 %."""
    track = Track({"a": 1.0, "slow": 3.0, "near": 1.1, "close": 1.04, "rival": 1.01})
    race: Race[str] = Race(track)
    for key in track.times:
        race.enter(key)
    assert {k: len(s) for k, s in race.samples.items()} == {
        "a": 5,
        "slow": 1,
        "near": 5,
        "close": 5,
        "rival": 5,
    }
    assert race.finalists() == ["a", "rival", "close", "near"]
    taken = race.final(race.finalists())
    assert {k: len(s) for k, s in taken.items()} == {"a": 101, "rival": 101, "close": 31}
    assert track.taken["near"] < 20


def test_an_outlier_of_the_first_sample_is_taken_again() -> None:
    """A winner whose first sample was an outlier is not lost."""
    track = Track({"a": 1.0, "b": 0.9})
    race: Race[str] = Race(track)
    race.enter("a")
    first = sum(track.taken.values()) + 1
    track.factor = lambda number: 1.5 if number == first else 1.0
    assert race.enter("b") == pytest.approx(0.9)
    assert race.best() == "b"


def test_disturbed_first_sample_is_taken_again() -> None:
    """A first sample taken under contention does not decide."""
    track = Track({"a": 1.0, "b": 0.5})
    race: Race[str] = Race(track)
    race.enter("a")
    race._sample = lambda keys: [
        Sample(9.0, True) if track.taken["b"] == 1 and key == "b" else sample
        for key, sample in zip(keys, track(keys), strict=True)
    ]
    assert race.enter("b") == pytest.approx(0.5)
    race._sample = lambda keys: [Sample(9.0, True) for _ in keys]
    race.enter("c")
    assert len(race.samples["c"]) == 4


def test_challenger_is_compared_next_to_the_best() -> None:
    """Where the machine slows down for everybody, a challenger is judged by ratios."""
    track = Track({"a": 1.0, "b": 0.99})
    race: Race[str] = Race(track)
    race.enter("a")
    track.factor = lambda number: 1.12
    assert race.enter("b") == pytest.approx(0.99)


def test_the_order_is_flipped_every_round() -> None:
    """No candidate always comes first."""
    track = Track({"a": 1.0, "b": 1.0})
    race: Race[str] = Race(track)
    race.enter("a")
    race.enter("b")
    track.orders.clear()
    race.final(["a", "b"], rounds=4)
    assert track.orders == [["a", "b"], ["b", "a"], ["a", "b"], ["b", "a"]]


def test_default_takes_part_in_the_final_whatever_its_time() -> None:
    """Who must be there stays to the end, also where it is far behind."""
    track = Track({"best": 1.0, "default": 2.0})
    race: Race[str] = Race(track)
    for key in track.times:
        race.enter(key)
    field = race.finalists(["default"])
    assert field == ["best", "default"]
    assert len(race.final(field, ["default"])["default"]) == 31


def test_clear_losers_leave_the_final_early() -> None:
    """A lucky finalist is left out after eleven rounds."""
    track = Track({"best": 1.0, "lucky": 1.3})
    race: Race[str] = Race(track)
    race.enter("best")
    race.enter("lucky")
    taken = race.final(["best", "lucky"])
    assert list(taken) == ["best"]
    assert track.taken["lucky"] < 20


def test_at_most_64_finalists_and_the_default() -> None:
    """A crowd of equals is cut to 64, and the default is among them."""
    track = Track({f"c{i}": 1.0 + i * 1e-4 for i in range(100)})
    race: Race[str] = Race(track)
    for key in track.times:
        race.enter(key)
    field = race.finalists(["c99"])
    assert len(field) == 64
    assert "c99" in field


def test_unranked_candidates_are_timed_only() -> None:
    """Who may not win for its error is timed and does not become the best."""
    track = Track({"a": 1.0, "loose": 0.5})
    race: Race[str] = Race(track)
    race.enter("a")
    assert race.enter("loose", ranked=False) == pytest.approx(0.5)
    assert race.best() == "a"
    assert "loose" not in race.finalists()


def test_confirm_replaces_a_lucky_estimate() -> None:
    """More samples take the place of what a few lucky ones said."""
    track = Track({"a": 1.0})
    track.factor = lambda number: 0.5
    race: Race[str] = Race(track)
    assert race.enter("a") == pytest.approx(0.5)
    track.factor = lambda number: 1.0
    assert race.confirm("a") == race.seconds("a") == pytest.approx(1.0)
    race.leave("a")
    assert race.confirm("a") == math.inf


def test_who_leaves_in_the_middle_of_a_final_is_gone() -> None:
    """A candidate that dies in the final is left out, and the others go on."""
    track = Track({"a": 1.0, "b": 1.0})
    race: Race[str] = Race(track)
    race.enter("a")
    race.enter("b")

    def sample(keys: Sequence[str]) -> list[Sample]:
        if track.taken["b"] > 10:
            race.leave("b")
        return track(keys)

    race._sample = sample
    taken = race.final(["a", "b"])
    assert list(taken) == ["a"]
    assert len(taken["a"]) == 31


def test_final_stops_when_told() -> None:
    """The budget ends a final after any round."""
    track = Track({"a": 1.0})
    race: Race[str] = Race(track)
    race.enter("a")
    assert len(race.final(["a"], stop=lambda: True)["a"]) == 1


def test_level_takes_shared_drift_out() -> None:
    """Two candidates 2 % apart are told apart on a machine that changes its clock by 20 %."""
    rng = random.Random(3)
    clock = [rng.choice([1.0, 1.2]) for _ in range(31)]
    taken = {
        key: [Sample(seconds * c * math.exp(rng.gauss(0, 0.002))) for c in clock]
        for key, seconds in (("a", 1.0), ("b", 1.02), ("c", 1.5))
    }
    levels = level(taken)
    assert levels["b"] / levels["a"] == pytest.approx(1.02, abs=0.005)
    assert levels["c"] / levels["a"] == pytest.approx(1.5, abs=0.01)


def test_level_of_two_is_the_paired_median_of_ratios() -> None:
    """For two candidates only the ratios of a round count, not the rounds."""
    rng = random.Random(4)
    clock = [rng.uniform(1, 10) for _ in range(31)]
    taken = {"a": [Sample(c) for c in clock], "b": [Sample(1.1 * c) for c in clock]}
    levels = level(taken)
    assert levels["b"] / levels["a"] == pytest.approx(1.1)


def test_level_of_unequal_rounds() -> None:
    """Who left early is compared over the rounds in which it took part."""
    clock = [1.0] * 31 + [3.0] * 70
    taken = {
        "a": [Sample(c) for c in clock],
        "b": [Sample(1.01 * c) for c in clock],
        "out": [Sample(1.04)] * 31,
    }
    levels = level(taken)
    assert levels["out"] == pytest.approx(1.04)
    assert levels["b"] / levels["a"] == pytest.approx(1.01)


def test_level_leaves_independent_noise_alone() -> None:
    """Where candidates do not move together, each keeps its own median."""
    rng = random.Random(5)
    taken = {k: [Sample(math.exp(rng.gauss(0, 0.05))) for _ in range(31)] for k in "abcdef"}
    levels = level(taken)
    for key, samples in taken.items():
        assert levels[key] == statistics.median(s.seconds for s in samples)


def test_level_of_nothing() -> None:
    """No finalists and no samples are no error."""
    assert level({}) == {}
    assert level({"a": []}) == {}


@pytest.mark.parametrize("seed", range(20))
def test_race_finds_the_fastest_under_noise(seed: int) -> None:
    """With 2 % noise the winner of 30 candidates is within 2 % of the fastest."""
    rng = random.Random(seed)
    track = Track({f"c{i}": rng.uniform(1.0, 2.0) for i in range(30)}, 0.02, seed)
    race: Race[str] = Race(track)
    for key in track.times:
        race.enter(key)
    levels = level(race.final(race.finalists()))
    assert track.times[min(levels, key=levels.__getitem__)] <= 1.02 * min(track.times.values())
