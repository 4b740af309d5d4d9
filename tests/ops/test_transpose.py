"""The contract of transpose, the public function, and the kernel of the host."""

from __future__ import annotations

import random

import numpy as np
import pytest

import hwkit
from hwkit import ArgumentError, DtypeError, Spec
from hwkit.ops.transpose import TRANSPOSE, permuted
from hwkit.registry import registry

DTYPES = ["float32", "float64", "float16", "uint8", "int8", "int32", "int64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 50), (2, 50, 3), (2, 2, 37, 65), (4, 9), (9, 2), (0, 3)])
def test_it_is_numpys_copy(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> None:
    """Every size of elements, few and many rows, whatever is in front."""
    x = rng.integers(0, 100, shape).astype(dtype)
    got = hwkit.ops.transpose(x)
    assert got.flags.c_contiguous
    assert got.dtype == x.dtype
    assert np.array_equal(got, x.swapaxes(-1, -2))


@pytest.mark.parametrize("seed", range(30))
def test_any_config_is_right(seed: int) -> None:
    """However the work is cut; NaN keeps its bits."""
    rng = random.Random(seed)
    sizes = [rng.randint(1, 4), *(rng.choice((1, 2, 3, 4, 5, 17, 64, 100)) for _ in "rc")]
    dtype = rng.choice(DTYPES)
    bits = np.random.default_rng(seed).integers(0, 256, (*sizes, np.dtype(dtype).itemsize))
    x = bits.astype(np.uint8).view(dtype).reshape(sizes)
    problem = TRANSPOSE.problem(x)
    (kernel,) = (
        k
        for k in registry().kernels(registry().device("cpu:0"), "transpose")
        if k.name == "transpose"
    )
    space = kernel.space(problem)
    for config in (kernel.default(problem), *(space.sample(rng) for _ in range(3))):
        out = np.zeros(problem.output.shape, dtype)
        kernel.build(problem, config)(x, out=out)
        assert out.tobytes() == x.swapaxes(1, 2).tobytes(), config


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "float16"])
@pytest.mark.parametrize("shape", [(64, 38416), (38416, 64), (61, 38417), (1600, 1616)])
def test_more_than_the_caches_hold(
    rng: np.random.Generator, dtype: str, shape: tuple[int, int]
) -> None:
    """Results that go past the caches, begun at a cache line and beside one."""
    x = rng.integers(0, 60000, shape).astype(dtype)
    for skip in (0, 5):
        out = np.zeros(x.size + 64, dtype)
        begin = -out.ctypes.data // x.itemsize % 16 + skip
        y = out[begin : begin + x.size].reshape(x.T.shape)
        hwkit.ops.transpose(x, out=y)
        assert np.array_equal(y, x.T)
        assert not out[:begin].any()
        assert not out[begin + x.size :].any()


def test_strided_operands_and_results(rng: np.random.Generator) -> None:
    """Views go in, and the result goes into a view or over the operand."""
    x = rng.standard_normal((8, 12)).astype(np.float32)[::2, ::3]
    out = np.zeros((4, 4), np.float32, order="F")
    assert hwkit.ops.transpose(x, out=out) is out
    assert np.array_equal(out, x.T)
    y = x.copy()
    hwkit.ops.transpose(y, out=y)
    assert np.array_equal(y, x.T)


@pytest.mark.parametrize(
    ("shape", "order", "sizes"),
    [
        ((1, 3, 30, 20), (0, 2, 3, 1), (1, 3, 600)),
        ((2, 30, 20, 3), (0, 3, 1, 2), (2, 600, 3)),
        ((5, 7), (1, 0), (1, 5, 7)),
        ((2, 3, 4), (1, 2, 0), (1, 2, 12)),
        ((2, 1, 4), (1, 0, 2), (8, 1, 1)),
        ((2, 3, 4), (0, 1, 2), (24, 1, 1)),
        ((1, 1), (1, 0), (1, 1, 1)),
        ((2, 3, 4), (2, 1, 0), None),
        ((2, 3, 4), (1, 0, 2), None),
    ],
)
def test_permutations_that_transpose_matrices(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    order: tuple[int, ...],
    sizes: tuple[int, int, int] | None,
) -> None:
    """Axes that stay neighbours are one, those of size 1 do not count."""
    assert permuted(shape, order) == sizes
    if sizes is not None:
        x = rng.standard_normal(shape)
        want = x.transpose(order)
        assert np.array_equal(x.reshape(sizes).swapaxes(1, 2).reshape(want.shape), want)


def test_the_contract() -> None:
    """Text and bytes; nothing is computed."""
    problem = TRANSPOSE.problem(Spec((2, 3, 4), "uint8"))
    assert str(problem) == "transpose uint8,uint8,uint8,uint8 b=2 r=3 c=4"
    assert TRANSPOSE.parse(str(problem)) == problem
    assert (problem.flops, problem.nbytes, problem.output.shape) == (0, 48, (2, 4, 3))
    with pytest.raises(ArgumentError, match="at least 2 dimensions"):
        hwkit.ops.transpose(np.ones(3, np.float32))
    with pytest.raises(DtypeError, match="x has dtype complex64"):
        hwkit.ops.transpose(np.ones((3, 3), np.complex64))
    with pytest.raises(ArgumentError, match=r"out has shape \(2, 3\)"):
        hwkit.ops.transpose(np.ones((2, 3), np.float32), out=np.ones((2, 3), np.float32))
