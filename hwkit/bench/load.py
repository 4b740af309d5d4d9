"""How busy others keep the CPUs while something is timed; Linux only, unknown elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Load"]

# Columns of /proc/stat: user nice system idle iowait irq softirq steal.
_IDLE = (3, 4)
_COLUMNS = 8
# Time is counted in ticks: of fewer, one more or less would be more than a twentieth.
_LEAST_TICKS = 20


class Load:
    """Measures from its making on, over the CPUs that this process may use.

    Args:
        ours: ids of the processes, besides this one, whose work does not count as others'.
    """

    def __init__(self, ours: Iterable[int] = ()) -> None:
        self._pids = [os.getpid(), *ours]
        self._start = self._now()

    def others(self) -> float | None:
        """Return the share of the CPUs' time that others took.

        ``None`` if it is not known, or the time was too short for the clock of the system.
        """
        now = self._now()
        if self._start is None or now is None:
            return None
        whole, busy, own = (b - a for a, b in zip(self._start, now, strict=True))
        return min(1.0, max(0.0, (busy - own) / whole)) if whole >= _LEAST_TICKS else None

    def _now(self) -> tuple[int, int, int] | None:
        """Return ticks of all CPUs, those of them that were busy, and those of our processes."""
        try:
            rows = Path("/proc/stat").read_text().splitlines()
            own = sum(map(_ticks, self._pids))
            cpus = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        except (OSError, AttributeError, IndexError, ValueError):
            return None
        whole = busy = 0
        for name, *columns in map(str.split, rows):
            if name in cpus:
                ticks = [int(column) for column in columns[:_COLUMNS]]
                whole += sum(ticks)
                busy += sum(t for place, t in enumerate(ticks) if place not in _IDLE)
        return whole, busy, own


def _ticks(pid: int) -> int:
    """Return the user and system ticks of a process with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
