"""Products whose right side is stored in bfloat16 or int8, against numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hwkit
from hwkit import ArgumentError, NoKernel
from hwkit.registry import registry

registry().device("cpu:0")
from hwkit_cpu import gemm_few_rows as few  # noqa: E402  # the device says first if it is missing

BOUND = {"bfloat16": few.Bfloat16Gemm.bound, "int8": few.Int8Gemm.bound}


def relative(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(1, 21),
    n=st.integers(1, 200),
    k=st.integers(1, 300),
    transposed=st.booleans(),
    storage=st.sampled_from(["bfloat16", "int8"]),
    seed=st.integers(0, 99),
)
def test_any_sizes(m: int, n: int, k: int, transposed: bool, storage: str, seed: int) -> None:
    """Edges of panels, of parts of the depth and of groups of rows come out right."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((m, k), np.float32)
    b = rng.standard_normal((n, k) if transposed else (k, n), np.float32)
    plan = hwkit.plan("gemm", a, b, transpose_b=transposed, tolerance=1e-2)
    packed = plan.prepack(b, storage=storage)
    assert packed.kernel.storage == storage
    right = (b.T if transposed else b).astype(np.float64)
    # At most half a unit for each element of b: of its last bit, or of the largest one's 127th.
    unit = np.abs(right) / 256 if storage == "bfloat16" else np.full((k, n), np.abs(b).max() / 253)
    assert (np.abs(packed(a) - a @ right) <= np.abs(a) @ unit + 1e-5).all()


@pytest.mark.parametrize("storage", ["bfloat16", "int8"])
def test_errors_keep_what_the_kernels_promise(storage: str) -> None:
    """The relative error on normal weights is below the bound that admits the kernel."""
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((4, 2048), np.float32), rng.standard_normal((2048, 300), np.float32)
    packed = hwkit.plan("gemm", a, b, tolerance=1e-2).prepack(b, storage=storage)
    error = relative(packed(a), a.astype(np.float64) @ b.astype(np.float64))
    assert BOUND[storage] / 4 < error < BOUND[storage]


def test_bfloat16_is_exact_where_nothing_is_rounded() -> None:
    """Small whole numbers, sums included, have no rounding at all."""
    rng = np.random.default_rng(2)
    a = rng.integers(-9, 10, (5, 70)).astype(np.float32)
    b = rng.integers(-128, 129, (70, 45)).astype(np.float32)
    packed = hwkit.plan("gemm", a, b, tolerance=1e-2).prepack(b, storage="bfloat16")
    np.testing.assert_array_equal(packed(a), a @ b)


def test_scales_of_columns_and_depth() -> None:
    """A large column, and a large part of the depth, spoil no other one in int8."""
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((1, 256), np.float32), rng.standard_normal((256, 40), np.float32)
    b[:, 7] *= 1e6
    packed = hwkit.plan("gemm", a, b, tolerance=1e-2).prepack(b, storage="int8")
    want = a.astype(np.float64) @ b.astype(np.float64)
    rest = np.arange(40) != 7
    assert relative(packed(a)[:, rest], want[:, rest]) < BOUND["int8"]
    b[:, 7] /= 1e6
    b[:64] *= 1e6
    packed = hwkit.plan("gemm", a, b, tolerance=1e-2).prepack(b, storage="int8")
    a[:, :64] = 0
    assert relative(packed(a), a.astype(np.float64) @ b.astype(np.float64)) < BOUND["int8"]


@pytest.mark.parametrize("storage", ["bfloat16", "int8"])
def test_what_is_not_finite(storage: str) -> None:
    """NaN and infinity in b go where numpy sends them, and the largest numbers stay finite."""
    a = np.ones((2, 80), np.float32)
    b = np.ones((80, 50), np.float32)
    b[3, 5], b[70, 6], b[71, 6], b[72, 7] = np.inf, np.inf, -np.inf, np.nan
    with np.errstate(invalid="ignore"):
        want = a @ b
    packed = hwkit.plan("gemm", a, b, tolerance=1e-2).prepack(b, storage=storage)
    np.testing.assert_allclose(packed(a), want)
    one = np.full((1, 1), np.finfo(np.float32).max)
    packed = hwkit.plan("gemm", one / one, one, tolerance=1e-2).prepack(one, storage=storage)
    assert np.isfinite(packed(one / one)).all()


@pytest.mark.parametrize("storage", ["bfloat16", "int8"])
def test_epilogue_and_batches(storage: str) -> None:
    """Bias and activation are as ever; a batch has a packed matrix each, or shares one."""
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((3, 64), np.float32), rng.standard_normal((64, 33), np.float32)
    bias = rng.standard_normal(33, np.float32)
    plan = hwkit.plan("gemm", a, b, bias=bias, activation="relu", tolerance=1e-2)
    packed = plan.prepack(b, bias=bias, storage=storage)
    want = np.maximum(a.astype(np.float64) @ b + bias, 0)
    assert relative(packed(a), want) < 2 * BOUND[storage]
    for shape in ((1, 64, 33), (5, 64, 33)):
        a, b = rng.standard_normal((5, 3, 64), np.float32), rng.standard_normal(shape, np.float32)
        packed = hwkit.plan("matmul", a, b, tolerance=1e-2).prepack(b, storage=storage)
        assert packed.kernel.storage == storage
        assert relative(packed(a), a.astype(np.float64) @ b.astype(np.float64)) < BOUND[storage]


def test_only_who_asks_gets_it() -> None:
    """A coarse tolerance alone leaves weights in their dtype; a fine one refuses to narrow them."""
    a, b = np.ones((1, 64), np.float32), np.ones((64, 64), np.float32)
    plan = hwkit.plan("gemm", a, b, tolerance=1e-2)
    assert plan.kernel.storage is None
    assert plan.prepack(b).kernel.storage is None
    with pytest.raises(NoKernel, match=r"bfloat16_gemm: its relative error 2.5e-03 exceeds"):
        hwkit.plan("gemm", a, b).prepack(b, storage="bfloat16")
    with pytest.raises(NoKernel, match="storage='int4': choose one of bfloat16, int8"):
        plan.prepack(b, storage="int4")
    with pytest.raises(ArgumentError, match="storage='int8': this plan cannot choose"):
        plan.prepack(b).prepack(storage="int8")
