"""CUDA kernels compiled for GPUs that are not there: all fit what a launch may have."""

from __future__ import annotations

import math
import random
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cuda_mock import no_compiler
from cuda_under_mock import CASES, COUNT, dtypes

from hwkit import Config, Problem
from hwkit.dispatch import parse_problem
from hwkit.errors import ArgumentError, KernelFailure, Unavailable
from hwkit_cuda import compilers, hwkit_kernels, programs
from hwkit_cuda.ceilings import least_of
from hwkit_cuda.compilers import Nvcc, Usage, usage_of
from hwkit_cuda.limits import ARCHS, Limits
from hwkit_cuda.offline import OfflineDevice
from hwkit_cuda.programs import Cubin, Text
from hwkit_cuda.simt import CudaKernel

MAIN, OTHERS = "sm_90", ("sm_80", "sm_100")


needs_compiler = pytest.mark.skipif(bool(no_compiler()), reason=no_compiler())


def kernel_of(arch: str, name: str, text: str) -> tuple[CudaKernel, Problem]:
    problem = parse_problem(text)
    every: list[Any] = [*hwkit_kernels(OfflineDevice(arch))]
    return next(k for k in every if (k.op, k.name) == (problem.op.name, name)), problem


def defaults(arch: str) -> Iterator[tuple[CudaKernel, Problem]]:
    """Yield each kernel with problems: in all dtypes for one arch, in one dtype for the others."""
    for number, (name, text, _) in enumerate(CASES):
        every = dtypes(name)
        for dtype in every if arch == MAIN else (every[number % len(every)],):
            yield kernel_of(arch, name, text.format(dtype))


@needs_compiler
@pytest.mark.timeout(900)
def test_every_default_compiles_without_spills() -> None:
    """For sm_80, sm_90 and sm_100 all defaults can be launched; their number is counted."""
    given = [case for arch in (MAIN, *OTHERS) for case in defaults(arch)]

    def check(case: tuple[CudaKernel, Problem]) -> str | None:
        return case[0].static_check(case[1], case[0].default(case[1]))

    with ThreadPoolExecutor(2) as pool:
        said = [*pool.map(check, given)]
    assert not [(str(p), k.name, why) for (k, p), why in zip(given, said, strict=True) if why]
    assert len(given) == COUNT + len(CASES) * len(OTHERS)
    for kernel, problem in given:
        for launch in kernel.planned(problem, kernel.default(problem)):
            assert launch.function.usage.spills == 0
            assert 0 < launch.function.usage.registers <= 255


def sample(kernel: CudaKernel, problem: Problem) -> Config:
    """Return a Config of a Space, always the same for an architecture, that compiles fast."""
    rng = random.Random(f"{kernel.device.arch} {kernel.name} {problem}")
    while True:
        config = kernel.space(problem).sample(rng)
        unrolled = ("wm", "wn") if "bm" in config else ("mr", "mr", "nv", "vec", "unroll", "tile")
        most = 32 * 16 if "bm" in config else 32
        if math.prod(int(config.get(name, 1)) for name in unrolled) <= most:
            return config


# Kernels that do other Ops as well, with Spaces of their own, and the same text.
ALIKE = (
    ("plain_gemm", "matmul {} b=2 m=5 n=9 k=6"),
    ("local_gemm", "matmul {} b=2 m=35 n=9 k=21"),
    ("window_pool2d", "global_max_pool2d {} nchw n=2 c=3 h=5 w=7"),
    ("window_pool2d", "global_avg_pool2d {} nhwc n=2 c=3 h=5 w=7"),
)


@needs_compiler
@pytest.mark.timeout(900)
def test_samples_of_each_space_compile_and_use_the_memory_that_was_foretold() -> None:
    """The formula for shared memory is the compiler's figure, for a random Config of each Space."""
    cases = [*(case[:2] for case in CASES), *ALIKE]
    given = [(arch, *case) for arch in (MAIN, *OTHERS) for case in cases]
    for arch in (MAIN, *OTHERS):
        every = {(k.op, k.name) for k in hwkit_kernels(OfflineDevice(arch))}
        assert every == {(text.split()[0], name) for name, text in cases}

    def check(case: tuple[str, str, str]) -> str | None:
        arch, name, text = case
        kernel, problem = kernel_of(arch, name, text.format(dtypes(name)[0]))
        config = sample(kernel, problem)
        shared = max(x.function.usage.shared for x in kernel.planned(problem, config))
        foretold = kernel.local_memory(problem, config)
        return None if shared == foretold else f"{arch} {name} {config}: {shared}, not {foretold}"

    with ThreadPoolExecutor(2) as pool:
        wrong = [reason for reason in pool.map(check, given) if reason]
    assert wrong == []
    assert len(given) == 3 * (len(CASES) + len(ALIKE)) == 57


@needs_compiler
@pytest.mark.parametrize("tunables", ["wm=2 wn=8 stage=16", "mr=6 vec=1 wm=8 wn=4 stage=4"])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_blocks_in_shared_memory_are_as_large_as_foretold(dtype: str, tunables: str) -> None:
    """The one kernel of the shared text that uses it: sums of narrow types are kept wide."""
    kernel, problem = kernel_of(MAIN, "local_gemm", f"gemm {dtype} nn m=64 n=64 k=64")
    config = Config({**kernel.default(problem), **Config.parse(tunables)})
    (launch,) = kernel.planned(problem, config)
    assert launch.function.usage.shared == kernel.local_memory(problem, config) > 0


