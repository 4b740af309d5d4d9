"""Kernels of 8-bit integers on the host: every answer equals the reference, bit by bit."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from products import run_again

from hwkit import ArgumentError, Config, Problem
from hwkit.registry import registry

registry().device("cpu:0")
from hwkit_cpu import _kernels, int8  # noqa: E402  # the device says first if it is missing

KERNELS = int8.kernels()
BYTES = ("uint8", "int8")
HERE = bool(_kernels.cpu_info()["amx"])
needs_tiles = pytest.mark.skipif(not HERE, reason="no AMX here; the child process emulates it")
OUTPUTS = ("int32", "float32", "int8", "uint8")


def problem(text: str) -> Problem:
    return registry().op(text.split(maxsplit=1)[0]).parse(text)


def supporting(p: Problem) -> list[Any]:
    return [k for k in KERNELS if k.op == p.op.name and k.supports(p) is True]


def operands_of(p: Problem, seed: int) -> list[np.ndarray[Any, Any]]:
    """Return random operands, their zero points anywhere in the range or at its ends.

    Weights are as in real networks, small, small but for a few, or of any value: kernels may choose
    another instruction by it.
    """
    rng = np.random.default_rng(seed)
    found = list(p.random_operands(seed))
    shape, dtype = p.operands[1].shape, p.operands[1].dtype
    weights = [
        rng.normal(0, 30, shape),
        rng.integers(-64, 64, shape),
        np.where(rng.random(shape) < 0.02, rng.choice([-128, 127], shape), 1),
        rng.integers(-128, 128, shape),
    ][seed % 4]
    middle = 128 if dtype == np.uint8 else 0
    found[1] = (np.clip(np.rint(weights), -128, 127) + middle).astype(dtype)
    for i, operand in enumerate(p.operands):
        if operand.name.endswith("zero"):
            limits = np.iinfo(operand.dtype)
            ends = rng.choice([limits.min, limits.max, 0], operand.shape)
            anywhere = rng.integers(limits.min, limits.max + 1, operand.shape)
            found[i] = np.asarray([ends, anywhere, found[i]][seed % 3], operand.dtype)
    return found


def check(kernel: Any, p: Problem, config: Config, seed: int = 0) -> None:
    """Compare a run, plain, with all constants packed, and with some, to the reference."""
    operands = operands_of(p, seed)
    want = p.reference(*operands)
    run = kernel.build(p, config)
    out = np.full(p.output.shape, 77, p.output.dtype)
    run(*operands, out=out)
    np.testing.assert_array_equal(out, want, err_msg=f"{p} {kernel} {config}")
    constants = {i: operands[i] for i in p.constants}
    some = {i: a for i, a in constants.items() if i == 1 or (seed + i) % 2}
    for held in (constants, some):
        packed = run.prepack({i: a.copy() for i, a in held.items()})
        out.fill(55)
        packed(*[a for i, a in enumerate(operands) if i not in held], out=out)
        np.testing.assert_array_equal(out, want, err_msg=f"{p} {kernel} {config} {[*held]}")


def configs(kernel: Any, p: Problem, rng: random.Random, count: int) -> list[Config]:
    """Return the default, which must be legal, and some Configs of the space."""
    space = kernel.space(p)
    assert space.why_not(kernel.default(p)) is None, (p, kernel)
    return [kernel.default(p), *(space.sample(rng) for _ in range(count))]


@pytest.mark.parametrize("layout", ["nn", "nt", "tn", "tt"])
@pytest.mark.parametrize("seed", range(4))
def test_every_size_from_1_to_70(layout: str, seed: int) -> None:
    """Every number of rows, of columns and of terms occurs, in every mix of signs."""
    rng = random.Random(f"{layout}{seed}")
    rows, columns, terms = (rng.sample(range(1, 71), 70) for _ in range(3))
    for m, n, k in zip(rows, columns, terms, strict=True):
        p = problem(
            f"gemm {rng.choice(BYTES)},{rng.choice(BYTES)},int32,int32 {layout} m={m} n={n} k={k}"
            + rng.choice(["", " +bias", " +bias+relu", " +relu6"])
        )
        for kernel in supporting(p):
            for config in configs(kernel, p, rng, 1):
                check(kernel, p, config, seed)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("seed", range(2))
def test_quantised_products(output: str, seed: int) -> None:
    """Batches, shared operands, zero points, scales and every output are exact."""
    rng = random.Random(f"{output}{seed}")
    for number in range(35):
        m, n, k, b = (rng.randint(1, 70), rng.randint(1, 70), rng.randint(1, 70), rng.randint(1, 4))
        p = problem(
            f"qmatmul {rng.choice(BYTES)},{rng.choice(BYTES)},{output},int32 "
            f"{rng.choice(['nn', 'nt'])} b={b} m={m} n={n} k={k} "
            f"shared={rng.choice(['none', 'a', 'b'])} per_channel={rng.choice(['true', 'false'])}"
            + rng.choice(["", " +bias", " +bias+relu", " +relu6"])
        )
        for kernel in supporting(p):
            for config in configs(kernel, p, rng, 1):
                check(kernel, p, config, number)


def _convolution(data: Any, groups: int, per_group: tuple[int, int]) -> Problem | None:
    draw = data.draw
    mix = f"{draw(st.sampled_from(BYTES))},{draw(st.sampled_from(BYTES))}"
    pads = ",".join(str(draw(st.integers(0, 3))) for _ in range(4))
    stride, dilation = (
        ",".join(str(draw(st.integers(1, most))) for _ in range(2)) for most in (3, 2)
    )
    epilogue = draw(st.sampled_from(["", " +bias", " +bias+relu", " +relu6"]))
    try:
        return problem(
            f"qconv2d {mix},{draw(st.sampled_from(OUTPUTS))},int32 "
            f"{draw(st.sampled_from(['nchw', 'nhwc']))} n={draw(st.integers(1, 2))} "
            f"c={groups * per_group[0]} h={draw(st.integers(1, 13))} w={draw(st.integers(1, 20))} "
            f"k={groups * per_group[1]} r={draw(st.integers(1, 4))} s={draw(st.integers(1, 4))} "
            f"pad={pads} stride={stride} dilation={dilation} groups={groups} "
            f"per_channel={draw(st.sampled_from(['true', 'false']))}{epilogue}"
        )
    except ArgumentError as error:
        assert "reaches over" in str(error)  # noqa: PT017
        return None


@settings(max_examples=250, deadline=None)
@given(st.data(), st.integers(1, 3), st.tuples(*[st.integers(1, 70)] * 2), st.integers(0, 9))
def test_any_convolution(data: Any, groups: int, channels: tuple[int, int], seed: int) -> None:
    """Windows, strides, dilations, padding, groups and layouts, every count of channels to 70."""
    p = _convolution(data, groups, channels)
    for kernel in supporting(p) if p is not None else ():
        for config in configs(kernel, p, random.Random(seed), 1):
            check(kernel, p, config, seed)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 70), st.integers(0, 9))
def test_any_depthwise(data: Any, groups: int, seed: int) -> None:
    """Every channel by itself, by both kernels."""
    p = _convolution(data, groups, (1, 1))
    if p is not None:
        assert len(supporting(p)) == 2 + HERE
        for kernel in supporting(p):
            for config in configs(kernel, p, random.Random(seed), 1):
                check(kernel, p, config, seed)


@pytest.mark.parametrize("x", BYTES)
@pytest.mark.parametrize("w", BYTES)
def test_the_largest_products_do_not_saturate(x: str, w: str) -> None:
    """All operands at the end of their range: sums of pairs of bytes do not fit 16 bits."""
    p = problem(f"qmatmul {x},{w},int32,int32 nn b=1 m=13 n=40 k=4099")
    ends = {"int8": (-128, 127), "uint8": (0, 255)}
    for kernel in supporting(p):
        run = kernel.build(p, kernel.default(p))
        for number in range(16):
            low_x, low_w, zero_x, zero_w = (number >> i & 1 for i in range(4))
            values = [
                np.full((1, 13, 4099), ends[x][low_x], x),
                np.full((1, 4099, 40), ends[w][low_w], w),
                np.asarray(ends[x][zero_x], x),
                np.asarray(ends[w][zero_w], w),
            ]
            out = np.empty((1, 13, 40), np.int32)
            run(*values, out=out)
            np.testing.assert_array_equal(out, p.reference(*values))


def test_sums_wrap_at_32_bits() -> None:
    """As ONNX allows: the sum of 40,000 largest products is that modulo 2**32."""
    p = problem("gemm uint8,uint8,int32,int32 nn m=2 n=3 k=40000")
    a, b = np.full((2, 40000), 255, np.uint8), np.full((40000, 3), 255, np.uint8)
    for kernel in supporting(p):
        out = np.empty((2, 3), np.int32)
        kernel.build(p, kernel.default(p))(a, b, out=out)
        assert set(out.ravel().tolist()) == {40000 * 255 * 255 - 2**32}


def test_every_tile_of_the_table_is_right() -> None:
    """Each micro-kernel of this instruction set computes its whole tile and each edge."""
    shapes, vector, _ = _kernels.int8_tiles()
    kernel = int8.Int8Product("gemm")
    for narrow, rows, vectors in shapes:
        for n in (2 * vectors * vector, 2 * vectors * vector + vector - 1):
            p = problem(f"gemm int8,int8,int32,int32 nt m={rows + 1} n={n} k=37 +bias")
            text = f"{rows}x{vectors * vector}"
            check(kernel, p, kernel.default(p).replace(tile=text, narrow=narrow))


def test_blocks_larger_than_one() -> None:
    """Several parts of the depth, chunks of pixels and of channels, and threads add up."""
    text = "qconv2d uint8,uint8,int8,int32 {} n=2 c=40 h=19 w=23 k=70 r=3 s=3 pad=1 stride=1 +bias"
    for layout in ("nchw", "nhwc"):
        p = problem(text.format(layout))
        kernel = int8.Int8Product("qconv2d")
        for narrow in (True, False):
            config = kernel.default(p).replace(narrow=narrow, kc=128, pixels=48, channels=32)
            if kernel.space(p).why_not(config) is None:
                check(kernel, p, config)


def test_kernels_say_what_they_do_not_take() -> None:
    """Floats, residuals, alpha and beta, nothing at all, and groups of more than one channel."""
    product, depthwise = int8.Int8Product("gemm"), int8.Int8Depthwise("conv2d")
    for text, reason in (
        ("gemm float32 nn m=1 n=1 k=1", "it multiplies int8 and uint8"),
        ("gemm int8,int8,int32,int32 nn m=1 n=1 k=1 +residual", "it adds no residual"),
        ("gemm int8,int8,int32,int32 nn m=1 n=1 k=1 alpha=2.0", "it takes alpha=1"),
        ("gemm int8,int8,int64,int32 nn m=1 n=1 k=1", "it makes no int64"),
        ("gemm int8,int8,int32,int32 nn m=0 n=1 k=1", "there is nothing to compute"),
    ):
        assert str(product.supports(problem(text))).startswith(reason)
    p = problem("conv2d int8,int8,int32,int32 nchw n=1 c=4 h=2 w=2 k=8 r=1 s=1 groups=4")
    assert str(depthwise.supports(p)).startswith("it needs groups=4")


def test_the_compiled_module_checks_its_arguments() -> None:
    """Tiles, blocks and orders that do not exist are refused before anything is built."""
    p = problem("gemm int8,int8,int32,int32 nn m=8 n=4 k=2")
    kernel = int8.Int8Product("gemm")
    with pytest.raises(ValueError, match="no tile"):
        kernel.build(p, Config({**kernel.default(p), "tile": "99x16"}))
    with pytest.raises(ValueError, match="at least 1"):
        kernel.build(p, Config({**kernel.default(p), "kc": 0}))


def by_tiles(p: Problem, rng: random.Random, seed: int) -> None:
    """Check the default and one more Config of the kernel of tiles."""
    (kernel,) = (k for k in supporting(p) if isinstance(k, int8.Int8Tiles))
    for config in configs(kernel, p, rng, 1):
        check(kernel, p, config, seed)


@needs_tiles
@pytest.mark.parametrize("x", BYTES)
@pytest.mark.parametrize("w", BYTES)
def test_tiles_of_any_size_and_sign(x: str, w: str) -> None:
    """Edges of tiles in all three directions, with zero points and scales and without."""
    rng = random.Random(x + w)
    edges = [1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 70, 100]
    for number in range(12):
        m, n = rng.choice(edges), rng.choice(edges)
        k = rng.choice([*edges, 127, 128, 129, 300])
        epilogue = rng.choice(["", " +bias", " +bias+relu", " +relu6"])
        text = f"gemm {x},{w},int32,int32 {rng.choice(['nn', 'nt', 'tn', 'tt'])} m={m} n={n} k={k}"
        by_tiles(problem(text + epilogue), rng, number)
        text = (
            f"qmatmul {x},{w},{rng.choice(OUTPUTS)},int32 {rng.choice(['nn', 'nt'])} m={m} n={n} "
            f"k={k} b={rng.randint(1, 3)} shared={rng.choice(['none', 'a', 'b'])} "
            f"per_channel={rng.choice(['true', 'false'])}"
        )
        by_tiles(problem(text + epilogue), rng, number)


@needs_tiles
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("seed", range(2))
def test_tiles_of_convolutions(layout: str, seed: int) -> None:
    """Rows of pixels that end within a tile, few and many channels, strides, dilation, groups."""
    rng = random.Random(f"{layout}{seed}")
    for number in range(20):
        groups, side = rng.choice([1, 1, 2]), rng.choice([1, 3, 3, 5])
        c, k = groups * rng.choice([3, 16, 40, 64, 70]), groups * rng.choice([1, 16, 33, 70])
        p = problem(
            f"qconv2d {rng.choice(BYTES)},{rng.choice(BYTES)},{rng.choice(OUTPUTS)},int32 {layout} "
            f"n={rng.randint(1, 2)} c={c} h={rng.choice([7, 9])} w={rng.choice([7, 11, 16, 20])} "
            f"k={k} r={side} s={rng.choice([1, side])} pad={side // 2} stride={rng.randint(1, 2)} "
            f"dilation={1 if side == 5 else rng.randint(1, 2)} groups={groups} "
            f"per_channel={rng.choice(['true', 'false'])}{rng.choice(['', ' +bias+relu'])}"
        )
        by_tiles(p, rng, seed + number)


@needs_tiles
def test_tiles_are_exact_at_the_ends_of_the_range() -> None:
    """No sum of four products saturates, and sums wrap at 32 bits, for every pair of signs."""
    for x, w in itertools.product(BYTES, BYTES):
        p = problem(f"gemm {x},{w},int32,int32 nn m=17 n=33 k=40000")
        kernel = int8.Int8Tiles("gemm")
        for a, b in itertools.product(
            *[{"int8": (-128, 127), "uint8": (0, 255)}[d] for d in (x, w)]
        ):
            out = np.empty((17, 33), np.int32)
            operands = np.full((17, 40000), a, x), np.full((40000, 33), b, w)
            kernel.build(p, kernel.default(p))(*operands, out=out)
            wanted = (40000 * a * b + 2**31) % 2**32 - 2**31
            assert set(out.ravel().tolist()) == {wanted}


@needs_tiles
def test_tiles_come_first_where_they_are_full() -> None:
    """From 16 rows and a depth of 64 on; below, and for depthwise, the other kernels do."""
    for text, best in (
        ("gemm int8,int8,int32,int32 nn m=16 n=64 k=64", int8.Int8Tiles),
        ("gemm int8,int8,int32,int32 nn m=15 n=64 k=64", int8.Int8Product),
        ("gemm int8,int8,int32,int32 nn m=16 n=64 k=63", int8.Int8Product),
        (
            "conv2d uint8,int8,int32,int32 nhwc n=1 c=64 h=9 w=9 k=64 r=9 s=9 groups=64 pad=4",
            int8.Int8Depthwise,
        ),
    ):
        p = problem(text)
        assert type(max(supporting(p), key=lambda k: k.rank(p))) is best


@needs_tiles
def test_tiles_have_arguments_of_their_own() -> None:
    """Only 16 or 32 rows, one or two tiles of columns."""
    p = problem("gemm int8,int8,int32,int32 nn m=8 n=4 k=2")
    kernel = int8.Int8Tiles("gemm")
    for tile in ("8x16", "32x48"):
        with pytest.raises(ValueError, match="16 or 32 rows"):
            kernel.build(p, kernel.default(p).replace(tile=tile))


@pytest.mark.skipif(HERE, reason="this process has tiles")
def test_without_tiles_their_kernel_says_so() -> None:
    """Nothing is chosen, and the reason names what to look at."""
    p = problem("gemm int8,int8,int32,int32 nn m=64 n=64 k=64")
    kernel = int8.Int8Tiles("gemm")
    assert "HWKIT_MAX_ISA" in str(kernel.supports(p))
    with pytest.raises(ValueError, match="AMX"):
        kernel.build(p, kernel.default(p))


def test_instruction_set_emulated() -> None:
    """The tests of tiles pass with tiles in plain C, whatever the processor is."""
    run_again(__file__, "amx", only="tiles", HWKIT_EMULATE_AMX="1")


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["scalar", "avx2"])
def test_lower_instruction_set(isa: str) -> None:
    """All of this file passes with the kernels of a lower instruction set."""
    run_again(__file__, isa)
