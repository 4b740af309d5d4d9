"""Strangers' kernels: compared with the reference before they run, and replaced when they fail."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import ToyKernel, ToyPlugin

import hwkit
from hwkit import (
    Config,
    HwkitWarning,
    KernelFailure,
    NoKernel,
    Problem,
    dispatch,
    explanation,
    ops,
    proof,
)
from hwkit.calls import PlanTable
from hwkit.graph import setting
from hwkit.loading import LoadedPlugin
from hwkit.measure import Measurement
from hwkit.proof import MOST, stand_in
from hwkit.records import Database, Record
from hwkit.registry import Registry

A = np.arange(6, dtype="f4").reshape(2, 3)
B = np.arange(12, dtype="f4").reshape(3, 4)
TEXT = "gemm float32 nn m=2 n=4 k=3"


class Stranger(ToyKernel):
    """A kernel that is wrong where its rows are odd; ``raises`` is what its calls raise."""

    raises: BaseException | None = None
    odd = 0.0

    def build(self, problem: Problem, config: Config) -> Any:
        right = super().build(problem, config)

        def run(*operands: Any, out: Any) -> None:
            right(*operands, out=out)
            if self.raises is not None:
                raise self.raises
            if problem["m"] % 2:
                out += self.odd

        return run


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "tuning.db")


@pytest.fixture
def first() -> Stranger:
    return Stranger(name="first", rank=9)


@pytest.fixture(autouse=True)
def world(first: Stranger, database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a registry of one kernel of hwkit's and one of a stranger's that comes first."""
    made = Registry([("ops", ops), ("toy", ToyPlugin(ToyKernel()))], entry_points=False)
    made.plugins = [LoadedPlugin(p.name, "hwkit 0.1.0") for p in made.plugins]
    made.register(Brought(first), "acme", "hwkit-acme 2.0")
    for module in (dispatch, explanation, setting):
        monkeypatch.setattr(module, "registry", lambda: made)
    for module in (dispatch, explanation):
        monkeypatch.setattr(module, "database", lambda: database)
    monkeypatch.setattr(proof, "_told", set())
    dispatch.forget()
    with hwkit.use("toy:0"):
        yield made


class Brought(ToyPlugin):
    """Kernels for a device of another plugin."""

    @hwkit.hookimpl
    def hwkit_backends(self) -> list[Any]:
        return []


def registry_of(*kernels: Any) -> Registry:
    """Return a registry of kernels that were registered by hand."""
    return Registry([("toy", ToyPlugin(*kernels))], entry_points=False)


def test_who_brought_a_kernel(world: Registry, first: Stranger) -> None:
    """What a project besides hwkit brings is a stranger's, and so is what is registered by hand."""
    found = {k.name: world.stranger(k) for k in world.kernels(world.device("toy:0"))}
    assert found == {"first": "acme", "toy": ""}
    by_hand = registry_of(first)
    assert [by_hand.stranger(k) for k in by_hand.kernels(by_hand.device("toy:0"))] == ["toy"]


def test_a_right_kernel_is_compared_once(first: Stranger, database: Database) -> None:
    """It runs, its trial is kept, and nobody compares it again."""
    assert "not yet (plugin 'acme')" in str(hwkit.explain(TEXT))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = hwkit.plan("gemm", A, B)
    assert (plan.kernel.name, plan.source) == ("first", "default")
    (trial,) = database.records("user")
    assert (trial.kernel, trial.ok, trial.problem) == ("first", True, TEXT)
    assert trial.origin == f"checked-{proof.code(__name__)}"
    assert trial.measurement.error <= 2e-6
    assert database.counts()["quarantined"] == 0
    builds, runs = first.builds, first.runs
    for _ in range(3):
        dispatch.forget()
        np.testing.assert_array_equal(ops.gemm(A, B), A @ B)
    assert (first.builds, first.runs) == (builds + 3, runs + 3)
    text = str(hwkit.explain(TEXT))
    assert "checked   relative error" in text
    assert "ago (plugin 'acme')" in text
    assert hwkit.explain(TEXT).to_json()["plugin"] == "acme"


