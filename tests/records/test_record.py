"""Tests of Record: what is legal, its one line, its id."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwkit import ArgumentError, Config, Fingerprint
from hwkit.errors import FAILURE_CLASSES
from hwkit.measure import Measurement
from hwkit.records.record import MAX_LINE, Record, now
from hwkit.runoff import Paired

from .trials import HERE, RACE, trial

OLD_ID = "b0e528d11e19d5574632d1364fd63017"
"""Of a trial, as the first version of the line had it."""

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
words = st.from_regex(r"[A-Z][A-Za-z0-9_./+x:-]{0,8}", fullmatch=True)
values = st.one_of(st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False), words)
configs = st.dictionaries(names, values, max_size=5)
facts = st.dictionaries(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=12),
    st.one_of(
        st.booleans(),
        st.integers(-(2**63) + 1, 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=30),
    ),
    max_size=4,
)
times = st.floats(1e-12, 1e6)
errors = st.one_of(st.floats(min_value=0), st.just(math.nan))


@st.composite
def measurements(draw: st.DrawFn) -> Measurement:
    """Return a legal Measurement, successful or failed."""
    contended = draw(st.booleans())
    if draw(st.booleans()):
        failure = draw(st.sampled_from(FAILURE_CLASSES))
        return Measurement(math.inf, (), draw(errors), failure, draw(st.text()), contended)
    samples = sorted(draw(st.lists(times, min_size=1, max_size=9)))
    return Measurement(
        samples[len(samples) // 2], tuple(samples), draw(errors), None, "", contended
    )


@st.composite
def races(draw: st.DrawFn) -> Paired | None:
    """Return a legal comparison of a run-off, or none."""
    low, ratio, high = sorted(draw(st.tuples(times, times, times)))
    found = Paired(draw(words), ratio, low, high, draw(st.integers(1, 1000)))
    return draw(st.sampled_from([None, found]))


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Return a legal Record."""
    try:
        config = Config(draw(configs))
    except ArgumentError:  # a text that would read back as something else
        config = Config()
    measured = draw(measurements())
    problem = draw(st.from_regex(r"[a-z][a-z0-9_]{0,9}( [!-~]{1,9}){1,5}", fullmatch=True))
    return Record(
        problem=problem,
        op=problem.split(" ")[0],
        kernel=draw(words),
        version=draw(st.integers(0, 2**31)),
        config=config,
        arch=draw(words),
        fingerprint=Fingerprint(draw(facts), draw(facts)),
        measurement=measured,
        strict=draw(st.booleans()),
        deterministic=draw(st.booleans()),
        workspace=draw(st.integers(0, 2**63 - 1)),
        origin=draw(words),
        created=draw(st.just(now())),
        default=draw(st.booleans()),
        race=draw(races()) if measured.ok else None,
    )


@settings(max_examples=150, deadline=None)
@given(record=records())
def test_round_trip(record: Record) -> None:
    """A line reads back as the same record, and prints as the same line."""
    line = record.to_json()
    assert "\n" not in line
    again = Record.from_json(line)
    assert again == record
    assert again.to_json() == line
    assert again.config == record.config
    assert dict(again.fingerprint.identity) == dict(record.fingerprint.identity)
    assert again.measurement.samples == record.measurement.samples
    assert math.isnan(again.measurement.error) == math.isnan(record.measurement.error)


def test_id_is_of_the_content() -> None:
    """Records of equal content are one; any other field makes another."""
    one = trial()
    assert one == trial()
    assert hash(one) == hash(trial())
    changes: list[dict[str, Any]] = [
        {"problem": "gemm float32 nn m=64 n=64 k=65"},
        {"kernel": "other"},
        {"version": 2},
        {"config": Config({"tile": 1.0})},
        {"arch": "other"},
        {"fingerprint": Fingerprint({**HERE.identity, "threads": 3}, HERE.environment)},
        {"fingerprint": Fingerprint(HERE.identity, {**HERE.environment, "hwkit": "9"})},
        {"measurement": replace(one.measurement, error=2e-7)},
        {"measurement": replace(one.measurement, contended=True)},
        {"strict": False},
        {"deterministic": True},
        {"workspace": 1},
        {"origin": "replayed"},
        {"at": 1},
        {"default": True},
    ]
    ids = {trial(**change).id for change in changes}
    assert len(ids) == len(changes)
    assert one.id not in ids


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("problem", "gemm"),
        ("problem", "gemm  float32"),
        ("problem", "gemm float32 \x00"),
        ("problem", "gemm " + "x" * 1000),
        ("kernel", ""),
        ("kernel", "two words"),
        ("kernel", 3),
        ("version", -1),
        ("version", 1.0),
        ("version", True),
        ("version", 2**63),
        ("config", {"tile": 1}),
        ("config", Config({f"t{i}": 2**60 for i in range(300)})),
        ("arch", "x\n"),
        ("strict", 1),
        ("default", None),
        ("workspace", -1),
        ("origin", ""),
        ("created", "2026-01-01"),
        ("created", "2026-01-01T00:00:00.000000Z"),
        ("created", "2026-13-01T00:00:00.000000+00:00"),
        ("created", None),
        ("fingerprint", Fingerprint({"a": [1]}, {})),  # type: ignore[dict-item]
        ("fingerprint", Fingerprint({"a": math.nan}, {})),
        ("fingerprint", Fingerprint({"a": 2**70}, {})),
        ("fingerprint", Fingerprint({"": 1}, {})),
        ("fingerprint", Fingerprint({}, {f"f{i}": i for i in range(65)})),
        ("fingerprint", Fingerprint({}, {"a": "x" * 1001})),
        ("fingerprint", Fingerprint([], {})),  # type: ignore[arg-type]
        ("measurement", Measurement(0.0)),
        ("measurement", Measurement(-1.0)),
        ("measurement", Measurement(math.inf)),
        ("measurement", Measurement(math.nan)),
        ("measurement", Measurement(True)),
        ("measurement", Measurement("1")),  # type: ignore[arg-type]
        ("measurement", Measurement(1.0, (2.0, 3.0))),
        ("measurement", Measurement(1.0, (1.0, math.nan))),
        ("measurement", Measurement(1.0, (1.0,) * 1001)),
        ("measurement", Measurement(1.0, [1.0])),  # type: ignore[arg-type]
        ("measurement", Measurement(1.0, (1.0,), -1e-9)),
        ("measurement", Measurement(1.0, (1.0,), 0.0, None, "", 1)),  # type: ignore[arg-type]
        ("measurement", Measurement(1.0, (1.0,), 0.0, None, b"")),  # type: ignore[arg-type]
        ("measurement", 1.0),
    ],
)
def test_illegal_values(field: str, value: Any) -> None:
    """A record of an illegal value is not made; one sentence says which."""
    with pytest.raises(ArgumentError, match="is not legal"):
        trial(**{field: value})


