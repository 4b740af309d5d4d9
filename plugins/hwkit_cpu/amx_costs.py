"""What products by tiles (AMX) cost, as shares of the time that multiply-adds take for the same."""

from __future__ import annotations

__all__ = ["SIDE", "share", "streamed"]

SIDE = 32
"""Rows and columns of a block, and its least depth."""

# By terms of each operand. hwkit did not measure tiles on hardware: six products were 1.5 times as
# fast as float32 in a prototype, three 2.8 times, one 5 times.
_SHARES = {1: 0.2, 2: 0.36, 3: 0.67}

# A byte from memory, in multiply-adds of a vector.
_BYTE = 0.2


def share(terms: int, rows: int) -> float:
    """Return the share of a product of so many rows, filled up to whole blocks."""
    return _SHARES[terms] * -(-rows // SIDE) * SIDE / rows


def streamed(terms: int, rows: int, lanes: int) -> float:
    """Return what reading the other operand from memory adds to it."""
    return 2 * terms * _BYTE * lanes / rows
