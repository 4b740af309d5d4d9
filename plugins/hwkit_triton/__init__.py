"""Kernels in Triton for CUDA devices that another plugin opens: no device, no memory.

Importing this package costs nothing: Triton is imported when a kernel is built. Without Triton
the kernels are there and decline, with what to install.
"""

from __future__ import annotations

from collections.abc import Iterable

from hwkit import Device, Kernel, hookimpl

__all__ = ["hwkit_kernels"]


@hookimpl
def hwkit_kernels(device: Device) -> Iterable[Kernel]:
    """Return the kernels of a CUDA device."""
    if device.backend != "cuda":
        return []
    from .catalog import kernels
    from .target import Target

    return kernels(Target.of(device), device)
