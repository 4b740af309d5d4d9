"""How kernels choose threads and cut work into tasks; shared by their spaces and defaults."""

from __future__ import annotations

from collections.abc import Iterable

from .device import compiled

__all__ = ["blocks", "most_threads", "part", "thread_counts"]

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


def blocks(size: int, choices: Iterable[int], *more: int) -> list[int]:
    """Return the block sizes that make sense for ``size``, in order, ``more`` among them."""
    return sorted({min(b, size) for b in (*choices, *more, size)})
