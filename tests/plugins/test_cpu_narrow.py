"""Products whose right side is stored in fewer bits, against numpy in float64."""

from __future__ import annotations

from typing import Any

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


def int24(a: np.ndarray, b: np.ndarray, transposed: bool = False) -> np.ndarray:
    """Multiply by a packed b in int24."""
    (m, k), n = a.shape, b.shape[0 if transposed else 1]
    layout = "nt" if transposed else "nn"
    problem = registry().op("gemm").parse(f"gemm float32 {layout} m={m} n={n} k={k}")
    kernel = few.Int24Gemm("gemm")
    run: Any = kernel.build(problem.with_packed(), kernel.default(problem))
    out = np.full((m, n), np.nan, np.float32)
    run.prepack({1: b})(a, out=out)
    return out


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


@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(1, 9),
    n=st.integers(1, 200),
    k=st.integers(1, 300),
    transposed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_int24_of_any_sizes(m: int, n: int, k: int, transposed: bool, seed: int) -> None:
    """Edges of panels, of parts of the depth and of groups of rows come out right."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((m, k), np.float32)
    b = rng.standard_normal((n, k) if transposed else (k, n), np.float32)
    right = (b.T if transposed else b).astype(np.float64)
    # Half of a step for each element, and the rounding of sums.
    unit = np.full((k, n), np.abs(b).max() / 2**24) + np.abs(right) * k * 2**-24
    assert (np.abs(int24(a, b, transposed) - a @ right) <= np.abs(a) @ unit + 1e-30).all()


@pytest.mark.parametrize("spread", [0, 3, 12])
def test_int24_has_the_error_of_float32(spread: float) -> None:
    """Whatever the scales of columns, and of elements in them, columns keep their digits."""
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((4, 2048), np.float32), rng.standard_normal((2048, 96), np.float32)
    b *= (10 ** rng.uniform(-spread, spread, 96)).astype(np.float32)
    b *= (10 ** rng.uniform(-spread, 0, (2048, 96))).astype(np.float32)
    want = a.astype(np.float64) @ b.astype(np.float64)
    sizes = np.linalg.norm(a.astype(np.float64)) * np.linalg.norm(b.astype(np.float64), axis=0)
    error = np.linalg.norm(int24(a, b) - want, axis=0)
    assert (error / sizes < 4e-7).all()


@pytest.mark.parametrize("value", [1e-35, 1e-40, 2.0**127, np.inf, np.nan])
def test_int24_leaves_what_it_cannot_hold_in_float32(value: float) -> None:
    """A matrix with such a column is kept as it is: all products are exact here."""
    a, b = np.ones((2, 70), np.float32), np.zeros((70, 80), np.float32)
    b[69], b[69, 7], b[3, 8] = 1 + 2**-22, value, 2**-23
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(int24(a, b), a @ b)


def test_int24_keeps_zeros_and_nothing_else_zero() -> None:
    """Infinity in a meets the zeros of b alone, and the largest numbers stay finite."""
    rng = np.random.default_rng(6)
    a, b = np.ones((1, 64), np.float32), rng.standard_normal((64, 90), np.float32)
    b[::3] = 0
    b[1] = rng.choice([-1e-30, 1e-30], 90)
    for row, all_nan in ((0, True), (1, False), (2, False)):
        infinite = a.copy()
        infinite[0, row] = np.inf
        got = int24(infinite, b)
        assert np.isnan(got).all() if all_nan else (got == np.inf * np.sign(b[row])).all()
    most = np.full((64, 64), 1.7e38, np.float32)
    assert np.isfinite(int24(a[:, :1], most[:1])).all()
    huge, tiny = np.full((1, 64), 1e30, np.float32), np.full((64, 64), 1e-25, np.float32)
    np.testing.assert_allclose(int24(huge, tiny), huge @ tiny, rtol=1e-6)


def test_large_matrices_of_few_rows_are_kept_in_int24() -> None:
    """At the default tolerance; a strict plan keeps every digit."""
    rng = np.random.default_rng(7)
    a, b = rng.standard_normal((2, 1500), np.float32), rng.standard_normal((1500, 1500), np.float32)
    packed = hwkit.plan("gemm", a, b).prepack(b)
    assert packed.kernel.name == "int24_storage_gemm"
    assert relative(packed(a), a.astype(np.float64) @ b.astype(np.float64)) < 5e-7
    strict = hwkit.plan("gemm", a, b, tolerance="strict").prepack(b)
    assert strict.kernel.name != "int24_storage_gemm"
