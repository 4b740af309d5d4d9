"""What an architecture allows; the figures are those of the CUDA C++ Programming Guide."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hwkit import ArgumentError

from .driver import Facts

__all__ = ["ARCHS", "Limits"]

# Compute capability: KiB of shared memory of a block, of a multiprocessor; threads of one.
# CUDA C++ Programming Guide 13.0, table "Technical Specifications per Compute Capability".
ARCHS = {
    "sm_75": (64, 64, 1024),
    "sm_80": (163, 164, 2048),
    "sm_86": (99, 100, 1536),
    "sm_87": (163, 164, 1536),
    "sm_89": (99, 100, 1536),
    "sm_90": (227, 228, 2048),
    "sm_100": (227, 228, 2048),
    "sm_103": (227, 228, 2048),
    "sm_120": (99, 100, 1536),
    "sm_121": (99, 100, 1536),
}

# Registers: a multiprocessor's, the most of a thread, and the unit of a warp's allocation.
_REGISTERS, _THREAD_REGISTERS, _UNIT = 65536, 255, 256
_RESERVED = 1024  # bytes of shared memory that the system takes of each block, from sm_80 on


@dataclass(frozen=True)
class Limits:
    """What prunes Configs before anything is launched.

    Attributes:
        work_group: most threads of a block.
        local_memory: bytes of shared memory of a block.
        allocation: most bytes of one buffer.
        multiprocessor_memory: bytes of shared memory of a multiprocessor.
        multiprocessor_threads: most threads of one.
        alignment: bytes to which a part of a buffer must be aligned.
        float64: whether it computes in double; every GPU does.
        registers: most registers of a thread.
        is_cpu: no GPU is.
        grid: most blocks along the second and third axis.
    """

    work_group: int
    local_memory: int
    allocation: int
    multiprocessor_memory: int
    multiprocessor_threads: int
    alignment: int = 16
    float64: bool = True
    registers: int = _THREAD_REGISTERS
    is_cpu: bool = False
    grid: int = 65535

    @classmethod
    def of(cls, facts: Facts) -> Limits:
        """Return what a GPU reports."""
        found = facts.attributes
        return cls(
            work_group=found["max_threads_per_block"],
            local_memory=found["max_shared_memory_per_block_optin"],
            allocation=facts.memory,
            multiprocessor_memory=found["max_shared_memory_per_multiprocessor"],
            multiprocessor_threads=found["max_threads_per_multiprocessor"],
        )

    @classmethod
    def of_arch(cls, arch: str) -> Limits:
        """Return what every GPU of an architecture has.

        Raises:
            ArgumentError: it is not known.
        """
        plain = re.sub(r"[af]$", "", arch)
        if plain not in ARCHS:
            raise ArgumentError(f"{arch} is no architecture with known limits: {', '.join(ARCHS)}")
        block, whole, threads = ARCHS[plain]
        return cls(1024, block * 1024, 2**36, whole * 1024, threads)

    def why_not(self, threads: int, local_memory: int = 0) -> str | None:
        """Return why a block of this size cannot be launched, or ``None``."""
        if threads > self.work_group:
            return f"a block of {threads} threads is larger than the device's {self.work_group}"
        if local_memory > self.local_memory:
            return f"{local_memory} bytes of shared memory are more than {self.local_memory}"
        return None

    def blocks(self, threads: int, registers: int, shared: int) -> int:
        """Return how many blocks a multiprocessor holds at a time.

        Args:
            threads: of a block.
            registers: of a thread.
            shared: bytes of shared memory of a block.
        """
        warps = -(-threads // 32)
        each = -(-max(registers, 1) * 32 // _UNIT) * _UNIT * warps
        by_shared = self.multiprocessor_memory // (shared + _RESERVED)
        return min(self.multiprocessor_threads // (warps * 32), _REGISTERS // each, by_shared, 32)
