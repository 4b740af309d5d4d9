"""Bench: a candidate is never timed before it is right, and what it does wrong is named."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from hwkit.backend import Kernel, Run
from hwkit.config import Config
from hwkit.errors import KernelFailure
from hwkit.guard import Guarded
from hwkit.op import Problem
from hwkit.registry import registry
from hwkit.runner import Lost
from hwkit.testing import FAULTS, FakeBackend
from hwkit.testing.fake import FakeDevice
from hwkit.testing.faulty import FaultyKernel
from hwkit.trial import WIDEST, Bench

TEXT = "gemm float32 nn m=16 n=24 k=32"
Array = np.ndarray[Any, Any]


class Given(Kernel):
    """A kernel whose run is a function of the operands, given by the test."""

    op, name = "gemm", "given"

    def __init__(self, run: Callable[..., Any], claims: bool = False) -> None:
        self._run, self._claims = run, claims

    def supports(self, problem: Problem) -> bool | str:
        return True

    def deterministic(self, problem: Problem, config: Config) -> bool:
        return self._claims

    def build(self, problem: Problem, config: Config) -> Run:
        return self._run


class Remote(FakeDevice):
    """A device whose buffers are not arrays, as a GPU's."""

    sliced = False

    def put(self, array: Any) -> Any:
        return {"data": np.array(array)}

    def get(self, buffer: Any) -> Array:
        data: Array = buffer["data"]
        return data

    def part(self, buffer: Any, start: int, shape: Any, dtype: Any) -> Any:
        if not self.sliced:
            return None
        return {"data": super().part(buffer["data"], start, shape, dtype)}


class Sliced(Remote):
    """The same, and it can make part of a buffer one."""

    sliced = True


def multiply(a: Array, b: Array, *, out: Array) -> None:
    """Do it right."""
    np.matmul(a, b, out=out)


@pytest.fixture
def problem() -> Problem:
    """Return a small problem."""
    return registry().op("gemm").parse(TEXT)


@pytest.fixture
def bench(problem: Problem) -> Iterator[Bench]:
    """Return a bench on a fake device, prepared."""
    bench = Bench(FakeBackend().open(0))
    bench.prepare(problem, 3)
    yield bench
    bench.close()


def checked(bench: Bench, run: Callable[..., Any], claims: bool = False) -> tuple[Any, str]:
    """Check a run, and return the class of its failure and the reason."""
    found = bench.check(0, Given(run, claims), Config())
    return found.failure, found.reason


def test_right_answer_passes(bench: Bench) -> None:
    """A right candidate has an error near the rounding of its dtype."""
    found = bench.check(0, Given(multiply), Config())
    assert found.failure is None
    assert 0 < found.error < 1e-6


@pytest.mark.parametrize(
    "fault", ["wrong", "not_a_number", "unwritten", "before", "behind", "operand", "raise", "exit"]
)
def test_faults_are_named(bench: Bench, problem: Problem, fault: str) -> None:
    """Each fault that a process survives has its class and a reason."""
    device = bench.device
    assert isinstance(device, FakeDevice)
    kernel = FaultyKernel("gemm", device, FAULTS)
    found = bench.check(0, kernel, kernel.default(problem).replace(fault=fault))
    assert found.failure == FAULTS[fault]
    assert found.reason
    assert bench.check(1, kernel, kernel.default(problem)).failure is None


class Packing:
    """A run that offers prepack; counts, and spoils its answer where ``wrong``."""

    def __init__(self, wrong: bool = False) -> None:
        self.calls, self.wrong = 0, wrong

    def __call__(self, a: Array, b: Array, *, out: Array) -> None:
        np.matmul(a, b, out=out)

    def prepack(self, constants: dict[int, Array]) -> Callable[..., Any]:
        (b,) = (array.copy() for array in constants.values())

        def run(a: Array, *, out: Array) -> None:
            self.calls += 1
            np.matmul(a, b * 2 if self.wrong else b, out=out)

        return run


def test_packed_problem_is_checked_and_timed_packed(problem: Problem) -> None:
    """With constants packed beforehand it is the packed run that counts."""
    bench = Bench(FakeBackend().open(0))
    for packed in (False, True):
        bench.prepare(problem.with_packed(packed), 3)
        run = Packing()
        assert checked(bench, run, claims=True) == (None, "")
        before = run.calls
        bench.sample([0])
        assert (run.calls > before) == packed
        assert checked(bench, Packing(wrong=True))[0] == ("wrong" if packed else None)
        assert checked(bench, multiply) == (None, "")
    bench.close()


