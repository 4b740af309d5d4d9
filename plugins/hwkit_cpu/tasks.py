"""How kernels choose threads and cut work into tasks; shared by their spaces and defaults."""

from __future__ import annotations

from .device import compiled

__all__ = ["ladder", "most_threads", "on_ladder", "part", "thread_counts"]

TASKS_PER_THREAD = 4
"""Enough for a thread that comes late or is slower, few enough to start quickly."""


def most_threads() -> int:
    """Return how many threads a kernel may use."""
    threads: int = compiled().threads_max()
    return threads


def thread_counts() -> list[int]:
    """Return the numbers of threads to choose from: powers of two, and all."""
    most = most_threads()
    return sorted({most, *(1 << i for i in range(most.bit_length()) if 1 << i <= most)})


def part(size: int, others: int, threads: int) -> int:
    """Return a block of ``size`` such that with ``others`` like it each thread has some tasks."""
    tasks = -(-TASKS_PER_THREAD * threads // max(others, 1)) if threads > 1 else 1
    return max(1, -(-size // tasks))


def ladder(size: int, least: int = 1) -> list[int]:
    """Return the blocks to choose from: powers of two from ``least`` to the first that holds all.

    A fixed ladder, so that a Config found for one size is legal for sizes near it.
    """
    rungs = [least]
    while rungs[-1] < size:
        rungs.append(2 * rungs[-1])
    return rungs


def on_ladder(block: int, size: int, least: int = 1) -> int:
    """Return the last rung not above ``block``, or the one that holds all if ``block`` does."""
    rungs = ladder(size, least)
    return rungs[-1] if block >= size else max([r for r in rungs if r <= block], default=least)
