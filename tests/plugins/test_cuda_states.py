"""What a machine without a CUDA driver, without a GPU or with a broken one is told."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
from cuda_mock import LIBRARIES, build, child, installed, needs_library, real_driver

from hwkit.errors import KernelFailure, Unavailable
from hwkit_cuda.backend import CudaBackend
from hwkit_cuda.driver import TEXTS, DriverError, choose, code_of, no_device
from hwkit_cuda.failures import STICKY, translated

COUNT = """
from hwkit.errors import Unavailable
from hwkit_cuda.backend import CudaBackend
try:
    print(CudaBackend().count(), "devices")
except Unavailable as error:
    print(error)
"""


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("libcuda"))


def said(library: str, folder: Path | None, **variables: str) -> str:
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    done = child(COUNT, folder=folder, HWKIT_CUDA_DRIVER=library, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs_library
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.skipif(real_driver(), reason="this machine has an NVIDIA driver")
def test_no_driver_is_one_sentence(library: str) -> None:
    """Without libcuda.so.1 the driver is what is missing, not a Python package."""
    assert said(library, None).startswith("there is no NVIDIA driver (libcuda.so.1): ")


@needs_library
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_driver_without_a_device_is_one_sentence(library: str, mock: Path) -> None:
    """With a driver and no GPU the GPU is what is missing."""
    wanted = "the CUDA driver is there, but no NVIDIA GPU: type 'nvidia-smi'"
    assert said(library, mock, MOCK_CUDA_DEVICES="0") == wanted


@needs_library
@pytest.mark.parametrize("library", LIBRARIES)
def test_devices_are_counted(library: str, mock: Path) -> None:
    """With a driver and GPUs their number is told."""
    assert said(library, mock, MOCK_CUDA_DEVICES="3") == "3 devices"


def test_no_driver_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pycuda and cuda.core the message says what to install."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] in ("pycuda", "cuda"):
            raise ImportError(f"No module named '{name}'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Unavailable, match=r"pip install 'hwkit\[cuda\]'"):
        choose()


def test_an_unknown_driver_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names those there are, and how to get rid of it."""
    monkeypatch.setenv("HWKIT_CUDA_DRIVER", "cupy")
    with pytest.raises(Unavailable, match=r"pycuda or cuda\.core: unset HWKIT_CUDA_DRIVER"):
        choose()


@pytest.mark.parametrize("code", [34, 35, 100, 802, 803, 999])
def test_a_driver_that_does_not_start_says_what_to_do(code: int) -> None:
    """Each reason has one sentence with an advice."""
    assert ": " in str(no_device(code, "unknown error"))


def test_a_gpu_that_gives_no_context_is_one_sentence() -> None:
    """A GPU that another process has to itself, or whose memory is full, is not a traceback."""

    def driver(index: int) -> Any:
        raise DriverError(46, "CUDA-capable device(s) is/are busy or unavailable")

    backend: Any = CudaBackend()
    backend._driver = driver
    with pytest.raises(Unavailable, match=r"cuda:0 cannot be opened \(CUDA.*type 'nvidia-smi'"):
        backend.open(0)


def test_errors_are_known_by_their_text() -> None:
    """pycuda keeps the text of an error only, which leads back to its code."""
    assert code_of("cuMemAlloc failed: out of memory") == 2
    assert code_of("cuCtxSynchronize failed: an illegal memory access was encountered") == 700
    assert code_of("cuFrobnicate failed: the moon is full") == 999
    assert {*TEXTS} >= STICKY


class _Device:
    """As much of a device as a failure needs."""

    lost = False

    def __str__(self) -> str:
        return "cuda:0"


@pytest.mark.parametrize(
    ("code", "failure"), [(2, "memory"), (209, "compile"), (701, "launch"), (1, "launch")]
)
def test_codes_have_a_failure_class(code: int, failure: str) -> None:
    """What failed decides the class; the device stays usable."""
    device: Any = _Device()
    with pytest.raises(KernelFailure) as caught, translated(device, "it ran"):
        raise DriverError(code, "no")
    assert caught.value.failure == failure
    assert not device.lost


def test_an_error_that_stays_loses_the_device() -> None:
    """After an illegal access nothing runs in this process; the sentence says so."""
    device: Any = _Device()
    with (
        pytest.raises(KernelFailure, match=r"cuda:0 failed while it ran.*start it again") as caught,
        translated(device, "it ran"),
    ):
        raise DriverError(700, "an illegal memory access was encountered")
    assert caught.value.failure == "crash"
    assert device.lost
