"""A built kernel: what Triton compiled, launched by the device's own driver library.

Neither torch nor Triton's launcher is used. A kernel's parameters are its arguments in order,
less those compiled in, and then the addresses of two scratch memories of the compiler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hwkit import KernelFailure, Problem
from hwkit_cuda.failures import translated
from hwkit_cuda.run import OUT as THEIR_OUT
from hwkit_cuda.run import CudaRun
from hwkit_cuda.run import Launch as CudaLaunch
from hwkit_cuda.run import Slot as TheirSlot

from .compiled import compile_launch, threads_of
from .launch import ALIGNMENT, OUT, PARTIAL, Launch, Number, Slot, signature
from .target import Target

if TYPE_CHECKING:
    from hwkit_cuda.arrays import CudaArray
    from hwkit_cuda.device import CudaDevice

__all__ = ["TritonRun", "arguments", "build"]


class TritonRun(CudaRun):
    """A run whose kernels were compiled for arrays that begin at multiples of 16 bytes."""

    def _borrows(self, given: Sequence[CudaArray], out: CudaArray) -> bool:
        return any(array.pointer % ALIGNMENT for array in (*given, out))

    def _enqueue(self, given: Sequence[CudaArray], out: CudaArray, stream: int) -> None:
        aligned = [self._aligned(array, stream) for array in given]
        target = out if out.pointer % ALIGNMENT == 0 else self.device.empty(out.shape, out.dtype)
        super()._enqueue(aligned, target, stream)
        if target is not out:
            self.device.driver.copy(out.pointer, target.pointer, out.nbytes, stream)

    def _aligned(self, array: CudaArray, stream: int) -> CudaArray:
        if array.pointer % ALIGNMENT == 0:
            return array
        found = self.device.empty(array.shape, array.dtype)
        self.device.driver.copy(found.pointer, array.pointer, array.nbytes, stream)
        return found


def build(device: CudaDevice, target: Target, problem: Problem, launches: list[Launch]) -> CudaRun:
    """Compile and load launches, and return them as a run.

    Args:
        device: where.
        target: what to compile for.
        problem: whose operands they take.
        launches: in order.

    Raises:
        KernelFailure: class ``compile`` or ``memory``.
    """
    scratch: list[CudaArray] = []
    size = max(launch.scratch for launch in launches)
    partial = _scratch(device, scratch, size) if size else None
    built = [_loaded(device, target, launch, partial, scratch) for launch in launches]
    return TritonRun(device, problem.operands, problem.output, built, 0, tuple(scratch))


def _scratch(device: CudaDevice, held: list[CudaArray], size: int) -> CudaArray:
    held.append(device.empty((size,), np.dtype(np.uint8)))
    return held[-1]


def _loaded(
    device: CudaDevice,
    target: Target,
    launch: Launch,
    partial: CudaArray | None,
    held: list[CudaArray],
) -> CudaLaunch:
    kernel = compile_launch(launch, target.capability)
    metadata = kernel.metadata
    shared = int(metadata.shared)
    if shared > target.shared:
        raise KernelFailure(
            "compile", f"{launch.function} needs {shared} bytes of shared memory, "
            f"sm_{target.capability} has {target.shared}"
        )  # fmt: skip
    with translated(device, f"{launch.function} was loaded"):
        function = device.driver.load(bytes(kernel.asm["cubin"]), metadata.name, shared)
    programs = launch.grid[0] * launch.grid[1] * launch.grid[2]
    extra: list[Any] = []
    for name in ("global_scratch_size", "profile_scratch_size"):
        each = int(getattr(metadata, name, 0) or 0)
        extra.append(_scratch(device, held, each * programs) if each else np.int64(0))
    return CudaLaunch(
        function, launch.grid, threads_of(kernel), (*arguments(launch, partial), *extra), shared
    )


def arguments(launch: Launch, partial: CudaArray | None = None) -> list[Any]:
    """Return the arguments in order, as the device's launcher takes them.

    Args:
        launch: the kernel and its arguments.
        partial: memory of the partial sums; the output where there are none.
    """
    places: Mapping[int, Any] = {OUT: THEIR_OUT, PARTIAL: partial or THEIR_OUT}
    found: list[Any] = []
    for name, kind in signature(launch).types.items():
        value = launch.arguments.get(name)
        if kind == "constexpr" or value is None:
            continue
        if isinstance(value, Slot):
            own = value.number in places
            found.append(places[value.number] if own else TheirSlot(value.number))
        elif isinstance(value, Number):
            found.append(np.float32(value.value))
        else:
            found.append((np.int32 if kind == "i32" else np.int64)(value))
    return found
