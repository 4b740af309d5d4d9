"""Device memory that is used again, for the driver's own allocation waits for the device."""

from __future__ import annotations

import threading
import weakref
from collections import defaultdict

from .driver import Driver, DriverError

__all__ = ["Block", "Pool"]

_STEP = 512
_OUT_OF_MEMORY = 2


class Block:
    """Memory that returns to its pool with the last reference."""

    __slots__ = ("__weakref__", "address", "size")

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        self.size = size


class Pool:
    """Blocks by size, of which those given back are handed out again.

    A block given back may still be read by kernels that were launched before; what is launched
    next comes after them, for all launches share one stream.

    Args:
        driver: where the memory comes from.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._free: defaultdict[int, list[int]] = defaultdict(list)
        self._lock = threading.RLock()
        self.in_use = 0

    def take(self, nbytes: int) -> Block:
        """Return a block of at least ``nbytes``.

        Raises:
            DriverError: there is no memory, not even after all free blocks were given back.
        """
        size = max(_rounded(nbytes), _STEP)
        with self._lock:
            address = self._free[size].pop() if self._free[size] else self._allocate(size)
            self.in_use += size
        block = Block(address, size)
        # Not at exit: the driver may be gone by then, and takes all memory with it.
        weakref.finalize(block, self._give, address, size).atexit = False
        return block

    def _allocate(self, size: int) -> int:
        try:
            return self._driver.allocate(size)
        except DriverError as error:
            if error.code != _OUT_OF_MEMORY or not any(self._free.values()):
                raise
        self.trim()
        return self._driver.allocate(size)

    def _give(self, address: int, size: int) -> None:
        with self._lock:
            self._free[size].append(address)
            self.in_use -= size

    def trim(self) -> None:
        """Give all free blocks back to the driver."""
        with self._lock:
            for addresses in self._free.values():
                while addresses:
                    self._driver.free(addresses.pop())


def _rounded(nbytes: int) -> int:
    """Return the size class: steps of 512 bytes, and of an eighth above 4 KiB."""
    step = max(_STEP, 1 << max(nbytes.bit_length() - 4, 0))
    return -(-nbytes // step) * step
