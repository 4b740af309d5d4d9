"""Tests of rows: a Record as a row and back, the tables' own checks, distances."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator

import pytest

from hwkit import ArgumentError
from hwkit.records.rows import (
    device_row,
    read_device,
    read_row,
    shape,
    text_key,
    to_row,
)
from hwkit.records.schema import COLUMNS, statements

from .trials import HERE, PROBLEM, RACE, trial

NAMES = COLUMNS.split(", ")
# The others follow from the content, and verify() compares them.
CONTENT = [n for n in NAMES if not n.endswith("_key") and n not in ("volume", "score")]
INSERT = f"INSERT INTO trials ({COLUMNS}) VALUES ({', '.join('?' * len(NAMES))})"


@pytest.fixture(params=[True, False], ids=["strict", "checked"])
def connection(request: pytest.FixtureRequest) -> Iterator[sqlite3.Connection]:
    """Return an empty database, with STRICT tables and with the checks of old SQLite."""
    if request.param and sqlite3.sqlite_version_info < (3, 37):
        pytest.skip(f"SQLite {sqlite3.sqlite_version} has no STRICT tables")
    opened = sqlite3.connect(":memory:")
    for statement in statements(request.param):
        opened.execute(statement)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "record",
    [
        trial(),
        trial(failure="wrong"),
        trial(samples=1, default=True, strict=False, workspace=7),
        trial(race=RACE),
    ],
    ids=["success", "failure", "default", "run-off"],
)
def test_round_trip(connection: sqlite3.Connection, record: object) -> None:
    """What goes into the table comes out the same."""
    connection.execute(INSERT, to_row(record))  # type: ignore[arg-type]
    row = connection.execute(f"SELECT {COLUMNS} FROM trials").fetchone()
    device = read_device(device_row(record))  # type: ignore[arg-type]
    assert read_row(row, device) == record
    assert to_row(read_row(row, device)) == row


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", b"short"),
        ("id", None),
        ("problem", b"gemm float32 nn"),
        ("version", "one"),
        ("version", -1),
        ("seconds", 0.0),
        ("seconds", None),
        ("seconds", "fast"),
        ("score", None),
        ("failure", "melted"),
        ("failure", "crash"),
        ("contended", 2),
        ("workspace", -5),
        ("created", "yesterday"),
        ("config", "x" * 5000),
        ("samples", b"[]"),
    ],
)
def test_the_tables_refuse(connection: sqlite3.Connection, column: str, value: object) -> None:
    """SQLite itself refuses a row of a wrong type or range."""
    row = list(to_row(trial()))
    row[NAMES.index(column)] = value
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(INSERT, row)


@pytest.mark.parametrize("column", CONTENT)
def test_a_changed_row_is_refused(column: str) -> None:
    """A row of which any content has changed does not pass for a trial."""
    record = trial(workspace=1)
    device = read_device(device_row(record))
    row = list(to_row(record))
    value = row[NAMES.index(column)]
    for changed in (None, "x", b"x", 3, 0.25, [1], value + value if value else 1):
        if changed == value:
            continue
        mutant = list(row)
        mutant[NAMES.index(column)] = changed
        with pytest.raises(ArgumentError):
            read_row(tuple(mutant), device)


def test_a_row_of_another_device_is_refused() -> None:
    """A trial that points to another device does not pass."""
    other = read_device(device_row(trial(arch="other")))
    with pytest.raises(ArgumentError, match="checksum"):
        read_row(to_row(trial()), other)


@pytest.mark.parametrize(
    "change",
    [(0, 5), (1, "y"), (2, '{"backend":"gpu"}'), (2, "{"), (3, None), (3, "[]"), (2, "[" * 99999)],
)
def test_a_changed_device_is_refused(change: tuple[int, object]) -> None:
    """A device row of which anything has changed does not pass."""
    row = list(device_row(trial()))
    row[change[0]] = change[1]  # type: ignore[call-overload]
    with pytest.raises(ArgumentError):
        read_device(tuple(row))
    with pytest.raises(ArgumentError):
        read_device(())
    assert read_device(device_row(trial())).fingerprint == HERE


def test_shape() -> None:
    """A text gives family, numbers and the rest; the epilogue is in none of them."""
    found = shape("conv2d float32 nchw n=1 c=64 r=3 pad=1,2,1,2 ceil=true +bias+clip:0.0,6.0")
    assert found.family == "conv2d float32 nchw"
    assert found.numbers == {"n": 1, "c": 64, "r": 3}
    assert found.others == {"pad": "1,2,1,2", "ceil": "true"}
    assert found.volume == pytest.approx(math.log(64 * 3))
    assert shape("softmax float32 rows=8 +relu").family == "softmax float32"


def test_distance() -> None:
    """Distance is of ratios: symmetric, zero for itself, whatever the epilogue."""
    here = shape(PROBLEM)
    assert here.distance(shape(PROBLEM + " +relu")) == 0
    double = shape("gemm float32 nn m=128 n=64 k=64")
    assert here.distance(double) == pytest.approx(math.log(2))
    assert double.distance(here) == here.distance(double)
    both = shape("gemm float32 nn m=128 n=32 k=64")
    assert here.distance(both) == pytest.approx(math.log(2) * math.sqrt(2))
    assert shape("a b n=0").distance(shape("a b n=1")) == 0
    assert shape("a b n=4 groups=4").distance(shape("a b n=4")) == pytest.approx(math.log(4))
    assert shape("a b n=4 ceil=true").distance(shape("a b n=4")) == 1
    huge = shape("a b n=" + "9" * 40)
    assert huge.numbers == {}


def test_keys_are_stable() -> None:
    """Keys are stored in files: the same text gives the same key for ever."""
    assert text_key("gemm") == 1797710196471103800
    assert text_key("a", "b") != text_key("ab")
