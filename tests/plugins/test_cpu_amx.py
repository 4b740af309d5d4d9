"""Products of float32 by tiles (AMX) against float64; those of half precision are next door.

The tests need a process with tiles. One at the end runs them again in a child process whose tiles
are emulated in plain C, which is where they run on a machine without AMX.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from products import EPILOGUES, both_ways, candidates, run_again

from hwkit import Problem
from hwkit.op import relative_error
from hwkit.registry import registry

registry().device("cpu:0")
from hwkit_cpu import _kernels, amx, amx_conv2d  # noqa: E402  # the device says first if it is missing

HERE = bool(_kernels.cpu_info()["amx"])
needs_tiles = pytest.mark.skipif(not HERE, reason="no AMX here; the child process emulates it")

SPLIT = [kernel for kernel in amx.kernels() if type(kernel) is amx.TilesGemm]
GEMMS, MATMULS = ([k for k in SPLIT if k.op == op] for op in ("gemm", "matmul"))
CONVOLUTIONS = [k for k in amx_conv2d.kernels() if type(k) is amx_conv2d.TilesConv2d]
# Few sums that happen to cancel are worse than random operands at large.
LIMITS = {3: 1.6e-6, 2: 2.4e-5, 1: 1.4e-2}


def problem(text: str) -> Problem:
    return registry().op(text.split(maxsplit=1)[0]).parse(text)


def product(kernel: Any, a: Any, b: Any) -> list[Any]:
    """Return a @ b by a kernel of gemm, b packed by the run and beforehand."""
    (m, k), n = a.shape, b.shape[1]
    p = problem(f"gemm float32 nn m={m} n={n} k={k}")
    return both_ways(kernel, p, kernel.default(p), [a, b])


def six() -> Any:
    return next(k for k in GEMMS if k.terms == 3)


def normal(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@needs_tiles
@pytest.mark.parametrize("seed", range(3))
def test_any_sizes_layouts_and_configs(seed: int) -> None:
    """Edges of tiles, all layouts, epilogues and Configs: as accurate as the terms promise."""
    rng = random.Random(seed)
    sizes = [1, 2, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 70, 100]
    for _ in range(12):
        m, n = rng.choice(sizes), rng.choice(sizes)
        p = problem(
            f"gemm float32 {rng.choice(['nn', 'nt', 'tn', 'tt'])} m={m} n={n} "
            f"k={rng.choice([*sizes, 257, 600])} alpha={rng.choice([1.0, 0.5])} "
            f"beta={rng.choice([0.0, -2.0])} {rng.choice(EPILOGUES)}"
        )
        operands = p.random_operands(seed)
        wanted = p.reference(*[a.astype(np.float64) for a in operands])
        for kernel in GEMMS:
            for config in candidates(kernel, p, rng, 1):
                for out in both_ways(kernel, p, config, operands):
                    assert relative_error(out, wanted) < LIMITS[kernel.terms], (p, kernel, config)


@needs_tiles
@pytest.mark.parametrize("shared", [None, 0, 1])
def test_batches(shared: int | None) -> None:
    """Batches are right, also where one matrix serves all products."""
    a = normal(1, 1 if shared == 0 else 5, 40, 70)
    b = normal(2, 1 if shared == 1 else 5, 70, 36)
    p = registry().op("matmul").problem(a, b)
    wanted = np.matmul(a.astype(np.float64), b.astype(np.float64))
    for kernel in MATMULS:
        for out in both_ways(kernel, p, kernel.default(p), [a, b]):
            assert relative_error(out, wanted) < LIMITS[kernel.terms]


@needs_tiles
def test_results_are_the_same_bits_for_any_number_of_threads() -> None:
    """Who computes a block does not change it."""
    kernel, p = six(), problem("gemm float32 nn m=130 n=100 k=300")
    operands = p.random_operands(0)
    base = kernel.default(p).replace(kc=256, mc=32, nc=32, threads=1)
    single, both = (
        both_ways(kernel, p, base.replace(threads=t), operands)[0] for t in (1, base_threads())
    )
    assert single.tobytes() == both.tobytes()


def base_threads() -> int:
    return int(_kernels.threads_max())


@needs_tiles
def test_six_products_are_as_accurate_as_float32() -> None:
    """Random, positive, badly scaled and cancelling operands stay within the budget of float32."""
    rng, a, b = np.random.default_rng(3), normal(1, 64, 512), normal(2, 512, 64)
    scales = (10.0 ** rng.uniform(-3, 3, a.shape)).astype(np.float32)
    cancelling = np.hstack([a, -a * np.float32(1 - 1e-3)])
    cases = [
        (a, b),
        (np.abs(a), np.abs(b)),
        (a * scales, b),
        (a * scales[:, :1], b * scales[:1, :64]),
        (cancelling, np.vstack([b, b])),
    ]
    for left, right in cases:
        wanted = left.astype(np.float64) @ right.astype(np.float64)
        terms = np.abs(left).astype(np.float64) @ np.abs(right).astype(np.float64)
        for out in product(six(), left, right):
            # Where terms cancel, the error is that of the terms.
            assert np.linalg.norm(out - wanted) < 4e-7 * np.linalg.norm(terms)
            if left is not cancelling:
                assert relative_error(out, wanted) < 4e-7


@needs_tiles
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3.4e38, -3.3999e38])
@pytest.mark.parametrize("side", [0, 1])
def test_values_beyond_bfloat16_go_where_float32_sends_them(value: float, side: int) -> None:
    """Infinities, NaN and numbers that round to an infinite bfloat16 do not spoil their rows."""
    operands = [normal(1, 70, 96), normal(2, 96, 66)]
    operands[side][[3, 40], [5, 64]] = value
    if abs(value) < np.inf:
        operands[1 - side] *= np.float32(1e-3)
    with np.errstate(all="ignore"):
        wanted = (operands[0].astype(np.float64) @ operands[1]).astype(np.float32)
    for kernel in GEMMS:
        for out in product(kernel, *operands):
            assert np.array_equal(np.isnan(out), np.isnan(wanted))
            assert np.array_equal(out[np.isinf(wanted)], wanted[np.isinf(wanted)])
            clean = np.isfinite(wanted).all(1 - side)
            out, exact = (np.compress(clean, x, side) for x in (out, wanted.astype(np.float64)))
            assert relative_error(out, exact) < LIMITS[kernel.terms]


@needs_tiles
def test_infinity_times_zero_is_nan() -> None:
    """As in float32, also where the zero stands for a sparse activation."""
    a, b = normal(1, 40, 64), normal(2, 64, 40)
    a[2, 7], b[7, 5] = np.inf, 0
    for kernel in GEMMS:
        for out in product(kernel, a, b):
            assert np.isnan(out[2, 5])
            assert np.array_equal(np.isinf(out[2]), b[7] != 0)
            assert np.isfinite(np.delete(out, 2, 0)).all()


@needs_tiles
@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1e-30, 1),
        (1e-33, 1),
        (1e-36, 1),
        (1e-38, 1e4),
        (1e-17, 1e-17),
        (1e-18, 1e-18),
        (1e20, 1e15),
    ],
)
def test_tiny_and_huge_scales(left: float, right: float) -> None:
    """Operands near the ends of float32's range lose nothing that float32 keeps."""
    a, b = normal(1, 40, 128) * np.float32(left), normal(2, 128, 40) * np.float32(right)
    for first, second in ((a, b), (b.T.copy(), a.T.copy())):
        wanted = first.astype(np.float64) @ second.astype(np.float64)
        for kernel in GEMMS:
            for out in product(kernel, first, second):
                assert relative_error(out, wanted) < LIMITS[kernel.terms], kernel


