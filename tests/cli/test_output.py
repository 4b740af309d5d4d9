"""Units, tables and the JSON document."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta, timezone

import pytest

from hwkit.cli import output


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 ns"),
        (85e-9, "85.0 ns"),
        (412.4e-6, "412 us"),
        (999.96e-6, "1.00 ms"),
        (9.994e-3, "9.99 ms"),
        (9.996e-3, "10.0 ms"),
        (1.0, "1.00 s"),
        (59.94, "59.9 s"),
        (150.0, "2 min 30 s"),
        (math.inf, "-"),
        (math.nan, "-"),
        (None, "-"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    """A time has three digits and the unit that makes it at least one."""
    assert output.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (98.14e9, "98.1 GFLOP/s"),
        (1.5e12, "1.50 TFLOP/s"),
        (2.5e6, "2.50 MFLOP/s"),
        (None, "-"),
        (math.inf, "-"),
    ],
)
def test_rate(value: float | None, text: str) -> None:
    """A rate has three digits and its unit."""
    assert output.rate(value) == text


def test_small_formats() -> None:
    """Sizes, shares and ratios carry their units, and a dash stands for what is not known."""
    assert output.nbytes(512) == "512 B"
    assert output.nbytes(32 * 1024) == "32 KiB"
    assert output.nbytes(1.5 * 2**30) == "1.5 GiB"
    assert output.nbytes(1023 * 1024) == "1023 KiB"
    assert output.nbytes(1536 * 2**30) == "1536 GiB"
    assert output.nbytes(None) == "-"
    assert output.share(0.643) == "64 %"
    assert output.share(math.nan) == "-"
    assert output.ratio(2.314) == "2.31x"
    assert output.ratio(None) == "-"


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(seconds=-5), "0 s"),
        (timedelta(seconds=59), "59 s"),
        (timedelta(minutes=3), "3 min"),
        (timedelta(hours=1), "1 hour"),
        (timedelta(hours=47), "1 day"),
        (timedelta(days=3), "3 days"),
    ],
)
def test_age(ago: timedelta, text: str) -> None:
    """An age is given in its largest whole unit."""
    now = datetime(2026, 1, 10, tzinfo=timezone.utc)
    assert output.age((now - ago).isoformat(timespec="microseconds"), now) == text


def test_age_of_nonsense() -> None:
    """A time that cannot be read has no age, and is no error."""
    assert output.age("yesterday") == "?"


def test_document_is_strict_json() -> None:
    """Infinity and NaN become null, paths and tuples plain data."""
    payload = {"a": math.inf, "b": [math.nan, 1.5], "c": (1, True, None), "d": {1: object}}
    read = json.loads(output.document("x", payload), parse_constant=pytest.fail)
    assert read["command"] == "x"
    assert (read["a"], read["b"], read["c"]) == (None, [None, 1.5], [1, True, None])
    assert read["d"] == {"1": "<class 'object'>"}


def test_table_in_a_pipe_is_not_folded(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal a row is one line, however long, and brackets are only text."""
    long = "x" * 300
    output.table(["name", ">count"], [[long, "1"], ["[red]y", "12"]])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith(long)
    assert lines[1].rstrip().endswith(" 1")
    assert lines[2].startswith("[red]y")
    assert lines[2].rstrip().endswith("12")
    assert len(lines[1].rstrip()) == len(lines[2].rstrip())
