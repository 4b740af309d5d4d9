"""Tests of the SQLite file: journal, locks, other people's files, fork, replacement."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
from pathlib import Path

import pytest

from hwkit.records import schema
from hwkit.records.connection import Damaged, Later, SqliteFile, Stranger
from hwkit.records.journal import journal_mode

COUNT = "SELECT count(*) FROM pending"
PUT = "INSERT INTO pending (problem_key, line, host, pid, started) VALUES (1, 'x', 'h', 1, '')"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file that is not there yet, in a folder that is not there yet."""
    return tmp_path / "new folder" / "tuning.db"


def count(file: SqliteFile) -> int:
    """Return the number of rows of a table."""
    return int(file.read(lambda c: c.execute(COUNT).fetchone()[0]))


def put(file: SqliteFile) -> None:
    """Add a row."""
    file.write(lambda c: c.execute(PUT))


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


@pytest.mark.parametrize(
    ("mounts", "mode"),
    [
        ("/dev/sda / ext4 rw 0 0\n", "wal"),
        ("/dev/sda / ext4 rw 0 0\nserver:/home {folder} nfs4 rw 0 0\n", "delete"),
        ("server:/ / nfs rw 0 0\ntmpfs {folder} tmpfs rw 0 0\n", "wal"),
        ("x / mysteryfs rw 0 0\n", "delete"),
        ("/dev/sda / ext4 rw 0 0\n/dev/sdb {folder}-beside cifs rw 0 0\n", "wal"),
        ("broken\n", "delete"),
    ],
)
def test_journal_by_file_system(tmp_path: Path, mounts: str, mode: str) -> None:
    """WAL only where the file system is known to serve it; it does not work over a network."""
    listing = tmp_path / "mounts"
    listing.write_text(mounts.format(folder=tmp_path.resolve()))
    assert journal_mode(tmp_path / "tuning.db", str(listing)) == mode
    assert journal_mode(tmp_path / "tuning.db", str(tmp_path / "absent")) == "delete"


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


def test_another_programs_database_is_left_alone(path: Path) -> None:
    """A database of another program is neither written nor taken for damaged."""
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE photos (name TEXT)")
    connection.close()
    before = path.read_bytes()
    for work in (count, put):
        with pytest.raises(Stranger):
            work(SqliteFile(path))
    assert path.read_bytes() == before


def _change(path: Path, *statements: str) -> None:
    file = SqliteFile(path)
    put(file)
    file.close()
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE devices",
        "DROP INDEX by_score",
        "ALTER TABLE trials ADD COLUMN more TEXT",
        "CREATE TRIGGER t AFTER INSERT ON trials BEGIN DELETE FROM trials; END",
        "CREATE VIEW v AS SELECT * FROM trials",
        "PRAGMA user_version = 0",
        "PRAGMA application_id = 7",
    ],
)
def test_foreign_tables_are_damage(path: Path, statement: str) -> None:
    """A file whose tables are not exactly ours is damaged: no trigger or view of others runs."""
    _change(path, statement)
    for work in (count, put):
        with pytest.raises(Damaged):
            work(SqliteFile(path))


def test_a_later_schema(path: Path) -> None:
    """A file of a later hwkit says so to a writer, and can be read."""
    _change(path, "PRAGMA user_version = 3", "CREATE TABLE news (x)")
    for work in (count, put):
        with pytest.raises(Later) as caught:
            work(SqliteFile(path))
        assert caught.value.args == (True,)
    reader = SqliteFile(path, read_only=True)
    assert count(reader) == 1
    reader.close()
    _change(path.with_name("b.db"), "PRAGMA user_version = 3", "DROP TABLE trials")
    with pytest.raises(Later) as caught:
        count(SqliteFile(path.with_name("b.db")))
    assert caught.value.args == (False,)


def test_no_database_at_all(path: Path) -> None:
    """Any other bytes are damage; an empty file is an empty database."""
    path.parent.mkdir()
    path.write_bytes(b"notes of mine, longer than a header " * 99)
    with pytest.raises(Damaged):
        count(SqliteFile(path))
    path.write_bytes(b"")
    file = SqliteFile(path)
    assert count(file) == 0
    put(file)
    assert count(file) == 1
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
