"""Kernels of gemm and matmul on the host, against numpy in float64."""

from __future__ import annotations

import itertools
import random
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest
from products import EPILOGUES, candidates, check, run_again

from hwkit import Config, Problem
from hwkit.dispatch import plan_problem
from hwkit.op import relative_error
from hwkit.registry import registry

registry().device("cpu:0")
from hwkit_cpu import _kernels, gemm, gemm_few_rows, tiles  # noqa: E402  # the device is first

KERNELS = [*gemm.kernels(), *gemm_few_rows.kernels()]
LAYOUTS = ("nn", "nt", "tn", "tt")


def problem(text: str) -> Problem:
    return registry().op(text.split(maxsplit=1)[0]).parse(text)


def supporting(p: Problem) -> list[Any]:
    return [k for k in KERNELS if k.op == p.op.name and k.supports(p) is True]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_edge_of_a_tile(layout: str, dtype: str) -> None:
    """Rows, columns and depths around the sizes of tiles and vectors come out right."""
    rng = random.Random(layout + dtype)
    sizes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 16, 17, 23, 24, 25, 31, 33, 40]
    for m, n in itertools.product(sizes, sizes):
        k = rng.choice(sizes)
        p = problem(f"gemm {dtype} {layout} m={m} n={n} k={k}")
        kernel = rng.choice(supporting(p))
        check(kernel, p, kernel.default(p))


@pytest.mark.parametrize("seed", range(4))
def test_random_problems_and_configs(seed: int) -> None:
    """Any Config of the space gives the right answer, with any epilogue."""
    rng = random.Random(seed)
    for _ in range(12):
        m, n, k = (rng.choice([1, 3, 6, 8, 17, 40, 64, 100, 130]) for _ in "mnk")
        p = problem(
            f"gemm {rng.choice(['float32', 'float64'])} {rng.choice(LAYOUTS)} m={m} n={n} k={k} "
            f"alpha={rng.choice([1.0, 0.5])} beta={rng.choice([0.0, 1.0, -2.0])} "
            + rng.choice(EPILOGUES)
        )
        for kernel in supporting(p):
            for config in candidates(kernel, p, rng, 2):
                check(kernel, p, config, seed)


@pytest.mark.parametrize("k", [8192, 8193, 20001])
@pytest.mark.parametrize("epilogue", ["", "alpha=0.5 beta=-2.0 +bias+residual+relu"])
def test_deep_streams(k: int, epilogue: str) -> None:
    """Sums of more terms than one pass has are put together, before the epilogue."""
    for m, nc in ((1, 48), (5, 96)):
        p = problem(f"gemm float32 nn m={m} n=101 k={k} {epilogue}".strip())
        (kernel,) = (each for each in KERNELS if each.op == "gemm" and each.name == "stream_gemm")
        assert kernel.supports(p) is True
        for threads in (1, 2):
            check(kernel, p, Config({"nc": nc, "threads": threads}))


@pytest.mark.parametrize("layout", ["tn", "tt"])
def test_few_rows_or_columns_of_a_transposed_a(layout: str) -> None:
    """Operands or the result are transposed, by any number of threads and after any epilogue."""
    rng = random.Random(layout)
    few = [1, 2, 3, 5, 16, 33, 96]
    for m, n in [(rng.randint(90, 300), n) for n in few] + [(m, rng.randint(90, 300)) for m in few]:
        dtype, k = rng.choice(["float32", "float64"]), rng.choice([1, 7, 40, 130])
        p = problem(f"gemm {dtype} {layout} m={m} n={n} k={k} beta=0.5 {rng.choice(EPILOGUES)}")
        for kernel in supporting(p):
            for config in candidates(kernel, p, rng, 3):
                check(kernel, p, config)
    for text in ("m=70 n=1 k=8200", "m=70 n=3 k=8200", "m=3 n=70 k=8200"):
        p = problem(f"gemm float32 {layout} {text} +bias+relu")
        for kernel in supporting(p):
            check(kernel, p, kernel.default(p))


def test_narrow_results_are_not_left_to_packed_panels() -> None:
    """What vectors of columns would leave mostly empty has a kernel of its own, in any layout."""
    for text, name in (
        ("gemm float32 tn m=1000 n=1 k=1000", "stream_gemm"),
        ("gemm float32 tt m=1000 n=8 k=1000", "stream_gemm"),
        ("gemm float32 tn m=2 n=1000 k=1000", "stream_gemm"),
        ("gemm float32 tt m=2 n=1000 k=1000", "dot_gemm"),
        ("gemm float32 nn m=1000 n=2 k=1000", "dot_gemm"),
        ("matmul float32 b=16 m=100 n=1 k=100", "dot_gemm"),
        ("matmul float32 b=16 m=64 n=2 k=100", "dot_gemm"),
    ):
        assert plan_problem(text, records=False).kernel.name == name, text


