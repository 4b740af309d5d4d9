"""hwkit: one call, the fastest kernel that is proved right, on any device."""

from __future__ import annotations

from .backend import Backend, Device, Fingerprint, Kernel, Run
from .errors import (
    ArgumentError,
    DatabaseError,
    DtypeError,
    HwkitError,
    HwkitWarning,
    KernelFailure,
    NoKernel,
    PluginError,
    Unavailable,
)
from .hookspecs import hookimpl
from .op import Op, Operand, Problem
from .space import Config, Space

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "Backend",
    "Config",
    "DatabaseError",
    "Device",
    "DtypeError",
    "Fingerprint",
    "HwkitError",
    "HwkitWarning",
    "Kernel",
    "KernelFailure",
    "NoKernel",
    "Op",
    "Operand",
    "PluginError",
    "Problem",
    "Run",
    "Space",
    "Unavailable",
    "__version__",
    "hookimpl",
]
