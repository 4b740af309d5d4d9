"""CUDA devices through pycuda or cuda.core, and kernels whose text OpenCL compiles as well.

Importing this package costs nothing: a driver library is imported when a device is counted or
opened.
"""

from __future__ import annotations

from collections.abc import Iterable

from hwkit import Backend, Device, Kernel, hookimpl

__all__ = ["hwkit_backends", "hwkit_kernels"]


@hookimpl
def hwkit_backends() -> Iterable[Backend]:
    """Return the backend ``cuda``."""
    from .backend import CudaBackend

    return [CudaBackend()]


@hookimpl
def hwkit_kernels(device: Device) -> Iterable[Kernel]:
    """Return the kernels of a CUDA device."""
    if device.backend != "cuda":
        return []
    from .device import CudaDevice

    if not isinstance(device, CudaDevice):
        return []
    from . import mma, simt

    return [*simt.kernels(device), *mma.kernels(device)]
