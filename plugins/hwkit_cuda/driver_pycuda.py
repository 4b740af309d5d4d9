"""The driver through pycuda: its primary context, never ``pycuda.autoinit``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np

from .driver import ATTRIBUTES, Blocks, Driver, DriverError, Facts, Place, code_of
from .foreign import Foreign, Loaded
from .streams import DEFAULT

__all__ = ["PycudaDriver"]


@contextmanager
def _translated() -> Iterator[None]:
    import pycuda.driver as cuda

    try:
        yield
    except cuda.Error as error:  # all of pycuda's classes; the code is in none of them
        raise DriverError(code_of(str(error)), str(error)) from error


class PycudaDriver(Driver):
    """One GPU through pycuda.

    Args:
        index: number of the GPU.
    """

    name = "pycuda"

    def __init__(self, index: int) -> None:
        import pycuda
        import pycuda.driver as cuda

        self._cuda = cuda
        self._version = pycuda.VERSION_TEXT
        self._kept: dict[int, Any] = {}
        with _translated():
            self._device = cuda.Device(index)
            self._context = self._device.retain_primary_context()

    @classmethod
    def started(cls) -> int:
        """Start the driver, and return the number of GPUs."""
        import pycuda.driver as cuda

        with _translated():
            cuda.init()
            return int(cuda.Device.count())

    def facts(self) -> Facts:
        """Return what the GPU is."""
        found, kinds = self._device, self._cuda.device_attribute
        with _translated():
            version = self._cuda.get_driver_version()
            major, minor = found.compute_capability()
            attributes = {
                name: int(found.get_attribute(getattr(kinds, name.upper())))
                for name in ATTRIBUTES
                if hasattr(kinds, name.upper())
            }
            return Facts(
                name=found.name(),
                capability=(major, minor),
                memory=int(found.total_memory()),
                driver=f"{version // 1000}.{version % 1000 // 10}",
                library=f"pycuda {self._version}",
                attributes=attributes,
            )

    @contextmanager
    def context(self) -> Iterator[None]:
        """Push the primary context, and pop it."""
        with _translated():
            self._context.push()
            try:
                yield
            finally:
                self._cuda.Context.pop()

    def allocate(self, size: int) -> int:
        """Return the address of ``size`` bytes."""
        with self.context():
            found = self._cuda.mem_alloc(size)
        address = int(found)
        self._kept[address] = found
        return address

    def free(self, address: int) -> None:
        """Give memory back."""
        with self.context():
            self._kept.pop(address).free()

    def copy(self, to: Place, source: Place, size: int, stream: int = DEFAULT) -> None:
        """Copy bytes."""
        with self.context():
            if isinstance(to, np.ndarray):
                self._cuda.memcpy_dtoh(to, source)
            elif isinstance(source, np.ndarray):
                self._cuda.memcpy_htod(to, source)
            elif stream:
                self.foreign.copy(to, source, size, stream)
            else:
                self._cuda.memcpy_dtod(to, source, size)

    def load(self, cubin: bytes, function: str, shared: int = 0) -> Any:
        """Return a function of a cubin."""
        with self.context():
            module = self._cuda.module_from_buffer(cubin)
            found = module.get_function(function)
            if shared:
                kind = self._cuda.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
                found.set_attribute(kind, shared)
        return Loaded(self, found, cubin, function, shared)

    def launch(self, function: Any, blocks: Blocks, packed: bytes, stream: int = DEFAULT) -> None:
        """Launch without pycuda's prepared calls, which set the block's shape each time."""
        if stream:
            self.foreign.launch(function, blocks, packed, stream)
            return
        grid, threads, shared = blocks
        try:
            function.function._launch_kernel(grid, (threads, 1, 1), packed, shared, None)
        except self._cuda.Error as error:
            raise DriverError(code_of(str(error)), str(error)) from error

    def order(self, after: int, before: int) -> None:
        """Record an event on one stream, and let the other wait for it."""
        with self.context():
            self.foreign.order(after, before)

    @cached_property
    def foreign(self) -> Foreign:
        """What streams of other libraries need."""
        return Foreign()

    def time(self, run: Callable[[], Any]) -> float:
        """Return the seconds between two events."""
        with self.context():
            start, end = self._cuda.Event(), self._cuda.Event()
            start.record()
        run()
        with self.context():
            end.record()
            end.synchronize()
            return float(end.time_since(start)) * 1e-3

    def synchronise(self) -> None:
        """Wait for all launches."""
        with self.context():
            self._cuda.Context.synchronize()
