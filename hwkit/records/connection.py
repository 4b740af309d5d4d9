"""One SQLite file: opened, told apart from damage and strangers, shared by threads and processes.

Every write is one committed transaction with a full sync: kill -9 and a power cut lose at most the
one that was under way. Readers use their own connection and wait for no writer of this process.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import quote

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

from . import schema
from .journal import journal_mode

__all__ = ["Damaged", "ERRORS", "Later", "SqliteFile", "Stranger", "holding_folder"]

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds that a writer waits for another process that writes."""

_READING_PATIENCE = 5.0

_left_to_parent: list[object] = []


class Damaged(Exception):
    """The file is not what it says it is."""


class Stranger(Exception):
    """The file belongs to another program."""


class Later(Exception):
    """The file was made by a later hwkit; the argument says whether this one can read it."""


class _Open(NamedTuple):
    connection: sqlite3.Connection
    inode: int | None
    version: int = schema.SCHEMA


ERRORS = (sqlite3.Error, UnicodeDecodeError, MemoryError, OverflowError)
"""What sqlite3 raises: a message may quote a damaged schema, a damaged size be absurd."""


@contextmanager
def holding_folder(path: Path | None, *, alone: bool = False) -> Iterator[None]:
    """Hold the folder of a database: together to open or to write the file, alone to rename it.

    Otherwise a file could be renamed between its opening and the look at its inode, and the new one
    in its place be taken for damaged; or a trial be written into the one that was set aside.
    """
    try:
        if fcntl is None or path is None:
            raise OSError
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError:  # it will be made, or refused, by whoever opens the file
        yield
        return
    try:
        with suppress(OSError):  # a file system without such locks
            fcntl.flock(folder, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(folder)


def _version(connection: sqlite3.Connection) -> int:
    """Return the version of the tables of a file."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _is_strict(connection: sqlite3.Connection) -> bool:
    found = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'trials'").fetchone()
    return str(found[0]).endswith("STRICT")


def _is_damage(error: Exception) -> bool:
    """Whether an error says that the file itself is broken."""
    if not isinstance(error, sqlite3.Error):
        return True
    text = str(error)
    if "malformed database schema" in text and sqlite3.sqlite_version_info < (3, 37):
        return False  # STRICT tables of a newer SQLite
    signs = ("malformed", "not a database", "no such table", "no such column", "corrupt",
             "unsupported file format", "too big")  # fmt: skip
    return any(sign in text for sign in signs)


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
                raise (Damaged(str(error)) if _is_damage(error) else error) from error

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
                if isinstance(error, ERRORS) and _is_damage(error):
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
        return opened.version != schema.SCHEMA and opened.version != _version(opened.connection)

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
        # A folder that cannot be written has no room for the shared memory of WAL: immutable.
        modes = ["mode=ro" if self.read_only else "mode=rw", "mode=ro&immutable=1"]
        for mode in modes:
            opened = self._connect(mode)
            try:
                if version := self._check(opened.connection):
                    if version < schema.SCHEMA:
                        opened.connection.execute(schema.OLD_TRIALS)
                    opened.connection.execute("PRAGMA query_only = ON")
                    return opened._replace(version=version)
                self._close(opened)
                return self._empty()
            except sqlite3.OperationalError:
                self._close(opened)
                if mode == modes[-1]:
                    raise
            except BaseException:
                self._close(opened)
                raise
        raise AssertionError("unreachable")

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
        if 0 <= self._check(connection) < schema.SCHEMA:
            self._make(connection)
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
        connection.execute("PRAGMA synchronous = FULL")

    def _make(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = self._check(connection)
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

    def _check(self, connection: sqlite3.Connection) -> int:
        """Return the version of the tables that are there; 0 for an empty file.

        Raises:
            Damaged, Stranger, Later: it is something else.
        """
        try:
            found = {
                (kind, name): sql
                for kind, name, sql in connection.execute(
                    "SELECT type, name, sql FROM sqlite_master"
                )
                if not str(name).startswith("sqlite_")
            }
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            version = _version(connection)
        except ERRORS as error:
            raise (Damaged(str(error)) if _is_damage(error) else error) from error
        if not found and application in (0, schema.APPLICATION):
            return 0
        known = ("table", "trials") in found and ("table", "devices") in found
        if application != schema.APPLICATION and not known:
            raise Stranger("it is a database of another program")
        if application == schema.APPLICATION and version > schema.SCHEMA:
            if self.read_only and known:
                return version
            raise Later(known)
        ours = [set(schema.statements(strict, version)) for strict in (True, False)]
        exact = version > 0 and set(found.values()) in ours
        if not exact or application != schema.APPLICATION:
            raise Damaged("its tables are not those of a tuning database")
        return version
