"""A damaged database file: set aside under another name, and what can still be read from it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import ArgumentError
from . import rows, schema
from .folder_lock import holding_folder
from .record import Record
from .tables import ERRORS

__all__ = ["salvage", "set_aside"]


def set_aside(path: Path, inode: int | None) -> Path | None:
    """Rename a damaged file to ``<name>.damaged-<n>`` and return the new path.

    Returns ``None`` if ``path`` is no longer the file of that inode: another process has done it.

    Raises:
        OSError: it cannot be renamed.
    """
    with holding_folder(path, alone=True):
        try:
            if os.stat(path).st_ino != inode:
                return None
        except FileNotFoundError:
            return None
        number = 1
        while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
            number += 1
        # The log first: beside a new file of the old name it would be applied to that.
        for suffix in ("-wal", "-shm", "-journal", ""):
            companion = Path(f"{path}{suffix}")
            if companion.exists():
                companion.rename(f"{aside}{suffix}")
        return aside


def salvage(path: Path) -> Iterator[Record]:
    """Yield every trial of a damaged file that can be read and passes all checks.

    A candidate that was under way counts as crashed, as after any run that died.
    """
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None)
    with closing(connection):
        connection.text_factory = lambda text: text.decode("utf-8", "replace")
        with suppress(*ERRORS):
            if "race" not in {row[1] for row in connection.execute("PRAGMA table_info(trials)")}:
                connection.execute(schema.OLD_TRIALS)
        devices: dict[Any, rows.Known] = {}
        query = "SELECT device_key, arch, identity, environment FROM devices"
        for row in _rows(connection, query, "device_key"):
            try:
                devices[row[0]] = rows.read_device(row)
            except ArgumentError:
                continue
        for row in _rows(connection, f"SELECT rowid, {schema.COLUMNS} FROM trials", "rowid"):
            try:
                yield rows.read_row(row[1:], devices[row[3]])
            except (ArgumentError, KeyError):
                continue
        for row in _rows(connection, "SELECT token, line FROM pending", "token"):
            try:
                yield Record.from_json(str(row[1]))
            except ArgumentError:
                continue


def _rows(connection: sqlite3.Connection, query: str, key: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows in the order of their key, and jump over what cannot be read."""
    last, step = -(2**63), 1
    while last < 2**62:
        try:
            found = connection.execute(f"{query} WHERE {key} > ? ORDER BY {key}", (last,))
            for row in found:
                # A damaged tree may lead back to where it came from.
                if not isinstance(row[0], int) or row[0] <= last:
                    return
                yield row
                last, step = row[0], 1
            return
        except ERRORS:
            last, step = max(last, 0) + step, step * 2
