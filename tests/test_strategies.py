"""Strategies: legal, unique, terminating, repeatable; better than chance on recorded spaces."""

from __future__ import annotations

import inspect
import math
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hwkit import ArgumentError, Config, Space, Unavailable
from hwkit.strategies import BUILT_IN, Evolutionary, Random, Strategy, portfolio, strategy
from hwkit.testing.recording import Recording

DATA = Path(__file__).parent / "data" / "replay"
NAMES = [*BUILT_IN]
LEARNERS = ["evolutionary", "model"]
Cost = Callable[[Config], float]


def made(name: str, space: Space, seed: int = 0, **options: Any) -> Strategy:
    """Return a strategy; skips where its dependency is not installed."""
    if name == "model":
        pytest.importorskip("sklearn")
        # Little data is needed for a test of the protocol, and few trainings.
        options = {"start": 8, "batch": 10, **options}
    return strategy(name)(space, random.Random(seed), **options)


def searched(chosen: Strategy, cost: Cost, trials: int) -> list[Config]:
    """Ask and tell, and return what was asked."""
    asked = []
    for _ in range(trials):
        config = chosen.ask()
        if config is None:
            break
        asked.append(config)
        chosen.tell(config, cost(config))
    return asked


def bowl(config: Config) -> float:
    """Return a smooth cost with a cliff: odd sums fail."""
    values = [float(v) for v in config.values() if not isinstance(v, str)]
    return math.inf if sum(values) % 7 == 3 else 1e-3 * (1 + sum((v - 3) ** 2 for v in values))


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Spaces of all kinds of values, one constraint at times, possibly without a legal Config."""
    kinds = st.one_of(
        st.lists(st.integers(-9, 300), min_size=1, max_size=6, unique=True),
        st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True),
        st.just([False, True]),
        st.lists(st.floats(-5, 5), min_size=1, max_size=3, unique=True),
    )
    names = draw(st.lists(st.sampled_from("pqrst"), max_size=4, unique=True))
    values = {name: draw(kinds) for name in names}
    share = draw(st.sampled_from([0, 1, 2, 5]))
    if not names or not share:
        return Space(values)

    def chosen(**config: Any) -> bool:
        return sum(map(ord, "".join(map(str, config.values())))) % share == 0

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, keyword) for name in names]
    chosen.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return Space(values, [chosen])


@pytest.mark.parametrize("name", ["exhaustive", "random", "evolutionary"])
@given(space=spaces(), seed=st.integers(0, 99))
@example(space=Space({"p": [1], "q": [-0.0]}, [lambda q: str(q) == "0.0"]), seed=0)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_asks_every_legal_config_once_and_ends(name: str, space: Space, seed: int) -> None:
    """Until it is exhausted, a strategy asks exactly the legal Configs, each once."""
    legal = list(space)
    chosen = made(name, space, seed)
    asked = searched(chosen, bowl, min(len(legal), 60) + 1)
    assert len(set(asked)) == len(asked)
    assert all(config in space for config in asked)
    if len(legal) <= 60:
        assert set(asked) == set(legal)
        assert chosen.ask() is None


def test_model_asks_every_legal_config_once_and_ends() -> None:
    """The model strategy does as the others do."""
    space = Space({"a": range(6), "b": ["x", "y"], "c": [1, 2, 4]}, [lambda a, c: a % c == 0])
    asked = searched(made("model", space), lambda c: 1.0 + float(c["a"]), 100)
    assert sorted(map(str, asked)) == sorted(map(str, space))


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_questions(name: str) -> None:
    """The rng is the only source of chance."""
    space = Space({"a": range(20), "b": range(20), "c": [False, True]})
    runs = [searched(made(name, space, seed), bowl, 30) for seed in (5, 5, 6)]
    assert runs[0] == runs[1]
    assert (runs[0] == runs[2]) == (name == "exhaustive")


@pytest.mark.parametrize("name", NAMES)
def test_takes_answers_it_did_not_ask_for(name: str) -> None:
    """Portfolio Configs are told unasked and not asked again; strangers harm nothing."""
    space = Space({"a": range(5), "b": range(5)})
    chosen = made(name, space)
    told = Config({"a": 2, "b": 3})
    chosen.tell(told, 1e-3)
    chosen.tell(told, 2e-3)
    chosen.tell(Config({"a": 9, "b": 9}), 1e-9)
    chosen.tell(Config({"z": 1}), 1e-9)
    asked = searched(chosen, bowl, 100)
    assert len(asked) == 24
    assert told not in asked


@pytest.mark.parametrize("name", NAMES)
def test_seeds_come_first(name: str) -> None:
    """Legal seeds are asked in order, once; others are ignored."""
    space = Space({"a": range(5), "b": range(5)})
    seeds = [Config({"a": 4, "b": b}) for b in (1, 3, 1, 7)]
    asked = searched(made(name, space, seeds=seeds), bowl, 25)
    assert asked[:2] == seeds[:2]
    assert len(asked) == len(set(asked)) == 25


@pytest.mark.parametrize("name", NAMES)
def test_asks_ahead_of_answers(name: str) -> None:
    """Several Configs may be asked for before the first answer comes."""
    space = Space({"a": range(8), "b": range(8)})
    chosen = made(name, space)
    searched(chosen, bowl, 30)
    ahead = [chosen.ask() for _ in range(34)]
    assert len({c for c in ahead if c is not None}) == 34
    assert chosen.ask() is None


@pytest.mark.parametrize("name", NAMES)
def test_survives_a_space_where_all_fails(name: str) -> None:
    """Infinities and NaN teach nothing and break nothing."""
    space = Space({"a": range(6), "b": range(6)})
    times = iter([math.inf, math.nan] * 18)
    assert len(searched(made(name, space), lambda _: next(times), 50)) == 36


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_space_and_a_single_config(name: str) -> None:
    """Nothing legal gives None at once; a Space without tunables has one Config."""
    assert made(name, Space({"a": [1, 2]}, [lambda a: a > 2])).ask() is None
    single = made(name, Space({}))
    assert single.ask() == Config()
    assert single.ask() is None


@pytest.mark.parametrize("name", NAMES)
def test_huge_spaces_are_not_enumerated(name: str) -> None:
    """A thousand million combinations with constraints cost no more than what is asked."""
    values = {f"p{i}": [2**k for k in range(10)] for i in range(9)}
    space = Space(values, [lambda p0, p1: p0 * p1 <= 64, lambda p2, p3, p4: p2 * p3 >= p4])
    asked = searched(made(name, space), lambda c: 1e-6 * sum(float(v) for v in c.values()), 40)
    assert len(set(asked)) == 40
    assert all(config in space for config in asked)


@pytest.mark.parametrize("name", LEARNERS)
def test_failures_repel(name: str) -> None:
    """Where half of the space fails, a strategy that learns asks less there than chance would."""
    space = Space({"a": range(12), "b": range(12), "c": range(4)})

    def cost(config: Config) -> float:
        a, b, c = (float(config[name]) for name in "abc")
        return math.inf if a < 6 else 1e-3 * (1 + b + c + abs(a - 7) / 2)

    asked = searched(made(name, space, explore=10), cost, 90)
    late = asked[45:]
    assert sum(float(c["a"]) < 6 for c in late) < 0.42 * len(late)


@pytest.mark.parametrize("name", LEARNERS)
def test_an_unknown_or_illegal_option_is_named(name: str) -> None:
    """The message says which options there are, or what the value must be."""
    space = Space({"a": [1, 2]})
    with pytest.raises(ArgumentError, match=r"no option 'strat'.*start \("):
        made(name, space, strat=3)
    for value in (0, "12", True, 1.5):
        with pytest.raises(ArgumentError, match=f"option start={value!r} .* a whole number"):
            made(name, space, start=value)
    with pytest.raises(ArgumentError, match="it has: none"):
        Random(space, random.Random(0), start=3)


def test_every_option_is_documented() -> None:
    """Each option has a legal default and a sentence."""
    for chosen in BUILT_IN.values():
        for option in chosen.OPTIONS.values():
            assert option.default >= option.least
            assert option.text


def test_strategy_by_name() -> None:
    """Names are known, and a near miss is answered with a hint."""
    assert strategy("evolutionary") is Evolutionary
    with pytest.raises(ArgumentError, match="did you mean 'evolutionary'"):
        strategy("evolutionry")
    with pytest.raises(ArgumentError, match="there are exhaustive, random"):
        strategy("zzz")


def test_model_without_scikit_learn_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost model is optional, and imported only when it is asked for."""

    def refuse(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("hwkit.strategies.model.import_module", refuse)
    with pytest.raises(Unavailable, match=r"pip install 'hwkit\[tune\]'"):
        strategy("model")(Space({"a": [1]}), random.Random(0))


# Recorded spaces.


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    """Return the recordings of three devices."""
    return [Recording(path) for path in sorted(DATA.glob("*.json.gz"))]


def reached(chosen: Strategy, recording: Recording, trials: int, seed: int) -> list[float]:
    """Return the share of the optimum after each trial; the strategy sees single samples."""
    noise, best, shares = random.Random(seed), math.inf, []

    def cost(config: Config) -> float:
        nonlocal best
        best = min(best, recording.table[config])
        shares.append(recording.best / best)
        return noise.choice(recording.samples.get(config, (math.inf,)))

    searched(chosen, cost, trials)
    return shares


def mean_of(runs: list[list[float]], trials: int) -> float:
    """Return the mean share of the optimum after a number of trials."""
    return statistics.mean(run[trials - 1] for run in runs)


def test_evolutionary_from_nothing(recordings: list[Recording]) -> None:
    """On the slice of recorded spaces it reaches 85 % at 50 trials, and chance is not better."""
    runs = [
        reached(made("evolutionary", r.space, seed), r, 60, seed)
        for r in recordings
        for seed in range(12)
    ]
    chance = [
        reached(made("random", r.space, seed), r, 60, seed)
        for r in recordings
        for seed in range(100)
    ]
    assert mean_of(runs, 50) >= 0.85
    for trials in (20, 30, 40, 50, 60):
        assert mean_of(runs, trials) >= mean_of(chance, trials) - 0.02
    assert mean_of(runs, 50) >= mean_of(chance, 50) + 0.05


def test_evolutionary_begins_like_random(recordings: list[Recording]) -> None:
    """Until it has learnt something it draws what random draws, so it cannot be worse."""
    space = recordings[0].space
    start = int(Evolutionary.OPTIONS["start"].default)
    both = [searched(made(n, space, 3), bowl_of(recordings[0]), start - 1) for n in NAMES[1:3]]
    assert both[0] == both[1]


def bowl_of(recording: Recording) -> Cost:
    """Return the recorded medians as a cost."""
    return lambda config: recording.table[config]


def test_portfolio_of_other_devices(recordings: list[Recording]) -> None:
    """With the tables of two other devices, five trials come near the third's best."""
    shares = []
    for here in recordings:
        others = [r.table for r in recordings if r is not here]
        chosen = portfolio(others, here.space, 5)
        assert len(set(chosen)) == 5
        shares.append(max(here.best / here.table[config] for config in chosen))
    assert statistics.mean(shares) >= 0.8


def test_tables_of_other_devices_guide_the_search(recordings: list[Recording]) -> None:
    """With the tables of two other devices it reaches 93 % at 50 trials."""
    runs = []
    for here in recordings:
        others = [r.table for r in recordings if r is not here]
        for seed in range(4):
            seeds = portfolio(others, here.space, 5)
            chosen = made("evolutionary", here.space, seed, seeds=seeds, tables=others)
            runs.append(reached(chosen, here, 50, seed))
    assert mean_of(runs, 50) >= 0.93


def test_portfolio_takes_what_it_is_given() -> None:
    """Winners only, failures, strangers to the space and empty tables are all legal."""
    space = Space({"a": range(4), "b": range(4)})
    good, other, failed = (Config({"a": 1, "b": b}) for b in (0, 1, 2))
    stranger = Config({"a": 9, "b": 9})
    tables = [{good: 1.0, stranger: 0.5, failed: math.inf}, {other: 2.0}, {}]
    assert set(portfolio(tables, space, 9)) == {good, other}
    assert portfolio([{good: 1.0, other: 1.5}, {good: 3.0, other: 2.9}], space, 1) == [good]
    assert portfolio([], space, 5) == []
    assert portfolio(tables, space, 0) == []


def test_misleading_tables_do_not_keep_it_from_the_best() -> None:
    """A device on which everything is the other way round is a bad adviser, and is soon ignored."""
    space = Space({"a": range(16), "b": range(16)})

    def cost(config: Config) -> float:
        return 1e-3 * math.exp(0.2 * (abs(float(config["a"]) - 3) + float(config["b"])))

    opposite = [{config: 1 / cost(config) for config in space}]
    chosen = made("evolutionary", space, tables=opposite)
    found = min(map(cost, searched(chosen, cost, 60)))
    assert found <= 1.25e-3
