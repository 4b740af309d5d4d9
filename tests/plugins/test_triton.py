"""Triton kernels without a GPU: their arithmetic in the interpreter, their machine code."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cuda_mock import build, child, needs_library

from hwkit import Config, Device, Fingerprint
from hwkit.registry import registry
from hwkit.selection import select
from hwkit_triton import catalog, compiled, hwkit_kernels
from hwkit_triton.target import Target

# Compilers take long on a machine that does other things as well.
pytestmark = pytest.mark.timeout(900)

TESTS = Path(__file__).parents[1]
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="Triton is not installed: pip install 'hwkit[triton]'",
)


def installed(name: str) -> tuple[int, ...]:
    """Return the first two numbers of a package's version; zeros if it is not installed."""
    if importlib.util.find_spec(name) is None:
        return 0, 0
    return tuple(map(int, importlib.metadata.version(name).split(".")[:2]))


# Formulas and spills are those of this version: others differ by some bytes, and nothing else.
NEWEST = installed("triton") >= (3, 9)

FUNCTIONS = {
    "conv2d.conv2d_implicit", "epilogue.reduce_splits", "gemm.gemm_descriptors", "gemm.gemm_tiles",
    "pool2d.pool_images", "pool2d.pool_windows",
}  # fmt: skip
NAMES = {
    "triton_descriptors", "triton_descriptors_1x1", "triton_images", "triton_implicit",
    "triton_tiles", "triton_tiles_1x1", "triton_windows",
}  # fmt: skip


class Gpu(Device):
    """As much of a CUDA device as kernels ask of it before they are built."""

    backend = "cuda"
    index = 0

    def __init__(self, arch: str, backend: str = "cuda") -> None:
        self.arch = arch
        self.backend = backend
        self.fingerprint = Fingerprint({"backend": backend, "arch": arch, "multiprocessors": 114})

    def put(self, array: Any) -> Any:
        raise NotImplementedError

    def get(self, buffer: Any) -> Any:
        raise NotImplementedError


