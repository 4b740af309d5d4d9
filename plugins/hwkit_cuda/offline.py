"""A GPU that is not there: its limits are known and kernels are compiled for it, but none runs."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

import hwkit
from hwkit import Fingerprint, Unavailable

from .arrays import CudaArray
from .device import CudaDevice
from .limits import Limits
from .programs import Text
from .run import Launch

__all__ = ["OfflineDevice"]


class OfflineDevice(CudaDevice):
    """An architecture without a GPU.

    Args:
        arch: ``"sm_90"``.
        limits: what a launch may have; what all GPUs of the architecture allow by default.
        index: the number of the GPU that it stands for.
    """

    def __init__(self, arch: str, limits: Limits | None = None, index: int = 0) -> None:
        self.index = index
        self.arch = arch
        self.lost = False
        self.lock = threading.RLock()
        self.limits = limits or Limits.of_arch(arch)
        self.fingerprint = Fingerprint(
            identity={"backend": self.backend, "arch": arch},
            environment={"hwkit": hwkit.__version__},
        )

    def _nothing(self) -> NoReturn:
        raise Unavailable(
            f"no {self.arch} is there to run on, kernels are only compiled: use another device"
        )

    def put(self, array: Any) -> CudaArray:
        """Refuse."""
        self._nothing()

    def get(self, buffer: Any) -> np.ndarray[Any, Any]:
        """Refuse."""
        self._nothing()

    def time(self, run: Any) -> float:
        """Refuse."""
        self._nothing()

    def ceilings(self) -> Mapping[str, float]:
        """Return nothing: no ceiling was measured."""
        return {}

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> CudaArray:
        """Return a buffer without memory."""
        return CudaArray(0, tuple(shape), dtype, self.index, None)

    def function(self, text: Text, shared: int) -> Any:
        """Return the text itself, which is compiled when asked."""
        return text

    def texts(self, launches: list[Launch]) -> list[Text]:
        """Return what launches that were built here are compiled from."""
        return [launch.function for launch in launches]
