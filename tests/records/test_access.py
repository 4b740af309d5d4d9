"""Tests of damage: whatever has become of a file, nothing crashes and no wrong config is used."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
import threading
import warnings
from itertools import islice
from pathlib import Path

import pytest

from hwkit import Config, HwkitWarning
from hwkit.records import Database, Record
from hwkit.records.store import Store

from .trials import ARCH, HERE, OTHER, PROBLEM, trial

NEAR = "gemm float32 nn m=65 n=64 k=64"
ALL = [
    *[trial(t, 1e-3 * (1 + t / 50), 5, at=t) for t in range(40)],
    *[trial(t, 1e-3 * (1 + t / 50), 5, at=t, problem=NEAR, fingerprint=OTHER) for t in range(20)],
    *[trial(t, failure="wrong", at=t) for t in range(100, 110)],
]
_MEMORY = Path("/dev/shm")
UNDER_WAY = Config({"tile": 500})
IDS = {r.id for r in ALL}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sound file with all trials and a candidate under way."""
    path = tmp_path_factory.mktemp("sound") / "tuning.db"
    database = Database(path)
    database.add_all(ALL)
    database.begin(PROBLEM, ARCH, HERE, "blocked", 1, UNDER_WAY)
    database.close()
    return path


@pytest.fixture
def path(sound: Path, tmp_path: Path) -> Path:
    """Return a copy of the sound file."""
    return Path(shutil.copy(sound, tmp_path / "tuning.db"))


def aside(path: Path, number: int = 1) -> Path:
    """Return the name of a damaged file."""
    return path.with_name(f"{path.name}.damaged-{number}")


def use(path: Path) -> tuple[list[Record], list[str], Database]:
    """Do with a file what a program does; return what was offered, the warnings, the Database."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        database = Database(path)
        offered = [m.record for m in database.candidates(PROBLEM, ARCH, HERE)]
        database.tried(PROBLEM, HERE, "blocked", 1)
        database.portfolio(PROBLEM, ARCH, HERE)
        database.add(trial(900, 5e-3, at=1000))
        offered += [m.record for m in islice(database.candidates(PROBLEM, ARCH, HERE), 5)]
        offered += list(database.records())
    assert all(issubclass(w.category, HwkitWarning) for w in caught), [
        str(w.message) for w in caught
    ]
    return offered, [str(w.message) for w in caught], database


def check(path: Path) -> list[str]:
    """Use a mutant: only true records may be offered, and the new trial must be kept."""
    offered, said, database = use(path)
    new = trial(900, 5e-3, at=1000)
    # The candidate under way may have become a crash, its id hangs on the time.
    wrong = [r for r in offered if r.id not in IDS and r != new and r.config != UNDER_WAY]
    assert not wrong
    assert new in offered
    assert not [r for r in offered if r.config == UNDER_WAY and r.ok]
    database.close()
    return said


def test_a_file_that_is_no_database(path: Path) -> None:
    """Notes of somebody's are left alone, and new trials kept in memory, with warnings."""
    notes = b"notes of mine, longer than a header " * 99
    path.write_bytes(notes)
    offered, said, database = use(path)
    assert len(said) == 2
    assert "is not used, it is a file of another kind" in said[0]
    assert "new trials are not kept" in said[1]
    assert offered[-1] == trial(900, 5e-3, at=1000)
    database.close()
    assert [*path.parent.iterdir()] == [path]
    assert path.read_bytes() == notes


@pytest.mark.parametrize("lost", [16, 100, 10**9])
def test_a_file_that_has_lost_its_beginning(path: Path, lost: int) -> None:
    """A database whose first bytes are gone, or of zeros after a power cut, is set aside."""
    raw = path.read_bytes()
    path.write_bytes(bytes(min(lost, len(raw))) + raw[lost:])
    offered, said, database = use(path)
    assert len(said) == 1
    assert "was damaged (file is not a database)" in said[0]
    assert "tuning.db.damaged-1; 0 trials" in said[0]
    assert offered[-1] == trial(900, 5e-3, at=1000)
    database.close()
    path.write_bytes(bytes(9999))
    assert "damaged-2" in use(path)[1][0]