def test_such_a_trial_wins_nothing(first: Stranger, database: Database) -> None:
    """It is neither a winner, nor a start for near problems, nor what tuning leaves out."""
    plan = hwkit.plan("gemm", A, B)
    here = plan.device.arch, plan.device.fingerprint
    assert not [*database.winners()]
    for text in (TEXT, "gemm float32 nn m=2 n=4 k=4"):
        assert not [*database.candidates(text, *here)]
        assert not database.portfolio(text, *here)
    assert not database.tried(TEXT, here[1], "first", 3)
    assert not database.elsewhere(TEXT, here[1], "first", 3)
    assert not database.stale(here[1])


def test_a_kernel_that_is_wrong_for_some_sizes(first: Stranger, database: Database) -> None:
    """Where it is wrong another kernel runs, with one sentence, now and in the next process."""
    first.odd = 1.0
    odd = np.ones((3, 3), "f4")
    assert hwkit.plan("gemm", A, B).kernel.name == "first"
    with pytest.warns(HwkitWarning, match=r"first of plugin 'acme' .* \(wrong\).*=acme"):
        np.testing.assert_array_equal(ops.gemm(odd, B), odd @ B)
    builds = first.builds
    dispatch.forget()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(ops.gemm(odd, B), odd @ B)
    assert first.builds == builds
    declined = hwkit.explain("gemm float32 nn m=3 n=4 k=3").selection.declined
    assert "relative error" in declined["first"]


def test_one_warning_for_many_problems(first: Stranger) -> None:
    """A kernel that is wrong everywhere is told of once, with where to look for the rest."""
    first.odd = 1.0
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for rows in (1, 3, 5):
            assert hwkit.plan("gemm", np.ones((rows, 3), "f4"), B).kernel.name == "toy"
    (only,) = said
    assert "'hwkit explain' tells" in str(only.message)


