"""Database: layered Records, the user's trials over the shipped ones. Winners are a query.

A lookup goes down this list and yields every candidate that stands, so that the caller takes the
first that it can use (its kernel is there, its config legal, its error within the tolerance):

=====================================  ================  =========  ==================
the record is of                       source            ``stale``  ``same_device``
=====================================  ================  =========  ==================
this problem, identity, environment    user record       no         yes
this problem and identity              user record       yes        yes
the same two, shipped                  shipped record    no, yes    yes
this problem, same arch                user record       by fields  no
the same, shipped                      shipped record    by fields  no
a near problem, same arch              nearest record    by fields  by fields
=====================================  ================  =========  ==================

Another arch is a miss. A record of another kernel version is yielded, and refused by the caller.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from ..backend import Fingerprint
from ..config import Config
from ..errors import ArgumentError, DatabaseError, HwkitWarning
from ..op import Problem
from .access import ADVICE
from .cleaning import clean, counts, verify
from .layered import Layered
from .lines import read_any, write_lines
from .matching import Layer, Match, nearest, on_identity, on_others
from .ranking import is_check, pick, score, standings
from .record import Record
from .rows import device_key
from .store import NotKept

__all__ = ["Database"]

_CHUNK = 1000
_PORTFOLIO = 64
_PORTFOLIO_NEAR = 8


class Database(Layered):
    """The user's trials in a file (in memory for ``None``), over files of shipped Records.

    Safe from threads, processes and after fork. A file that cannot be written, or that is damaged,
    stops nobody: trials are kept in memory then, and one :class:`~hwkit.HwkitWarning` says so.

    Args:
        path: file of the user's trials; made on the first write.
        shipped: files of JSON lines, never written.
        read_only: keep new trials in memory without a warning.
    """

    def __init__(
        self, path: Path | None, shipped: Sequence[Path] = (), read_only: bool = False
    ) -> None:
        super().__init__(path, shipped, read_only)

    def candidates(
        self, problem: Problem | str, arch: str, fingerprint: Fingerprint
    ) -> Iterator[Match]:
        """Yield Records that may serve a Problem, in the order of preference of this module."""
        text = str(problem)
        # Shipped files are not read as long as the user's trials will do.
        yield from on_identity(self._user_layer(), text, arch, fingerprint)
        layers = self._layers(arch, text)
        yield from on_identity(layers[1], text, arch, fingerprint)
        for layer in layers:
            yield from on_others(layer, text, arch, fingerprint)
        yield from nearest(layers, text, arch, fingerprint)

    def tried(
        self, problem: Problem | str, fingerprint: Fingerprint, kernel: str, version: int
    ) -> set[Config]:
        """Return the Configs that this device, in this environment, has measured or failed.

        Those in quarantine are among them.
        """
        return {r.config for r in self.trials(problem, fingerprint, kernel, version)}

    def trials(
        self, problem: Problem | str, fingerprint: Fingerprint, kernel: str, version: int
    ) -> list[Record]:
        """Return the trials of this device, in this environment, those in quarantine included.

        Those that only saw whether a kernel is right are not among them: see :meth:`last`.
        """
        stores = self._user_layer().stores
        found = [r for s in stores for r in s.tried(str(problem), fingerprint, kernel, version)]
        return [r for r in found if not is_check(r)]

    def last(
        self,
        problem: Problem | str,
        arch: str,
        fingerprint: Fingerprint,
        candidate: tuple[str, int, Config],
        check: str,
    ) -> Record | None:
        """Return the last finished trial of a kernel, its version and Config here, or ``None``.

        Args:
            problem: what was computed.
            arch: of the device.
            fingerprint: of the device.
            candidate: the kernel's name, its version and the Config.
            check: origin of the trials that count among those that only saw whether it is right.
        """
        found = [
            r
            for s in self._user_layer().stores
            for r in s.finished(str(problem), arch, fingerprint, candidate)
            if r.origin == check or not is_check(r)
        ]
        return max(found, key=lambda r: r.created, default=None)

    def elsewhere(
        self, problem: Problem | str, fingerprint: Fingerprint, kernel: str, version: int
    ) -> list[list[Record]]:
        """Return the trials of a kernel on devices of another identity, one list a device."""
        text, mine = str(problem), dict(fingerprint.identity)
        found: dict[int, list[Record]] = {}
        for layer in self._layers(problem=text):
            others = [d for d in layer.devices_of(text) if dict(d.fingerprint.identity) != mine]
            for device in others:
                trials = [r for s in layer.stores for r in s.of(text, device.key)]
                trials = [r for r in trials if not is_check(r)]
                ours = [r for r in trials if (r.kernel, r.version) == (kernel, version)]
                found.setdefault(device.key, []).extend(ours)
        return [trials for trials in found.values() if trials]

    def portfolio(
        self, problem: Problem | str, arch: str, fingerprint: Fingerprint, depth: int = 1
    ) -> list[Record]:
        """Return what to try first: winners here, of every other known device, of near Problems.

        None of them is to be believed, all are to be measured again.

        Args:
            problem: the Problem.
            arch: of the device to tune.
            fingerprint: of the device to tune.
            depth: how many candidates of each device; the winners of all come first.
        """
        text = str(problem)
        layers = self._layers(problem=text)
        found: list[Match] = []
        for layer in layers:
            found += islice(on_identity(layer, text, arch, fingerprint), depth)
        others = [m for x in layers for m in on_others(x, text, None, fingerprint, depth)]
        found += others[:_PORTFOLIO]
        found += islice(nearest(layers, text, arch, fingerprint), _PORTFOLIO_NEAR * depth)
        first: dict[object, Record] = {}
        for match in found:
            first.setdefault(match.record.candidate, match.record)
        return list(first.values())

    def default_record(self, record: Record, budget: float = math.inf) -> Record | None:
        """Return the fastest default Config of at most this error among the trials beside it.

        The user's trials come before shipped ones: times of different days are not compared while
        there are some of the same.
        """
        key = device_key(record.device)
        for layer in self._layers(record.arch, record.problem):
            beside = [
                r
                for s in layer.stores
                for r in s.of(record.problem, key, defaults=True)
                if r.measurement.error <= budget
            ]
            found = min(standings(beside), key=score, default=None)
            if found is not None:
                return found
        return None

    def stale(self, fingerprint: Fingerprint) -> list[Record]:
        """Return the winners of this identity that only other environments have measured."""
        fresh: set[str] = set()
        old: dict[str, list[Record]] = {}
        for records in self._groups(self._user_layer()):
            there = records[0].fingerprint
            if dict(there.identity) != dict(fingerprint.identity):
                continue
            if all(map(is_check, records)):
                continue
            if dict(there.environment) == dict(fingerprint.environment):
                fresh.add(records[0].problem)
            else:
                old.setdefault(records[0].problem, []).extend(records)
        winners = [pick(records)[0] for name, records in old.items() if name not in fresh]
        return sorted((w for w in winners if w is not None), key=lambda w: w.problem)

    @staticmethod
    def _groups(layer: Layer) -> Iterator[list[Record]]:
        """Yield the trials of each Problem and device (with its environment)."""
        keys = {key for store in layer.stores for key in store.groups()}
        for problem, device in sorted(keys, key=str):
            records = [r for s in layer.stores for r in s.of(problem, device)]
            if records:
                yield records

    def records(self, layer: str | None = None, **filters: object) -> Iterator[Record]:
        """Yield trials.

        Args:
            layer: ``"user"`` or ``"shipped"``; both if ``None``, a trial in both once.
            filters: fields of a Record to the values wanted, such as ``op="gemm"``, ``ok=True``.
        """
        unknown = [name for name in filters if name not in _FILTERS]
        if unknown or layer not in (None, "user", "shipped"):
            raise ArgumentError(
                f"records cannot be chosen by {unknown or layer!r}: the layers are user and "
                f"shipped, the fields {', '.join(_FILTERS)}"
            )
        user, shipped = self._layers()
        stores = [*(user.stores if layer != "shipped" else ())]
        stores += shipped.stores if layer != "user" else ()
        seen: set[str] = set()
        for store in stores:
            for record in store:
                if all(getattr(record, n) == value for n, value in filters.items()):
                    if len(stores) > 1 and record.id in seen:
                        continue
                    seen.add(record.id)
                    yield record

    def winners(self, layer: str | None = None, **filters: object) -> Iterator[Record]:
        """Yield the winner of each Problem and device; arguments as of :meth:`records`."""
        groups: dict[tuple[str, str], list[Record]] = {}
        for record in self.records(layer, **filters):
            groups.setdefault((record.problem, record.device), []).append(record)
        for _, records in sorted(groups.items()):
            winner, _ = pick(records)
            if winner is not None:
                yield winner

    def counts(self) -> dict[str, int]:
        """Return how many trials, failures, Problems and devices there are, and what is amiss."""
        user, shipped = self._layers()
        found = {"trials": 0, "failed": 0, "problems": 0, "devices": 0, "quarantined": 0}
        for store in user.stores:
            for name, count in counts(store).items():
                found[name] += count
        found["shipped"] = sum(counts(s)["trials"] for s in shipped.stores)
        found["bad"] = len(self._user.bad) + len(self._shipped.bad)
        found["not_kept"] = self._unkept
        return found

    def export(self, path: Path, *, winners: bool = False, **filters: object) -> int:
        """Write trials, or only winners, as JSON lines, and return how many.

        Raises:
            DatabaseError: the file cannot be written, or is a database.
        """
        chosen = self.winners(**filters) if winners else self.records(**filters)  # type: ignore[arg-type]
        try:
            return write_lines(Path(path), chosen)
        except OSError as error:
            raise DatabaseError(
                f"{path} cannot be written ({error.strerror}): name a file in a folder of yours"
            ) from None

    def import_(self, path: Path) -> int:
        """Add the trials of a file, JSON lines or another database, and return how many are new.

        Adding is a set union: the order of merges does not matter, and twice is once. What cannot
        be read is left out, with one warning.

        Raises:
            DatabaseError: the file cannot be read, or nothing in it.
        """
        bad: dict[str, str] = {}
        added = taken = 0
        records = read_any(Path(path), bad)
        while batch := list(islice(records, _CHUNK)):
            taken += len(batch)
            added += self.add_all(batch)
        if not bad:
            return added
        where, why = next(iter(bad.items()))
        if not taken:
            raise DatabaseError(
                f"{path} holds no record that can be read (the first: {where}, {why}): name a file "
                "of 'hwkit db export', or a database"
            )
        left = "1 record" if len(bad) == 1 else f"{len(bad)} records"
        text = f"{left} of {path} left out (the first: {where}, {why})"
        warnings.warn(text, HwkitWarning, stacklevel=2)
        return added

    merge = import_

    def verify(self) -> dict[str, str]:
        """Read and check everything; return what is wrong, by where it is. Empty is good."""
        found = verify(self._user)
        self._shipped.store()
        return {**found, **self._shipped.bad}

    def gc(
        self, days: float | None = None, *, quarantine: bool = False, bad: bool = False
    ) -> dict[str, int]:
        """Remove what is asked for, and return how many of each were removed.

        Args:
            days: trials older than this that failed or were superseded. The best of each kernel
                and policy, with its ties, stays.
            quarantine: also forget which candidates a run that died has left unfinished.
            bad: also remove rows that cannot be read.

        Raises:
            ArgumentError: ``days`` is not a number from 0 on.
            DatabaseError: the file cannot be written.
        """
        try:
            return clean(self._user, days, quarantine=quarantine, bad=bad)
        except NotKept as error:
            raise DatabaseError(f"{self.path} cannot be cleaned, {error}: {ADVICE}") from None


_FILTERS = (
    "problem", "op", "kernel", "version", "config", "arch", "strict", "deterministic", "origin",
    "default", "ok",
)  # fmt: skip
