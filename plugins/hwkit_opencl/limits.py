"""What a device allows, as it reports it or as a profile says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """What prunes Configs before anything is built.

    Attributes:
        work_group: most work-items of a group.
        local_memory: bytes of local memory of a group.
        allocation: most bytes of one buffer.
        alignment: bytes to which a part of a buffer must be aligned.
        float64: whether the device computes in double.
        registers: 32-bit registers of a work-item before it spills; 0 if not known.
        texels: most texels of an image over a buffer; 0 if there are no images.
        cache: bytes of the cache behind private memory; 0 if not known.
        is_cpu: whether the device is a CPU, where a group is a loop and local memory is a copy.
    """

    work_group: int
    local_memory: int
    allocation: int
    alignment: int
    float64: bool
    registers: int = 0
    texels: int = 0
    cache: int = 0
    is_cpu: bool = False

    @classmethod
    def of(cls, found: Any) -> Limits:
        """Return what a ``pyopencl.Device`` reports."""
        import pyopencl as cl

        return cls(
            work_group=int(found.max_work_group_size),
            local_memory=int(found.local_mem_size),
            allocation=int(found.max_mem_alloc_size),
            alignment=max(int(found.mem_base_addr_align) // 8, 1),
            float64="cl_khr_fp64" in found.extensions.split(),
            texels=int(found.image_max_buffer_size) if found.image_support else 0,
            cache=int(found.global_mem_cache_size),
            is_cpu=bool(found.type & cl.device_type.CPU),
        )

    def why_not(self, threads: int, local_memory: int = 0) -> str | None:
        """Return why a group of this size cannot be launched, or ``None``."""
        if threads > self.work_group:
            return f"a group of {threads} is larger than the device's {self.work_group}"
        if local_memory > self.local_memory:
            return f"{local_memory} bytes of local memory are more than {self.local_memory}"
        return None

    def why_not_private(self, threads: int, private_memory: int) -> str | None:
        """Return why a compiled kernel cannot run well, or ``None``.

        OpenCL knows no limit of private memory, only what a kernel takes; where a group's does not
        fit the cache, every access goes to memory.
        """
        if self.cache and threads * private_memory > self.cache:
            return (
                f"{threads} work-items with {private_memory} bytes of private memory each are more "
                f"than the {self.cache} bytes of the device's cache: choose a smaller tile"
            )
        return None