def test_what_cannot_be_launched_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spills, registers for too many threads and shared memory are told before a launch."""
    kernel, problem = kernel_of("sm_90", "plain_gemm", "gemm float32 nn m=64 n=64 k=64")
    config = kernel.default(problem)

    def reason(registers: int = 64, shared: int = 0, spills: int = 0) -> str | None:
        usage = Usage(registers, shared, spills, spills)
        monkeypatch.setattr(Text, "cubin", lambda text: Cubin(b"", {text.function: usage}))
        return kernel.static_check(problem, config)

    assert reason() is None
    assert "spills 48 bytes" in str(reason(spills=48))
    assert "shared memory" in str(reason(shared=232449))
    assert reason(shared=232448) is None
    large = Config({**config, "wm": 16, "wn": 16})
    monkeypatch.setattr(kernel, "default", lambda problem: large)
    config = large
    assert reason(registers=255) is None
    narrow = Limits.of_arch("sm_90")
    assert narrow.blocks(512, 255, 0) == 0
    assert narrow.blocks(1024, 64, 0) == 1


def test_too_many_blocks_along_an_axis_are_declined() -> None:
    """The second and third axis of a grid end at 65535."""
    kernel, problem = kernel_of(
        "sm_90", "rows_conv2d", "conv2d float32 nchw n=70000 c=1 h=4 w=4 k=1 r=1 s=1"
    )
    assert "65535" in str(kernel.supports(problem))
    assert kernel.planned(problem, kernel.default(problem))[-1].grid[2] == 70000


def test_limits_are_known_for_architectures() -> None:
    """Blocks never exceed what a multiprocessor holds, and an unknown arch is one sentence."""
    for arch in ARCHS:
        limits = Limits.of_arch(arch)
        assert 0 < limits.local_memory <= limits.multiprocessor_memory
        assert limits.blocks(32, 32, 0) <= 32
    assert Limits.of_arch("sm_90a") == Limits.of_arch("sm_90")
    with pytest.raises(ArgumentError, match="sm_30 is no architecture"):
        Limits.of_arch("sm_30")


def test_the_assemblers_report_is_read() -> None:
    """Registers, shared memory and spills, also where a kernel has none."""
    log = (
        "ptxas info    : Compiling entry function 'gemm' for 'sm_90'\n"
        "ptxas info    : Function properties for gemm\n"
        "    48 bytes stack frame, 40 bytes spill stores, 44 bytes spill loads\n"
        "ptxas info    : Used 255 registers, used 1 barriers, 8192 bytes smem\n"
        "ptxas info    : Compiling entry function 'pack' for 'sm_90'\n"
        "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
        "ptxas info    : Used 20 registers\n"
    )
    assert usage_of(log) == {"gemm": Usage(255, 8192, 84, 48), "pack": Usage(20, 0, 0, 0)}
    with pytest.raises(KernelFailure, match="report"):
        usage_of(log.replace("Used 20", "used"))


TINY = (("DTYPE", 32), ("SUMS", 1), ("THREADS", 32), ("VEC", 1))


@needs_compiler
def test_a_cubin_is_kept_by_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is compiled once; a damaged file is compiled again; without a compiler it still serves."""
    monkeypatch.setattr(programs, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(programs, "_made", {})
    text = Text("ceilings.cl", "multiply_add", "sm_90", TINY)
    first = text.cubin()
    (file,) = tmp_path.glob("*/*.cubin")
    programs._made.clear()
    real = compilers.compiler()
    monkeypatch.setattr(type(real), "compile", lambda *_: pytest.fail("compiled again"))
    assert text.cubin() == first
    programs._made.clear()

    def nothing() -> None:
        raise Unavailable("there is no compiler")

    monkeypatch.setattr(programs, "compiler", nothing)
    assert text.cubin() == first
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    programs._made.clear()
    with pytest.raises(Unavailable):
        text.cubin()


@needs_compiler
def test_text_that_does_not_compile_is_a_compile_failure() -> None:
    """The sentence has the file, the arch and the compiler's first error."""
    text = Text("ceilings.cl", "multiply_add", "sm_90", (("DTYPE", 32), ("VEC", 1)))
    with pytest.raises(KernelFailure, match=r"ceilings\.cl was not compiled for sm_90.*error"):
        text.cubin()


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
def test_nvcc_makes_the_same_of_it() -> None:
    """Where NVRTC is not installed, nvcc gives a cubin and the same report."""
    found = Nvcc(str(shutil.which("nvcc")))
    assert found.name.startswith("nvcc ")
    text = Text("ceilings.cl", "multiply_add", "sm_90", TINY)
    data, log = found.compile(text.source, text.arch, dict(text.defines))
    assert data.startswith(b"\x7fELF")
    assert 0 < usage_of(log)["multiply_add"].registers <= 64
    with pytest.raises(KernelFailure, match="nvcc failed"):
        found.compile("nonsense", "sm_90", {})


def test_a_gpu_that_is_not_there_runs_nothing() -> None:
    """Memory, clock and results are refused with one sentence."""
    device = OfflineDevice("sm_90")
    for refused in (lambda: device.put([1.0]), lambda: device.time(lambda: None)):
        with pytest.raises(Unavailable, match="no sm_90 is there"):
            refused()
    assert device.ceilings() == {}


def test_a_rate_is_that_of_a_gpu_that_is_awake() -> None:
    """Runs go on until a GPU that was idle has its highest clock, and the least time counts."""
    started = time.perf_counter()
    runs: list[int] = []

    def work() -> None:
        time.sleep(5e-3)
        runs.append(1)

    def clock(run: Callable[[], None]) -> float:
        run()
        return 1e-3 if time.perf_counter() - started > 0.05 else 5e-3

    assert least_of(clock, work) == 1e-3
    assert len(runs) > 5
