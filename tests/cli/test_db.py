"""``hwkit db``: winners, candidates, and the ways of records."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hwkit import HwkitWarning
from hwkit.cli.database import facts
from hwkit.cli.options import require_writable
from hwkit.dispatch import database
from hwkit.records import Database
from hwkit.registry import registry

from .conftest import Hwkit, record

GEMM = "gemm float32 nn m=64 n=64 k=64"
CONV = "conv2d float32 nchw n=1 c=4 h=8 w=8 k=4 r=3 s=3 pad=1 stride=1"


@pytest.fixture
def filled(db: Path) -> Path:
    """A database with a gemm (a default, a winner, a tie, two failures) and a convolution."""
    kept = Database(db)
    kept.add(record(GEMM, 2e-3, "tile=8", default=True))
    kept.add(record(GEMM, 1e-3, "tile=16"))
    kept.add(record(GEMM, 1.001e-3, "tile=32"))
    kept.add(record(GEMM, config="tile=1", failure="wrong"))
    kept.add(record(GEMM, config="tile=2", failure="timeout"))
    kept.add(record(CONV, 3e-3, "tile=8"))
    kept.close()
    return db


def test_ls(hwkit: Hwkit, filled: Path) -> None:
    """Each problem has its winner below it: time, gain over the default, trials, age, config."""
    answer = hwkit("db", "ls")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0] == "fake-0"
    assert lines[1] == CONV
    assert lines[3] == GEMM
    assert lines[4].split() == [
        *("1.00", "ms", "2.00x", "default", "5", "trials"),
        *(lines[4].split()[6:9]), "fake", "tile=16",
    ]  # fmt: skip
    assert lines[4].split()[8] == "old"


def test_ls_json_and_filters(hwkit: Hwkit, filled: Path) -> None:
    """The JSON has the winner, its ties and the failures; the filters filter."""
    (group,) = hwkit("db", "ls", "--op", "gemm", "--json").json["problems"]
    assert group["problem"] == GEMM
    assert group["trials"] == 5
    assert group["failures"] == {"wrong": 1, "timeout": 1}
    assert group["winner"]["config"] == {"tile": 16}
    assert [tie["config"] for tie in group["ties"]] == [{"tile": 32}]
    assert group["speedup_over_default"] == pytest.approx(2.0)
    assert hwkit("db", "ls", "--arch", "vax").code == 1


@pytest.mark.parametrize(
    ("kernel", "why"),
    [
        ("fake", "no plugin here brings kernel fake"),
        ("packed_gemm", "kernel packed_gemm is version 1, this is of version 7"),
    ],
)
def test_a_winner_that_calls_do_not_run_is_marked(
    hwkit: Hwkit, db: Path, kernel: str, why: str
) -> None:
    """On this device's arch, where its plugin is gone or brings another version."""
    arch = registry().device("cpu:0").arch
    kept = Database(db)
    kept.add(replace(record(GEMM, arch=arch), kernel=kernel, version=7))
    kept.add(record(CONV, arch="vax"))
    kept.close()
    for words in (["ls"], ["show", GEMM]):
        answer = hwkit("db", *words)
        assert answer.out.count("calls do not run it") == 1
        assert why in answer.out
    devices = hwkit("db", "show", GEMM, "--json").json["devices"]
    assert [why in device["unused"] for device in devices] == [True]
    assert hwkit("db", "ls", "--op", "conv2d", "--json").json["problems"][0]["unused"] is None


def test_ls_of_nothing(hwkit: Hwkit) -> None:
    """An empty database says what to type, with exit code 1."""
    answer = hwkit("db", "ls")
    assert answer.code == 1
    assert "hwkit tune" in answer.out


def test_ls_of_a_filter_that_finds_nothing(hwkit: Hwkit, filled: Path) -> None:
    """The filter is named, and an operator that does not exist is a mistake."""
    answer = hwkit("db", "ls", "--op", "matmul")
    assert answer.code == 1
    assert answer.out.startswith("nothing with op matmul has been tuned yet: type 'hwkit tune")
    answer = hwkit("db", "ls", "--op", "gem")
    assert (answer.code, answer.out) == (2, "")
    assert "did you mean 'gemm'" in answer.err


