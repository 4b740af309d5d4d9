"""Shortlists: what a compiler found fit, kept in a file, and tried first where the device is."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwkit import Config, Device, Kernel, Problem, Unavailable
from hwkit.cli import main
from hwkit.dispatch import parse_problem
from hwkit.errors import DatabaseError
from hwkit.events import Event, TrialFinished
from hwkit.records import Database
from hwkit.registry import registry
from hwkit.shortlist import Entry, Shortlist, compile_only
from hwkit.testing import FakeBackend
from hwkit.tuner import tune

GEMM = "gemm float32 nn m=16 n=16 k=16"


@pytest.fixture
def fake() -> Device:
    return FakeBackend().open(0)


class _Picky(Kernel):
    """A kernel whose compiler refuses every second tile."""

    op, name = "gemm", "picky"

    def __init__(self, real: Kernel) -> None:
        self.space, self.default, self.build = real.space, real.default, real.build  # type: ignore[method-assign]

    def supports(self, problem: Problem) -> bool | str:
        return True

    def static_check(self, problem: Problem, config: Config) -> str | None:
        return None if int(config["tile"]) in (4, 16, 64) else "it spills"

    def build(self, problem: Problem, config: Config) -> None:  # type: ignore[override]
        raise NotImplementedError


def kernel(device: Device) -> Kernel:
    return next(iter(FakeBackend().hwkit_kernels(device)))


def test_a_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """Problem, kernel, version, arch, configs in order, and what was dropped."""
    entry = Entry(GEMM, "one", 2, "sm_90", (Config({"a": 1}), Config({"a": 3})), {"spills": 4})
    other = Entry(GEMM, "two", 1, "sm_90", (Config({"b": 5}),), {})
    Shortlist([entry, other]).write(tmp_path / "list")
    found = Shortlist.read(tmp_path / "list")
    assert list(found.entries) == [entry, other]
    turns = [("one", 2, {"a": 1}), ("two", 1, {"b": 5}), ("one", 2, {"a": 3})]
    by_turns = found.of(parse_problem(GEMM), "sm_90")
    assert [(name, version, dict(config)) for name, version, config in by_turns] == turns
    assert found.of(parse_problem(GEMM), "sm_80") == []


HUGE = '{"format": 1, "problem": "p", "kernel": "k", "version": 1e999}'


@pytest.mark.parametrize("text", ["no json", "[]", '{"format": 9}', '{"format": 1}', HUGE])
def test_another_file_is_one_sentence(text: str, tmp_path: Path) -> None:
    """What is no shortlist is refused with what makes one."""
    (tmp_path / "list").write_text(text)
    with pytest.raises(DatabaseError, match="--compile-only") as caught:
        Shortlist.read(tmp_path / "list")
    assert ("(a line lacks 'problem')" in str(caught.value)) == (text == '{"format": 1}')


def test_what_a_compiler_refuses_is_dropped_and_counted(fake: Device) -> None:
    """Configs that pass are kept in order; the others are counted by reason."""
    picky = _Picky(kernel(fake))
    (entry,) = compile_only(
        parse_problem(GEMM), fake, [picky], trials=20, deadline=math.inf, seed=1
    )
    assert {int(c["tile"]) for c in entry.configs} <= {4, 16, 64}
    assert entry.configs
    assert entry.pruned["it spills"] + len(entry.configs) <= 20


def test_kernels_have_equal_shares_of_the_time(
    fake: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first does not compile until nothing is left for the others."""
    seconds = itertools.count()
    monkeypatch.setattr("hwkit.shortlist.time.monotonic", lambda: next(seconds))
    slow = [_Picky(kernel(fake)) for _ in range(2)]
    found = compile_only(parse_problem(GEMM), fake, slow, trials=50, deadline=20.0)
    assert len(found) == 2
    assert all(len(entry.configs) >= 3 for entry in found)
    assert next(seconds) <= 25


