"""A built kernel: launches in order, some of which pack what does not change."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hwkit import ArgumentError, Operand
from hwkit_opencl.run import OUT, Slot

from .arrays import CudaArray, borrowed, index_of, new_like
from .failures import translated

if TYPE_CHECKING:
    from .device import CudaDevice

__all__ = ["OUT", "CudaRun", "Launch", "Slot"]

_LETTERS = {"int32": "i", "int64": "q", "float32": "f", "float64": "d"}


@dataclass(frozen=True)
class Launch:
    """One kernel and what it is given.

    Attributes:
        function: the loaded function.
        grid: number of blocks along three axes.
        threads: threads of a block.
        arguments: numpy numbers, arrays, and Slots for what comes with the call.
        shared: bytes of dynamic shared memory.
    """

    function: Any
    grid: tuple[int, int, int]
    threads: int
    arguments: tuple[Any, ...]
    shared: int = 0

    @cached_property
    def _layout(self) -> tuple[struct.Struct, list[Any]]:
        """The argument buffer: each argument at its natural alignment, as kernels expect it."""
        letters, values = "", []
        for argument in self.arguments:
            if isinstance(argument, np.generic):
                letters += _LETTERS[argument.dtype.name]
                values.append(argument.item())
            else:
                letters += "P"
                values.append(argument)
        return struct.Struct("@" + letters), values

    def packed(self, slots: Mapping[int, CudaArray]) -> bytes:
        """Return the argument buffer of a call."""
        layout, values = self._layout
        filled = []
        for value in values:
            if isinstance(value, Slot):
                filled.append(slots[value.number].pointer)
            elif isinstance(value, CudaArray):
                filled.append(value.pointer)
            else:
                filled.append(value)
        return layout.pack(*filled)

    def needs(self) -> set[int]:
        """Return the numbers of the operands that it reads or writes."""
        return {a.number for a in self.arguments if isinstance(a, Slot)}


@dataclass
class CudaRun:
    """A run: first the launches that only read constants, then the others.

    It returns when all are launched. What reads the answer on the default stream, or through
    :meth:`CudaDevice.get`, finds it there.

    Attributes:
        device: where.
        operands: all that the problem has.
        output: what is written.
        launches: in order.
        packing: how many of them read only constants, and are done by :meth:`prepack`.
        scratch_buffers: what is kept between launches.
        held: constants that were given beforehand, by position.
        is_packed: whether the packing has been done.
    """

    device: CudaDevice
    operands: Sequence[Operand]
    output: Operand
    launches: Sequence[Launch]
    packing: int = 0
    scratch_buffers: tuple[CudaArray, ...] = ()
    held: Mapping[int, CudaArray] = field(default_factory=dict)
    is_packed: bool = False

    @property
    def workspace(self) -> int:
        """Bytes of scratch memory."""
        return sum(buffer.nbytes for buffer in self.scratch_buffers)

    @cached_property
    def _open(self) -> list[int]:
        """Positions of the operands that come with a call."""
        return [i for i in range(len(self.operands)) if i not in self.held]

    @cached_property
    def _remaining(self) -> Sequence[Launch]:
        first = self.packing if self.is_packed else 0
        return [launch for launch in self.launches[first:] if 0 not in launch.grid]

    def __call__(self, *operands: CudaArray, out: CudaArray) -> None:
        """Launch all."""
        given = [self.device.put(operand) for operand in operands]
        self._run(given, self.device.put(out))

    def _run(self, given: Sequence[CudaArray], out: CudaArray) -> None:
        if len(given) != len(self._open):
            raise ArgumentError(f"this run takes {len(self._open)} arrays, not {len(given)}")
        slots = {**self.held, **dict(zip(self._open, given, strict=True)), OUT.number: out}
        for position, operand in (*enumerate(self.operands), (OUT.number, self.output)):
            # A kernel reads as much as the problem says, whatever was given.
            if slots[position].nbytes != operand.nbytes:
                raise ArgumentError(
                    f"{operand.name} has shape {slots[position].shape}, but this run is for "
                    f"{operand.shape}: make a plan for this shape"
                )
        self._launch(self._remaining, slots)

    def _launch(self, launches: Sequence[Launch], slots: Mapping[int, CudaArray]) -> None:
        driver = self.device.driver
        # Scratch memory is shared by all calls of this run.
        with self.device.lock, translated(self.device, "a kernel was launched"):
            for launch in launches:
                packed = launch.packed(slots)
                driver.launch(launch.function, launch.grid, launch.threads, launch.shared, packed)

    def direct(self, operands: tuple[Any, ...], out: Any) -> Any:
        """Run on arrays that live on the GPU, of any library; the answer is of the same."""
        if not operands or any(index_of(array) != self.device.index for array in operands):
            return NotImplemented
        given = []
        for array, position in zip(operands, self._open, strict=False):
            found = borrowed(array)
            operand = self.operands[position]
            if found is None or (found.shape, found.dtype) != (operand.shape, operand.dtype):
                return NotImplemented
            given.append(found)
        result = self._new(operands[0]) if out is None else out
        if index_of(result) != self.device.index:
            return NotImplemented
        target = borrowed(result)
        if target is None or (target.shape, target.dtype) != (
            self.output.shape,
            self.output.dtype,
        ):
            return NotImplemented
        self._run(given, target)
        return result

    def _new(self, template: Any) -> Any:
        if not isinstance(template, CudaArray):
            found = new_like(template, self.output.shape)
            if found is not None:
                return found
        return self.device.empty(self.output.shape, self.output.dtype)

    def prepack(self, constants: Mapping[int, CudaArray]) -> CudaRun:
        """Return the same run with these operands kept, packed where they all are given."""
        held = {i: self.device.copy(self.device.put(array)) for i, array in constants.items()}
        fresh = tuple(self.device.empty(b.shape, b.dtype) for b in self.scratch_buffers)
        moved = {id(old): new for old, new in zip(self.scratch_buffers, fresh, strict=True)}
        launches = [
            replace(launch, arguments=tuple(moved.get(id(a), a) for a in launch.arguments))
            for launch in self.launches
        ]
        first = launches[: self.packing]
        complete = {number for launch in first for number in launch.needs()} <= {*held}
        run = type(self)(
            self.device, self.operands, self.output, launches, self.packing, fresh, held, complete
        )
        if complete:
            run._launch([launch for launch in first if 0 not in launch.grid], held)
        return run
