"""Tests of Database: layers, merging, what cannot be written, housekeeping."""

from __future__ import annotations

import random
import sqlite3
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from hwkit import ArgumentError, Config, DatabaseError, HwkitWarning
from hwkit.records import Database, Record, pick
from hwkit.records.lines import read_lines, write_lines

from .trials import ARCH, HERE, OTHER, PROBLEM, UPDATED, trial

NEAR = "gemm float32 nn m=65 n=64 k=64"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file that is not there yet."""
    return tmp_path / "data" / "tuning.db"


def some(seed: int, count: int = 60) -> list[Record]:
    """Return trials of a few problems and devices, some of them failed."""
    rng = random.Random(seed)
    return [
        trial(
            rng.randrange(8),
            rng.uniform(1e-3, 1.05e-3),
            rng.choice((1, 5, 31)),
            at=rng.randrange(3000) + seed / 10,
            failure=rng.choice((None, None, None, "wrong")),
            problem=rng.choice((PROBLEM, NEAR)),
            fingerprint=rng.choice((HERE, OTHER, UPDATED)),
            workspace=rng.randrange(2),
        )
        for _ in range(count)
    ]


def test_trials_survive_the_process(path: Path) -> None:
    """What was added is there after the file has been opened again, and only once."""
    records = some(1)
    first = Database(path)
    for record in records:
        first.add(record)
    first.add(records[0])
    assert first.add_all(records) == 0
    first.close()
    second = Database(path)
    assert sorted(r.id for r in second.records()) == sorted({r.id for r in records})
    assert second.counts()["trials"] == len({r.id for r in records})
    assert second.counts()["failed"] == sum(not r.ok for r in set(records))
    second.close()


def test_a_lookup_makes_no_file(path: Path) -> None:
    """Asking leaves no trace in the user's home."""
    database = Database(path)
    assert list(database.candidates(PROBLEM, ARCH, HERE)) == []
    assert database.tried(PROBLEM, HERE, "blocked", 1) == set()
    assert database.counts()["trials"] == 0
    assert database.verify() == {}
    assert not path.parent.exists()


def _winners(database: Database) -> list[tuple[str, str, str]]:
    return [(w.problem, w.device, w.id) for w in database.winners()]


def test_merging_is_a_set_union(tmp_path: Path) -> None:
    """Either order, any way, and twice: the same trials and the same winners."""
    sets = [some(1), some(2), some(3)]
    for number, records in enumerate(sets):
        made = Database(tmp_path / f"{number}.db")
        made.add_all(records)
        made.export(tmp_path / f"{number}.jsonl")
        made.close()
    merged = []
    for number, order in enumerate([(0, 1, 2), (2, 1, 0), (1, 1, 0, 2, 0)]):
        database = Database(tmp_path / f"merged {number}.db")
        for turn, source in enumerate(order):
            kind = "db" if (turn + number) % 2 else "jsonl"
            method = database.merge if kind == "db" else database.import_
            method(tmp_path / f"{source}.{kind}")
        merged.append((_winners(database), {r.id for r in database.records()}))
        database.close()
    assert merged[0] == merged[1] == merged[2]
    assert merged[0][1] == {r.id for records in sets for r in records}
    assert len(merged[0][0]) == 6


def test_import_says_how_many_are_new(tmp_path: Path) -> None:
    """Trials that are known are not new."""
    write_lines(tmp_path / "a.jsonl", [trial(1), trial(2)])
    database = Database(None)
    database.add(trial(1))
    assert database.import_(tmp_path / "a.jsonl") == 1
    assert database.import_(tmp_path / "a.jsonl") == 0


def test_import_leaves_bad_lines_out(tmp_path: Path) -> None:
    """A bad line is skipped and reported, the rest is taken."""
    file = tmp_path / "a.jsonl"
    good, other = trial(1).to_json(), trial(2).to_json()
    file.write_text(f"{good}\nnonsense\n\n# a comment\n{other.replace('tile=2', 'tile=3')}\n")
    database = Database(None)
    with pytest.warns(HwkitWarning, match=r"2 records of .* left out .*a.jsonl:2"):
        assert database.import_(file) == 1
    assert [r.id for r in database.records()] == [trial(1).id]


