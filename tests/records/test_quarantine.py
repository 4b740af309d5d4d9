"""Tests of quarantine and of sudden death: kill -9 loses at most the candidate under way."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from hwkit import Config
from hwkit.measure import Measurement
from hwkit.records import Database, now
from hwkit.records.quarantine import LEFT, alive, crash, host, started

from .trials import ARCH, HERE, OTHER, PROBLEM, trial

FORK = multiprocessing.get_context("fork")
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file that is not there yet."""
    return tmp_path / "tuning.db"


def begin(database: Database, tile: int, **flags: bool) -> int:
    """Put a Config into quarantine."""
    return database.begin(PROBLEM, ARCH, HERE, "blocked", 1, Config({"tile": tile}), **flags)


def tiles(database: Database) -> set[object]:
    """Return what has been tried."""
    return {c["tile"] for c in database.tried(PROBLEM, HERE, "blocked", 1)}


def test_begin_and_finish(path: Path) -> None:
    """A candidate is tried while it runs, and a trial when it is finished."""
    database = Database(path)
    token = begin(database, 1)
    assert tiles(database) == {1}
    assert database.counts()["quarantined"] == 1
    assert list(database.records()) == []
    database.finish(token, trial(1))
    assert list(database.records()) == [trial(1)]
    assert database.counts()["quarantined"] == 0
    database.finish(begin(database, 2))
    assert tiles(database) == {1}
    database.close()


def test_a_live_run_is_left_alone(path: Path) -> None:
    """Another Database of a live process does not take its candidate for dead."""
    first = Database(path)
    token = begin(first, 1)
    second = Database(path)
    assert tiles(second) == {1}
    assert list(second.records()) == []
    first.finish(token, trial(1))
    assert list(second.records()) == [trial(1)]
    first.close()
    second.close()


def _begin_and_die(path: Path) -> None:
    database = Database(path)
    database.add(trial(1, 1e-3))
    begin(database, 1, default=True)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_run_that_died(path: Path) -> None:
    """What it left counts as a crash: it outweighs an earlier success, and is not tried again."""
    child = FORK.Process(target=_begin_and_die, args=(path,))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    database = Database(path)
    assert tiles(database) == {1}
    assert next(database.candidates(PROBLEM, ARCH, HERE), None) is None
    left = next(database.records(ok=False))
    assert (left.measurement.failure, left.measurement.reason) == ("crash", LEFT)
    assert left.default
    assert database.counts()["quarantined"] == 0
    # It can be forgiven, on request only.
    assert database.gc()["quarantine"] == 0
    assert database.gc(quarantine=True)["quarantine"] == 1
    assert next(database.candidates(PROBLEM, ARCH, HERE)).record == trial(1, 1e-3)
    database.close()


def test_who_is_alive() -> None:
    """A process is known by pid and beginning; one of another machine by its age."""
    line = trial(failure="crash", created=now()).to_json()
    old = trial(failure="crash").to_json()
    me = os.getpid()
    assert alive(line, host(), me, started(me))
    assert not alive(line, host(), me, "12345")
    assert not alive(line, host(), 2**22 + 5, "")
    assert not alive(line, host(), -1, started(me))
    assert not alive(line, host(), "many", started(me))
    assert not alive("nonsense", host(), me, started(me))
    assert alive(line, "elsewhere boot space", me, started(me))
    assert not alive(old, "elsewhere boot space", me, started(me))
    name, _, space = host().split(" ")
    assert not alive(line, f"{name} earlier-boot {space}", me, started(me))
    assert crash(trial().to_json()) is None
    assert crash(None) is None


def _run(path: Path, tile: int, pipe: int) -> None:
    """Try candidate after candidate, and say what has been committed."""
    database = Database(path)
    while True:
        os.write(pipe, f"try {tile}\n".encode())
        token = begin(database, tile)
        os.write(pipe, f"begun {tile}\n".encode())
        database.finish(token, trial(tile))
        os.write(pipe, f"done {tile}\n".encode())
        tile += 1


