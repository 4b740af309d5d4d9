"""What authors of backends, kernels and strategies test with; imported by nothing in hwkit.

* :class:`BackendSuite`: conformance tests to subclass.
* :class:`FakeBackend`: a device without hardware whose times follow a known formula.
* :class:`FaultyBackend`: kernels that fail in every way a kernel can.
* :class:`ReplayBackend`: a device that answers from recorded measurements.
* :class:`OnnxBackend`: hwkit as a backend of the tests that the package onnx brings.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fake import FakeBackend
    from .faulty import FAULTS, FaultyBackend
    from .onnx_backend import OnnxBackend
    from .replay import ReplayBackend
    from .suite import BackendSuite, unavailable

__all__ = [
    "FAULTS",
    "BackendSuite",
    "FakeBackend",
    "FaultyBackend",
    "OnnxBackend",
    "ReplayBackend",
    "unavailable",
]

_LATE = {
    "FAULTS": "faulty",
    "BackendSuite": "suite",
    "FakeBackend": "fake",
    "FaultyBackend": "faulty",
    "OnnxBackend": "onnx_backend",
    "ReplayBackend": "replay",
    "unavailable": "suite",
}

if "pytest" in sys.modules:
    # Failing asserts of the suite then print what they compared.
    for _part in ("cases", "suite_device", "suite_kernels"):
        sys.modules["pytest"].register_assert_rewrite(f"{__name__}.{_part}")


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LATE[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
