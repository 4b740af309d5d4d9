"""The driver through the bindings that cuda.core is built on, where pycuda is not installed."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from .driver import ATTRIBUTES, Blocks, Driver, DriverError, Facts, Place
from .streams import DEFAULT

__all__ = ["CoreDriver"]

# Of cuda.h: how a launch is given its arguments in one buffer.
_END, _BUFFER, _SIZE = 0, 1, 2

_MAX_DYNAMIC_SHARED = 8
_WITHOUT_TIME = 2
_MAJOR, _MINOR = 75, 76


def _driver() -> Any:
    """Return the module of the bindings.

    Raises:
        ImportError: it is not installed, or there is no libcuda.so.1.
    """
    from cuda.bindings import driver  # type: ignore[import-not-found,unused-ignore]

    # The bindings look for the library when they are first called, and say so by RuntimeError.
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise ImportError(str(error)) from error
    return driver


def _checked(answer: tuple[Any, ...]) -> Any:
    """Return what a call answers besides its code.

    Raises:
        DriverError: the code is not success.
    """
    code, *rest = answer
    if int(code):
        text = _driver().cuGetErrorString(code)[1]
        said = text.decode() if isinstance(text, bytes) else str(code)
        raise DriverError(int(code), said)
    return rest[0] if len(rest) == 1 else tuple(rest)


def _place(where: Place) -> int:
    return int(where.ctypes.data) if isinstance(where, np.ndarray) else where


class _Loaded:
    """A function, and the module it lies in, which is unloaded with it."""

    def __init__(self, driver: CoreDriver, module: Any) -> None:
        self._driver, self.module = driver, module
        self.function: Any = None
        self._held: Any = None

    def extra(self, packed: bytes) -> int:
        """Return the address of what says where the arguments lie, until the next call."""
        if self._held is None or len(self._held[0]) != len(packed):
            buffer, size = ctypes.create_string_buffer(len(packed)), ctypes.c_size_t(len(packed))
            places = (_BUFFER, ctypes.addressof(buffer), _SIZE, ctypes.addressof(size), _END)
            extra = (ctypes.c_void_p * len(places))(*places)
            self._held = buffer, size, extra, ctypes.addressof(extra)
        self._held[0].raw = packed
        return int(self._held[3])

    def __del__(self) -> None:
        with suppress(DriverError), self._driver.context():
            _checked(self._driver.cuda.cuModuleUnload(self.module))


class CoreDriver(Driver):
    """One GPU through ``cuda.bindings``.

    Args:
        index: number of the GPU.
    """

    name = "cuda.core"

    def __init__(self, index: int) -> None:
        self.cuda = _driver()
        self._device = _checked(self.cuda.cuDeviceGet(index))
        self._context = _checked(self.cuda.cuDevicePrimaryCtxRetain(self._device))

    @classmethod
    def started(cls) -> int:
        """Start the driver, and return the number of GPUs."""
        cuda = _driver()
        _checked(cuda.cuInit(0))
        return int(_checked(cuda.cuDeviceGetCount()))

    def facts(self) -> Facts:
        """Return what the GPU is."""
        from cuda import bindings  # type: ignore[import-not-found,unused-ignore]

        version = int(_checked(self.cuda.cuDriverGetVersion()))
        name = _checked(self.cuda.cuDeviceGetName(256, self._device))
        return Facts(
            name=name.split(b"\0")[0].decode(),
            capability=(self._attribute(_MAJOR), self._attribute(_MINOR)),
            memory=int(_checked(self.cuda.cuDeviceTotalMem(self._device))),
            driver=f"{version // 1000}.{version % 1000 // 10}",
            library=f"cuda.bindings {bindings.__version__}",
            attributes={key: self._attribute(number) for key, number in ATTRIBUTES.items()},
        )

    def _attribute(self, number: int) -> int:
        kind = self.cuda.CUdevice_attribute(number)
        return int(_checked(self.cuda.cuDeviceGetAttribute(kind, self._device)))

    @contextmanager
    def context(self) -> Iterator[None]:
        """Push the primary context, and pop it."""
        _checked(self.cuda.cuCtxPushCurrent(self._context))
        try:
            yield
        finally:
            _checked(self.cuda.cuCtxPopCurrent())

    def allocate(self, size: int) -> int:
        """Return the address of ``size`` bytes."""
        with self.context():
            return int(_checked(self.cuda.cuMemAlloc(size)))

    def free(self, address: int) -> None:
        """Give memory back."""
        with self.context():
            _checked(self.cuda.cuMemFree(address))

    def copy(self, to: Place, source: Place, size: int, stream: int = DEFAULT) -> None:
        """Copy bytes."""
        with self.context():
            if isinstance(to, np.ndarray):
                _checked(self.cuda.cuMemcpyDtoH(_place(to), source, size))
            elif isinstance(source, np.ndarray):
                _checked(self.cuda.cuMemcpyHtoD(to, _place(source), size))
            elif stream:
                _checked(self.cuda.cuMemcpyDtoDAsync(to, source, size, stream))
            else:
                _checked(self.cuda.cuMemcpyDtoD(to, source, size))

    def load(self, cubin: bytes, function: str, shared: int = 0) -> Any:
        """Return a function of a cubin."""
        with self.context():
            loaded = _Loaded(self, _checked(self.cuda.cuModuleLoadData(cubin)))
            found = _checked(self.cuda.cuModuleGetFunction(loaded.module, function.encode()))
            if shared:
                kind = self.cuda.CUfunction_attribute(_MAX_DYNAMIC_SHARED)
                _checked(self.cuda.cuFuncSetAttribute(found, kind, shared))
        loaded.function = found
        return loaded

    def launch(self, function: Any, blocks: Blocks, packed: bytes, stream: int = DEFAULT) -> None:
        """Launch with all arguments in one buffer."""
        grid, threads, shared = blocks
        code = self.cuda.cuLaunchKernel(
            function.function, *grid, threads, 1, 1, shared, stream, 0, function.extra(packed)
        )
        if code[0]:
            _checked(code)

    def order(self, after: int, before: int) -> None:
        """Record an event on one stream, and let the other wait for it."""
        cuda = self.cuda
        with self.context():
            event = _checked(cuda.cuEventCreate(_WITHOUT_TIME))
            try:
                _checked(cuda.cuEventRecord(event, before))
                _checked(cuda.cuStreamWaitEvent(after, event, 0))
            finally:
                cuda.cuEventDestroy(event)  # the driver keeps it as long as a stream waits

    def time(self, run: Callable[[], Any]) -> float:
        """Return the seconds between two events."""
        cuda = self.cuda
        with self.context():
            start, end = (_checked(cuda.cuEventCreate(0)) for _ in range(2))
        try:
            with self.context():
                _checked(cuda.cuEventRecord(start, 0))
            run()
            with self.context():
                _checked(cuda.cuEventRecord(end, 0))
                _checked(cuda.cuEventSynchronize(end))
                return float(_checked(cuda.cuEventElapsedTime(start, end))) * 1e-3
        finally:
            with self.context():
                cuda.cuEventDestroy(start)
                cuda.cuEventDestroy(end)

    def synchronise(self) -> None:
        """Wait for all launches."""
        with self.context():
            _checked(self.cuda.cuCtxSynchronize())
