"""How kernels choose threads and cut work into tasks; shared by their spaces and defaults."""

from __future__ import annotations

from hwkit import Problem

from .device import compiled

__all__ = [
    "TASKS_PER_THREAD",
    "ladder",
    "most_threads",
    "on_ladder",
    "part",
    "thread_counts",
    "transposed_block",
    "transposed_bytes",
]

TASKS_PER_THREAD = 4
"""Enough for a thread that comes late or is slower, few enough to start quickly."""

# Most bytes that are transposed at a time, but for one row, and channels of a piece.
_PIECE, _CHANNELS = 1 << 17, 64


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


def transposed_block(block: int, channels: int) -> int:
    """Return a block of channels whose images are transposed: not so few that starts cost more."""
    return max(block, min(32, on_ladder(channels // 4, channels)))


def transposed_bytes(problem: Problem, columns: int) -> int:
    """Return the most bytes of a piece of an image that is transposed, with all that is beside it.

    Args:
        problem: with windows over channels; ``cython/depthwise_transposed.c`` and
            ``cython/pool2d_transposed.c`` cut it.
        columns: of one output row, of all that is laid out like the result.
    """
    reach = min((problem["r"] - 1) * problem["dilation"][0] + 1, problem["h"])
    row = _CHANNELS * problem.output.dtype.itemsize * (reach * problem["w"] + columns)
    return int(max(_PIECE, row))
