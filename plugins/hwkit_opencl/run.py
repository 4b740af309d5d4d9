"""A built kernel: launches in order, some of which pack what does not change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hwkit import ArgumentError

from .failures import translated

if TYPE_CHECKING:
    from .device import OpenclDevice

__all__ = ["OUT", "Launch", "OpenclRun", "Slot", "Texels"]


@dataclass(frozen=True)
class Slot:
    """An argument that comes with the call: operand number ``number``, or the output.

    Attributes:
        number: of the operand, or -1.
        texels: whether it is read as an image of four floats a texel.
    """

    number: int
    texels: bool = False


OUT = Slot(-1)


@dataclass(frozen=True)
class Texels:
    """An argument that is a buffer of floats, read as an image of four floats a texel.

    Attributes:
        memory: the ``pyopencl.Buffer``.
        image: the ``pyopencl.Image`` over it.
    """

    memory: Any
    image: Any

    @classmethod
    def over(cls, device: OpenclDevice, memory: Any) -> Texels:
        """Return an image over all of ``memory``."""
        import pyopencl as cl

        device.refuse_image(memory.size // 16)
        form = cl.ImageFormat(cl.channel_order.RGBA, cl.channel_type.FLOAT)
        with translated(str(device), f"{memory.size} bytes were made an image"):
            image = cl.create_image(
                device.context,
                cl.mem_flags.READ_ONLY,
                form,
                shape=(memory.size // 16,),
                buffer=memory,
            )
        return cls(memory, image)


@dataclass(frozen=True)
class Launch:
    """One kernel and what it is given.

    Attributes:
        kernel: the ``pyopencl.Kernel``, for this launch alone: its arguments are its state.
        groups: number of groups along three axes.
        threads: work-items of a group.
        arguments: values, buffers, and Slots for what comes with the call.
        queue: where, if not in the device's own queue, one launch after the other.
    """

    kernel: Any
    groups: tuple[int, int, int]
    threads: int
    arguments: tuple[Any, ...]
    queue: Any = None

    @property
    def size(self) -> tuple[int, int, int]:
        """Work-items along three axes."""
        return self.groups[0] * self.threads, self.groups[1], self.groups[2]


@dataclass
class OpenclRun:
    """A run: first the launches that only read constants, then the others.

    Attributes:
        device: where.
        launches: in order.
        packing: how many of them read only constants, and are done by :meth:`prepack`.
        held: constants that were given beforehand, by position.
        packed: whether the packing has been done.
        estimate: what a model expects of it, on a device that is emulated.
        scratch_buffers: what is kept between launches.
    """

    device: OpenclDevice
    launches: Sequence[Launch]
    packing: int = 0
    scratch_buffers: tuple[Any, ...] = ()
    held: Mapping[int, Any] = field(default_factory=dict)
    packed: bool = False
    estimate: Any = None

    @property
    def workspace(self) -> int:
        """Bytes of scratch memory."""
        return sum(int(buffer.nbytes) for buffer in self.scratch_buffers)

    @property
    def scratch(self) -> tuple[Any, ...]:
        """The scratch memory as arrays, where the host shares it."""
        if self.packed:
            return ()  # what is packed already must stay
        hosts = [getattr(buffer, "hwkit_host", None) for buffer in self.scratch_buffers]
        return tuple(host for host in hosts if host is not None)

    def __call__(self, *operands: Any, out: Any) -> None:
        """Launch all, and wait for the last.

        Raises:
            ArgumentError: ``out`` is not C-contiguous.
        """
        if not out.flags.c_contiguous:
            raise ArgumentError(
                f"out of strides {out.strides} on {self.device} is not C-contiguous: pass one that "
                "is, or leave it out"
            )
        # A kernel is given memory from its start, and reads while it writes.
        if out.offset or self._is_read(operands, out):
            whole = self.device.empty(out.shape, out.dtype)
            self(*operands, out=whole)
            self.device.assign(out, whole)
            return
        given = iter(operands)
        total = len(operands) + len(self.held)
        slots = {i: self.held[i] if i in self.held else next(given) for i in range(total)}
        slots[OUT.number] = out
        self._launch(self.launches[self.packing if self.packed else 0 :], slots)

    @staticmethod
    def _is_read(operands: Sequence[Any], out: Any) -> bool:
        """Whether the memory of ``out`` holds an operand as well."""
        return any(operand.base_data == out.base_data for operand in operands)

    def _launch(self, launches: Sequence[Launch], slots: Mapping[int, Any]) -> None:
        import pyopencl as cl

        # Arguments are a kernel's state, and scratch memory is shared by all calls of this run.
        with self.device.lock, translated(str(self.device), "a kernel ran"):
            last: dict[int, Any] = {}
            for launch in launches:
                if 0 in launch.groups:
                    continue
                values = [self._value(a, slots) for a in launch.arguments]
                self.device.refuse(launch)
                launch.kernel.set_args(*values)
                queue = self.device.queue if launch.queue is None else launch.queue
                event = cl.enqueue_nd_range_kernel(
                    queue, launch.kernel, launch.size, (launch.threads, 1, 1)
                )
                self.device.keep(event)
                if launch.queue is not None:
                    queue.flush()
                last[id(queue)] = event
            for event in last.values():
                event.wait()
            self.device.launched(self)

    def _value(self, argument: Any, slots: Mapping[int, Any]) -> Any:
        if isinstance(argument, Slot):
            memory = slots[argument.number].base_data
            return Texels.over(self.device, memory).image if argument.texels else memory
        return argument.image if isinstance(argument, Texels) else argument

    def prepack(self, constants: Mapping[int, Any]) -> OpenclRun:
        """Return the same run with these operands kept; weights in the kernel's own layout."""
        held = {i: self.device.copy(buffer) for i, buffer in constants.items()}
        fresh = tuple(self.device.empty(b.shape, b.dtype) for b in self.scratch_buffers)
        pairs = zip(self.scratch_buffers, fresh, strict=True)
        moved = {id(old.base_data): new.base_data for old, new in pairs}
        launches = [
            Launch(
                _another(launch.kernel),
                launch.groups,
                launch.threads,
                tuple(self._moved(a, moved) for a in launch.arguments),
                launch.queue,
            )
            for launch in self.launches
        ]
        first = launches[: self.packing]
        needed = {a.number for launch in first for a in launch.arguments if isinstance(a, Slot)}
        run = OpenclRun(
            self.device, launches, self.packing, fresh, held, needed <= {*held}, self.estimate
        )
        if run.packed:
            run._launch(first, held)
        return run

    def _moved(self, argument: Any, moved: Mapping[int, Any]) -> Any:
        if isinstance(argument, Texels):
            return Texels.over(self.device, moved[id(argument.memory)])
        return moved.get(id(argument), argument)


def _another(kernel: Any) -> Any:
    import pyopencl as cl

    return cl.Kernel(kernel.program, kernel.function_name)
