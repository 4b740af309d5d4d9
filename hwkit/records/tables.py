"""The tables of a file: told apart from damage and strangers, made, brought up to date."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from . import schema

__all__ = [
    "ERRORS",
    "MAGIC",
    "Damaged",
    "Later",
    "Stranger",
    "check",
    "is_damage",
    "is_other_kind",
    "make",
    "version_of",
]

MAGIC = b"SQLite format 3\0"
"""What a database file begins with."""

_BEGINNING = 64 * 1024

ERRORS = (sqlite3.Error, UnicodeDecodeError, MemoryError, OverflowError)
"""What sqlite3 raises: a message may quote a damaged schema, a damaged size be absurd."""

_DAMAGE = (
    "malformed", "not a database", "no such table", "no such column", "corrupt",
    "unsupported file format", "too big",
)  # fmt: skip


class Damaged(Exception):
    """The file is not what it says it is."""


class Stranger(Exception):
    """The file belongs to another program."""


class Later(Exception):
    """The file was made by a later hwkit; the argument says whether this one can read it."""


def is_damage(error: Exception) -> bool:
    """Whether one of :data:`ERRORS` says that the file itself is broken."""
    if not isinstance(error, sqlite3.Error):
        return True
    text = str(error)
    if "malformed database schema" in text and sqlite3.sqlite_version_info < (3, 37):
        return False  # STRICT tables of a newer SQLite
    return any(sign in text for sign in _DAMAGE)


def is_other_kind(path: Path) -> bool:
    """Whether a file never was a database: it is left alone, not taken for a damaged one.

    One whose first bytes are lost still tells of its tables, or is all zeros after a power cut. One
    that cannot be read is seen later.
    """
    if not os.path.isfile(path):  # a pipe would be waited for
        return False
    try:
        with path.open("rb") as file:
            found = file.read(_BEGINNING)
    except OSError:
        return False
    return bool(found[:16].strip(b"\0")) and MAGIC not in found and b"CREATE TABLE" not in found


def version_of(connection: sqlite3.Connection) -> int:
    """Return the version that a file says its tables have."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check(connection: sqlite3.Connection, *, read_only: bool = False) -> int:
    """Return the version of the tables that are there; 0 for an empty file.

    Args:
        connection: to the file.
        read_only: whether tables of a later version will do, if all that is read is there.

    Raises:
        Damaged, Stranger, Later: it is something else.
        sqlite3.Error: the file cannot be read now.
    """
    try:
        found = _definitions(connection)
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = version_of(connection)
    except ERRORS as error:
        if is_damage(error):
            raise Damaged(str(error)) from error
        raise
    if not found and application in (0, schema.APPLICATION):
        return 0
    known = ("table", "trials") in found and ("table", "devices") in found
    if application != schema.APPLICATION and not known:
        raise Stranger("it is a database of another program")
    if application == schema.APPLICATION and version > schema.SCHEMA:
        known = known and _has_our_columns(connection)
        if read_only and known:
            return version
        raise Later(known)
    ours = [set(schema.statements(strict, version)) for strict in (True, False)]
    exact = version > 0 and set(found.values()) in ours
    if not exact or application != schema.APPLICATION:
        raise Damaged("its tables are not those of a tuning database")
    return version


def _has_our_columns(connection: sqlite3.Connection) -> bool:
    """Whether what this hwkit reads is there under the names that it knows."""
    columns = schema.COLUMNS, "device_key, arch, identity, environment"
    more = "token, problem_key, line, host, pid, started"
    try:
        for names, table in zip((*columns, more), ("trials", "devices", "pending"), strict=True):
            connection.execute(f"SELECT {names} FROM {table} LIMIT 0")
    except sqlite3.OperationalError as error:
        if is_damage(error):
            return False
        raise
    return True


def _definitions(connection: sqlite3.Connection) -> dict[tuple[str, str], str]:
    """Return the SQL of everything that was made in a file, by kind and name."""
    query = "SELECT type, name, sql FROM sqlite_master"
    return {
        (kind, name): sql
        for kind, name, sql in connection.execute(query)
        if not str(name).startswith("sqlite_")
    }


def make(connection: sqlite3.Connection) -> None:
    """Make the tables of an empty file, or bring older ones up to date; undone if it raises.

    Raises:
        Damaged, Stranger, Later: as of :func:`check`, for another process may have been first.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = check(connection)
        if not version:
            for statement in schema.statements():
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {schema.APPLICATION}")
            connection.execute(f"PRAGMA user_version = {schema.SCHEMA}")
        elif version < schema.SCHEMA:
            for statement in schema.upgrade(_is_strict(connection)):
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _is_strict(connection: sqlite3.Connection) -> bool:
    query = "SELECT sql FROM sqlite_master WHERE name = 'trials'"
    return str(connection.execute(query).fetchone()[0]).endswith("STRICT")
