"""The C sources by themselves: under sanitizers, and for other processors under an emulator.

The driver of ``tests/c/`` compares all kernels with plain loops, its arrays between
pages that may not be touched.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "cython"
DRIVERS = [ROOT / "tests" / "c" / f"{name}_test.c" for name in ("kernels", "half", "int8", "amx")]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

# The largest table takes longer to compile than all others; where it cannot run it is left empty.
NO_AVX512 = """#include "int8_kernels.h"
#include "isa.h"
const hwkit_isa hwkit_isa_avx512 = {.name = "avx512"};
const hwkit_int8_kernels hwkit_int8_avx512 = {.name = "avx512"};
const hwkit_int8_kernels hwkit_int8_avx512vnni = {.name = "avx512vnni"};
"""

# The 512-bit algorithm, its tiles and edges, on a processor that has AVX2 only.
LOWERED = "-DHWKIT_LOWER_AVX512"


def tool(*names: str) -> str:
    """Return the first of some programs that is there, or skip and name them."""
    for name in names:
        if shutil.which(name):
            return name
    pytest.skip(f"{' or '.join(names)} is not installed")


def command(*words: object) -> None:
    """Run a compiler; it must succeed."""
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def build(folder: Path, compiler: str, *flags: str) -> Path:
    """Return the driver, compiled with all C sources, as many at a time as there are CPUs."""
    stub = folder / "isa_avx512_stub.c"
    stub.write_text(NO_AVX512)
    left_out = ["_kernels.c"]
    if LOWERED not in flags:
        left_out += ["isa_avx512.c", "int8_avx512.c"]
    sources = [s for s in sorted(SOURCES.glob("*.c")) if s.name not in left_out]
    if LOWERED not in flags:
        sources.append(stub)
    objects: dict[Path, Path] = {
        source: folder / f"{source.stem}.o" for source in (*sources, *DRIVERS)
    }

    def compile_one(source: Path) -> None:
        command(compiler, "-g", *flags, f"-I{SOURCES}", "-c", source, "-o", objects[source])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # The tables take longest, so they come first.
        for _ in pool.map(
            compile_one, sorted(objects, key=lambda s: not s.name.startswith("isa_"))
        ):
            pass
    program = folder / "kernels_test"
    command(compiler, *flags, *objects.values(), "-lm", "-pthread", "-o", program)
    return program


def run(*command: object, isa: str = "", emulate_amx: bool = False) -> str:
    """Return what a program prints; it must succeed."""
    environment = {**os.environ, "HWKIT_MAX_ISA": isa, "ASAN_OPTIONS": "detect_leaks=1"}
    environment["HWKIT_EMULATE_AMX"] = "1" if emulate_amx else "0"
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The driver for this machine, warnings as errors."""
    flags = ("-O1", "-Wall", "-Wextra", "-Werror")
    return build(tmp_path_factory.mktemp("plain"), tool("gcc", "clang"), *flags)


@pytest.mark.parametrize("isa", ["scalar", "avx2", "neon"])
def test_each_instruction_set_is_right(plain: Path, isa: str) -> None:
    """What this machine can run of the tables agrees with plain loops, between guard pages."""
    expected = {"scalar", "avx2"} if platform.machine() == "x86_64" else {"scalar", "neon"}
    if isa not in expected:
        pytest.skip(f"{isa} is for another architecture")
    if isa == "avx2" and "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no AVX2")
    assert "1000 problems ok" in run(plain, 1000, isa, isa=isa)


def test_the_algorithm_of_avx512_is_right_lowered_onto_avx2(tmp_path: Path) -> None:
    """Tiles of 14x32, 8x48 and 6x64 and their edges agree with plain loops without AVX-512."""
    if platform.machine() != "x86_64" or "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no AVX2")
    program = build(tmp_path, tool("gcc", "clang"), "-O1", LOWERED)
    assert "300 problems ok" in run(program, 300, "avx512")


def test_address_and_undefined_behaviour_sanitizers_are_silent(tmp_path: Path) -> None:
    """No access out of bounds, no leak, no undefined behaviour on 500 random problems."""
    flags = ("-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    program = build(tmp_path, tool("gcc", "clang"), *flags)
    assert "500 problems ok" in run(program, 500)
    assert "200 problems ok" in run(program, 200, "scalar", isa="scalar")
    assert "400 problems ok" in run(program, 400, "amx-emulated", emulate_amx=True)


@pytest.mark.parametrize(("cpu", "isa"), [("Nehalem", "scalar"), ("Haswell", "avx2")])
def test_older_x86_processors_get_the_kernels_they_can_run(plain: Path, cpu: str, isa: str) -> None:
    """An emulated processor selects its own table and gets right answers."""
    if platform.machine() != "x86_64":
        pytest.skip("the driver is for another architecture")
    # qemu reads elements that a vmaskmov leaves out, so the guard pages are open here.
    assert "200 problems ok" in run(tool("qemu-x86_64"), "-cpu", cpu, plain, 200, isa, "open")


def test_neon_is_right_under_an_emulator(tmp_path: Path) -> None:
    """The driver cross-compiled for AArch64 agrees with plain loops under qemu-user."""
    emulator, compiler = tool("qemu-aarch64", "qemu-aarch64-static"), tool("aarch64-linux-gnu-gcc")
    program = build(tmp_path, compiler, "-O1", "-static")
    assert "400 problems ok" in run(emulator, program, 400, "neon")
    # one that has no dot product of bytes
    assert "200 problems ok" in run(emulator, "-cpu", "cortex-a57", program, 200, "neon")
    assert "100 problems ok" in run(emulator, program, 100, "scalar", isa="scalar")


def test_no_symbol_leaks_from_one_instruction_set_to_another(plain: Path) -> None:
    """No weak symbol: the linker must never keep the AVX copy of what the plain path calls."""
    listing = run(tool("nm"), plain).splitlines()
    ours = [line for line in listing if " W " in line and "hwkit" in line]
    assert ours == []
