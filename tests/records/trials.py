"""Records for tests: one legal trial, any part of it changed."""

from __future__ import annotations

from typing import Any

from hwkit import Config, Fingerprint
from hwkit.measure import Measurement
from hwkit.records.record import Record
from hwkit.runoff import Paired

PROBLEM = "gemm float32 nn m=64 n=64 k=64"
ARCH = "x86-64-test"
IDENTITY = {"backend": "cpu", "isa": "avx2", "threads": 2, "l2": 1 << 20}
ENVIRONMENT = {"hwkit": "0.1.0", "compiler": "cc 1", "driver": "none"}
HERE = Fingerprint(IDENTITY, ENVIRONMENT)
UPDATED = Fingerprint(IDENTITY, {**ENVIRONMENT, "hwkit": "0.2.0"})
RACE = Paired("blocked/1 tile=1", 1.12, 1.09, 1.15, 15)
OTHER = Fingerprint({**IDENTITY, "threads": 4}, ENVIRONMENT)


def created(second: float) -> str:
    """Return a time so many seconds after the beginning of 2026, below one hour."""
    minutes, seconds = divmod(second, 60)
    return f"2026-01-01T00:{int(minutes):02}:{seconds:09.6f}+00:00"


def trial(
    tile: int = 1,
    seconds: float = 1e-3,
    samples: int = 31,
    *,
    at: float = 0,
    failure: str | None = None,
    contended: bool = False,
    spread: float = 0.0,
    **fields: Any,
) -> Record:
    """Return a trial of the Config ``tile=<tile>``.

    Args:
        tile: the tunable.
        seconds: median.
        samples: how many, alternately ``spread`` (relative) above and below the median.
        at: seconds after the beginning of 2026.
        failure: class of the failure, if it failed.
        contended: as of the Measurement.
        spread: relative deviation of the samples.
        fields: other fields of the Record.
    """
    times = tuple(seconds * (1 + spread * (i % 3 - 1)) for i in range(samples))
    measured = Measurement(seconds, times, 1e-7, contended=contended)
    if failure is not None:
        measured = Measurement.failed(failure, f"it failed: {failure}")
    facts: dict[str, Any] = {
        "problem": PROBLEM,
        "kernel": "blocked",
        "version": 1,
        "config": Config({"tile": tile}),
        "arch": ARCH,
        "fingerprint": HERE,
        "measurement": measured,
        "created": created(at),
        **fields,
    }
    return Record(op=facts["problem"].split()[0], **facts)
