"""Roofline: the least time that a device's ceilings allow for a Problem.

After S. Williams, A. Waterman and D. Patterson, "Roofline", Communications of the ACM 52(4), 2009.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .backend import Device
from .contention import on_host_clock
from .op import Problem

__all__ = ["Roofline"]

# Shares of the roofline that count as having reached it.
_LIGHT = 0.95, 1.05

# Faster than the ceilings allow by more than this is impossible. Ceilings in wall time of the host
# are too low by any factor that other processes took away, which is no fault of the candidate.
# Algorithms that save arithmetic have another limit; memory says nothing about caches.
_IMPOSSIBLE, _ON_HOST, _SAVING, _CACHING = 1.5, 15.0, 8.0, 30.0

_CACHES = ("l2", "l3", "cache")


@dataclass(frozen=True)
class Roofline:
    """The least seconds that arithmetic and memory allow; 0 where a ceiling is not known.

    Attributes:
        arithmetic: seconds for the arithmetic.
        memory: seconds for moving each array once.
        on_host: whether the ceilings are in wall time of the host.
    """

    arithmetic: float = 0.0
    memory: float = 0.0
    on_host: bool = False

    @classmethod
    def of(cls, problem: Problem, ceilings: Mapping[str, float], device: Device) -> Roofline:
        """Return the roofline of a Problem.

        Args:
            problem: what is computed.
            ceilings: as of :meth:`hwkit.Device.ceilings`.
            device: memory does not bound a problem that fits its largest cache twice (``l2``,
                ``l3`` or ``cache`` of the identity, in bytes).
        """
        sizes = [device.fingerprint.identity.get(name, 0) for name in _CACHES]
        cache = max(float(s) for s in sizes if isinstance(s, (int, float)))
        # Matrix units have a rate of their own for what is stored narrow.
        plain = ceilings.get(f"{problem.dtypes.accumulate} flop/s", 0.0)
        flops = ceilings.get(f"{problem.dtypes.input} flop/s", plain)
        nbytes = ceilings.get("byte/s", 0.0) if problem.nbytes > 2 * cache else 0.0
        return cls(
            problem.flops / flops if flops > 0 else 0.0,
            problem.nbytes / nbytes if nbytes > 0 else 0.0,
            on_host_clock(device),
        )

    @property
    def seconds(self) -> float:
        """The larger of both."""
        return max(self.arithmetic, self.memory)

    def share(self, seconds: float) -> float | None:
        """Return the share of the roofline that a time reaches; ``None`` if it is not known."""
        if not self.seconds or not math.isfinite(seconds):
            return None
        return self.seconds / seconds

    def reached(self, seconds: float) -> bool:
        """Whether a time is at the roofline, so that there is nothing more to gain."""
        # A ceiling that was passed was measured too low, and says nothing.
        share = self.share(seconds)
        return share is not None and _LIGHT[0] <= share <= _LIGHT[1]

    def impossible(self, seconds: float, strict: bool) -> str:
        """Return why a time cannot be, or ``""``.

        Args:
            seconds: the time.
            strict: whether the algorithm does all of the multiply-adds.
        """
        if not seconds > 0 or math.isinf(seconds):
            return f"its time of {seconds} s is impossible"
        arithmetic = self.arithmetic / (1.0 if strict else _SAVING)
        least = max(arithmetic, self.memory / _CACHING)
        least /= _ON_HOST if self.on_host else _IMPOSSIBLE
        if seconds >= least:
            return ""
        return f"its time of {seconds:.2e} s is impossible, the device's ceilings allow {least:.2e}"
