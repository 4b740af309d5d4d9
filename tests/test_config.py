"""Config: text form, types of values, what is refused."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwkit import ArgumentError, Config

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)
TEXTS = st.from_regex(r"[A-Za-z][A-Za-z0-9_./+x:-]{0,8}", fullmatch=True).filter(
    lambda t: t not in ("true", "false", "inf", "nan")
)
VALUES = st.one_of(st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), TEXTS)
CONFIGS = st.dictionaries(NAMES, VALUES, max_size=5).map(Config)


@given(CONFIGS)
def test_config_reads_back_what_it_prints(config: Config) -> None:
    """The text of a Config parses to an equal Config with the same hash and the same text."""
    again = Config.parse(str(config))
    assert again == config
    assert hash(again) == hash(config)
    assert str(again) == str(config)


@given(CONFIGS)
def test_config_survives_pickle_and_copy(config: Config) -> None:
    """Workers get Configs by pickle."""
    assert pickle.loads(pickle.dumps(config)) == config
    assert copy.deepcopy(config) == config
    assert eval(repr(config)) == config


def test_config_is_sorted_frozen_and_a_mapping() -> None:
    """Order of names does not matter, and nothing can be assigned."""
    one, two = Config({"b": 1, "a": "6x16"}), Config([("a", "6x16"), ("b", 1)])
    assert one == two
    assert str(one) == "a=6x16 b=1"
    assert dict(one) == {"a": "6x16", "b": 1}
    assert len({one, two}) == 1
    with pytest.raises(TypeError):
        one["a"] = 2  # type: ignore[index]


def test_config_keeps_types_apart() -> None:
    """True, 1 and 1.0 are equal for Python, but are three values of a tunable."""
    assert len({Config({"a": True}), Config({"a": 1}), Config({"a": 1.0})}) == 3
    assert Config({"a": 1}) != Config({"a": True})
    assert Config({"a": 1}) != {"a": 1}


def test_equal_configs_print_alike() -> None:
    """Minus zero equals zero, so it prints as zero."""
    assert str(Config({"a": -0.0})) == str(Config({"a": 0.0}))


@pytest.mark.parametrize("wrong", [None, 5, "tile", [1, 2], (8,)])
def test_config_of_something_else(wrong: Any) -> None:
    """It is one sentence, not a complaint of ``dict``."""
    with pytest.raises(ArgumentError, match=r"must be values by name: write it as \{'tile': 8\}"):
        Config(wrong)
    if not isinstance(wrong, str):
        with pytest.raises(ArgumentError, match="must be a text"):
            Config.parse(wrong)


def test_config_replace_leaves_the_original() -> None:
    """A changed copy is a new Config."""
    config = Config({"a": 1, "b": 2})
    assert config.replace(b=3) == Config({"a": 1, "b": 3})
    assert config["b"] == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"A": 1}, "tunable name 'A'"),
        ({"": 1}, "tunable name ''"),
        ({"a b": 1}, "tunable name 'a b'"),
        ({"a": "two words"}, "would not read back"),
        ({"a": "12"}, "would not read back"),
        ({"a": "true"}, "would not read back"),
        ({"a": ""}, "would not read back"),
        ({"a": None}, "must be a bool, int, float or str"),
        ({"a": float("nan")}, "must be a bool, int, float or str"),
        ({"a": np.float64(1.5)}, "must be a bool, int, float or str"),
        ({"a": np.int64(1)}, "must be a bool, int, float or str"),
        ({"a": (1, 2)}, "must be a bool, int, float or str"),
    ],
)
def test_config_refuses_what_would_not_read_back(values: dict, message: str) -> None:
    """Each refusal is one line that names the tunable."""
    with pytest.raises(ArgumentError, match=message) as caught:
        Config(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a", "a=1 a=2", "a=1 b", "=1", "a=1;b=2"])
def test_config_text_that_cannot_be_read(text: str) -> None:
    """A damaged text is an ArgumentError, whatever is wrong with it."""
    with pytest.raises(ArgumentError):
        Config.parse(text)
