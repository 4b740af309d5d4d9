"""One SQLite file: opened to read and to write, shared by threads and processes.

Every write is one committed transaction with a full sync: kill -9 and a power cut lose at most the
one that was under way. Readers use their own connection and wait for no writer of this process.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from . import schema, tables
from .folder_lock import holding_folder
from .journal import journal_mode
from .tables import ERRORS, Damaged, is_damage

__all__ = ["SqliteFile"]

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds that a writer waits for another process that writes."""

_READING_PATIENCE = 5.0

_left_to_parent: list[object] = []


class _Open(NamedTuple):
    connection: sqlite3.Connection
    inode: int | None
    version: int = schema.SCHEMA


class SqliteFile:
    """A database file (or memory, for ``None``) with one connection to read and one to write.

    Attributes:
        path: the file.
        read_only: whether to open it to be read only.
        patience: seconds that a write waits for another process.
        inode: of the file that was opened last, which need no longer be the one at ``path``.

    Raises:
        Damaged, Stranger, Later, OSError, sqlite3.Error: from each method; the caller decides.
    """

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self.patience = PATIENCE
        self.inode: int | None = None
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._reader: _Open | None = None
        self._writer: _Open | None = None
        # Whoever needs both locks takes the one for writing first.
        self._writing = threading.RLock()
        # In memory both are one connection, hence one lock.
        self._reading = self._writing if self.path is None else threading.RLock()

    def _after_fork(self) -> None:
        if self._pid == os.getpid():
            return
        inherited = self._reader, self._writer
        self._start()
        if self.path is None:
            self._writer = inherited[1]
        else:
            # Closing them here would disturb the parent's locks: they are kept open, unused.
            _left_to_parent.extend(inherited)

    def close(self) -> None:
        """Close the connections; the next use opens them again (a memory is gone)."""
        self._after_fork()
        with self._writing, self._reading:
            for opened in (self._reader, self._writer):
                if opened is not None:
                    opened.connection.close()
            self._reader = self._writer = None

    # Bound here, because the interpreter takes this module's names away before its last objects.
    def __del__(
        self, pid: Callable[[], int] = os.getpid, ending: Callable[[], bool] = sys.is_finalizing
    ) -> None:
        if not ending() and self._pid == pid():
            for opened in (self._reader, self._writer):
                if opened is not None:
                    opened.connection.close()

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return ``work(connection)`` of the connection for reading; a missing file is empty."""
        self._after_fork()
        with self._reading:
            if self.path is None:
                return work(self._open_writer())
            if self._reader is None or self._moved(self._reader):
                self._reader = self._close(self._reader)
                with holding_folder(self.path):
                    self._reader = self._open_reader()
            try:
                return work(self._reader.connection)
            except ERRORS as error:
                raise (Damaged(str(error)) if is_damage(error) else error) from error

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return ``work(connection)``, committed, or undone if it raises."""
        self._after_fork()
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._writing, holding_folder(self.path):
            connection = self._open_writer()
            try:
                connection.execute(f"PRAGMA busy_timeout = {int(self.patience * 1000)}")
                connection.execute("BEGIN IMMEDIATE")
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException as error:
                self._undo(connection)
                if "readonly" in str(error) and self._is_marked_read_only():
                    raise Damaged("its header says that it may only be read") from error
                if isinstance(error, ERRORS) and is_damage(error):
                    raise Damaged(str(error)) from error
                raise
            return result

    def _is_marked_read_only(self) -> bool:
        """Whether the header names a version of the file format that nobody can write."""
        if self.path is None:
            return False
        with open(self.path, "rb") as file:
            return file.read(19)[18:] > b"\x02"

    def _undo(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._writer = self._close(self._writer)

    def _moved(self, opened: _Open) -> bool:
        """Whether the file has been set aside, replaced, removed or made since it was opened."""
        if self.path is None:
            return False
        try:
            if os.stat(self.path).st_ino != opened.inode:
                return True
        except OSError:
            return opened.inode is not None
        # What was read as an older version may have been upgraded since then.
        seen = opened.version
        return seen != schema.SCHEMA and seen != tables.version_of(opened.connection)

    @staticmethod
    def _close(opened: _Open | None) -> None:
        if opened is not None:
            opened.connection.close()

    def _connect(self, mode: str | None) -> _Open:
        """Open the file; memory if ``mode`` is ``None``."""
        target = ":memory:" if mode is None else f"file:{quote(str(self.path))}?{mode}"
        connection = sqlite3.connect(
            target,
            timeout=min(self.patience, _READING_PATIENCE),
            isolation_level=None,
            check_same_thread=False,
            uri=mode is not None,
        )
        try:
            # A damaged text must reach our checks, not stop the query.
            connection.text_factory = lambda text: text.decode("utf-8", "replace")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            inode = None if mode is None or self.path is None else os.stat(self.path).st_ino
            self.inode = inode if inode is not None else self.inode
            return _Open(connection, inode)
        except BaseException:
            connection.close()
            raise

    def _empty(self) -> _Open:
        opened = self._connect(None)
        for statement in schema.statements():
            opened.connection.execute(statement)
        return opened

    def _open_reader(self) -> _Open:
        if self.path is None or not self.path.exists():
            return self._empty()
        try:
            return self._readable("mode=ro" if self.read_only else "mode=rw")
        except sqlite3.OperationalError:
            # A folder that cannot be written has no room for the shared memory of WAL.
            return self._readable("mode=ro&immutable=1")

    def _readable(self, mode: str) -> _Open:
        """Return the file opened to be read, or an empty database for an empty file."""
        opened = self._connect(mode)
        try:
            version = tables.check(opened.connection, read_only=self.read_only)
            if version:
                if version < schema.SCHEMA:
                    opened.connection.execute(schema.OLD_TRIALS)
                opened.connection.execute("PRAGMA query_only = ON")
                return opened._replace(version=version)
        except BaseException:
            self._close(opened)
            raise
        self._close(opened)
        return self._empty()

    def _open_writer(self) -> sqlite3.Connection:
        if self._writer is not None and self._moved(self._writer):
            self._writer = self._close(self._writer)
        if self._writer is None and self.path is None:
            self._writer = self._empty()
        elif self._writer is None and self.path is not None:
            opened = self._connect("mode=rwc")
            try:
                self._prepare(opened.connection, self.path)
            except BaseException:
                self._close(opened)
                raise
            self._writer = opened
        assert self._writer is not None
        return self._writer.connection

    def _prepare(self, connection: sqlite3.Connection, path: Path) -> None:
        """Make the tables of a new file, or check those of an old one and bring them up to date."""
        connection.execute(f"PRAGMA busy_timeout = {int(self.patience * 1000)}")
        if tables.check(connection) < schema.SCHEMA:
            tables.make(connection)
        self._choose_journal(connection, path)
        connection.execute("PRAGMA synchronous = FULL")

    def _choose_journal(self, connection: sqlite3.Connection, path: Path) -> None:
        # Several processes that switch at once get "locked" without a wait.
        deadline = time.monotonic() + self.patience
        mode = journal_mode(path)
        while time.monotonic() < deadline:
            try:
                connection.execute(f"PRAGMA journal_mode = {mode}").fetchall()
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    mode = "delete"
                time.sleep(0.02)
