"""What authors of backends, kernels and strategies test with; imported by nothing in hwkit.

* :class:`BackendSuite`: conformance tests to subclass.
* :class:`FakeBackend`: a device without hardware whose times follow a known formula.
* :class:`FaultyBackend`: kernels that fail in every way a kernel can.
* :class:`ReplayBackend`: a device that answers from recorded measurements.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fake import FAULTS, FakeBackend, FaultyBackend
    from .replay import ReplayBackend
    from .suite import BackendSuite, unavailable

__all__ = ["FAULTS", "BackendSuite", "FakeBackend", "FaultyBackend", "ReplayBackend", "unavailable"]

_LATE = {
    "FAULTS": "fake",
    "BackendSuite": "suite",
    "FakeBackend": "fake",
    "FaultyBackend": "fake",
    "ReplayBackend": "replay",
    "unavailable": "suite",
}

if "pytest" in sys.modules:
    # Failing asserts of the suite then print what they compared.
    sys.modules["pytest"].register_assert_rewrite(f"{__name__}.suite")


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LATE[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
