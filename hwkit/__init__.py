"""hwkit: one call, the fastest kernel that is proved right, on any device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .backend import Backend, Device, Fingerprint, Kernel, Run
from .config import Config
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
from .space import Space

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
    "Plan",
    "PluginError",
    "Problem",
    "Run",
    "Space",
    "Spec",
    "Unavailable",
    "__version__",
    "explain",
    "hookimpl",
    "load",
    "ops",
    "plan",
    "tune",
    "use",
]

if TYPE_CHECKING:
    from . import ops
    from .arrays import Spec
    from .dispatch import plan, use
    from .explanation import explain
    from .graph import load
    from .plans import Plan
    from .tuner import tune

# Loaded when first asked for: importing hwkit costs little more than importing numpy.
_LATE = {
    "Plan": "plans",
    "Spec": "arrays",
    "explain": "explanation",
    "load": "graph",
    "plan": "dispatch",
    "tune": "tuner",
    "use": "dispatch",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "ops":
        return import_module(".ops", __name__)
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_LATE[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
