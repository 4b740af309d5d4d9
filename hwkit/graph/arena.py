"""Where activations lie: one block of memory, places by lifetime, and parts of what lies there.

Placing by decreasing size at the lowest free offset is the greedy-by-size strategy of Pisarchyk and
Lee, "Efficient Memory Management for Deep Neural Net Inference", arXiv:2001.03288, section 5.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from ..errors import ArgumentError
from ..memory import LINE
from .ir import Array, Value

__all__ = [
    "Block",
    "check_limit",
    "columns_of",
    "lower_bound",
    "place",
    "stretch",
    "strides_of",
]

_TRIES = 16
_SPREAD = 0.05


class Block(NamedTuple):
    """Memory that is needed from one step to another, both counted.

    Attributes:
        nbytes: size.
        first: the step that writes it.
        last: the last step that reads it.
    """

    nbytes: int
    first: int
    last: int

    @property
    def padded(self) -> int:
        """Size up to the next boundary of a cache line."""
        return -(-self.nbytes // LINE) * LINE


def place(blocks: list[Block]) -> tuple[list[int], int]:
    """Return an offset for each block, so that no two that live together overlap; and the total.

    Where that needs more than the lower bound, blocks of nearly the same size change their order,
    at random but the same each time.
    """
    least = lower_bound(blocks)
    best = _place(blocks, sorted(range(len(blocks)), key=lambda i: (-blocks[i].padded, i)))
    rng = random.Random(0)
    for _ in range(_TRIES):
        if best[1] <= least:
            break
        sizes = [block.padded * (1 + _SPREAD * rng.random()) for block in blocks]
        order = sorted(range(len(blocks)), key=lambda i: -sizes[i])
        best = min(best, _place(blocks, order), key=lambda found: found[1])
    return best


def _place(blocks: list[Block], order: list[int]) -> tuple[list[int], int]:
    offsets = [0] * len(blocks)
    done: list[int] = []
    total = 0
    for index in order:
        block = blocks[index]
        beside = sorted(
            (offsets[i], offsets[i] + blocks[i].padded)
            for i in done
            if blocks[i].first <= block.last and block.first <= blocks[i].last
        )
        start = 0
        for low, high in beside:
            if low - start >= block.padded:
                break
            start = max(start, high)
        offsets[index] = start
        total = max(total, start + block.padded)
        done.append(index)
    return offsets, total


def lower_bound(blocks: list[Block]) -> int:
    """Return the bytes that live at once at the worst step: no placement needs less."""
    steps = {block.first for block in blocks}
    return max(
        (sum(b.padded for b in blocks if b.first <= step <= b.last) for step in steps), default=0
    )


def check_limit(needed: int, limit: int) -> None:
    """Check that the bytes of an arena are allowed.

    Raises:
        ArgumentError: they are more.
    """
    if needed > limit:
        raise ArgumentError(
            f"the arrays between nodes need {needed} bytes, more than the {limit} allowed: "
            "give memory= more if the model can be trusted"
        )


def stretch(start: int, size: int, shape: tuple[int, ...], array: Array) -> Array:
    """Return ``size`` elements of an array from ``start`` on, in their order, as ``shape``."""
    return array.reshape(-1)[start : start + size].reshape(shape)


def columns_of(start: int, count: int, array: Array) -> Array:
    """Return ``count`` places of the last axis from ``start`` on."""
    return array[..., start : start + count]


def strides_of(value: Value) -> tuple[int, ...]:
    """Return the bytes from place to place along each axis of a value that lies in one piece."""
    strides, step = [], value.kind.itemsize
    for size in value.sizes[::-1]:
        strides.append(step)
        step *= max(size, 1)
    return tuple(strides[::-1])
