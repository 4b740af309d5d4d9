"""Match: a Record that may serve a Problem on a device; the order in which they are preferred."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..backend import Fingerprint
from .ranking import MOST_TIE, READ_FIRST, leaders, rank, score, standings
from .record import Record
from .rows import Known
from .store import Store

__all__ = ["Layer", "Match", "nearest", "on_identity", "on_others", "ranked"]

_FIRST, _MOST = 16, 4096
_DEVICES = 256
_NEAR = 16
_PER_DEVICE = 4


@dataclass(frozen=True)
class Match:
    """A Record, and how well it fits.

    Attributes:
        record: the Record.
        source: ``"user record"``, ``"shipped record"`` (both of this very Problem), or
            ``"nearest record"``.
        stale: whether it was measured in another environment: to be measured again.
        same_device: whether it was measured on a device of the same identity.
        ties: the others that cannot be told apart from it, in canonical order.
        distance: between the Problems: the root of the summed squares of the natural logarithms of
            the ratios of sizes; 0 for the same Problem.
    """

    record: Record
    source: str
    stale: bool
    same_device: bool
    ties: tuple[Record, ...] = ()
    distance: float = 0.0


@dataclass(frozen=True)
class Layer:
    """Stores whose trials are compared with each other: the user's, or the shipped ones."""

    source: str
    stores: Sequence[Store]

    def identical(self, arch: str, fingerprint: Fingerprint) -> list[Known]:
        """Return the devices of this identity, the one of this environment first."""
        found = {k.key: k for s in self.stores for k in s.identical(arch, fingerprint)}
        return list(found.values())

    def devices_of(self, problem: str) -> list[Known]:
        """Return the devices with successful trials of a Problem."""
        found = {k.key: k for s in self.stores for k in s.devices_of(problem, _DEVICES)}
        return list(found.values())


def ranked(
    layer: Layer, problem: str, devices: Sequence[Known]
) -> Iterator[tuple[Record, tuple[Record, ...]]]:
    """Yield the candidates of a Problem on some devices by preference, each with its ties.

    Reads the fastest first, and more only when asked for: the order is that of :func:`rank` over
    all trials, because a candidate counts as settled only below the floor of what was not read.
    """
    seen = set()
    most: int | None = None
    while True:
        tops = [s.top(problem, d.key, most) for s in layer.stores for d in devices]
        floor = min((t.floor for t in tops), default=math.inf)
        records = [r for t in tops for r in t.records]
        # Who comes first is known when all those of run-offs have been read.
        first = leaders(standings(records))
        for winner, ties in rank(records) if floor > READ_FIRST else ():
            if winner not in first and score(winner) * MOST_TIE >= floor:
                break
            if winner.candidate not in seen:
                seen.add(winner.candidate)
                yield winner, ties
        if floor == math.inf or (most or 0) >= _MOST:
            return
        most = 4 * (most or _FIRST // 4)


def _match(
    found: tuple[Record, tuple[Record, ...]], source: str, here: Fingerprint, distance: float = 0.0
) -> Match:
    record, ties = found
    theirs = record.fingerprint
    return Match(
        record,
        source,
        stale=dict(theirs.environment) != dict(here.environment),
        same_device=dict(theirs.identity) == dict(here.identity),
        ties=ties,
        distance=distance,
    )


def on_identity(layer: Layer, problem: str, arch: str, fingerprint: Fingerprint) -> Iterator[Match]:
    """Yield Matches of this Problem and identity: of this environment, then stale ones."""
    devices = layer.identical(arch, fingerprint)
    seen = set()
    for some in (devices[:1], devices[1:]):
        for found in ranked(layer, problem, some):
            if found[0].candidate not in seen:
                seen.add(found[0].candidate)
                yield _match(found, layer.source, fingerprint)


def on_others(
    layer: Layer, problem: str, arch: str | None, fingerprint: Fingerprint, depth: int = _PER_DEVICE
) -> Iterator[Match]:
    """Yield Matches of this Problem on devices of another identity, the most similar first.

    Args:
        layer: where to look.
        problem: text of the Problem.
        arch: only devices of this arch, or all.
        fingerprint: of the device to run on.
        depth: how many candidates of each device; the winners of all come first.
    """
    identities: dict[str, list[Known]] = {}
    for known in layer.devices_of(problem):
        mine = dict(known.fingerprint.identity)
        if mine != dict(fingerprint.identity) and arch in (None, known.arch):
            identities.setdefault(f"{known.arch} {sorted(mine.items())}", []).append(known)
    runs = []
    for name, devices in identities.items():
        # One identity is one device: what was measured there in any environment is compared.
        other = Fingerprint(devices[0].fingerprint.identity, fingerprint.environment)
        runs.append((len(fingerprint.differences(other)), name, ranked(layer, problem, devices)))
    runs.sort(key=lambda run: run[:2])
    for _ in range(depth):
        for _, _, run in runs:
            found = next(run, None)
            if found is not None:
                yield _match(found, layer.source, fingerprint)


def nearest(
    layers: Sequence[Layer], problem: str, arch: str, fingerprint: Fingerprint
) -> Iterator[Match]:
    """Yield Matches of other Problems of the same op, dtypes and layout, the nearest first.

    Only of the same arch; at equal distance this device before others, the user's before shipped.
    """
    near = {n for layer in layers for s in layer.stores for n in s.near(problem, arch, _NEAR)}
    for text, distance in sorted(near, key=lambda n: (n.distance, n.problem)):
        for same in (True, False):
            for layer in layers:
                if same:
                    matches = on_identity(layer, text, arch, fingerprint)
                else:
                    matches = on_others(layer, text, arch, fingerprint)
                for _, match in zip(range(_PER_DEVICE), matches, strict=False):
                    yield Match(
                        match.record, "nearest record", match.stale, match.same_device,
                        match.ties, distance,
                    )  # fmt: skip
