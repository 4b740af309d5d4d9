"""The worker process: whatever a candidate does, the parent lives and says what it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwkit.backend import Device, Kernel
from hwkit.errors import HwkitError
from hwkit.op import Problem
from hwkit.registry import Registry, registry
from hwkit.runner import Checked, Lost
from hwkit.testing import FAULTS, FakeBackend, fake, faulty
from hwkit.worker import Limits, Worker

TEXT = "gemm float32 nn m=32 n=32 k=32"


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    """Return the faulty device."""
    registry().register(faulty.faulty, "test-faulty")
    yield registry().device("faulty:0")
    registry().unregister("test-faulty")


@pytest.fixture(scope="module")
def problem() -> Problem:
    """Return a small problem."""
    return registry().op("gemm").parse(TEXT)


@pytest.fixture(scope="module")
def kernel(device: Device) -> Kernel:
    """Return the faulty kernel."""
    return registry().kernels(device, "gemm")[0]


@pytest.fixture(scope="module")
def worker(device: Device, problem: Problem) -> Iterator[Worker]:
    """Return a worker with short limits and the problem prepared."""
    with Worker(device, Limits(run=1.0, memory=300 * 2**20)) as found:
        found.prepare(problem, 0)
        yield found


def check(worker: Worker, kernel: Kernel, problem: Problem, key: int, fault: str) -> Checked:
    """Check a candidate with a fault."""
    return worker.check(key, kernel, kernel.default(problem).replace(fault=fault))


def processes(group: int) -> list[str]:
    """Return the processes of a group that are not zombies."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            found.append(entry.parent.name)
    return found


def gone(group: int) -> bool:
    """Whether a process group ends within a few seconds."""
    for _ in range(500):
        if not processes(group):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("fault", [f for f in FAULTS if f not in ("impossible", "memory")])
def test_every_fault_has_its_class(
    worker: Worker, kernel: Kernel, problem: Problem, fault: str
) -> None:
    """A fault is reported under its class, and the next candidate is checked and timed."""
    checked = check(worker, kernel, problem, 1, fault)
    assert checked.failure == FAULTS[fault]
    assert bool(checked.reason) == (fault != "none")
    assert check(worker, kernel, problem, 2, "none").failure is None
    assert worker.sample([2])[0].seconds > 0


@pytest.mark.slow
def test_memory_has_its_class(worker: Worker, kernel: Kernel, problem: Problem) -> None:
    """A candidate that eats all memory is killed at the limit."""
    worker.limits.run = 60.0
    try:
        checked = check(worker, kernel, problem, 1, "memory")
    finally:
        worker.limits.run = 1.0
    assert checked.failure == "memory"
    assert "MiB in use" in checked.reason


def test_reasons_name_the_signal_and_the_exit_code(
    worker: Worker, kernel: Kernel, problem: Problem
) -> None:
    """The reason of a crash says what happened."""
    assert "SIGSEGV" in check(worker, kernel, problem, 1, "segfault").reason
    assert "SIGABRT" in check(worker, kernel, problem, 1, "abort").reason
    assert "exit code 3" in check(worker, kernel, problem, 1, "quit").reason
    assert "operand a" in check(worker, kernel, problem, 1, "operand").reason


def test_error_is_measured(worker: Worker, kernel: Kernel, problem: Problem) -> None:
    """A right answer has a small error that is not zero, a wrong one keeps its error."""
    assert 0 < check(worker, kernel, problem, 1, "none").error < 1e-6
    assert check(worker, kernel, problem, 1, "wrong").error == pytest.approx(1.0)


def test_held_candidates_survive_a_crash(worker: Worker, kernel: Kernel, problem: Problem) -> None:
    """Candidates that were right are built again in the process that follows."""
    assert check(worker, kernel, problem, 7, "none").failure is None
    deaths = worker.deaths
    assert check(worker, kernel, problem, 8, "segfault").failure == "crash"
    assert worker.deaths == deaths + 1
    assert [s.seconds > 0 for s in worker.sample([7, 7])] == [True, True]


def test_a_lost_device_gets_a_new_process(worker: Worker, kernel: Kernel, problem: Problem) -> None:
    """The candidate that lost it keeps the reason, and those that were right are built again."""
    assert check(worker, kernel, problem, 7, "none").failure is None
    deaths = worker.deaths
    checked = check(worker, kernel, problem, 8, "device_lost")
    assert (checked.failure, worker.deaths) == ("crash", deaths + 1)
    assert "illegal memory access" in checked.reason
    assert worker.sample([7])[0].seconds > 0
    assert worker.deaths == deaths + 1


