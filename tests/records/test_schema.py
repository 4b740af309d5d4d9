"""Tests of the tables: a file of the first version is read as it is, and written as a new one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from hwkit.errors import HwkitWarning
from hwkit.records import Database, schema
from hwkit.records.record import Record
from hwkit.records.rows import device_row, to_row

from .trials import RACE, trial

OLD = [trial(tile, 1e-3 + tile * 1e-4) for tile in range(1, 4)]
RACED = replace(trial(9, 2e-3, at=5), race=RACE)


@pytest.fixture(params=[True, False], ids=["strict", "checked"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a file as the first version of hwkit left it, with STRICT tables and without."""
    if request.param and sqlite3.sqlite_version_info < (3, 37):
        pytest.skip(f"SQLite {sqlite3.sqlite_version} has no STRICT tables")
    file = tmp_path / "tuning.db"
    columns = schema.COLUMNS.removesuffix(", race")
    marks = ", ".join("?" * len(columns.split(", ")))
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for statement in schema.statements(request.param, 1):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION}")
        connection.execute("PRAGMA user_version = 1")
        connection.execute("INSERT INTO devices VALUES (?, ?, ?, ?)", device_row(OLD[0]))
        for record in OLD:
            row = to_row(record)[:-1]
            connection.execute(f"INSERT INTO trials ({columns}) VALUES ({marks})", row)
    return file


def version(path: Path) -> int:
    """Return the version that a file has."""
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def kept(database: Database) -> set[Record]:
    """Return all trials of the user."""
    return set(database.records("user"))


def test_the_race_is_the_last_column() -> None:
    """A column that is added comes last, so it is last in a new file, too."""
    assert schema.COLUMNS.endswith(", race")


@pytest.mark.parametrize("read_only", [False, True])
def test_reading_leaves_an_old_file_as_it_is(path: Path, read_only: bool) -> None:
    """All its trials are there, no row is bad, and its version stays."""
    database = Database(path, read_only=read_only)
    assert kept(database) == set(OLD)
    assert database.verify() == {}
    assert database.counts()["trials"] == 3
    database.close()
    assert version(path) == 1


def test_the_first_write_brings_it_up_to_date(path: Path) -> None:
    """After a write it holds old and new trials, and is exactly what a new file is."""
    reader = Database(path)
    assert kept(reader) == set(OLD)
    database = Database(path)
    assert kept(database) == set(OLD)
    database.add(RACED)
    assert kept(database) == {*OLD, RACED}
    assert database.verify() == {}
    database.close()
    assert version(path) == schema.SCHEMA
    # Who had it open before sees what is new.
    assert kept(reader) == {*OLD, RACED}
    reader.close()
    again = Database(path)
    assert kept(again) == {*OLD, RACED}
    again.close()


def test_an_old_file_can_be_merged(path: Path) -> None:
    """Importing takes the trials of an old file."""
    database = Database(None)
    assert database.import_(path) == 3
    assert kept(database) == set(OLD)


def test_a_damaged_old_file_is_salvaged(path: Path) -> None:
    """What can be read of a damaged old file is brought over to a new one."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE foreign_table (x)")
    database = Database(path)
    with pytest.warns(HwkitWarning, match="3 trials that can be read"):
        assert kept(database) == set(OLD)
    database.close()
    assert version(path) == schema.SCHEMA
