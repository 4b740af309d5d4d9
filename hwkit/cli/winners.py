"""Records gathered by problem and device, each group with its winner."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, HwkitError

if TYPE_CHECKING:
    from ..records import Record

__all__ = ["Group", "gathered", "plain", "unused"]


@dataclass(frozen=True)
class Group:
    """All trials of one problem on one device.

    Attributes:
        problem: its text.
        arch: of the device.
        identity: facts of the device's fingerprint.
        records: trials, failures included.
        tolerance: which of them may win, as of a call.
    """

    problem: str
    arch: str
    identity: dict[str, Any]
    records: list[Record]
    tolerance: float | str | None = None

    @cached_property
    def admitted(self) -> list[Record]:
        """The trials whose error fits the tolerance, and the failures."""
        budget = _budget(self.problem, self.tolerance)
        policy = self.tolerance if isinstance(self.tolerance, str) else None
        return [
            record
            for record in self.records
            if not record.ok
            or (record.measurement.error <= budget and (policy is None or getattr(record, policy)))
        ]

    @cached_property
    def standing(self) -> list[Record]:
        """The trial by which each candidate counts, the winner first, then by time."""
        from ..records.ranking import score, standings

        found = sorted(standings(self.admitted), key=lambda r: (score(r), r.id))
        winner = self.winner
        return [] if winner is None else [winner, *[r for r in found if r is not winner]]

    @cached_property
    def _picked(self) -> tuple[Record | None, tuple[Record, ...]]:
        from ..records.ranking import pick

        return pick(self.admitted)

    @property
    def winner(self) -> Record | None:
        """The canonical pick, or ``None`` if every candidate failed."""
        return self._picked[0]

    @property
    def ties(self) -> tuple[Record, ...]:
        """What cannot be told apart from the winner."""
        return self._picked[1]

    @property
    def speedup(self) -> float | None:
        """How much faster the winner is than the default.

        By the pairs of its run-off; else by the time of the fastest default that is admitted.
        """
        if self.winner is not None and self.winner.race is not None:
            return self.winner.race.ratio
        times = [r.measurement.seconds for r in self.standing if r.default]
        return min(times) / self.winner.measurement.seconds if times and self.winner else None

    @property
    def failures(self) -> Counter[str]:
        """Number of failed trials by class."""
        return Counter(r.measurement.failure for r in self.records if r.measurement.failure)

    @property
    def device(self) -> str:
        """The device in words: arch and threads."""
        threads = self.identity.get("threads")
        if threads is None:
            return self.arch
        return f"{self.arch}, {threads} thread{'s' * (threads != 1)}"

    def to_json(self) -> dict[str, Any]:
        """Return the group as plain data."""
        return {
            "problem": self.problem,
            "arch": self.arch,
            "identity": self.identity,
            "trials": len(self.records),
            "admitted": sum(record.ok for record in self.admitted),
            "failures": dict(self.failures),
            "winner": None if self.winner is None else plain(self.winner),
            "ties": [plain(record) for record in self.ties],
            "speedup_over_default": self.speedup,
            "unused": None if self.winner is None else unused(self.winner),
        }


def unused(record: Record) -> str | None:
    """Return why calls on the default device do not run a record of its arch.

    Only the kernel is asked for: whether the plugin that brings it is here, and in that version.
    """
    from ..registry import registry
    from ..settings import settings

    try:
        device = registry().device(settings().device)
    except HwkitError:
        return None
    if device.arch != record.arch:
        return None
    versions = {k.name: k.version for k in registry().kernels(device, record.op)}
    if record.kernel not in versions:
        return f"calls do not run it: no plugin here brings kernel {record.kernel}"
    here = versions[record.kernel]
    if here == record.version:
        return None
    return (
        f"calls do not run it: kernel {record.kernel} is version {here}, this is of version "
        f"{record.version}"
    )


def _budget(problem: str, tolerance: float | str | None) -> float:
    """Return the error that is allowed; any, for a problem whose operator is not here."""
    from ..dispatch import parse_problem

    try:
        return parse_problem(problem).error_budget(tolerance)
    except ArgumentError:
        return math.inf


def gathered(records: Iterable[Record], tolerance: float | str | None = None) -> list[Group]:
    """Return groups in the order of their device, then of their problem."""
    from ..records.digest import canonical

    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        key = (record.arch, canonical(dict(record.fingerprint.identity)), record.problem)
        groups.setdefault(key, []).append(record)
    return [
        Group(problem, arch, dict(found[0].fingerprint.identity), found, tolerance)
        for (arch, _, problem), found in sorted(groups.items(), key=lambda item: item[0])
    ]


def plain(record: Record) -> dict[str, Any]:
    """Return a record as plain data for a JSON document."""
    measured = record.measurement
    return {
        "id": record.id,
        "problem": record.problem,
        "kernel": record.kernel,
        "version": record.version,
        "config": dict(record.config),
        "arch": record.arch,
        "seconds": measured.seconds,
        "samples": len(measured.samples),
        "error": measured.error,
        "failure": measured.failure,
        "reason": measured.reason,
        "contended": measured.contended,
        "race": None if record.race is None else asdict(record.race),
        "workspace_bytes": record.workspace,
        "origin": record.origin,
        "created": record.created,
        "default": record.default,
    }