def test_readable_trials_are_brought_over(path: Path) -> None:
    """Where only an index is broken, every trial is saved; the old file stays beside."""
    connection = sqlite3.connect(path)
    connection.execute("DROP INDEX by_score")
    connection.close()
    offered, said, database = use(path)
    assert len(said) == 1
    assert f"{len(ALL) + 1} trials that can be read are in a new one" in said[0]
    assert offered[0] == ALL[0]
    assert {r.id for r in database.records()} >= IDS
    assert database.verify() == {}
    database.close()
    assert aside(path).exists()
    assert use(path)[1] == []


def test_a_torn_page_costs_only_its_rows(path: Path) -> None:
    """A page of nonsense in the middle: the trials of the other pages are saved."""
    raw = bytearray(path.read_bytes())
    size = int.from_bytes(raw[16:18], "big")
    pages = len(raw) // size
    saved = []
    for page in range(1, pages):
        mutant = path.with_name(f"page {page}.db")
        torn = bytearray(raw)
        torn[page * size : (page + 1) * size] = random.Random(page).randbytes(size)
        mutant.write_bytes(torn)
        check(mutant)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            saved.append(len({r.id for r in Database(mutant).records()} & IDS))
    # One page holds the tree's root, one the devices; most cost a few rows or an index only.
    assert sorted(saved)[len(saved) // 2] > len(ALL) // 2


def test_what_was_written_is_written_again(path: Path) -> None:
    """If the file is damaged during a run, the trials of that run are not lost with it."""
    database = Database(path)
    database.add(trial(900, at=1000))
    database.finish(
        database.begin(PROBLEM, ARCH, HERE, "blocked", 1, Config({"tile": 1})), trial(1)
    )
    database.close()
    path.write_bytes(bytes(4096) + b"nonsense" * 99)
    with pytest.warns(HwkitWarning, match="2 trials that can be read"):
        assert set(database.records()) == {trial(900, at=1000), trial(1)}
    database.close()


def test_a_header_that_forbids_writing(path: Path) -> None:
    """A flipped bit in the header's version of the format is damage, not a lack of rights."""
    raw = bytearray(path.read_bytes())
    raw[18] |= 64
    path.write_bytes(raw)
    assert "damaged" in check(path)[0]
    assert aside(path).exists()


def test_hostile_rows(path: Path) -> None:
    """Rows that claim what is not so are left out, counted and said once."""
    connection = sqlite3.connect(path, isolation_level=None)
    for change in (
        "config = 'tile=7777'",
        "config = 'tile=' || char(0) || '1'",
        "config = ''",
        "seconds = 1e-12, score = 1e-12",
        "samples = '[1e-12]', score = 1e-12",
        "samples = '[[[['",
        "kernel = 'winograd'",
        "error = 0.0",
        "created = '9999-01-01T00:00:00.000000+00:00'",
        "strict = 0",
        "is_default = 1",
        "reason = x'ff'",
        "id = zeroblob(16)",
        "device_key = device_key + 1",
        "problem = 'gemm float32 nn m=64 n=64 k=64 +relu'",
    ):
        where = "SELECT min(rowid) FROM trials WHERE failure IS NULL AND reason = ''"
        try:
            connection.execute(f"UPDATE trials SET reason = 'x', {change} WHERE rowid = ({where})")
        except sqlite3.Error:
            connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.close()
    offered, said, database = use(path)
    assert {r.id for r in offered} <= {*IDS, trial(900, 5e-3, at=1000).id}
    assert len(said) == 1
    assert "damaged rows" in said[0]
    assert database.counts()["bad"] >= 12
    with pytest.warns(HwkitWarning, match="damaged rows"):
        assert len(database.verify()) >= 12
    database.close()
    assert not aside(path).exists()


def test_a_damaged_device_is_written_anew(path: Path) -> None:
    """The trials of the device at hand survive its damaged row, which the next trial mends."""
    connection = sqlite3.connect(path)
    connection.execute("UPDATE devices SET environment = replace(environment, '0.1.0', '0.1.9')")
    connection.commit()
    connection.close()
    offered, said, database = use(path)
    assert offered[0] == ALL[0]
    assert said  # the other device is damaged too, and stays so
    database.close()
    again = Database(path, read_only=True)
    assert next(again.candidates(PROBLEM, ARCH, HERE)).record == ALL[0]
    again.close()


def mutate(raw: bytes, rng: random.Random) -> bytes:
    """Return a file with flipped bits, a changed or lost part, or something of each."""
    mutant = bytearray(raw)
    kind = rng.choice(("bits", "bits", "bits", "header", "cut", "zeros", "swap", "noise", "append"))
    size = 4096
    if kind == "bits":
        for _ in range(rng.choice((1, 1, 1, 4, 64))):
            mutant[rng.randrange(len(mutant))] ^= 1 << rng.randrange(8)
    elif kind == "header":
        mutant[rng.randrange(100)] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del mutant[rng.randrange(len(mutant)) :]
    elif kind == "append":
        mutant += rng.randbytes(rng.randrange(1, 3 * size))
    else:
        start = rng.randrange(0, len(mutant) - size)
        length = rng.choice((1, 16, 512, size))
        part = {"zeros": bytes(length), "noise": rng.randbytes(length)}.get(kind)
        if part is None:
            other = rng.randrange(0, len(mutant) - size)
            part = bytes(mutant[other : other + length])
        mutant[start : start + length] = part
    return bytes(mutant)


def _mutants(sound: Path, folder: Path, count: int, seed: int) -> None:
    # In memory where there is such a place: each mutant costs a dozen syncs.
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else folder) as place:
        _check_mutants(sound, Path(place), folder, count, seed)


