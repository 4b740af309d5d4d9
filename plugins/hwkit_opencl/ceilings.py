"""How fast a device can be: multiply-adds in registers, and a copy, measured when asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .programs import DTYPES, build

if TYPE_CHECKING:
    from .device import OpenclDevice

__all__ = ["measure"]

# Long enough that launching is nothing beside it.
_STEPS, _SUMS = 1 << 18, 10
_BYTES = 64 * 2**20


def measure(device: OpenclDevice) -> dict[str, float]:
    """Return ``"<dtype> flop/s"`` and ``"byte/s"``."""
    found = {}
    for name in ("float32", "float64") if device.limits.float64 else ("float32",):
        rates = [_flops(device, name, vec) for vec in (4, 8)]
        found[f"{name} flop/s"] = max(rates)
    found["byte/s"] = _bandwidth(device)
    return found


def _flops(device: OpenclDevice, name: str, vec: int) -> float:
    import pyopencl as cl

    cpu = device.limits.is_cpu
    threads = 1 if cpu else min(64, device.limits.work_group)
    groups = int(device.found.max_compute_units) * (1 if cpu else 64)
    defines = {"THREADS": threads, "DTYPE": DTYPES[name], "VEC": vec, "SUMS": _SUMS}
    kernel = cl.Kernel(build(device, "ceilings.cl", defines), "multiply_add")
    dtype = np.dtype(name)
    out = device.empty((groups * threads * vec,), dtype)
    kernel.set_args(out.base_data, np.int32(_STEPS), dtype.type(0.5), dtype.type(1.0))
    flops = 2.0 * _STEPS * _SUMS * vec * groups * threads
    return flops / _seconds(device, partial(_run, device, kernel, groups * threads, threads))


def _run(device: OpenclDevice, kernel: Any, size: int, threads: int) -> None:
    import pyopencl as cl

    event = cl.enqueue_nd_range_kernel(device.queue, kernel, (size,), (threads,))
    device.keep(event)
    event.wait()


def _bandwidth(device: OpenclDevice) -> float:
    import pyopencl as cl

    size = min(_BYTES, device.limits.allocation // 4)
    one, two = (device.empty((size,), np.dtype(np.uint8)) for _ in range(2))

    def copy() -> None:
        event = cl.enqueue_copy(device.queue, two.base_data, one.base_data)
        device.keep(event)
        event.wait()

    # Each byte is read and written.
    return 2.0 * size / _seconds(device, copy)


def _seconds(device: OpenclDevice, run: Callable[[], None]) -> float:
    run()
    return min(device.time(run) for _ in range(7))