def test_lost_while_timed(
    worker: Worker, kernel: Kernel, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A candidate that dies while it is timed is named, and the others can be timed again."""
    for key in (1, 2):
        assert check(worker, kernel, problem, key, "none").failure is None
    pid = worker.pid
    assert pid is not None
    # What was checked is replaced behind the worker's back by one that crashes when it runs.
    name, config, repeats = worker._checked[2]
    worker._checked[2] = (name, config.replace(fault="segfault"), repeats)
    worker._live.discard(2)
    with pytest.raises(Lost, match="SIGSEGV") as caught:
        worker.sample([1, 2])
    assert (caught.value.key, caught.value.failure) == (2, "crash")
    assert worker.pid is None
    assert worker.sample([1])[0].seconds > 0
    assert worker.pid != pid


def test_a_reference_that_takes_too_long_is_one_sentence(device: Device) -> None:
    """What the host computes for a large problem is named, with the option that gives it time."""
    large = registry().op("gemm").parse("gemm float32 nn m=1500 n=1500 k=1500")
    with Worker(device) as worker:
        worker.limits.prepare = 0.02
        with pytest.raises(HwkitError, match=r"in float64.* than 0\.0 s: give it .*--budget"):
            worker.prepare(large, 0)


def test_killed_from_outside_while_idle(worker: Worker, kernel: Kernel, problem: Problem) -> None:
    """A child that is killed between two candidates is replaced without anybody being blamed."""
    assert check(worker, kernel, problem, 1, "none").failure is None
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    assert check(worker, kernel, problem, 2, "none").failure is None
    assert worker.sample([1, 2])[1].seconds > 0


def test_drop_and_prepare_again(worker: Worker, kernel: Kernel, problem: Problem) -> None:
    """Candidates can be dropped, and another problem takes the place of the first."""
    assert check(worker, kernel, problem, 1, "none").failure is None
    worker.drop([1, 99])
    with pytest.raises(KeyError):
        worker.sample([1])
    other = registry().op("gemm").parse("gemm float32 nt m=5 n=7 k=3")
    worker.prepare(other, 1)
    assert worker.check(1, kernel, kernel.default(other)).failure is None
    worker.prepare(problem, 0)


def test_a_candidate_and_its_children_are_killed_together(
    worker: Worker, kernel: Kernel, problem: Problem
) -> None:
    """A timeout kills the whole process group, also one that sleeps or is stopped."""
    check(worker, kernel, problem, 1, "none")
    group = worker.pid
    assert group is not None
    assert check(worker, kernel, problem, 2, "stop").failure == "timeout"
    assert gone(group)


def test_ceilings_come_from_the_child(worker: Worker) -> None:
    """The ceilings are those of the device."""
    assert worker.ceilings()["float32 flop/s"] == fake.RATE


def test_close_leaves_nothing(device: Device, problem: Problem) -> None:
    """A closed worker has no process and no file left, and says so when it is used."""
    worker = Worker(device)
    worker.prepare(problem, 0)
    assert worker._nursery is not None
    group, folder = worker._nursery._process.pid, Path(worker._nursery.folder)
    child = worker.pid
    assert child is not None
    assert folder.exists()
    worker.close()
    worker.close()
    assert not folder.exists()
    assert gone(group)
    assert gone(child)
    with pytest.raises(HwkitError, match="closed"):
        worker.prepare(problem, 0)


def test_nursery_that_died_is_replaced(device: Device, problem: Problem, kernel: Kernel) -> None:
    """Even the process that makes the children may be killed."""
    with Worker(device) as worker:
        worker.prepare(problem, 0)
        assert worker._nursery is not None
        child = worker.pid
        assert child is not None
        worker._nursery._process.kill()
        worker._nursery._process.wait()
        assert gone(child)
        assert check(worker, kernel, problem, 1, "none").failure is None


def test_device_that_cannot_be_opened(device: Device) -> None:
    """The child's reason is the parent's error."""

    class Stranger(type(device)):  # type: ignore[misc]
        """A device whose backend the child does not know."""

        def __repr__(self) -> str:
            return "stranger:0"

    stranger = object.__new__(Stranger)
    with pytest.raises(HwkitError, match="stranger"):
        Worker(stranger)


def test_parent_that_is_killed_takes_everything_along(tmp_path: Path) -> None:
    """After kill -9 of the parent no child is left, not even one that spins."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, threading\n"
        "from hwkit.registry import registry\n"
        "from hwkit.testing import faulty\n"
        "from hwkit.worker import Limits, Worker\n"
        "registry().register(faulty.faulty, 'faulty')\n"
        "device = registry().device('faulty:0')\n"
        f"problem = registry().op('gemm').parse('{TEXT}')\n"
        "kernel = registry().kernels(device, 'gemm')[0]\n"
        "worker = Worker(device, Limits(run=300.0))\n"
        "worker.prepare(problem, 0)\n"
        "print(worker.pid, worker._nursery._process.pid, flush=True)\n"
        "worker.check(1, kernel, kernel.default(problem).replace(fault='hang'))\n"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environ
    ) as parent:
        assert parent.stdout is not None
        child, nursery = map(int, parent.stdout.readline().split())
        time.sleep(0.2)
        parent.kill()
    assert gone(child)
    assert gone(nursery)


def test_plugins_are_carried_by_their_import_paths() -> None:
    """Modules and module-level objects have a path, others have none; entry points need none."""
    one = Registry([("a-module", faulty), ("an-object", fake.fake)], entry_points=False)
    two = Registry([("a-local", FakeBackend())])
    assert one.carried() == {
        "a-module": "hwkit.testing.faulty",
        "an-object": "hwkit.testing.fake:fake",
    }
    assert two.carried() == {}


def test_the_main_module_is_not_run_again(tmp_path: Path) -> None:
    """A script without a main guard can use a worker."""
    script = tmp_path / "unguarded.py"
    script.write_text(
        "print('ran', flush=True)\n"
        "from hwkit.registry import registry\n"
        "from hwkit.testing import fake\n"
        "from hwkit.worker import Worker\n"
        "registry().register(fake.fake, 'fake')\n"
        "Worker(registry().device('fake:0')).close()\n"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=environ, check=True
    )
    assert done.stdout == "ran\n"