def _check_mutants(sound: Path, place: Path, folder: Path, count: int, seed: int) -> None:
    raw, rng = sound.read_bytes(), random.Random(seed)
    outcomes: dict[str, int] = {}
    for number in range(count):
        path = place / "mutant" / "tuning.db"
        path.parent.mkdir()
        mutant = mutate(raw, rng)
        path.write_bytes(mutant)
        try:
            said = check(path)
        except BaseException:
            (folder / f"failed-{seed}-{number}.db").write_bytes(mutant)
            raise
        kind = "quiet"
        for line in said:
            kind = "aside" if ".damaged-1" in line else "rows" if "rows" in line else "other"
        outcomes[kind] = outcomes.get(kind, 0) + 1
        shutil.rmtree(path.parent)
    # The mutants do damage: they are not all met by luck.
    assert outcomes.get("aside", 0) > count // 20, outcomes
    assert outcomes.get("rows", 0) > count // 20, outcomes


@pytest.mark.parametrize("seed", range(3))
def test_mutants(sound: Path, tmp_path: Path, seed: int) -> None:
    """Of 300 damaged files none crashes, offers a wrong record, or stops new trials."""
    _mutants(sound, tmp_path, 100, seed)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_ten_thousand_mutants(sound: Path, tmp_path: Path) -> None:
    """The same with 10 000."""
    _mutants(sound, tmp_path, 10_000, 99)


@pytest.mark.parametrize("_", range(20))
def test_several_threads_meet_a_damaged_file(path: Path, _: int) -> None:
    """One sets it aside, the others go on with the new one: nothing is set aside twice."""
    path.write_bytes(bytes(4096) + b"nonsense" * 99)
    stores = [Store(path) for _ in range(4)]
    start = threading.Barrier(4)
    wrong: list[BaseException] = []

    def work(store: Store, number: int) -> None:
        start.wait()
        try:
            store.add([trial(number)])
        except BaseException as error:
            wrong.append(error)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HwkitWarning)
        threads = [threading.Thread(target=work, args=(s, n)) for n, s in enumerate(stores)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    assert not aside(path, 2).exists()
    assert {r.config["tile"] for r in stores[0]} == {0, 1, 2, 3}
    for store in stores:
        store.close()
