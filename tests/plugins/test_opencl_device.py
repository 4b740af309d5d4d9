"""OpenCL devices: choice by name, memory, clocks, and failures in one sentence."""

from __future__ import annotations

import builtins
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import hwkit
from hwkit.dispatch import parse_problem
from hwkit.errors import ArgumentError, DtypeError, KernelFailure, Unavailable
from hwkit.registry import registry
from hwkit.testing import unavailable
from hwkit_opencl import programs
from hwkit_opencl.backend import PLATFORM_VARIABLE, OpenclBackend
from hwkit_opencl.device import OpenclDevice
from hwkit_opencl.failures import translated
from hwkit_opencl.gemm import PackedGemm, PlainGemm

needs_opencl = pytest.mark.skipif(bool(unavailable("opencl:0")), reason=unavailable("opencl:0"))


def opened() -> Any:
    return registry().device("opencl:0")


@needs_opencl
def test_shared_memory_is_not_copied() -> None:
    """On a device that shares the host's memory, put and get are views."""
    device = opened()
    if not device.shares_memory:
        pytest.skip("the device has memory of its own")
    given = np.arange(64, dtype=np.float32)
    buffer = device.put(given)
    assert np.shares_memory(device.get(buffer), given)


@needs_opencl
def test_pyopencl_arrays_stay_on_the_device() -> None:
    """A pyopencl array in gives a pyopencl array out, with the right values."""
    import pyopencl.array as cl_array

    device = opened()
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((33, 33), np.float32) for _ in range(2))
    x, y = (cl_array.to_device(device.queue, m) for m in (a, b))
    result = hwkit.ops.gemm(x, y, device="opencl:0")
    assert isinstance(result, cl_array.Array)
    np.testing.assert_allclose(device.get(result), a @ b, rtol=1e-4, atol=1e-4)


@needs_opencl
def test_stacks_stay_on_the_device() -> None:
    """matmul of stacks, and of a stack and a matrix, takes no way through the host."""
    device = opened()
    rng = np.random.default_rng(3)
    a = rng.standard_normal((3, 7, 5), dtype=np.float32)
    b = rng.standard_normal((3, 5, 4), dtype=np.float32)
    for right in (b, b[0], b[0, :, 0]):
        y = hwkit.ops.matmul(device.put(a), device.put(right), device="opencl:0")
        assert device.owns(y)
        np.testing.assert_allclose(device.get(y), a @ right, rtol=1e-4, atol=1e-5)


@needs_opencl
def test_arrays_on_the_device_are_checked() -> None:
    """Another shape or dtype is refused: the kernel would read and write beyond the memory."""
    import pyopencl.array as cl_array

    device = opened()
    a = np.ones((16, 16), np.float32)
    plan = hwkit.plan("gemm", a, a, device="opencl:0")
    x, small, wide = (
        cl_array.to_device(device.queue, m) for m in (a, a[:4].copy(), a.astype(np.float64))
    )
    for operands, out in (((small, x), None), ((x, small), None), ((x, x), small)):
        with pytest.raises(ArgumentError, match=r"has shape \(4, 16\), but this plan is for"):
            plan(*operands, out=out)
    for operands, out in (((wide, x), None), ((x, wide), None), ((x, x), wide)):
        with pytest.raises(DtypeError, match="has dtype float64, but this plan is for float32"):
            plan(*operands, out=out)
    with pytest.raises(DtypeError, match="b has dtype float64"):
        plan.prepack(wide)
    with pytest.raises(ArgumentError, match=r"Array cannot be read .* name its device by device="):
        plan(a, x)


@needs_opencl
def test_an_out_on_the_device_is_written_where_it_lies() -> None:
    """Part of a buffer, an operand itself, and the host; what is not contiguous is refused."""
    import pyopencl.array as cl_array

    device = opened()
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((96, 96), np.float32) for _ in range(2))
    x, y = (cl_array.to_device(device.queue, m) for m in (a, b))
    plan, want = hwkit.plan("gemm", a, b, device="opencl:0"), a @ b
    long = cl_array.zeros(device.queue, (128, 96), np.float32)
    plan(x, y, out=long[16:112])
    np.testing.assert_allclose(long.get()[16:112], want, rtol=1e-4, atol=1e-4)
    assert not long.get()[:16].any()
    host = np.empty_like(a)
    assert plan(x, y, out=host) is host
    np.testing.assert_allclose(host, want, rtol=1e-4, atol=1e-4)
    assert plan(x, y, out=x) is x
    np.testing.assert_allclose(x.get(), want, rtol=1e-4, atol=1e-4)
    with pytest.raises(ArgumentError, match="is not C-contiguous"):
        plan(y, y, out=cl_array.zeros(device.queue, (96, 128), np.float32)[:, :96])


