"""Dispatch: the plan table, the order of devices, and what happens on a miss."""

from __future__ import annotations

import math
import os
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from toy import ToyKernel, ToyPlugin

import hwkit
from hwkit import ArgumentError, DtypeError, HwkitWarning, KernelFailure, NoKernel, dispatch, ops
from hwkit.calls import PlanTable
from hwkit.measure import Measurement
from hwkit.records import Database, Record
from hwkit.registry import Registry

A = np.arange(6, dtype="f4").reshape(2, 3)
B = np.arange(12, dtype="f4").reshape(3, 4)


@pytest.fixture
def kernel() -> ToyKernel:
    return ToyKernel()


@pytest.fixture(autouse=True)
def world(kernel: ToyKernel, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """Return a registry of the operators and one toy kernel, over an empty database."""
    made = Registry([("ops", ops), ("toy", ToyPlugin(kernel))], entry_points=False)
    empty = Database(None)
    monkeypatch.setattr(dispatch, "registry", lambda: made)
    monkeypatch.setattr(dispatch, "database", lambda: empty)
    # Strangers' kernels are compared in test_proof.
    monkeypatch.setattr(Registry, "stranger", lambda self, kernel: "")
    dispatch.forget()
    with hwkit.use("toy:0"):
        yield made


def test_a_call_is_planned_once(kernel: ToyKernel) -> None:
    """The second call of the same kind builds nothing; another shape or argument does."""
    for _ in range(3):
        np.testing.assert_array_equal(ops.gemm(A, B), A @ B)
    assert (kernel.builds, kernel.runs) == (1, 3)
    ops.gemm(A[:1], B)
    ops.gemm(A, B, alpha=2.0)
    ops.gemm(A.astype("f8"), B.astype("f8"))
    assert kernel.builds == 4
    dispatch.forget()
    ops.gemm(A, B)
    assert kernel.builds == 5


def test_the_table_is_bounded(kernel: ToyKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes that never repeat do not fill the memory."""
    monkeypatch.setattr(PlanTable, "most", 4)
    for rows in range(1, 20):
        ops.gemm(np.ones((rows, 3), "f4"), B)
    assert len(dispatch.call) <= 4


def test_lists_and_unhashable_arguments() -> None:
    """Lists are read as arrays of float64, and a list may be an argument."""
    np.testing.assert_array_equal(ops.gemm(A.tolist(), B.tolist()), A.astype("f8") @ B)


def test_plan_is_the_same_call(kernel: ToyKernel) -> None:
    """``plan`` takes what the function takes, arrays or their specs."""
    made = hwkit.plan("gemm", A, hwkit.Spec((3, 4)), alpha=2.0)
    np.testing.assert_array_equal(made(A, B), 2 * A @ B)
    assert made.source == "default"
    with pytest.raises(ArgumentError, match="help"):
        hwkit.plan("gemm", A, B, colour="red")
    with pytest.raises(ArgumentError, match=r"did you mean 'gemm'"):
        hwkit.plan("gem", A, B)


def test_prepack_plans_for_packed_constants(kernel: ToyKernel) -> None:
    """With its weights packed, a call is another problem, with records of its own."""
    a, b = np.ones((2, 3), "f4"), np.ones((3, 4), "f4")
    plan = hwkit.plan("gemm", a, b, bias=np.ones(4, "f4"))
    packed = plan.prepack(b)
    assert str(packed.problem) == f"{plan.problem} packed"
    assert [o.name for o in packed.operands] == ["a", "bias"]
    assert plan.prepack(bias=np.ones(4, "f4")).problem == plan.problem
    np.testing.assert_array_equal(packed(a, np.ones(4, "f4")), np.full((2, 4), 4.0))


def test_devices_in_order(world: Registry, kernel: ToyKernel) -> None:
    """The first device that can runs the call; ``fallback`` says how loudly the others step in."""
    with hwkit.use("toy:9", "toy:1", fallback="silent"), warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ArgumentError, match="toy:9 does not exist"):
            ops.gemm(A, B)
    kernel.knobs["supports"] = "not today"
    for fallback in ("error", "silent"):
        with hwkit.use("toy:0", "toy:1", fallback=fallback), pytest.raises(NoKernel, match="toy:0"):
            ops.gemm(A, B)


def test_fallback_warns(world: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``warn`` the next device takes over and one warning says why."""

    class Picky(ToyPlugin):
        @hwkit.hookimpl
        def hwkit_kernels(self, device: Any) -> list[Any]:
            return [ToyKernel()] if device.index == 1 else []

    picky = Registry([("ops", ops), ("toy", Picky())], entry_points=False)
    monkeypatch.setattr(dispatch, "registry", lambda: picky)
    with hwkit.use("toy:0", "toy:1", fallback="warn"):
        with pytest.warns(HwkitWarning, match="runs on toy:1, not on toy:0"):
            ops.gemm(A, B)
        np.testing.assert_array_equal(ops.gemm(A, B), A @ B)
    with hwkit.use("toy:0", "toy:1", fallback="error"), pytest.raises(NoKernel):
        ops.gemm(A, B)


def test_use_is_of_this_thread() -> None:
    """Another thread keeps its own order of devices."""
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(dispatch.in_use.get()))
    thread.start()
    thread.join()
    assert seen == [None]
    assert dispatch.in_use.get() == (("toy:0",), "warn")


def test_use_takes_devices() -> None:
    """A Device stands for its name, and what is no name is told by the first call."""
    with hwkit.use(dispatch.registry().device("toy:1")):  # type: ignore[arg-type]
        assert str(hwkit.plan("gemm", A, B).device) == "toy:1"
    with (
        hwkit.use(["toy:0"]),  # type: ignore[arg-type]
        pytest.raises(ArgumentError, match=r"device .* cannot be read"),
    ):
        ops.gemm(A, B)
    with pytest.raises(ArgumentError, match=r"use\(fallback='warn'\) needs"), hwkit.use():
        pass


def test_bad_use() -> None:
    """``use`` names what it was given and what it takes."""
    bad: Any
    many = np.zeros(2)
    for bad, fallback in (
        ((), "warn"), (("toy:0",), "maybe"), ((None,), "warn"), (("toy:0",), many),
        ((many, None), "warn"),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match="fallback"), hwkit.use(*bad, fallback=fallback):
            pass


@pytest.mark.parametrize("op", [None, ops.gemm])
def test_an_op_is_asked_for_by_name(op: Any) -> None:
    """A function, or nothing, in the place of the name is told in one sentence."""
    with pytest.raises(ArgumentError, match="must be the name of an operator"):
        hwkit.plan(op, A, B)


def test_a_kernel_that_does_not_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next kernel takes over, and one warning names the one that failed."""
    bad = ToyKernel(name="bad", rank=9, build=KernelFailure("compile", "no compiler"))
    pair = Registry([("ops", ops), ("toy", ToyPlugin(bad, ToyKernel()))], entry_points=False)
    monkeypatch.setattr(dispatch, "registry", lambda: pair)
    with pytest.warns(HwkitWarning, match=r"kernel bad of toy:0 is left out .* no compiler"):
        np.testing.assert_array_equal(ops.gemm(A, B), A @ B)


@pytest.mark.parametrize("error", [RuntimeError("no driver"), MemoryError("no driver")])
def test_a_build_that_raises_anything(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A stranger's kernel that does not say KernelFailure is left out in the same way."""
    bad = ToyKernel(name="bad", rank=9, build=error)
    pair = Registry([("ops", ops), ("toy", ToyPlugin(bad, ToyKernel()))], entry_points=False)
    monkeypatch.setattr(dispatch, "registry", lambda: pair)
    with pytest.warns(HwkitWarning, match=r"kernel bad of toy:0 is left out .* no driver"):
        np.testing.assert_array_equal(ops.gemm(A, B), A @ B)


def test_nothing_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no kernel is left, the error has why each failed, not that there is none."""
    bad = ToyKernel(name="bad", build=KernelFailure("compile", "no compiler"))
    world = Registry([("ops", ops), ("toy", ToyPlugin(bad))], entry_points=False)
    monkeypatch.setattr(dispatch, "registry", lambda: world)
    with (
        pytest.warns(HwkitWarning, match="bad of toy:0 is left out"),
        pytest.raises(NoKernel, match=r"toy:0 has for 'gemm .*' fails \(bad: no compiler"),
    ):
        ops.gemm(A, B)


def test_a_build_without_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel whose build returns nothing is left out in the same way."""
    bad = ToyKernel(name="bad", rank=9)
    monkeypatch.setattr(bad, "build", lambda problem, config: None)
    pair = Registry([("ops", ops), ("toy", ToyPlugin(bad, ToyKernel()))], entry_points=False)
    monkeypatch.setattr(dispatch, "registry", lambda: pair)
    with pytest.warns(HwkitWarning, match=r"kernel bad of toy:0 .* returned None, which is no run"):
        np.testing.assert_array_equal(ops.gemm(A, B), A @ B)


def test_a_default_that_was_found_wrong_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tuning has proven wrong here is passed over, and explained."""
    bad = ToyKernel(name="bad", rank=9)
    pair = Registry([("ops", ops), ("toy", ToyPlugin(bad, ToyKernel()))], entry_points=False)
    monkeypatch.setattr(dispatch, "registry", lambda: pair)
    problem = dispatch.parse_problem("gemm float32 nn m=2 n=4 k=3")
    assert dispatch.selection(problem).kernel is bad
    measured = Measurement(math.inf, (), 1.0, "wrong", "its relative error 1.0 exceeds 0.05")
    trial = Record(
        op="gemm", problem=str(problem), arch="toy-arch",
        fingerprint=pair.device("toy:0").fingerprint,
        kernel="bad", version=3, config=bad.default(problem), measurement=measured,
    )  # fmt: skip
    dispatch.database().add(trial)
    chosen = dispatch.selection(problem)
    assert chosen.kernel.name == "toy"
    assert "its default was wrong here" in chosen.declined["bad"]


def test_errors_show_one_cause() -> None:
    """A user's mistake is reported alone, not as the consequence of a failed look-up."""
    with pytest.raises(ArgumentError) as caught:
        ops.gemm(A, A)
    assert caught.value.__context__ is None


def test_many_threads(kernel: ToyKernel) -> None:
    """Threads that call at once all get the right answer."""
    wrong: list[int] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(50):
            a = rng.standard_normal((int(rng.integers(1, 9)), 3)).astype("f4")
            if not np.allclose(ops.gemm(a, B), a @ B, rtol=1e-5):
                wrong.append(seed)

    # A context variable is not inherited by a thread: these run on the device they name.
    def on_toy(seed: int) -> None:
        with hwkit.use("toy:0"):
            work(seed)

    threads = [threading.Thread(target=on_toy, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_after_fork() -> None:
    """A child of fork plans and runs on its own."""
    ops.gemm(A, B)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads of a test runner
        child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(ops.gemm(A[:1], B), A[:1] @ B) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_parse_problem() -> None:
    """A Problem passes through, text is read, and an empty or unknown text says what to write."""
    problem = dispatch.parse_problem("gemm float32 nn m=1 n=2 k=3")
    assert dispatch.parse_problem(problem) is problem
    with pytest.raises(ArgumentError, match="empty"):
        dispatch.parse_problem("  ")
    with pytest.raises(ArgumentError, match="'gemn' is not known"):
        dispatch.parse_problem("gemn float32 nn m=1 n=2 k=3")
    for wrong in (None, A, [problem]):
        with pytest.raises(ArgumentError, match=f"type {type(wrong).__name__} cannot be read"):
            dispatch.parse_problem(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "named", "said"),
    [
        (1, {}, "gemm: missing a required argument: 'b': type help"),
        (2, {"offset": 1}, "gemm: got an unexpected keyword argument 'offset'"),
        (9, {}, "gemm: too many positional arguments"),
    ],
)
def test_arguments_that_an_operator_does_not_take(
    count: int, named: dict[str, Any], said: str
) -> None:
    """A plan with too few, unknown or too many arguments says so in the caller's words."""
    with pytest.raises(ArgumentError, match=said):
        hwkit.plan("gemm", *[np.ones((4, 4), np.float32)] * count, **named)
    with pytest.raises(DtypeError, match="complex"):
        hwkit.plan("gemm", *[np.ones((4, 4), complex)] * 2)
