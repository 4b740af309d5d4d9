"""The fake and the faulty backend: true answers on a simulated clock, and faults on demand."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from hwkit.errors import FAILURE_CLASSES, KernelFailure
from hwkit.op import Problem, relative_error
from hwkit.registry import Registry, registry
from hwkit.testing import FAULTS, FakeBackend, FaultyBackend, fake, faulty
from hwkit.testing.fake import FakeKernel


@pytest.fixture
def problem() -> Problem:
    """Return a small problem."""
    return registry().op("gemm").parse("gemm float32 nn m=8 n=12 k=16")


@pytest.mark.parametrize("loose", [False, True])
def test_answers_are_true(problem: Problem, loose: bool) -> None:
    """A fake kernel computes what it should, a loose one within its stated error."""
    kernel = FakeKernel("gemm", FakeBackend().open(0), loose)
    operands = problem.random_operands()
    out = np.empty(problem.output.shape, problem.output.dtype)
    kernel.build(problem, kernel.default(problem))(*operands, out=out)
    error = relative_error(out, problem.reference(*(a.astype(float) for a in operands)))
    assert error <= kernel.error_bound(problem, kernel.default(problem))
    assert (error > 1e-4) == loose


def test_time_is_simulated(problem: Problem) -> None:
    """The clock says what the cost says, not how long numpy took; noise surrounds it."""
    exact, noisy = FakeBackend(noise=0.0).open(0), FakeBackend(noise=0.05).open(0)
    operands = problem.random_operands()
    out = np.empty(problem.output.shape, problem.output.dtype)
    times = []
    for device in (exact, noisy):
        kernel = FakeKernel("gemm", device)
        run = kernel.build(problem, kernel.default(problem))
        times.append([device.time(lambda run=run: run(*operands, out=out)) for _ in range(200)])
    cost = problem.flops / fake.RATE * kernel.slowness(problem, kernel.default(problem))
    assert times[0] == pytest.approx([cost] * 200)
    assert statistics.median(times[1]) == pytest.approx(cost, rel=0.03)
    assert max(times[1]) > 1.1 * cost
    assert exact.clock == pytest.approx(200 * cost)


def test_same_seed_same_noise(problem: Problem) -> None:
    """The noise is reproducible, and another seed makes other noise."""

    def times(seed: int) -> list[float]:
        device = FakeBackend(0.05, seed).open(0)

        def run() -> None:
            device.clock += 1.0

        return [device.time(run) for _ in range(5)]

    assert times(1) == times(1) != times(2)


def test_landscape(problem: Problem) -> None:
    """The default is inside the space and far from the best; no Config beats the roofline."""
    kernel = FakeKernel("gemm", FakeBackend().open(0))
    space = kernel.space(problem)
    assert space.size == 150
    assert kernel.default(problem) in space
    every = [kernel.slowness(problem, config) for config in space]
    assert 1.08 <= min(every) < 1.2
    assert kernel.slowness(problem, kernel.default(problem)) > 1.2 * min(every)
    other = FakeKernel("gemm", FakeBackend().open(1))
    assert [other.slowness(problem, config) for config in space] != every


def test_plugins_register_themselves() -> None:
    """A backend object is a plugin; two devices, and kernels for the Ops that were asked for."""
    own = Registry([("f", FakeBackend(ops=["gemm"])), ("g", FaultyBackend())], entry_points=False)
    assert sorted(own.devices()) == ["fake:0", "fake:1", "faulty:0"]
    assert [k.name for k in own.kernels(own.device("fake:0"))] == ["fake", "fake_loose"]
    assert {k.name for k in own.kernels(own.device("faulty:0"))} == {"faulty"}


def test_integers_are_declined() -> None:
    """Fake kernels say why they do not take integers."""
    problem = registry().op("gemm").parse("gemm int8,int8,int32,int32 nn m=4 n=4 k=4")
    assert "floating-point" in str(FakeKernel("gemm", FakeBackend().open(0)).supports(problem))


def test_every_class_of_failure_has_a_fault() -> None:
    """The faults cover all classes there are, and name no other."""
    assert {c for c in FAULTS.values() if c} == set(FAILURE_CLASSES)


def test_faulty_kernel_without_a_fault_is_right(problem: Problem) -> None:
    """The fault none is none, and a compile fault is raised by the build."""
    device = faulty.FaultyBackend().open(0)
    kernel = faulty.FaultyKernel("gemm", device, FAULTS)
    assert kernel.default(problem) in kernel.space(problem)
    assert kernel.space(problem).size == 7 * len(FAULTS)
    operands = problem.random_operands()
    out = np.empty(problem.output.shape, problem.output.dtype)
    kernel.build(problem, kernel.default(problem))(*operands, out=out)
    assert relative_error(out, problem.reference(*(a.astype(float) for a in operands))) < 1e-6
    with pytest.raises(KernelFailure):
        kernel.build(problem, kernel.default(problem).replace(fault="compile"))
