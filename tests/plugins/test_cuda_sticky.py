"""An error of CUDA that stays, while tuning: there is a new worker, and nothing is lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cuda_mock import LIBRARIES, build, child, installed, needs_library, no_compiler

SCRIPT = str(Path(__file__).parents[1] / "cuda_sticky_under_mock.py")


@needs_library
@pytest.mark.skipif(bool(no_compiler()), reason=no_compiler())
def test_a_candidate_that_ends_the_device_is_quarantined(tmp_path: Path) -> None:
    """Illegal accesses: each takes its worker along, is recorded once, and the others go on."""
    library = next(name for name in LIBRARIES if installed(name))
    variables = {
        "HWKIT_CUDA_DRIVER": library, "HWKIT_DB": str(tmp_path / "records.db"),
        "OPENED": str(tmp_path / "opened"),
    }  # fmt: skip
    done = child(SCRIPT, folder=build(tmp_path), **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second, *reasons = done.stdout.splitlines()
    trials, crashes, processes = map(int, re.findall(r"\d+", first))
    assert trials == 7
    assert crashes >= 1
    # A process that saw the error is not used again: there is one for each crash, and one more
    # where candidates were left to try or to race.
    assert crashes <= processes <= crashes + 1
    assert second.endswith("best=True")
    (reason,) = reasons
    assert reason.startswith("cuda:0 failed while a kernel was launched: ")
    assert reason.endswith(
        "an illegal memory access was encountered; nothing runs on it in this process any more: "
        "start it again"
    )
