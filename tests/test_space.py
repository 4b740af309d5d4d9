"""Space: legality, enumeration, sampling, neighbourhood."""

from __future__ import annotations

import inspect
import random
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwkit import ArgumentError, Config, Space


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Small spaces of whole numbers, with a constraint over the first two tunables at times."""
    names = draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True))
    choices = st.lists(st.integers(-9, 9), min_size=1, max_size=5, unique=True)
    values = {name: draw(choices) for name in names}
    if len(names) < 2 or draw(st.booleans()):
        return Space(values)

    def in_order(**config: int) -> bool:
        return config[names[0]] <= config[names[1]]

    parameters = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in names[:2]]
    in_order.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return Space(values, [(in_order, "in order")])


@given(spaces())
def test_space_size_is_the_number_of_its_configs(space: Space) -> None:
    """Enumeration, size and brute force over the product agree, order and all."""
    configs = list(space)
    combinations = [
        Config(zip(space.values, v, strict=True)) for v in product(*space.values.values())
    ]
    assert configs == [c for c in combinations if space.why_not(c) is None]
    assert space.size == len(configs) == len(set(configs))
    assert space.combinations == len(combinations)


@given(spaces())
def test_rows_are_the_configs(space: Space) -> None:
    """The fast enumeration by positions gives the same Configs in the same order."""
    rows = space.rows()
    assert rows is not None
    assert [space.config(row) for row in rows] == list(space)
    assert [space.row(c) for c in space] == [tuple(row) for row in rows.tolist()]


def test_rows_keep_to_their_limit() -> None:
    """A space that is too large to hold is answered with None, and is counted all the same."""
    space = Space({"a": range(50), "b": range(50)}, [lambda a, b: a != b])
    assert space.rows(limit=100) is None
    assert space.size == 2450


@given(spaces(), st.integers(0, 2**32))
def test_samples_lie_in_the_space(space: Space, seed: int) -> None:
    """A sample is legal, and the same for the same seed."""
    if space.size == 0:
        with pytest.raises(ArgumentError, match="empty"):
            space.sample(random.Random(seed))
        return
    sample = space.sample(random.Random(seed))
    assert sample in space
    assert sample == space.sample(random.Random(seed))


def test_samples_reach_every_config_about_equally_often() -> None:
    """Rejection keeps the distribution uniform over the legal Configs."""
    space = Space({"a": range(4), "b": range(4)}, [lambda a, b: a >= b])
    rng = random.Random(1)
    counts = dict.fromkeys(space, 0)
    for _ in range(10_000):
        counts[space.sample(rng)] += 1
    assert len(counts) == 10
    # Ten standard deviations of a binomial with p = 0.1.
    assert all(abs(count - 1000) < 300 for count in counts.values())


def test_sample_finds_the_one_legal_config() -> None:
    """Where rejection is hopeless the space is searched."""
    space = Space(
        {"a": range(100), "b": range(100), "c": range(100)},
        [lambda a: a == 17, lambda b: b == 5, lambda a, c: a + c == 40],
    )
    assert space.sample(random.Random(0)) == Config({"a": 17, "b": 5, "c": 23})


@given(spaces())
def test_neighbours_differ_in_one_value(space: Space) -> None:
    """Neighbours are legal, differ in one tunable, and are mutual."""
    for config in list(space)[:5]:
        neighbours = space.neighbours(config)
        expected = [c for c in space if sum(c[name] != config[name] for name in space.values) == 1]
        assert sorted(map(str, neighbours)) == sorted(map(str, expected))
        assert all(config in space.neighbours(n) for n in neighbours)


def test_neighbours_come_nearest_first() -> None:
    """The distance is in positions, not in values."""
    space = Space({"a": (1, 10, 100, 1000)})
    found = [n["a"] for n in space.neighbours(Config({"a": 10}))]
    assert sorted(found[:2]) == [1, 100]
    assert found[2] == 1000


def test_values_of_different_types_are_told_apart() -> None:
    """A Space may hold True and 1 side by side."""
    space = Space({"a": (True, 1, 1.0)})
    assert space.size == 3
    assert [n["a"] is True for n in space.neighbours(Config({"a": 1}))].count(True) == 1
    assert space.row(Config({"a": 1.0})) == (2,)


def test_membership_says_why_not() -> None:
    """The reason names the tunable or repeats the sentence of the constraint."""
    space = Space({"mr": (4, 6), "nr": (8, 16)}, [(lambda mr, nr: mr * nr < 96, "registers")])
    assert Config({"mr": 4, "nr": 8}) in space
    assert {"mr": 4, "nr": 8} in space
    assert "mr=4" not in space
    assert space.why_not({"mr": 4}) == "tunables are ['mr'], not ['mr', 'nr']"
    assert space.why_not({"mr": 5, "nr": 8}) == "mr=5 is not one of ['4', '6']"
    assert space.why_not({"mr": 6, "nr": 16}) == "registers"
    assert space.why_not({"mr": True, "nr": 8}) == "mr=true is not one of ['4', '6']"
    unnamed = Space({"mr": (4, 6)}, [lambda mr: mr == 4])
    assert unnamed.why_not({"mr": 6}) == "a constraint over mr fails"


def test_the_space_without_tunables_has_one_config() -> None:
    """A kernel without tunables still has its one Config."""
    space = Space({})
    assert list(space) == [Config()]
    assert space.size == 1
    assert space.sample(random.Random(0)) == Config()
    assert space.neighbours(Config()) == []


def test_space_refuses_mistakes_of_its_author() -> None:
    """Values listed twice, unknown names in constraints and unprintable values are errors."""
    with pytest.raises(ArgumentError, match="lists a value twice"):
        Space({"a": (1, 2, 1)})
    with pytest.raises(ArgumentError, match=r"looks at \['b'\]"):
        Space({"a": (1, 2)}, [lambda a, b: True])
    with pytest.raises(ArgumentError, match="would not read back"):
        Space({"a": ("1",)})
    with pytest.raises(ArgumentError, match="is not a value of the space"):
        Space({"a": (1, 2)}).neighbours(Config({"a": 3}))


@pytest.mark.parametrize(
    ("values", "constraints", "message"),
    [
        (("tile", 8), (), "must be values by name"),
        ({"order": "ij"}, (), "order has the values 'ij': write them as a tuple"),
        ({"tile": 8}, (), "tile has the values 8: write them as a tuple"),
        ({"tile": (8, 16)}, lambda tile: tile > 8, "must be a list of functions"),
        ({"tile": (8, 16)}, ["tile > 8"], "constraint 'tile > 8' must be a function"),
        ({"tile": (8, 16)}, [(lambda tile: tile > 8,)], "must be a function"),
    ],
)
def test_space_of_something_else(values: Any, constraints: Any, message: str) -> None:
    """A text is not taken for its letters; what is no space is one sentence."""
    with pytest.raises(ArgumentError, match=message):
        Space(values, constraints)


def test_constraints_are_tested_as_early_as_they_can_be() -> None:
    """A constraint on the first tunable prunes all that hangs below it."""
    calls: list[int] = []

    def first(a: int) -> bool:
        calls.append(a)
        return a == 3

    space = Space({"a": range(10), "b": range(1000)}, [first])
    assert sum(1 for _ in space) == 1000
    assert len(calls) == 10
