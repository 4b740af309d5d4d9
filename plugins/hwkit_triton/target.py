"""Target: what of a device its kernels are made for, and what it allows."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hwkit import Device
from hwkit_cuda.limits import ARCHS, Limits

__all__ = ["Target"]

# Of an architecture that is not known: what every one has.
_LEAST_SHARED = 65_536
_UNITS = 108


@dataclass(frozen=True)
class Target:
    """What kernels are made for.

    Attributes:
        capability: ten times the compute capability, as 90.
        units: streaming multiprocessors, of which persistent kernels fill each.
        shared: bytes of shared memory that a program may have.
    """

    capability: int
    units: int = _UNITS
    shared: int = _LEAST_SHARED

    @classmethod
    def of(cls, device: Device) -> Target:
        """Return that of a CUDA device, by its arch and fingerprint."""
        found = re.match(r"sm_(\d+)", device.arch)
        capability = int(found[1]) if found else 0
        identity = device.fingerprint.identity
        units = int(identity.get("multiprocessors", identity.get("units", _UNITS)))
        return cls.named(capability, units)

    @classmethod
    def named(cls, capability: int, units: int = _UNITS) -> Target:
        """Return that of a compute capability."""
        arch = f"sm_{capability}"
        known = Limits.of_arch(arch).local_memory if arch in ARCHS else _LEAST_SHARED
        return cls(capability, units, known)

    @property
    def descriptors(self) -> bool:
        """Whether tensor descriptors are copied by hardware."""
        return self.capability >= 90

    @property
    def warpgroups(self) -> bool:
        """Whether matrices are multiplied by groups of four warps (wgmma)."""
        return self.capability == 90

    @property
    def tensor_memory(self) -> bool:
        """Whether sums of matrices lie in a memory of their own: not on sm_120 and sm_121."""
        return 100 <= self.capability < 120

    @property
    def from_shared(self) -> bool:
        """Whether matrices are multiplied as they lie in shared memory, not from registers."""
        return self.warpgroups or self.tensor_memory
