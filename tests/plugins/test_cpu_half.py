"""float16 and bfloat16: conversions bit for bit, and every Op through its float32 kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from products import check_apart

from hwkit.op import relative_error
from hwkit.registry import registry
from hwkit_cpu.half import PiecewiseHalfKernel, widened

_kernels = pytest.importorskip("hwkit_cpu._kernels", reason="hwkit is not compiled")

EVERY_HALF = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


def hard_floats() -> Any:
    """Return float32 values of every exponent, those next to rounding ties among them."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 1 << 32, 200_000, dtype=np.uint32)
    ties = rng.integers(0, 1 << 20, 100_000, dtype=np.uint32) << 12
    near = ties + rng.integers(0, 3, ties.size, dtype=np.uint32) - 1
    with np.errstate(all="ignore"):
        middle = EVERY_HALF.astype(np.float32)
    return np.concatenate([bits.view(np.float32), near.view(np.float32), middle])


def same(got: Any, want: Any) -> bool:
    """Whether two arrays hold the same bits, any NaN for any NaN."""
    nan = np.isnan(want.astype(np.float32))
    kind = np.uint16 if want.dtype.itemsize == 2 else np.uint32
    return bool(
        np.isnan(got.astype(np.float32))[nan].all()
        and np.array_equal(got.view(kind)[~nan], want.view(kind)[~nan])
    )


def test_every_float16_widens_exactly() -> None:
    """All 65536 values, subnormals and NaN included, become what numpy makes of them."""
    got = np.empty(1 << 16, np.float32)
    _kernels.convert(EVERY_HALF, got, 2)
    with np.errstate(all="ignore"):
        assert same(got, EVERY_HALF.astype(np.float32))


def test_float16_rounds_to_nearest_even() -> None:
    """Overflow, subnormals and ties round as numpy rounds them."""
    values = hard_floats()
    got = np.empty(values.size, np.float16)
    _kernels.convert(values, got, 2)
    with np.errstate(all="ignore"):
        assert same(got, values.astype(np.float16))


def test_bfloat16_rounds_to_nearest_even() -> None:
    """Both directions agree with ml_dtypes bit for bit."""
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    values = hard_floats()
    got = np.empty(values.size, ml_dtypes.bfloat16)
    _kernels.convert(values, got, 2)
    with np.errstate(all="ignore"):
        assert same(got, values.astype(ml_dtypes.bfloat16))
    back = np.empty(values.size, np.float32)
    _kernels.convert(got, back, 1)
    assert same(back, got.astype(np.float32))


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 17, 31])
def test_any_length_is_converted_whole(n: int) -> None:
    """Tails shorter than a vector are converted, and nothing behind them."""
    values, target = np.linspace(-2, 2, 40, dtype=np.float32), np.full(40, 7, np.float16)
    _kernels.convert(values[:n], target[:n], 1)
    assert np.array_equal(target[:n], values[:n].astype(np.float16))
    assert (target[n:] == 7).all()


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (np.zeros(3, np.float32), np.zeros(4, np.float16)),
        (np.zeros(3, np.float64), np.zeros(3, np.float16)),
        (np.zeros(6, np.float32)[::2], np.zeros(3, np.float16)),
    ],
)
def test_convert_refuses_what_does_not_fit(source: Any, target: Any) -> None:
    """Other sizes, dtypes and strides are errors, not memory that is read by mistake."""
    with pytest.raises(ValueError, match="convert"):
        _kernels.convert(source, target)