@needs_opencl
def test_arrays_of_other_libraries_come_back_as_such() -> None:
    """A torch tensor, which has DLPack, gives a torch tensor."""
    torch = pytest.importorskip("torch")
    a = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    result = hwkit.ops.gemm(a, a, transpose_b=True, device="opencl:0")
    assert isinstance(result, torch.Tensor)
    assert torch.allclose(result, a @ a.T)


@needs_opencl
def test_device_clock_gives_the_time_of_kernels() -> None:
    """Profiling events give seconds that are no longer than the host's clock saw."""
    events = OpenclDevice(opened().found, 0)
    problem = parse_problem("gemm float32 nn m=64 n=64 k=64")
    kernel = PackedGemm(events, "gemm")
    run = kernel.build(problem, kernel.default(problem))
    a, b, out = (events.put(np.ones((64, 64), np.float32)) for _ in range(3))
    run(a, b, out=out)
    start = time.perf_counter()
    seconds = events.time(lambda: run(a, b, out=out))
    assert 0 < seconds < time.perf_counter() - start


@needs_opencl
def test_a_platform_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message lists the platforms there are, and what to type."""
    monkeypatch.setenv(PLATFORM_VARIABLE, "no such platform")
    with pytest.raises(Unavailable, match=f"there are .*: unset {PLATFORM_VARIABLE}"):
        OpenclBackend().count()


@needs_opencl
def test_platforms_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Part of the platform's name finds the same device."""
    name = opened().fingerprint.identity["platform"]
    monkeypatch.setenv(PLATFORM_VARIABLE, str(name).lower()[:8])
    assert OpenclBackend().count() >= 1


