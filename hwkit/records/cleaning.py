"""What is in a Store, what is wrong with it, and what may be removed: on request, and no winner."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from numbers import Real
from typing import Any

from ..errors import ArgumentError, shown
from . import quarantine as unfinished
from . import rows
from .access import insert
from .ranking import pick
from .record import Record
from .store import ROW, Store

__all__ = ["clean", "counts", "superseded", "verify"]

_POLICIES = ("strict", "deterministic")


def superseded(records: Iterable[Record]) -> Iterator[Record]:
    """Yield the trials that no lookup needs, whatever kernels are installed and policy is asked.

    Args:
        records: all trials of one Problem on one device.
    """
    trials = list(records)
    by_kernel: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for record in trials:
        by_kernel[record.kernel, record.version].append(record)
    needed: set[Record] = set()
    for group in by_kernel.values():
        for policy in (None, *_POLICIES):
            winner, ties = pick(r for r in group if policy is None or getattr(r, policy))
            needed |= {winner, *ties} if winner is not None else set()
    kept = {r.candidate for r in needed}
    # A failure beside a kept candidate says that older successes do not count.
    yield from (r for r in trials if r not in needed and (r.ok or r.candidate not in kept))


def counts(store: Store) -> dict[str, int]:
    """Return how many trials, failures, Problems, devices and quarantined candidates there are."""
    parts = {
        "trials": "count(*) FROM trials",
        "failed": "count(*) FROM trials WHERE failure IS NOT NULL",
        "problems": "count(DISTINCT problem_key) FROM trials",
        "devices": "count(DISTINCT device_key) FROM trials",
        "quarantined": "count(*) FROM pending",
    }

    def work(connection: sqlite3.Connection) -> dict[str, int]:
        return {
            name: int(connection.execute(f"SELECT {query}").fetchone()[0])
            for name, query in parts.items()
        }

    return store.read(work, dict.fromkeys(parts, 0))


def verify(store: Store) -> dict[str, str]:
    """Read and check everything; return what is wrong, by where it is."""
    store.bad.clear()

    def work(connection: sqlite3.Connection) -> list[str]:
        found = connection.execute("PRAGMA integrity_check").fetchall()
        for row in connection.execute(ROW).fetchall():
            _sound(store, connection, row)
        for token, line in connection.execute("SELECT token, line FROM pending").fetchall():
            if unfinished.crash(line) is None:
                store.note(f"quarantine {token}", "it cannot be read")
        return [str(text) for (text, *_) in found if text != "ok"]

    nothing: list[str] = []
    for number, text in enumerate(store.read(work, nothing), start=1):
        store.bad[f"file, finding {number}"] = text
    if store.refusal is not None:
        store.bad["file"] = store.refusal
    return dict(store.bad)


def _sound(
    store: Store, connection: sqlite3.Connection, row: tuple[Any, ...]
) -> tuple[bool, Record | None]:
    """Return whether a row is as it was written, and its trial if that can be read."""
    record = next(store.records(connection, [row]), None)
    # The keys are not part of the checksum: they follow from the content.
    if record is not None and rows.to_row(record) != tuple(row[1:]):
        store.note(f"row {row[0]}", "its keys do not fit its content")
        return False, record
    return record is not None, record


def _remove_bad(store: Store) -> int:
    def work(connection: sqlite3.Connection) -> int:
        checked = [(r[0], _sound(store, connection, r)) for r in connection.execute(ROW).fetchall()]
        doomed = [(rowid, record) for rowid, (sound, record) in checked if not sound]
        connection.executemany("DELETE FROM trials WHERE rowid = ?", [(r,) for r, _ in doomed])
        # Those of which only the keys are wrong come back with the right ones.
        insert(connection, [record for _, record in doomed if record is not None])
        return len(doomed)

    count = store.write(work)
    store.bad.clear()
    return count


def _forget_dead(connection: sqlite3.Connection) -> int:
    found = connection.execute("SELECT token, line, host, pid, started FROM pending").fetchall()
    dead = [(token,) for token, *rest in found if not unfinished.alive(*rest)]
    connection.executemany("DELETE FROM pending WHERE token = ?", dead)
    return len(dead)


# No trial is older; beyond some two thousand years there is no date either.
_OLDEST_DAYS = 36_500.0


def clean(
    store: Store, days: float | None, *, quarantine: bool = False, bad: bool = False
) -> dict[str, int]:
    """Remove trials from a Store; see :meth:`hwkit.records.Database.gc`.

    Raises:
        ArgumentError: ``days`` is not a number from 0 on.
        NotKept: the file cannot be written.
    """
    if days is not None and not (isinstance(days, Real) and days >= 0):
        raise ArgumentError(f"days={shown(days)} must be a number of at least 0, as 90")
    removed = {"superseded": 0, "failed": 0, "quarantine": 0, "bad": 0}
    doomed: list[Record] = []
    if days is not None:
        limit = datetime.now(timezone.utc) - timedelta(days=min(float(days), _OLDEST_DAYS))
        before = limit.isoformat(timespec="microseconds")
        for problem, device in store.groups():
            old = [r for r in superseded(store.of(problem, device)) if r.created < before]
            # What a run that died has left is asked for by its own name.
            doomed += [r for r in old if r.measurement.reason != unfinished.LEFT]
    if quarantine:
        doomed += [r for r in store if r.measurement.reason == unfinished.LEFT]
    for record in doomed:
        left = record.measurement.reason == unfinished.LEFT
        removed["quarantine" if left else "superseded" if record.ok else "failed"] += 1
    ids = [(bytes.fromhex(r.id),) for r in doomed]
    if ids:
        store.write(lambda c: c.executemany("DELETE FROM trials WHERE id = ?", ids))
    if quarantine:
        removed["quarantine"] += store.write(_forget_dead)
    if bad:
        removed["bad"] = _remove_bad(store)
    return removed
