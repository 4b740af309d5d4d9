"""An opened OpenCL device: memory, clock, facts.

A buffer is a ``pyopencl.array.Array`` without an offset. Where the device shares memory with the
host, an array that is put there is not copied, and what is got back is a view.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

import hwkit
from hwkit import Device, Fingerprint

from .failures import translated
from .limits import Limits

if TYPE_CHECKING:
    from .models import Estimate, Work
    from .run import Launch, OpenclRun

__all__ = ["CpuClockDevice", "OpenclDevice"]

Array = np.ndarray[Any, Any]


class OpenclDevice(Device):
    """One OpenCL device, with a queue of its own that keeps times.

    Args:
        found: the ``pyopencl.Device``.
        index: number among the backend's devices, or the name of a profile.
    """

    backend = "opencl"

    def __init__(self, found: Any, index: int | str) -> None:
        import pyopencl as cl
        import pyopencl.array as cl_array

        self.index = index
        self.found = found
        self._cl, self._array = cl, cl_array
        with translated(str(self), "it was opened"):
            self.context = cl.Context([found])
            self.queue = self.new_queue()
        self.lock = threading.RLock()
        self._events: list[Any] | None = None
        self.shares_memory = bool(found.host_unified_memory)
        self.limits = Limits.of(found)
        self.name: str = found.name
        self.arch = _arch(found)
        self.fingerprint = self._facts()

    def _facts(self) -> Fingerprint:
        found, limits = self.found, self.limits
        return Fingerprint(
            identity={
                "backend": self.backend,
                "arch": self.arch,
                "name": found.name.strip(),
                "vendor": found.vendor.strip(),
                "platform": found.platform.name.strip(),
                "cores": int(found.max_compute_units),
                "memory": int(found.global_mem_size),
                "local_memory": limits.local_memory,
                "work_group": limits.work_group,
                "float64": limits.float64,
                "vector": int(found.preferred_vector_width_float),
            },
            environment={
                "driver": found.driver_version.strip(),
                "platform_version": found.platform.version.strip(),
                "pyopencl": self._cl.VERSION_TEXT,
                "hwkit": hwkit.__version__,
            },
        )

    def __repr__(self) -> str:
        return f"{self.backend}:{self.index}"

    def new_queue(self) -> Any:
        """Return a queue that keeps times, for kernels that run beside those of ``queue``."""
        profiling = self._cl.command_queue_properties.PROFILING_ENABLE
        return self._cl.CommandQueue(self.context, self.found, properties=profiling)

    # Memory.

    def put(self, array: Any) -> Any:
        """Return ``array`` as a buffer here, uncopied if the device shares the host's memory."""
        if self.owns(array):
            if array.flags.c_contiguous and array.offset == 0:
                return array
            array = array.get(self.queue)
        if not isinstance(array, np.ndarray):
            array = np.from_dlpack(array) if hasattr(array, "__dlpack__") else np.asarray(array)
        host = np.require(array, array.dtype.newbyteorder("="), ("C", "A"))
        return self._wrap(host) if self.shares_memory else self._copied(host)

    def copy(self, buffer: Any) -> Any:
        """Return a copy of a buffer."""
        return self._copied(np.array(self.get(buffer)))

    def assign(self, out: Any, values: Any) -> None:
        """Write the values of a buffer into a C-contiguous array, which may begin in a buffer."""
        with translated(str(self), "an answer was copied"):
            if values.nbytes:
                self._cl.enqueue_copy(
                    self.queue, out.base_data, values.base_data, dst_offset=out.offset,
                    byte_count=values.nbytes,
                ).wait()  # fmt: skip

    def _wrap(self, host: Array) -> Any:
        flags = self._cl.mem_flags
        access = flags.READ_WRITE if host.flags.writeable else flags.READ_ONLY
        if not host.nbytes:
            return self._new(host.shape, host.dtype, flags.READ_WRITE, None)
        raw = host.reshape(-1).view(np.uint8)
        with translated(str(self), f"it was given {host.nbytes} bytes"):
            data = self._cl.Buffer(self.context, access | flags.USE_HOST_PTR, hostbuf=raw)
        return self._as_array(data, host.shape, host.dtype, host)

    def _copied(self, host: Array) -> Any:
        buffer = self.empty(host.shape, host.dtype)
        if host.nbytes:
            with translated(str(self), f"it was given {host.nbytes} bytes"):
                raw = np.ascontiguousarray(host).reshape(-1).view(np.uint8)
                self._cl.enqueue_copy(self.queue, buffer.base_data, raw)
        return buffer

    def _new(self, shape: tuple[int, ...], dtype: np.dtype[Any], flags: int, host: Any) -> Any:
        size = max(_count(shape) * dtype.itemsize, 1)
        with translated(str(self), f"{size} bytes were asked for"):
            data = self._cl.Buffer(self.context, flags, size=size)
        return self._as_array(data, shape, dtype, host)

    def _as_array(
        self, data: Any, shape: tuple[int, ...], dtype: np.dtype[Any], host: Array | None
    ) -> Any:
        array = self._array.Array(self.queue, shape, dtype, data=data)
        array.hwkit_host = host
        return array

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """Return an uninitialised buffer."""
        if self.shares_memory and _count(shape):
            return self._wrap(_aligned(shape, dtype))
        return self._new(shape, dtype, self._cl.mem_flags.READ_WRITE, None)

    def get(self, buffer: Any) -> Array:
        """Return a buffer as a numpy array, a view where the device shares memory."""
        shape, dtype = buffer.shape, buffer.dtype
        if not math.prod(shape):
            return np.empty(shape, dtype)
        host: Array | None = getattr(buffer, "hwkit_host", None)
        with translated(str(self), "an answer was read"):
            if host is not None:
                self._synchronise(buffer, host)
                return host
            host = np.empty(shape, dtype)
            raw = host.reshape(-1).view(np.uint8)
            self._cl.enqueue_copy(self.queue, raw, buffer.base_data, src_offset=buffer.offset)
        return host

    def _synchronise(self, buffer: Any, host: Array) -> None:
        """Make what kernels wrote visible at the host's address, as the standard asks."""
        cl = self._cl
        mapped, _ = cl.enqueue_map_buffer(
            self.queue, buffer.base_data, cl.map_flags.READ, 0, (host.nbytes,), np.uint8
        )
        mapped.base.release(self.queue)

    def part(self, buffer: Any, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """Return part of a flat uint8 buffer as a buffer; ``None`` where it is not aligned."""
        size = math.prod(shape) * dtype.itemsize
        if start % self.limits.alignment or not size:
            return None
        region = buffer.base_data.get_sub_region(start, size)
        host = getattr(buffer, "hwkit_host", None)
        if host is not None:
            host = host[start : start + size].view(dtype).reshape(shape)
        return self._as_array(region, shape, dtype, host)

    def owns(self, array: Any) -> bool:
        """Whether ``array`` is a pyopencl array of this context."""
        return isinstance(array, self._array.Array) and array.context == self.context

    # Time.

    def keep(self, event: Any) -> None:
        """Take note of a kernel's event while a run is timed."""
        if self._events is not None:
            self._events.append(event)

    def estimate(self, work: Work) -> Estimate | None:
        """Return nothing: this device measures."""
        return None

    def refuse(self, launch: Launch) -> None:
        """Refuse nothing: the device does it itself."""

    def refuse_image(self, texels: int) -> None:
        """Refuse nothing: the device does it itself."""

    def launched(self, run: OpenclRun) -> None:
        """Take note of a run; devices that are emulated add its estimate up."""

    def time(self, run: Callable[[], Any]) -> float:
        """Return the seconds that the device's own clock gives the kernels of one ``run()``."""
        with self.lock:
            self._events = []
            start = self._cl.enqueue_marker(self.queue)
            try:
                run()
                end = self._cl.enqueue_marker(self.queue)
                end.wait()
                spans = [e.profile.end - e.profile.start for e in self._events]
            finally:
                self._events = None
        # A run without a kernel is as long as the queue was open.
        nanoseconds = sum(spans) or end.profile.end - start.profile.end
        return float(max(nanoseconds, 1) * 1e-9)

    def ceilings(self) -> Mapping[str, float]:
        """Return multiply-add and memory rates, measured on first use."""
        return self._ceilings

    @cached_property
    def _ceilings(self) -> Mapping[str, float]:
        from .ceilings import measure

        return measure(self)


class CpuClockDevice(OpenclDevice):
    """A device that is the host's CPU: the host's clock is its clock, launches included."""

    time = Device.time


def _count(shape: tuple[int, ...]) -> int:
    found: int = math.prod(shape)
    return found


def _arch(found: Any) -> str:
    """Return one word: what binaries and tuned Configs are shared by."""
    triple = found.version.strip().rpartition(" ")[2]
    words = f"pocl-{triple.rpartition('-')[2]}" if "PoCL" in found.version else found.name
    return re.sub(r"[^A-Za-z0-9_.+]+", "-", words).strip("-").lower() or "unknown"


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return an array at an address that is a multiple of a cache line of any device."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + 128, np.uint8)
    start = -raw.ctypes.data % 128
    return raw[start : start + size].view(dtype).reshape(shape)
