"""Block floating point, integers of 16 bits with a scale for each block, against float64."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from products import EPILOGUES, candidates, check_apart, run_again

from hwkit import Problem
from hwkit.op import relative_error
from hwkit.registry import registry
from hwkit.selection import select

registry().device("cpu:0")
from hwkit_cpu import _kernels, amx, block_float  # noqa: E402  # after the device

Array = np.ndarray[Any, Any]

KERNELS = {kernel.op: kernel for kernel in block_float.kernels()}
HAS_VNNI = _kernels.cpu_info()["vnni"]
needs_vnni = pytest.mark.skipif(not HAS_VNNI, reason="no AVX512-VNNI; a child process emulates it")

# What a few terms that cancel, or a result that is mostly cut off, make of an error of 5e-5.
FEW = 1e-3


def problem(text: str) -> Problem:
    return registry().op(text.split(maxsplit=1)[0]).parse(text)


def run_of(p: Problem, config: Any = None) -> Any:
    kernel = KERNELS[p.op.name]
    assert kernel.supports(p) is True
    return kernel.build(p, config or kernel.default(p))


def answer(p: Problem, operands: Any, config: Any = None) -> Array:
    """Return the result of a run, which that with packed weights repeats bit for bit."""
    run = run_of(p, config)
    out = np.full(p.output.shape, np.nan, np.float32)
    run(*operands, out=out)
    check_apart(run, operands, out)
    again = np.full_like(out, np.nan)
    run.prepack({1: operands[1].copy()})(operands[0], *operands[2:], out=again)
    assert np.array_equal(out, again, equal_nan=True), p
    return out


def wanted(p: Problem, operands: Any) -> Array:
    with np.errstate(all="ignore"):
        found: Array = p.reference(*(a.astype(np.float64) for a in operands))
    return found


@needs_vnni
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30))
def test_convolutions_of_any_shape_are_right(seed: int) -> None:
    """Any window, stride, dilation and padding, any number of channels, any Config and epilogue."""
    rng = random.Random(seed)
    n, c, k = rng.randint(1, 3), rng.randint(1, 70), rng.randint(1, 70)
    h, w, r, s = rng.randint(1, 13), rng.randint(1, 13), rng.randint(1, 3), rng.choice((1, 1, 3, 5))
    dy, dx = rng.choice((1, 1, 2)), rng.choice((1, 1, 2))
    pad = [rng.randint(0, 2) for _ in range(4)]
    pad[1] += max(0, (r - 1) * dy + 1 - h - pad[0] - pad[1])
    pad[3] += max(0, (s - 1) * dx + 1 - w - pad[2] - pad[3])
    p = problem(
        f"conv2d float32 nhwc n={n} c={c} h={h} w={w} k={k} r={r} s={s} "
        f"pad={','.join(map(str, pad))} stride={rng.randint(1, 3)},{rng.randint(1, 3)} "
        f"dilation={dy},{dx} {rng.choice(EPILOGUES)}"
    )
    operands = p.random_operands(seed % 1000)
    for config in candidates(KERNELS["conv2d"], p, rng, 1):
        assert relative_error(answer(p, operands, config), wanted(p, operands)) < FEW, (p, config)


@needs_vnni
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 30))
def test_products_of_any_shape_are_right(seed: int) -> None:
    """gemm with b as it is or transposed and any epilogue; matmul with one b for the batch."""
    rng = random.Random(seed)
    m, n, k = rng.randint(1, 40), rng.randint(1, 70), rng.randint(1, 100)
    if rng.random() < 0.3:
        p = problem(f"matmul float32 b={rng.randint(1, 3)} m={m} n={n} k={k} shared=b")
    else:
        p = problem(f"gemm float32 {rng.choice(('nn', 'nt'))} m={m} n={n} k={k} "
                    + rng.choice(EPILOGUES))  # fmt: skip
    if KERNELS[p.op.name].supports(p) is not True:
        return
    operands = p.random_operands(seed % 1000)
    for config in candidates(KERNELS[p.op.name], p, rng, 1):
        assert relative_error(answer(p, operands, config), wanted(p, operands)) < FEW, (p, config)


def normal(rng: np.random.Generator, a: Array) -> Array:
    return rng.standard_normal(a.shape)


def positive(rng: np.random.Generator, a: Array) -> Array:
    return rng.random(a.shape)


def rectified(rng: np.random.Generator, a: Array) -> Array:
    return np.maximum(rng.standard_normal(a.shape), 0)


def spiky(rng: np.random.Generator, a: Array) -> Array:
    """A few values a thousand times as large as the others."""
    return rng.standard_normal(a.shape) * np.where(rng.random(a.shape) < 0.03, 1e3, 1)


def equal(rng: np.random.Generator, a: Array) -> Array:
    """The largest sums that integers of one sign can have."""
    return np.full(a.shape, 1.7)


def alternating(rng: np.random.Generator, a: Array) -> Array:
    return np.where(np.arange(a.size).reshape(a.shape) % 2, -1.3, 1.3)


def scaled_lines(rng: np.random.Generator, a: Array) -> Array:
    """Every row of its own size, over twelve decades."""
    sizes = 10.0 ** rng.uniform(-6, 6, a.shape[:-1])
    return rng.standard_normal(a.shape) * sizes[..., None]


def scaled_channels(rng: np.random.Generator, a: Array) -> Array:
    return rng.standard_normal(a.shape) * 10.0 ** rng.uniform(-6, 6, a.shape[-1])


def heavy_tailed(rng: np.random.Generator, a: Array) -> Array:
    return rng.standard_cauchy(a.shape)


KINDS = (normal, positive, rectified, spiky, equal, alternating, scaled_lines, scaled_channels,
         heavy_tailed)  # fmt: skip


@needs_vnni
@pytest.mark.parametrize("left", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("right", KINDS, ids=lambda kind: kind.__name__)
def test_errors_are_below_the_bound_for_all_kinds_of_operands(
    left: Callable[..., Array], right: Callable[..., Array]
) -> None:
    """By norms of the operands, whatever their signs and sizes; of the result where none cancel."""
    p = problem("gemm float32 nt m=60 n=80 k=320")
    rng = np.random.default_rng(0)
    a, b = (
        f(rng, x).astype(np.float32)
        for f, x in zip((left, right), p.random_operands(0), strict=True)
    )
    got, want = answer(p, (a, b)).astype(np.float64), wanted(p, (a, b))
    each = np.outer(*(np.linalg.norm(x.astype(np.float64), axis=1) for x in (a, b)))
    # Roundings of n terms are independent: their sum is by the root of n below its worst case.
    assert np.linalg.norm(got - want) < 7.2e-5 * np.linalg.norm(each)
    assert (np.abs(got - want) < 1.5e-4 * each).all()
    if left in (normal, rectified, scaled_lines) and right in (normal, scaled_lines):
        assert relative_error(got, want) < 7.2e-5


@needs_vnni
def test_no_sum_of_a_block_overflows() -> None:
    """Blocks that meet the bound of Cauchy and Schwarz with equality, of either sign."""
    for terms in (1, 2, 3, 8, 31, 32, 33, 64):
        p = problem(f"gemm float32 nt m=30 n=40 k={terms}")
        rng = np.random.default_rng(terms)
        for row in (np.ones(terms), rng.standard_normal(terms), np.eye(terms)[0]):
            a = np.tile(row, (30, 1)).astype(np.float32)
            b = (np.tile(row, (40, 1)) * np.where(np.arange(40) % 2, 1, -1)[:, None]).astype(
                a.dtype
            )
            # of equal terms all roundings are alike
            assert relative_error(answer(p, (a, b)), wanted(p, (a, b))) < 1.3e-4


LAYERS = (
    "conv2d float32 nhwc n=2 c=40 h=6 w=7 k=48 r=3 s=3 pad=1 stride=1 +bias+relu",
    "conv2d float32 nhwc n=2 c=64 h=5 w=7 k=33 r=1 s=1 pad=0 stride=2 +residual",
    "gemm float32 nn m=40 n=50 k=70 +bias",
    "gemm float32 nt m=40 n=50 k=70",
    "matmul float32 b=2 m=20 n=50 k=33 shared=b",
)


@needs_vnni
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 1e30, 1e16])
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("text", LAYERS)
def test_what_is_not_finite_or_huge_is_computed_in_float32(
    text: str, which: int, value: float
) -> None:
    """Infinities, NaN and what overflows come out exactly where plain sums have them."""
    p = problem(text)
    operands = [a.copy() for a in p.random_operands(3)]
    flat = operands[which].reshape(-1)
    flat[flat.size // 2] = value
    # What is zero, or would round to zero beside others, times infinity must be NaN or infinite.
    other = operands[1 - which].reshape(-1)
    other[::3] = 0
    other[1::3] *= np.float32(1e-20)
    with np.errstate(all="ignore"):
        want = wanted(p, operands).astype(np.float32).astype(np.float64)
    assert relative_error(answer(p, operands), want) < 1e-5


@needs_vnni
@pytest.mark.parametrize(
    ("left", "right"),
    [(1e-30, 1e30), (1e30, 1e-30), (1e-30, 1e-7), (1e-40, 1.0), (1.0, 1e-40), (1e-42, 1e15),
     (1e15, 1e15), (1e-20, 1e-20), (1e-19, 1e19), (1e-44, 1e30)],
)  # fmt: skip
@pytest.mark.parametrize("text", LAYERS)
def test_scales_neither_overflow_nor_underflow(text: str, left: float, right: float) -> None:
    """Operands of any size, denormal numbers among them, whose products can be represented."""
    p = problem(text)
    a, b, *rest = p.random_operands(4)
    operands = (a * np.float32(left), b * np.float32(right), *(np.zeros_like(x) for x in rest))
    got, want = answer(p, operands).astype(np.float64), wanted(p, operands)
    # half a denormal number for each sum
    assert np.linalg.norm(got - want) <= 1e-4 * np.linalg.norm(want) + 2.0**-149 * want.size**0.5


@needs_vnni
def test_a_small_pixel_beside_large_ones_keeps_its_accuracy() -> None:
    """Every pixel and block has a scale of its own."""
    p = problem("conv2d float32 nhwc n=1 c=64 h=6 w=6 k=32 r=1 s=1 pad=0 stride=1")
    x, w = (a.copy() for a in p.random_operands(0))
    x[0, 2] *= np.float32(1e-25)
    x[0, 3] *= np.float32(1e-41)
    got, want = answer(p, (x, w)), wanted(p, (x, w))
    assert relative_error(got[0, 2], want[0, 2]) < 1e-4
    assert relative_error(got[0, 3], want[0, 3]) < 1e-3  # the result is denormal


@needs_vnni
def test_threads_and_blocks_change_no_bit() -> None:
    """Blocks of the depth are cut by the shape alone, and summed in order."""
    p = problem("conv2d float32 nhwc n=2 c=80 h=14 w=14 k=96 r=3 s=3 pad=1 stride=2 +bias+relu")
    kernel, operands = KERNELS["conv2d"], p.random_operands(5)
    rng = random.Random(0)
    results = [answer(p, operands, config) for config in candidates(kernel, p, rng, 6)]
    assert all(np.array_equal(results[0], other) for other in results)
    assert kernel.deterministic(p, kernel.default(p))


@needs_vnni
def test_only_a_tolerance_of_1e_4_admits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default, 1e-5 and strict calls never get it; at 1e-4 it is chosen where it is faster."""
    monkeypatch.setattr(amx, "unavailable", lambda unit: "no AMX" if unit == "amx" else None)
    device = registry().device("cpu:0")
    layer = "conv2d float32 nhwc n=1 c=256 h=14 w=14 k=256"
    for text, first in (
        (f"{layer} r=1 s=1 packed", True),
        (f"{layer} r=3 s=3 pad=1 stride=2 packed", True),
        (f"{layer} r=3 s=3 pad=1 packed", False),
        ("gemm float32 nn m=256 n=256 k=256", True),
        ("gemm float32 nn m=1 n=256 k=256 packed", True),
        ("gemm float32 nn m=20 n=256 k=256", False),
        (layer.replace("k=256", "k=8") + " r=1 s=1 packed", False),
        ("conv2d float32 nhwc n=1 c=3 h=56 w=56 k=64 r=7 s=7 pad=3 stride=2 packed", False),
    ):
        p = problem(text)
        kernels = registry().kernels(device, p.op.name)
        assert (
            select(p, device, kernels, [], 1e-4).kernel.name.startswith("avx512_block_float")
            == first
        )
        for tolerance in (None, 1e-5, "strict"):
            chosen = select(p, device, kernels, [], tolerance).kernel.name
            assert not chosen.startswith("avx512_block_float")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("conv2d float32 nchw n=1 c=8 h=6 w=6 k=8 r=1 s=1", "nhwc"),
        ("conv2d float32 nhwc n=1 c=8 h=6 w=6 k=8 r=1 s=1 groups=2", "one group"),
        ("conv2d float64 nhwc n=1 c=8 h=6 w=6 k=8 r=1 s=1", "float32"),
        ("gemm float32 tn m=8 n=8 k=8", "transposed a"),
        ("gemm float32 nn m=8 n=8 k=8 alpha=2", "alpha"),
    ],
)
def test_what_it_does_not_take_is_said(text: str, reason: str) -> None:
    """A sentence names what is taken instead."""
    p = problem(text)
    assert reason in str(KERNELS[p.op.name].supports(p))


@pytest.mark.skipif(HAS_VNNI, reason="this process has AVX512-VNNI")
def test_without_vnni_the_kernels_say_so() -> None:
    """Nothing is chosen, and the reason names the unit and what to look at."""
    p = problem("gemm float32 nn m=256 n=256 k=256")
    reason = str(KERNELS["gemm"].supports(p))
    assert "AVX512-VNNI" in reason
    assert "HWKIT_MAX_ISA" in reason
    with pytest.raises(ValueError, match="blocks"):
        KERNELS["gemm"].build(p, KERNELS["gemm"].default(p))


def test_instruction_set_emulated() -> None:
    """All of these tests pass in plain C, whatever the processor is."""
    run_again(__file__, "amx", HWKIT_EMULATE_AMX="1")


def test_instruction_set_without_vnni() -> None:
    """The others pass where there is none."""
    run_again(__file__, "avx2")