def test_ctrl_c_keeps_what_was_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kernels that were done are in the list, and the command says so; else there is none."""
    entry = Entry(GEMM, "plain_gemm", 1, "sm_90", (Config({"tile": 4}),))

    def interrupted(*args: Any, progress: Callable[[Entry], None], **rest: Any) -> None:
        if done:
            progress(entry)
        raise KeyboardInterrupt

    monkeypatch.setattr("hwkit.shortlist.compile_only", interrupted)
    path = tmp_path / "list"
    command = ["tune", "--device", "cuda:0", "--compile-only", "--arch", "sm_90", "--problem", GEMM]
    for done in (False, True):
        assert main([*command, "--output", str(path)]) == 130
        said = capsys.readouterr().out
        assert "1 problem for sm_90, 30.0 s each" in said
        assert path.exists() == done
    assert f"interrupted: 1 config for 1 problem kept in {path}" in said
    assert tuple(Shortlist.read(path).entries) == (entry,)


def test_ctrl_c_in_the_middle_of_a_kernel(fake: Device) -> None:
    """What was compiled of it is told, so that a kernel of many slow builds is not lost."""

    class Interrupted(_Picky):
        built = 0

        def static_check(self, problem: Problem, config: Config) -> str | None:
            self.built += 1
            if self.built > 3:
                raise KeyboardInterrupt
            return None

    told: list[Entry] = []
    with pytest.raises(KeyboardInterrupt):
        compile_only(
            parse_problem(GEMM), fake, [Interrupted(kernel(fake))], trials=8, deadline=math.inf,
            progress=told.append,
        )  # fmt: skip
    assert [len(entry.configs) for entry in told] == [3]


def test_a_list_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one sentence before anything is compiled, not a traceback behind all of it."""
    monkeypatch.setattr("hwkit.shortlist.compile_only", lambda *_, **__: pytest.fail("compiled"))
    command = ["tune", "--device", "cuda:0", "--compile-only", "--arch", "sm_90", "--problem", GEMM]
    (tmp_path / "file").write_text("")
    for place in ("no/list", "file/list", "."):
        assert main([*command, "--output", str(tmp_path / place)]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--compile-only"], "--compile-only needs an architecture: add --arch, as sm_90"),
        (["--compile-only", "--arch", "sm_90", "a.onnx"], "problems or operators, not a model"),
        (["--arch", "sm_90"], "--arch and --output are for --compile-only: add it"),
        (
            ["--compile-only", "--arch", "sm_90", "--cold"],
            "--cold has no effect",
        ),
        (["--compile-only", "--arch", "sm_90", "--seed", "1", "--db", "x"], "--db has no effect"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is missing is named, before a device is looked for."""
    assert main(["tune", "--device", "cuda:0", *arguments]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_search_starts_from_the_list(fake: Device) -> None:
    """After the default its Configs are the first that are tried."""
    backend = FakeBackend()
    registry().register(backend, "fake for a shortlist")
    try:
        device = registry().device("fake:0")
        one = registry().kernels(device, "gemm")[0]
        problem = parse_problem(GEMM)
        default = one.default(problem)
        wanted = [c for c in one.space(problem) if c != default][-3:]
        entry = Entry(problem.text, one.name, one.version, device.arch, tuple(wanted))
        tried: list[Config] = []

        def note(event: Event) -> None:
            if isinstance(event, TrialFinished):
                tried.append(event.record.config)

        tune(
            problem, "fake:0", trials=4, budget=None, database=Database(None), worker=False,
            kernels=[one.name], on_event=note, shortlist=Shortlist([entry]),
        )  # fmt: skip
        assert tried == [default, *wanted]
    finally:
        registry().unregister("fake for a shortlist")


def test_other_backends_say_that_they_need_their_device() -> None:
    """Only a backend that compiles without a device has one that is not there."""
    with pytest.raises(Unavailable, match="compiles nothing without its device"):
        FakeBackend().offline("sm_90")


def test_the_command_keeps_what_can_be_launched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``hwkit tune --compile-only`` needs no GPU: the list has the default of each kernel."""
    from hwkit_cuda.compilers import compiler

    try:
        compiler()
    except Unavailable as reason:
        pytest.skip(str(reason))
    path = tmp_path / "list"
    arguments = ["tune", "--device", "cuda:0", "--compile-only", "--arch", "sm_90", "--trials", "2"]
    problem = "global_avg_pool2d float32 nchw n=2 c=3 h=5 w=7"
    code = main([*arguments, "--problem", problem, "--output", str(path), "--json"])
    assert code == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["arch"] == "sm_90"
    found = Shortlist.read(path)
    # Where Triton is installed there is one kernel more.
    names = {entry.kernel for entry in found.entries}
    assert names - {"triton_images"} == {"image_pool2d", "window_pool2d"}
    assert all(entry.configs for entry in found.entries)


def test_a_kernel_whose_own_code_fails_is_left_out(
    fake: Device,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A stranger's bug is a warning, and the others are compiled."""
    good = kernel(fake)
    bad, worse = _Picky(good), _Picky(good)
    bad.name, worse.name = "bad", "worse"
    monkeypatch.setattr(bad, "supports", lambda problem: 1 / 0)
    monkeypatch.setattr(worse, "default", lambda problem: None)
    monkeypatch.setattr("hwkit.cli.compile_only._offline", lambda *_: fake)
    monkeypatch.setattr(type(registry()), "kernels", lambda *_: (bad, good, worse))
    file = tmp_path / "list"
    command = ["tune", "--device", "cpu:0", "--compile-only", "--arch", "x", "--problem", GEMM]
    assert main([*command, "--trials", "3", "--output", str(file)]) == 0
    said = capsys.readouterr().err
    assert "kernel bad of gemm is left out, its supports failed" in said
    assert "kernel worse of gemm is left out, its default failed" in said
    assert [entry.kernel for entry in Shortlist.read(file).entries] == [good.name]
