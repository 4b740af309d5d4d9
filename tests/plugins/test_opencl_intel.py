"""Kernels on Intel's OpenCL for CPUs, and those with channels on its emulator of FPGAs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hwkit.testing import unavailable

SCRIPT = Path(__file__).parents[1] / "opencl_on_intel.py"
LIBRARIES = Path(sys.prefix, "lib")
MISSING = not (LIBRARIES / "libintelocl_emu.so").exists()

pytestmark = [
    pytest.mark.intel,
    pytest.mark.skipif(
        MISSING, reason="Intel's OpenCL is not installed: pip install 'hwkit[opencl-intel]'"
    ),
    pytest.mark.skipif(bool(unavailable("opencl:0")), reason=unavailable("opencl:0")),
]


def report(folder: Path, runtime: str) -> str:
    """Run the kernels with Intel's libraries in a process of their own."""
    for name in ("libintelocl", "libintelocl_emu"):
        (folder / f"{name}.icd").write_text(f"{LIBRARIES / name}.so\n")
    environment = {
        **os.environ, "OCL_ICD_VENDORS": str(folder), "LD_LIBRARY_PATH": str(LIBRARIES),
        "PYOPENCL_NO_CACHE": "1", "HWKIT_OPENCL_PLATFORM": "intel(r) opencl,portable",
    }  # fmt: skip
    if runtime == "cpu":
        environment["HWKIT_OPENCL_PLATFORM"] = "intel(r) opencl"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), runtime],
        capture_output=True, text=True, check=False, timeout=250, env=environment,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_kernels_are_right_on_another_compiler(tmp_path: Path) -> None:
    """Every kernel for CPUs and GPUs is right on Intel's runtime, too."""
    said = report(tmp_path, "cpu").strip()
    assert said.startswith("platform=Intel(R) OpenCL kernels=18 error=0."), said


def test_kernels_joined_by_channels_are_right(tmp_path: Path) -> None:
    """Kernels of FPGA profiles run on the emulator, which has channels, and are right."""
    said = report(tmp_path, "fpga").strip()
    assert said.startswith("platform=Intel(R) FPGA Emulation"), said
    assert "kernels=8 error=0." in said, said
