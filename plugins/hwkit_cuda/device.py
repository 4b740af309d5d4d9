"""An opened CUDA device: memory, clock, facts.

All work goes to the GPU's primary context, which torch, Triton and CuPy use as well: on the stream
where the library of the arrays works, see :mod:`hwkit_cuda.streams`, or else on the default stream.
What one of them launched before a kernel of ours is done when it starts. A run returns when it is
launched; :meth:`CudaDevice.get` and :meth:`CudaDevice.time` wait.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

import hwkit
from hwkit import ArgumentError, Device, Fingerprint, HwkitError

from .arrays import CudaArray, borrowed, contiguous, index_of
from .driver import Driver, Facts
from .failures import translated
from .limits import Limits
from .memory import Pool
from .streams import DEFAULT

if TYPE_CHECKING:
    from .programs import Text
    from .stall import Stall

__all__ = ["CudaDevice"]

Array = np.ndarray[Any, Any]

_LEAST_L2 = 2**20


class CudaDevice(Device):
    """One GPU.

    Attributes:
        driver: the GPU through a driver library.
        limits: what a launch may have.
        facts: what the driver says of it.
        lost: whether an error has ended all work of this process on the GPU.
        lock: held while a run that has state is launched.

    Args:
        driver: the GPU through a driver library.
        index: its number.
    """

    backend = "cuda"
    index: int
    shares_memory = False

    def __init__(self, driver: Driver, index: int) -> None:
        self.driver = driver
        self.index = index
        self.lost = False
        self.lock = threading.RLock()
        with translated(self, "it was opened"):
            self.facts: Facts = driver.facts()
        major, minor = self.facts.capability
        self.arch = f"sm_{major}{minor}"
        self.limits = Limits.of(self.facts)
        self.pool = Pool(driver)
        self.fingerprint = self._fingerprint()

    def _fingerprint(self) -> Fingerprint:
        facts = self.facts
        return Fingerprint(
            identity={
                "backend": self.backend,
                "arch": self.arch,
                "name": facts.name,
                "multiprocessors": facts.attributes["multiprocessor_count"],
                "memory": facts.memory,
                "l2": facts.attributes["l2_cache_size"],
            },
            environment={
                "driver": facts.driver,
                "library": facts.library,
                "hwkit": hwkit.__version__,
            },
        )

    # Memory.

    def put(self, array: Any) -> CudaArray:
        """Return ``array`` on the device: arrays that live here already are not copied."""
        if index_of(array) == self.index:
            return borrowed(array) or self._own(contiguous(array))
        if not isinstance(array, np.ndarray):
            array = np.from_dlpack(array) if hasattr(array, "__dlpack__") else np.asarray(array)
        host = np.require(array, array.dtype.newbyteorder("="), ("C", "A"))
        buffer = self.empty(host.shape, host.dtype)
        if host.nbytes:
            with translated(self, f"{host.nbytes} bytes were copied to it"):
                self.driver.copy(buffer.pointer, _raw(host), host.nbytes)
        return buffer

    def _own(self, array: Any) -> CudaArray:
        found = borrowed(array)
        if found is None:
            raise ArgumentError(
                f"an array of type {type(array).__name__} is not C-contiguous: make it contiguous"
            )
        return found

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> CudaArray:
        """Return an uninitialised buffer."""
        size = math.prod(shape) * dtype.itemsize
        with translated(self, f"{size} bytes were asked for"):
            block = self.pool.take(size)
        return CudaArray(block.address, tuple(shape), dtype, self.index, block)

    def copy(self, buffer: CudaArray) -> CudaArray:
        """Return a copy of a buffer."""
        found = self.empty(buffer.shape, buffer.dtype)
        if buffer.nbytes:
            with translated(self, "a buffer was copied"), self._joined(buffer.stream):
                self.driver.copy(found.pointer, buffer.pointer, buffer.nbytes)
        return found

    @contextmanager
    def _joined(self, stream: int) -> Iterator[None]:
        """Put what is done inside, on the default stream, into the order of another stream."""
        if stream != DEFAULT:
            self.driver.order(DEFAULT, stream)
        yield
        if stream != DEFAULT:
            self.driver.order(stream, DEFAULT)

    def get(self, buffer: Any) -> Array:
        """Return a buffer as a numpy array, when all that was launched before is done."""
        found = self.put(buffer)
        host = np.empty(found.shape, found.dtype)
        if host.nbytes:
            with translated(self, "an answer was read"), self._joined(found.stream):
                self.driver.copy(_raw(host), found.pointer, host.nbytes)
        return host

    def part(
        self, buffer: CudaArray, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> CudaArray | None:
        """Return part of a flat uint8 buffer as a buffer; ``None`` where it is not aligned."""
        if start % self.limits.alignment:
            return None
        return CudaArray(buffer.pointer + start, shape, dtype, self.index, buffer)

    def owns(self, array: Any) -> bool:
        """Whether ``array``, of any library, lies on this GPU."""
        return index_of(array) == self.index

    # Time.

    def time(self, run: Callable[[], Any]) -> float:
        """Return the seconds between an event before ``run()`` and one after it.

        The GPU is kept busy while the host launches, so that they are seconds of the GPU alone.
        """
        with translated(self, "a run was timed"):
            stall = self._stall
            if stall is not None:
                stall.begin()
                run = stall.noting(run)
            if self.cold_caches:
                half = self._rubbish.nbytes // 2
                self.driver.copy(self._rubbish.pointer + half, self._rubbish.pointer, half)
            return self.driver.time(run)

    @cached_property
    def _stall(self) -> Stall | None:
        """What the GPU does meanwhile; nothing where there is no compiler for it."""
        from .stall import Stall

        try:
            return Stall(self)
        except HwkitError:
            return None

    @cached_property
    def _rubbish(self) -> CudaArray:
        """What takes the place of all else in L2: each half is twice as large."""
        size = max(self.facts.attributes["l2_cache_size"], _LEAST_L2)
        return self.empty((4 * size,), np.dtype(np.uint8))

    def with_cold_caches(self) -> CudaDevice:
        """Return the same GPU, whose L2 is overwritten before each timed run."""
        return self._cold

    @cached_property
    def _cold(self) -> CudaDevice:
        found, known = copy(self), self.fingerprint
        found.cold_caches = True
        found.fingerprint = replace(known, identity={**known.identity, "caches": "cold"})
        return found

    def synchronise(self) -> None:
        """Wait until everything that was launched is done."""
        with translated(self, "kernels ran"):
            self.driver.synchronise()

    def ceilings(self) -> Mapping[str, float]:
        """Return multiply-add and memory rates, measured on first use."""
        return self._ceilings

    @cached_property
    def _ceilings(self) -> Mapping[str, float]:
        from .ceilings import measure

        return measure(self)

    # What kernels are built by.

    def function(self, text: Text, shared: int) -> Any:
        """Return the function of a text, compiled and loaded.

        Args:
            text: what is compiled.
            shared: bytes of dynamic shared memory that a launch may ask for.

        Raises:
            KernelFailure: class ``compile``.
        """
        with translated(self, f"{text.function} was loaded"):
            return self.driver.load(text.cubin().data, text.function, shared)


def _raw(host: Array) -> Array:
    """Return the bytes of an array: a driver library need not know its dtype."""
    return host.reshape(-1).view(np.uint8)
