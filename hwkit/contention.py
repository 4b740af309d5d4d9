"""Contention: whether something else uses the machine while it is timed."""

from __future__ import annotations

import resource
import time
import zlib

from .backend import Device

__all__ = ["Contention", "on_host_clock"]


def on_host_clock(device: Device) -> bool:
    """Whether a device's times are wall time of the host, which other processes lengthen."""
    return type(device).time is Device.time


class Contention:
    """Notices that something else uses the machine.

    Two signs: this process was taken off a CPU against its will, or a tiny loop whose time is known
    became slower, which also shows a neighbour outside a virtual machine.
    """

    _SLOWER = 1.3

    def __init__(self) -> None:
        self._data = bytes(64 * 1024)
        self._calm = min(self._probe() for _ in range(9))

    def _probe(self) -> float:
        start = time.perf_counter()
        zlib.crc32(self._data)
        return time.perf_counter() - start

    @staticmethod
    def evictions() -> int:
        """Return how often this process was taken off a CPU against its will."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw

    def slowed(self) -> bool:
        """Whether the loop is slower than it was; the best of two, for one blip is nothing."""
        now = min(self._probe(), self._probe())
        self._calm = min(self._calm, now)
        return now > self._SLOWER * self._calm