@pytest.mark.parametrize("how", ["version", "code"])
def test_a_kernel_that_was_mended(
    first: Stranger, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It is compared anew when its version is raised, and when its module has changed."""
    first.odd = 1.0
    with pytest.warns(HwkitWarning, match="left out"):
        assert hwkit.plan("gemm", A[:1], B).kernel.name == "toy"
    first.odd = 0.0
    assert hwkit.plan("gemm", A[:1], B).kernel.name == "toy"
    if how == "version":
        first.version = 4
    else:
        monkeypatch.setattr(proof, "code", lambda module: "another")
    assert hwkit.plan("gemm", A[:1], B).kernel.name == "first"


@pytest.mark.parametrize("calls", range(1, 12))
def test_a_kernel_that_fails_after_some_calls(first: Stranger, calls: int) -> None:
    """Also where its answer was right and it is being timed, another kernel runs."""
    right, left = ToyKernel.build, iter(range(calls))

    def build(problem: Problem, config: Config) -> Any:
        inner = right(first, problem, config)

        def run(*operands: Any, out: Any) -> None:
            inner(*operands, out=out)
            if next(left, None) is None:
                raise RuntimeError("worn out")

        return run

    first.build = build  # type: ignore[method-assign]
    with pytest.warns(HwkitWarning, match="worn out"):
        answers = [ops.gemm(A, B) for _ in range(12)]
    for answer in answers:
        np.testing.assert_array_equal(answer, A @ B)


def test_what_tuning_found_wrong(first: Stranger, database: Database) -> None:
    """It does not run either, and nothing is compared again."""
    device = registry_of(first).device("toy:0")
    problem = dispatch.parse_problem(TEXT)
    measured = Measurement.failed("wrong", "its relative error 1.0 exceeds 0.05", 1.0)
    trial = Record(
        TEXT, "gemm", "first", 3, first.default(problem), device.arch, device.fingerprint, measured
    )
    database.add(trial)
    assert hwkit.plan("gemm", A, B).kernel.name == "toy"
    assert first.builds == 0
    declined = hwkit.explain(TEXT).selection.declined
    assert "raise its version once it is mended" in declined["first"]


def test_the_checksum_of_code() -> None:
    """It is that of the module's file; what has none has none."""
    assert len(proof.code(__name__)) == 8
    assert proof.code("sys") == proof.code("no.such.module") == ""


def test_a_kernel_that_is_wrong_and_alone(world: Registry, first: Stranger) -> None:
    """Without another kernel nothing runs, and the reason is in the error both times."""
    world.unregister("toy")
    world.unregister("acme")
    world.register(ToyPlugin(first), "acme", "hwkit-acme 2.0")
    first.odd = 1.0
    with pytest.warns(HwkitWarning, match="left out"), pytest.raises(NoKernel, match="relative"):
        hwkit.plan("gemm", A[:1], B)
    with pytest.raises(NoKernel, match=r"first: it failed when .* relative error"):
        hwkit.plan("gemm", A[:1], B)


def test_its_error_decides(first: Stranger) -> None:
    """What it errs by is measured, not what it says: a call that asks for less gets another."""
    first.odd = 1e-4
    odd = np.ones((3, 3), "f4")
    assert hwkit.plan("gemm", odd, B).kernel.name == "toy"
    assert (
        "exceeds 2.0e-06"
        in hwkit.explain("gemm float32 nn m=3 n=4 k=3").selection.declined["first"]
    )
    assert hwkit.plan("gemm", odd, B, tolerance=1e-3).kernel.name == "first"


def test_in_a_network(first: Stranger, database: Database, tmp_path: Path) -> None:
    """Plans of networks are compared as others are, and with other records, or none, as well."""
    first.odd = 1.0
    for records in (True, False, Database(tmp_path / "another.db")):
        network = setting.Setting("toy:0", records=records)
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            assert network.plan("gemm", A[:1], B).kernel.name == "toy"
        assert network.plan("gemm", A, B).kernel.name == "first"
    assert len([*database.records("user")]) == 2


def test_a_build_that_raises(first: Stranger, database: Database) -> None:
    """Another kernel runs; it is not held against this one, a compiler may be installed."""
    first.knobs["build"] = OSError("no compiler")
    with pytest.warns(HwkitWarning, match=r"first of toy:0 .* build \(compile\): OSError: no comp"):
        np.testing.assert_array_equal(ops.gemm(A, B), A @ B)
    assert not [*database.records("user")]
    assert database.counts()["quarantined"] == 0
    del first.knobs["build"]
    assert hwkit.plan("gemm", A, B).kernel.name == "first"


@pytest.mark.parametrize("error", [ValueError("no beads"), SystemExit(3)])
def test_a_call_that_always_raises(first: Stranger, error: BaseException) -> None:
    """It never gets as far as the user: the comparison finds out."""
    first.raises = error
    with pytest.warns(HwkitWarning, match=r"left out .* reference \((launch|crash)\)"):
        np.testing.assert_array_equal(ops.gemm(A, B), A @ B)


def test_a_call_that_raises_later(first: Stranger) -> None:
    """Another kernel takes over for good, with one warning."""
    plan = hwkit.plan("gemm", A, B)
    np.testing.assert_array_equal(ops.gemm(A, B), A @ B)
    first.raises = ValueError("no beads")
    with pytest.warns(
        HwkitWarning, match=r"first .* failed in a call.*no beads; .*toy runs instead"
    ):
        np.testing.assert_array_equal(ops.gemm(A, B), A @ B)
    with pytest.warns(HwkitWarning, match="toy runs instead"):
        np.testing.assert_array_equal(plan(A, B), A @ B)
    assert plan.kernel.name == "toy"
    runs = first.runs
    for _ in range(2):
        np.testing.assert_array_equal(ops.gemm(A, B), A @ B)
        np.testing.assert_array_equal(plan(A, B), A @ B)
    assert first.runs == runs


def test_a_call_that_raises_with_nothing_else(world: Registry, first: Stranger) -> None:
    """The error is one sentence: which kernel, for what, why, and what to type."""
    plan = hwkit.plan("gemm", A, B)
    world.kernels(plan.device)[1].knobs["supports"] = "not today"
    first.raises = ZeroDivisionError("beads")
    words = rf"kernel first of toy:0 failed in a call of '{TEXT}': Zero.*beads; .*DISABLE_PLUGINS"
    with pytest.raises(KernelFailure, match=words):
        plan(A, B)


def test_a_packed_call_that_raises(first: Stranger) -> None:
    """What holds packed constants cannot be replaced: one sentence says so."""
    plan = hwkit.plan("gemm", A, B).prepack(B)
    first.raises = ValueError("no beads")
    with pytest.raises(KernelFailure, match=r"failed in a call of .* packed"):
        plan(A)


def test_a_fast_path_that_raises(first: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The general way takes over, in the table of plans as well."""
    taken: list[int] = []

    def direct(operands: Any, out: Any) -> Any:
        taken.append(1)
        raise RuntimeError("no abacus")

    plain = first.build

    def build(problem: Problem, config: Config) -> Any:
        run = plain(problem, config)
        run.direct = direct
        return run

    monkeypatch.setattr(first, "build", build)
    for _ in range(3):
        np.testing.assert_array_equal(ops.gemm(A, B), A @ B)
    assert len(taken) == 1


def test_no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without anything to compare with the kernel runs, and a warning says that it does so."""

    def reference(*operands: Any) -> Any:
        raise NotImplementedError("ask a mathematician")

    problem = dispatch.parse_problem(TEXT)
    monkeypatch.setattr(type(problem.op), "reference", reference)
    with pytest.warns(HwkitWarning, match=r"without having been compared.*ask a mathematician"):
        assert dispatch.plan_problem(problem).kernel.name == "first"


@pytest.mark.parametrize("text", [
    "gemm float32 nn m=4097 n=4096 k=8191",
    "conv2d float32 nchw n=32 c=64 h=225 w=225 k=64 r=3 s=3 pad=1 stride=2 groups=64",
    "elementwise float32 b=1 n=1 c=1000000000 l=1 operator=add",
])  # fmt: skip
def test_a_large_problem_has_a_stand_in(first: Stranger, text: str) -> None:
    """Sizes are halved until the comparison is cheap; what is odd stays odd, attributes stay."""
    problem = dispatch.parse_problem(text)
    first.op = problem.op.name
    small, config = stand_in(first, problem, Config({"tile": 4}))
    assert config == Config({"tile": 4})
    assert MOST / 8 < small.flops + 128 * small.nbytes <= MOST
    assert small.attributes == problem.attributes
    assert all(small[n] % 2 == 1 for n, size in problem.sizes.items() if size in (4097, 8191, 225))


def test_what_stands_in_is_found_again(first: Stranger, database: Database) -> None:
    """The trial is that of the small problem, and counts for the large one."""
    large = "gemm float32 nn m=4096 n=4096 k=2048"
    assert dispatch.plan_problem(large).kernel.name == "first"
    (trial,) = database.records("user")
    assert trial.problem != large
    assert f"on '{trial.problem}'" in str(hwkit.explain(large))
    builds = first.builds
    dispatch.plan_problem(large)
    assert first.builds == builds + 1


def test_a_database_that_only_is_read(
    first: Stranger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was seen counts in this process."""
    kept = Database(tmp_path / "other.db", read_only=True)
    monkeypatch.setattr(dispatch, "database", lambda: kept)
    first.odd = 1.0
    with pytest.warns(HwkitWarning, match="left out"):
        hwkit.plan("gemm", A[:1], B)
    assert hwkit.plan("gemm", A[:1], B).kernel.name == "toy"
    assert not (tmp_path / "other.db").exists()


def test_a_kernel_that_takes_the_process_down(tmp_path: Path) -> None:
    """The next process does not run it."""
    script = tmp_path / "crash.py"
    script.write_text(textwrap.dedent("""
        import os, sys
        import numpy as np
        import hwkit
        from hwkit import Kernel, hookimpl
        from hwkit.registry import registry

        class Crash(Kernel):
            op, name = "gemm", "crash"
            def supports(self, problem): return True
            def rank(self, problem): return 99
            def build(self, problem, config): return lambda *operands, out: os._exit(7)

        class Plugin:
            @hookimpl
            def hwkit_kernels(self, device): return [Crash()]

        registry().register(Plugin(), "crash")
        a = np.ones((5, 5), "f4")
        assert (hwkit.ops.gemm(a, a, device="cpu:0") == 5).all()
        print(hwkit.explain("gemm float32 nn m=5 n=5 k=5", "cpu:0"))
    """))  # fmt: skip
    command = [sys.executable, "-W", "error", str(script)]
    environment = {**os.environ, "HWKIT_DB": str(tmp_path / "crash.db")}
    codes = []
    for _ in range(2):
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        codes.append(done.returncode)
    assert codes == [7, 0], done.stderr
    assert "crash: it failed when it was compared with the reference (crash)" in done.stdout


def test_warm_calls_are_as_before(first: Stranger) -> None:
    """Nothing stands between a call and the fast path of a kernel that ships with hwkit."""
    plan = hwkit.plan("gemm", A, B)
    assert type(plan._direct).__name__ == "Watched"
    first.knobs["supports"] = "not today"
    own = hwkit.plan("gemm", A, B)
    assert own.kernel.name == "toy"
    assert type(own._direct).__name__ == "function"
    assert isinstance(getattr(dispatch.call, "slow", dispatch.call), PlanTable)
