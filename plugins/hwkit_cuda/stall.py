"""Work that keeps the GPU busy while the host launches what is timed.

Launching costs the host some ten microseconds, longer than many a kernel runs. On a GPU that waits
for launches two events would show the host's time, the same for every Config. So a kernel that
touches next to no memory goes first: when it is over, what is timed has been launched.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .ceilings import least_of, multiply_add
from .run import Launch

if TYPE_CHECKING:
    from .device import CudaDevice

__all__ = ["Stall"]

# How long the GPU is kept busy, in seconds: at least, and at most.
_LEAST, _MOST = 30e-6, 2e-3
# The next run may take the host longer than the last; one that took very long is soon forgotten.
_MORE, _FORGET = 1.5, 0.8
# Steps by which it is found out how many there are in a second.
_TRIED = 1 << 13


class Stall:
    """One block of multiply-adds, for about as long as the host took to launch the last run.

    Args:
        device: where.

    Raises:
        HwkitError: there is no compiler, or it fails.
    """

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        self._function = multiply_add(device, "float32")
        self.seconds = _LEAST

    def _launch(self, steps: int) -> None:
        device = self._device
        # The memory is the pool's again at once: what comes next runs when this is over.
        launch: Launch = self._function(1, steps)
        with device.driver.context():
            device.driver.launch(launch.function, launch.blocks, launch.packed({}))

    @cached_property
    def _rate(self) -> float:
        """Steps in a second."""
        return _TRIED / least_of(self._device.driver.time, lambda: self._launch(_TRIED))

    def begin(self) -> None:
        """Keep the GPU busy from now on."""
        self._launch(max(1, int(min(self.seconds * self._rate, 2**30))))

    def noting(self, run: Callable[[], Any]) -> Callable[[], None]:
        """Return ``run``, whose time on the host is what the next stall goes by."""

        def noted() -> None:
            start = time.perf_counter()
            run()
            taken = _LEAST + _MORE * (time.perf_counter() - start)
            self.seconds = min(max(taken, _FORGET * self.seconds), _MOST)

        return noted
