"""``hwkit tune``: what is asked, what is shown, what is kept."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hwkit import ArgumentError, tuner
from hwkit.cli.options import problems
from hwkit.dispatch import parse_problem
from hwkit.events import Note, ProblemFinished, ProblemStarted, TrialFinished, TuneResult
from hwkit.records import Database
from hwkit.registry import registry

from .conftest import Hwkit, record

GEMM = "gemm float32 nn m=16 n=16 k=16"
CONV = "conv2d float32 nchw n=1 c=4 h=6 w=6 k=4 r=3 s=3 pad=1 stride=1"


def _words(*texts: str) -> list[str]:
    return [word for text in texts for word in ("--problem", text)]


def test_tune_then_explain(hwkit: Hwkit, fake: None, db: Path) -> None:
    """The summary says what runs now; the records are kept; explain finds them."""
    answer = hwkit("tune", *_words(GEMM), "--trials", "12", "--budget", "60s")
    assert answer.code == 0, answer.err
    assert answer.err.startswith(f"1/1  {GEMM}\n")
    assert "  12 trials   ended by trials\n" in answer.err
    head, figures, _, total, kept = answer.out.splitlines()
    assert head == GEMM
    for text in ("us", "x the default (", " pairs)", "% of roofline", "fake order="):
        assert text in figures
    assert total.startswith("1 of 1 problem   in ")
    assert total.endswith("   12 trials")
    assert kept == f"kept in {db}"
    assert hwkit("explain", GEMM, "--json").json["source"] == "user record"
    assert hwkit("db", "verify", "--json").json["counts"]["trials"] >= 12


def test_tune_json(hwkit: Hwkit, fake: None, db: Path, tmp_path: Path) -> None:
    """One document with results and every trial; stderr stays empty; --db is where it is kept."""
    other = tmp_path / "other.db"
    answer = hwkit(
        "tune", *_words(GEMM, CONV), "--trials", "6", "--seed", "3", "--strategy", "random",
        "--db", str(other), "--json",
    )  # fmt: skip
    assert (answer.code, answer.err) == (0, "")
    found = answer.json
    assert found["command"] == "tune"
    assert found["device"] == "fake:0"
    assert found["database"] == str(other)
    assert {each["problem"] for each in found["problems"]} == {GEMM, CONV}
    assert found["trials"] == len(found["events"]) == 12
    assert not found["interrupted"]
    first = found["problems"][0]
    assert first["best"]["kernel"] == "fake"
    assert first["stopped_by"] == "trials"
    assert first["roofline_share"] > 0
    assert other.exists()
    assert not db.exists()


def _fake_tune(*events: Any, error: BaseException | None = None) -> Any:
    """Return a tuner that tells these events and then returns, or raises."""

    def tune(asked: Any, device: str, **options: Any) -> list[TuneResult]:
        for event in events:
            options["on_event"](event)
        if error is not None:
            raise error
        return []

    return tune


def _result(best: bool = True, stopped_by: str = "budget") -> TuneResult:
    winner = record(GEMM, 1e-3) if best else None
    failures = {"crash": 2, "wrong": 1}
    return TuneResult(parse_problem(GEMM), winner, winner, (), 3, failures, 0, 2.0, stopped_by, 0.5)


def _trial(failure: str | None = None) -> TrialFinished:
    trial = record(GEMM, 1e-3, failure=failure)
    return TrialFinished(trial, 1e-3, 1e-3, 0.5, 1, {failure: 1} if failure else {}, 10.0)


STARTED = ProblemStarted(1, 1, parse_problem(GEMM), 150, 5e-4, 30.0)


@pytest.mark.parametrize("how", ["result", "exception"])
def test_interrupt(hwkit: Hwkit, fake: None, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Ctrl-C prints what there is, says that nothing is lost, and ends with 130."""
    finished = ProblemFinished(_result(stopped_by="interrupted"))
    events = [STARTED, _trial(), *([finished] if how == "result" else [])]
    error = None if how == "result" else KeyboardInterrupt()
    monkeypatch.setattr(tuner, "tune", _fake_tune(*events, error=error))
    answer = hwkit("tune", *_words(GEMM))
    assert answer.code == 130
    assert f"{int(how == 'result')} of 1 problem" in answer.out
    assert answer.err.endswith("hwkit: interrupted; the same command goes on from here\n")
    assert hwkit("tune", *_words(GEMM), "--json").json["interrupted"]


