"""The backend ``cuda``: the NVIDIA GPUs that a driver library can reach."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from hwkit import Backend, Device, Unavailable

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
        """Return GPU number ``index``.

        Raises:
            Unavailable: it gives this process no context, as where another has it to itself.
        """
        from .device import CudaDevice
        from .driver import DriverError

        try:
            driver = self._driver(int(index))
        except DriverError as error:
            raise Unavailable(
                f"cuda:{index} cannot be opened ({error}): type 'nvidia-smi' to see who uses it"
            ) from error
        return CudaDevice(driver, int(index))

    def offline(self, arch: str) -> Device:
        """Return an architecture without a GPU, as ``"sm_90"``."""
        from .offline import OfflineDevice

        return OfflineDevice(arch)

    @cached_property
    def _driver(self) -> type[Driver]:
        from .driver import choose

        return choose()
