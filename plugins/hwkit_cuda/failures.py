"""What a CUDA error means to hwkit: one sentence, and what to type next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hwkit import KernelFailure, Unavailable

from .driver import DriverError

if TYPE_CHECKING:
    from .device import CudaDevice

__all__ = ["STICKY", "translated"]

STICKY = frozenset({214, 700, 702, 710, 714, 715, 716, 717, 718, 719})
"""Codes after which no call of the process can succeed on this device."""

_MEMORY = {2}
_COMPILE = {200, 209, 218, 220, 222, 300, 301, 302, 303, 500}
_LOST = {3, 4, 46, 100, 101, 201, 709, 802, 803}


@contextmanager
def translated(device: CudaDevice, what: str) -> Iterator[None]:
    """Turn the driver's errors into hwkit's.

    Args:
        device: where; it is marked as lost by an error that stays.
        what: what is being done, for the message.

    Raises:
        KernelFailure: class ``compile``, ``memory``, ``launch`` or ``crash``.
        Unavailable: the device is lost.
    """
    try:
        yield
    except DriverError as error:
        text = f"{device} failed while {what}: {error}"
        if error.code in STICKY:
            device.lost = True
            raise KernelFailure(
                "crash", f"{text}; nothing runs on it in this process any more: start it again"
            ) from error
        if error.code in _LOST:
            if device.lost:
                raise KernelFailure("crash", f"{text}: start the process again") from error
            raise Unavailable(f"{text}: type 'nvidia-smi', or use the CPU") from error
        failure = "memory" if error.code in _MEMORY else "launch"
        raise KernelFailure("compile" if error.code in _COMPILE else failure, text) from error