def test_a_file_without_one_good_record_is_an_error(tmp_path: Path) -> None:
    """What cannot be read at all is not taken for an import of nothing; an empty file is one."""
    file = tmp_path / "a.jsonl"
    file.write_text("nonsense\n{}\n")
    with pytest.raises(DatabaseError, match="holds no record that can be read"):
        Database(None).import_(file)
    file.write_text("# a comment\n")
    assert Database(None).import_(file) == 0


def test_files_that_cannot_be_merged(tmp_path: Path) -> None:
    """A missing file and another program's database are one sentence."""
    database = Database(None)
    with pytest.raises(DatabaseError, match="cannot be read"):
        database.import_(tmp_path / "absent.jsonl")
    other = sqlite3.connect(tmp_path / "photos.db")
    other.execute("CREATE TABLE photos (x)")
    other.commit()
    other.close()
    with (
        pytest.warns(HwkitWarning, match="another program"),
        pytest.raises(DatabaseError, match="cannot be merged, it is a database of another"),
    ):
        database.merge(tmp_path / "photos.db")
    with pytest.raises(DatabaseError, match="cannot be written"):
        database.export(tmp_path / "no folder" / "a.jsonl")


def test_export_of_winners(tmp_path: Path) -> None:
    """Winners only, in a fixed order, as a shipped file needs."""
    database = Database(None)
    records = some(4)
    database.add_all(records)
    count = database.export(tmp_path / "a.jsonl", winners=True, problem=PROBLEM)
    found = list(read_lines(tmp_path / "a.jsonl", {}))
    assert count == len(found) == 3
    for record in found:
        group = [r for r in records if (r.problem, r.device) == (record.problem, record.device)]
        assert pick(group)[0] == record
    lines = (tmp_path / "a.jsonl").read_text()
    database.export(tmp_path / "b.jsonl", winners=True, problem=PROBLEM)
    assert (tmp_path / "b.jsonl").read_text() == lines


def test_records_by_field(tmp_path: Path) -> None:
    """Trials are chosen by layer and field; an unknown one is named."""
    write_lines(tmp_path / "a.jsonl", [trial(1), trial(9)])
    database = Database(None, shipped=[tmp_path / "a.jsonl"])
    database.add_all([trial(1), trial(2), trial(3, failure="crash"), trial(4, problem=NEAR)])
    assert len(list(database.records())) == 5
    assert len(list(database.records("shipped"))) == 2
    assert len(list(database.records("user", problem=PROBLEM, ok=True))) == 2
    assert [r.config["tile"] for r in database.records(config=Config({"tile": 9}))] == [9]
    with pytest.raises(ArgumentError, match="colour"):
        list(database.records(colour="red"))
    with pytest.raises(ArgumentError, match="cellar"):
        list(database.records("cellar"))
    assert database.counts()["shipped"] == 2


def test_default_record() -> None:
    """The fastest default of the same problem, device and environment."""
    database = Database(None)
    database.add_all(
        [
            trial(1, 2e-3, default=True),
            trial(2, 3e-3, default=True, kernel="other"),
            trial(3, 1e-3),
            trial(4, 1e-4, default=True, fingerprint=OTHER),
            trial(5, 1e-4, default=True, problem=NEAR),
        ]
    )
    assert database.default_record(trial(3, 1e-3)) == trial(1, 2e-3, default=True)
    assert database.default_record(trial(3, problem="gemm float32 nn m=1 n=1 k=1")) is None


