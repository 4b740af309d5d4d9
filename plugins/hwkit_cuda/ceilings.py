"""How fast a GPU can be: multiply-adds in registers, and a copy, measured when asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hwkit_opencl.programs import DTYPES

from .failures import translated
from .programs import Text
from .run import Launch

if TYPE_CHECKING:
    from .device import CudaDevice

__all__ = ["least_of", "measure", "multiply_add"]

# Long enough that launching is nothing beside it, and beyond any L2 cache.
_STEPS, _SUMS, _VEC, _THREADS, _BLOCKS = 1 << 14, 8, 4, 256, 8
_BYTES = 512 * 2**20
# Seconds of work after which a GPU has its highest clock.
_AWAKE = 0.1

# Dense float16 operations of a multiprocessor in a clock, sums in float32: A100 (sm_80) and H100
# (sm_90) white papers, "Streaming Multiprocessor". A multiply-add counts as two.
_MATRIX = {"sm_80": 2048, "sm_90": 4096}


def measure(device: CudaDevice) -> dict[str, float]:
    """Return ``"<dtype> flop/s"`` and ``"byte/s"``."""
    found = {f"{name} flop/s": _flops(device, name) for name in ("float32", "float64")}
    found["byte/s"] = _bandwidth(device)
    matrix = matrix_rate(device)
    return found | {f"{name} flop/s": matrix for name in ("float16", "bfloat16") if matrix}


def matrix_rate(device: CudaDevice) -> float:
    """Return the rate of the matrix units at the highest clock, from tables; 0 if unknown.

    It is the bound that the hardware sets, and is not measured.
    """
    facts = device.facts
    each = _MATRIX.get(device.arch, 0)
    return 1e3 * each * facts.attributes["multiprocessor_count"] * facts.attributes["clock_rate"]


def multiply_add(device: CudaDevice, name: str) -> Callable[[int, int], Launch]:
    """Return what launches so many blocks of multiply-adds of a dtype for so many steps."""
    dtype = np.dtype(name)
    defines = {"THREADS": _THREADS, "DTYPE": DTYPES[name], "VEC": _VEC, "SUMS": _SUMS}
    text = Text("ceilings.cl", "multiply_add", device.arch, tuple(sorted(defines.items())))
    function = device.function(text, 0)

    def launch(blocks: int, steps: int) -> Launch:
        out = device.empty((blocks * _THREADS * _VEC,), dtype)
        arguments = (out, np.int32(steps), dtype.type(0.5), dtype.type(1.0))
        return Launch(function, (blocks, 1, 1), _THREADS, arguments)

    return launch


def _flops(device: CudaDevice, name: str) -> float:
    blocks = device.facts.attributes["multiprocessor_count"] * _BLOCKS
    launch = multiply_add(device, name)(blocks, _STEPS)
    flops = 2.0 * _STEPS * _SUMS * _VEC * blocks * _THREADS
    return flops / _seconds(device, partial(_launch, device, launch))


def _launch(device: CudaDevice, launch: Launch) -> None:
    with translated(device, "a ceiling was measured"), device.driver.context():
        device.driver.launch(launch.function, launch.blocks, launch.packed({}))


def _bandwidth(device: CudaDevice) -> float:
    size = min(_BYTES, device.facts.memory // 8)
    one, two = (device.empty((size,), np.dtype(np.uint8)) for _ in range(2))

    def copy() -> None:
        with translated(device, "a ceiling was measured"):
            device.driver.copy(two.pointer, one.pointer, size)

    # Each byte is read and written.
    return 2.0 * size / _seconds(device, copy)


def _seconds(device: CudaDevice, run: Callable[[], None]) -> float:
    least_of(device.time, run)
    return min(device.time(run) for _ in range(7))


def least_of(clock: Callable[[Callable[[], None]], float], run: Callable[[], None]) -> float:
    """Return the least time of runs one after the other, the first of which wake the GPU.

    One that was idle has a fifth of its clock. A ceiling that was measured then would make each
    honest time of a kernel an impossible one.
    """
    end = time.perf_counter() + _AWAKE
    found = clock(run)
    while time.perf_counter() < end:
        found = min(found, clock(run))
    return found
