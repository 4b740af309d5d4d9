"""Bounds, races and uninitialised reads of every OpenCL kernel, found by oclgrind."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hwkit.testing import unavailable

OCLGRIND = shutil.which("oclgrind")
SCRIPT = Path(__file__).parents[1] / "opencl_under_oclgrind.py"

pytestmark = [
    pytest.mark.skipif(OCLGRIND is None, reason="oclgrind is not installed: apt install oclgrind"),
    pytest.mark.skipif(bool(unavailable("opencl:0")), reason=unavailable("opencl:0")),
]


def report(check: str, *arguments: str) -> str:
    """Run the kernels under oclgrind and return all that was printed."""
    # Optimised code has instructions that the check for uninitialised values does not know.
    plain = ["--build-options", "-cl-opt-disable"] if check == "--uninitialized" else []
    command = [str(OCLGRIND), check, *plain, sys.executable, str(SCRIPT), *arguments]
    environment = {**os.environ, "HWKIT_OPENCL_PLATFORM": "oclgrind", "PYOPENCL_NO_CACHE": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=200, env=environment
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("check", [["--data-races"], ["--uninitialized", "texels"]])
def test_nothing_is_found_in_any_kernel(check: list[str]) -> None:
    """All kernels run, are right, and oclgrind has nothing to say."""
    said = report(*check).strip()
    assert said.startswith("kernels=24 error=0."), said
    assert len(said.splitlines()) == 1, said


@pytest.mark.parametrize(
    ("fault", "check", "message"),
    [
        ("race", ["--data-races"], "data race at local memory"),
        ("bounds", ["--data-races"], "Invalid write of size"),
        ("panels", ["--uninitialized", "texels"], "ninitialized value"),
        ("weights", ["--uninitialized", "texels"], "ninitialized value"),
        ("sums", ["--uninitialized"], "ninitialized value"),
    ],
)
def test_a_planted_fault_is_found(fault: str, check: list[str], message: str) -> None:
    """Without a barrier, an edge test or an initialisation, the same run reports it."""
    assert message in report(*check, fault)


def test_why_buffers_are_kept_and_images_are_read_as_buffers() -> None:
    """Two right kernels are reported: past a released buffer's end, and for what an image holds.

    An oclgrind in which this fails needs neither precaution any more.
    """
    said = report("--uninitialized", "false")
    for kernel in ("copy", "copy_image"):
        assert re.search(rf"ninitialized value.*\n\s*Kernel: {kernel}\n", said), said
    assert "Error" not in said, said
