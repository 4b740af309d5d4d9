"""Guard zones and poison: what shows where a candidate wrote, and where it did not."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from .backend import Device, Run
from .memory import LINE, aligned
from .op import Operand

__all__ = ["Guarded", "checksum", "poison"]

Array = np.ndarray[Any, Any]

_LEAST_GUARD, _MOST_GUARD = 4 * 1024, 64 * 1024


def checksum(array: Array) -> int:
    """Return a checksum of the bytes of an array."""
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def poison(run: Run) -> None:
    """Fill the scratch memory that a run exposes with NaN."""
    for buffer in getattr(run, "scratch", ()):
        np.asarray(buffer).reshape(-1).view(np.uint8)[...] = 0xFF


class Guarded:
    """An output buffer between two guard zones, where the device can make part of a buffer one."""

    def __init__(self, device: Device, output: Operand) -> None:
        self._device, self._output = device, output
        noise = np.random.default_rng(len(output.name) + output.nbytes)
        size = -(-output.nbytes // LINE) * LINE
        self._size = min(max(size, _LEAST_GUARD), _MOST_GUARD)
        self._guard = noise.integers(0, 256, self._size, np.uint8)
        self._host = aligned(2 * self._size + output.nbytes)
        self._fill(0)
        self._whole = device.put(self._host)
        host = isinstance(self._whole, np.ndarray)
        self._shared = host and np.may_share_memory(self._whole, self._host)
        part = device.part(self._whole, self._size, output.shape, output.dtype)
        self._has_zones = part is not None
        self.buffer = device.empty(output.shape, output.dtype) if part is None else part

    def _fill(self, number: int) -> None:
        inside = slice(self._size, self._size + self._output.nbytes)
        # All ones is NaN in every floating format; integers get another pattern every time.
        pattern = (0xAA, 0x55)[number % 2] if self._output.dtype.kind in "iub" else 0xFF
        self._host[: self._size] = self._host[inside.stop :] = self._guard
        self._host[inside] = pattern

    def fresh(self, number: int) -> Any:
        """Return the output buffer, filled with what no answer looks like."""
        self._fill(number)
        if not self._has_zones:
            pattern = self._host[self._size : self._size + self._output.nbytes].view(
                self._output.dtype
            )
            self.buffer = self._device.put(pattern.reshape(self._output.shape).copy())
        elif not self._shared:
            self._whole = self._device.put(self._host)
            self.buffer = self._device.part(
                self._whole, self._size, self._output.shape, self._output.dtype
            )
        return self.buffer

    def broken(self) -> str:
        """Return which guard zone was written, in words, or ``""``."""
        if not self._has_zones:
            return ""
        whole = self._device.get(self._whole)
        if not np.array_equal(whole[: self._size], self._guard):
            return "before"
        behind = whole[self._size + self._output.nbytes :]
        return "" if np.array_equal(behind, self._guard) else "behind"

    def result(self) -> Array:
        """Return the output as a numpy array."""
        return self._device.get(self.buffer)
