"""The tables of a tuning database, their version, and how an older one becomes this one."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import lru_cache

from ..errors import FAILURE_CLASSES

__all__ = ["APPLICATION", "COLUMNS", "OLD_TRIALS", "SCHEMA", "TRIALS", "statements", "upgrade"]

APPLICATION = int.from_bytes(b"hwkt", "big")
"""``PRAGMA application_id`` of a tuning database: another program's file is left alone."""

SCHEMA = 2
"""``PRAGMA user_version``; a later one is read as far as it is known, and never written.

Version 1 had no column ``race``; it is read as it is, and the first write adds the column.
"""

_BOOL = "INTEGER NOT NULL CHECK ({0} IN (0, 1))"
_FAILURES = ", ".join(f"'{name}'" for name in FAILURE_CLASSES)

TRIALS: dict[str, str] = {
    "id": "BLOB NOT NULL UNIQUE CHECK (length({0}) = 16)",
    "problem_key": "INTEGER NOT NULL",
    "device_key": "INTEGER NOT NULL",
    "candidate_key": "INTEGER NOT NULL",
    "shape_key": "INTEGER NOT NULL",
    "volume": "REAL NOT NULL",
    "score": "REAL CHECK ({0} > 0)",
    "problem": "TEXT NOT NULL CHECK (length({0}) BETWEEN 3 AND 1000)",
    "kernel": "TEXT NOT NULL CHECK (length({0}) BETWEEN 1 AND 100)",
    "version": "INTEGER NOT NULL CHECK ({0} >= 0)",
    "config": "TEXT NOT NULL CHECK (length({0}) <= 4096)",
    "seconds": "REAL CHECK ({0} > 0)",
    "samples": "TEXT NOT NULL CHECK (length({0}) <= 65536)",
    "error": "REAL CHECK ({0} >= 0)",
    "failure": f"TEXT CHECK ({{0}} IN ({_FAILURES}))",
    "reason": "TEXT NOT NULL CHECK (length({0}) <= 500)",
    "contended": _BOOL,
    "strict": _BOOL,
    "deterministic": _BOOL,
    "workspace": "INTEGER NOT NULL CHECK ({0} >= 0)",
    "origin": "TEXT NOT NULL CHECK (length({0}) BETWEEN 1 AND 100)",
    "created": "TEXT NOT NULL CHECK (length({0}) = 32)",
    "is_default": _BOOL,
    "race": "TEXT CHECK (length({0}) <= 8192)",
}
_DEVICES = {
    "device_key": "INTEGER NOT NULL PRIMARY KEY",
    "arch": "TEXT NOT NULL",
    "identity": "TEXT NOT NULL",
    "environment": "TEXT NOT NULL",
}
# A candidate about to be tried, as the record of its crash: true unless it is taken out again.
_PENDING = {
    "token": "INTEGER NOT NULL PRIMARY KEY",
    "problem_key": "INTEGER NOT NULL",
    "line": "TEXT NOT NULL CHECK (length({0}) <= 65536)",
    "host": "TEXT NOT NULL",
    "pid": "INTEGER NOT NULL",
    "started": "TEXT NOT NULL",
}
_INDICES = (
    "CREATE INDEX by_score ON trials (problem_key, device_key, score, candidate_key)"
    " WHERE failure IS NULL",
    "CREATE INDEX by_candidate ON trials (problem_key, device_key, candidate_key)",
    "CREATE INDEX by_shape ON trials (shape_key, volume, problem_key) WHERE failure IS NULL",
    "CREATE INDEX by_problem ON pending (problem_key)",
    "CREATE INDEX by_identity ON devices (arch, identity)",
)

OLD_TRIALS = "CREATE TEMP VIEW trials AS SELECT rowid, *, NULL AS race FROM main.trials"
"""What lets a connection read the trials of version 1 as if they were of this one."""

COLUMNS = ", ".join(TRIALS)
"""Columns of ``trials``, in the order of :func:`hwkit.records.rows.to_row`."""


def _column(name: str, definition: str, strict: bool) -> str:
    line = f"{name} {definition.format(name)}"
    if strict:
        return line
    # What STRICT does, for SQLite before 3.37.
    kind = definition.split(maxsplit=1)[0].lower()
    null = "" if "NOT NULL" in definition else ", 'null'"
    return f"{line} CHECK (typeof({name}) IN ('{kind}'{null}))"


def _table(name: str, columns: Mapping[str, str], strict: bool, more: str = "") -> str:
    lines = [_column(column, definition, strict) for column, definition in columns.items()]
    return f"CREATE TABLE {name} ({', '.join(lines)}{more})" + " STRICT" * strict


def upgrade(strict: bool) -> tuple[str, ...]:
    """Return what brings a database of version 1 to this one."""
    column = _column("race", TRIALS["race"], strict)
    return f"ALTER TABLE trials ADD COLUMN {column}", f"PRAGMA user_version = {SCHEMA}"


_STRICT = sqlite3.sqlite_version_info >= (3, 37)


@lru_cache(4)
def statements(strict: bool = _STRICT, schema: int = SCHEMA) -> tuple[str, ...]:
    """Return what makes an empty database, with STRICT tables or with checks of each type."""
    trials = TRIALS if schema > 1 else {n: d for n, d in TRIALS.items() if n != "race"}
    either = (
        ", CHECK ((failure IS NULL) = (seconds IS NOT NULL))"
        ", CHECK ((score IS NULL) = (seconds IS NULL))"
    )
    return (
        _table("trials", trials, strict, either),
        _table("devices", _DEVICES, strict),
        _table("pending", _PENDING, strict),
        *_INDICES,
    )
