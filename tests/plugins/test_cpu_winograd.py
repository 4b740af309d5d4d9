"""Winograd's convolution on the host: any geometry, its error, and what is not finite."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
from products import EPILOGUES, LIMITS, both_ways, candidates, run_again

from hwkit import Problem
from hwkit.op import relative_error
from hwkit.registry import registry
from hwkit.selection import select

registry().device("cpu:0")
from hwkit_cpu import winograd  # noqa: E402  # the device says first if it is missing

KERNELS = {
    (taps, stride): [k for k in winograd.kernels() if (k.taps, k.stride) == (taps, stride)]
    for taps, stride in winograd.SIZES
}
# Taps, stride and dilation.
Window = tuple[int, int, int]
DENSE = (3, 1, 1)
EACH_WINDOW = pytest.mark.parametrize(
    "window", [DENSE, (3, 2, 1), (5, 1, 1), (3, 1, 2), (3, 1, 5), (5, 1, 3)]
)
# How many times the error of the smaller tiles that of F(6) may be.
MORE = {2: 1.0, 4: 1.0, 6: 5.0}
Array = np.ndarray[Any, Any]


def problem(text: str) -> Problem:
    return registry().op("conv2d").parse(f"conv2d {text}")


def layer(
    layout: str, c: int, size: int, k: int, rest: str = "", window: Window = DENSE
) -> Problem:
    taps, stride, dilation = window
    return problem(
        f"float32 {layout} n=1 c={c} h={size} w={size} k={k} r={taps} s={taps} "
        f"pad={taps // 2 * dilation} stride={stride} dilation={dilation}{rest}"
    )


def random_text(rng: random.Random, window: Window) -> str:
    """Write a small problem with any padding, groups and epilogue."""
    taps, stride, dilation = window
    reach = (taps - 1) * dilation + 1
    layout = rng.choice(["nchw", "nhwc"])
    groups = rng.choice([1, 1, 1, 2, 3])
    c, k = groups * rng.choice([1, 2, 3, 8, 17, 32, 70]), groups * rng.choice([1, 5, 16, 33, 67])
    pad = [rng.choice([0, 1, 2, 5]) for _ in range(4)]
    h, w = (
        max(rng.randint(1, 18), reach - pad[0] - pad[1]),
        max(rng.randint(1, 18), reach - pad[2] - pad[3]),
    )
    return (
        f"{rng.choice(['float32', 'float64'])} {layout} n={rng.randint(1, 3)}"
        f" c={c} h={h} w={w} k={k} r={taps} s={taps} pad={','.join(map(str, pad))}"
        f" stride={stride} dilation={dilation} groups={groups} " + rng.choice(EPILOGUES)
    )


@EACH_WINDOW
@pytest.mark.parametrize("seed", range(6))
def test_random_problems_and_configs(seed: int, window: Window) -> None:
    """Any Config of the space gives the right answer for any geometry and epilogue."""
    rng = random.Random(seed)
    for _ in range(12):
        p = problem(random_text(rng, window))
        operands = p.random_operands(seed)
        wanted = p.reference(*[a.astype(np.float64) for a in operands])
        for kernel in KERNELS[window[:2]]:
            for config in candidates(kernel, p, rng, 3):
                first, second = both_ways(kernel, p, config, operands)
                # a clip cuts what the error is relative to, and not the error
                limit = 2 * MORE[kernel.m] * LIMITS[p.dtypes.input]
                assert relative_error(first, wanted) < limit, (p, kernel, config)
                np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("size", [208, 209])
def test_results_that_no_cache_holds(size: int) -> None:
    """Channels first, lines of many runs; planes that begin at cache lines, and others."""
    p = layer("nchw", 3, size, 50, " +bias+residual+relu")
    operands = p.random_operands(5)
    wanted = p.reference(*[a.astype(np.float64) for a in operands])
    for kernel in KERNELS[DENSE[:2]]:
        found = both_ways(kernel, p, kernel.default(p), operands)[1]
        assert relative_error(found, wanted) < 4e-6 * MORE[kernel.m]


@EACH_WINDOW
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_every_number_of_channels(layout: str, window: Window) -> None:
    """Channels from 1 to 70, in and out, with an image that no tile divides."""
    rng = random.Random(7)
    for c in range(1, 71):
        p = layer(layout, c, 7, 71 - c, " +bias+residual+relu", window=window)
        operands = p.random_operands(c)
        wanted = p.reference(*[a.astype(np.float64) for a in operands])
        for kernel in KERNELS[window[:2]]:
            for config in (kernel.default(p), kernel.space(p).sample(rng)):
                found = both_ways(kernel, p, config, operands)[1]
                assert relative_error(found, wanted) < 4e-6 * MORE[kernel.m]


def scaled(x: Array, w: Array, rng: np.random.Generator) -> None:
    x *= (10.0 ** rng.uniform(-6, 6, x.shape[3])).astype(x.dtype)
    w *= (10.0 ** rng.uniform(-6, 6, (len(w), 1, 1, 1))).astype(w.dtype)


def scaled_by_image(x: Array, w: Array, rng: np.random.Generator) -> None:
    x *= (10.0 ** rng.uniform(-6, 6, (*x.shape[:3], 1))).astype(x.dtype)


def shifted(x: Array, w: Array, rng: np.random.Generator) -> None:
    x += 1


@EACH_WINDOW
@pytest.mark.parametrize("change", [None, scaled, scaled_by_image, shifted])
@pytest.mark.parametrize("c", [3, 64, 512, 2048])
def test_error_is_below_bound_and_budget(c: int, change: Any, window: Window) -> None:
    """On random, badly scaled and deep inputs: F(6) within 1e-5, others within the default."""
    rng = np.random.default_rng(c)
    p = layer("nhwc", c, 12, 24, window=window)
    x, w = (rng.standard_normal(o.shape).astype(o.dtype) for o in p.operands)
    if change is not None:
        change(x, w, rng)
    wanted = p.reference(x.astype(np.float64), w.astype(np.float64))
    for kernel in KERNELS[window[:2]]:
        config = kernel.default(p)
        error = relative_error(both_ways(kernel, p, config, (x, w))[0], wanted)
        budget = p.error_budget(1e-5 if kernel.m == 6 else None)
        assert error < kernel.error_bound(p, config) < budget
        assert (kernel.error_bound(p, config) < p.error_budget()) == (kernel.m != 6)


@EACH_WINDOW
def test_one_pixel_that_outweighs_all_others(window: Window) -> None:
    """The bound holds wherever in its tile the pixel is that makes the answer.

    So few values make it that their errors hardly average: some are a fifth above what is typical.
    """
    rng, (_, stride, dilation) = np.random.default_rng(4), window
    p = layer("nhwc", 512, 16, 16, window=window)
    weights = rng.standard_normal(p.operands[1].shape).astype(np.float32)
    for kernel in KERNELS[window[:2]]:
        if kernel.m == 6:
            continue
        for place in itertools.product(range(min(16, kernel.m * stride * dilation)), repeat=2):
            x = 1e-6 * rng.standard_normal(p.operands[0].shape).astype(np.float32)
            x[(0, *place)] *= 1e6
            wanted = p.reference(x.astype(np.float64), weights.astype(np.float64))
            config = kernel.default(p)
            found = both_ways(kernel, p, config, (x, weights))[0]
            assert relative_error(found, wanted) < 1.2 * kernel.error_bound(p, config)
        assert kernel.error_bound(p, config) < p.error_budget()


@EACH_WINDOW
def test_cancelling_inputs_lose_a_digit_at_most(window: Window) -> None:
    """Where the plain sum has lost digits to cancellation, this one has lost one more, no more."""
    rng = np.random.default_rng(3)
    p = layer("nhwc", 64, 12, 24, window=window)
    x, w = (rng.standard_normal(o.shape).astype(o.dtype) for o in p.operands)
    x[..., 1::2] = x[..., ::2]
    w[..., 1::2] = -w[..., ::2] * (1 + 1e-3 * rng.standard_normal(w[..., ::2].shape))
    wanted = p.reference(x.astype(np.float64), w.astype(np.float64))
    size = np.linalg.norm(p.reference(abs(x).astype(np.float64), abs(w).astype(np.float64)))
    for kernel in KERNELS[window[:2]]:
        found = both_ways(kernel, p, kernel.default(p), (x, w))[0]
        # relative to the terms, the only measure that no sum of rounded terms can fail
        assert np.linalg.norm(found - wanted) / size < 1e-6 * MORE[kernel.m]
        assert relative_error(found, wanted) < 1e-3 * MORE[kernel.m]


@EACH_WINDOW
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("words", ["", " +bias+residual+clip:-1,1", " +silu"])
def test_what_is_not_finite_stays_in_its_windows(
    layout: str, value: float, words: str, window: Window
) -> None:
    """Inf and NaN of single pixels go where the reference sends them, and no further."""
    p = layer(layout, 20, 13, 37, words, window=window)
    operands = p.random_operands(1)
    x = operands[0].copy()
    x.reshape(-1)[[0, 555, 1301, x.size - 1]] = value
    operands = (x, *operands[1:])
    wanted = p.reference(*[a.astype(np.float64) for a in operands])
    for kernel in KERNELS[window[:2]]:
        for found in both_ways(kernel, p, kernel.default(p), operands):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * MORE[kernel.m])


@EACH_WINDOW
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_infinite_weights_meet_the_zeros_of_the_padding(layout: str, window: Window) -> None:
    """Zero times infinity is NaN at the border too, as in the reference."""
    p = layer(layout, 4, 9, 21, window=window)
    x, w = p.random_operands(0)
    w = w.copy()
    w.reshape(-1)[[7, 100]] = np.inf, np.nan
    wanted = p.reference(x, w)
    assert np.isnan(wanted).any()
    for kernel in KERNELS[window[:2]]:
        for found in both_ways(kernel, p, kernel.default(p), (x, w)):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * MORE[kernel.m])


@EACH_WINDOW
@pytest.mark.parametrize(("scale_x", "scale_w"), [(2e38, 1e-3), (1e-3, 2e38), (1e30, 1e7)])
def test_sums_that_overflow_are_done_again(scale_x: float, scale_w: float, window: Window) -> None:
    """Where transformed values overflow and plain sums do not, the answer is that of plain sums."""
    p = layer("nhwc", 6, 11, 18, window=window)
    rng = np.random.default_rng(2)
    x, w = (
        (scale * rng.uniform(-1, 1, o.shape)).astype(o.dtype)
        for scale, o in zip((scale_x, scale_w), p.operands, strict=True)
    )
    wanted = p.reference(x.astype(np.float64), w.astype(np.float64))
    assert np.abs(wanted).max() < 3.4e38
    for kernel in KERNELS[window[:2]]:
        for found in both_ways(kernel, p, kernel.default(p), (x, w)):
            assert relative_error(found, wanted) < 4e-6 * MORE[kernel.m]


@EACH_WINDOW
def test_tiny_magnitudes_keep_their_digits(window: Window) -> None:
    """Inputs near the smallest normal numbers give answers as exact as others."""
    p = layer("nhwc", 16, 10, 16, window=window)
    x, w = p.random_operands(2)
    x, w = (x * np.float32(1e-20)).astype(x.dtype), (w * np.float32(1e-10)).astype(w.dtype)
    wanted = p.reference(x.astype(np.float64), w.astype(np.float64))
    for kernel in KERNELS[window[:2]]:
        found = both_ways(kernel, p, kernel.default(p), (x, w))[0]
        assert relative_error(found, wanted) < 2e-6 * MORE[kernel.m]


@EACH_WINDOW
def test_runs_are_the_same_bits_at_any_number_of_threads(window: Window) -> None:
    """One Config at 1 and at 3 threads, and two runs of each, agree bit by bit."""
    p = layer("nchw", 40, 19, 50, " +bias+relu", window=window)
    operands = p.random_operands(0)
    for kernel, stages in itertools.product(KERNELS[window[:2]], [False, True]):
        config = kernel.default(p).replace(stages=stages, tiles=12)
        wanted = both_ways(kernel, p, config.replace(threads=1), operands)[0]
        for _ in range(3):
            found = both_ways(kernel, p, config.replace(threads=3), operands)[1]
            np.testing.assert_array_equal(found, wanted)


def test_strict_and_tight_tolerances_leave_it_out() -> None:
    """It runs by default where it is faster, and never where its error is not allowed."""
    device = registry().device("cpu:0")
    kernels = [k for k in registry().kernels(device) if k.op == "conv2d"]
    p = layer("nhwc", 256, 56, 256, " packed")

    def chosen(tolerance: Any) -> str:
        return select(p, device, kernels, [], tolerance).kernel.name

    assert chosen(None) == "winograd4_conv2d"
    assert chosen("strict") == "direct_conv2d"
    assert chosen(1.2e-6) == "winograd2_conv2d"
    p = layer("nhwc", 64, 160, 128, " packed", window=(3, 2, 1))
    assert chosen(None) == "winograd4_stride2_conv2d"
    assert chosen("strict") == "direct_conv2d"
    assert chosen(1e-6) == "winograd2_stride2_conv2d"


def test_large_tiles_need_a_tolerance() -> None:
    """F(6) runs where a call admits its error and it saves enough; the default never takes it."""
    device = registry().device("cpu:0")
    kernels = [k for k in registry().kernels(device) if k.op == "conv2d"]

    def chosen(p: Problem, tolerance: Any) -> str:
        return select(p, device, kernels, [], tolerance).kernel.name

    large, small = layer("nhwc", 64, 224, 64, " packed"), layer("nhwc", 512, 14, 512, " packed")
    for tolerance in (1e-5, 1e-4):
        assert chosen(large, tolerance) == "winograd6_conv2d"
        assert chosen(small, tolerance) == "winograd4_conv2d"
    for tolerance in (None, 2e-6, 4e-6):
        assert chosen(large, tolerance) == "winograd4_conv2d"
    assert chosen(large, "strict") == "direct_conv2d"


@EACH_WINDOW
@pytest.mark.parametrize("change", [None, scaled, scaled_by_image])
def test_errors_of_float64_are_below_their_bound(change: Any, window: Window) -> None:
    """In float64 as well, measured with the long double of numpy."""
    rng, (taps, stride, dilation) = np.random.default_rng(8), window
    pad = taps // 2 * dilation
    p = problem(
        f"float64 nhwc n=1 c=96 h=12 w=12 k=20 r={taps} s={taps} pad={pad} stride={stride} "
        f"dilation={dilation}"
    )
    x, w = (rng.standard_normal(o.shape) for o in p.operands)
    if change is not None:
        change(x, w, rng)
    padded = np.pad(x.astype(np.longdouble), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    wanted = sum(
        np.einsum(
            "nhwc,kc->nhwk",
            padded[:, i * dilation :, j * dilation :][:, :12:stride, :12:stride],
            w[:, i, j].astype("g"),
        )
        for i in range(taps)
        for j in range(taps)
    )
    size = np.linalg.norm(wanted)
    for kernel in KERNELS[window[:2]]:
        config = kernel.default(p)
        found = both_ways(kernel, p, config, (x, w))[0]
        error = float(np.linalg.norm(found - wanted) / size)
        assert error < kernel.error_bound(p, config) < p.error_budget()


def test_reasons_of_refusal() -> None:
    """Kernels say in words why they do not take a problem."""
    kernel = KERNELS[DENSE[:2]][0]
    for text, reason in (
        ("float32 nhwc n=1 c=4 h=5 w=5 k=4 r=1 s=3 pad=0 stride=1", "3x3"),
        ("float32 nhwc n=1 c=4 h=5 w=5 k=4 r=3 s=3 pad=0 stride=2,1", "stride"),
        ("float32 nhwc n=1 c=4 h=9 w=9 k=4 r=3 s=3 pad=0 stride=1 dilation=2,1", "dilation"),
        ("float16 nhwc n=1 c=4 h=5 w=5 k=4 r=3 s=3 pad=0 stride=1", "float16"),
    ):
        assert reason in str(kernel.supports(problem(text)))


def test_few_channels_and_single_tiles_are_left_to_others() -> None:
    """The untuned choice takes it for large layers, not where transforming costs more."""
    for c, size, k, window, wanted in (
        (64, 56, 64, DENSE, True),
        (512, 28, 512, DENSE, True),
        (1, 8, 1, DENSE, False),
        (512, 2, 512, DENSE, False),
        (64, 160, 128, (3, 2, 1), True),
        (512, 14, 512, (3, 2, 1), False),
        (3, 224, 32, (3, 2, 1), False),
        (48, 35, 64, (5, 1, 1), True),
        (256, 28, 256, (3, 1, 2), True),
        (256, 33, 256, (3, 1, 18), False),
        (3, 64, 32, (5, 1, 1), False),
    ):
        p = layer("nhwc", c, size, k, window=window)
        assert (max(kernel.rank(p) for kernel in KERNELS[window[:2]]) > 1) == wanted


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["scalar", "avx2"])
def test_lower_instruction_set(isa: str) -> None:
    """All of this file passes with the kernels of a lower instruction set."""
    run_again(__file__, isa)
