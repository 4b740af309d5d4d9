"""The backend ``cuda``: the NVIDIA GPUs that a driver library can reach."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from hwkit import Backend, Device

if TYPE_CHECKING:
    from .driver import Driver

__all__ = ["CudaBackend"]


class CudaBackend(Backend):
    """Every GPU that the CUDA driver shows, in its order."""

    name = "cuda"

    def count(self) -> int:
        """Return the number of GPUs.

        Raises:
            Unavailable: a driver library, the driver or a GPU is missing.
        """
        return self._driver.count()

    def open(self, index: int | str) -> Device:
        """Return GPU number ``index``."""
        from .device import CudaDevice

        return CudaDevice(self._driver(int(index)), int(index))

    def offline(self, arch: str) -> Device:
        """Return an architecture without a GPU, as ``"sm_90"``."""
        from .offline import OfflineDevice

        return OfflineDevice(arch)

    @cached_property
    def _driver(self) -> type[Driver]:
        from .driver import choose

        return choose()
