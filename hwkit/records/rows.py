"""What a trial is in SQLite: a Record as a row and back, and the keys of the indices.

Keys are hashes of text and only find rows; what is found is compared field by field, and the row as
a whole by its ``id``, so neither a collision nor a flipped bit can pass for a trial.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from ..backend import Fingerprint
from ..errors import ArgumentError
from .digest import blake2b, canonical, device_digest
from .legal import check_facts
from .ranking import CHECKED, is_check, reading_score
from .record import Record
from .schema import TRIALS

__all__ = [
    "Known",
    "Shape",
    "candidate_key",
    "device_key",
    "device_row",
    "read_device",
    "read_row",
    "shape",
    "shape_key",
    "text_key",
    "to_row",
]


def text_key(*texts: str) -> int:
    """Return a hash of texts as SQLite's signed 64-bit integer."""
    digest = blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def device_key(digest: str) -> int:
    """Return the key of a device, from its 32-digit hash."""
    return int.from_bytes(bytes.fromhex(digest[:16]), "big", signed=True)


def device_row(record: Record) -> tuple[int, str, str, str]:
    """Return the row of a record's device: key, arch, identity, environment."""
    facts = record.fingerprint
    identity, environment = canonical(dict(facts.identity)), canonical(dict(facts.environment))
    return device_key(record.device), record.arch, identity, environment


@dataclass(frozen=True)
class Known:
    """A device read from its row, checked once for all trials that refer to it."""

    key: int
    arch: str
    fingerprint: Fingerprint
    digest: str


def read_device(row: tuple[Any, ...]) -> Known:
    """Return the device of a row of ``devices``.

    Raises:
        ArgumentError: the row is damaged.
    """
    try:
        key, arch, identity, environment = row
        fingerprint = Fingerprint(json.loads(identity), json.loads(environment))
        check_facts("identity", fingerprint.identity)
        check_facts("environment", fingerprint.environment)
        digest = device_digest(arch, fingerprint)
    except (TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"a device cannot be read: {error}") from None
    if key != device_key(digest):
        raise ArgumentError("a device does not match its checksum")
    return Known(key, arch, fingerprint, digest)


def candidate_key(kernel: str, version: int, config: object) -> int:
    """Return the key of what was tried."""
    return text_key(kernel, str(version), str(config))


# Of the same sizes, but with or without packing: nearer than other sizes, if not the same.
_PACKED = 0.01


@dataclass(frozen=True)
class Shape:
    """The numbers of a Problem's text, for distances between Problems of one op, dtype and layout.

    Attributes:
        family: op, dtypes and layout.
        numbers: sizes and whole-number attributes.
        others: the other attributes.
        packed: whether the constants are packed beforehand.
        volume: sum of the logarithms of the numbers, by which Shapes are indexed.
    """

    family: str
    numbers: Mapping[str, int]
    others: Mapping[str, str]
    packed: bool
    volume: float

    def distance(self, other: Shape) -> float:
        """Return the root of the summed squares of the natural logarithms of ratios.

        A number that one of them lacks counts as 1, as does 0; each other attribute that differs
        adds 1 to the sum, packed constants little. The epilogue does not count.
        """
        total = 0.0
        for name in {*self.numbers, *other.numbers}:
            mine, theirs = self.numbers.get(name, 1), other.numbers.get(name, 1)
            total += math.log(max(mine, 1) / max(theirs, 1)) ** 2
        names = {*self.others, *other.others}
        total += sum(self.others.get(n) != other.others.get(n) for n in names)
        total += _PACKED * (self.packed != other.packed)
        return math.sqrt(total)


@lru_cache(4096)
def shape(problem: str) -> Shape:
    """Return the Shape of a Problem's text."""
    words = problem.split(" ")
    family = [w for w in words[:3] if "=" not in w and not w.startswith("+")]
    numbers: dict[str, int] = {}
    others: dict[str, str] = {}
    for word in words[len(family) :]:
        name, equals, value = word.partition("=")
        if equals and value.isascii() and value.isdecimal() and len(value) < 20:
            numbers[name] = int(value)
        elif equals:
            others[name] = value
    volume = sum(math.log(max(n, 1)) for n in numbers.values())
    return Shape(" ".join(family), numbers, others, words[-1] == "packed", volume)


def shape_key(arch: str, family: str) -> int:
    """Return the key of the Problems among which the nearest is sought."""
    return text_key(arch, family)


def to_row(record: Record) -> tuple[Any, ...]:
    """Return a Record as the row of ``trials``."""
    measured, form = record.measurement, shape(record.problem)
    # What was not raced is no winner that a near Problem could start from.
    near = f"{CHECKED} " * is_check(record) + form.family
    return (
        bytes.fromhex(record.id),
        text_key(record.problem),
        device_key(record.device),
        candidate_key(*record.candidate),
        shape_key(record.arch, near),
        form.volume,
        reading_score(record) if record.ok else None,
        record.problem,
        record.kernel,
        record.version,
        str(record.config),
        measured.seconds if record.ok else None,
        canonical(list(measured.samples)),
        None if math.isnan(measured.error) else measured.error,
        measured.failure,
        measured.reason,
        measured.contended,
        record.strict,
        record.deterministic,
        record.workspace,
        record.origin,
        record.created,
        record.default,
        None if record.race is None else canonical(asdict(record.race)),
    )


def read_row(row: tuple[Any, ...], device: Known) -> Record:
    """Return the Record of a row of ``trials``, after all checks.

    Raises:
        ArgumentError: the row is damaged, or is no legal trial.
    """
    try:
        fields = dict(zip(TRIALS, row, strict=True))
        for name in ("contended", "strict", "deterministic", "is_default"):
            fields[name] = {0: False, 1: True}[fields[name]]
        fields["samples"] = json.loads(fields["samples"])
        fields["race"] = None if fields["race"] is None else json.loads(fields["race"])
        fields["default"], fields["arch"] = fields["is_default"], device.arch
        record = Record.from_plain(fields, (device.fingerprint, device.digest))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"a trial cannot be read: {error}") from None
    if bytes.fromhex(record.id) != fields["id"] or fields["device_key"] != device.key:
        raise ArgumentError("a trial does not match its checksum")
    return record
