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
    from .device import OpenclDevice

    if not isinstance(device, OpenclDevice):
        return []
    from . import conv2d, fpga, gemm, pool2d

    if device.limits.work_group == 1:
        return fpga.kernels(device)
    return [*gemm.kernels(device), *conv2d.kernels(device), *pool2d.kernels(device)]