def test_default_record_of_the_user_comes_before_a_shipped_one(tmp_path: Path) -> None:
    """A shipped default of a faster day is no measure for what the user has timed."""
    shipped = tmp_path / "shipped.jsonl"
    shipped.write_text(trial(1, 1e-4, default=True).to_json() + "\n", "utf-8")
    database = Database(None, [shipped])
    assert database.default_record(trial(3, 1e-3)) == trial(1, 1e-4, default=True)
    database.add(trial(1, 2e-3, default=True))
    assert database.default_record(trial(3, 1e-3)) == trial(1, 2e-3, default=True)


def test_stale_winners() -> None:
    """What only another environment has measured is listed for revalidation."""
    database = Database(None)
    database.add_all([trial(1), trial(2, 2e-3, fingerprint=UPDATED), trial(3, problem=NEAR)])
    assert [r.problem for r in database.stale(UPDATED)] == [NEAR]
    assert database.stale(HERE) == []
    assert database.stale(OTHER) == []


def test_tried() -> None:
    """All Configs that this device and environment has measured or failed, per kernel version."""
    database = Database(None)
    database.add_all(
        [
            trial(1), trial(2, failure="timeout"), trial(3, version=2), trial(4, kernel="other"),
            trial(5, fingerprint=UPDATED), trial(6, fingerprint=OTHER), trial(7, problem=NEAR),
        ]
    )  # fmt: skip
    assert {c["tile"] for c in database.tried(PROBLEM, HERE, "blocked", 1)} == {1, 2}


# What cannot be written.


def _check_overlay(database: Database, message: str) -> None:
    """Add trials of which nothing can be kept: one warning, and they count in this process."""
    with pytest.warns(HwkitWarning, match=message) as caught:  # noqa: PT031
        database.add(trial(1))
        token = database.begin(PROBLEM, ARCH, HERE, "blocked", 1, Config({"tile": 2}))
        assert {c["tile"] for c in database.tried(PROBLEM, HERE, "blocked", 1)} >= {1}
        database.finish(token, trial(2, 5e-4))
        database.add(trial(3, 2e-3))
    assert len([w for w in caught if "not kept" in str(w.message)]) == 1
    assert "HWKIT_DB" in str(caught[0].message)
    match = next(database.candidates(PROBLEM, ARCH, HERE))
    assert (match.source, match.record.config["tile"]) == ("user record", 2)
    assert database.counts()["not_kept"] == 3
    assert database.counts()["trials"] == 3


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A home that is a file: trials are kept in memory, one warning says so."""
    (tmp_path / "home").write_text("a file")
    _check_overlay(Database(tmp_path / "home" / "tuning.db"), "not kept.*folder is a file")


def test_a_path_that_is_a_folder(tmp_path: Path) -> None:
    """A folder as the file: the same."""
    with pytest.warns(HwkitWarning):
        _check_overlay(Database(tmp_path), "not kept.*folder")


def test_a_full_disk(path: Path) -> None:
    """A disk without room: what was there stays, what comes is in memory."""
    database = Database(path)
    database.add(trial(9, 9e-3))
    pages = database._user._file.write(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    limit = f"PRAGMA max_page_count = {pages}"
    database._user._file.write(lambda c: c.execute(limit).fetchone())
    with pytest.warns(HwkitWarning, match="not kept.*disk is full"):
        database.add_all(trial(t, 1e-3 * (2 + t)) for t in range(100))
    assert database.counts()["not_kept"] == 100
    assert len(list(database.candidates(PROBLEM, ARCH, HERE))) == 100
    # As soon as there is room, everything is written.
    database._user._file.write(lambda c: c.execute("PRAGMA max_page_count = 100000").fetchone())
    database.add(trial(200))
    assert database.counts()["not_kept"] == 0
    database.close()
    assert len(list(Database(path).records())) == 102


def test_a_locked_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another process keeps locked: reading goes on, writing waits once, then not."""
    monkeypatch.setattr("hwkit.records.connection.PATIENCE", 0.2)
    database = Database(path)
    database._user._file.patience = 0.2
    database.add(trial(9, 9e-3))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.warns(HwkitWarning, match="not kept.*locked"):
        database.add(trial(1))
    assert [m.record.config["tile"] for m in database.candidates(PROBLEM, ARCH, HERE)] == [1, 9]
    other.execute("COMMIT")
    other.close()
    database.add(trial(2, 2e-3))
    assert database.counts()["not_kept"] == 0
    database.close()
    assert len(list(Database(path).records())) == 3


