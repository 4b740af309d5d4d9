"""``hwkit bench``: what is timed, how it is shown, and the hand-over to asv."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hwkit.bench import Built, Layer, Race, suite

from .conftest import Hwkit

PROBLEMS = ["gemm float32 nn m=64 n=64 k=64", "gemm float32 nn m=64 n=64 k=128"]


class Peer:
    """A library that needs no process."""

    started: ClassVar[list[tuple[str, int]]] = []

    def __init__(self, library: str, threads: int) -> None:
        from hwkit import Unavailable

        if library not in ("hwkit", "hwkit-default", "numpy", "torch"):
            raise Unavailable(f"{library} is not installed: pip install {library}")
        self.library = library
        self.version = "1.0"
        self.started.append((library, threads))

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        return None


@pytest.fixture
def races(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Races with known times: numpy takes twice as long as hwkit, its default 1.5 times."""
    asked: list[dict[str, Any]] = []

    def race(problem: object, peers: Sequence[Peer], **options: Any) -> Race:
        asked.append({"problem": str(problem), **options})
        factors = {"hwkit": 1.0, "hwkit-default": 1.5, "numpy": 2.0, "torch": 0.8}
        names = [peer.library for peer in peers]
        samples = {n: (1e-4 * factors[n], 2e-4 * factors[n], 2e-4 * factors[n]) for n in names}
        built = {n: Built("plain (default)", 1e-7, "1.0", 5e-5) for n in names}
        return Race(samples, built, {}, 0.05)

    Peer.started = []
    monkeypatch.setattr("hwkit.bench.race.PeerProcess", Peer)
    monkeypatch.setattr(suite, "race", race)
    return asked


def _words() -> list[str]:
    return [word for text in PROBLEMS for word in ("--problem", text)]


def test_table(hwkit: Hwkit, races: list[dict[str, Any]]) -> None:
    """A row per problem with what differs, then means and totals; a missing peer is named."""
    answer = hwkit("bench", *_words())
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].split() == ["gemm", "float32", "nn", "m=64", "n=64", "1", "thread"]
    assert "without onnxruntime: onnxruntime is not installed" in answer.out
    head = next(line for line in lines if line.startswith("problem"))
    assert head.split() == ["problem", "hwkit", "GFLOP/s", "roofline", "default", "numpy", "torch",
                            "best", "other"]  # fmt: skip
    row = next(line for line in lines if line.startswith("k=128"))
    assert row.split() == ["k=128", "200", "us", "5.24", "25", "%", "1.50x", "2.00x", "0.80x",
                           "torch", "0.80x"]  # fmt: skip
    mean = next(line for line in lines if line.startswith("geometric mean"))
    assert mean.split() == ["geometric", "mean", "1.50x", "2.00x", "0.80x", "0.80x"]
    assert "other processes" not in answer.out
    total = next(line for line in lines if line.startswith("all together"))
    assert total.split()[2:6] == ["400", "us", "600", "us"]
    # Right edges of the figures stand below each other.
    assert len({len(line) for line in (head, row, mean)}) == 1


