"""Strassen's products on the host: any size, their error, and what is summed plainly instead."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from products import EPILOGUES, candidates, check, run_again

from hwkit import Problem
from hwkit.op import relative_error
from hwkit.plans import Plan
from hwkit.registry import registry
from hwkit.selection import select

registry().device("cpu:0")
from hwkit_cpu import strassen, tiles  # noqa: E402  # the device says first if it is missing

KERNELS = {kernel.op: kernel for kernel in strassen.kernels()}
GEMM = KERNELS["gemm"]
Array = np.ndarray[Any, Any]


def problem(text: str) -> Problem:
    return registry().op(text.split(maxsplit=1)[0]).parse(text)


def product(a: Array, b: Array, **tunables: Any) -> list[Array]:
    """Multiply, with b as it comes and with b packed before."""
    p = problem(f"gemm {a.dtype} nn m={len(a)} n={b.shape[1]} k={len(b)}")
    run: Any = GEMM.build(p, GEMM.default(p).replace(**tunables))
    first, second = (np.full(p.output.shape, np.nan, a.dtype) for _ in range(2))
    run(a, b, out=first)
    run.prepack({1: b})(a, out=second)
    return [first, second]


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def window(rng: random.Random, dtype: str, c: int, k: int) -> str:
    """Write a convolution with any window, padding, stride and dilation."""
    r, s, stride_y, stride_x, dilation_y, dilation_x = (rng.randint(1, 3) for _ in range(6))
    pad = [rng.randint(0, 3) for _ in range(4)]
    h = rng.randint(1, 9) + (r - 1) * dilation_y
    w = rng.randint(1, 9) + (s - 1) * dilation_x
    return (
        f"conv2d {dtype} nhwc n={rng.randint(1, 2)} c={c} h={h} w={w} k={k} r={r} s={s} "
        f"pad={','.join(map(str, pad))} stride={stride_y},{stride_x} "
        f"dilation={dilation_y},{dilation_x} "
    )


@pytest.mark.parametrize("seed", range(4))
def test_random_problems_and_configs(seed: int) -> None:
    """Any Config of the space gives the right answer, with any epilogue."""
    rng = random.Random(seed)
    sizes = [2, 3, 6, 8, 17, 40, 64, 100, 130]
    for _ in range(8):
        m, n, k = rng.choice([1, *sizes]), rng.choice([1, *sizes]), rng.choice(sizes)
        dtype, words = rng.choice(["float32", "float64"]), rng.choice(EPILOGUES)
        factors = f"alpha={rng.choice([1.0, 0.5])} beta={rng.choice([0.0, 1.0, -2.0])}"
        texts = [
            f"gemm {dtype} {rng.choice(['nn', 'nt'])} m={m} n={n} k={k} {factors} {words}",
            f"matmul {dtype} b={rng.choice([1, 3])} m={m} n={n} k={k}",
            f"conv2d {dtype} nhwc n={rng.choice([1, 2])} c={k} h={rng.randint(1, 9)} "
            f"w={rng.randint(1, 9)} k={n} r=1 s=1 pad=0 stride=1 {words}",
            window(rng, dtype, k, n) + words,
            f"conv2d {dtype} nchw n={rng.choice([1, 2])} c={k} h={rng.randint(1, 9)} "
            f"w={rng.randint(1, 9)} k={n} r=1 s=1 pad={rng.choice([0, 0, 1])} "
            f"stride={rng.choice([1, 1, 2])} {words}",
        ]
        for p in map(problem, texts):
            for config in candidates(KERNELS[p.op.name], p, rng, 3):
                check(KERNELS[p.op.name], p, config)


def test_a_column_of_a_wider_array_is_no_row() -> None:
    """Nothing beside a transposed vector is read where that is part of a wider array."""
    p = problem("gemm float32 tn m=1 n=20 k=11")
    a, b = p.random_operands(1)
    wide = np.full((11, 12), np.nan, np.float32)
    wide[:, 5:6] = a
    plan = Plan(p, registry().device("cpu:0"), GEMM, GEMM.default(p))
    for made, rest in ((plan, [b]), (plan.prepack(b), [])):
        out = np.full((1, 20), np.nan, np.float32)
        made(wide[:, 5:6], *rest, out=out)
        assert np.array_equal(out, plan(a, b))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_number_of_rows_columns_and_terms(dtype: str) -> None:
    """Sizes from 1 to 70 of each, in blocks of one tile and of all rows."""
    rng = random.Random(dtype)
    for size in range(1, 71):
        others = [rng.randint(1, 70), rng.randint(2, 70)]
        for m, n, k in ((size, *others), (others[0], size, others[1]), (*others, max(size, 2))):
            p = problem(f"gemm {dtype} {rng.choice(['nn', 'nt'])} m={m} n={n} k={k} +bias+relu")
            check(GEMM, p, GEMM.default(p).replace(mc=rng.choice(strassen.MC)))


def unlike_rows(a: Array, b: Array, rng: np.random.Generator) -> None:
    a *= (10.0 ** rng.uniform(-6, 6, (len(a), 1))).astype(a.dtype)


def unlike_columns(a: Array, b: Array, rng: np.random.Generator) -> None:
    b *= (10.0 ** rng.uniform(-6, 6, b.shape[1])).astype(b.dtype)


def unlike_elements(a: Array, b: Array, rng: np.random.Generator) -> None:
    a *= (10.0 ** rng.uniform(-3, 3, a.shape)).astype(a.dtype)


def one_half(a: Array, b: Array, rng: np.random.Generator) -> None:
    a[:, : len(b) // 2] *= a.dtype.type(1e4)


def halves_that_make_up(a: Array, b: Array, rng: np.random.Generator) -> None:
    """What is multiplied is of one size; what would be added is not."""
    a[:, : len(b) // 2] *= a.dtype.type(2.5)
    b[: len(b) // 2] /= a.dtype.type(2.5)


def halves_apart(a: Array, b: Array, rng: np.random.Generator) -> None:
    a[:, : len(b) // 2] *= a.dtype.type(30)
    b[: len(b) // 2] /= a.dtype.type(30)


def terms_that_make_up(a: Array, b: Array, rng: np.random.Generator) -> None:
    scales = (10.0 ** rng.uniform(-4, 4, len(b))).astype(a.dtype)
    a *= scales
    b /= scales[:, None]


def positive(a: Array, b: Array, rng: np.random.Generator) -> None:
    np.maximum(a, 0, out=a)


CHANGES = [
    None,
    unlike_rows,
    unlike_columns,
    unlike_elements,
    one_half,
    halves_that_make_up,
    halves_apart,
    terms_that_make_up,
    positive,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("k", [2, 100, 512, 3000])
def test_error_is_below_bound_and_budget(k: int, change: Any) -> None:
    """On random, badly scaled and deep operands; where scales make up, within the budget."""
    rng = np.random.default_rng(k)
    a, b = normal(1, 70, k), normal(2, k, 96)
    if change is not None:
        change(a, b, rng)
    wanted = a.astype(np.float64) @ b.astype(np.float64)
    p = problem(f"gemm float32 nn m=70 n=96 k={k}")
    bound = GEMM.error_bound(p, GEMM.default(p))
    assert bound < p.error_budget()
    limit = p.error_budget() if change is halves_that_make_up else bound
    for out in product(a, b):
        assert relative_error(out, wanted) < limit


@pytest.mark.parametrize("change", [unlike_rows, unlike_columns, terms_that_make_up])
def test_each_row_and_column_is_as_good_as_float32(change: Any) -> None:
    """Rows and columns that are small beside others keep their digits."""
    rng = np.random.default_rng(5)
    a, b = normal(3, 90, 300), normal(4, 300, 130)
    change(a, b, rng)
    wanted = a.astype(np.float64) @ b.astype(np.float64)
    for out in product(a, b):
        for axis in (0, 1):
            errors = np.linalg.norm(out - wanted, axis=axis) / np.linalg.norm(wanted, axis=axis)
            assert errors.max() < 1e-5


def test_cancelling_terms_lose_a_digit_at_most() -> None:
    """Relative to the terms the error is that of float32, also where most of them cancel."""
    half, b = normal(1, 64, 256), normal(2, 256, 64)
    a, b = np.hstack([half, -half * np.float32(1 - 1e-3)]), np.vstack([b, b])
    wanted = a.astype(np.float64) @ b.astype(np.float64)
    terms = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    for out in product(a, b):
        assert np.linalg.norm(out - wanted) < 1e-6 * np.linalg.norm(terms)


def test_zero_rows_and_columns_give_zeros() -> None:
    """Nothing of other rows and columns leaks into results without terms."""
    a, b = normal(1, 80, 64), normal(2, 64, 100)
    a[[3, 40, 79]] = 0
    b[:, [0, 33, 99]] = 0
    for out in product(a, b):
        assert not out[[3, 40, 79]].any()
        assert not out[:, [0, 33, 99]].any()
        assert out.any()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3.4e38, -2e38])
@pytest.mark.parametrize("side", [0, 1])
def test_values_that_sums_cannot_hold_go_where_float32_sends_them(side: int, value: float) -> None:
    """Infinities, NaN and numbers near the largest spoil no other results."""
    operands = [normal(1, 70, 96), normal(2, 96, 66)]
    operands[side][[3, 40], [5, 64]] = value
    if abs(value) < np.inf:
        operands[1 - side] *= np.float32(1e-3)
    with np.errstate(all="ignore"):
        wanted = (operands[0].astype(np.float64) @ operands[1]).astype(np.float32)
    good = np.isfinite(wanted)
    for out in product(*operands):
        np.testing.assert_array_equal(np.isnan(out), np.isnan(wanted))
        np.testing.assert_array_equal(out[~good], wanted[~good])
        np.testing.assert_allclose(out[good], wanted[good], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("scale_a", "scale_b"), [(1e-30, 1e-6), (1e-20, 1e-15), (1e25, 1e-20)])
def test_tiny_and_huge_magnitudes_keep_their_digits(scale_a: float, scale_b: float) -> None:
    """Squares that underflow or overflow do not say that operands are alike."""
    rng = np.random.default_rng(1)
    a, b = normal(1, 50, 200).astype(np.float64), normal(2, 200, 60).astype(np.float64)
    scales = 10.0 ** rng.uniform(-2, 2, 200)
    a, b = (a * scales * scale_a).astype("f4"), (b / scales[:, None] * scale_b).astype("f4")
    wanted = a.astype(np.float64) @ b.astype(np.float64)
    for out in product(a, b):
        assert relative_error(out, wanted) < 2e-6


def test_sums_that_overflow_are_not_formed() -> None:
    """Operands so large that sums of two are infinite have the products that float32 gives."""
    rng = np.random.default_rng(2)
    a = rng.uniform(-3.4e38, 3.4e38, (50, 64)).astype(np.float32)
    b = rng.uniform(-1e-3, 1e-3, (64, 70)).astype(np.float32)
    wanted = a.astype(np.float64) @ b.astype(np.float64)
    for operands, result in (((a, b), wanted), ((b.T.copy(), a.T.copy()), wanted.T)):
        for out in product(*operands):
            assert relative_error(out, result) < 2e-6


def test_runs_are_the_same_bits_at_any_number_of_threads() -> None:
    """One Config at 1 and at 3 threads, and two runs of each, agree bit by bit."""
    a, b = normal(1, 200, 130), normal(2, 130, 210)
    for nc in (48, 192):
        wanted = product(a, b, mc=24, nc=nc, threads=1)
        assert wanted[0].tobytes() == wanted[1].tobytes()
        for _ in range(3):
            found = product(a, b, mc=24, nc=nc, threads=3)
            assert found[0].tobytes() == wanted[0].tobytes()


def test_what_is_packed_in_parts_is_the_same() -> None:
    """b beyond what is packed at once, whose parts end within a pair of panels."""
    a, b = normal(1, 8, 9000), normal(2, 9000, 1000)
    first, second = product(a, b)
    assert first.tobytes() == second.tobytes()
    assert relative_error(first, a.astype(np.float64) @ b.astype(np.float64)) < 2e-6


@pytest.mark.skipif(tiles.facts(False).isa not in ("avx2", "avx512"), reason="measured on x86 only")
def test_it_comes_first_where_it_is_faster_and_admitted() -> None:
    """By default for large products, never under "strict" nor a tolerance below its error."""
    device = registry().device("cpu:0")

    def chosen(text: str, tolerance: Any = None) -> str:
        p = problem(text)
        kernels = [
            k
            for k in registry().kernels(device)
            if k.op == p.op.name and "tiles" not in k.name and "pairs" not in k.name
        ]
        return select(p, device, kernels, [], tolerance).kernel.name

    large = "gemm float32 nn m=1024 n=1024 k=1024"
    assert chosen(large) == "strassen_gemm"
    assert chosen(large, "strict") == "packed_gemm"
    assert chosen(large, 8e-7) == "packed_gemm"
    assert chosen("gemm float32 nn m=64 n=64 k=64") != "strassen_gemm"
    assert chosen("gemm float32 tn m=1024 n=1024 k=1024") == "packed_gemm"
    layer = "conv2d float32 nhwc n=1 c={0} h={1} w={1} k={0} r=1 s=1 pad=0 stride=1 packed"
    assert chosen(layer.format(512, 14)) == "strassen_conv2d"
    assert chosen(layer.format(64, 56)) == "direct_conv2d"
    windows = layer.replace("r=1 s=1 pad=0 stride=1", "r={2} s={2} pad={3} stride={4}")
    assert chosen(windows.format(512, 28, 2, 0, 2)) == "strassen_conv2d"
    assert chosen(windows.format(256, 28, 3, 1, 1)) == "winograd4_conv2d"
    assert "winograd" in chosen(windows.format(512, 28, 3, 1, 2))


def test_errors_of_float64_are_below_their_bound() -> None:
    """In float64 as well, measured with the long double of numpy."""
    rng = np.random.default_rng(8)
    a, b = rng.standard_normal((60, 200)), rng.standard_normal((200, 70))
    wanted = a.astype(np.longdouble) @ b.astype(np.longdouble)
    p = problem("gemm float64 nn m=60 n=70 k=200")
    for out in product(a, b):
        error = float(np.linalg.norm(out - wanted) / np.linalg.norm(wanted))
        assert error < GEMM.error_bound(p, GEMM.default(p)) < p.error_budget()


def test_reasons_of_refusal() -> None:
    """Kernels say in words why they do not take a problem."""
    layer = "conv2d float32 {} n=1 c=4 h=5 w=5 k=4 r={} s=1 pad=0 stride={}"
    for text, reason in (
        ("gemm float32 tn m=8 n=8 k=8", "transposed a"),
        ("gemm float32 nn m=8 n=8 k=1", "two terms"),
        ("gemm bfloat16 nn m=8 n=8 k=8", "bfloat16"),
        (layer.format("nchw", 2, 1), "one tap"),
        (layer.format("nhwc", 1, 1).replace("stride", "groups=2 stride"), "one group"),
    ):
        p = problem(text)
        assert reason in str(KERNELS[p.op.name].supports(p))


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["scalar", "avx2"])
def test_lower_instruction_set(isa: str) -> None:
    """All of this file passes with the kernels of a lower instruction set."""
    run_again(__file__, isa)
