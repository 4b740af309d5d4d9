"""The driver library behind one small class, so that two of them can serve.

All that a device needs of a library is here: a context, memory, copies, a loaded kernel, and a
launch with its time. Everything above speaks in addresses and bytes.
"""

from __future__ import annotations

import ctypes
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Union

import numpy as np

from hwkit import Unavailable

from .streams import DEFAULT

__all__ = ["DRIVER_VARIABLE", "Blocks", "Driver", "DriverError", "Facts", "Place", "choose"]

DRIVER_VARIABLE = "HWKIT_CUDA_DRIVER"
"""Variable with the name of the driver library to use, pycuda or cuda.core; the first if unset."""

INSTALL = "pip install 'hwkit[cuda]', or 'hwkit[cuda-core]' where pycuda cannot be built"

Array = np.ndarray[Any, Any]
Place = Union[int, Array]
"""An address on the device, or an array of the host, which is C-contiguous."""


class DriverError(Exception):
    """What the driver answered.

    Attributes:
        code: number of the ``CUresult``.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Blocks(NamedTuple):
    """The blocks of a launch.

    Attributes:
        grid: their number along three axes.
        threads: of a block.
        shared: bytes of dynamic shared memory of a block.
    """

    grid: tuple[int, int, int]
    threads: int
    shared: int


@dataclass(frozen=True)
class Facts:
    """What the driver says of a GPU.

    Attributes:
        name: as the driver prints it.
        capability: compute capability, ``(9, 0)``.
        memory: bytes of global memory.
        driver: version of the driver, ``"13.0"``.
        library: driver library and its version, ``"pycuda 2026.1"``.
        attributes: device attributes by the names of ``CUdevice_attribute``, in lower case.
    """

    name: str
    capability: tuple[int, int]
    memory: int
    driver: str
    library: str
    attributes: Mapping[str, int] = field(default_factory=dict)


ATTRIBUTES = {
    "multiprocessor_count": 16,
    "max_threads_per_block": 1,
    "max_shared_memory_per_block_optin": 97,
    "max_shared_memory_per_multiprocessor": 81,
    "max_registers_per_multiprocessor": 82,
    "max_threads_per_multiprocessor": 39,
    "l2_cache_size": 38,
    "clock_rate": 13,
    "memory_clock_rate": 36,
    "global_memory_bus_width": 37,
}
"""The attributes that are asked for, with their numbers in ``cuda.h``."""


class Driver(ABC):
    """One GPU through one driver library. Nothing stays on the context stack between calls.

    Args:
        index: number of the GPU.

    Attributes:
        name: of the library.
    """

    name: str

    @abstractmethod
    def __init__(self, index: int) -> None: ...

    @classmethod
    def count(cls) -> int:
        """Return the number of GPUs.

        Raises:
            ImportError: the library or the driver is not there.
            Unavailable: the driver has no device.
        """
        try:
            found = cls.started()
        except DriverError as error:
            raise no_device(error.code, str(error)) from error
        if not found:
            raise no_device(100, "no device")
        return found

    @classmethod
    @abstractmethod
    def started(cls) -> int:
        """Start the driver, and return the number of GPUs.

        Raises:
            ImportError: the library or the driver is not there.
            DriverError: it does not start.
        """

    @abstractmethod
    def facts(self) -> Facts:
        """Return what the GPU is."""

    @abstractmethod
    def context(self) -> AbstractContextManager[Any]:
        """Make the GPU's primary context current, and what was before on leaving."""

    @abstractmethod
    def allocate(self, size: int) -> int:
        """Return the address of ``size`` bytes."""

    @abstractmethod
    def free(self, address: int) -> None:
        """Give back what :meth:`allocate` returned."""

    @abstractmethod
    def copy(self, to: Place, source: Place, size: int, stream: int = DEFAULT) -> None:
        """Copy bytes between host and device or within the device, in the order of launches.

        On a stream that is not the default one, it copies within the device only.
        """

    @abstractmethod
    def load(self, cubin: bytes, function: str, shared: int = 0) -> Any:
        """Return a function of a cubin, allowed ``shared`` bytes of dynamic shared memory."""

    @abstractmethod
    def launch(self, function: Any, blocks: Blocks, packed: bytes, stream: int = DEFAULT) -> None:
        """Launch with packed arguments, in the order of a stream that any library may have made.

        The context is current (:meth:`context`): it is made so once for all launches of a call.
        """

    @abstractmethod
    def order(self, after: int, before: int) -> None:
        """Let what is given to stream ``after`` from now on wait for all that ``before`` has."""

    @abstractmethod
    def time(self, run: Callable[[], Any]) -> float:
        """Return the seconds between an event before ``run()`` and one after it."""

    @abstractmethod
    def synchronise(self) -> None:
        """Wait until everything that was launched is done."""


def choose() -> type[Driver]:
    """Return the first driver library that can be imported.

    Raises:
        Unavailable: there is none, or the one that is asked for is not there.
    """
    from .driver_core import CoreDriver
    from .driver_pycuda import PycudaDriver

    known: tuple[type[Driver], ...] = (PycudaDriver, CoreDriver)
    wanted = os.environ.get(DRIVER_VARIABLE, "").strip().lower()
    if wanted and wanted not in [driver.name for driver in known]:
        names = " or ".join(driver.name for driver in known)
        raise Unavailable(
            f"{DRIVER_VARIABLE}={wanted} is no driver library, which is {names}: "
            f"unset {DRIVER_VARIABLE}"
        )
    reasons = []
    for driver in known:
        if wanted in ("", driver.name):
            try:
                driver.count()
            except ImportError as error:
                reasons.append(str(error))
                continue
            return driver
    if not _has_libcuda() and any("libcuda" in reason for reason in reasons):
        raise Unavailable("there is no NVIDIA driver (libcuda.so.1): install it, or use the CPU")
    raise Unavailable(f"no CUDA driver library can be imported ({'; '.join(reasons)}): {INSTALL}")


def _has_libcuda() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def no_device(code: int, text: str) -> Unavailable:
    """Return what to raise where the driver does not start or has no device."""
    advice = {
        100: "the CUDA driver is there, but no NVIDIA GPU: type 'nvidia-smi'",
        34: "libcuda.so.1 is a stub without a driver: install the NVIDIA driver",
        35: "the NVIDIA driver is too old: update it",
        802: "the GPUs are not ready yet: start nvidia-fabricmanager",
        803: "driver and libcuda.so.1 have different versions: restart the machine",
    }
    found = advice.get(code, f"the CUDA driver does not start ({text}): type 'nvidia-smi'")
    return Unavailable(found)


def code_of(text: str) -> int:
    """Return the number of an error that is known by its text only; 999, unknown, for others."""
    said = text.lower()
    return next((code for code, known in TEXTS.items() if re.search(known, said)), 999)


TEXTS = {
    2: "out of memory",
    100: "no cuda-capable device",
    34: "stub",
    35: "insufficient",
    802: "not yet initialized|not ready",
    803: "driver mismatch|unsupported display driver",
    209: "no kernel image|no binary",
    200: "kernel image is invalid|invalid image",
    218: "ptx",
    500: "named symbol not found",
    214: "ecc",
    700: "illegal memory access",
    701: "too many resources",
    702: "launch timed out",
    710: "assert",
    714: "hardware stack",
    715: "illegal instruction",
    716: "misaligned address",
    717: "address space",
    718: "invalid program counter",
    719: "unspecified launch failure",
    3: "initialization error|not initialized",
    201: "invalid device context",
    1: "invalid (argument|value)",
}
"""Words of ``cuGetErrorString`` by which a code is known where a library keeps only the text."""