def test_an_interrupt_before_the_first_trial(
    hwkit: Hwkit, fake: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has failed then, and the summary does not claim so."""
    result = _result(best=False, stopped_by="interrupted")
    finished = ProblemFinished(dataclasses.replace(result, trials=0, failures={}))
    monkeypatch.setattr(tuner, "tune", _fake_tune(STARTED, finished))
    answer = hwkit("tune", *_words(GEMM))
    assert answer.code == 130
    assert "interrupted, and nothing known yet" in answer.out
    assert "nothing runs" not in answer.out


def test_nothing_runs(hwkit: Hwkit, fake: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """If every candidate failed, the classes are told and the exit code is 1."""
    events = [STARTED, _trial("crash"), Note("the machine is busy")]
    monkeypatch.setattr(tuner, "tune", _fake_tune(*events, ProblemFinished(_result(best=False))))
    answer = hwkit("tune", *_words(GEMM))
    assert answer.code == 1
    assert "nothing runs (3 trials): for the reasons type 'hwkit db show gemm " in answer.out
    assert "1 failed (1 crash)" in answer.out
    assert "note: the machine is busy" in answer.err
    assert hwkit("tune", *_words(GEMM), "--json").json["notes"] == ["the machine is busy"]


def test_a_real_interrupt_keeps_everything(tmp_path: Path) -> None:
    """SIGINT in the middle of a run: the trials are in the database, and 130 is returned."""
    db = tmp_path / "tuning.db"
    code = (
        "import signal, sys\n"
        # A shell's background jobs, and so these tests, may have inherited that it is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from hwkit.registry import registry\n"
        "from hwkit.testing import fake\n"
        "registry().register(fake.fake, 'fake')\n"
        "from hwkit.cli import main\n"
        f"sys.exit(main(['tune', '--device', 'fake:0', '--problem', {GEMM!r}, '--budget', '60s']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "HWKIT_DB": str(db)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    while "trial" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert err.endswith("hwkit: interrupted; the same command goes on from here\n")
    assert out.startswith(GEMM)
    assert Database(db).counts()["trials"] >= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--op", "nonsense"], "'nonsense' is not known"),
        (["--problem", "gemm float32 nn m=4"], "lacks n, k"),
        (["--problem", ""], "problem is empty"),
        (["--op", "conv2d", "--problem", GEMM], "is of gemm, but --op asks for conv2d"),
        (["--problem", GEMM, "--budget", "soon"], "budget 'soon'"),
        (["--problem", GEMM, "--trials", "0"], "--trials"),
        (["--problem", GEMM, "--seed", "-1"], "--seed"),
        (["--problem", GEMM, "--kernel", "hope"], "kernel 'hope'"),
        (["--problem", GEMM, "--strategy", "hope"], "hope"),
        (["--problem", GEMM, "--tolerance", "0"], "tolerance=0.0"),
        (["--problem", GEMM, "--device", "fake:7"], "fake:7 does not exist"),
        (["--problems", "no/such/file"], "no/such/file"),
        (["--op", "max_pool2d"], "no kernel of fake:0"),
    ],
)
def test_mistakes(hwkit: Hwkit, fake: None, words: list[str], said: str) -> None:
    """Each wrong argument is one sentence; nothing is run and nothing is printed on stdout."""
    answer = hwkit("tune", *words)
    assert answer.code == (1 if "no kernel" in said else 2)
    assert answer.out == ""
    assert said in answer.err
    assert answer.err.count("\n") == 1


def test_problems_of_files_and_ops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts, files and standard input are counted together; comments are left out."""
    file = tmp_path / "problems.txt"
    file.write_text(f"# what we need\n\n{GEMM}  # a product\nfloat32 nn m=2 n=2 k=2\n")
    found = problems([GEMM], [str(file)], ["gemm"])
    named = {str(problem): times for problem, times in found.items()}
    assert named == {GEMM: 2, "gemm float32 nn m=2 n=2 k=2": 1}
    monkeypatch.setattr(sys, "stdin", io.StringIO(CONV))
    assert [str(problem) for problem in problems((), ["-"])] == [CONV]


def test_problems_by_default() -> None:
    """Without a problem the samples of the operators asked for, or of all."""
    samples = registry().op("gemm").samples
    assert tuple(str(problem) for problem in problems(ops=["gemm"])) == samples
    every = sum(len(op.samples) for op in registry().ops().values())
    assert len(problems()) == every


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"\xff\xfe"])
def test_bad_files_of_problems(tmp_path: Path, content: bytes) -> None:
    """An empty file, or one that is not text, is named."""
    file = tmp_path / "problems.txt"
    file.write_bytes(content)
    with pytest.raises(ArgumentError, match=r"problems\.txt"):
        problems(files=[str(file)])


