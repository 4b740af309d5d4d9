"""Kernels in Triton for CUDA devices that another plugin opens: no device, no memory.

Importing this package costs nothing: Triton is imported when a kernel is built. Without Triton
the kernels are there and decline, with what to install.

Tried without a GPU with Triton 3.6, 3.7, 3.8 and 3.9: with each of them every kernel is right in
the interpreter (3.6 needs numpy before 2.4 for it), and every default compiles to what sm_80,
sm_90, sm_100 and sm_120 can launch, with instructions for matrices. The formulas of shared memory
are 3.9's; before, some of sm_100 and of split precisions differ by KiB: the compiler's figure
settles it.
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
