"""Products of half precision by tiles (AMX) and by pairs (AVX512-BF16) against float64.

float16 is split into two terms of bfloat16. The tests need a process that has either; two at the
end run them again in child processes that emulate them in plain C.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from products import EPILOGUES, candidates, run_again

from hwkit import Problem
from hwkit.op import relative_error
from hwkit.registry import registry
from hwkit.selection import select

registry().device("cpu:0")
from hwkit_cpu import _kernels, amx, amx_conv2d, pairs  # noqa: E402  # after the device

ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")

INFO = _kernels.cpu_info()
needs_either = pytest.mark.skipif(not INFO["pairs"], reason="neither AMX nor AVX512-BF16 here")
needs_tiles = pytest.mark.skipif(not INFO["amx"], reason="no AMX here; a child process emulates it")

DTYPES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
EVERY = [
    kernel
    for kernel in (*amx.kernels(), *amx_conv2d.kernels(), *pairs.kernels())
    if isinstance(kernel, amx.TilesKernel) and kernel.dtype != "float32"
]


def problem(text: str) -> Problem:
    return registry().op(text.split(maxsplit=1)[0]).parse(text)


def able(p: Problem) -> list[amx.TilesKernel]:
    """Return the kernels of this process that take a problem."""
    return [kernel for kernel in EVERY if kernel.op == p.op.name and kernel.supports(p) is True]


def results(kernel: Any, p: Problem, config: Any, operands: list[Any]) -> Iterator[Any]:
    """Yield the results of a plain run and of one with a packed right operand, as float64."""
    run: Any = kernel.build(p, config)
    held = run.prepack({1: operands[1].copy()})
    for call, given in ((run, operands), (held, [operands[0], *operands[2:]])):
        out = np.full(p.output.shape, np.nan, p.output.dtype)
        call(*given, out=out)
        yield out.astype(np.float64)


def check(p: Problem, rng: random.Random, configs: int = 1) -> None:
    """All kernels that take a problem are within its budget."""
    operands = list(p.random_operands(rng.randrange(1000)))
    wanted = p.reference(*[a.astype(np.float64) for a in operands])
    for kernel in able(p):
        for config in candidates(kernel, p, rng, configs):
            for out in results(kernel, p, config, operands):
                assert relative_error(out, wanted) < p.error_budget(), (p, kernel.name, config)


def normal(dtype: str, seed: int, *shape: int, scale: float = 1.0) -> Any:
    values = np.random.default_rng(seed).standard_normal(shape) * scale
    return values.astype(DTYPES[dtype])


def products(dtype: str, a: Any, b: Any) -> Iterator[tuple[amx.TilesKernel, Any]]:
    """Yield all results of a @ b, and the kernels that made them."""
    (m, k), n = a.shape, b.shape[1]
    for layout in ("nn", "tt"):
        p = problem(f"gemm {dtype} {layout} m={m} n={n} k={k}")
        given = [a, b] if layout == "nn" else [np.ascontiguousarray(x.T) for x in (a, b)]
        for kernel in able(p):
            for out in results(kernel, p, kernel.default(p), given):
                yield kernel, out


@needs_either
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_size_up_to_seventy(dtype: str) -> None:
    """Each number of rows, columns and depth is right once, all layouts among them."""
    rng = random.Random(dtype)
    sizes = [rng.sample(range(1, 71), 70) for _ in "mnk"]
    for i, (m, n, k) in enumerate(zip(*sizes, strict=True)):
        layout = ("nn", "nt", "tn", "tt")[i % 4]
        check(problem(f"gemm {dtype} {layout} m={m} n={n} k={k}"), rng, 0)


@needs_either
@pytest.mark.parametrize("dtype", DTYPES)
def test_epilogues_and_configs(dtype: str) -> None:
    """One rounding of the output, for all epilogues and any Config, in deep products too."""
    rng = random.Random(dtype)
    for epilogue in EPILOGUES:
        beta = f"beta={rng.choice([0.0, 2.0])} alpha={rng.choice([1.0, -0.5])} {epilogue}"
        sizes = f"m={rng.choice([31, 100])} n={rng.choice([5, 65])} k={rng.choice([33, 300, 700])}"
        check(problem(f"gemm {dtype} {rng.choice(['nn', 'tt'])} {sizes} {beta}"), rng)
    check(problem(f"matmul {dtype} b=3 m=40 n=36 k=70"), rng)


WINDOWS = (
    "r=3 s=3 pad=1",
    "r=3 s=3 pad=1 stride=2",
    "r=1 s=1",
    "r=5 s=2 pad=0,1,2,0 stride=1,3",
    "r=3 s=3 pad=2 dilation=2",
    "r=3 s=3 pad=1 groups=2",
    "r=3 s=3 pad=1 groups=5",
    "r=1 s=3 pad=0,0,4,4 dilation=1,4 groups=5",
)


@needs_either
@pytest.mark.parametrize("dtype", DTYPES)
def test_convolutions(dtype: str) -> None:
    """Windows, strides, dilations, padding and epilogues, channels last."""
    rng = random.Random(dtype)
    for window in WINDOWS:
        c, k = rng.choice([3, 32, 40]), rng.choice([5, 32, 70])
        if "groups" in window:
            c, k = (40, rng.choice([6, 70])) if "groups=2" in window else (15, rng.choice([20, 85]))
        h, w = rng.choice([9, 12]), rng.choice([11, 40])
        text = f"conv2d {dtype} nhwc n={rng.choice([1, 2])} c={c} h={h} w={w} k={k} {window}"
        check(problem(f"{text} {rng.choice(EPILOGUES)}"), rng)


@needs_either
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", [0, 1])
def test_infinities_and_nan_go_where_float32_sends_them(dtype: str, side: int) -> None:
    """Infinities and NaN spoil what they spoil in float32, signs and zeros included."""
    operands = [normal(dtype, 1, 70, 96), normal(dtype, 2, 96, 66)]
    operands[side][[2, 7, 40], [3, 9, 64]] = np.inf, np.nan, -np.inf
    operands[1 - side].flat[::5] = 0
    with np.errstate(all="ignore"):
        wanted = operands[0].astype(np.float64) @ operands[1].astype(np.float64)
    assert np.isnan(wanted).any()
    assert np.isinf(wanted).any()
    fine = np.isfinite(wanted)
    for kernel, out in products(dtype, *operands):
        assert np.array_equal(np.isnan(out), np.isnan(wanted)), kernel.name
        assert np.array_equal(out[np.isinf(wanted)], wanted[np.isinf(wanted)]), kernel.name
        assert relative_error(out[fine], wanted[fine]) < 2.0**-8, kernel.name


@needs_either
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "sizes",
    [
        "c=40 h=8 w=9 k=40 r=3 s=3 pad=1",
        "c=3 h=20 w=30 k=8 r=3 s=3 pad=1",
        "c=15 h=9 w=21 k=24 r=3 s=3 pad=2 dilation=2",
        "c=35 h=8 w=9 k=10 r=3 s=3 pad=1 groups=5",
        "c=21 h=8 w=15 k=9 r=1 s=1",
    ],
)
def test_infinite_pixels(dtype: str, sizes: str) -> None:
    """An image with infinities and a NaN is convolved as in float32, and spoils nothing beside."""
    p = problem(f"conv2d {dtype} nhwc n=1 {sizes}")
    x, w = p.random_operands(0)
    x.flat[[5, 700, x.size // 2 + 11]] = np.inf, -np.inf, np.nan
    with np.errstate(all="ignore"):
        wanted = p.reference(x.astype(np.float64), w.astype(np.float64))
    fine = np.isfinite(wanted)
    assert 0 < np.count_nonzero(fine) < fine.size
    for kernel in able(p):
        for out in results(kernel, p, kernel.default(p), [x, w]):
            assert np.array_equal(np.isnan(out), np.isnan(wanted)), kernel.name
            assert np.array_equal(out[np.isinf(wanted)], wanted[np.isinf(wanted)]), kernel.name
            assert relative_error(out[fine], wanted[fine]) < 2.0**-8, kernel.name


@needs_either
@pytest.mark.parametrize(
    ("dtype", "left", "right"),
    [
        ("bfloat16", 1e-30, 1e-6),
        ("bfloat16", 1e-18, 1e-18),
        ("bfloat16", 1e20, 1e15),
        ("float16", 1e-6, 100),
        ("float16", 3e-7, 1e4),
        ("float16", 1e4, 1e-5),
    ],
)
def test_tiny_and_huge_scales(dtype: str, left: float, right: float) -> None:
    """Near the ends of the range, and of subnormal float16, nothing is lost that float32 keeps."""
    a, b = normal(dtype, 1, 40, 128, scale=left), normal(dtype, 2, 128, 40, scale=right)
    for first, second in ((a, b), (np.ascontiguousarray(b.T), np.ascontiguousarray(a.T))):
        wanted = first.astype(np.float64) @ second.astype(np.float64)
        rounded = wanted.astype(DTYPES[dtype]).astype(np.float64)
        unit = np.abs(rounded - wanted).max() + np.abs(wanted) * 2.0**-8
        for kernel, out in products(dtype, first, second):
            assert (np.abs(out - wanted) <= unit).all(), kernel.name


@needs_either
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("left", "right", "bias"),
    [
        (1e-30, 1e-6, 0.0),
        (1e-39, 1.0, 0.0),
        (1.0, 1e-39, 0.0),
        (1e30, 1e-39, 0.0),
        (1e-39, 1e30, 1.0),
        (1e-39, 1.0, 1e-30),
        (1.0, 1e-39, 1.0),
    ],
)
def test_tiny_and_huge_pixels(left: float, right: float, bias: float, groups: int) -> None:
    """Denormal pixels and weights are worth what they are in float32, unless others drown them."""
    size = f"n=2 c=40 h=6 w=7 k=40 r=3 s=3 pad=1 groups={groups}"
    p = problem(f"conv2d bfloat16 nhwc {size} +bias")
    x, w, b = (np.array(a) for a in p.random_operands(0))
    operands = [
        (a.astype(np.float64) * scale).astype(a.dtype)
        for a, scale in ((x, left), (w, right), (b, bias))
    ]
    wanted = p.reference(*[a.astype(np.float64) for a in operands])
    for kernel in able(p):
        for out in results(kernel, p, kernel.default(p), operands):
            for image, same in zip(out, wanted, strict=True):
                assert relative_error(image, same) < 2.0**-8, kernel.name


@needs_either
def test_one_tiny_image_among_others() -> None:
    """Each image of a batch is looked at."""
    p = problem("conv2d bfloat16 nhwc n=3 c=40 h=6 w=7 k=40 r=3 s=3 pad=1")
    x, w = (np.array(a) for a in p.random_operands(0))
    x[1] = (x[1].astype(np.float64) * 1e-39).astype(x.dtype)
    wanted = p.reference(x.astype(np.float64), w.astype(np.float64))
    for kernel in able(p):
        for out in results(kernel, p, kernel.default(p), [x, w]):
            for image, same in zip(out, wanted, strict=True):
                assert relative_error(image, same) < 2.0**-7, kernel.name


@needs_tiles
def test_sums_beyond_float16_are_infinite() -> None:
    """The largest float16 rounds up in its first term; sums are finite until they are rounded."""
    a, b = np.full((40, 64), 65504, np.float16), np.zeros((64, 40), np.float16)
    b[:, 0], b[:, 1], b[::2, 2], b[1::2, 2], b[5, 3] = 65504, -65504, 65504, -65504, 1
    wanted = np.zeros(40)
    wanted[[0, 1, 3]] = np.inf, -np.inf, 65504
    for kernel, out in products("float16", a, b):
        assert np.array_equal(out, np.broadcast_to(wanted, out.shape)), kernel.name


@needs_tiles
def test_four_products_are_exact_where_terms_cancel() -> None:
    """What three products leave out shows under cancellation only; four are as good as float32."""
    a, b = normal("float16", 1, 64, 256), normal("float16", 2, 256, 64)
    left = np.hstack([a, (-a * np.float16(1 - 2**-9)).astype(np.float16)])
    right = np.vstack([b, b])
    wanted = left.astype(np.float64) @ right.astype(np.float64)
    terms = np.abs(left).astype(np.float64) @ np.abs(right).astype(np.float64)
    worst = {3: 0.0, 4: 0.0}
    for kernel, out in products("float16", left, right):
        error = np.abs(out - wanted) - np.abs(wanted) * 2.0**-11
        worst[kernel.products] = max(worst[kernel.products], float((error / terms).max()))
    assert worst[4] < 2e-7 < worst[3] < 2.0**-16


@needs_tiles
def test_what_is_chosen_for_tiles() -> None:
    """float16 takes three products, four if it is to be strict; small products are converted."""
    device = registry().device("cpu:0")
    square = "gemm {} nn m=256 n=256 k=256"
    layer = "conv2d {} nhwc n=1 c=64 h=28 w=28 k=64 r=3 s=3 pad=1"
    expected = {
        (square, "float16", None): "amx3_float16_gemm",
        (square, "float16", "strict"): "amx4_float16_gemm",
        (square, "bfloat16", None): "amx_bfloat16_gemm",
        (layer, "float16", None): "amx3_float16_conv2d",
        (layer, "float16", "strict"): "amx4_float16_conv2d",
        (layer, "bfloat16", "strict"): "amx_bfloat16_conv2d",
    }
    for (text, dtype, tolerance), name in expected.items():
        p = problem(text.format(dtype))
        kernels = registry().kernels(device, p.op.name)
        assert select(p, device, kernels, [], tolerance).kernel.name == name
    small = problem("gemm float16 nn m=20 n=20 k=20")
    kernels = registry().kernels(device, "gemm")
    assert select(small, device, kernels, []).kernel.name.endswith("_half")


@needs_either
@pytest.mark.parametrize("slow", [False, True])
def test_pairs_are_chosen_where_they_are_fast(monkeypatch: pytest.MonkeyPatch, slow: bool) -> None:
    """bfloat16 without AMX takes pairs, and float32 where the tolerance admits it; but neither does
    on processors whose AMX is switched off.
    """
    monkeypatch.setattr(amx, "unavailable", lambda unit: "no AMX" if unit == "amx" else None)
    monkeypatch.setattr(amx, "slow_pairs", lambda: slow)
    device = registry().device("cpu:0")
    square, layer = "m=256 n=256 k=256", "n=1 c=64 h=28 w=28 k=64 r=1 s=1"
    for text, name in (
        (f"gemm bfloat16 nn {square}", "avx512_bfloat16_direct_gemm"),
        (f"gemm bfloat16 tn {square}", "avx512_bfloat16_direct_gemm"),
        (f"conv2d bfloat16 nhwc {layer}", "avx512_bfloat16_direct_conv2d"),
        (f"gemm float32 tn {square}", "avx512bf16_gemm"),
        (f"conv2d float32 nchw {layer}", "avx512bf16_conv2d"),
    ):
        p = problem(text)
        kernels = registry().kernels(device, p.op.name)
        plain = p.dtypes.input == "float32"
        chosen = select(p, device, kernels, [], 1e-2 if plain else None).kernel.name
        assert (chosen == name) == (not slow), chosen
        if plain:
            assert not select(p, device, kernels, [], 1e-5).kernel.name.startswith("avx512bf16")
    # Fewer products save more than cheaper ones.
    p = problem("conv2d float32 nhwc n=1 c=64 h=28 w=28 k=64 r=3 s=3 pad=1 packed")
    kernels = registry().kernels(device, p.op.name)
    assert select(p, device, kernels, [], 1e-2).kernel.name.startswith("winograd")


@pytest.mark.skipif(INFO["pairs"], reason="this process has pairs")
def test_without_pairs_the_kernels_say_so() -> None:
    """Nothing is chosen, and the reason names the unit and what to look at."""
    p = problem("gemm bfloat16 nn m=256 n=256 k=256")
    reasons = [str(k.supports(p)) for k in EVERY if k.op == "gemm" and k.dtype == "bfloat16"]
    assert all("HWKIT_MAX_ISA" in reason for reason in reasons)
    assert ["AVX512-BF16" in reason for reason in reasons] == [False, True]
    (kernel,) = (k for k in EVERY if k.op == "gemm" and k.pairs)
    with pytest.raises(ValueError, match="AVX512-BF16"):
        kernel.build(p, kernel.default(p))


def test_instruction_set_emulated() -> None:
    """All of these tests pass with tiles and pairs in plain C, whatever the processor is."""
    run_again(__file__, "amx", HWKIT_EMULATE_AMX="1")


def test_instruction_set_without_tiles() -> None:
    """Pairs stay where HWKIT_MAX_ISA leaves AVX-512 but no tiles."""
    run_again(__file__, "avx512", "sizes or every_size or chosen or without", HWKIT_EMULATE_AMX="1")
