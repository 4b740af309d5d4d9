"""BackendSuite: the conformance tests of a backend. Subclass it, name the device, run pytest::

    from hwkit.testing import BackendSuite

    class TestAbacus(BackendSuite):
        device = "abacus:0"

Nothing in here is skipped: a device that cannot be opened, or that supports nothing, fails.
"""

from __future__ import annotations

from .suite_base import unavailable
from .suite_device import DeviceTests
from .suite_kernels import KernelTests

__all__ = ["BackendSuite", "unavailable"]


class BackendSuite(DeviceTests, KernelTests):
    """Conformance tests of one device and of its kernels.

    Attributes:
        device: its name, as ``"abacus:0"``.
        ops: names of the Ops that it must support; whatever its kernels name if empty.
        drivers: modules that importing the plugin must not import.
        configs: random Configs to try for each small problem.
    """