@pytest.mark.parametrize(
    "words",
    [["ls"], ["show", GEMM], ["export", "out"], ["verify"], ["gc", "--bad"], ["revalidate"]],
    ids=lambda words: words[0],
)
def test_a_database_that_is_not_there(
    hwkit: Hwkit, fake: None, tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt --db is not an empty database: what reads it says that it is not there."""
    monkeypatch.chdir(tmp_path)
    answer = hwkit("db", *words, "--db", "nothing.db")
    assert (answer.code, answer.out) == (4, "")
    assert "nothing.db is not there" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_show(hwkit: Hwkit, filled: Path) -> None:
    """The winner is first, ties and defaults are marked, failures have class and reason."""
    answer = hwkit("db", "show", GEMM)
    assert answer.code == 0
    rows = [line.split() for line in answer.out.splitlines() if "tile=" in line]
    assert rows[0][:3] == ["1.00", "ms", "1.00x"]
    assert rows[0][-3:] == ["best", "fake", "tile=16"]
    assert rows[1][-3:] == ["tie", "fake", "tile=32"]
    assert rows[2][-3:] == ["default", "fake", "tile=8"]
    failures = sorted(" ".join(row) for row in rows[3:])
    assert failures == [
        "timeout: fake tile=2: it was not to be",
        "wrong: fake tile=1: it was not to be",
    ]


def test_show_json_and_top(hwkit: Hwkit, filled: Path) -> None:
    """``--top`` limits the candidates; the words of a problem need no quotes."""
    answer = hwkit("db", "show", *GEMM.split(), "--top", "2", "--json")
    (device,) = answer.json["devices"]
    assert [each["seconds"] for each in device["standing"]] == [1e-3, 1.001e-3]


def test_show_of_nothing(hwkit: Hwkit, filled: Path) -> None:
    """A problem without a record says how to tune it."""
    answer = hwkit("db", "show", "gemm float32 nn m=1 n=1 k=1")
    assert answer.code == 1
    assert "no record: type 'hwkit tune --problem \"gemm float32 nn m=1 n=1 k=1\"'" in answer.out


def test_export_import(hwkit: Hwkit, filled: Path, tmp_path: Path) -> None:
    """What is exported is imported elsewhere once, and winners can be exported alone."""
    file, other = str(tmp_path / "records.jsonl"), str(tmp_path / "other.db")
    assert hwkit("db", "export", file).out == f"6 records written to {file}\n"
    assert len(Path(file).read_text().splitlines()) == 6
    assert hwkit("db", "import", file, "--db", other).out == f"6 new records from {file}\n"
    again = hwkit("db", "import", file, "--db", other, "--json").json
    assert (again["file"], again["records"]) == (file, 0)
    assert hwkit("db", "export", file, "--winners", "--op", "gemm", "--json").json["records"] == 1


def test_import_of_a_changed_line(hwkit: Hwkit, filled: Path, tmp_path: Path) -> None:
    """A line that was changed is left out, which a warning says; the rest is taken."""
    file = tmp_path / "records.jsonl"
    hwkit("db", "export", str(file))
    lines = file.read_text().splitlines()
    lines[2] = lines[2].replace('"version":1', '"version":2')
    file.write_text("\n".join(lines))
    answer = hwkit("db", "import", str(file), "--db", str(tmp_path / "other.db"))
    assert answer.code == 0
    assert answer.out == f"5 new records from {file}\n"
    assert answer.err.startswith("hwkit: warning: 1 record of ")
    assert "records.jsonl:3" in answer.err
    assert answer.err.count("\n") == 1


def test_merge(hwkit: Hwkit, filled: Path, tmp_path: Path) -> None:
    """Another database is taken over; twice is once."""
    other = tmp_path / "other.db"
    kept = Database(other)
    kept.add(record(GEMM, 0.5e-3, "tile=64"))
    kept.close()
    assert hwkit("db", "merge", str(other)).out == f"1 new record from {other}\n"
    assert hwkit("db", "merge", str(other)).out == f"0 new records from {other}\n"
    (group,) = hwkit("db", "ls", "--op", "gemm", "--json").json["problems"]
    assert group["winner"]["config"] == {"tile": 64}


@pytest.mark.parametrize("command", ["import", "merge"])
def test_a_file_that_is_not_there(hwkit: Hwkit, tmp_path: Path, command: str) -> None:
    """A missing file is a database error: one sentence, exit code 4."""
    answer = hwkit("db", command, str(tmp_path / "nothing"))
    assert (answer.code, answer.out) == (4, "")
    assert "is not a file" in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize("words", [["ls"], ["gc", "--bad"], ["merge", "model.onnx"]])
def test_a_file_of_another_kind_stays(
    hwkit: Hwkit, tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that --db names by mistake is not taken for a damaged database, and not renamed."""
    monkeypatch.chdir(tmp_path)
    Path("model.onnx").write_bytes(b"ir_version: 9")
    answer = hwkit("db", *words, "--db", "model.onnx")
    assert (answer.code, answer.out) == (4, "")
    assert "model.onnx is no tuning database" in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("words", [["db", "ls"], ["tune", "--budget", "1s", "--problem", GEMM]])
def test_a_setting_that_names_another_file(hwkit: Hwkit, db: Path, words: list[str]) -> None:
    """So is one that HWKIT_DB names, before anything is learnt that could not be kept."""
    db.write_text("notes of mine")
    answer = hwkit(*words)
    assert (answer.code, answer.out) == (4, "")
    assert f"{db} is no tuning database: set HWKIT_DB to" in answer.err
    assert db.read_text() == "notes of mine"


@pytest.mark.parametrize("command", ["import", "merge"])
def test_what_cannot_be_kept_is_not_taken_over(
    hwkit: Hwkit, filled: Path, tmp_path: Path, command: str
) -> None:
    """Records that would be forgotten when the command ends are an error, not new records."""
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "tuning.db"
    answer = hwkit("db", command, str(filled), "--db", str(target))
    assert (answer.code, answer.out) == (4, "")
    assert f"{filled} was not taken over" in answer.err


def test_a_home_that_is_not_known(hwkit: Hwkit, monkeypatch: pytest.MonkeyPatch) -> None:
    """``~nobody`` is a sentence with exit code 2, wherever a path is given."""
    path = "~no-such-user/x"
    for words in (["ls", "--db", path], ["export", path], ["import", path]):
        answer = hwkit("db", *words)
        assert (answer.code, answer.out) == (2, "")
        assert "write the whole path" in answer.err
        assert answer.err.count("\n") == 1


def test_a_folder_that_may_not_be_looked_into(
    hwkit: Hwkit, db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing rights are said in one sentence, not shown as a bug."""
    known = Path.stat

    def stat(path: Path, **named: Any) -> Any:
        if path.suffix == ".db":
            raise PermissionError(errno.EACCES, "Permission denied")
        return known(path, **named)

    monkeypatch.setattr(Path, "stat", stat)
    answer = hwkit("db", "ls", "--db", str(tmp_path / "closed.db"))
    assert (answer.code, answer.out) == (4, "")
    assert "closed.db cannot be read (Permission denied)" in answer.err
    with pytest.warns(HwkitWarning, match="Permission denied"):
        assert not facts()["exists"]
    require_writable(tmp_path / "report.db")


def test_export_to_nowhere(hwkit: Hwkit, filled: Path, tmp_path: Path) -> None:
    """A folder that does not exist is a database error as well."""
    answer = hwkit("db", "export", str(tmp_path / "no" / "file"))
    assert answer.code == 4
    assert "cannot be written" in answer.err


def test_an_export_replaces_no_database(hwkit: Hwkit, filled: Path, tmp_path: Path) -> None:
    """Neither the one that is read nor another: a slip of the tongue would lose what was learnt."""
    link = tmp_path / "link"
    link.symlink_to(filled)
    for name in (filled, link):
        answer = hwkit("db", "export", str(name))
        assert answer.code == 4
        assert "is a database, which would be lost" in answer.err
    assert hwkit("db", "verify", "--json").json["counts"]["trials"] == 6


def test_an_export_to_a_link_or_a_pipe(hwkit: Hwkit, filled: Path, tmp_path: Path) -> None:
    """They stay what they are, and what is behind them gets the records."""
    file, link, pipe = (tmp_path / name for name in ("file", "link", "pipe"))
    link.symlink_to(file)
    assert hwkit("db", "export", str(link)).code == 0
    assert link.is_symlink()
    assert len(file.read_text().splitlines()) == 6
    os.mkfifo(pipe)
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(pipe.read_text().splitlines()))
    reader.start()
    assert hwkit("db", "export", str(pipe)).code == 0
    reader.join(30)
    assert pipe.is_fifo()
    assert len(lines) == 6


def test_an_export_of_a_misspelt_operator(hwkit: Hwkit, filled: Path, tmp_path: Path) -> None:
    """It is a mistake, as for 'ls', and makes no empty file."""
    answer = hwkit("db", "export", str(tmp_path / "out"), "--op", "gem")
    assert (answer.code, answer.out) == (2, "")
    assert "did you mean 'gemm'" in answer.err
    assert not (tmp_path / "out").exists()


def test_import_of_what_an_editor_has_saved(hwkit: Hwkit, filled: Path, tmp_path: Path) -> None:
    """A byte order mark and other ends of lines cost no record."""
    hwkit("db", "export", str(tmp_path / "file"))
    text = (tmp_path / "file").read_bytes()
    (tmp_path / "saved").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    answer = hwkit("db", "import", str(tmp_path / "saved"), "--db", str(tmp_path / "new.db"))
    assert (answer.out[:13], answer.err) == ("6 new records", "")


def test_show_of_an_operator_that_is_not_here(hwkit: Hwkit, filled: Path) -> None:
    """What 'ls' prints can be shown, whether its plugin is installed or not."""
    kept = Database(filled)
    kept.add(record("sort float32 n=8", 1e-3, "tile=8"))
    kept.close()
    answer = hwkit("db", "show", "sort", "float32", "n=8")
    assert answer.code == 0
    assert "tile=8" in answer.out
    assert hwkit("db", "show", "sort", "float32", "n=9").code == 2


@pytest.mark.parametrize(
    "words", [["ls", "--db", ""], ["export", ""], ["import", ""], ["merge", ""]]
)
def test_an_empty_path(hwkit: Hwkit, filled: Path, words: list[str]) -> None:
    """It is not the folder that one is in."""
    answer = hwkit("db", *words)
    assert answer.code == 2
    assert "is given as an empty text" in answer.err


def test_a_database_of_a_later_hwkit(hwkit: Hwkit, filled: Path, tmp_path: Path) -> None:
    """Doctor says that nothing can be kept there; an export that would be empty is none."""
    copy, out = tmp_path / "copy.db", tmp_path / "out"
    assert hwkit("db", "merge", str(filled), "--db", str(copy)).code == 0
    out.write_text("an earlier export")
    for statement, code in (
        ("CREATE TABLE news (x)", 0),
        ("ALTER TABLE trials RENAME COLUMN kernel TO algorithm", 4),
    ):
        connection = sqlite3.connect(filled)
        connection.executescript(f"PRAGMA user_version = 9; {statement}")
        connection.close()
        database.cache_clear()
        checks = hwkit("doctor", "--json").json["checks"]
        (found,) = [c for c in checks if (c["area"], c["name"]) == ("database", "writable")]
        assert found["state"] == "broken"
        answer = hwkit("db", "export", str(out), "--db", str(filled))
        assert answer.code == code
    assert "cannot be exported, it was made by a later hwkit" in answer.err
    assert len(out.read_text().splitlines()) == 6
    answer = hwkit("db", "verify", "--db", str(filled))
    assert answer.code == 1
    assert "gc --bad" not in answer.out


def test_verify_of_a_file_without_a_trial(hwkit: Hwkit, db: Path) -> None:
    """A damaged file is set aside, and where nothing can be read there is no new one."""
    db.write_bytes(b"SQLite format 3\0" + b"x" * 999)
    answer = hwkit("db", "verify", "--json")
    assert (answer.json["exists"], answer.json["bytes"]) == (False, 0)
    assert "was damaged" in answer.err
    assert list(db.parent.glob("tuning.db.damaged-*"))


def test_verify_and_gc(hwkit: Hwkit, filled: Path) -> None:
    """A row that was changed behind hwkit's back is found, told, and dropped on request."""
    counts, verdict = hwkit("db", "verify").out.splitlines()
    assert counts.startswith(f"6 records in {filled}, ")
    assert verdict == "all are sound"
    with sqlite3.connect(filled) as connection:
        connection.execute("UPDATE trials SET seconds = seconds / 2 WHERE config = 'tile=16'")
    connection.close()
    found = hwkit("db", "verify", "--json")
    assert found.code == 1
    assert len(found.json["wrong"]) == 1
    shown = hwkit("db", "verify")
    assert "1 wrong: type 'hwkit db gc --bad'" in shown.out
    doctor = hwkit("doctor", "--json").json
    damage = [check for check in doctor["checks"] if check["name"] == "damage"]
    assert [check["state"] for check in damage] == ["broken"]
    removed = hwkit("db", "gc", "--bad", "--json").json["removed"]
    assert removed["bad"] == 1
    assert hwkit("db", "verify").code == 0


def test_gc_needs_to_be_told_what(hwkit: Hwkit, filled: Path) -> None:
    """Nothing is removed by default."""
    answer = hwkit("db", "gc")
    assert answer.code == 2
    assert "--bad" in answer.err
    assert json.loads(hwkit("db", "verify", "--json").out)["counts"]["trials"] == 6


def test_gc_by_age_keeps_winners(hwkit: Hwkit, filled: Path) -> None:
    """Failures and superseded trials go; winners and ties stay."""
    assert hwkit("db", "gc", "--days", "0").code == 0
    (gemm,) = hwkit("db", "ls", "--op", "gemm", "--json").json["problems"]
    assert gemm["winner"]["config"] == {"tile": 16}
    assert len(gemm["ties"]) == 1
    assert gemm["trials"] < 5


def test_gc_by_an_age_that_is_none(hwkit: Hwkit, filled: Path) -> None:
    """Days beyond all dates remove nothing; what is no number is refused."""
    for days in ("inf", "1e9"):
        assert hwkit("db", "gc", "--days", days, "--json").json["removed"]["superseded"] == 0
    answer = hwkit("db", "gc", "--days", "nan")
    assert answer.code == 2
    assert answer.err == "hwkit: days=nan must be a number of at least 0, as 90\n"


def test_revalidate_has_nothing_to_do(hwkit: Hwkit, fake: None, filled: Path) -> None:
    """Records of this very environment are not stale."""
    assert hwkit("db", "revalidate").out == "nothing is stale on fake:0\n"
    answer = hwkit("db", "revalidate", "--json")
    assert answer.json["problems"] == []
    assert hwkit("db", "revalidate", "--budget", "soon").code == 2


def test_another_programs_file_is_left_alone(hwkit: Hwkit, db: Path, tmp_path: Path) -> None:
    """A file that is not a tuning database is neither used nor changed, and no traceback comes."""
    with sqlite3.connect(db) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()
    before = db.read_bytes()
    answer = hwkit("db", "ls")
    assert answer.code == 1
    assert answer.err.startswith("hwkit: warning: ")
    assert "Traceback" not in answer.err
    assert db.read_bytes() == before


def test_the_winner_fits_the_tolerance(hwkit: Hwkit, filled: Path) -> None:
    """A faster candidate whose error is beyond the budget wins only where more is allowed."""
    kept = Database(filled)
    kept.add(record(GEMM, 0.2e-3, "tile=64", error=1e-3))
    kept.close()

    def winner(*words: str) -> dict[str, int] | None:
        (group,) = hwkit("db", "ls", "--op", "gemm", "--json", *words).json["problems"]
        config: dict[str, int] | None = group["winner"] and group["winner"]["config"]
        return config

    assert winner() == {"tile": 16}
    assert winner("--tolerance", "1e-2") == {"tile": 64}
    assert winner("--tolerance", "strict") == {"tile": 16}
    assert winner("--tolerance", "deterministic") is None
    assert "outside the tolerance: 1 trial" in hwkit("db", "show", GEMM).out
