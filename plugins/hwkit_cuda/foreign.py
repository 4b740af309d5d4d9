"""What pycuda cannot do: use a stream that another library made. libcuda itself is asked instead.

All of it is called with the GPU's primary context current, which pycuda has pushed.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any

from .driver import Blocks, DriverError

if TYPE_CHECKING:
    from .driver_pycuda import PycudaDriver

__all__ = ["Foreign", "Loaded"]

# Of cuda.h.
_END, _BUFFER, _SIZE = 0, 1, 2
_MAX_DYNAMIC_SHARED, _WITHOUT_TIME = 8, 2


class Loaded:
    """A function as pycuda has it, and once more for streams that pycuda did not make.

    Args:
        driver: where it was loaded.
        function: pycuda's.
        cubin: the file it lies in.
        name: its own.
        shared: bytes of dynamic shared memory that it may have.
    """

    def __init__(
        self, driver: PycudaDriver, function: Any, cubin: bytes, name: str, shared: int
    ) -> None:
        self.driver, self.function = driver, function
        self.cubin, self.name, self.shared = cubin, name, shared
        self.handle: c_void_p | None = None
        self.module = c_void_p()

    def __del__(self) -> None:
        if self.module:
            with suppress(DriverError), self.driver.context():
                self.driver.foreign.unload(self.module)


class Foreign:
    """The few functions of libcuda, by ctypes."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")

    def _call(self, name: str, *given: Any) -> None:
        code = getattr(self._library, name)(*given)
        if code:
            text = c_char_p()
            self._library.cuGetErrorString(code, byref(text))
            said = text.value.decode() if text.value else str(code)
            raise DriverError(code, f"{name} failed: {said}")

    def launch(self, loaded: Loaded, blocks: Blocks, packed: bytes, stream: int) -> None:
        """Launch on a stream."""
        grid, threads, shared = blocks
        handle = loaded.handle or self._load(loaded)
        size = c_size_t(len(packed))
        place = ctypes.cast(c_char_p(packed), c_void_p)
        extra = (c_void_p * 5)(_BUFFER, place, _SIZE, ctypes.addressof(size), _END)
        sizes = [c_uint(number) for number in (*grid, threads, 1, 1, shared)]
        self._call("cuLaunchKernel", handle, *sizes, c_void_p(stream), None, extra)

    def _load(self, loaded: Loaded) -> c_void_p:
        handle = c_void_p()
        self._call("cuModuleLoadData", byref(loaded.module), loaded.cubin)
        self._call("cuModuleGetFunction", byref(handle), loaded.module, loaded.name.encode())
        if loaded.shared:
            most = c_int(loaded.shared)
            self._call("cuFuncSetAttribute", handle, c_int(_MAX_DYNAMIC_SHARED), most)
        loaded.handle = handle
        return handle

    def unload(self, module: c_void_p) -> None:
        """Unload a module."""
        self._call("cuModuleUnload", module)

    def copy(self, to: Any, source: Any, size: int, stream: int) -> None:
        """Copy within the device, on a stream."""
        places = c_uint64(int(to)), c_uint64(int(source))
        self._call("cuMemcpyDtoDAsync_v2", *places, c_size_t(size), c_void_p(stream))

    def order(self, after: int, before: int) -> None:
        """Record an event on one stream, and let the other wait for it."""
        event = c_void_p()
        self._call("cuEventCreate", byref(event), c_uint(_WITHOUT_TIME))
        try:
            self._call("cuEventRecord", event, c_void_p(before))
            self._call("cuStreamWaitEvent", c_void_p(after), event, c_uint(0))
        finally:
            self._library.cuEventDestroy_v2(event)  # kept by the driver while a stream waits
