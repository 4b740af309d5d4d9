"""Bounds, races and uninitialised reads of every OpenCL kernel, found by oclgrind."""

from __future__ import annotations

import os
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


def report(options: list[str], *arguments: str) -> str:
    """Run the kernels under oclgrind and return all that was printed."""
    # Optimised code has instructions that the check for uninitialised values does not know.
    plain = ["--build-options", "-cl-opt-disable"] if "--uninitialized" in options else []
    command = [str(OCLGRIND), *options, *plain, sys.executable, str(SCRIPT), *arguments]
    environment = {**os.environ, "HWKIT_OPENCL_PLATFORM": "oclgrind", "PYOPENCL_NO_CACHE": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=200, env=environment
    )
    return done.stdout + done.stderr


def test_no_kernel_races_or_leaves_its_buffers() -> None:
    """All kernels run, are right, and oclgrind has nothing to say."""
    said = report(["--data-races"], "all").strip()
    assert said.startswith("kernels=16 error=0."), said
    assert len(said.splitlines()) == 1, said


def test_no_kernel_reads_what_nobody_wrote() -> None:
    """With memory that is not the host's, oclgrind sees no uninitialised value."""
    said = report(["--uninitialized"]).strip()
    assert said.startswith("kernels=11 error=0."), said
    assert len(said.splitlines()) == 1, said


@pytest.mark.parametrize(
    ("fault", "option", "message"),
    [
        ("race", "--data-races", "data race at local memory"),
        ("bounds", "--data-races", "Invalid write of size"),
        ("uninitialised", "--uninitialized", "ninitialized value"),
    ],
)
def test_a_planted_fault_is_found(fault: str, option: str, message: str) -> None:
    """Without a barrier, an edge test or an initialisation, the same run reports it."""
    assert message in report([option], fault)
