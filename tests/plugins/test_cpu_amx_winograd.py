"""Winograd's convolution by tiles (AMX): any geometry, its error, and what terms cannot hold.

The tests need a process with tiles. One at the end runs them again in a child process whose tiles
are emulated in plain C, which is where they run on a machine without AMX.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
from products import EPILOGUES, both_ways, candidates, run_again

from hwkit import Problem
from hwkit.op import relative_error
from hwkit.registry import registry
from hwkit.selection import select

registry().device("cpu:0")
from hwkit_cpu import _kernels, amx_winograd  # noqa: E402  # the device says first if it is missing

HERE = bool(_kernels.cpu_info()["amx"])
needs_tiles = pytest.mark.skipif(not HERE, reason="no AMX here; the child process emulates it")

KERNELS = amx_winograd.kernels()
EACH = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
# Single results that happen to cancel are worse than a layer.
LIMITS = {6: 8e-6, 3: 3e-4}
Array = np.ndarray[Any, Any]


def problem(text: str) -> Problem:
    return registry().op("conv2d").parse(f"conv2d float32 {text}")


def layer(kernel: Any, c: int, size: int, k: int, rest: str = "") -> Problem:
    return problem(
        f"nhwc n=1 c={c} h={size} w={size} k={k} r={kernel.taps} s={kernel.taps} "
        f"pad={kernel.taps // 2} stride={kernel.stride}{rest}"
    )


def exact(p: Problem, operands: tuple[Array, ...]) -> Array:
    return np.asarray(p.reference(*[a.astype(np.float64) for a in operands]))


@needs_tiles
@EACH
def test_random_problems_and_configs(kernel: Any) -> None:
    """Any Config of the space gives the right answer for any geometry and epilogue."""
    rng = random.Random(0)
    for seed in range(10):
        layout, dilation = rng.choice([("nchw", 1), ("nhwc", 1), ("nhwc", rng.randint(1, 3))])
        dilation = dilation if kernel.stride == 1 else 1
        groups, reach = rng.choice([1, 1, 2]), (kernel.taps - 1) * dilation + 1
        c, k = groups * rng.choice([1, 17, 32, 70]), groups * rng.choice([1, 16, 33, 67])
        h, w = rng.randint(reach, reach + 15), rng.randint(reach, reach + 25)
        p = problem(
            f"{layout} n={rng.randint(1, 2)} c={c} h={h} w={w} k={k} r={kernel.taps} "
            f"s={kernel.taps} pad={rng.randint(0, 3)} stride={kernel.stride} "
            f"dilation={dilation} groups={groups} " + rng.choice(EPILOGUES)
        )
        if kernel.supports(p) is not True:
            continue
        operands = p.random_operands(seed)
        wanted = exact(p, operands)
        for config in candidates(kernel, p, rng, 1):
            first, second = both_ways(kernel, p, config, operands)
            assert relative_error(first, wanted) < LIMITS[kernel.count], (p, config)
            np.testing.assert_array_equal(first, second)


def scaled(x: Array, w: Array, rng: np.random.Generator) -> None:
    x *= (10.0 ** rng.uniform(-3, 3, x.shape[3])).astype(x.dtype)
    w *= (10.0 ** rng.uniform(-3, 3, (len(w), 1, 1, 1))).astype(w.dtype)


def shifted(x: Array, w: Array, rng: np.random.Generator) -> None:
    x += 1


@needs_tiles
@EACH
@pytest.mark.parametrize("change", [None, scaled, shifted])
@pytest.mark.parametrize("c", [3, 64, 300])
def test_error_is_below_bound(c: int, change: Any, kernel: Any) -> None:
    """On random and badly scaled inputs; six products are within the budget of float32."""
    rng = np.random.default_rng(c)
    p = layer(kernel, c, 12, 16)
    x, w = (rng.standard_normal(o.shape).astype(o.dtype) for o in p.operands)
    if change is not None:
        change(x, w, rng)
    config = kernel.default(p)
    error = relative_error(both_ways(kernel, p, config, (x, w))[0], exact(p, (x, w)))
    assert (
        error < kernel.error_bound(p, config) < p.error_budget(None if kernel.terms > 2 else 1e-4)
    )


@needs_tiles
@EACH
def test_one_pixel_that_outweighs_all_others(kernel: Any) -> None:
    """The bound holds wherever in its tile the pixel is that makes the answer."""
    rng = np.random.default_rng(4)
    p = layer(kernel, 40, 3 * kernel.m * kernel.stride, 16)
    w = rng.standard_normal(p.operands[1].shape).astype(np.float32)
    for place in itertools.product(range(kernel.m * kernel.stride), repeat=2):
        x = 1e-6 * rng.standard_normal(p.operands[0].shape).astype(np.float32)
        x[(0, *place)] *= 1e6
        config = kernel.default(p)
        found = both_ways(kernel, p, config, (x, w))[0]
        assert relative_error(found, exact(p, (x, w))) < kernel.error_bound(p, config)


@needs_tiles
@EACH
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_terms_cannot_hold_stays_in_its_windows(value: float, kernel: Any) -> None:
    """Single pixels that are not finite go where the reference sends them."""
    p = layer(kernel, 20, 13, 37)
    x, w = p.random_operands(1)
    x = x.copy()
    x.reshape(-1)[[0, 555, 1301, x.size - 1]] = value
    wanted = exact(p, (x, w))
    for found in both_ways(kernel, p, kernel.default(p), (x, w)):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=3e-3)


@needs_tiles
@EACH
@pytest.mark.parametrize(
    ("left", "right"),
    [(1e-20, 1e-10), (1e-36, 1.0), (1.0, 1e-36), (1e-20, 1e-20), (2e38, 1e-3), (1e-3, 2e38)],
)
def test_tiny_and_huge_scales(left: float, right: float, kernel: Any) -> None:
    """Where terms would lose digits, or sums of them overflow, the answer is that of float32."""
    p = layer(kernel, 6, 11, 40)
    rng = np.random.default_rng(2)
    x, w = (
        (scale * rng.uniform(-1, 1, o.shape)).astype(o.dtype)
        for scale, o in zip((left, right), p.operands, strict=True)
    )
    wanted = exact(p, (x, w))
    for found in both_ways(kernel, p, kernel.default(p), (x, w)):
        if left * right < 1e-38:  # denormal numbers have few digits, or none
            np.testing.assert_allclose(found, wanted, atol=1e-42)
        else:
            assert relative_error(found, wanted) < LIMITS[kernel.count] / 2


@needs_tiles
@EACH
def test_single_tiny_tiles_and_channels(kernel: Any) -> None:
    """Parts of an image, and outputs, that are tiny beside others keep their digits."""
    p = layer(kernel, 32, 24, 70)
    x, w = (a.copy() for a in p.random_operands(3))
    x[:, :12, :12] *= np.float32(1e-32)
    w[33] *= np.float32(1e-30)
    wanted = exact(p, (x, w))
    for found in both_ways(kernel, p, kernel.default(p), (x, w)):
        for part in (np.s_[:, :2, :2, :33], np.s_[:, -2:, -2:, 33], np.s_[:, -2:, -2:, 40:]):
            assert relative_error(found[part], wanted[part]) < LIMITS[kernel.count]


@needs_tiles
@EACH
def test_images_of_zeros(kernel: Any) -> None:
    """Zeros give the bias."""
    p = layer(kernel, 5, 9, 34, " +bias")
    x, w, bias = p.random_operands(0)
    found = both_ways(kernel, p, kernel.default(p), (x * 0, w, bias))[1]
    np.testing.assert_array_equal(found, np.broadcast_to(bias, found.shape))


@needs_tiles
@EACH
def test_runs_are_the_same_bits_at_any_number_of_threads(kernel: Any) -> None:
    """One Config at 1 and at 3 threads agrees bit by bit."""
    p = layer(kernel, 40, 19, 50, " +bias+relu")
    operands = p.random_operands(0)
    for stages in (False, True):
        config = kernel.default(p).replace(stages=stages, tiles=32)
        wanted = both_ways(kernel, p, config.replace(threads=1), operands)[0]
        for _ in range(2):
            found = both_ways(kernel, p, config.replace(threads=3), operands)[1]
            np.testing.assert_array_equal(found, wanted)


@needs_tiles
def test_the_fastest_way_that_the_tolerance_admits_is_chosen() -> None:
    """Winograd's by tiles for large layers, with fewer products where a call admits them."""
    device = registry().device("cpu:0")
    kernels = registry().kernels(device, "conv2d")

    def chosen(c: int, size: int, tolerance: Any = None) -> str:
        p = problem(f"nhwc n=1 c={c} h={size} w={size} k={c} r=3 s=3 pad=1 stride=1 packed")
        return select(p, device, kernels, [], tolerance).kernel.name

    assert chosen(128, 112) == chosen(128, 112, 1e-5) == "amx6_winograd4_conv2d"
    assert chosen(128, 112, 1e-4) == "amx3_winograd4_conv2d"
    assert chosen(128, 112, "strict") == "direct_conv2d"
    assert chosen(512, 7) == "winograd2_conv2d"
    assert not chosen(16, 56).startswith("amx")


@pytest.mark.skipif(HERE, reason="this process has tiles")
def test_without_tiles_the_kernels_say_so() -> None:
    """Nothing is chosen, and the reason names what to look at."""
    p = layer(KERNELS[0], 64, 20, 64)
    assert "HWKIT_MAX_ISA" in str(KERNELS[0].supports(p))
    with pytest.raises(ValueError, match="AMX"):
        KERNELS[0].build(p, KERNELS[0].default(p))


def test_instruction_set_emulated() -> None:
    """All of these tests pass with tiles in plain C, whatever the processor is."""
    run_again(__file__, "amx", HWKIT_EMULATE_AMX="1")
