"""Store: trials in one SQLite file or in memory; what is asked of them, each answer by an index."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ..backend import Fingerprint
from ..config import Config
from . import quarantine, rows, schema
from .access import CHUNK, Access, NotKept, insert
from .digest import canonical, device_digest
from .ranking import MOST_TIE
from .record import Record

__all__ = ["Near", "NotKept", "QUERIES", "ROW", "Store", "Top"]

Candidate = tuple[str, int, Config]

_INT = 2**63
_FASTEST = 16

ROW = f"SELECT rowid, {schema.COLUMNS} FROM trials"
"""Begins each query for whole trials."""

QUERIES = {
    "identical": "SELECT device_key FROM devices WHERE arch = ? AND identity = ? LIMIT 1000",
    "next device": "SELECT device_key FROM trials WHERE problem_key = ? AND device_key >= ?"
    " ORDER BY device_key LIMIT 1",
    "next successful": "SELECT device_key FROM trials WHERE problem_key = ? AND device_key >= ?"
    " AND failure IS NULL ORDER BY device_key LIMIT 1",
    "fastest": "SELECT candidate_key, score FROM trials WHERE problem_key = ? AND device_key = ?"
    " AND failure IS NULL ORDER BY score LIMIT ?",
    "trials": f"{ROW} WHERE problem_key = ? AND device_key = ? AND candidate_key = ?",
    "same volume": "SELECT volume, problem_key, problem FROM trials WHERE shape_key = ?"
    " AND volume = ? AND problem_key > ? AND failure IS NULL ORDER BY problem_key LIMIT 1",
    "upwards": "SELECT volume FROM trials WHERE shape_key = ? AND volume > ?"
    " AND failure IS NULL ORDER BY volume LIMIT 1",
    "downwards": "SELECT volume FROM trials WHERE shape_key = ? AND volume < ?"
    " AND failure IS NULL ORDER BY volume DESC LIMIT 1",
    "group": f"{ROW} WHERE problem_key = ? AND device_key = ?",
    "pending": "SELECT line FROM pending WHERE problem_key = ?",
}
"""Everything that is asked on a miss of the plan table: each by an index, none by a scan."""


class Top(NamedTuple):
    """Trials of the fastest candidates; no other candidate scores below ``floor``."""

    records: list[Record]
    floor: float


class Near(NamedTuple):
    """A Problem with trials, and its distance."""

    problem: str
    distance: float


class Store(Access):
    """Trials, and what is asked of them. Reading never raises, see :class:`Access`."""

    def add(self, records: Iterable[Record]) -> int:
        """Commit records, those already there aside, and return how many are new.

        Raises:
            NotKept: none of them was written.
        """
        batch = list(records)
        added = self.write(lambda connection: insert(connection, batch))
        self._written.extend(batch)
        # A damaged row of a device has been written anew.
        self._known = {key: known for key, known in self._known.items() if known is not None}
        return added

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

        return self.write(work)

    def finish(self, token: int, record: Record | None) -> None:
        """Commit the trial and the end of its quarantine at once.

        Raises:
            NotKept: it was not written.
        """

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM pending WHERE token = ?", (token,))
            if record is not None:
                insert(connection, [record])

        self.write(work)
        if record is not None:
            self._written.append(record)

    def identical(self, arch: str, fingerprint: Fingerprint) -> list[rows.Known]:
        """Return the devices of this arch and identity, the one of this environment first."""
        digest = device_digest(arch, fingerprint)
        # This one is known, whatever has become of its row.
        here = rows.Known(rows.device_key(digest), arch, fingerprint, digest)

        def work(connection: sqlite3.Connection) -> list[rows.Known]:
            self._known[here.key] = here
            key = arch, canonical(dict(fingerprint.identity))
            found = connection.execute(QUERIES["identical"], key).fetchall()
            others = [self.device(connection, k) for (k,) in found if k != here.key]
            return [here, *(k for k in others if k is not None)]

        return self.read(work, [here])

    def devices_of(self, problem: str, most: int) -> list[rows.Known]:
        """Return the devices with successful trials of a Problem, at most ``most``."""
        key = rows.text_key(problem)
        return self.read(lambda c: self._devices(c, "next successful", key, most), [])

    def _devices(
        self, connection: sqlite3.Connection, query: str, problem: int, most: int
    ) -> list[rows.Known]:
        found: list[rows.Known] = []
        last = -_INT
        while len(found) < most:
            row = connection.execute(QUERIES[query], (problem, last)).fetchone()
            if row is None or not isinstance(row[0], int) or row[0] < last:
                break
            known = self.device(connection, row[0])
            found += [known] if known is not None else []
            if row[0] == _INT - 1:
                break
            last = row[0] + 1
        return found

    def top(self, problem: str, device: int, most: int | None = None) -> Top:
        """Return all trials of the fastest candidates of a Problem on a device.

        Args:
            problem: text of the Problem.
            device: key of the device.
            most: how many trials to look at; if ``None``, as many as may be tied with the fastest.
        """
        key = rows.text_key(problem)
        limit = _FASTEST if most is None else most

        def work(connection: sqlite3.Connection) -> Top:
            fastest = connection.execute(QUERIES["fastest"], (key, device, limit)).fetchall()
            floor = fastest[-1][1] if len(fastest) == limit else float("inf")
            if most is None and fastest and isinstance(fastest[0][1], float):
                for place, (_, score) in enumerate(fastest):
                    if isinstance(score, float) and score > fastest[0][1] * MOST_TIE:
                        fastest, floor = fastest[:place], score
                        break
            found: list[tuple[Any, ...]] = []
            for candidate in dict.fromkeys(candidate for candidate, _ in fastest):
                found += connection.execute(QUERIES["trials"], (key, device, candidate)).fetchall()
            records = [r for r in self.records(connection, found) if r.problem == problem]
            return Top(records, floor if isinstance(floor, float) else 0.0)

        return self.read(work, Top([], float("inf")))

    def near(self, problem: str, arch: str, most: int) -> list[Near]:
        """Return other Problems of the same family with trials on ``arch``, the nearest first.

        Looks at ``most`` of them on either side, in the order of the sum of logarithms.
        """
        here = rows.shape(problem)
        key = rows.shape_key(arch, here.family)

        def work(connection: sqlite3.Connection) -> list[Near]:
            found: list[Near] = []
            for direction in ("upwards", "downwards"):
                # The Problems of this very volume are looked at on the way up.
                at: tuple[Any, Any] = here.volume, -_INT if direction == "upwards" else _INT - 1
                seen = 0
                for _ in range(4 * most):
                    if seen == most:
                        break
                    row = connection.execute(QUERIES["same volume"], (key, *at)).fetchone()
                    if row is None:
                        row = connection.execute(QUERIES[direction], (key, at[0])).fetchone()
                        if row is None:
                            break
                        at = row[0], -_INT
                        continue
                    seen += 1
                    at = row[0], row[1]
                    there = rows.shape(str(row[2]))
                    if there.family == here.family and row[2] != problem:
                        found.append(Near(row[2], here.distance(there)))
            return sorted(set(found), key=lambda n: (n.distance, n.problem))

        return self.read(work, [])

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
                    found += self.records(connection, connection.execute(query, bound).fetchall())
            wanted = problem, kernel, version
            found = [r for r in found if (r.problem, r.kernel, r.version) == wanted]
            return [
                r
                for r in found
                if (dict(r.fingerprint.identity), dict(r.fingerprint.environment)) == here
            ]

        return self.read(work, [])

    def finished(
        self, problem: str, arch: str, fingerprint: Fingerprint, candidate: Candidate
    ) -> list[Record]:
        """Return the finished trials of a candidate on this device, in this environment."""
        digest = device_digest(arch, fingerprint)
        key = rows.text_key(problem), rows.device_key(digest), rows.candidate_key(*candidate)

        def work(connection: sqlite3.Connection) -> list[Record]:
            found = connection.execute(QUERIES["trials"], key).fetchall()
            return [r for r in self.records(connection, found) if r.device == digest]

        nothing: list[Record] = []
        found = self.read(work, nothing)
        return [r for r in found if (r.problem, r.candidate) == (problem, candidate)]

    def groups(self) -> list[tuple[str, int]]:
        """Return every pair of a Problem's text and a device key."""
        return self.read(
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
            found = self.records(connection, connection.execute(query, (key, device)).fetchall())
            return [r for r in found if r.problem == problem]

        return self.read(work, [])

    def __iter__(self) -> Iterator[Record]:
        """Yield every readable trial, a chunk at a time."""
        last = -_INT
        query = f"{ROW} WHERE rowid >= ? ORDER BY rowid LIMIT {CHUNK}"

        def work(connection: sqlite3.Connection) -> tuple[list[Record], int | None]:
            found = connection.execute(query, (last,)).fetchall()
            end = found[-1][0] + 1 if len(found) == CHUNK else None
            return list(self.records(connection, found)), end

        nothing: tuple[list[Record], int | None] = ([], None)
        end: int | None = last
        while end is not None and last <= end < _INT:
            last = end
            records, end = self.read(work, nothing)
            yield from records