def test_the_op_is_that_of_the_problem() -> None:
    """A record cannot claim another op than its problem's."""
    fields = {k: v for k, v in trial().__dict__.items() if k in Record.__dataclass_fields__}
    with pytest.raises(ArgumentError, match="op 'conv2d'"):
        Record(**{**fields, "op": "conv2d"})


def test_reasons_become_one_line() -> None:
    """What a compiler prints is kept as one short printable line."""
    noisy = Measurement.failed("compile", "error:\n\ta\x1b[31m \ud800 " + "x" * 5000)
    reason = trial(measurement=noisy).measurement.reason
    assert reason.startswith("error: a [31m")
    assert reason.isprintable()
    assert len(reason) <= 500
    assert Record.from_json(trial(measurement=noisy).to_json()).measurement.reason == reason


def _changed(**changes: Any) -> str:
    return json.dumps({**json.loads(trial().to_json()), **changes})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ("[" * 50_000, "not JSON"),
        ("1" * 5000, "not JSON|not a JSON object"),
        ('{"format": 1}', "lacks a field"),
        ("x" * (MAX_LINE + 1), "more than"),
        (_changed(format=3), "update hwkit"),
        (_changed(format=2), "does not match its id"),
        (_changed(race={"ratio": 2.0}), "wrong one"),
        (_changed(race=5), "wrong one"),
        (_changed(race={**asdict(RACE), "base": "b" * 5000}), "default of a run-off"),
        (_changed(race={**asdict(RACE), "low": 0}), "ratios of a run-off"),
        (_changed(race={**asdict(RACE), "low": 1.13}), "interval of a run-off"),
        (_changed(race={**asdict(RACE), "pairs": 0}), "pairs"),
        (_changed(race=asdict(RACE)), "does not match its id"),
        (_changed(id="0" * 32), "does not match its id"),
        (_changed(id=None), "does not match its id"),
        (_changed(config="tile=2"), "does not match its id"),
        (_changed(config="tile=1 tile=2"), "cannot be read"),
        (_changed(config={"tile": 1}), "config"),
        (_changed(config="__import__('os').system('true')"), "cannot be read"),
        (_changed(seconds=0), "times in seconds"),
        (_changed(seconds=-1e-3), "times in seconds"),
        (_changed(seconds="1e-3"), "times in seconds"),
        (_changed(seconds=None), "times in seconds"),
        (_changed(samples=None), "wrong one"),
        (_changed(samples={"a": 1}), "times in seconds"),
        (_changed(failure="melted", seconds=None), "melted"),
        (_changed(failure=["crash"]), "failure"),
        (_changed(failure="crash"), "time of a failure"),
        (_changed(identity=None), "identity"),
        (_changed(strict="yes"), "strict"),
        (_changed(error="nan"), "error"),
        (_changed(error=10**400), "error"),
        (_changed(identity={"a": 10**400}), "identity a"),
        (_changed(problem=5), "problem"),
    ],
)
def test_hostile_lines(line: str, message: str) -> None:
    """A line that was changed, or is none, is refused with the reason."""
    with pytest.raises(ArgumentError, match=message):
        Record.from_json(line)


def test_lines_of_old_versions_read_the_same() -> None:
    """A trial without a run-off has the line and the id that it had before there were any."""
    record = trial(spread=0.01)
    line = json.loads(record.to_json())
    assert (line["format"], record.id) == (1, OLD_ID)
    assert "race" not in line
    raced = json.loads(replace(record, race=RACE).to_json())
    assert (raced["format"], raced["race"]) == (2, asdict(RACE))


def test_a_failure_has_no_run_off() -> None:
    """What failed cannot have been compared."""
    with pytest.raises(ArgumentError, match="run-off of a failure"):
        trial(failure="crash", race=RACE)


def test_against_the_default() -> None:
    """A run-off is told in words; that of the default itself says that nothing beat it."""
    assert trial().against_default is None
    assert trial(2, race=RACE).against_default == "1.12x the default (1.09..1.15, 15 pairs)"
    own = replace(RACE, ratio=1.0, low=1.0, high=1.0)
    assert trial(1, race=own).against_default == "the default, which nothing beat in 15 pairs"


def test_times_sort_as_text() -> None:
    """The text of a time is legal, and orders as time does."""
    first, second = now(), now()
    assert first <= second
    assert trial(created=first).created == first
