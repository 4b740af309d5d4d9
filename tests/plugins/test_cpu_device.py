"""The backend cpu: what it says of the machine, its settings, its memory."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from hwkit.registry import registry

_kernels = pytest.importorskip("hwkit_cpu._kernels", reason="hwkit is not compiled")


@pytest.fixture(scope="module")
def device() -> Any:
    """The host."""
    return registry().device("cpu:0")


def child(code: str, **environment: str) -> str:
    """Return what code prints in a process of its own with these variables."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_fingerprint_says_what_a_measurement_depends_on(device: Any) -> None:
    """Arch, features, cores, threads and caches are there and plausible."""
    identity = device.fingerprint.identity
    assert identity["backend"] == "cpu"
    assert identity["arch"] == device.arch
    assert 1 <= identity["cores"] <= (os.cpu_count() or 1)
    assert identity["threads"] >= 1
    assert 4 << 10 <= identity["l1d"] <= identity["l2"]
    assert identity["isa"]
    assert set(device.fingerprint.environment) == {"compiler", "hwkit"}
    isas = ("scalar", "avx2", "avx512", "neon", "amx", "amx-emulated", "avx512bf16-emulated")
    assert device.arch.endswith(tuple(f"-{isa}" for isa in isas))


def test_numpy_arrays_are_buffers_without_a_copy(device: Any) -> None:
    """Contiguous arrays go in and out as they are; others are made contiguous and native."""
    array = np.arange(6.0).reshape(2, 3)
    assert device.put(array) is array
    assert device.get(array) is array
    assert not device.owns(array)
    turned = device.put(array.T.astype(">f8"))
    assert turned.flags.carray
    assert turned.dtype.isnative
    assert np.array_equal(turned, array.T)
    assert device.empty((2, 3), np.dtype(np.float32)).shape == (2, 3)


def test_ceilings_are_measured_once(device: Any) -> None:
    """Rates are positive, float64 does not beat float32 by far, and asking again costs nothing."""
    ceilings = device.ceilings()
    units = _kernels.cpu_info()["pairs"] and not device.emulated
    narrow = {"float16 flop/s", "bfloat16 flop/s"} if units else set()
    assert set(ceilings) == {"float32 flop/s", "float64 flop/s", "byte/s"} | narrow
    assert all(rate > 1e8 for rate in ceilings.values())
    assert device.ceilings() is ceilings


def test_importing_the_plugin_loads_no_compiled_module() -> None:
    """The compiled module is loaded when a device is counted, not before."""
    code = (
        "import sys, hwkit_cpu; hwkit_cpu.hwkit_backends(); "
        "print('hwkit_cpu._kernels' in sys.modules)"
    )
    assert child(code) == "False"


def test_a_missing_compiled_module_says_what_to_type() -> None:
    """Without the compiled module there is no device, and one sentence says why."""
    code = """
import sys
sys.modules["hwkit_cpu._kernels"] = None
from hwkit_cpu.device import CpuBackend
from hwkit import Unavailable
try:
    CpuBackend().count()
except Unavailable as error:
    print(error)
"""
    message = child(code)
    assert "_kernels" in message
    assert "pip install" in message


def test_an_unknown_instruction_set_is_a_mistake_of_the_user() -> None:
    """HWKIT_MAX_ISA with another name gives one sentence that lists the names."""
    code = """
from hwkit_cpu.device import CpuBackend
from hwkit import ArgumentError
try:
    CpuBackend().count()
except ArgumentError as error:
    print(error)
"""
    message = child(code, HWKIT_MAX_ISA="sse9")
    assert "'sse9'" in message
    assert "scalar, avx2, avx512, amx, neon" in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["scalar", "SCALAR"])
def test_the_instruction_set_can_be_lowered(name: str) -> None:
    """HWKIT_MAX_ISA=scalar is obeyed, in any case, and gives right answers."""
    code = """
import numpy as np, hwkit
from hwkit.registry import registry
x = np.random.default_rng(0).standard_normal((1, 20, 9, 9)).astype(np.float32)
print(registry().device("cpu:0").arch, np.allclose(
    hwkit.ops.global_avg_pool2d(x), x.mean((2, 3), keepdims=True), atol=1e-6))
"""
    arch, right = child(code, HWKIT_MAX_ISA=name).split()
    assert arch.endswith("-scalar")
    assert right == "True"


def test_the_number_of_threads_can_be_set() -> None:
    """HWKIT_THREADS is the number of threads of the device, whatever the CPUs."""
    code = "from hwkit_cpu import _kernels; print(_kernels.cpu_info()['threads'])"
    assert child(code, HWKIT_THREADS="1") == "1"
    assert child(code, HWKIT_THREADS="3") == "3"


def test_more_threads_than_there_can_be_are_said_to_be_fewer() -> None:
    """HWKIT_THREADS beyond what the pool takes is one warning with the number that runs."""
    code = """
import warnings
from hwkit.registry import registry
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    device = registry().device("cpu:0")
    registry().device("cpu:0")
print(device.fingerprint.identity["threads"], *[str(w.message) for w in said], sep="|")
"""
    threads, said = child(code, HWKIT_THREADS="1000000").split("|")
    assert f"HWKIT_THREADS is 1000000, but the CPU backend takes {threads} threads" in said
    assert child(code, HWKIT_THREADS="2") == "2"


def test_the_reference_serves_ops_of_strangers(device: Any) -> None:
    """A kernel for every Op is last in rank, computes in float64, and takes zero sizes."""
    from hwkit.dispatch import plan_problem

    plan = plan_problem("gemm float32 nn m=0 n=4 k=3")
    assert plan(np.zeros((0, 3), np.float32), np.zeros((3, 4), np.float32)).shape == (0, 4)
    kernel = next(k for k in registry().kernels(device, "gemm") if k.name == "reference")
    problem = registry().op("gemm").parse("gemm float32 nn m=5 n=4 k=3")
    operands = problem.random_operands()
    out = np.empty((5, 4), np.float32)
    kernel.build(problem, kernel.default(problem))(*operands, out=out)
    assert np.allclose(out, operands[0] @ operands[1], atol=1e-6)
    assert all(kernel.rank(problem) <= k.rank(problem) for k in registry().kernels(device, "gemm"))
