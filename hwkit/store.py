"""Store: trials in one SQLite file or in memory; what is asked of them, each answer by an index.

What is read is checked; a row that fails is left out and counted. A damaged file is set aside under
another name, its readable rows are brought over to a new one, and work goes on.
"""

from __future__ import annotations

import os
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from . import quarantine, rows
from .backend import Fingerprint
from .connection import Damaged, Later, SqliteFile, Stranger
from .errors import ArgumentError, HwkitWarning
from .record import Record, canonical, device_digest
from .repair import salvage, set_aside

__all__ = ["ADVICE", "Near", "NotKept", "QUERIES", "Store", "Top"]

T = TypeVar("T")

ADVICE = "set HWKIT_DB to a file that can be written"

_CHUNK = 1000
_INT = 2**63

_ROW = f"SELECT rowid, {rows.COLUMNS} FROM trials"
_PENDING = "SELECT token, line, host, pid, started FROM pending"
_DEVICE_COLUMN = rows.COLUMNS.split(", ").index("device_key")

QUERIES = {
    "device": "SELECT device_key, arch, identity, environment FROM devices WHERE device_key = ?",
    "identical": "SELECT device_key FROM devices WHERE arch = ? AND identity = ? LIMIT 1000",
    "next device": "SELECT device_key FROM trials WHERE problem_key = ? AND device_key >= ?"
    " ORDER BY device_key LIMIT 1",
    "next successful": "SELECT device_key FROM trials WHERE problem_key = ? AND device_key >= ?"
    " AND failure IS NULL ORDER BY device_key LIMIT 1",
    "fastest": "SELECT candidate_key, score FROM trials WHERE problem_key = ? AND device_key = ?"
    " AND failure IS NULL ORDER BY score LIMIT ?",
    "trials": f"{_ROW} WHERE problem_key = ? AND device_key = ? AND candidate_key = ?",
    "upwards": "SELECT volume, problem_key, problem FROM trials WHERE shape_key = ?"
    " AND (volume, problem_key) > (?, ?) AND failure IS NULL"
    " ORDER BY volume, problem_key LIMIT 1",
    "downwards": "SELECT volume, problem_key, problem FROM trials WHERE shape_key = ?"
    " AND (volume, problem_key) < (?, ?) AND failure IS NULL"
    " ORDER BY volume DESC, problem_key DESC LIMIT 1",
    "group": f"{_ROW} WHERE problem_key = ? AND device_key = ?",
    "pending": "SELECT line FROM pending WHERE problem_key = ?",
}
"""Everything that is asked on a miss of the plan table: each by an index, none by a scan."""


class NotKept(Exception):
    """A trial could not be written; the message says why."""


class Top(NamedTuple):
    """Trials of the fastest candidates; no other candidate scores below ``floor``."""

    records: list[Record]
    floor: float


class Near(NamedTuple):
    """A Problem with trials, and its distance."""

    problem: str
    distance: float