@pytest.mark.parametrize("text", ["float32 nn m=4 n=24 k=16000", "float32 nt m=3 n=17 k=50000"])
def test_deep_sums_are_within_their_bound(text: str) -> None:
    """What a kernel says of its rounding holds for deep sums, by which tolerances choose."""
    p = problem("gemm " + text)
    operands = p.random_operands()
    wanted = p.reference(*(a.astype(np.float64) for a in operands))
    for kernel in supporting(p):
        for config in candidates(kernel, p, random.Random(0), 2):
            out = np.empty(p.output.shape, p.output.dtype)
            kernel.build(p, config)(*operands, out=out)
            bound = kernel.error_bound(p, config)
            assert bound / 10 < relative_error(out, wanted) <= bound, (kernel, config)
            if kernel.name in ("packed_gemm", "stream_gemm"):
                assert bound < p.error_budget() / 2


def test_deep_sums_are_cut_into_blocks() -> None:
    """9000 terms would round more than 1e-6 as one sum, and round less as sums of blocks."""
    p = problem("gemm float32 nn m=4 n=24 k=9000")
    (unpacked,) = (k for k in supporting(p) if k.name == "unpacked_gemm")
    plan = plan_problem("gemm float32 nn m=4 n=24 k=9000", tolerance=1e-6)
    operands = p.random_operands()
    wanted = p.reference(*(a.astype(np.float64) for a in operands))
    for kernel, config in ((unpacked, unpacked.default(p)), (plan.kernel, plan.config)):
        out = np.empty(p.output.shape, p.output.dtype)
        kernel.build(p, config)(*operands, out=out)
        assert relative_error(out, wanted) < kernel.error_bound(p, config) < 1e-6


@pytest.mark.parametrize("b", [1, 2, 5])
def test_batches(b: int) -> None:
    """A batch of products is right, also with fewer matrices than threads."""
    rng = random.Random(b)
    for n in (19, 2, 1):
        p = problem(f"matmul float32 b={b} m=7 n={n} k=33")
        for kernel in supporting(p):
            for config in candidates(kernel, p, rng, 3):
                check(kernel, p, config)


@pytest.mark.parametrize("shared", [0, 1])
def test_batches_that_share_an_operand(shared: int) -> None:
    """One matrix for the whole batch is read again for each product."""
    rng = np.random.default_rng(shared)
    a = rng.standard_normal((1 if shared == 0 else 6, 9, 20), np.float32)
    b = rng.standard_normal((1 if shared == 1 else 6, 20, 35), np.float32)
    p = registry().op("matmul").problem(a, b)
    for kernel in supporting(p):
        out = np.empty((6, 9, 35), np.float32)
        kernel.build(p, kernel.default(p))(a, b, out=out)
        np.testing.assert_allclose(out, np.matmul(a, b), rtol=1e-4, atol=1e-5)


def test_blocks_larger_than_one() -> None:
    """Several blocks of depth, rows and columns add up, packed or not."""
    p = problem("gemm float32 nn m=150 n=200 k=700 beta=1.0 +bias+relu")
    kernel = gemm.PackedGemm("gemm")
    base = kernel.default(p)
    for pack, threads in itertools.product((False, True), tiles.thread_ladder(False)):
        check(kernel, p, base.replace(kc=128, mc=48, nc=96, pack_a=pack, threads=threads))


@pytest.mark.parametrize(
    "name", ["relu", "relu6", "sigmoid", "silu", "hard_swish", "leaky_relu:0.1"]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_and_infinity_go_where_numpy_sends_them(name: str, dtype: str) -> None:
    """NaN and infinities of the accumulator leave every activation as in the reference."""
    p = problem(f"gemm {dtype} nn m=8 n=33 k=1 +{name}")
    values = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 88.8, -88.8, -110.0, 1e-30, 750.0]
    b = np.resize(np.array(values, dtype), (1, 33))
    a = np.ones((8, 1), dtype)
    for kernel in supporting(p):
        out = np.empty((8, 33), dtype)
        kernel.build(p, kernel.default(p))(a, b, out=out)
        wanted = p.reference(a.astype(np.float64), b.astype(np.float64))
        tiny = float(np.finfo(dtype).tiny)
        np.testing.assert_allclose(out, wanted, rtol=1e-6, atol=2 * tiny, err_msg=repr(kernel))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sigmoid_is_accurate_everywhere(dtype: str) -> None:
    """The vectorised sigmoid stays within a few units of the last place."""
    p = problem(f"gemm {dtype} nn m=1 n=20001 k=1 +sigmoid")
    x = np.linspace(-80, 80, 20001).astype(dtype).reshape(1, -1)
    kernel = gemm.PackedGemm("gemm")
    out = np.empty_like(x)
    kernel.build(p, kernel.default(p))(np.ones((1, 1), dtype), x, out=out)
    wide = x.astype(np.longdouble)
    wanted = 1 / (1 + np.exp(-wide))
    assert float(np.abs(out / wanted - 1).max()) < (4e-7 if dtype == "float32" else 1e-15)


