"""A built kernel: launches in order, some of which pack what does not change."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hwkit import ArgumentError, DtypeError, Operand
from hwkit_opencl.run import OUT, Slot

from .arrays import CudaArray, assign, borrowed, contiguous, index_of, new_like
from .driver import Blocks
from .failures import translated
from .streams import DEFAULT, handle_of

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
    def blocks(self) -> Blocks:
        """What the driver is told of the blocks."""
        return Blocks(self.grid, self.threads, self.shared)

    @cached_property
    def _layout(self) -> tuple[struct.Struct, list[Any], list[tuple[int, int]]]:
        """The argument buffer: each argument at its natural alignment, as kernels expect it.

        What is known already, and the places of what comes with the call.
        """
        letters, values, open_places = "", [], []
        for place, argument in enumerate(self.arguments):
            if isinstance(argument, np.generic):
                letters += _LETTERS[argument.dtype.name]
                values.append(argument.item())
                continue
            letters += "P"
            if isinstance(argument, Slot):
                open_places.append((place, argument.number))
                values.append(0)
            else:
                values.append(argument.pointer)
        return struct.Struct("@" + letters), values, open_places

    def packed(self, slots: Mapping[int, CudaArray]) -> bytes:
        """Return the argument buffer of a call."""
        layout, known, open_places = self._layout
        values = known.copy()
        for place, number in open_places:
            values[place] = slots[number].pointer
        return layout.pack(*values)

    def needs(self) -> set[int]:
        """Return the numbers of the operands that it reads or writes."""
        return {a.number for a in self.arguments if isinstance(a, Slot)}


@dataclass
class CudaRun:
    """A run: first the launches that only read constants, then the others.

    It returns when all are launched. What is launched after it on the stream of the answer's
    library, and :meth:`CudaDevice.get`, find the answer there.

    Attributes:
        device: where.
        operands: all that the problem has.
        output: what is written.
        launches: in order.
        packing: how many of them read only constants, and are done by :meth:`prepack`.
        scratch_buffers: what is kept between launches.
        held: constants that were given beforehand, by position.
        is_packed: whether the packing has been done.
        stream: where all launches go; if ``None``, where the library of the first operand works.
    """

    device: CudaDevice
    operands: Sequence[Operand]
    output: Operand
    launches: Sequence[Launch]
    packing: int = 0
    scratch_buffers: tuple[CudaArray, ...] = ()
    held: Mapping[int, CudaArray] = field(default_factory=dict)
    is_packed: bool = False
    stream: int | None = None

    def __post_init__(self) -> None:
        # Scratch memory is that of one stream: each other gets its own.
        self._by_stream: dict[int, list[Launch]] = {}
        self._went_elsewhere = False

    @property
    def workspace(self) -> int:
        """Bytes of scratch memory."""
        return sum(buffer.nbytes for buffer in self.scratch_buffers)

    @cached_property
    def _open(self) -> list[int]:
        """Positions of the operands that come with a call."""
        return [i for i in range(len(self.operands)) if i not in self.held]

    @cached_property
    def _remaining(self) -> list[Launch]:
        first = self.packing if self.is_packed else 0
        return [launch for launch in self.launches[first:] if 0 not in launch.grid]

    def __call__(self, *operands: CudaArray, out: Any) -> None:
        """Launch all."""
        given = [self.device.put(operand) for operand in operands]
        target = borrowed(out)
        if target is not None:
            self._run(given, target)
            return
        whole = contiguous(out)
        self._run(given, self.device.put(whole))
        assign(out, whole)

    def _run(self, given: Sequence[CudaArray], out: CudaArray) -> None:
        if len(given) != len(self._open):
            raise ArgumentError(f"this run takes {len(self._open)} arrays, not {len(given)}")
        for array, position in zip(given, self._open, strict=True):
            _check(array, self.operands[position])
        _check(out, self.output)
        streams = {array.stream for array in (*given, out)}
        stream = self.stream
        if stream is None:
            stream = given[0].stream if given else out.stream
        # A kernel writes while it reads: an answer that lies on an operand goes there afterwards.
        shared = any(_overlap(array, out) for array in given)
        if shared or self._borrows(given, out):
            streams.add(DEFAULT)
        driver, others = self.device.driver, streams - {stream}
        # Scratch memory is shared by all calls of this run.
        with self.device.lock, translated(self.device, "a kernel was launched"), driver.context():
            for other in others:
                driver.order(stream, other)
            target = self.device.empty(out.shape, out.dtype) if shared else out
            self._enqueue(given, target, stream)
            if shared:
                driver.copy(out.pointer, target.pointer, out.nbytes, stream)
            for other in others:
                driver.order(other, stream)

    def _borrows(self, given: Sequence[CudaArray], out: CudaArray) -> bool:
        """Whether a call takes memory of the device's pool, whose home is the default stream."""
        return False

    def _enqueue(self, given: Sequence[CudaArray], out: CudaArray, stream: int) -> None:
        slots = {**self.held, **dict(zip(self._open, given, strict=True)), OUT.number: out}
        self._launch(self._launches_on(stream), slots, stream)

    def _launch(
        self, launches: Sequence[Launch], slots: Mapping[int, CudaArray], stream: int = DEFAULT
    ) -> None:
        launch_one = self.device.driver.launch
        for launch in launches:
            launch_one(launch.function, launch.blocks, launch.packed(slots), stream)

    def _launches_on(self, stream: int) -> list[Launch]:
        """Return what is launched on a stream, with scratch memory of its own."""
        if stream == DEFAULT:
            return self._remaining
        self._went_elsewhere = True
        if stream not in self._by_stream:
            done = self.launches[: self.packing] if self.is_packed else ()
            kept = {id(argument) for launch in done for argument in launch.arguments}
            own = [buffer for buffer in self.scratch_buffers if id(buffer) not in kept]
            if own:
                # Who had the memory before may still be at work, on the default stream.
                self.device.driver.order(stream, DEFAULT)
            self._by_stream[stream] = _moved(self._remaining, self._fresh(own))
        return self._by_stream[stream]

    def _fresh(self, buffers: Sequence[CudaArray]) -> dict[int, CudaArray]:
        """Return new buffers of the same sizes, by the identity of the old ones."""
        return {id(old): self.device.empty(old.shape, old.dtype) for old in buffers}

    def __del__(self) -> None:
        # Memory of the pool may go to the default stream next: others must have done with it.
        if self._went_elsewhere and (self.scratch_buffers or self.held) and not self.device.lost:
            with suppress(Exception):  # at exit the driver may be gone, and the memory with it
                self.device.synchronise()

    def on(self, stream: Any) -> CudaRun:
        """Return the same run on a stream, whatever arrays it gets.

        Args:
            stream: handle, or stream of torch, CuPy or another library.
        """
        return replace(self, stream=handle_of(stream))

    def direct(self, operands: tuple[Any, ...], out: Any) -> Any:
        """Run on arrays that live on the GPU, of any library; the answer is of the same."""
        index = self.device.index
        if not operands or any(index_of(array) != index for array in operands):
            return NotImplemented
        given = [borrowed(array) for array in operands]
        result = self._new(operands[0]) if out is None else out
        if index_of(result) != index:
            return NotImplemented
        target = borrowed(result)
        whole = [array for array in given if array is not None]
        if target is None or len(whole) != len(given):
            return NotImplemented
        self._run(whole, target)
        return result

    def _new(self, template: Any) -> Any:
        if not isinstance(template, CudaArray):
            found = new_like(template, self.output.shape, self.output.dtype)
            if found is not None:
                return found
        return self.device.empty(self.output.shape, self.output.dtype)

    def prepack(self, constants: Mapping[int, CudaArray]) -> CudaRun:
        """Return the same run with these operands kept, packed where they all are given."""
        held = {i: self.device.copy(self.device.put(array)) for i, array in constants.items()}
        for position, array in held.items():
            _check(array, self.operands[position])
        fresh = self._fresh(self.scratch_buffers)
        launches = _moved(self.launches, fresh)
        first = launches[: self.packing]
        complete = {number for launch in first for number in launch.needs()} <= {*held}
        run = replace(
            self, launches=launches, scratch_buffers=tuple(fresh.values()), held=held,
            is_packed=complete,
        )  # fmt: skip
        driver = self.device.driver
        with self.device.lock, translated(self.device, "constants were packed"), driver.context():
            if complete:
                run._launch([launch for launch in first if 0 not in launch.grid], held)
            # From now on they may be read on any stream.
            driver.synchronise()
        return run


def _moved(launches: Sequence[Launch], fresh: Mapping[int, CudaArray]) -> list[Launch]:
    """Return launches with other buffers in the place of some."""
    if not fresh:
        return [*launches]
    return [
        replace(launch, arguments=tuple(fresh.get(id(a), a) for a in launch.arguments))
        for launch in launches
    ]


def _overlap(one: CudaArray, other: CudaArray) -> bool:
    """Whether two arrays have a byte in common."""
    first, second = one.pointer, other.pointer
    return first < second + other.nbytes and second < first + one.nbytes


def _check(array: CudaArray, operand: Operand) -> None:
    """Check that a kernel finds what it was built for.

    Raises:
        ArgumentError: the shape is another one.
        DtypeError: the dtype is.
    """
    if array.shape != operand.shape:
        raise ArgumentError(
            f"{operand.name} has shape {array.shape}, but this run is for {operand.shape}: "
            "make a plan for this shape"
        )
    if array.dtype != operand.dtype:
        raise DtypeError(
            f"{operand.name} has dtype {array.dtype.name}, but this run is for "
            f"{operand.dtype.name}: make a plan for this dtype"
        )