def test_a_file_that_is_read_only(path: Path) -> None:
    """A Database for reading never writes; what is added stays in memory without a warning."""
    database = Database(path)
    database.add(trial(1))
    database.close()
    before = path.read_bytes()
    reader = Database(path, read_only=True)
    reader.add(trial(2, 5e-4))
    found = [m.record.config["tile"] for m in reader.candidates(PROBLEM, ARCH, HERE)]
    assert found == [2, 1]
    reader.close()
    assert path.read_bytes() == before
    with pytest.raises(DatabaseError, match="cannot be cleaned"):
        reader.gc(0, quarantine=True)


def test_wrong_arguments_of_a_database(tmp_path: Path) -> None:
    """A path that is none, and an age that is no number, are one sentence."""
    with pytest.raises(ArgumentError, match="path 5 must be that of a file"):
        Database(5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="days='old' must be a number"):
        Database(None).gc("old")  # type: ignore[arg-type]
    assert Database(str(tmp_path / "a.db")).gc(np.int64(90))["failed"] == 0  # type: ignore[arg-type]


def test_a_file_of_a_later_hwkit(path: Path) -> None:
    """A future schema is read as far as it is known, and never written."""
    database = Database(path)
    database.add(trial(1))
    database.close()
    connection = sqlite3.connect(path)
    connection.executescript("PRAGMA user_version = 9; CREATE TABLE news (x);")
    connection.close()
    before = path.read_bytes()
    with pytest.warns(HwkitWarning, match="later hwkit") as caught:  # noqa: PT031
        later = Database(path)
        assert next(later.candidates(PROBLEM, ARCH, HERE)).record == trial(1)
        later.add(trial(2, 5e-4))
        assert next(later.candidates(PROBLEM, ARCH, HERE)).record == trial(2, 5e-4)
    assert len(caught) == 2
    later.close()
    assert path.read_bytes() == before


def test_another_programs_file(tmp_path: Path) -> None:
    """A database of another program is left as it is, whatever is asked."""
    path = tmp_path / "photos.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE photos (x)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.warns(HwkitWarning, match="another program"):
        _check_overlay(Database(path), "not kept.*another program")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["photos.db"]


# Shipped records.


def test_shipped_lines_that_are_bad(tmp_path: Path) -> None:
    """Bad lines of a shipped file are left out and counted, never the file; once per file."""
    file = tmp_path / "a.jsonl"
    bad = trial(2).to_json().replace("tile=2", "tile=3")
    file.write_text(f"{trial(1).to_json()}\n{bad}\n{trial(4, 2e-3).to_json()}\n")
    database = Database(None, shipped=[file, tmp_path / "absent.jsonl"])
    with pytest.warns(HwkitWarning, match="2 shipped records are left out") as caught:
        found = [m.record.config["tile"] for m in database.candidates(PROBLEM, ARCH, HERE)]
    assert found == [1, 4]
    assert len(caught) == 1
    assert database.counts()["bad"] == 2
    assert set(database.verify()) == {"a.jsonl:2", "absent.jsonl"}


def test_shipped_files_are_read_for_the_arch_asked(tmp_path: Path) -> None:
    """A first call does not read the records of other machines; a portfolio reads all."""
    write_lines(tmp_path / "a.jsonl", [trial(1), trial(2, arch="sm_90", fingerprint=OTHER)])
    database = Database(None, shipped=[tmp_path / "a.jsonl"])
    assert next(database.candidates(PROBLEM, ARCH, HERE)).source == "shipped record"
    assert len(list(database._shipped.store(ARCH))) == 1
    assert [r.arch for r in database.portfolio(PROBLEM, ARCH, HERE)] == [ARCH, "sm_90"]