def test_a_bad_line_of_a_file_is_named(tmp_path: Path) -> None:
    """Where a file has many problems, the error says which line is meant."""
    file = tmp_path / "problems.txt"
    file.write_text(f"# two\n{GEMM}\n\ngemm float32 nn m=4\n")
    with pytest.raises(ArgumentError, match=r"problems\.txt:4: .* lacks n, k"):
        problems(files=[str(file)])


def test_revalidate_measures_the_stale_ones(hwkit: Hwkit, fake: None, db: Path) -> None:
    """A winner of another driver is measured again with a small budget, and is then fresh."""
    config = "order=ij prefetch=false tile=16 unroll=2"
    kept = Database(db)
    kept.add(record(GEMM, 1e-5, config, environment="0.9"))
    kept.close()
    explained = hwkit("explain", GEMM, "--json").json
    assert explained["record"]["stale"]
    answer = hwkit("db", "revalidate", "--budget", "1s", "--json")
    assert answer.code == 0
    assert [each["problem"] for each in answer.json["problems"]] == [GEMM]
    tried = [event["config"] for event in answer.json["events"]]
    assert {"order": "ij", "prefetch": False, "tile": 16, "unroll": 2} in tried[:2]
    assert not hwkit("explain", GEMM, "--json").json["record"]["stale"]
    assert hwkit("db", "revalidate").out == "nothing is stale on fake:0\n"
    again = hwkit("db", "revalidate", "--all", "--budget", "1s", "--json").json
    assert [each["problem"] for each in again["problems"]] == [GEMM]
    assert json.dumps(again)


def test_revalidate_of_what_runs_no_more(
    hwkit: Hwkit, fake: None, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A problem without anything that runs is a failed check, as in ``hwkit tune``."""
    kept = Database(db)
    kept.add(record(GEMM, 1e-5, environment="0.9"))
    kept.close()
    finished = ProblemFinished(_result(best=False, stopped_by="exhausted"))
    monkeypatch.setattr(tuner, "tune", _fake_tune(STARTED, _trial("crash"), finished))
    answer = hwkit("db", "revalidate")
    assert answer.code == 1
    assert "nothing runs" in answer.out


def test_one_kernel_without_a_time_limit(hwkit: Hwkit, fake: None) -> None:
    """``--kernel`` limits the search, ``--budget none`` lifts the limit of time."""
    answer = hwkit(
        "tune", *_words(GEMM), "--kernel", "fake_loose", "--budget", "none", "--trials", "3",
        "--tolerance", "1e-2", "--json",
    )  # fmt: skip
    assert answer.code == 0
    assert {event["kernel"] for event in answer.json["events"]} == {"fake_loose"}


def test_what_cannot_be_kept_is_told(hwkit: Hwkit, fake: None, tmp_path: Path) -> None:
    """Without a database that can be written tuning works, and it is said what will be lost."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    answer = hwkit("tune", *_words(GEMM), "--trials", "2", "--db", str(blocked / "tuning.db"))
    assert answer.code == 4
    assert answer.err.count("hwkit: warning: ") == 1
    said = re.escape(str(blocked / "tuning.db"))
    assert re.search(
        rf"^hwkit: \d+ records not kept in {said}, its folder is a file: ", answer.err, re.M
    )
    assert "kept in" not in answer.out
    assert "Traceback" not in answer.err
    words = ["tune", *_words(GEMM), "--trials", "2", "--db", str(blocked / "tuning.db"), "--json"]
    answer = hwkit(*words)
    assert (answer.code, answer.json["not_kept"] > 0) == (4, True)


def test_ctrl_c_where_nothing_can_be_kept(
    hwkit: Hwkit, fake: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the exit code nor the last sentence says then that the run goes on from there."""

    def tune(asked: Any, device: str, database: Database, **options: Any) -> list[TuneResult]:
        database.add(record(GEMM))
        raise KeyboardInterrupt

    monkeypatch.setattr(tuner, "tune", tune)
    (tmp_path / "file").write_text("not a folder")
    answer = hwkit("tune", *_words(GEMM), "--db", str(tmp_path / "file" / "tuning.db"))
    assert answer.code == 4
    assert "1 record not kept in" in answer.err
    assert "goes on from here" not in answer.err


def test_ctrl_c_between_two_problems(
    hwkit: Hwkit, fake: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tuner returns the results that it has; the run counts as interrupted."""
    monkeypatch.setattr(tuner, "tune", _fake_tune(STARTED, _trial(), ProblemFinished(_result())))
    answer = hwkit("tune", *_words(GEMM, CONV))
    assert answer.code == 130
    assert "1 of 2 problems" in answer.out