def test_a_busy_machine_is_told(hwkit: Hwkit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that were taken beside other work are not to be relied on, and this is said."""
    monkeypatch.setattr("hwkit.bench.race.PeerProcess", Peer)
    samples = {"hwkit": (1e-3, 1e-3)}
    monkeypatch.setattr(suite, "race", lambda *_, **__: Race(samples, {}, {}, 0.4))
    assert "other processes took 40 % of the CPUs" in hwkit("bench", *_words()).out
    run = hwkit("bench", *_words(), "--json").json["runs"][0]
    assert run["problems"][0]["others_cpu_share"] == 0.4


def test_json(hwkit: Hwkit, races: list[dict[str, Any]]) -> None:
    """One document, one run for each number of threads."""
    answer = hwkit("bench", *_words(), "--threads", "1,2", "--peers", "numpy", "--json")
    assert answer.code == 0
    runs = answer.json["runs"]
    assert [run["threads"] for run in runs] == [1, 2]
    assert runs[0]["geometric_means"]["numpy"] == pytest.approx(2.0)
    assert runs[0]["geometric_mean_of_best"] == pytest.approx(2.0)
    assert runs[0]["largest_errors"]["numpy"] == 1e-7
    first = runs[0]["problems"][0]
    assert first["problem"] == PROBLEMS[0]
    assert first["seconds"]["hwkit"] == 2e-4
    assert first["quartiles"]["numpy"] == pytest.approx([2.0, 2.0])
    assert first["best"] == {"library": "numpy", "ratio": pytest.approx(2.0)}
    assert first["gflops"] == pytest.approx(2 * 64**3 / 2e-4 / 1e9)
    assert first["roofline_share"] == pytest.approx(0.25)
    assert runs[1]["total_seconds"]["numpy"] == pytest.approx(8e-4)
    libraries = ["hwkit", "hwkit-default", "numpy"]
    assert Peer.started == [(name, threads) for threads in (1, 2) for name in libraries]


def test_best_is_of_each_problem() -> None:
    """The mean of the best takes another library for each problem; hwkit's default is none."""
    rows = [
        suite.Row(Layer(text), 1, Race({"hwkit": (1.0,), "hwkit-default": (0.5,), **others}))
        for text, others in (("a", {"torch": (2.0,), "mnn": (4.0,)}), ("b", {"mnn": (8.0,)}))
    ]
    assert [row.best() for row in rows] == [("torch", 2.0), ("mnn", 8.0)]
    assert suite.Suite(1, rows=rows).best_mean == pytest.approx(4.0)
    alone = suite.Row(Layer("c"), 1, Race({"hwkit": (1.0,)}))
    assert alone.best() is None
    assert suite.Suite(1, rows=[alone]).best_mean is None


def test_a_mean_over_fewer_problems_is_told(hwkit: Hwkit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that failed on a problem has another mean than the others, and no total."""
    monkeypatch.setattr("hwkit.bench.race.PeerProcess", Peer)
    races = iter(
        [
            Race({"hwkit": (1.0,), "numpy": (2.0,), "torch": (3.0,)}),
            Race({"hwkit": (1.0,), "torch": (3.0,)}),
        ]
    )
    monkeypatch.setattr(suite, "race", lambda *_, **__: next(races))
    said = hwkit("bench", *_words(), "--peers", "numpy,torch").out
    assert "means over fewer problems:  numpy 1 of 2\n" in said


def test_no_peers(hwkit: Hwkit, races: list[dict[str, Any]]) -> None:
    """``--peers none`` is hwkit and its default alone, as with a model."""
    answer = hwkit("bench", *_words(), "--peers", "none", "--json")
    assert set(answer.json["runs"][0]["versions"]) == {"hwkit", "hwkit-default"}
    assert "numpy" not in answer.json["runs"][0]["skipped"]
    assert "or none" in hwkit("bench", *_words(), "--peers", "matlab").err


def test_peers_may_be_said(hwkit: Hwkit, races: list[dict[str, Any]]) -> None:
    """``hwkit bench peers`` is ``hwkit bench``; numpy is left out where there is no product."""
    answer = hwkit("bench", "peers", "--set", "pool", "--threads", "1,2", "--json")
    assert answer.code == 0
    assert [run["threads"] for run in answer.json["runs"]] == [1, 2]
    assert set(answer.json["runs"][0]["versions"]) == {"hwkit", "hwkit-default", "torch"}
    assert set(answer.json["runs"][0]["skipped"]) == {
        "onnxruntime", "openvino", "xnnpack", "ncnn", "mnn"
    }  # fmt: skip


def test_options_reach_the_race(hwkit: Hwkit, races: list[dict[str, Any]]) -> None:
    """Set, layout, batch, epilogue, rounds and packing are those of the command line."""
    answer = hwkit(
        "bench", "--set", "vgg16", "--layout", "nhwc", "--batch", "2", "--epilogue", "+bias+relu",
        "--rounds", "3", "--weights", "plain", "--peers", "numpy", "--json",
    )  # fmt: skip
    assert answer.code == 0
    assert len(races) == 9
    assert races[0]["problem"].startswith("conv2d float32 nhwc n=2 c=3 ")
    assert races[0]["problem"].endswith("+bias+relu")
    assert {(each["rounds"], each["packed"]) for each in races} == {(3, False)}
    assert sum(p["count"] for p in answer.json["runs"][0]["problems"]) == 13


def test_a_failure_of_ours_is_exit_code_1(hwkit: Hwkit, monkeypatch: pytest.MonkeyPatch) -> None:
    """If hwkit itself cannot do a problem, the row says why and the exit code shows it."""
    monkeypatch.setattr("hwkit.bench.race.PeerProcess", Peer)
    monkeypatch.setattr(
        suite, "race", lambda *_, **__: Race({"numpy": (1e-4,)}, {}, {"hwkit": "no kernel"})
    )
    answer = hwkit("bench", *_words())
    assert answer.code == 1
    assert "  hwkit: no kernel" in answer.out.splitlines()


def test_interrupt_keeps_the_rows(
    hwkit: Hwkit, races: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after a row prints the means of what there is, and ends with 130."""
    known = suite.race
    calls = iter([known])

    def race(*given: Any, **named: Any) -> Race:
        try:
            return next(calls)(*given, **named)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(suite, "race", race)
    answer = hwkit("bench", *_words())
    assert answer.code == 130
    assert any(line.startswith("k=64") for line in answer.out.splitlines())
    assert answer.err == "hwkit: interrupted; the rows above are complete\n"
    assert hwkit("bench", *_words()).err == "hwkit: interrupted; no row was complete\n"


def test_asv_gets_its_arguments(
    hwkit: Hwkit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """All that follows --asv goes to asv, in the folder of its configuration, options included."""
    folder = tmp_path / "asv_bench"
    folder.mkdir()
    (folder / "asv.conf.json").write_text("{}")
    program = tmp_path / "bin" / "asv"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$PWD" "$@"\nexit 7\n')
    program.chmod(0o755)
    monkeypatch.setattr("hwkit.cli.bench.sys.executable", str(program.parent / "python"))
    monkeypatch.chdir(tmp_path)
    answer = hwkit("bench", "--asv", "run", "--quick", "--set", "x")
    assert answer.code == 7
    assert answer.out == f"{folder} run --config asv.conf.json --quick --set x\n"


def test_asv_missing(hwkit: Hwkit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without asv, or outside a clone, a sentence says what to do, with exit code 3."""
    folder = tmp_path / "asv_bench"
    folder.mkdir()
    (folder / "asv.conf.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hwkit.cli.bench.sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    answer = hwkit("bench", "--asv", "run")
    assert answer.code == 3
    assert answer.err == "hwkit: asv is not installed: pip install 'hwkit[bench]'\n"