def _kill_once(path: Path, tile: int, seconds: float) -> dict[str, set[int]]:
    """Let a run be killed, and return what it had said of which candidates."""
    reading, writing = os.pipe()
    child = FORK.Process(target=_run, args=(path, tile, writing))
    child.start()
    os.close(writing)
    with open(reading) as pipe:
        lines = [pipe.readline()]
        time.sleep(seconds)
        child.kill()
        child.join()
        lines += pipe.readlines()
    assert child.exitcode == -signal.SIGKILL
    child.close()
    said: dict[str, set[int]] = {"try": set(), "begun": set(), "done": set()}
    for line in lines:
        word, number = line.split()
        said[word].add(int(number))
    return said


def _kill_at_random(path: Path, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    done: set[int] = set()
    begun: set[int] = set()
    tile = 0
    for kill in range(1, kills + 1):
        said = _kill_once(path, tile, rng.uniform(0, 0.2))
        done |= said["done"]
        begun |= said["begun"]
        tile = max(said["try"]) + 1
        database = Database(path)
        assert database.tried(PROBLEM, HERE, "none", 1) == set()
        assert database.counts()["quarantined"] == 0
        if kill % 10 == 0:
            _check_all(database, done, begun)
        database.close()
    assert done
    assert 0 < len(begun - done) <= kills
    assert not path.with_name("tuning.db.damaged-1").exists()


def _check_all(database: Database, done: set[int], begun: set[int]) -> None:
    """Committed, but killed before it could say so, is allowed; the reverse is not."""
    found = {int(str(r.config["tile"])): r for r in database.records()}
    assert done <= {t for t, r in found.items() if r.ok}
    assert begun <= set(found)
    assert tiles(database) == set(found)
    assert all(r.measurement.reason == LEFT for r in found.values() if not r.ok)
    assert database.verify() == {}


def test_ten_kills(path: Path) -> None:
    """kill -9 at ten random moments: no finished trial lost, the store sound, no killer again."""
    _kill_at_random(path, 10, 1)


@pytest.mark.slow
def test_a_hundred_kills(path: Path) -> None:
    """The same at a hundred moments."""
    _kill_at_random(path, 100, 2)


def _write(path: Path, number: int, count: int, start: object) -> None:
    start.wait(60)  # type: ignore[attr-defined]
    database = Database(path)
    for step in range(count):
        token = database.begin(PROBLEM, ARCH, HERE, "blocked", 1, Config({"tile": step}))
        database.finish(token, trial(number * 1000 + step, 1e-3 * (1 + number / 20), at=step))
    database.close()


def test_sixteen_writers(path: Path, tmp_path: Path) -> None:
    """Sixteen processes that write at once lose nothing, and merge to the same winners."""
    start = FORK.Event()
    count = 6
    children = [FORK.Process(target=_write, args=(path, n, count, start)) for n in range(16)]
    for child in children:
        child.start()
    start.set()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0] * 16
    database = Database(path)
    found = {int(r.config["tile"]) for r in database.records()}
    assert found == {n * 1000 + s for n in range(16) for s in range(count)}
    assert database.counts()["quarantined"] == 0
    assert database.verify() == {}
    other = Database(tmp_path / "other.db")
    other.add_all([trial(5, 0.5e-3, at=1), trial(6, 0.2e-3, fingerprint=OTHER)])
    winners = []
    for order in ((path, other.path), (other.path, path)):
        merged = Database(None)
        for source in order:
            assert source is not None
            merged.merge(source)
        winners.append([w.id for w in merged.winners()])
    assert winners[0] == winners[1]
    database.close()
    other.close()


def test_a_measurement_can_fail_in_quarantine(path: Path) -> None:
    """A failure is a trial like any other."""
    database = Database(path)
    failed = trial(3, measurement=Measurement.failed("timeout", "no answer in 5 s"))
    database.finish(begin(database, 3), failed)
    assert tiles(database) == {3}
    assert next(database.records()) == failed
    database.close()
