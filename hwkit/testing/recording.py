"""Recording: what a tuning run on some device measured, read from a Kernel Tuner cache file."""

from __future__ import annotations

import gzip
import inspect
import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ..config import Config, Value
from ..errors import ArgumentError, cause
from ..space import Space
from .expression import constraint

__all__ = ["RecordedSpace", "Recording"]

# Kernel Tuner's classes of failed rows; a number this large is how its old files say "failed".
_FAILURES = {"CompilationFailedConfig": "compile", "InvalidConfig": "compile"}
_FAILED_TIME = 1e19


class RecordedSpace(Space):
    """The Space of the combinations that were recorded, and no others."""

    def __init__(
        self,
        values: Mapping[str, Sequence[Value]],
        rows: Sequence[tuple[int, ...]],
        conditions: Any,
    ) -> None:
        self._legal = frozenset(rows)
        names = list(values)

        def recorded(**given: Value) -> bool:
            return self.row(given) in self._legal

        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [inspect.Parameter(name, keyword) for name in names]
        recorded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        super().__init__(values, [*conditions, (recorded, "this combination was not recorded")])

    @cached_property
    def _rows(self) -> np.ndarray[Any, Any]:
        return np.array(sorted(self._legal), np.int32).reshape(len(self._legal), len(self.values))

    def rows(self, limit: int | None = None) -> np.ndarray[Any, Any] | None:
        """Return every recorded Config as positions into ``values``; they are known anyway."""
        return self._rows if limit is None or len(self._rows) <= limit else None

    def _walk(self, rng: random.Random | None = None) -> Iterator[Config]:
        rows = self._rows.tolist()
        return map(self.config, rng.sample(rows, len(rows)) if rng else rows)

    def sample(self, rng: random.Random) -> Config:
        """Return one recorded Config, uniformly at random."""
        return self.config(self._rows[rng.randrange(len(self._rows))].tolist())


class Recording:
    """A cache file: a Space, and for each of its Configs the samples or the failure.

    Args:
        path: a Kernel Tuner cache file, plain or gzipped JSON.
        space: the companion file with defaults and constraints, if there is one; its constraints
            are parsed as arithmetic, never run as code.

    Attributes:
        device: name of the device that was measured; the file's name where it was not noted.
        kernel: name of the kernel, with its problem size.
        space: the recorded combinations.
        default: the companion's default where that was recorded, else the first that ran.
        samples: seconds per run of each Config that ran.
        failures: class of the failure of each Config that did not.

    Raises:
        ArgumentError: the file cannot be read as a cache file; the message says why.
    """

    def __init__(self, path: Path | str, space: Path | str | None = None) -> None:
        self.path = Path(path)
        try:
            self._read(_load(self.path), {} if space is None else _load(Path(space)))
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            if isinstance(error, ArgumentError):
                raise
            raise ArgumentError(
                f"{self.path} is not a Kernel Tuner cache file: {cause(error)}"
            ) from None

    def _read(self, content: Mapping[str, Any], companion: Mapping[str, Any]) -> None:
        stem = self.path.name.split(".")[0]
        self.device = _word(content.get("device_name") or stem)
        size = content.get("problem_size", "")
        size = "x".join(map(str, size)) if isinstance(size, list) else str(size)
        self.kernel = _word("-".join(filter(None, [content.get("kernel_name", stem), size])))
        given = {name: list(values) for name, values in content["tune_params"].items()}
        values = {name.lower(): [_value(v) for v in choices] for name, choices in given.items()}
        if len(values) < len(given):
            raise ArgumentError(f"{self.path} has tunables that differ in case only")
        shape = Space(values)
        self.samples: dict[Config, tuple[float, ...]] = {}
        self.failures: dict[Config, str] = {}
        for row in content["cache"].values():
            config = Config({name.lower(): _value(row[name]) for name in given})
            self._note(config, row)
        known = [*self.samples, *self.failures]
        if not self.samples:
            raise ArgumentError(f"{self.path} holds no Config that ran")
        self.space = RecordedSpace(values, [shape.row(c) for c in known], _conditions(companion))
        self.default = self._default(companion)

    def _note(self, config: Config, row: Mapping[str, Any]) -> None:
        time = row["time"]
        if isinstance(time, str) or not 0 < time < _FAILED_TIME:
            self.failures[config] = _FAILURES.get(str(time), "launch")
            return
        times = [t for t in row.get("times") or [time] if 0 < t < math.inf]
        self.samples[config] = tuple(t / 1e3 for t in times)

    def _default(self, companion: Mapping[str, Any]) -> Config:
        tunables = _tunables(companion)
        given = {t["Name"].lower(): _value(t["Default"]) for t in tunables if "Default" in t}
        wanted = Config(given)
        return wanted if wanted in self.samples else next(iter(self.samples))

    @cached_property
    def table(self) -> dict[Config, float]:
        """Median seconds of each Config; infinity for those that failed."""
        times = {config: median(samples) for config, samples in self.samples.items()}
        return {**times, **dict.fromkeys(self.failures, math.inf)}

    @cached_property
    def best(self) -> float:
        """Median seconds of the fastest Config."""
        return min(self.table.values())

    def __repr__(self) -> str:
        return f"<Recording {self.kernel} on {self.device}, {self.space.size} configs>"


def _load(path: Path) -> Any:
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path} cannot be read: {error}") from None
    try:
        return json.loads(text)
    except ValueError:
        # A run that was stopped leaves its file open at the end.
        return json.loads(text.rstrip().rstrip(",") + "}}")


def _tunables(companion: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(companion.get("ConfigurationSpace", {}).get("TuningParameters", ()))


def _conditions(companion: Mapping[str, Any]) -> list[tuple[Any, str]]:
    conditions = companion.get("ConfigurationSpace", {}).get("Conditions", ())
    texts = [c["Expression"] for c in conditions]
    names = sorted((t["Name"] for t in _tunables(companion)), key=len, reverse=True)
    for name in names:
        texts = [re.sub(rf"\b{re.escape(name)}\b", name.lower(), text) for text in texts]
    return [(constraint(text), text) for text in texts]


def _word(text: object) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", str(text)).strip("_") or "unknown"


def _value(value: Any) -> Value:
    if isinstance(value, str):
        plain = re.sub(r"[^A-Za-z0-9_./+x:-]", "_", value) or "none"
        return Config.parse(f"v={plain}")["v"]  # text that looks like a number becomes one
    if isinstance(value, (bool, int, float)):
        return value
    raise ArgumentError(f"value {value!r} of a tunable must be a bool, int, float or str")