def lines(script: str, folder: Path) -> list[dict[str, Any]]:
    """Return what two processes of a script print, which share its cases."""
    environment = {
        **os.environ, "TRITON_CACHE_DIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)
    }  # fmt: skip
    children = [
        subprocess.Popen(
            [sys.executable, str(TESTS / script), "2", str(part)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for part in range(2)
    ]
    found = []
    for process in children:
        out, errors = process.communicate(timeout=800)
        assert process.returncode == 0, errors
        found += [json.loads(line) for line in out.splitlines()]
    return found


def problem_of(text: str) -> Any:
    """Return the Problem of a text."""
    return registry().op(text.split(maxsplit=1)[0]).parse(text)


@needs_triton
@pytest.mark.skipif(
    installed("triton") < (3, 7) and installed("numpy") >= (2, 4),
    reason="the interpreter of Triton 3.6 fails with numpy 2.4: pip install 'numpy<2.4'",
)
def test_every_kernel_is_right_in_the_interpreter(tmp_path: Path) -> None:
    """All texts, every fused operand and activation, ragged sizes: against float64."""
    found = lines("triton_interpreted.py", tmp_path)
    wrong = [case for case in found if not case["error"] <= case["allowed"]]
    assert not wrong
    assert len(found) == 37
    assert {case["kernel"] for case in found} == NAMES
    assert {name for case in found for name in case["functions"]} == FUNCTIONS


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Triton's cache: what one test compiled the next does not compile again."""
    return tmp_path_factory.mktemp("triton")


@pytest.fixture(scope="module")
def machine_code(cache: Path) -> list[dict[str, Any]]:
    """What the kernels of all architectures compile to."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed: pip install 'hwkit[triton]'")
    return lines("triton_compiled.py", cache)


def spaces(machine_code: list[dict[str, Any]], default: bool) -> set[tuple[int, str, str]]:
    """Return architecture, Op and kernel of all defaults, or of all others."""
    return {
        (case["arch"], case["problem"].split()[0], case["kernel"])
        for case in machine_code
        if case["default"] is default
    }


# Kernels of all Ops for each architecture: on sm_80 there are no descriptors.
SPACES = {
    (arch, kernel.op, kernel.name)
    for arch in (80, 90, 100, 120)
    for kernel in catalog.kernels(Target.named(arch))
}


def test_every_default_compiles_for_every_architecture(machine_code: list[dict[str, Any]]) -> None:
    """Nothing spills, nothing is too large, and instructions for matrices are there."""
    defaults = [case for case in machine_code if case["default"]]
    assert len(defaults) == 57
    assert spaces(machine_code, True) == SPACES
    assert {case["kernel"] for case in defaults} == NAMES
    assert {name for case in machine_code for name in case["launches"]} == FUNCTIONS
    assert [case for case in defaults if case["reason"]] == []
    # Of sm_120 two keep 8 bytes on the stack, which is no spilling.
    kept = {case["stack"] for case in defaults if NEWEST and case["arch"] != 120}
    assert kept <= {0}
    assert all(case["fusion"] for case in machine_code)


@pytest.mark.skipif(not NEWEST, reason="the formulas are those of Triton 3.9")
def test_formula_of_shared_memory_is_the_compilers(machine_code: list[dict[str, Any]]) -> None:
    """For defaults and samples of every Space, on every architecture; of products to the byte."""
    assert len(SPACES) == 38
    assert spaces(machine_code, False) == SPACES
    assert len(machine_code) == 104
    exact = [case for case in machine_code if case["exact"]]
    assert len(exact) >= 60
    assert [case for case in exact if case["formula"] != case["shared"]] == []
    others = [case for case in machine_code if not case["exact"]]
    pools = [case for case in others if "pool2d" in case["problem"]]
    # Never more than is needed: a formula must not drop what can be launched.
    assert [c for c in others if c not in pools and c["formula"] > c["shared"]] == []
    # Of pools the most that the compiler may take, which every GPU has.
    assert len(pools) == 32
    assert [c for c in pools if not c["shared"] <= c["formula"] <= 16 * 1024] == []


def test_hopper_multiplies_by_warp_groups(machine_code: list[dict[str, Any]]) -> None:
    """Half precision on sm_90 is HGMMA, on sm_100 in tensor memory, on others HMMA."""
    wanted = {80: "HMMA", 90: "HGMMA", 100: "UTCHMMA", 120: "HMMA"}
    checked = 0
    for case in machine_code:
        half = "float16" in case["problem"].split()[1]
        if (
            case["default"]
            and half
            and "pool" not in case["problem"]
            and "n=1 " not in case["problem"]
        ):
            assert case["matrix"] == wanted[case["arch"]], case
            checked += 1
    assert checked >= 10


@needs_triton
@pytest.mark.parametrize(
    "text",
    [
        "gemm float16 nn m=1 n=1000 k=2048 +bias",
        "gemm float32 nn m=1 n=1000 k=2048 +relu",
        "matmul float16 b=4 m=1 n=1 k=70",
        "conv2d float16 nhwc n=1 c=64 h=1 w=1 k=64 r=3 s=3 pad=1 stride=1 +bias",
        "global_avg_pool2d float16 nhwc n=1 c=1 h=1 w=1",
    ],
)
def test_sizes_of_one_compile(text: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A size of 1 is compiled in as a plain number; a layer of one image is such a product."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(cache))
    problem = problem_of(text)
    taken = [
        kernel
        for kernel in catalog.kernels(Target.named(90, 132))
        if kernel.op == problem.op.name and kernel.supports(problem) is True
    ]
    assert taken
    for kernel in taken:
        config: Any = kernel.default(problem)
        for launch in kernel.launches(problem, config):
            compiled.compile_launch(launch, 90)


@needs_triton
@pytest.mark.parametrize(
    "text",
    [
        "gemm float16 nn m=1 n=1000 k=2048 +bias",
        "gemm float16 nn m=3000 n=3001 k=3001",
        "conv2d float16 nhwc n=1 c=63 h=56 w=56 k=65 r=3 s=3 pad=1 stride=1",
    ],
)
def test_defaults_of_ragged_rows_do_not_spill(
    text: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that are no multiple of 16 pass through registers, of which there must be enough."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(cache))
    problem = problem_of(text)
    for kernel in catalog.kernels(Target.named(90, 132)):
        if kernel.op == problem.op.name and kernel.supports(problem) is True:
            assert kernel.compiled_check(problem, kernel.default(problem)) is None


@needs_triton
def test_parts_beyond_31_bits_are_added(tmp_path: Path) -> None:
    """Partial sums of a large result lie further than an int32 reaches."""
    environment = {
        **os.environ, "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)
    }  # fmt: skip
    command = [sys.executable, str(TESTS / "triton_interpreted.py"), "far"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (0, "5.0\n"), done.stderr


# Problem, the kernel and tile that sm_90 runs without records, and whether to look at its code,
# which takes seconds.
CHOSEN = (
    ("gemm bfloat16 nn m=4096 n=4096 k=4096 +silu", "triton_descriptors", (128, 256, 64, 8), True),
    ("gemm float16 nt m=8192 n=8192 k=8192", "triton_descriptors", (128, 256, 64, 8), False),
    ("gemm bfloat16 nn m=512 n=512 k=512", "triton_tiles", (64, 64, 64, 4), False),
    ("conv2d float16 nhwc n=32 c=64 h=56 w=56 k=64 r=3 s=3 pad=1 stride=1 +bias+relu",
     "triton_implicit", (128, 64, 64, 4), True),
    ("conv2d bfloat16 nhwc n=32 c=256 h=14 w=14 k=1024 r=1 s=1 pad=0 stride=1",
     "triton_descriptors_1x1", (128, 256, 64, 8), False),
)  # fmt: skip


@needs_triton
@pytest.mark.parametrize(("text", "name", "tile", "look"), CHOSEN)
def test_hopper_runs_warp_groups_unless_a_record_says_otherwise(
    text: str,
    name: str,
    tile: tuple[int, ...],
    look: bool,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of all kernels of both plugins the one chosen for sm_90 is compiled to HGMMA, in 3 stages."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(cache))
    device, problem = registry().backends()["cuda"].offline("sm_90"), problem_of(text)
    every = registry().kernels(device, problem.op.name)
    assert {k.name.partition("_")[0] for k in every} > {"mma", "triton"}
    chosen = select(problem, device, every, [])
    kernel: Any = chosen.kernel
    assert kernel.name == name
    assert tuple(chosen.config[t] for t in ("bm", "bn", "bk", "warps")) == tile
    assert int(chosen.config["stages"]) >= 3
    if not look:
        return
    launch = kernel.launches(problem, chosen.config)[0]
    found = compiled.facts(compiled.compile_launch(launch, 90))
    assert "HGMMA" in found.tensor_cores.split()
    assert found.stack == 0


def test_warps_are_really_specialised(machine_code: list[dict[str, Any]]) -> None:
    """More threads than were asked for, and registers that move between warps."""
    (case,) = (c for c in machine_code if "specialized=true" in c["config"])
    assert case["threads"] > 128
    assert case["instructions"]["USETMAXREG"] > 0
    assert case["reason"] is None


def test_arguments_are_those_of_the_machine_code(machine_code: list[dict[str, Any]]) -> None:
    """Number and sizes of what is handed to the driver, parameter by parameter."""
    for case in machine_code:
        assert case["given"] == case["wanted"], case


@needs_triton
def test_what_cannot_be_launched_is_dropped(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too much shared memory by a formula, spills by the machine code."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(cache))
    problem = problem_of("gemm float16 nn m=1024 n=1024 k=1024")
    (kernel,) = (k for k in catalog.kernels(Target.named(90)) if k.name == "triton_tiles"
                 and k.op == "gemm")  # fmt: skip
    large = kernel.default(problem).replace(bm=128, bn=128, bk=128, stages=5, warps=8)
    assert large in kernel.space(problem)
    said = kernel.static_check(problem, large)
    assert said == "it needs 327680 bytes of shared memory, sm_90 has 232448"
    needed = int(compiled.compile_launch(kernel.launches(problem, large)[0], 90).metadata.shared)
    assert needed == 327680
    spilling = kernel.default(problem).replace(bm=128, bn=256, bk=32, stages=2, warps=4, splits=1)
    assert kernel.static_check(problem, spilling) is None
    assert "are spilled from 255 registers" in kernel.compiled_check(problem, spilling)


@pytest.mark.parametrize("capability", [75, 80, 86, 90, 100, 120])
def test_defaults_are_legal_everywhere(capability: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On every architecture the default is in the Space and fits shared memory."""
    monkeypatch.setattr("hwkit_triton.common.missing", lambda: None)
    taken = 0
    for kernel in catalog.kernels(Target.named(capability, 132)):
        op = registry().op(kernel.op)
        texts = [t.replace("float32", d) for t in op.samples for d in ("float32", "float16")]
        for problem in map(op.parse, texts):
            if kernel.supports(problem) is True:
                config = kernel.default(problem)
                assert kernel.space(problem).why_not(config) is None
                assert kernel.static_check(problem, config) is None
                assert kernel.error_bound(problem, config) >= 0
                taken += 1
    assert taken > 50


@pytest.mark.parametrize("version", [(3, 6), (3, 9), None])
def test_what_a_triton_does_not_compile_is_not_tried(
    version: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3.6 specialises no warps for tiles that are stored in parts: that is known beforehand."""
    monkeypatch.setattr("hwkit_triton.gemm.version", lambda: version)
    problem = problem_of("gemm bfloat16 nn m=512 n=512 k=512")
    (kernel,) = [k for k in catalog.kernels(Target.named(90)) if k.name == "triton_descriptors"]
    plain = kernel.default(problem).replace(flat=False, warps=4, bm=128, bn=128, stages=2, parts=2)
    assert kernel.static_check(problem, plain) is None
    specialized = plain.replace(specialized=True)
    assert kernel.space(problem).why_not(specialized) is None
    said = kernel.static_check(problem, specialized)
    assert (said is not None) == (version == (3, 6))
    assert kernel.static_check(problem, specialized.replace(parts=1)) is None


def test_kernels_are_for_cuda_devices_only() -> None:
    """Another plugin's GPU gets them, a CPU and a GPU too old for Triton do not."""
    kernels = list(hwkit_kernels(Gpu("sm_90")))
    assert {kernel.name for kernel in kernels} == NAMES
    assert all(kernel.target == Target(90, 114, 232_448) for kernel in kernels)
    assert not any("descriptors" in kernel.name for kernel in hwkit_kernels(Gpu("sm_80")))
    assert list(hwkit_kernels(Gpu("sm_61"))) == []
    assert list(hwkit_kernels(Gpu("x86-64", "cpu"))) == []


def test_without_triton_each_kernel_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels are there and decline, with one sentence."""
    compiled.missing.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    try:
        for kernel in hwkit_kernels(Gpu("sm_90")):
            answer = kernel.supports(problem_of("gemm float16 nn m=64 n=64 k=64"))
            assert answer == "Triton is not installed: pip install 'hwkit[triton]'"
    finally:
        compiled.missing.cache_clear()


def test_a_triton_too_old_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it each kernel would fail to compile in words of its own; a bare folder is none."""
    (tmp_path / "triton").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    compiled.missing.cache_clear()
    try:
        assert compiled.missing() == "Triton is not installed: pip install 'hwkit[triton]'"
        (tmp_path / "triton" / "__init__.py").write_text("__version__ = '3.5.1'\n", "utf-8")
        importlib.invalidate_caches()
        compiled.missing.cache_clear()
        said = "Triton 3.5 is installed, and 3.6 or newer is needed: pip install -U 'triton>=3.6'"
        assert compiled.missing() == said
        (tmp_path / "triton" / "__init__.py").write_text("__version__ = '3.10.0'\n", "utf-8")
        compiled.missing.cache_clear()
        assert compiled.missing() is None
    finally:
        compiled.missing.cache_clear()


def test_precision_is_bounded_by_the_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of float32 the default is exact; what splits or rounds factors says so, and how much."""
    monkeypatch.setattr("hwkit_triton.common.missing", lambda: None)
    problem = problem_of("gemm float32 nt m=256 n=256 k=256")
    kernels = {k.name: k for k in catalog.kernels(Target.named(90)) if k.op == "gemm"}
    tiles = kernels["triton_tiles"]
    exact = tiles.default(problem)
    assert tiles.strict(problem, exact)
    assert tiles.error_bound(problem, exact) == problem.error_budget()
    bounds = [
        tiles.error_bound(problem, exact.replace(precision=name))
        for name in ("ieee", "tf32x3", "bf16x3", "tf32")
    ]
    assert bounds == sorted(bounds)
    assert len(set(bounds)) == 4
    other = kernels["triton_descriptors"]
    assert not other.strict(problem, other.default(problem))
    assert other.rank(problem) < tiles.rank(problem)


@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        ("gemm float64 nn m=8 n=8 k=8", "triton_tiles", "it has no float64"),
        ("gemm float32 nn m=0 n=8 k=8", "triton_tiles", "no empty matrices"),
        ("gemm float32 nn m=8 n=8 k=9000000", "triton_tiles", "beyond what it counts"),
        ("gemm int8,uint8,int32,int32 nn m=8 n=8 k=8", "triton_tiles", "int8,int8,int32,int32"),
        ("gemm int8,int8,int32,int32 nn m=8 n=8 k=8 alpha=2.0", "triton_tiles", "a @ b only"),
        ("gemm float16 nn m=64 n=65 k=64", "triton_descriptors", "multiples of 16 bytes"),
        ("gemm float32 nn m=64 n=64 k=64", "triton_descriptors", "layout nt"),
        ("conv2d float16 nchw n=1 c=8 h=8 w=8 k=8 r=3 s=3 pad=1 stride=1", "triton_implicit",
         "channels last"),
        ("conv2d float16 nhwc n=1 c=8 h=8 w=8 k=8 r=3 s=3 pad=1 stride=1 groups=8",
         "triton_implicit", "groups of 8"),
        ("conv2d float16 nhwc n=1 c=8 h=8 w=8 k=8 r=3 s=3 pad=1 stride=1", "triton_tiles_1x1",
         "one pixel only"),
        ("max_pool2d float32 nhwc n=0 c=8 h=8 w=8 r=2 s=2 pad=0 stride=2", "triton_windows",
         "no empty images"),
    ],
)  # fmt: skip
def test_what_is_declined_says_why(
    text: str, name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each limit of a kernel is a sentence in hwkit explain."""
    monkeypatch.setattr("hwkit_triton.common.missing", lambda: None)
    problem = problem_of(text)
    (kernel,) = (
        k for k in catalog.kernels(Target.named(90)) if (k.op, k.name) == (problem.op.name, name)
    )
    assert reason in str(kernel.supports(problem))


def test_a_kernel_without_a_device_only_compiles() -> None:
    """What was made for an architecture alone cannot be built to run."""
    (kernel,) = (k for k in catalog.kernels(Target.named(90)) if k.name == "triton_implicit")
    problem = problem_of("conv2d float16 nhwc n=1 c=8 h=8 w=8 k=8 r=3 s=3 pad=1 stride=1")
    with pytest.raises(Exception, match="was made to compile only"):
        kernel.build(problem, Config(kernel.default(problem)))


@needs_triton
@needs_library
def test_compiled_kernels_are_launched_by_the_driver(tmp_path: Path, cache: Path) -> None:
    """On a mock driver: arguments, splits, scratch memory, odd addresses, and nothing is left."""
    (tmp_path / "mock").mkdir()
    mock = build(tmp_path / "mock")
    variables = {"HWKIT_DISABLE_PLUGINS": "", "TRITON_CACHE_DIR": str(cache)}
    done = child(str(TESTS / "triton_under_mock.py"), folder=mock, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    ran, left = done.stdout.splitlines()
    assert ran.startswith("launches=12 error=0."), ran
    assert ran.endswith(" gemm_descriptors gemm_tiles reduce_splits")
    assert left.startswith("blocks=0 modules=0 events=0 stack=0 "), left
