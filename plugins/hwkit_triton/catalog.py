"""All kernels of the package, for a device or for a compute capability alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwkit import Kernel

from . import conv2d, gemm, pool2d
from .target import Target

if TYPE_CHECKING:
    from hwkit import Device

__all__ = ["kernels"]


def kernels(target: Target, device: Device | None = None) -> list[Kernel]:
    """Return the kernels that a target can run.

    Args:
        target: what they are compiled for.
        device: where they run; ``None`` to compile only.
    """
    if target.capability < 75:
        return []
    modules = (gemm, conv2d, pool2d)
    return [kernel for module in modules for kernel in module.kernels(target, device)]
