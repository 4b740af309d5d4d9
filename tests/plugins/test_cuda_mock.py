"""The CUDA plugin end to end without a GPU: the real driver libraries, a mock of the driver."""

from __future__ import annotations

from pathlib import Path

import pytest
from cuda_mock import LIBRARIES, build, child, installed, needs_library, no_compiler
from cuda_under_mock import COUNT

from hwkit.testing import unavailable

SCRIPT = str(Path(__file__).parents[1] / "cuda_under_mock.py")


pytestmark = [
    pytest.mark.timeout(900),
    needs_library,
    pytest.mark.skipif(bool(unavailable("opencl:0")), reason=unavailable("opencl:0")),
    pytest.mark.skipif(bool(no_compiler()), reason=no_compiler()),
]


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("libcuda"))


def printed(mock: Path, library: str, *arguments: str) -> list[str]:
    """Return the lines that a process on the mock printed, after the library's name."""
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    done = child(SCRIPT, *arguments, folder=mock, HWKIT_CUDA_DRIVER=library)
    assert done.returncode == 0, done.stdout + done.stderr
    name, *lines = done.stdout.splitlines()
    assert name.split()[0] in (library, LIBRARIES[library])
    return lines


CLEAN = "blocks=0 modules=0 events=0 stack=0 launches="


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_kernel_is_right_in_every_dtype(library: str, mock: Path) -> None:
    """All kernels, plain and packed, are within the budget, and nothing is left on the driver."""
    errors, counts = printed(mock, library, "kernels")
    assert errors.startswith(f"kernels={COUNT} error=0."), errors
    assert counts.startswith(CLEAN), counts
    assert int(counts.partition("launches=")[2].split()[0]) >= COUNT


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_tuning_run_and_calls_leave_nothing_behind(library: str, mock: Path) -> None:
    """Four candidates are checked and timed, calls are right, memory and stack are empty."""
    tuned, counts = printed(mock, library, "tune")
    assert tuned.startswith("trials=4 best="), tuned
    assert counts.startswith(CLEAN), counts


@pytest.mark.parametrize("library", LIBRARIES)
def test_hot_and_cold_caches_are_never_compared(library: str, mock: Path) -> None:
    """With --cold a buffer beyond L2 is copied before the first event; records have an identity.

    Before all that is timed goes what keeps the GPU busy until it has been launched.
    """
    cold, counts = printed(mock, library, "cold")
    assert cold == "best=hot,cold journal=launch,copy,record,launch,record", cold
    assert counts.startswith(CLEAN), counts


@pytest.mark.parametrize("library", LIBRARIES)
def test_errors_of_the_driver_have_their_class(library: str, mock: Path) -> None:
    """Too large a buffer, resources, memory, a wrong image; what follows an error that stays."""
    (line,) = printed(mock, library, "failures")
    assert line == "failures=memory,launch,memory,compile,crash,crash lost=True"
