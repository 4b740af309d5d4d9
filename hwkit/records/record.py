"""Record: one trial worth keeping, an immutable fact, and its one-line text.

A Record is checked when it is made, wherever it comes from. Its ``id`` is a hash of its content:
both its identity (so that merging is a set union) and its checksum.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, field
from datetime import datetime, timezone
from functools import cached_property, lru_cache
from typing import Any

from ..backend import Fingerprint
from ..config import Config
from ..errors import ArgumentError, cause
from ..measure import Measurement
from ..runoff import Paired
from .digest import blake2b, canonical, device_digest
from .legal import (
    MAX_CONFIG,
    MAX_PROBLEM,
    check_facts,
    checked,
    checked_race,
    is_name,
    is_problem,
    is_text,
    is_time,
    is_whole,
    require,
)

__all__ = ["FORMAT", "MAX_LINE", "RACED", "Record", "now"]

FORMAT = 1
"""Version of a line without a run-off, as all were at first."""

RACED = 2
"""Version of a line with one; a later one is refused, not guessed at."""

MAX_LINE = 64 * 1024
"""Most characters of a line."""


def now() -> str:
    """Return the UTC time to the microsecond, as text that sorts by time."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


_config = lru_cache(4096)(Config.parse)


@dataclass(frozen=True, eq=False)
class Record:
    """One trial. Frozen; equal, hashed and stored by its content.

    Attributes:
        problem: text of the Problem.
        op: name of the Op, the first word of ``problem``.
        kernel: stable name of the Kernel.
        version: of the Kernel.
        config: the tunables.
        arch: of the Device.
        fingerprint: of the Device.
        measurement: times and error, or the failure.
        strict: whether the arithmetic is plain fused multiply-add.
        deterministic: whether every run gives the same bits.
        workspace: bytes of scratch memory.
        origin: how it came to be: ``"tuned"``, ``"estimated"`` where the device is emulated, or
            ``"checked"`` and a checksum of its code where a kernel that does not ship with hwkit
            was to run untuned.
        created: UTC, ISO 8601 with microseconds, as :func:`now` gives it.
        default: whether this was the Kernel's default Config.
        race: how it compared with the default in the run-off of its search, if it was in it; the
            samples are those of the run-off then.

    Raises:
        ArgumentError: a value is not legal; the message names it.
    """

    problem: str
    op: str
    kernel: str
    version: int
    config: Config
    arch: str
    fingerprint: Fingerprint
    measurement: Measurement
    strict: bool = True
    deterministic: bool = False
    workspace: int = 0
    origin: str = "tuned"
    created: str = field(default_factory=now)
    default: bool = False
    race: Paired | None = None

    def __post_init__(self) -> None:
        check_facts("identity", self.fingerprint.identity)
        check_facts("environment", self.fingerprint.environment)
        self._check()

    def _check(self) -> None:
        require(is_problem(self.problem), "problem", self.problem)
        require(self.op == self.problem.split(" ", 1)[0], "op", self.op)
        for name in ("kernel", "arch", "origin"):
            require(is_name(getattr(self, name)), name, getattr(self, name))
        require(is_whole(self.version), "version", self.version)
        require(is_whole(self.workspace), "workspace", self.workspace)
        for name in ("strict", "deterministic", "default"):
            require(isinstance(getattr(self, name), bool), name, getattr(self, name))
        require(is_time(self.created), "created", self.created)
        require(isinstance(self.config, Config), "config", self.config)
        require(len(self.config_text) <= MAX_CONFIG, "config", self.config_text)
        object.__setattr__(self, "measurement", checked(self.measurement))
        if self.race is not None:
            require(self.ok, "run-off of a failure", self.race)
            object.__setattr__(self, "race", checked_race(self.race))

    @property
    def ok(self) -> bool:
        """Whether the trial succeeded."""
        return self.measurement.ok

    @property
    def candidate(self) -> tuple[str, int, Config]:
        """What was tried: kernel, version and config."""
        return self.kernel, self.version, self.config

    @property
    def name(self) -> str:
        """What was tried, as one text."""
        return f"{self.kernel}/{self.version} {self.config_text}".strip()

    @property
    def against_default(self) -> str | None:
        """How it did in its run-off, in words; ``None`` if it was in none."""
        if self.race is not None and self.race.base == self.name:
            return f"the default, which nothing beat in {self.race.pairs} pairs"
        return None if self.race is None else str(self.race)

    @property
    def format(self) -> int:
        """Version of its line."""
        return FORMAT if self.race is None else RACED

    @cached_property
    def config_text(self) -> str:
        """``str(self.config)``."""
        return str(self.config)

    @cached_property
    def device(self) -> str:
        """Hash of arch and fingerprint, for finding; compare the fields themselves."""
        return device_digest(self.arch, self.fingerprint)

    @cached_property
    def id(self) -> str:
        """Hash of the content, 32 hexadecimal digits."""
        measured = self.measurement
        # No part can hold the separator: texts are checked to be printable.
        parts = (
            self.format, self.problem, self.kernel, self.version, self.config_text, self.device,
            measured.seconds, canonical(measured.samples), measured.error, measured.failure,
            measured.reason, measured.contended, self.strict, self.deterministic, self.workspace,
            self.origin, self.created, self.default, *(astuple(self.race) if self.race else ()),
        )  # fmt: skip
        return blake2b("\0".join(map(str, parts)).encode(), digest_size=16).hexdigest()

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, Record) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def to_json(self) -> str:
        """Return one line of JSON, without the newline; NaN is null, infinity is ``"inf"``."""
        measured = self.measurement
        content: dict[str, Any] = {
            "id": self.id,
            "format": self.format,
            "problem": self.problem,
            "kernel": self.kernel,
            "version": self.version,
            "config": self.config_text,
            "arch": self.arch,
            "identity": dict(self.fingerprint.identity),
            "environment": dict(self.fingerprint.environment),
            "seconds": measured.seconds if measured.ok else None,
            "samples": list(measured.samples),
            "error": _print_error(measured.error),
            "failure": measured.failure,
            "reason": measured.reason,
            "contended": measured.contended,
            "strict": self.strict,
            "deterministic": self.deterministic,
            "workspace": self.workspace,
            "origin": self.origin,
            "created": self.created,
            "default": self.default,
        }
        if self.race is not None:
            content["race"] = asdict(self.race)
        return canonical(content)

    @classmethod
    def from_json(cls, line: str) -> Record:
        """Read what :meth:`to_json` prints; every value is checked, and the whole by its id.

        Raises:
            ArgumentError: says what is wrong with the line.
        """
        if len(line) > MAX_LINE:
            raise ArgumentError(f"the line has {len(line)} characters, more than {MAX_LINE}")
        try:
            data = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ArgumentError(f"the line is not JSON: {error}") from None
        if not isinstance(data, dict):
            raise ArgumentError("the line is not a JSON object")
        if data.get("format") not in (FORMAT, RACED):
            raise ArgumentError(
                f"the line has format {data.get('format')!r}, and this hwkit reads {FORMAT} and "
                f"{RACED}: update hwkit"
            )
        given = data.pop("id", None)
        try:
            record = cls.from_plain(data)
        except (KeyError, TypeError, AttributeError) as error:
            raise ArgumentError(
                f"the line lacks a field or has a wrong one ({cause(error)})"
            ) from None
        if (record.id, record.format) != (given, data["format"]):
            raise ArgumentError(
                f"the line does not match its id {str(given)[:40]!r}: it was changed"
            )
        return record

    @classmethod
    def from_plain(
        cls, data: Mapping[str, Any], known: tuple[Fingerprint, str] | None = None
    ) -> Record:
        """Return a Record from the fields of a line or a row.

        Args:
            data: the fields.
            known: Fingerprint and device hash, where both have been checked before.

        Raises:
            ArgumentError: a value is not legal.
            KeyError: a field is missing.
        """
        problem, config = data["problem"], data["config"]
        require(is_text(problem, MAX_PROBLEM), "problem", problem)
        require(is_text(config, MAX_CONFIG), "config", config)
        values = {name: data[name] for name in _PLAIN}
        values["op"] = problem.split(" ", 1)[0]
        values["config"] = _config(config)
        values["measurement"] = _read_measurement(data)
        race = data.get("race")
        values["race"] = None if race is None else Paired(**race)
        if known is None:
            return cls(fingerprint=Fingerprint(data["identity"], data["environment"]), **values)
        # As the constructor does, less the checks of a Fingerprint that many records share.
        record = object.__new__(cls)
        record.__dict__.update(values, fingerprint=known[0], device=known[1])
        record._check()
        return record


_PLAIN = (
    "problem", "kernel", "version", "arch", "strict", "deterministic", "workspace", "origin",
    "created", "default",
)  # fmt: skip


def _read_measurement(data: Mapping[str, Any]) -> Measurement:
    failure, seconds = data["failure"], data["seconds"]
    require(failure is None or isinstance(failure, str), "failure", failure)
    require(failure is None or seconds is None, "time of a failure", seconds)
    try:
        return Measurement(
            seconds if failure is None else math.inf,
            tuple(data["samples"]),
            _read_error(data["error"]),
            failure,
            data["reason"],
            data["contended"],
        )
    except ValueError as unknown:
        raise ArgumentError(f"the record cannot be read: {unknown}") from None


def _print_error(error: float) -> float | str | None:
    return None if math.isnan(error) else "inf" if error == math.inf else error


def _read_error(value: object) -> Any:
    return math.nan if value is None else math.inf if value == "inf" else value
