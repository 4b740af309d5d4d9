"""What the tests of a SQLite file do with it."""

from __future__ import annotations

from hwkit.records.connection import SqliteFile

COUNT = "SELECT count(*) FROM pending"
PUT = "INSERT INTO pending (problem_key, line, host, pid, started) VALUES (1, 'x', 'h', 1, '')"


def count(file: SqliteFile) -> int:
    """Return the number of rows of a table."""
    return int(file.read(lambda c: c.execute(COUNT).fetchone()[0]))


def put(file: SqliteFile) -> None:
    """Add a row."""
    file.write(lambda c: c.execute(PUT))
