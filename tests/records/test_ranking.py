"""Tests of the ranking: which of many trials is the winner."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwkit.records.ranking import (
    MOST_TIE,
    TIE,
    pick,
    rank,
    reading_score,
    score,
    stage,
    standings,
)
from hwkit.records.record import Record
from hwkit.runoff import Paired

from .trials import created, trial


def tile(record: Record | None) -> object:
    """Return the tunable of a record."""
    return None if record is None else record.config["tile"]


def test_nothing_to_pick() -> None:
    """Without a success there is no winner."""
    assert pick([]) == (None, ())
    assert pick([trial(failure="crash")]) == (None, ())
    assert list(rank([trial(failure="crash")])) == []


def test_stages() -> None:
    """The stages of the race end with 1, 5 and 31 samples; a final may be cut short after 11."""
    assert [stage(trial(samples=n)) for n in (0, 1, 4, 5, 10, 11, 30, 31)] == [
        0,
        0,
        0,
        1,
        1,
        2,
        2,
        3,
    ]


def raced(tile: int, seconds: float, low: float, **fields: Any) -> Record:
    """Return the trial of a run-off against ``tile=1``, which is itself 1 ms."""
    ratio = 1e-3 / seconds
    race = Paired("blocked/1 tile=1", ratio, low if tile > 1 else ratio, 1.1 * ratio, 15)
    return trial(tile, seconds, 15, race=race, default=tile == 1, **fields)


BASE = raced(1, 1e-3, 1.0)


def test_what_a_run_off_has_proven_comes_first() -> None:
    """A lucky trial that was in no run-off does not come before what was proven in one."""
    lucky, proven, lesser = trial(7, 0.5e-3), raced(2, 0.8e-3, 1.2), raced(3, 0.9e-3, 1.05)
    found = [BASE, lucky, proven, lesser]
    assert pick(found) == (proven, ())
    assert [r for r, _ in rank(found)] == [proven, lesser, lucky, BASE]


def test_the_default_comes_first_where_nothing_was_proven() -> None:
    """Neither a challenger whose interval holds 1, nor one that is 1 % faster, takes its place."""
    found = [BASE, trial(7, 0.5e-3), raced(2, 0.8e-3, 0.97), raced(3, 0.99e-3, 1.005)]
    assert pick(found) == (BASE, ())
    assert next(rank(found)) == (BASE, ())


def test_the_latest_run_off_counts() -> None:
    """What was proven once, and not again in a later run-off, is not proven."""
    again = replace(BASE, created=created(9))
    later = raced(2, 0.9e-3, 0.99, at=9)
    assert pick([BASE, raced(2, 0.8e-3, 1.2), again, later])[0] == again


def test_contention_does_not_unmake_a_run_off() -> None:
    """Pairs are compared with each other: a later run-off counts also if others were busy."""
    busy = raced(2, 0.9e-3, 0.99, at=9, contended=True)
    assert pick([BASE, raced(2, 0.8e-3, 1.2), busy])[0] == BASE


def test_proven_ones_tie_as_others_do() -> None:
    """Among those that cannot be told apart, the canonical one is picked."""
    winner, ties = pick([BASE, raced(3, 0.8e-3, 1.2), raced(2, 0.805e-3, 1.2)])
    assert (tile(winner), [tile(t) for t in ties]) == (2, [3])


def test_what_failed_after_its_run_off_is_out() -> None:
    """A failure outweighs a run-off that was won before it."""
    died = trial(2, failure="crash", at=9)
    assert pick([BASE, raced(2, 0.8e-3, 1.2), died])[0] == BASE


def test_those_of_a_run_off_are_read_first() -> None:
    """The key by which trials are read puts them before whatever was not in one."""
    assert reading_score(BASE) < reading_score(trial(7, 1e-8))
    assert reading_score(trial(7)) == score(trial(7))


def test_the_fastest_wins() -> None:
    """Beyond the noise, the least median wins."""
    winner, ties = pick([trial(1, 1.1e-3), trial(2, 1.0e-3), trial(3, 1.2e-3)])
    assert (tile(winner), ties) == (2, ())


def test_a_candidate_counts_with_its_latest_stage() -> None:
    """A lucky first sample gives way to the final's median, whichever came first."""
    lucky, final = trial(1, 0.5e-3, samples=1, at=9), trial(1, 1.2e-3, samples=31, at=1)
    assert standings([lucky, final]) == [final]
    assert tile(pick([lucky, final, trial(2, 1.1e-3)])[0]) == 2


def test_an_early_stage_must_win_by_its_margin() -> None:
    """One sample beats a finalist only 16 times as fast, five only twice as fast."""
    final = trial(1, 1.0e-3)
    assert tile(pick([final, trial(2, 0.07e-3, samples=1)])[0]) == 1
    assert tile(pick([final, trial(2, 0.06e-3, samples=1)])[0]) == 2
    assert tile(pick([final, trial(2, 0.51e-3, samples=5)])[0]) == 1
    assert tile(pick([final, trial(2, 0.49e-3, samples=5)])[0]) == 2


def test_the_latest_run_counts() -> None:
    """When all have been measured again, only the later run counts."""
    old = [trial(1, 1.0e-3, at=1), trial(2, 1.5e-3, at=2)]
    new = [trial(1, 2.0e-3, at=11), trial(2, 1.8e-3, at=12)]
    assert tile(pick(old + new)[0]) == 2