PROBLEMS = (
    "conv2d {} nchw n=1 c=8 h=9 w=10 k=12 r=3 s=3 pad=1 stride=1 +bias+residual+silu",
    "conv2d {} nhwc n=1 c=16 h=9 w=10 k=16 r=3 s=3 pad=1 stride=2 groups=16 +bias+relu6",
    "gemm {} nn m=17 n=31 k=65 +bias+relu",
    "matmul {} b=2 m=5 n=9 k=33",
    "max_pool2d {} nchw n=1 c=5 h=9 w=10 r=3 s=3 pad=1 stride=2",
    "avg_pool2d {} nhwc n=1 c=5 h=9 w=10 r=3 s=3 pad=1 stride=2",
    "global_avg_pool2d {} nhwc n=2 c=5 h=9 w=10",
    "global_max_pool2d {} nchw n=2 c=5 h=9 w=10",
)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("text", PROBLEMS, ids=lambda text: text.split()[0])
def test_every_op_rounds_its_output_once(text: str, dtype: str) -> None:
    """Narrow problems run compiled and within their budget; prepacking changes no bit."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    problem = registry().op(text.split(maxsplit=1)[0]).parse(text.format(dtype))
    kernels = registry().kernels(registry().device("cpu:0"), problem.op.name)
    able = [k for k in kernels if k.name.endswith("_half") and k.supports(problem) is True]
    assert able
    operands = problem.random_operands(1)
    want = problem.reference(*(a.astype(np.float64) for a in operands))
    for kernel in able:
        config = kernel.default(problem)
        assert kernel.space(problem).why_not(config) is None
        run: Any = kernel.build(problem, config)
        got = np.zeros(problem.output.shape, problem.output.dtype)
        run(*operands, out=got)
        assert relative_error(got, want) <= problem.error_budget(), kernel.name
        if len(operands) > 1:
            again = np.zeros_like(got)
            run.prepack({1: operands[1]})(operands[0], *operands[2:], out=again)
            assert np.array_equal(again.view(np.uint16), got.view(np.uint16)), kernel.name


LAYERS = (
    "max_pool2d {} nchw n=1 c=8 h=112 w=112 r=3 s=3 pad=1 stride=2",
    "avg_pool2d {} nhwc n=1 c=256 h=56 w=56 r=2 s=2 stride=2",
    "global_avg_pool2d {} nhwc n=1 c=200 h=60 w=60",
    "global_max_pool2d {} nchw n=1 c=3 h=120 w=120",
    "conv2d {} nhwc n=1 c=192 h=30 w=30 k=192 r=3 s=3 pad=1 stride=2 groups=192 +bias+residual",
    "conv2d {} nchw n=1 c=16 h=60 w=60 k=32 r=5 s=5 pad=2 stride=1 groups=16 +relu",
)


@pytest.mark.parametrize("text", LAYERS, ids=lambda text: text.split()[0])
def test_images_of_many_pieces_are_those_of_float32_rounded(text: str) -> None:
    """Widening piece by piece changes no bit, and takes no more memory than was announced."""
    problem = registry().op(text.split(maxsplit=1)[0]).parse(text.format("float16"))
    (kernel,) = (
        k
        for k in registry().kernels(registry().device("cpu:0"), problem.op.name)
        if isinstance(k, PiecewiseHalfKernel) and k.supports(problem) is True
    )
    operands = problem.random_operands(2)
    config = kernel.default(problem)
    run: Any = kernel.build(problem, config)
    got, want = np.zeros(problem.output.shape, np.float16), np.zeros(problem.output.shape, "f4")
    run(*operands, out=got)
    kernel.inner.build(widened(problem), config)(*(a.astype("f4") for a in operands), out=want)
    assert np.array_equal(got, want.astype(np.float16))
    assert run.workspace <= kernel.workspace(problem, config)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("channels", [1, 7, 8, 20, 33, 100])
@pytest.mark.parametrize("window", [(2, 2, 1, 0), (3, 1, 1, 1), (3, 2, 2, 1), (5, 1, 2, 4)])
@pytest.mark.parametrize("op", ["max_pool2d", "avg_pool2d"])
def test_windows_with_channels_last_remember_nan(
    op: str, window: tuple[int, ...], channels: int, dtype: str
) -> None:
    """Whatever is in a window: the answer is that of float32, rounded once."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    size, stride, dilation, pad = window
    problem = (
        registry()
        .op(op)
        .parse(
            f"{op} {dtype} nhwc n=2 c={channels} h=11 w=13 r={size} s={size} stride={stride} "
            f"pad={pad} dilation={dilation}"
        )
    )
    (kernel,) = (
        k
        for k in registry().kernels(registry().device("cpu:0"), op)
        if isinstance(k, PiecewiseHalfKernel) and k.supports(problem) is True
    )
    rng = np.random.default_rng(channels)
    (x,) = problem.random_operands(3)
    for value in (np.nan, np.inf, -np.inf):
        x.reshape(-1)[rng.integers(x.size, size=x.size // 60 + 1)] = value
    got = np.zeros(problem.output.shape, problem.output.dtype)
    want = np.zeros(problem.output.shape, np.float32)
    kernel.build(problem, kernel.default(problem))(x, out=got)
    wide = widened(problem)
    kernel.inner.build(wide, kernel.inner.default(wide))(x.astype(np.float32), out=want)
    # Columns are added up first here, and infinities of both signs are NaN in any order.
    unit = 2.0 ** (-8 if dtype == "bfloat16" else -11)
    assert np.allclose(got.astype(np.float32), want, rtol=unit, atol=unit, equal_nan=True)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("channels", [1, 8, 20, 32, 61, 145])
@pytest.mark.parametrize(
    "window",
    [
        "r=3 s=3 pad=1 stride=1",
        "r=3 s=3 pad=1 stride=2 +bias+residual+relu6",
        "r=5 s=5 pad=2 stride=2 +relu",
        "r=5 s=5 pad=2 stride=1 +bias",
        "r=7 s=7 pad=3 stride=1 +bias+sigmoid",
        "r=2 s=3 pad=0 stride=3 dilation=2 +residual",
    ],
)
@pytest.mark.parametrize("times", [1, 2])
def test_depthwise_windows_with_channels_last_are_those_of_float32_rounded(
    times: int, window: str, channels: int, dtype: str
) -> None:
    """Whatever is in the image, for every number of pixels computed together: no other bit."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    window, _, epilogue = window.partition(" +")
    problem = (
        registry()
        .op("conv2d")
        .parse(
            f"conv2d {dtype} nhwc n=2 c={channels} h=11 w=15 k={times * channels} {window} "
            f"groups={channels} {epilogue and '+' + epilogue}"
        )
    )
    kernels = registry().kernels(registry().device("cpu:0"), "conv2d")
    (kernel,) = (
        k for k in kernels if isinstance(k, PiecewiseHalfKernel) and k.supports(problem) is True
    )
    rng = np.random.default_rng(channels)
    operands = problem.random_operands(3)
    for value in (np.nan, np.inf, -np.inf):
        operands[0].reshape(-1)[rng.integers(operands[0].size, size=3)] = value
    wide = [a.astype(np.float32) for a in operands]
    for pixels in (1, 4, 7):
        config = kernel.default(problem).replace(wide=pixels)
        got = np.zeros(problem.output.shape, problem.output.dtype)
        want = np.zeros(problem.output.shape, np.float32)
        run: Any = kernel.build(problem, config)
        run(*operands, out=got)
        check_apart(run, operands, got)
        kernel.inner.build(widened(problem), config)(*wide, out=want)
        with np.errstate(invalid="ignore"):
            assert same(got, want.astype(problem.output.dtype)), config


def test_rows_that_no_scratch_memory_holds_are_declined() -> None:
    """A window over millions of pixels with channels last says so, before anything is built."""
    problem = (
        registry()
        .op("max_pool2d")
        .parse("max_pool2d float16 nhwc n=1 c=64 h=4000 w=4000 r=3000 s=3000 stride=1")
    )
    kernels = registry().kernels(registry().device("cpu:0"), "max_pool2d")
    (kernel,) = (k for k in kernels if isinstance(k, PiecewiseHalfKernel))
    assert "scratch memory" in str(kernel.supports(problem))
