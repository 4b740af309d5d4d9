"""What may be removed from a Store, and on request only: never a winner of any policy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone

from . import quarantine as unfinished
from .ranking import pick
from .record import Record
from .store import Store

__all__ = ["clean", "superseded"]

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


def clean(
    store: Store, days: float | None, *, quarantine: bool = False, bad: bool = False
) -> dict[str, int]:
    """Remove trials from a Store; see :meth:`hwkit.records.Database.gc`.

    Raises:
        NotKept: the file cannot be written.
    """
    removed = {"superseded": 0, "failed": 0, "quarantine": 0, "bad": 0}
    doomed: list[Record] = []
    if days is not None:
        before = (datetime.now(timezone.utc) - timedelta(days=days)).isoformat(
            timespec="microseconds"
        )
        for problem, device in store.groups():
            doomed += [r for r in superseded(store.of(problem, device)) if r.created < before]
        # What a run that died has left is a failure, but asked for by its own name.
        doomed = [r for r in doomed if r.measurement.reason != unfinished.LEFT]
    if quarantine:
        doomed += [r for r in store if r.measurement.reason == unfinished.LEFT]
    for record in doomed:
        left = record.measurement.reason == unfinished.LEFT
        removed["quarantine" if left else "superseded" if record.ok else "failed"] += 1
    store.remove(doomed)
    if quarantine:
        removed["quarantine"] += store.forget_pending()
    if bad:
        removed["bad"] = store.remove_bad()
    return removed
