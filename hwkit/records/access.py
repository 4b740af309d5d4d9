"""Access: a tuning database that is not as it should be stops nobody.

Reading answers with nothing where nothing can be read, writing raises :class:`NotKept`, and a
damaged file is set aside under another name, its readable trials brought over to a new one. Each is
said once, as a warning.
"""

from __future__ import annotations

import sqlite3
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from ..errors import ArgumentError, HwkitWarning
from . import connection as files
from . import quarantine, rows, schema
from .connection import SqliteFile
from .record import Record
from .repair import salvage, set_aside
from .tables import ERRORS, Damaged, Later, Stranger, is_other_kind

__all__ = ["ADVICE", "Access", "NotKept", "insert"]

T = TypeVar("T")

ADVICE = "set HWKIT_DB to a file that can be written"
CHUNK = 1000

_DEVICE = "SELECT device_key, arch, identity, environment FROM devices WHERE device_key = ?"
_PENDING = "SELECT token, line, host, pid, started FROM pending"
_DEVICE_COLUMN = schema.COLUMNS.split(", ").index("device_key")

# Once another process has kept the file locked, each further trial must not wait as long.
_IMPATIENCE = 0.1

_REMEMBERED = 1000


class NotKept(Exception):
    """A trial could not be written; the message says why."""