class Store:
    """Trials in a file, or in memory for ``None``; shared by threads and processes.

    Reading never raises: what cannot be read is empty, and says so once. Writing raises
    :class:`NotKept`.
    """

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self.bad: dict[str, str] = {}
        self._file = SqliteFile(path, read_only=read_only)
        self._known: dict[int, rows.Known | None] = {}
        self._said: set[str] = set()
        self._closed_for: str | None = None
        self._recovered = False

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._file.close()

    def say(self, text: str) -> None:
        """Warn once of each thing."""
        if text not in self._said:
            self._said.add(text)
            warnings.warn(text, HwkitWarning, stacklevel=5)

    # Access: the two ways into the file, and what is done when it is not as it should be.

    def _read(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        for _ in range(2):
            if self._closed_for is not None:
                return otherwise
            try:
                if not self._recovered and not self.read_only:
                    self._recover()
                return self._file.read(work)
            except Damaged as damage:
                self._set_aside(str(damage))
            except Later as later:
                self._serve_later(bool(later.args[0]))
            except (Stranger, OSError, sqlite3.Error) as error:
                if isinstance(error, Stranger):
                    self._closed_for = str(error)
                self.say(f"the tuning database {self.path} is not used, {_why(error)}: {ADVICE}")
        return otherwise

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        for _ in range(2):
            if self._closed_for is not None or self.read_only:
                raise NotKept(self._closed_for or "it was opened to be read only")
            try:
                return self._file.write(work)
            except Damaged as damage:
                self._set_aside(str(damage))
            except Later as later:
                self._serve_later(bool(later.args[0]))
            except Stranger as error:
                self._closed_for = str(error)
            except (OSError, sqlite3.Error) as error:
                raise NotKept(_why(error)) from error
        raise NotKept("it is damaged")

    def _serve_later(self, readable: bool) -> None:
        self.read_only = True
        self._file.close()
        self._file = SqliteFile(self.path, read_only=True)
        if not readable:
            self._closed_for = "it was made by a later hwkit"
        self.say(
            f"the tuning database {self.path} was made by a later hwkit, it is "
            f"{'read as far as it is known and ' if readable else ''}not written: {ADVICE}"
        )

    def _set_aside(self, why: str) -> None:
        assert self.path is not None
        if self.read_only:
            self._closed_for = f"it is damaged ({why})"
            self.say(f"the tuning database {self.path} is not used, {self._closed_for}: {ADVICE}")
            return
        inode = self._file.inode
        self._file.close()
        self._known.clear()
        try:
            aside = set_aside(self.path, inode)
        except OSError as error:
            self._closed_for = f"it is damaged ({why}) and cannot be renamed ({error})"
            self.say(f"the tuning database {self.path} is not used, {self._closed_for}: {ADVICE}")
            return
        if aside is None:
            return  # another process was faster
        try:
            kept = sum(self.add(chunk) for chunk in _chunks(salvage(aside)))
        except (NotKept, sqlite3.Error, OSError):
            kept = 0
        self.say(
            f"the tuning database {self.path} was damaged ({why}) and is now {aside.name}; "
            f"{kept} readable trials were brought over to a new one"
        )

    # Rows to records.

    def _device(self, connection: sqlite3.Connection, key: Any) -> rows.Known | None:
        if key not in self._known:
            found = connection.execute(QUERIES["device"], (key,)).fetchone()
            try:
                self._known[key] = rows.read_device(found or ())
            except ArgumentError as error:
                self._note(f"device {key}", str(error))
                self._known[key] = None
        return self._known[key]

    def _note(self, where: str, why: str) -> None:
        fresh = not self.bad
        self.bad[where] = why
        if fresh and self.path is not None:
            self.say(
                f"the tuning database {self.path} has damaged rows, they are left out (the first: "
                f"{where}, {why}): type 'hwkit db verify'"
            )

    def _records(
        self, connection: sqlite3.Connection, found: Iterable[tuple[Any, ...]]
    ) -> list[Record]:
        records = []
        for rowid, *row in found:
            device = self._device(connection, row[_DEVICE_COLUMN])
            if device is None:
                self._note(f"row {rowid}", "its device is not there")
                continue
            try:
                records.append(rows.read_row(tuple(row), device))
            except ArgumentError as error:
                self._note(f"row {rowid}", str(error))
        return records

    # Writing.

    def add(self, records: Iterable[Record]) -> int:
        """Commit records, those already there aside, and return how many are new.

        Raises:
            NotKept: none of them was written.
        """
        batch = list(records)
        return self._write(lambda connection: _insert(connection, batch))

    def begin(self, crash: Record) -> int:
        """Commit that a candidate is about to be tried; ``crash`` is what it means if that stays.

        Raises:
            NotKept: it was not written.
        """

        def work(connection: sqlite3.Connection) -> int:
            cursor = connection.execute(
                "INSERT INTO pending (problem_key, line, host, pid, started)"
                " VALUES (?, ?, ?, ?, ?)",
                (
                    rows.text_key(crash.problem),
                    crash.to_json(),
                    quarantine.host(),
                    os.getpid(),
                    quarantine.started(os.getpid()),
                ),
            )
            return int(cursor.lastrowid or 0)

        return self._write(work)

    def finish(self, token: int, record: Record | None) -> None:
        """Commit the trial and the end of its quarantine at once.

        Raises:
            NotKept: it was not written.
        """

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM pending WHERE token = ?", (token,))
            if record is not None:
                _insert(connection, [record])

        self._write(work)

    def _recover(self) -> None:
        """Turn what runs that died have left unfinished into crashes."""
        self._recovered = True
        if self.path is not None and not self.path.exists():
            return
        left = self._file.read(lambda c: c.execute(_PENDING).fetchall())
        dead = [row for row in left if not quarantine.alive(*row[1:])]
        if not dead:
            return

        def work(connection: sqlite3.Connection) -> None:
            for token, line, *_ in dead:
                record = quarantine.crash(line)
                if record is None:
                    self._note(f"quarantine {token}", "it cannot be read")
                else:
                    _insert(connection, [record])
                connection.execute("DELETE FROM pending WHERE token = ?", (token,))

        try:
            self._file.write(work)
        except (OSError, sqlite3.Error, Damaged):
            # They stay in quarantine, which serves as well.
            return

    # Asking.

    def identical(self, arch: str, fingerprint: Fingerprint) -> list[rows.Known]:
        """Return the devices of this arch and identity, the one of this environment first."""

        digest = device_digest(arch, fingerprint)
        # This one is known, whatever has become of its row.
        here = rows.Known(rows.device_key(digest), arch, fingerprint, digest)

        def work(connection: sqlite3.Connection) -> list[rows.Known]:
            self._known[here.key] = here
            key = arch, canonical(dict(fingerprint.identity))
            found = connection.execute(QUERIES["identical"], key).fetchall()
            others = [self._device(connection, k) for (k,) in found if k != here.key]
            return [here, *(k for k in others if k is not None)]

        return self._read(work, [here])

    def devices_of(self, problem: str, most: int) -> list[rows.Known]:
        """Return the devices with successful trials of a Problem, at most ``most``."""
        key = rows.text_key(problem)
        return self._read(lambda c: self._devices(c, "next successful", key, most), [])

    def _devices(
        self, connection: sqlite3.Connection, query: str, problem: int, most: int
    ) -> list[rows.Known]:
        found: list[rows.Known] = []
        last = -_INT
        while len(found) < most:
            row = connection.execute(QUERIES[query], (problem, last)).fetchone()
            if row is None or not isinstance(row[0], int) or row[0] < last:
                break
            known = self._device(connection, row[0])
            found += [known] if known is not None else []
            if row[0] == _INT - 1:
                break
            last = row[0] + 1
        return found

    def top(self, problem: str, device: int, most: int) -> Top:
        """Return all trials of the ``most`` fastest candidates of a Problem on a device."""
        key = rows.text_key(problem)

        def work(connection: sqlite3.Connection) -> Top:
            fastest = connection.execute(QUERIES["fastest"], (key, device, most)).fetchall()
            found: list[tuple[Any, ...]] = []
            for candidate in dict.fromkeys(candidate for candidate, _ in fastest):
                found += connection.execute(QUERIES["trials"], (key, device, candidate)).fetchall()
            floor = fastest[-1][1] if len(fastest) == most else float("inf")
            records = [r for r in self._records(connection, found) if r.problem == problem]
            return Top(records, floor if isinstance(floor, float) else 0.0)

        return self._read(work, Top([], float("inf")))

    def near(self, problem: str, arch: str, most: int) -> list[Near]:
        """Return other Problems of the same family with trials on ``arch``, the nearest first.

        Looks at ``most`` of them on either side, in the order of the sum of logarithms.
        """
        here = rows.shape(problem)
        key = rows.shape_key(arch, here.family)

        def work(connection: sqlite3.Connection) -> list[Near]:
            found: list[Near] = []
            for query in ("upwards", "downwards"):
                at: tuple[float, int] = (here.volume, -_INT)
                for _ in range(most):
                    row = connection.execute(QUERIES[query], (key, *at)).fetchone()
                    if row is None:
                        break
                    at = row[0], row[1]
                    there = rows.shape(str(row[2]))
                    if there.family == here.family and row[2] != problem:
                        found.append(Near(row[2], here.distance(there)))
            return sorted(set(found), key=lambda n: (n.distance, n.problem))

        return self._read(work, [])

    def tried(
        self, problem: str, fingerprint: Fingerprint, kernel: str, version: int
    ) -> list[Record]:
        """Return all trials of a kernel here, with those that are under way or in quarantine."""
        key = rows.text_key(problem)
        here = dict(fingerprint.identity), dict(fingerprint.environment)

        def work(connection: sqlite3.Connection) -> list[Record]:
            lines = connection.execute(QUERIES["pending"], (key,)).fetchall()
            found = [r for r in (quarantine.crash(line) for (line,) in lines) if r is not None]
            for device in self._devices(connection, "next device", key, _INT):
                theirs = dict(device.fingerprint.identity), dict(device.fingerprint.environment)
                if theirs == here:
                    query = f"{QUERIES['group']} AND kernel = ? AND version = ?"
                    bound = key, device.key, kernel, version
                    found += self._records(connection, connection.execute(query, bound).fetchall())
            wanted = problem, kernel, version
            found = [r for r in found if (r.problem, r.kernel, r.version) == wanted]
            return [
                r
                for r in found
                if (dict(r.fingerprint.identity), dict(r.fingerprint.environment)) == here
            ]

        return self._read(work, [])

    def groups(self) -> list[tuple[str, int]]:
        """Return every pair of a Problem's text and a device key."""
        return self._read(
            lambda c: c.execute(
                "SELECT min(problem), device_key FROM trials GROUP BY problem_key, device_key"
            ).fetchall(),
            [],
        )

    def of(self, problem: str, device: int, *, defaults: bool = False) -> list[Record]:
        """Return all trials of a Problem on a device, or those of kernels' defaults."""
        key = rows.text_key(problem)
        query = QUERIES["group"] + " AND is_default = 1" * defaults

        def work(connection: sqlite3.Connection) -> list[Record]:
            found = self._records(connection, connection.execute(query, (key, device)).fetchall())
            return [r for r in found if r.problem == problem]

        return self._read(work, [])

    def counts(self) -> dict[str, int]:
        """Return how many trials, failures, Problems, devices and quarantined candidates it has."""
        parts = {
            "trials": "count(*) FROM trials",
            "failed": "count(*) FROM trials WHERE failure IS NOT NULL",
            "problems": "count(DISTINCT problem_key) FROM trials",
            "devices": "count(DISTINCT device_key) FROM trials",
            "quarantined": "count(*) FROM pending",
        }
        return {
            name: self._read(lambda c, q=query: int(c.execute(f"SELECT {q}").fetchone()[0]), 0)  # type: ignore[misc]
            for name, query in parts.items()
        }

    def verify(self) -> dict[str, str]:
        """Read and check everything; return what is wrong, by where it is."""
        self.bad.clear()
        self._known.clear()

        def work(connection: sqlite3.Connection) -> list[str]:
            found = connection.execute("PRAGMA integrity_check").fetchall()
            for rowid, *row in connection.execute(_ROW):
                record = self._records(connection, [(rowid, *row)])
                # The derived columns are not part of the checksum.
                if record and rows.to_row(record[0]) != tuple(row):
                    self._note(f"row {rowid}", "its keys do not fit its content")
            for (line,) in connection.execute("SELECT line FROM pending"):
                if quarantine.crash(line) is None:
                    self._note("quarantine", "a row cannot be read")
            return [str(text) for (text, *_) in found if text != "ok"]

        nothing: list[str] = []
        for number, text in enumerate(self._read(work, nothing), start=1):
            self.bad[f"file, finding {number}"] = text
        if self.refusal is not None:
            self.bad["file"] = self.refusal
        return dict(self.bad)

    @property
    def refusal(self) -> str | None:
        """Why the file is not used at all, if so."""
        return self._closed_for

    def remove(self, records: Iterable[Record]) -> None:
        """Remove trials.

        Raises:
            NotKept: none was removed.
        """
        ids = [(bytes.fromhex(r.id),) for r in records]
        if ids:
            self._write(lambda c: c.executemany("DELETE FROM trials WHERE id = ?", ids))

    def forget_pending(self) -> int:
        """Remove the quarantine rows of runs that died, and return how many.

        Raises:
            NotKept: none was removed.
        """

        def work(connection: sqlite3.Connection) -> int:
            found = connection.execute(_PENDING).fetchall()
            dead = [(token,) for token, *rest in found if not quarantine.alive(*rest)]
            connection.executemany("DELETE FROM pending WHERE token = ?", dead)
            return len(dead)

        return self._write(work)

    def remove_bad(self) -> int:
        """Remove the rows that cannot be read, and return how many.

        Raises:
            NotKept: none was removed.
        """

        def work(connection: sqlite3.Connection) -> int:
            doomed = []
            for rowid, *row in connection.execute(_ROW).fetchall():
                found = self._records(connection, [(rowid, *row)])
                if not found or rows.to_row(found[0]) != tuple(row):
                    doomed.append((rowid, found))
            connection.executemany("DELETE FROM trials WHERE rowid = ?", [(r,) for r, _ in doomed])
            # Those that are sound but for their keys come back with the right ones.
            _insert(connection, [record for _, found in doomed for record in found])
            return len(doomed)

        count = self._write(work)
        self.bad.clear()
        return count

    def __iter__(self) -> Iterator[Record]:
        """Yield every readable trial, a chunk at a time."""
        last = -_INT
        query = f"{_ROW} WHERE rowid >= ? ORDER BY rowid LIMIT {_CHUNK}"

        def work(connection: sqlite3.Connection) -> tuple[list[Record], int | None]:
            found = connection.execute(query, (last,)).fetchall()
            end = found[-1][0] + 1 if len(found) == _CHUNK else None
            return self._records(connection, found), end

        nothing: tuple[list[Record], int | None] = ([], None)
        end: int | None = last
        while end is not None and last <= end < _INT:
            last = end
            records, end = self._read(work, nothing)
            yield from records


def _insert(connection: sqlite3.Connection, records: list[Record]) -> int:
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
    marks = ", ".join("?" * len(rows.COLUMNS.split(", ")))
    connection.executemany(
        f"INSERT INTO trials ({rows.COLUMNS}) VALUES ({marks}) ON CONFLICT DO NOTHING",
        map(rows.to_row, records),
    )
    return connection.total_changes - before


def _chunks(records: Iterator[Record]) -> Iterator[list[Record]]:
    while chunk := list(islice(records, _CHUNK)):
        yield chunk


def _why(error: Exception) -> str:
    """Return the cause in words that a user can act on."""
    text = str(error).strip() or type(error).__name__
    return {
        "database is locked": f"another process has kept it locked ({text})",
        "database or disk is full": "the disk is full",
        "attempt to write a readonly database": "it cannot be written (read-only)",
        "unable to open database file": "it cannot be opened (missing rights, or a folder)",
    }.get(text, text)