def test_missing_pyopencl_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyopencl, count says what to install."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "pyopencl":
            raise ImportError("No module named 'pyopencl'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Unavailable, match=r"pip install 'hwkit\[opencl\]'"):
        OpenclBackend().count()


class _Error(Exception):
    """What pyopencl raises: a class that says little, and a code."""

    def __init__(self, code: int) -> None:
        super().__init__("clSomething failed")
        self.code = code


@pytest.mark.parametrize(
    ("code", "failure"), [(-4, "memory"), (-6, "memory"), (-11, "compile"), (-54, "launch")]
)
def test_error_codes_have_a_failure_class(code: int, failure: str) -> None:
    """The code decides, not the class that was raised."""
    with (
        pytest.raises(KernelFailure, match="opencl:0 failed while it ran") as caught,
        translated("opencl:0", "it ran"),
    ):
        raise _Error(code)
    assert caught.value.failure == failure


def test_a_lost_device_says_what_to_type() -> None:
    """A device that is gone is Unavailable, with two ways out."""
    with (
        pytest.raises(Unavailable, match=r"type 'hwkit devices'.*hwkit\.use"),
        translated("opencl:0", "a kernel ran"),
    ):
        raise _Error(-2)


@needs_opencl
def test_too_large_a_buffer_is_a_memory_failure() -> None:
    """More memory than the device has is refused with the class memory."""
    device = opened()
    with pytest.raises(KernelFailure) as caught:
        device._new((1 << 46,), np.dtype(np.uint8), device._cl.mem_flags.READ_WRITE, None)
    assert caught.value.failure == "memory"


@needs_opencl
def test_private_memory_beyond_the_cache_is_a_memory_failure() -> None:
    """What the compiler took is checked after the build: at the limit it runs, beyond it fails."""
    import pyopencl as cl

    device = OpenclDevice(opened().found, 0)
    problem, kernel = parse_problem("gemm float32 nn m=8 n=8 k=8"), PlainGemm(device, "gemm")
    config = kernel.default(problem).replace(wm=2)
    run: Any = kernel.build(problem, config)
    question = cl.kernel_work_group_info.PRIVATE_MEM_SIZE
    taken = 2 * run.launches[0].kernel.get_work_group_info(question, device.found)
    assert taken > 0
    device.limits = replace(device.limits, cache=taken)
    kernel.build(problem, config)
    device.limits = replace(device.limits, cache=taken - 1)
    with pytest.raises(KernelFailure, match=r"private memory.*choose a smaller tile") as caught:
        kernel.build(problem, config)
    assert caught.value.failure == "memory"


@needs_opencl
def test_text_that_does_not_compile_is_a_compile_failure() -> None:
    """A macro that makes the text illegal ends in the class compile."""
    from hwkit_opencl.programs import build

    with pytest.raises(KernelFailure, match=r"gemm\.cl was compiled") as caught:
        build(opened(), "gemm.cl", {"THREADS": 1, "DTYPE": 32, "VEC": 5})
    assert caught.value.failure == "compile"


ONE = "__kernel void one(__global float *x) { x[0] = 1; }"


@needs_opencl
def test_a_kept_binary_is_used_and_a_damaged_one_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was built once is not compiled again; a file that no driver takes is made anew."""
    file = tmp_path / "deep" / "kernel.bin"
    monkeypatch.setattr(programs, "_file", lambda *known: file)
    device = opened()
    programs._load(device, ONE, "-w")
    kept = file.read_bytes()
    assert kept
    assert programs._load(device, "this does not compile", "-w").all_kernels()
    file.write_bytes(b"damaged")
    assert programs._load(device, ONE, "-w").all_kernels()
    assert file.read_bytes() != b"damaged"


def test_what_a_full_disk_cuts_short_is_not_left_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file of the cache is there whole or not at all, and nothing else beside it."""
    file = tmp_path / "deep" / "kernel.bin"
    programs.keep(file, b"whole")
    assert file.read_bytes() == b"whole"

    def full(*names: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    programs.keep(file, b"other")
    assert [f.read_bytes() for f in file.parent.iterdir()] == [b"whole"]
    programs.keep(file / "below", b"a file is no folder")


def test_binaries_are_named_by_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Text, options, device and driver make the name; PoCL keeps its kernels itself."""
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *args, **kwargs: str(tmp_path))
    monkeypatch.delenv("PYOPENCL_NO_CACHE", raising=False)

    def name(text: str, options: str, driver: str, version: str = "OpenCL 2.0") -> Path | None:
        facts = hwkit.Fingerprint({"arch": "x"}, {"driver": driver})
        device: Any = SimpleNamespace(found=SimpleNamespace(version=version), fingerprint=facts)
        return programs._file(device, text, options)

    names = {name(t, o, d) for t in "ab" for o in "cd" for d in "ef"}
    assert len(names) == 8
    assert name("a", "c", "e") in names
    assert name("a", "c", "e", "OpenCL 3.0 PoCL 3.1") is None


@needs_opencl
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("gemm float32 nn m=2147483648 n=1 k=1", "a size is beyond"),
        ("gemm float32 nn m=1048576 n=1048576 k=1", "bytes, more than"),
        ("matmul float16 b=1024 m=32768 n=32768 k=1", "bytes, more than"),
        ("conv2d float32 nhwc n=65536 c=1 h=256 w=256 k=1 r=1 s=1 pad=0 stride=1", "2**31 pixels"),
        ("max_pool2d float32 nchw n=65536 c=1 h=256 w=256 r=1 s=1 pad=0 stride=1", "more than"),
    ],
)
def test_sizes_beyond_what_is_counted_are_refused(text: str, reason: str) -> None:
    """Where 2**31 would be passed every kernel declines, with the number it counts to."""
    problem = parse_problem(text)
    for name in ("opencl:0", "opencl:mali-g76", "opencl:fpga-arria10"):
        kernels = registry().kernels(registry().device(name), problem.op.name)
        answers = [kernel.supports(problem) for kernel in kernels]
        assert answers
        assert all(isinstance(answer, str) for answer in answers), answers
        assert name != "opencl:0" or reason in " ".join(map(str, answers)), answers


@needs_opencl
@pytest.mark.parametrize("code", [-2, -4, -5])
def test_a_device_that_fails_while_running_is_left(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A lost device or no memory: the next device of hwkit.use answers, with one warning."""
    import pyopencl as cl

    def fails(*args: Any, **kwargs: Any) -> None:
        raise _Error(code)

    a = np.random.default_rng(1).standard_normal((9, 17), np.float32)
    monkeypatch.setattr(cl, "enqueue_nd_range_kernel", fails)
    with (
        hwkit.use("opencl:0", "cpu:0", fallback="warn"),
        pytest.warns(hwkit.HwkitWarning, match="opencl:0"),
    ):
        y = hwkit.ops.gemm(a, a, transpose_b=True)
    np.testing.assert_allclose(y, a @ a.T, rtol=1e-4, atol=1e-4)
    with hwkit.use("opencl:0", fallback="error"), pytest.raises(hwkit.HwkitError, match="opencl:0"):
        hwkit.ops.gemm(a, a, transpose_b=True)
