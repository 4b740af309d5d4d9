"""Arrays of CUDA devices, as far as they can be told without one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwkit import ArgumentError
from hwkit_cuda.arrays import CudaArray, new_like


def test_the_answer_has_its_own_dtype() -> None:
    """The sums of integers are int32: a tensor of int8 gives one of int32, of the same library."""
    torch = pytest.importorskip("torch")
    found = new_like(torch.zeros((2, 3), dtype=torch.int8), (4, 5), np.dtype(np.int32))
    assert isinstance(found, torch.Tensor)
    assert (tuple(found.shape), found.dtype) == ((4, 5), torch.int32)
    same = new_like(torch.zeros(2, dtype=torch.float16), (3,), np.dtype(np.float16))
    assert same.dtype == torch.float16


def test_another_shape_is_the_same_memory() -> None:
    """A stack of matrices is folded without a copy, and keeps its memory alive."""
    owner: Any = object()
    whole = CudaArray(4096, (2, 3, 4), np.dtype(np.float32), 0, owner, stream=7)
    folded = whole.reshape(6, 4)
    assert (folded.pointer, folded.shape, folded.ndim, folded.stream) == (4096, (6, 4), 2, 7)
    assert folded.owner is whole
    assert whole.reshape((24,)).shape == (24,)
    with pytest.raises(ArgumentError, match=r"\(2, 3, 4\) has not the size of \(5, 5\)"):
        whole.reshape(5, 5)