def test_infinite_operands_do_not_leak() -> None:
    """An infinity in one row or column stays in that row and column."""
    a, b = np.ones((13, 21), np.float32), np.ones((21, 37), np.float32)
    a[5, 3], b[7, 11] = np.inf, np.nan
    p = problem("gemm float32 nn m=13 n=37 k=21")
    with np.errstate(invalid="ignore"):  # whether numpy warns depends on the processor
        wanted = a @ b
    for kernel in supporting(p):
        out = np.empty((13, 37), np.float32)
        kernel.build(p, kernel.default(p))(a, b, out=out)
        np.testing.assert_array_equal(out, wanted)


def test_direct_declines_what_it_cannot_take() -> None:
    """Other shapes, dtypes, orders, overlaps and lists are left to the general path."""
    p = problem("gemm float32 nn m=8 n=8 k=8")
    run: Any = gemm.PackedGemm("gemm").build(p, gemm.PackedGemm("gemm").default(p))
    a, b, out = (np.ones((8, 8), np.float32) for _ in range(3))
    assert run.direct((a, b), out) is out
    assert run.direct((a, b), None).dtype == np.float32
    frozen = out.copy()
    frozen.flags.writeable = False
    swapped = a.astype(">f4")
    cases = [
        ((a,), out),
        ((a, b[:4]), out),
        ((a.astype(np.float64), b), out),
        ((np.asfortranarray(a), b), out),
        ((swapped, b), out),
        ((a.tolist(), b), out),
        ((a.view(np.matrix), b), out),
        ((a, b), frozen),
        ((a, out), out),
        ((a, b), out.reshape(64)),
    ]
    for operands, target in cases:
        assert run.direct(operands, target) is NotImplemented


def test_run_explains_what_it_takes() -> None:
    """A call with the wrong arrays names the right ones."""
    p = problem("gemm float32 nn m=8 n=4 k=2")
    run: Any = gemm.PackedGemm("gemm").build(p, gemm.PackedGemm("gemm").default(p))
    with pytest.raises(ValueError, match=r"float32 \(8, 2\), float32 \(2, 4\)"):
        run(np.ones(3), np.ones(4), out=np.ones((8, 4), np.float32))


def test_the_compiled_module_checks_its_arguments() -> None:
    """Tiles and blocks that do not exist are refused before anything is built."""
    p = problem("gemm float32 nn m=8 n=4 k=2")
    kernel = gemm.PackedGemm("gemm")
    with pytest.raises(ValueError, match="no tile"):
        kernel.build(p, Config({**kernel.default(p), "tile": "99x16"}))
    with pytest.raises(ValueError, match="at least 1"):
        kernel.build(p, Config({**kernel.default(p), "kc": 0}))


def test_every_tile_of_the_table_is_right() -> None:
    """Each micro-kernel of this instruction set computes its whole tile and each tail."""
    for dtype, double in (("float32", False), ("float64", True)):
        shapes, vector, _ = _kernels.tiles(double)
        for rows, vectors in shapes:
            width = vectors * vector
            for n in (2 * width, 2 * width + max(width - 1, 1)):
                p = problem(f"gemm {dtype} nn m={rows} n={n} k=19 +bias+relu")
                for kernel in (gemm.PackedGemm("gemm"), gemm.UnpackedGemm("gemm")):
                    tile = tiles.tile_text((rows, vectors), double)
                    check(kernel, p, Config({**kernel.default(p), "tile": tile}))


def test_nothing_leaks_between_instruction_sets() -> None:
    """No weak function is in the compiled module: the linker might keep the copy of another ISA."""
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm is not installed: apt-get install binutils")
    for option in ("--defined-only", "-D"):
        done = subprocess.run(
            [nm, option, _kernels.__file__], capture_output=True, text=True, check=False
        )
        assert not [line for line in done.stdout.splitlines() if " W " in line]


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["scalar", "avx2"])
def test_lower_instruction_set(isa: str) -> None:
    """All of this file passes with the kernels of a lower instruction set."""
    run_again(__file__, isa)
