"""Builds the CUDA driver of ``cuda/mock_cuda.c`` and runs processes that find it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from hwkit.errors import HwkitError
from hwkit_cuda.compilers import compiler

SOURCE = Path(__file__).parent / "cuda" / "mock_cuda.c"
LIBRARIES = {"pycuda": "pycuda", "cuda.core": "cuda.bindings"}


@cache
def missing() -> str:
    """Return why no process can run on the mock here, or ``""``."""
    if shutil.which("gcc") is None:
        return "gcc is not installed: apt install gcc"
    if not any(installed(name) for name in LIBRARIES):
        return "neither pycuda nor cuda.core is installed: pip install 'hwkit[cuda-core]'"
    return ""


def installed(library: str) -> bool:
    """Whether a driver library is there."""
    module = LIBRARIES[library]
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


needs_library = pytest.mark.skipif(bool(missing()), reason=missing())


def no_compiler() -> str:
    """Return why nothing can be compiled here, or ``""``."""
    try:
        compiler()
    except HwkitError as reason:
        return str(reason)
    return ""


def real_driver() -> bool:
    """Whether this machine has an NVIDIA driver."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def build(folder: Path) -> Path:
    """Compile the mock as ``libcuda.so.1`` into a folder, and return the folder.

    What pycuda is linked with and the mock has not is added: it answers NOT_SUPPORTED.
    """
    rest = folder / "rest.c"
    rest.write_text("".join(f"int {name}(void) {{ return 801; }}\n" for name in _unknown()))
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC"]
    command += ["-Wl,-soname,libcuda.so.1", "-o", str(folder / "libcuda.so.1"), str(SOURCE)]
    subprocess.run([*command, str(rest), "-ldl"], check=True)
    return folder


def _unknown() -> list[str]:
    """Return what pycuda's module needs of the driver and the mock does not define."""
    spec = find_spec("pycuda")
    if spec is None or not spec.submodule_search_locations:
        return []
    (module,) = Path(spec.submodule_search_locations[0]).glob("_driver.*.so")
    said = subprocess.run(
        ["nm", "-D", "--undefined-only", str(module)], capture_output=True, text=True, check=True
    )
    needed = {line.split()[-1] for line in said.stdout.splitlines()}
    text = SOURCE.read_text("utf-8")
    return sorted(
        n for n in needed if n.startswith("cu") and n[2:3].isupper() and f"result {n}(" not in text
    )


def child(
    code: str, *arguments: str, folder: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own.

    Args:
        code: what to run, or the path of a script.
        arguments: its arguments.
        folder: where its libcuda lies; it finds none but the system's if ``None``.
        variables: of its environment.
    """
    # PoCL has no text to run for kernels of Triton.
    usual = {**os.environ, "HWKIT_DISABLE_PLUGINS": "triton"}
    environment = {**usual, **variables, "PYTHONPATH": os.pathsep.join(sys.path)}
    if folder is not None:
        environment["LD_LIBRARY_PATH"] = str(folder)
    start = [code] if code.endswith(".py") else ["-c", code]
    return subprocess.run(
        [sys.executable, "-W", "error", *start, *arguments],
        capture_output=True, text=True, check=False, timeout=800, env=environment,
    )  # fmt: skip
