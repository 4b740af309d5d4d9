"""Tests of the tables of a file: other people's, damaged and later ones are told apart."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from hwkit.records.connection import SqliteFile
from hwkit.records.tables import Damaged, Later, Stranger

from .files import count, put


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file that is not there yet, in a folder that is not there yet."""
    return tmp_path / "new folder" / "tuning.db"


def test_another_programs_database_is_left_alone(path: Path) -> None:
    """A database of another program is neither written nor taken for damaged."""
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE photos (name TEXT)")
    connection.close()
    before = path.read_bytes()
    for work in (count, put):
        with pytest.raises(Stranger):
            work(SqliteFile(path))
    assert path.read_bytes() == before


def _change(path: Path, *statements: str) -> None:
    file = SqliteFile(path)
    put(file)
    file.close()
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE devices",
        "DROP INDEX by_score",
        "ALTER TABLE trials ADD COLUMN more TEXT",
        "CREATE TRIGGER t AFTER INSERT ON trials BEGIN DELETE FROM trials; END",
        "CREATE VIEW v AS SELECT * FROM trials",
        "PRAGMA user_version = 0",
        "PRAGMA application_id = 7",
    ],
)
def test_foreign_tables_are_damage(path: Path, statement: str) -> None:
    """A file whose tables are not exactly ours is damaged: no trigger or view of others runs."""
    _change(path, statement)
    for work in (count, put):
        with pytest.raises(Damaged):
            work(SqliteFile(path))


def test_a_later_schema(path: Path) -> None:
    """A file of a later hwkit says so to a writer, and can be read."""
    _change(path, "PRAGMA user_version = 3", "CREATE TABLE news (x)")
    for work in (count, put):
        with pytest.raises(Later) as caught:
            work(SqliteFile(path))
        assert caught.value.args == (True,)
    reader = SqliteFile(path, read_only=True)
    assert count(reader) == 1
    reader.close()
    _change(path.with_name("b.db"), "PRAGMA user_version = 3", "DROP TABLE trials")
    with pytest.raises(Later) as caught:
        count(SqliteFile(path.with_name("b.db")))
    assert caught.value.args == (False,)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE trials RENAME COLUMN kernel TO algorithm",
        "ALTER TABLE devices RENAME COLUMN arch TO model",
        "DROP TABLE pending",
    ],
)
def test_a_later_schema_with_other_names(path: Path, statement: str) -> None:
    """What this hwkit cannot find there is no damage."""
    _change(path, "PRAGMA user_version = 3", statement)
    for file in (SqliteFile(path), SqliteFile(path, read_only=True)):
        with pytest.raises(Later) as caught:
            count(file)
        assert caught.value.args == (False,)


def test_no_database_at_all(path: Path) -> None:
    """Any other bytes are damage; an empty file is an empty database."""
    path.parent.mkdir()
    path.write_bytes(bytes(4096) + b"nonsense" * 99)
    with pytest.raises(Damaged):
        count(SqliteFile(path))
    path.write_bytes(b"")
    file = SqliteFile(path)
    assert count(file) == 0
    put(file)
    assert count(file) == 1
    file.close()