@needs_tiles
def test_single_tiny_rows_and_columns() -> None:
    """Each row and column is accurate by itself, however small it is beside the others."""
    a, b = normal(1, 70, 64), normal(2, 64, 70)
    a[[1, 33]] *= np.float32(1e-35)
    b[:, [2, 69]] *= np.float32(1e-30)
    wanted = a.astype(np.float64) @ b.astype(np.float64)
    terms = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    for out in product(six(), a, b):
        assert np.all(np.abs(out - wanted) <= 1e-6 * terms + 1e-44)


WINDOWS = (
    "r=3 s=3 pad=1",
    "r=3 s=3 pad=1 stride=2",
    "r=1 s=1",
    "r=1 s=1 stride=2",
    "r=5 s=2 pad=0,1,2,0 stride=1,3",
    "r=3 s=3 pad=2 dilation=2",
    "r=2 s=3 stride=2,1 dilation=1,3",
)


@needs_tiles
@pytest.mark.parametrize("window", WINDOWS)
def test_convolutions(window: str) -> None:
    """Windows, strides, dilations, padding, both layouts and epilogues, plain and packed."""
    rng = random.Random(window)
    for layout in ("nhwc", "nchw"):
        sizes = {
            "c": rng.choice([3, 32, 40]),
            "k": rng.choice([7, 32, 70]),
            "n": rng.choice([1, 2]),
        }
        h, w = rng.choice([9, 12]), rng.choice([11, 40])
        text = " ".join(f"{name}={size}" for name, size in sizes.items())
        p = problem(f"conv2d float32 {layout} {text} h={h} w={w} {window} {rng.choice(EPILOGUES)}")
        operands = p.random_operands(1)
        wanted = p.reference(*[a.astype(np.float64) for a in operands])
        for kernel in CONVOLUTIONS:
            for config in candidates(kernel, p, rng, 1):
                for out in both_ways(kernel, p, config, operands):
                    assert relative_error(out, wanted) < LIMITS[kernel.terms], (p, kernel, config)


