"""Tests of the SQLite file: journal, locks, fork, replacement."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
from pathlib import Path

import pytest

from hwkit.records import schema
from hwkit.records.connection import SqliteFile
from hwkit.records.journal import journal_mode

from .files import PUT, count, put


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file that is not there yet, in a folder that is not there yet."""
    return tmp_path / "new folder" / "tuning.db"


def test_a_file_is_made_by_the_first_write(path: Path) -> None:
    """Reading makes no file; writing makes it, with our marks and a full sync."""
    file = SqliteFile(path)
    assert count(file) == 0
    assert not path.exists()
    put(file)
    assert count(file) == 1
    pragmas = ("application_id", "user_version", "synchronous")
    found = file.write(lambda c: [c.execute(f"PRAGMA {p}").fetchone()[0] for p in pragmas])
    assert found == [schema.APPLICATION, schema.SCHEMA, 2]
    file.close()
    assert count(file) == 1
    file.close()


def test_a_write_that_fails_is_undone(path: Path) -> None:
    """What raises within a write leaves nothing behind."""
    file = SqliteFile(path)

    def work(connection: sqlite3.Connection) -> None:
        connection.execute(PUT)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        file.write(work)
    assert count(file) == 0
    put(file)
    assert count(file) == 1
    file.close()


def test_readers_cannot_write(path: Path) -> None:
    """The connection for reading refuses to write."""
    file = SqliteFile(path)
    put(file)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        file.read(lambda c: c.execute(PUT))
    file.close()


def test_a_reader_does_not_wait_for_a_writer(path: Path) -> None:
    """While another thread is within a write, reading goes on, and sees what was before."""
    file = SqliteFile(path)
    put(file)
    if journal_mode(path) != "wal":
        pytest.skip("the rollback journal lets a reader wait for a commit")
    inside, done = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        connection.execute(PUT)
        inside.set()
        assert done.wait(20)

    thread = threading.Thread(target=lambda: file.write(slow))
    thread.start()
    assert inside.wait(20)
    assert count(file) == 1
    done.set()
    thread.join()
    assert count(file) == 2
    file.close()


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_both_journals(path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing and reading work with either journal, and after a change from one to the other."""
    other = {"wal": "delete", "delete": "wal"}[mode]
    for number, now in enumerate((mode, other), start=1):
        monkeypatch.setattr("hwkit.records.connection.journal_mode", lambda _path, now=now: now)
        file = SqliteFile(path)
        put(file)
        assert file.write(lambda c: c.execute("PRAGMA journal_mode").fetchone()[0]) == now
        assert count(file) == number
        file.close()


def test_a_replaced_file_is_noticed(path: Path) -> None:
    """After the file has been renamed or removed, the next use is of the one that is there."""
    file, other = SqliteFile(path), SqliteFile(path)
    put(file)
    assert count(other) == 1
    for suffix in ("-wal", "-shm", ""):
        if (found := Path(f"{path}{suffix}")).exists():
            found.rename(f"{path}.old{suffix}")
    assert count(other) == 0
    put(other)
    put(file)
    assert count(file) == count(other) == 2
    file.close()
    other.close()


def _in_child(file: SqliteFile, queue: multiprocessing.Queue[int]) -> None:
    before = count(file)
    put(file)
    queue.put(before)
    queue.put(count(file))


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_fork(path: Path, memory: bool) -> None:
    """A child opens the file anew, the parent's connection stays whole; memory is a copy."""
    file = SqliteFile(None if memory else path)
    put(file)
    assert count(file) == 1
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[int] = context.Queue()
    child = context.Process(target=_in_child, args=(file, queue))
    child.start()
    assert [queue.get(timeout=60), queue.get(timeout=60)] == [1, 2]
    child.join(60)
    assert child.exitcode == 0
    put(file)
    assert count(file) == (2 if memory else 3)
    file.close()


def test_many_threads(path: Path) -> None:
    """Threads that read and write through one file lose nothing."""
    file = SqliteFile(path)
    wrong: list[object] = []

    def work() -> None:
        try:
            seen = 0
            for _ in range(10):
                put(file)
                now = count(file)
                assert now > seen
                seen = now
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert count(file) == 60
    file.close()


def test_a_folder_as_file(tmp_path: Path) -> None:
    """A path that cannot be a file is an error of SQLite or the system, not damage."""
    for bad in (tmp_path, Path(os.devnull) / "tuning.db"):
        with pytest.raises((sqlite3.OperationalError, OSError)):
            put(SqliteFile(bad))
