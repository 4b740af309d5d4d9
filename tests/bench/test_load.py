"""How busy others keep the CPUs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from hwkit.bench import load
from hwkit.bench.load import Load

STAT = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 {0} 0 0 {1} 0 0 0 0 0 0\ncpu7 {2} 0 0 {3} 0 0 0 0 0 0\n"


def _with(monkeypatch: pytest.MonkeyPatch, snapshots: list[tuple[str, int]]) -> None:
    texts = iter(snapshots)
    own = {}

    class FakePath:
        """Hands out one snapshot after another."""

        def __init__(self, name: str) -> None:
            assert name == "/proc/stat"

        def read_text(self) -> str:
            """Return the next one."""
            text, own["ticks"] = next(texts)
            return text

    monkeypatch.setattr(load, "Path", FakePath)
    monkeypatch.setattr(load, "_ticks", lambda pid: own["ticks"])
    monkeypatch.setattr(load.os, "sched_getaffinity", lambda pid: {0}, raising=False)


def test_share_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Busy ticks of the CPUs we may use, less our own, over all ticks of these CPUs."""
    before = (STAT.format(100, 100, 0, 0), 40)
    after = (STAT.format(180, 120, 900, 900), 90)
    _with(monkeypatch, [before, after])
    assert Load().others() == pytest.approx((80 - 50) / 100)


@pytest.mark.parametrize("ticks", [0, 19])
def test_hardly_any_time_has_passed(monkeypatch: pytest.MonkeyPatch, ticks: int) -> None:
    """Nothing is known of nothing, and of a few ticks no share of a tenth."""
    before = (STAT.format(100, 100, 0, 0), 40)
    after = (STAT.format(100 + ticks, 100, 0, 0), 40)
    _with(monkeypatch, [before, after])
    assert Load().others() is None


def test_unknown_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc the answer is that it is not known."""
    monkeypatch.setattr(load, "Path", lambda name: Path("/no/such" + name))
    assert Load().others() is None


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs /proc")
def test_real_counters() -> None:
    """The work of a process counts as others' unless it is named as ours."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        theirs, ours = Load(), Load([process.pid])
        end = time.monotonic() + 20
        while load._ticks(process.pid) < 40 and time.monotonic() < end:
            time.sleep(0.05)
        assert theirs.others() is not None
        assert theirs.others() > ours.others()
    finally:
        process.kill()
        process.wait()
