"""What the values of a Record may be, wherever they come from: types, ranges, sizes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime

from ..errors import ArgumentError
from ..measure import Measurement
from ..runoff import Paired

__all__ = [
    "MAX_CONFIG",
    "MAX_PROBLEM",
    "check_facts",
    "checked",
    "checked_race",
    "is_name",
    "is_problem",
    "is_real",
    "is_text",
    "is_time",
    "is_whole",
    "require",
]

MAX_PROBLEM = 1000
"""Most characters of a Problem's text."""

MAX_CONFIG = 4096
"""Most characters of a Config's text."""

_MAX_SAMPLES, _MAX_FACTS, _MAX_FACT, _MAX_REASON = 1000, 64, 1000, 500
_MAX_BASE = MAX_CONFIG + 200
_MAX_INT = 2**63 - 1
_PROBLEM = re.compile(r"[a-z][a-z0-9_]*( [!-~]+)+\Z")
_NAME = re.compile(r"[!-~]{1,100}\Z")
_FACT_NAME = re.compile(r"[ -~]{1,100}\Z")
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00\Z")


def require(legal: object, name: str, value: object) -> None:
    """Raise unless a value is legal.

    Raises:
        ArgumentError: names the field and shows the value.
    """
    if not legal:
        raise ArgumentError(f"the record's {name} {str(value)[:60]!r} is not legal")


def is_text(value: object, most: int) -> bool:
    """Whether a value is a text of at most so many characters."""
    return isinstance(value, str) and len(value) <= most


def is_whole(value: object) -> bool:
    """Whether a value is a whole number that SQLite can hold, from 0 on."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_INT


def is_real(value: object) -> bool:
    """Whether a value is a number, not a bool, and no integer that a float cannot hold."""
    if isinstance(value, float):
        return True
    return isinstance(value, int) and type(value) is not bool and abs(value) <= _MAX_INT


def is_time(text: object) -> bool:
    """Whether a text is a time as Records have it, which sorts by time."""
    if not isinstance(text, str) or not _CREATED.match(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def check_facts(what: str, facts: object) -> None:
    """Check the fields of a Fingerprint.

    Raises:
        ArgumentError: a name or a value is not legal.
    """
    require(isinstance(facts, Mapping) and len(facts) <= _MAX_FACTS, what, facts)
    assert isinstance(facts, Mapping)
    for name, value in facts.items():
        require(isinstance(name, str) and _FACT_NAME.match(name), f"{what} field", name)
        legal = is_text(value, _MAX_FACT) or isinstance(value, bool)
        if not legal and is_real(value):
            legal = math.isfinite(value)
        require(legal, f"{what} {name}", value)


def is_name(value: object) -> bool:
    """Whether a value is one printable word."""
    return isinstance(value, str) and _NAME.match(value) is not None


def is_problem(value: object) -> bool:
    """Whether a value can be the text of a Problem: words with single spaces."""
    return isinstance(value, str) and len(value) <= MAX_PROBLEM and bool(_PROBLEM.match(value))


def checked(measured: Measurement) -> Measurement:
    """Return the Measurement with floats as floats and its reason as one printable line.

    Raises:
        ArgumentError: a value is not legal.
    """
    require(isinstance(measured, Measurement), "measurement", measured)
    samples, error = measured.samples, measured.error
    require(isinstance(samples, tuple) and len(samples) <= _MAX_SAMPLES, "samples", samples)
    times = (*samples, measured.seconds) if measured.ok else samples
    require(all(is_real(t) and 0 < t < math.inf for t in times), "times in seconds", times)
    if measured.ok and samples:
        # A median lies among its samples, whatever is done with an even number of them.
        inside = min(samples) <= measured.seconds <= max(samples)
        require(inside, "median", measured.seconds)
    require(is_real(error) and not error < 0, "error", error)
    require(isinstance(measured.contended, bool), "contended", measured.contended)
    require(isinstance(measured.reason, str), "reason", measured.reason)
    return Measurement(
        float(measured.seconds) if measured.ok else math.inf,
        tuple(map(float, samples)),
        math.nan if math.isnan(error) else float(error),
        measured.failure,
        _line(measured.reason),
        measured.contended,
    )


def checked_race(race: Paired) -> Paired:
    """Return the comparison of a run-off with floats as floats.

    Raises:
        ArgumentError: a value is not legal.
    """
    require(isinstance(race, Paired), "run-off", race)
    legal = is_text(race.base, _MAX_BASE) and race.base.isprintable()
    require(legal, "default of a run-off", race.base)
    ratios = race.low, race.ratio, race.high
    require(all(is_real(r) and 0 < r < math.inf for r in ratios), "ratios of a run-off", ratios)
    require(race.low <= race.ratio <= race.high, "interval of a run-off", ratios)
    require(is_whole(race.pairs) and 0 < race.pairs <= _MAX_SAMPLES, "pairs", race.pairs)
    return Paired(race.base, float(race.ratio), float(race.low), float(race.high), race.pairs)


def _line(text: str) -> str:
    """Return the beginning of a text as one printable line."""
    if not text:
        return ""
    printable = "".join(c if c.isprintable() else " " for c in text[: 4 * _MAX_REASON])
    return " ".join(printable.split())[:_MAX_REASON].rstrip()
