"""Where arrays begin: on a cache line, and large ones at different places of their pages."""

from __future__ import annotations

import numpy as np
import pytest

import hwkit
from hwkit.memory import LINE, aligned, on_line
from hwkit.registry import registry


@pytest.mark.parametrize("nbytes", [0, 1, 63, 64, 4096, 65535, 65536, 1 << 20])
def test_bytes_begin_on_a_line(nbytes: int) -> None:
    """As many bytes as asked for, which can be written, from the start of a line on."""
    block = aligned(nbytes)
    block[...] = 7
    assert block.nbytes == nbytes
    assert nbytes == 0 or block.ctypes.data % LINE == 0


def test_large_neighbours_begin_at_other_places_of_their_pages() -> None:
    """What is read and what is written next do not fall into the same sets of the first cache."""
    blocks = [aligned(1 << 16) for _ in range(4)]
    assert len({block.ctypes.data % 4096 for block in blocks}) == 4


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (7, 9, 11), (300, 70)])
def test_copies_are_equal(shape: tuple[int, ...]) -> None:
    """A copy has shape, dtype and values of the original, whatever its strides."""
    values = np.random.default_rng(0).standard_normal(shape).T
    copy = on_line(values)
    assert copy.dtype == values.dtype
    assert copy.flags.c_contiguous
    np.testing.assert_array_equal(copy, values)


@pytest.mark.parametrize("rows", [64, 256])
def test_results_begin_on_a_line(rows: int) -> None:
    """Arrays of the CPU device and results of calls do, from 4 KiB on, and outlive all else."""
    empty = registry().device("cpu:0").empty((rows, 64), np.dtype(np.float32))
    a, b = np.ones((rows, 8), np.float32), np.ones((8, 64), np.float32)
    product = hwkit.ops.matmul(a, b)
    for array in (empty, product):
        assert array.ctypes.data % LINE == 0
        assert array.flags.carray
    del empty, a, b
    np.testing.assert_array_equal(product, np.full((rows, 64), 8, np.float32))