def test_answer_learnt_by_heart_is_wrong_on_the_second_input(bench: Bench) -> None:
    """Being right once is not enough: there is a second random input."""
    kept: list[Array] = []

    def run(a: Array, b: Array, *, out: Array) -> None:
        if not kept:
            kept.append(a @ b)
        out[...] = kept[0]

    failure, reason = checked(bench, run)
    assert failure == "wrong"
    assert "relative error" in reason


def test_errors_up_to_the_widest_are_kept(bench: Bench) -> None:
    """An answer that is off by 1 % is recorded with its error; beyond 5 % it is wrong."""

    def off(by: float) -> Callable[..., None]:
        def run(a: Array, b: Array, *, out: Array) -> None:
            np.multiply(a @ b, 1 + by, out=out)

        return run

    assert bench.check(0, Given(off(0.01)), Config()).error == pytest.approx(0.01, rel=1e-3)
    beyond = bench.check(0, Given(off(1.1 * WIDEST)), Config())
    assert beyond.failure == "wrong"
    assert beyond.error == pytest.approx(1.1 * WIDEST, rel=1e-3)


def test_false_claim_to_be_deterministic(bench: Bench) -> None:
    """Who claims the same bits on every run must give them."""
    count = iter(range(100))

    def run(a: Array, b: Array, *, out: Array) -> None:
        np.matmul(a, b, out=out)
        out[0, 0] = np.nextafter(out[0, 0], np.float32(np.inf if next(count) % 2 else -np.inf))

    assert checked(bench, run)[0] is None
    failure, reason = checked(bench, run, claims=True)
    assert failure == "wrong"
    assert "deterministic" in reason
    assert checked(bench, multiply, claims=True)[0] is None


def test_scratch_memory_is_poisoned(bench: Bench) -> None:
    """A run that relies on what is in its scratch memory is wrong."""

    class Sloppy:
        """Adds its scratch memory, which happens to be zero."""

        def __init__(self) -> None:
            self.scratch = [np.zeros((16, 24), np.float32)]

        def __call__(self, a: Array, b: Array, *, out: Array) -> None:
            np.add(a @ b, self.scratch[0], out=out)

    failure, reason = checked(bench, Sloppy())
    assert failure == "wrong"
    assert "NaN" in reason


def test_failures_of_a_build(bench: Bench, problem: Problem) -> None:
    """A build may say its class; anything else it raises is the compiler's; memory is memory."""

    def raising(error: BaseException) -> Kernel:
        kernel = Given(multiply)

        def build(problem: Problem, config: Config) -> Run:
            raise error

        kernel.build = build  # type: ignore[method-assign]
        return kernel

    def failure(error: BaseException) -> tuple[str | None, str]:
        found = bench.check(0, raising(error), Config())
        return found.failure, found.reason

    assert failure(KernelFailure("memory", "too large")) == ("memory", "too large")
    assert failure(ValueError("odd")) == ("compile", "ValueError: odd")
    assert failure(MemoryError()) == ("memory", "out of memory")
    assert failure(SystemExit(3)) == ("crash", "it called sys.exit(3)")
    with pytest.raises(KeyboardInterrupt):
        failure(KeyboardInterrupt())


def test_loss_while_timed(bench: Bench) -> None:
    """A candidate that fails after its check is named with its key."""
    calls = iter(range(1000))

    def run(a: Array, b: Array, *, out: Array) -> None:
        if next(calls) > 30:
            raise RuntimeError("worn out")
        np.matmul(a, b, out=out)

    assert bench.check(5, Given(run), Config()).failure is None
    with pytest.raises(Lost, match="worn out") as caught:
        bench.sample([5] * 40)
    assert (caught.value.key, caught.value.failure) == (5, "launch")


def test_fast_candidates_are_timed_in_batches(problem: Problem) -> None:
    """A run of a few microseconds is repeated within a sample, a long one is not."""
    device = FakeBackend(noise=0.0).open(0)
    bench = Bench(device)
    bench.prepare(problem, 0)

    def lasting(seconds: float) -> Callable[..., None]:
        def run(a: Array, b: Array, *, out: Array) -> None:
            device.clock += seconds
            np.matmul(a, b, out=out)

        return run

    fast = bench.check(1, Given(lasting(2e-6)), Config())
    slow = bench.check(2, Given(lasting(2e-3)), Config())
    assert slow.repeats == 1
    assert fast.repeats in (50, 51)
    samples = bench.sample([1, 2])
    assert [s.seconds for s in samples] == pytest.approx([2e-6, 2e-3])


