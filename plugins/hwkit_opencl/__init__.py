"""OpenCL devices, real and emulated, and kernels whose text CUDA compiles as well.

Importing this package costs nothing: pyopencl is imported when a device is counted or opened.
"""

from __future__ import annotations

from collections.abc import Iterable

from hwkit import Backend, Device, Kernel, hookimpl

__all__ = ["hwkit_backends", "hwkit_kernels"]


@hookimpl
def hwkit_backends() -> Iterable[Backend]:
    """Return the backend ``opencl``."""
    from .backend import OpenclBackend

    return [OpenclBackend()]


@hookimpl
def hwkit_kernels(device: Device) -> Iterable[Kernel]:
    """Return the kernels of an OpenCL device."""
    if device.backend != "opencl":
        return []
    from .device import OpenclDevice

    if not isinstance(device, OpenclDevice):
        return []
    from . import conv2d, fpga, gemm, images, pool2d

    if device.limits.work_group == 1:
        return fpga.kernels(device)
    parts = (gemm, conv2d, pool2d, images)
    return [kernel for part in parts for kernel in part.kernels(device)]
