"""Run-off: what pairs say about the default and its challengers, on simulated times."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest

from hwkit.measure import Sample
from hwkit.runoff import FEWEST, LOOKS, Paired, RunOff, interval


class Track:
    """Samples of candidates whose true seconds are known, on a machine that drifts."""

    def __init__(self, times: dict[str, float], noise: float = 0.0, seed: int = 0) -> None:
        self.times = times
        self.noise = noise
        self.rng = random.Random(seed)
        self.orders: list[list[str]] = []
        self.drift: Callable[[], float] = lambda: 1.0

    def __call__(self, keys: Sequence[str]) -> list[Sample]:
        self.orders.append(list(keys))
        drift = self.drift()
        return [
            Sample(self.times[k] * drift * math.exp(self.rng.gauss(0, self.noise))) for k in keys
        ]


def run_off(track: Track, **options: object) -> dict[str, Paired]:
    """Return the verdict of a run-off of all others against ``default``."""
    off = RunOff(track, "default", [k for k in track.times if k != "default"])
    off.run(**options)  # type: ignore[arg-type]
    return off.verdict("the base")


@pytest.mark.parametrize("seed", range(30))
def test_a_truly_faster_challenger_is_proven(seed: int) -> None:
    """10 % more speed is proven under 5 % noise, on a machine whose clock halves at times."""
    track = Track({"default": 1.1, "fast": 1.0}, 0.05, seed)
    track.drift = lambda: track.rng.choice([1.0, 2.0])
    assert run_off(track)["fast"].proven


def test_a_lucky_challenger_is_not_proven() -> None:
    """Of 200 equals under 5 % noise, however lucky before, hardly any is proven faster."""
    found = [run_off(Track({"default": 1.0, "lucky": 1.0}, 0.05, seed)) for seed in range(200)]
    assert sum(f["lucky"].proven for f in found) <= 4


def test_a_gain_below_the_least_does_not_count() -> None:
    """What is faster by 1 % without any doubt does not take the default's place."""
    found = run_off(Track({"default": 1.01, "near": 1.0}))["near"]
    assert found.low > 1.0
    assert not found.proven
    assert found.settled


def test_bursts_do_not_move_the_ratio() -> None:
    """Rounds in which a neighbour hits one of the two widen nothing as long as they are few."""
    track = Track({"default": 1.2, "fast": 1.0}, 0.01, 3)
    calm = run_off(track)["fast"]
    samples: Callable[[Sequence[str]], list[Sample]] = track.__call__

    def hit(keys: Sequence[str]) -> list[Sample]:
        found = samples(keys)
        burst = len(track.orders) % 6 == 0
        return [
            Sample(9.0) if k == "fast" and burst else s for k, s in zip(keys, found, strict=True)
        ]

    off = RunOff(hit, "default", ["fast"])
    off.run()
    assert off.verdict("")["fast"].ratio == pytest.approx(calm.ratio, rel=0.02)


def test_it_ends_when_the_answer_is_clear() -> None:
    """Clear answers take as many rounds as the first look, close ones more, none the last."""
    assert run_off(Track({"default": 2.0, "fast": 1.0}, 0.02))["fast"].pairs == LOOKS[0]
    assert run_off(Track({"default": 1.0, "slow": 1.5}, 0.02))["slow"].pairs == LOOKS[0]
    close = run_off(Track({"default": 1.03, "close": 1.0}, 0.05, 4))["close"]
    assert LOOKS[0] < close.pairs <= LOOKS[-1]


def test_who_is_clearly_not_faster_leaves() -> None:
    """A slow challenger does not cost the others' rounds."""
    track = Track({"default": 1.03, "slow": 2.0, "close": 1.0}, 0.05, 5)
    found = run_off(track)
    assert found["slow"].pairs == LOOKS[0] < found["close"].pairs
    assert all("slow" not in order for order in track.orders[LOOKS[0] :])


def test_everybody_has_every_place() -> None:
    """The order is turned and flipped, so that no one always comes first or behind another."""
    track = Track({"default": 1.0, "a": 1.0, "b": 1.0}, 0.2, 1)
    run_off(track)
    rounds = track.orders[:6]
    assert sorted({tuple(order) for order in rounds}) == sorted(
        [
            ("default", "a", "b"), ("b", "a", "default"), ("a", "b", "default"),
            ("default", "b", "a"), ("b", "default", "a"), ("a", "default", "b"),
        ]
    )  # fmt: skip


def test_a_challenger_that_fails_is_out() -> None:
    """Who dies on the way is not in the verdict; the others are."""
    track = Track({"default": 1.5, "dying": 1.0, "fast": 1.0}, 0.01)
    samples: Callable[[Sequence[str]], list[Sample]] = track.__call__

    def sample(keys: Sequence[str]) -> list[Sample]:
        found = samples(keys)
        dead = len(track.orders) > 3
        return [
            Sample(math.inf) if k == "dying" and dead else s
            for k, s in zip(keys, found, strict=True)
        ]

    off = RunOff(sample, "default", ["dying", "fast"])
    off.run()
    assert set(off.verdict("")) == {"default", "fast"}
    assert off.verdict("")["fast"].proven


def test_without_the_base_there_is_no_verdict() -> None:
    """Where the default dies, nothing is said."""
    off = RunOff(lambda keys: [Sample(math.inf) for _ in keys], "default", ["a"])
    off.run()
    assert off.verdict("") == {}


def test_few_pairs_must_all_agree() -> None:
    """A run-off that the budget ends early says nothing, or asks for all pairs to agree."""
    stops = iter([False] * (FEWEST - 1) + [True])
    assert run_off(Track({"default": 2.0, "a": 1.0}), stop=lambda: next(stops)) == {}
    ratios = [1.2, 1.3, 1.1, 1.2, 0.99]
    assert not Paired.of("", ratios, [1.0] * 5).proven
    assert Paired.of("", [1.2, 1.3, 1.1, 1.2, 1.05], [1.0] * 5).proven


def test_ctrl_c_leaves_whole_rounds() -> None:
    """What was taken before an interrupt is there, and everybody has as many samples."""
    track = Track({"default": 1.2, "a": 1.0}, 0.3)
    samples: Callable[[Sequence[str]], list[Sample]] = track.__call__

    def sample(keys: Sequence[str]) -> list[Sample]:
        if len(track.orders) == 6:
            raise KeyboardInterrupt
        return samples(keys)

    off = RunOff(sample, "default", ["a"])
    with pytest.raises(KeyboardInterrupt):
        off.run()
    assert {len(s) for s in off.taken.values()} == {6}
    assert off.verdict("")["a"].pairs == 6


@pytest.mark.parametrize(
    ("count", "beyond"), [(5, 0), (8, 0), (11, 0), (12, 1), (15, 2), (21, 4), (31, 7), (45, 13)]
)
def test_interval_is_that_of_the_sign_test(count: int, beyond: int) -> None:
    """The ranks are those of the tables of the binomial distribution at 1 % on both sides."""
    values = random.Random(1).sample(range(count), count)
    assert interval(values) == (beyond, count - 1 - beyond)


def test_interval_covers_the_median() -> None:
    """Of 500 intervals of 21 skewed values, 99 % hold the true median."""
    rng = random.Random(2)
    held = 0
    for _ in range(500):
        low, high = interval([rng.lognormvariate(0.0, 1.0) for _ in range(21)])
        held += low <= 1.0 <= high
    assert held >= 490


def test_text() -> None:
    """The comparison is told with its noise and the number of pairs."""
    assert str(Paired("", 1.12, 1.09, 1.152, 15)) == "1.12x the default (1.09..1.15, 15 pairs)"