@pytest.mark.parametrize("kind", [Remote, Sliced])
def test_devices_whose_buffers_are_not_arrays(problem: Problem, kind: type[Remote]) -> None:
    """Checks work on any device; guard zones where it can make part of a buffer one."""
    bench = Bench(kind("remote", 0, 0.0, 0))
    bench.prepare(problem, 0)

    def run(a: Any, b: Any, *, out: Any) -> None:
        np.matmul(a["data"], b["data"], out=out["data"])

    def beyond(a: Any, b: Any, *, out: Any) -> None:
        run(a, b, out=out)
        whole = out["data"]
        while whole.base is not None:
            whole = whole.base
        if whole is not out["data"]:
            whole.reshape(-1)[-3:] ^= 0xFF

    assert checked(bench, run)[0] is None
    assert checked(bench, lambda a, b, out: None)[0] == "wrong"
    assert checked(bench, beyond)[0] == ("wrong" if kind.sliced else None)


def test_output_is_aligned_and_guarded_on_both_sides(problem: Problem) -> None:
    """The output starts at a multiple of 64 bytes, and one byte on either side is noticed."""
    guarded = Guarded(FakeBackend().open(0), problem.output)
    out = guarded.fresh(0)
    assert out.ctypes.data % 64 == 0
    assert np.isnan(out).all()
    assert guarded.broken() == ""
    flat = out.base
    while flat.base is not None:
        flat = flat.base
    start = out.ctypes.data - flat.ctypes.data
    flat[start - 1] ^= 1
    assert guarded.broken() == "before"
    guarded.fresh(0)
    assert guarded.broken() == ""
    flat[start + out.nbytes] ^= 1
    assert guarded.broken() == "behind"


def test_integer_outputs_are_poisoned_with_changing_patterns() -> None:
    """Integers have no NaN, so what is not written differs from run to run."""
    problem = registry().op("gemm").parse("gemm int8,int8,int32,int32 nn m=2 n=2 k=2")
    guarded = Guarded(FakeBackend().open(0), problem.output)
    assert set(guarded.fresh(0).view(np.uint8).ravel()) == {0xAA}
    assert set(guarded.fresh(1).view(np.uint8).ravel()) == {0x55}


def test_empty_output(problem: Problem) -> None:
    """A problem without an output element can be checked and timed."""
    empty = registry().op("gemm").parse("gemm float32 nn m=0 n=4 k=4")
    bench = Bench(FakeBackend().open(0))
    bench.prepare(empty, 0)
    assert bench.check(0, Given(multiply), Config()).failure is None
    assert bench.sample([0])[0].seconds >= 0


def test_progress_is_told_before_anything_dangerous(problem: Problem) -> None:
    """The watcher knows the phase and the candidate before each build and run."""
    told: list[tuple[str, int]] = []
    bench = Bench(FakeBackend().open(0), lambda phase, key: told.append((phase, key)))
    bench.prepare(problem, 0)
    bench.check(4, Given(multiply), Config())
    bench.sample([4])
    assert told == [
        ("prepare", -1), ("idle", -1), ("build", 4), ("run", 4), ("idle", -1), ("run", 4),
        ("idle", -1),
    ]  # fmt: skip


def test_built_ahead_is_found_by_the_check(bench: Bench) -> None:
    """What was built ahead, or failed to, is not built again by the check."""
    builds: list[Config] = []

    class Counting(Given):
        """Counts its builds; one Config does not compile."""

        def build(self, problem: Problem, config: Config) -> Run:
            builds.append(config)
            if config["tile"] == 2:
                raise KernelFailure("compile", "no")
            return self._run

    kernel = Counting(multiply)
    configs = [Config({"tile": tile}) for tile in (1, 2, 3)]
    bench.build_ahead([(kernel, config) for config in configs])
    failures = [bench.check(i, kernel, config).failure for i, config in enumerate(configs)]
    assert failures == [None, "compile", None]
    assert sorted(builds, key=str) == configs
    assert math.isfinite(bench.sample([0, 2])[1].seconds)


def test_simulated_clocks_know_no_contention(bench: Bench) -> None:
    """What else the host does says nothing about a device with a clock of its own."""
    assert bench.check(0, Given(multiply), Config()).failure is None
    assert not any(bench.sample([0])[0].disturbed for _ in range(20))
