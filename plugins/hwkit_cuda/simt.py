"""The kernels whose text OpenCL compiles as well, with what CUDA asks of a Config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hwkit import Config, Kernel, Problem
from hwkit_opencl.common import OpenclKernel
from hwkit_opencl.conv2d import ImplicitConv2d
from hwkit_opencl.direct import ChannelsConv2d, RowsConv2d
from hwkit_opencl.gemm import LocalGemm, PackedGemm, PlainGemm
from hwkit_opencl.pool2d import POOLS, ImagePool2d, WindowPool2d
from hwkit_opencl.programs import DTYPES

from .programs import Text
from .run import CudaRun, Launch

if TYPE_CHECKING:
    from .device import CudaDevice
    from .offline import OfflineDevice

__all__ = ["CudaKernel", "kernels"]

# Multiply-adds of a product that is over before the next kernel has been launched.
_SMALL = 128**3


def kernels(device: CudaDevice) -> list[Kernel]:
    """Return the kernels of a CUDA device."""
    found: list[Kernel] = [
        kind(device, op)
        for op in ("gemm", "matmul")
        for kind in (CudaPackedGemm, CudaPlainGemm, CudaLocalGemm)
    ]
    found += [
        kind(device, "conv2d") for kind in (CudaImplicitConv2d, CudaRowsConv2d, CudaChannelsConv2d)
    ]
    found += [CudaWindowPool2d(device, op) for op in POOLS]
    return found + [CudaImagePool2d(device, op) for op in POOLS[2:]]


class CudaKernel(OpenclKernel):
    """What all kernels have in common on a CUDA device.

    Args:
        device: where.
        op: name of the Op.
    """

    device: Any  # a CudaDevice: the texts' Python side asks little of a device
    arch_suffix = ""

    def __init__(self, device: CudaDevice, op: str) -> None:
        self.device = device
        self.op = op

    def launch(
        self,
        problem: Problem,
        function: str,
        groups: tuple[int, int, int],
        threads: int,
        defines: Mapping[str, int],
        arguments: tuple[Any, ...],
        shared: int = 0,
    ) -> Launch:
        """Return the launch of a function of ``self.file``."""
        macros = {**defines, "THREADS": threads, "DTYPE": DTYPES[problem.dtypes.input]}
        arch = self.device.arch + self.arch_suffix
        text = Text(self.file, function, arch, tuple(sorted(macros.items())))
        return Launch(self.device.function(text, shared), groups, threads, tuple(arguments), shared)

    def run(
        self,
        problem: Problem,
        config: Config,
        launches: Sequence[Launch],
        packing: int = 0,
        scratch: tuple[Any, ...] = (),
    ) -> CudaRun:
        """Return launches as a run."""
        operands = problem.operands
        return CudaRun(self.device, operands, problem.output, launches, packing, scratch)

    @cached_property
    def _offline(self) -> CudaKernel:
        """The same kernel where nothing is loaded, to look at what a Config launches."""
        from .offline import OfflineDevice

        if isinstance(self.device, OfflineDevice):
            return self
        device: OfflineDevice = OfflineDevice(self.device.arch, self.device.limits)
        return type(self)(device, self.op)

    def planned(self, problem: Problem, config: Config) -> Sequence[Launch]:
        """Return what a Config launches; each launch's function is its :class:`Text`."""
        run = self._offline.build(problem, config)
        assert isinstance(run, CudaRun)
        return run.launches

    def supports(self, problem: Problem) -> bool | str:
        """Whether dtypes and sizes fit, and the grid of the default is one that CUDA takes."""
        found = super().supports(problem)
        if found is True:
            return self._too_many_blocks(self.planned(problem, self.default(problem))) or True
        return found

    def _too_many_blocks(self, launches: Sequence[Launch]) -> str | None:
        most = self.device.limits.grid
        for launch in launches:
            if max(launch.grid[1:]) > most or launch.grid[0] >= 2**31:
                return f"{launch.grid} blocks are more than the {most} of an axis of the grid"
        return None

    def static_check(self, problem: Problem, config: Config) -> str | None:
        """Return what the compiler knows: registers, spills, shared memory, blocks."""
        reason = super().static_check(problem, config)
        if reason is not None:
            return reason
        launches = self.planned(problem, config)
        reason = self._too_many_blocks(launches)
        for launch in launches if reason is None else ():
            reason = reason or self._why_not(launch)
        return reason

    def _why_not(self, launch: Launch) -> str | None:
        limits, used = self.device.limits, launch.function.usage
        shared = used.shared + launch.shared
        if used.spills:
            return f"{launch.function.function} spills {used.spills} bytes of registers"
        reason: str | None = limits.why_not(launch.threads, shared)
        if reason is None and not limits.blocks(launch.threads, used.registers, shared):
            return f"{used.registers} registers for {launch.threads} threads are too many"
        return reason


class CudaPackedGemm(CudaKernel, PackedGemm):
    """b in panels."""

    def rank(self, problem: Problem) -> int:
        """After the plain kernel where a second launch costs more than the whole product."""
        small = problem["m"] * problem["n"] * problem["k"] <= _SMALL
        return 0 if small and not problem.packed else super().rank(problem)


class CudaPlainGemm(CudaKernel, PlainGemm):
    """Both operands where they lie."""


class CudaLocalGemm(CudaKernel, LocalGemm):
    """Blocks of both operands in shared memory."""


class CudaImplicitConv2d(CudaKernel, ImplicitConv2d):
    """Windows are rows of a product that are never written down."""


class CudaRowsConv2d(CudaKernel, RowsConv2d):
    """A vector of pixels of a row."""


class CudaChannelsConv2d(CudaKernel, ChannelsConv2d):
    """A vector of channels."""


class CudaWindowPool2d(CudaKernel, WindowPool2d):
    """Window by window."""


class CudaImagePool2d(CudaKernel, ImagePool2d):
    """A whole image for each thread."""