class Access:
    """A file of trials, or memory for ``None``; shared by threads and processes.

    Attributes:
        path: the file.
        read_only: whether it is never written.
        bad: what was left out because it is damaged: where to why.
        refusal: why the file is not used at all, if so.
    """

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self.bad: dict[str, str] = {}
        self.refusal: str | None = None
        self._unwritten = "it was opened to be read"
        self._file = SqliteFile(path, read_only=read_only)
        self._known: dict[int, rows.Known | None] = {}
        self._said: set[str] = set()
        self._unsaid: list[str] = []
        self._recovered = False
        # Should the file turn out to be damaged, what was written into it is written again.
        self._written: deque[Record] = deque(maxlen=_REMEMBERED)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._file.close()

    def say(self, text: str) -> None:
        """Warn, once of each thing, as soon as no lock is held and no transaction is open."""
        if text not in self._said:
            self._said.add(text)
            self._unsaid.append(text)

    def warn(self, text: str) -> None:
        """Warn at once, but once."""
        self.say(text)
        self._speak()

    def _speak(self) -> None:
        while self._unsaid:
            warnings.warn(self._unsaid.pop(0), HwkitWarning, stacklevel=6)

    def read(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Return ``work(connection)``, or ``otherwise`` if the file cannot be read."""
        result = otherwise
        for _ in range(2):
            if self.refusal is not None:
                break
            try:
                if not self._recovered and not self.read_only:
                    self._recover()
                result = self._file.read(work)
                break
            except (Damaged, Later, Stranger) as amiss:
                self._handle(amiss)
            except (OSError, sqlite3.Error) as error:
                self._say_unused(_why(error))
                break
        self._speak()
        return result

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return ``work(connection)``, committed.

        Raises:
            NotKept: nothing was written.
        """
        try:
            for _ in range(2):
                if self.refusal is not None or self.read_only:
                    break
                try:
                    result = self._file.write(work)
                except (Damaged, Later, Stranger) as amiss:
                    self._handle(amiss)
                    continue
                self._file.patience = files.PATIENCE
                return result
        except (OSError, sqlite3.Error) as error:
            self._file.patience = _IMPATIENCE
            raise NotKept(_why(error)) from error
        finally:
            self._speak()
        raise NotKept(self.refusal or self._unwritten)

    def _say_unused(self, why: str) -> None:
        self.say(f"the tuning database {self.path} is not used, {why}: {ADVICE}")

    def _refuse(self, why: str) -> None:
        self.refusal = why
        self._say_unused(why)

    def _handle(self, amiss: Damaged | Later | Stranger) -> None:
        if isinstance(amiss, Damaged) and self.path is not None and is_other_kind(self.path):
            self._refuse("it is a file of another kind")
        elif isinstance(amiss, Damaged):
            self._set_aside(str(amiss))
        elif isinstance(amiss, Later) and amiss.args[0]:
            self.read_only, self._unwritten = True, "it was made by a later hwkit"
            self._file.close()
            self._file = SqliteFile(self.path, read_only=True)
            self.say(
                f"the tuning database {self.path} was made by a later hwkit, it is read as far as "
                f"it is known and not written: update hwkit, or {ADVICE}"
            )
        else:
            later = isinstance(amiss, Later)
            self._refuse("it was made by a later hwkit" if later else str(amiss))

    def _set_aside(self, why: str) -> None:
        assert self.path is not None
        inode = self._file.inode
        self._file.close()
        self._known.clear()
        if self.read_only:
            self._refuse(f"it is damaged ({why})")
            return
        try:
            aside = set_aside(self.path, inode)
        except OSError as error:
            self._refuse(f"it is damaged ({why}) and cannot be renamed ({error.strerror})")
            return
        if aside is None:
            return  # another process was faster
        try:
            found = chain(salvage(aside), tuple(self._written))
            kept = 0
            while chunk := list(islice(found, CHUNK)):
                kept += self._file.write(partial(insert, records=chunk))
        except (Damaged, Later, Stranger, OSError, *ERRORS) as error:
            why += f"; not all was brought over: {error}"
        self.say(
            f"the tuning database {self.path} was damaged ({why}) and is now {aside.name}; "
            f"{kept} trials that can be read are in a new one"
        )

    def _recover(self) -> None:
        """Turn what runs that died have left unfinished into crashes."""
        self._recovered = True
        if self.path is None or not self.path.exists():
            return
        left = self._file.read(lambda c: c.execute(_PENDING).fetchall())
        dead = [row for row in left if not quarantine.alive(*row[1:])]
        if not dead:
            return
        crashes = [quarantine.crash(line) for _, line, *_ in dead]

        def work(connection: sqlite3.Connection) -> None:
            insert(connection, [record for record in crashes if record is not None])
            ended = [(token,) for token, *_ in dead]
            connection.executemany("DELETE FROM pending WHERE token = ?", ended)

        try:
            self._file.write(work)
        except (OSError, sqlite3.Error):
            return  # They stay in quarantine, which serves as well.
        for number, record in enumerate(crashes):
            if record is None:
                self.note(f"quarantine {dead[number][0]}", "it cannot be read")

    def note(self, where: str, why: str) -> None:
        """Count what is damaged and left out."""
        first = not self.bad
        self.bad[where] = why
        if first and self.path is not None:
            self.say(
                f"the tuning database {self.path} has damaged rows, they are left out (the first: "
                f"{where}, {why}): type 'hwkit db verify'"
            )

    def device(self, connection: sqlite3.Connection, key: Any) -> rows.Known | None:
        """Return a device by its key, or ``None`` if its row is damaged."""
        if key not in self._known:
            found = connection.execute(_DEVICE, (key,)).fetchone()
            try:
                self._known[key] = rows.read_device(found or ())
            except ArgumentError as error:
                self.note(f"device {key}", str(error))
                self._known[key] = None
        return self._known[key]

    def records(
        self, connection: sqlite3.Connection, found: Iterable[tuple[Any, ...]]
    ) -> Iterator[Record]:
        """Yield the Records of rows that begin with their rowid; damaged ones are noted."""
        for rowid, *row in found:
            device = self.device(connection, row[_DEVICE_COLUMN])
            try:
                if device is None:
                    raise ArgumentError("its device cannot be read")
                yield rows.read_row(tuple(row), device)
            except ArgumentError as error:
                self.note(f"row {rowid}", str(error))


def insert(connection: sqlite3.Connection, records: list[Record]) -> int:
    """Insert records that are not there yet, and their devices; return how many are new."""
    devices = {r.device: rows.device_row(r) for r in records}
    # A row of this key with another content can only be damaged.
    connection.executemany(
        "INSERT INTO devices (device_key, arch, identity, environment) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET arch = excluded.arch, identity = excluded.identity,"
        " environment = excluded.environment"
        " WHERE (arch, identity, environment)"
        " != (excluded.arch, excluded.identity, excluded.environment)",
        devices.values(),
    )
    before = connection.total_changes
    marks = ", ".join("?" * len(schema.COLUMNS.split(", ")))
    connection.executemany(
        f"INSERT INTO trials ({schema.COLUMNS}) VALUES ({marks}) ON CONFLICT DO NOTHING",
        map(rows.to_row, records),
    )
    return connection.total_changes - before


def _why(error: Exception) -> str:
    """Return the cause in words that a user can act on."""
    if isinstance(error, FileExistsError):
        return "its folder is a file"
    text = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return {
        "database is locked": "another process has kept it locked",
        "database or disk is full": "the disk is full",
        "attempt to write a readonly database": "it cannot be written",
        "unable to open database file": "it cannot be opened (missing rights, or a folder)",
    }.get(text, text)