def test_long_lines(tmp_path: Path) -> None:
    """A line without an end is skipped without being read into memory at once."""
    file = tmp_path / "a.jsonl"
    file.write_text("x" * 300_000 + "\n" + trial(1).to_json() + "\n" + "{" * 70_000)
    bad: dict[str, str] = {}
    assert list(read_lines(file, bad)) == [trial(1)]
    assert list(bad) == ["a.jsonl:1", "a.jsonl:3"]


def test_a_failed_export_leaves_the_old_file(tmp_path: Path) -> None:
    """A file is written in full or not at all."""
    write_lines(tmp_path / "a.jsonl", [trial(1)])

    def broken() -> object:
        yield trial(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_lines(tmp_path / "a.jsonl", broken())  # type: ignore[arg-type]
    assert list(read_lines(tmp_path / "a.jsonl", {})) == [trial(1)]
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


# Housekeeping.


def test_gc_keeps_every_winner(path: Path) -> None:
    """Old failures and superseded trials go, the winner of each kernel and policy stays."""
    database = Database(path)
    records = [
        trial(1, 1e-3),
        trial(1, 0.9e-3, samples=1, at=1),
        trial(2, 1.005e-3),
        trial(3, 9e-3),
        trial(4, 0.5e-3, strict=False),
        trial(5, failure="crash"),
        trial(6, 2e-3, kernel="other"),
        trial(7, 3e-3, kernel="other", deterministic=True),
        trial(8, 4e-3, problem=NEAR),
    ]
    database.add_all(records)
    before = [m.record for m in database.candidates(PROBLEM, ARCH, HERE)]
    assert database.gc() == {"superseded": 0, "failed": 0, "quarantine": 0, "bad": 0}
    assert database.gc(days=1e5)["superseded"] == 0
    removed = database.gc(days=1)
    assert removed == {"superseded": 2, "failed": 1, "quarantine": 0, "bad": 0}
    left = {(r.config["tile"], len(r.measurement.samples)) for r in database.records()}
    assert left == {(1, 31), (2, 31), (4, 31), (6, 31), (7, 31), (8, 31)}
    after = [m.record for m in database.candidates(PROBLEM, ARCH, HERE)]
    assert [r for r in before if r in set(after)] == after
    assert after[0] == before[0]
    database.close()


def test_gc_of_damaged_rows(path: Path) -> None:
    """Rows that fail their check are listed, and removed on request; wrong keys are mended."""
    database = Database(path)
    database.add_all([trial(1), trial(2), trial(3)])
    database.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE trials SET config = 'tile=77' WHERE config = 'tile=2'")
    connection.execute("UPDATE trials SET score = 1e-9 WHERE config = 'tile=3'")
    connection.commit()
    connection.close()
    with pytest.warns(HwkitWarning, match="damaged rows"):
        assert len(database.verify()) == 2
    assert database.gc(bad=True)["bad"] == 2
    assert database.verify() == {}
    assert sorted(r.config["tile"] for r in database.records()) == [1, 3]  # type: ignore[type-var]
    database.close()


def test_threads_share_a_database(path: Path) -> None:
    """Threads that add and ask at once lose nothing."""
    database = Database(path)
    wrong: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(8):
                database.add(trial(number * 100 + step, 1e-3 * (1 + step)))
                assert next(database.candidates(PROBLEM, ARCH, HERE)).record.ok
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert database.counts()["trials"] == 48
    database.close()


def test_a_database_prints_its_path(path: Path) -> None:
    """Its text is what would be typed."""
    assert repr(Database(None)) == "Database(None)"
    assert repr(Database(path)) == f"Database({str(path)!r})"


def test_warnings_as_errors_leave_it_whole(tmp_path: Path) -> None:
    """Where a user makes warnings errors, the Database is still usable afterwards."""
    database = Database(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(HwkitWarning):
            database.add(trial(1))
    database.add(trial(1))
    with pytest.warns(HwkitWarning, match="not used"):
        assert database.counts()["trials"] == 1