def test_contention_counts_less() -> None:
    """Within a stage, a measurement without contention stands, even if it is older."""
    quiet, busy = trial(1, 1.0e-3, at=1), trial(1, 2.0e-3, at=2, contended=True)
    assert standings([busy, quiet]) == [quiet]


def test_a_later_failure_outweighs_a_success() -> None:
    """What failed last is out; what succeeded after a failure is in."""
    good, crash = trial(1, at=1), trial(1, at=2, failure="crash")
    again = trial(1, 2e-3, samples=1, at=3)
    assert standings([good, crash]) == []
    assert standings([good, crash, again]) == [again]
    assert tile(pick([good, crash, trial(2, 9e-3)])[0]) == 2


def with_error(record: Record, error: float) -> Record:
    """Return a trial with another error."""
    return replace(record, measurement=replace(record.measurement, error=error))


def test_a_later_and_far_larger_error_outweighs_a_success() -> None:
    """Code that changed under its version counts as it is now, however early its trial ended."""
    old = with_error(trial(1, samples=31, at=1), 1e-7)
    coarse = with_error(trial(1, 2e-3, samples=1, at=2), 1e-3)
    assert standings([old, coarse]) == [coarse]
    assert standings([replace(old, created=created(3)), coarse])[0].measurement.error == 1e-7
    other_inputs = with_error(trial(1, 2e-3, samples=1, at=2), 3e-7)
    assert standings([old, other_inputs]) == [old]
    unknown = with_error(trial(1, 2e-3, samples=1, at=3), float("nan"))
    assert standings([unknown, old, coarse]) == [unknown]
    assert pick([raced(2, 0.8e-3, 1.2), BASE, with_error(trial(2, at=9), 1e-3)])[0] == BASE


def test_ties_by_median() -> None:
    """Medians within 1 % are ties, in canonical order; the winner is not among them."""
    winner, ties = pick([trial(3, 1.0e-3), trial(2, 1.008e-3), trial(1, 1.02e-3)])
    assert tile(winner) == 2
    assert [tile(t) for t in ties] == [3]


def test_ties_by_spread() -> None:
    """Noisy samples widen the ties, but never beyond the bound; an outlier does not."""
    noisy = [trial(2, 1.0e-3, spread=0.1), trial(1, 1.02e-3, spread=0.1)]
    assert tile(pick(noisy)[0]) == 1
    far = [trial(2, 1.0e-3, spread=0.4), trial(1, 1.03e-3, spread=0.4)]
    assert tile(pick(far)[0]) == 2
    calm = trial(2, 1.0e-3).measurement
    outlier = trial(2, measurement=type(calm)(1e-3, (*calm.samples, 9.0), 1e-7))
    assert tile(pick([outlier, trial(1, 1.02e-3)])[0]) == 2
    assert TIE < MOST_TIE < 1.05


def test_canonical_pick() -> None:
    """Among ties: the incumbent, then the default, then least workspace, then config order."""
    a, b = trial(1, workspace=8), trial(2, workspace=4)
    c, d = trial(3, workspace=4), trial(10, workspace=4)
    default = trial(4, workspace=99, default=True)
    everyone = [d, c, b, a, default]
    assert tile(pick(everyone)[0]) == 4
    assert tile(pick(everyone[:-1])[0]) == 2
    assert [tile(t) for t in pick(everyone[:-1])[1]] == [3, 10, 1]
    # The incumbent is known by its candidate, not by its trial.
    assert tile(pick(everyone, incumbent=trial(10, 5e-3, at=7))[0]) == 10
    assert tile(pick([*everyone, trial(7, 2e-3)], incumbent=trial(7))[0]) == 4


def test_rank_is_pick_of_what_is_left() -> None:
    """Each step of the ranking is what pick says without those before."""
    rng = random.Random(3)
    trials = [trial(i, 1e-3 * rng.uniform(1, 1.2), rng.choice((1, 5, 31))) for i in range(30)]
    left = list(trials)
    for winner, ties in rank(trials):
        assert pick(left) == (winner, ties)
        left.remove(winner)
    assert not left


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 4), st.sampled_from([1.0, 1.005, 1.02, 1.1, 2.0]),
            st.sampled_from([1, 5, 31]), st.integers(0, 3), st.sampled_from([None, None, "crash"]),
            st.booleans(), st.sampled_from([1e-7, 2e-7, 1e-3]),
        ),
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_order_and_repetition_do_not_matter(
    parts: list[tuple[int, float, int, int, str | None, bool, float]], rng: random.Random
) -> None:
    """Any order, and any record twice, gives the same winner and ties."""
    trials = [
        with_error(trial(t, s * 1e-3, n, at=a, failure=f, contended=c, workspace=t % 2), e)
        for t, s, n, a, f, c, e in parts
    ]
    shuffled = trials + rng.sample(trials, len(trials) // 2)
    rng.shuffle(shuffled)
    assert pick(shuffled) == pick(trials)
    assert [r for r, _ in rank(shuffled)] == [r for r, _ in rank(trials)]


def test_score_of_a_failure() -> None:
    """A failure scores infinity."""
    assert score(trial(failure="timeout")) == float("inf")


@pytest.mark.parametrize("seed", range(3))
def test_the_winner_is_never_far_from_the_best(seed: int) -> None:
    """What is picked among finalists is within the bound of ties of the best median."""
    rng = random.Random(seed)
    trials = [trial(i, rng.uniform(1e-3, 1.1e-3), spread=0.2) for i in range(50)]
    winner, _ = pick(trials)
    assert winner is not None
    best = min(t.measurement.seconds for t in trials)
    assert winner.measurement.seconds <= best * MOST_TIE
