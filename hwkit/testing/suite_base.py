"""What the parts of the conformance suite share: which device, which kernels, which cases."""

from __future__ import annotations

from typing import Any, ClassVar

from ..backend import Backend, Device, Kernel
from ..dispatch import parse_problem
from ..errors import HwkitError
from ..op import Op, Problem
from ..registry import registry
from .cases import round_trip_arrays, small_problems

__all__ = ["DRIVERS", "Suite", "unavailable"]

DRIVERS = ("pycuda", "pyopencl", "triton", "torch", "cupy", "numba", "jax", "tensorflow")
"""Packages that reach hardware or take seconds to import: not before a device is asked for."""


def unavailable(device: str) -> str:
    """Return why a device cannot be opened here, or ``""``.

    For machines without the hardware: ``pytest.mark.skipif(unavailable("cuda:0"), reason=...)``.
    """
    try:
        registry().device(device)
    except HwkitError as reason:
        return str(reason)
    return ""


class Suite:
    """Conformance tests of one device and of its kernels.

    Attributes:
        device: its name, as ``"abacus:0"``.
        ops: names of the Ops that it must support; whatever its kernels name if empty.
        drivers: modules that importing the plugin must not import.
        configs: random Configs to try for each small problem.
    """

    device: ClassVar[str]
    ops: ClassVar[tuple[str, ...]] = ()
    drivers: ClassVar[tuple[str, ...]] = DRIVERS
    configs: ClassVar[int] = 2

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Make one test of each kernel and problem; pytest calls this."""
        names = metafunc.fixturenames
        if "array" in names:
            metafunc.parametrize("array", round_trip_arrays())
        elif "sample" in names:
            cases = self._sample_cases()
            ids = [f"{kernel}: {problem}" for kernel, problem in cases]
            metafunc.parametrize(("kernel_name", "sample"), cases, ids=ids)
        elif "op_name" in names:
            cases = [(op.name, kernel.name) for op in self._ops() for kernel in self._kernels(op)]
            metafunc.parametrize(("op_name", "kernel_name"), cases)

    def _sample_cases(self) -> list[tuple[str, str]]:
        return [
            (kernel.name, str(problem))
            for op in self._ops()
            for problem in map(parse_problem, op.samples)
            for kernel in self._kernels(op)
            if kernel.supports(problem) is True
        ]

    def _backend(self) -> Backend:
        return registry().backends()[self.device.partition(":")[0]]

    def _ops(self) -> list[Op]:
        if unavailable(self.device):
            return []  # the tests without parameters fail, with the reason
        known = registry().ops()
        named = {kernel.op for kernel in registry().kernels(self._device())}
        return [op for name, op in known.items() if name in named | {*self.ops} or "*" in named]

    def _device(self) -> Device:
        return registry().device(self.device)

    def _kernels(self, op: Op | str) -> tuple[Kernel, ...]:
        return registry().kernels(self._device(), str(op))

    def _kernel(self, op: str, name: str) -> Kernel:
        return next(kernel for kernel in self._kernels(op) if kernel.name == name)

    def _small(self, op: str, kernel: Kernel) -> list[Problem]:
        return [p for p in small_problems(registry().op(op)) if kernel.supports(p) is True]