@needs_tiles
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_convolutions_keep_what_float32_keeps(layout: str) -> None:
    """Infinities, large numbers, tiny images, and filters that are tiny beside the others."""
    p = problem(f"conv2d float32 {layout} n=1 c=40 h=8 w=9 k=40 r=3 s=3 pad=1")
    x, w = p.random_operands(0)
    infinite, faint = x.copy(), w.copy()
    infinite.flat[[5, 700]] = np.inf, -3.4e38
    faint[[3, 35]] *= np.float32(1e-33)
    broken = w.copy()
    broken[36].flat[1] = np.nan
    tiny = np.float32(1e-36)
    for image, weights in ((infinite, w), (x, faint), (x * tiny, w), (x, w * tiny), (x, broken)):
        with np.errstate(all="ignore"):
            wanted = p.reference(image.astype(np.float64), weights.astype(np.float64))
            wanted = wanted.astype(np.float32).astype(np.float64)
        for kernel in CONVOLUTIONS:
            for out in both_ways(kernel, p, kernel.default(p), [image, weights]):
                assert np.array_equal(np.isnan(out), np.isnan(wanted))
                assert np.array_equal(out[np.isinf(wanted)], wanted[np.isinf(wanted)])
                axis = 1 if layout == "nchw" else 3
                for a, b in zip(np.rollaxis(out, axis), np.rollaxis(wanted, axis), strict=True):
                    fine = np.isfinite(b) & (np.abs(b) < 1e36)
                    scale = np.abs(b[fine]).max(initial=0)
                    assert (
                        np.abs(a[fine] - b[fine]).max(initial=0) <= LIMITS[kernel.terms] * 3 * scale
                    )


@needs_tiles
def test_images_of_zeros() -> None:
    """Zeros are zeros, not a tiny scale."""
    p = problem("conv2d float32 nhwc n=1 c=32 h=6 w=6 k=32 r=3 s=3 pad=1 +bias")
    x, w, bias = p.random_operands(0)
    kernel = CONVOLUTIONS[0]
    for out in both_ways(kernel, p, kernel.default(p), [x * 0, w, bias]):
        assert np.array_equal(out, np.broadcast_to(bias, out.shape))


@needs_tiles
def test_the_tolerance_chooses_the_products() -> None:
    """Strict and default calls, 1e-5 and 1e-2 each get the fewest products that they allow."""
    from hwkit.selection import select

    device = registry().device("cpu:0")
    p, kernels = problem("gemm float32 nn m=256 n=256 k=256"), registry().kernels(device, "gemm")
    chosen = {
        t: select(p, device, kernels, [], t).kernel.name for t in (None, 1e-5, 1e-2, "strict")
    }
    assert chosen == {
        None: "amx6_gemm", 1e-5: "amx3_gemm", 1e-2: "amx1_gemm", "strict": "packed_gemm"
    }  # fmt: skip
    small = problem("gemm float32 nn m=100 n=100 k=256")
    assert select(small, device, kernels, []).kernel.name == "packed_gemm"


@needs_tiles
def test_convolutions_are_chosen_by_what_fills_the_tiles() -> None:
    """Wide layers run by tiles; few channels, groups and strict calls by the kernels of float32."""
    from hwkit.selection import select

    device = registry().device("cpu:0")
    kernels = registry().kernels(device, "conv2d")
    wide = "conv2d float32 nhwc n=1 c=256 h=28 w=28 k=256"

    def chosen(text: str, tolerance: Any = None) -> str:
        return select(problem(text), device, kernels, [], tolerance).kernel.name

    assert chosen(f"{wide} r=1 s=1") == "amx6_conv2d"
    assert chosen(f"{wide} r=3 s=3 pad=1 stride=2,1") == "amx6_conv2d"
    assert chosen(f"{wide} r=3 s=3 pad=1 stride=2,1", 1e-5) == "amx3_conv2d"
    assert chosen(f"{wide} r=1 s=1", "strict") == "direct_conv2d"
    assert not chosen(f"{wide} r=1 s=1 groups=4").startswith("amx")
    assert not chosen("conv2d float32 nhwc n=1 c=3 h=56 w=56 k=64 r=3 s=3").startswith("amx")


@needs_tiles
def test_the_device_says_which_tiles_it_has() -> None:
    """Emulated tiles have another arch and another fingerprint than real ones."""
    device = registry().device("cpu:0")
    emulated = "amx-emulated" in device.fingerprint.identity["isa"]
    assert device.arch.endswith("-amx-emulated" if emulated else "-amx")
    assert device.emulated == emulated


@pytest.mark.skipif(HERE, reason="this process has tiles")
def test_without_tiles_the_kernels_say_so() -> None:
    """Nothing is chosen, and the reason names what to look at."""
    p = problem("gemm float32 nn m=256 n=256 k=256")
    for kernel in GEMMS:
        if not kernel.pairs:
            assert "HWKIT_MAX_ISA" in str(kernel.supports(p))
    with pytest.raises(ValueError, match="AMX"):
        six().build(p, six().default(p))


def test_instruction_set_emulated() -> None:
    """All of these tests pass with tiles in plain C, whatever the processor is."""
    run_again(__file__, "amx", HWKIT_EMULATE_AMX="1")


def test_instruction_set_lowered() -> None:
    """HWKIT_MAX_ISA below amx leaves tiles out, emulated or not."""
    run_again(__file__, "avx2", HWKIT_EMULATE_AMX="1")
