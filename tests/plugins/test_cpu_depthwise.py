"""The depthwise kernel against the float64 reference and torch."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
from products import check_apart

from hwkit import Kernel, Problem
from hwkit.op import relative_error
from hwkit.ops.conv2d import CONV2D
from hwkit.registry import registry
from hwkit.selection import select

registry().device("cpu:0")
from hwkit_cpu.tiles import facts  # noqa: E402  # the device says first if it is missing

EPILOGUES = (
    "",
    " +bias",
    " +bias+residual+relu",
    " +relu6",
    " +bias+leaky_relu:0.125",
    " +sigmoid",
    " +residual+hard_swish",
    " +bias+silu",
    " +clip:-0.5,0.25",
)


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    """The kernel, from the registry, as everybody gets it."""
    found = registry().kernels(registry().device("cpu:0"), "conv2d")
    return next(k for k in found if k.name == "depthwise")


def random_problem(rng: random.Random) -> Problem:
    """Return a small depthwise problem in which the window fits."""
    c, m, r = (
        rng.choice((1, 2, 3, 7, 8, 16, 17, 40)),
        rng.choice((1, 1, 1, 2, 3)),
        rng.choice((1, 2, 3, 3, 5)),
    )
    s, sy, dy = rng.choice((r, r, 3)), rng.randint(1, 3), rng.choice((1, 1, 2))
    sx, dx = rng.choice((sy, rng.randint(1, 3))), rng.choice((dy, 1))
    pad = [rng.choice((0, 1, 1, 2, 3)) for _ in range(4)]
    h = max(dy * (r - 1) + 1 - pad[0] - pad[1], 1) + rng.randint(0, 12)
    w = max(dx * (s - 1) + 1 - pad[2] - pad[3], 1) + rng.randint(0, 25)
    return CONV2D.parse(
        f"conv2d {rng.choice(('float32', 'float64'))} {rng.choice(('nchw', 'nhwc'))} "
        f"n={rng.randint(1, 2)} c={c} h={h} w={w} k={c * m} r={r} s={s} "
        f"pad={','.join(map(str, pad))} stride={sy},{sx} dilation={dy},{dx} groups={c}"
        f"{rng.choice(EPILOGUES)}"
    )


def compute(kernel: Kernel, problem: Problem, config: Any, operands: Any) -> Any:
    """Return the answer of one config, into memory full of NaN."""
    out = np.full(problem.output.shape, np.nan, problem.output.dtype)
    run: Any = kernel.build(problem, config)
    run(*operands, out=out)
    check_apart(run, operands, out)
    return out


@pytest.mark.parametrize("seed", range(60))
def test_any_config_is_right(kernel: Kernel, seed: int) -> None:
    """The default and three random configs agree with the reference."""
    rng = random.Random(seed)
    problem = random_problem(rng)
    assert kernel.supports(problem) is True
    space, default = kernel.space(problem), kernel.default(problem)
    assert space.why_not(default) is None
    operands = problem.random_operands(seed)
    want = problem.reference(*(a.astype(np.float64) for a in operands))
    for config in (default, *(space.sample(rng) for _ in range(3))):
        got = compute(kernel, problem, config, operands)
        assert relative_error(got, want) <= problem.error_budget(), config


def grouped_problem(rng: random.Random) -> Problem:
    """Return a small problem whose groups have 2, 4 or 8 channels."""
    mix = rng.choice((2, 4, 8))
    c, r, s = mix * rng.randint(1, 20), rng.randint(1, 3), rng.randint(1, 5)
    stride, dilation = rng.randint(1, 2), rng.choice((1, 1, 2))
    pad = [rng.choice((0, 1, 2)) for _ in range(4)]
    h, w = dilation * r + rng.randint(0, 9), dilation * s + rng.randint(0, 25)
    dtype = rng.choice(("float32", "float64", "float16", "bfloat16"))
    return CONV2D.parse(
        f"conv2d {dtype} {rng.choice(('nchw', 'nhwc'))} n={rng.randint(1, 2)} c={c} h={h} w={w} "
        f"k={c} r={r} s={s} pad={','.join(map(str, pad))} stride={stride} dilation={dilation} "
        f"groups={c // mix}{rng.choice(EPILOGUES)}"
    )


@pytest.mark.parametrize("seed", range(60))
def test_groups_of_few_channels(seed: int) -> None:
    """The default and three random configs agree with the reference, in all dtypes."""
    rng = random.Random(seed)
    problem = grouped_problem(rng)
    kernels = registry().kernels(registry().device("cpu:0"), "conv2d")
    able = [k for k in kernels if k.name.startswith("few_channels") and k.supports(problem) is True]
    mix, vector = problem["c"] // problem["groups"], facts(problem.dtypes.input == "float64").vector
    assert len(able) == (mix <= vector)
    operands = problem.random_operands(seed)
    want = problem.reference(*(a.astype(np.float64) for a in operands))
    for kernel in able:
        space, default = kernel.space(problem), kernel.default(problem)
        assert space.why_not(default) is None
        for config in (default, *(space.sample(rng) for _ in range(3))):
            got = compute(kernel, problem, config, operands)
            assert relative_error(got.astype(np.float64), want) <= problem.error_budget(), config
            run: Any = kernel.build(problem, config)
            held = run.prepack({1: operands[1].copy()})
            held(operands[0], *operands[2:], out=(again := np.empty_like(got)))
            assert np.array_equal(again, got)


def test_groups_of_few_channels_come_first() -> None:
    """A layer of ResNeXt takes the kernel for them, one of larger groups a product."""
    device = registry().device("cpu:0")
    kernels = registry().kernels(device, "conv2d")
    text = "conv2d float32 nhwc n=1 c=128 h=14 w=14 k=128 r=3 s=3 pad=1 groups="
    for groups, few in ((32, facts(False).vector >= 4), (4, False)):
        chosen = select(CONV2D.parse(f"{text}{groups}"), device, kernels, []).kernel.name
        assert chosen.startswith("few_channels") == few


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_threads_do_not_change_a_bit(kernel: Kernel, layout: str) -> None:
    """One thread and all threads give the same answer."""
    problem = CONV2D.parse(
        f"conv2d float32 {layout} n=2 c=24 h=40 w=37 k=24 r=3 s=3 pad=1 stride=1 groups=24 +bias"
    )
    operands, default = problem.random_operands(), kernel.default(problem)
    one = compute(kernel, problem, default.replace(threads=1), operands)
    assert np.array_equal(one, compute(kernel, problem, default.replace(rows=2), operands))
    assert kernel.deterministic(problem, default)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_prepacked_weights_are_a_copy(kernel: Kernel, layout: str) -> None:
    """A prepacked run answers alike, keeps its own weights, and can be packed further."""
    problem = CONV2D.parse(
        f"conv2d float64 {layout} n=1 c=9 h=8 w=9 k=18 r=3 s=3 pad=1 stride=1 groups=9 "
        "+bias+residual+relu"
    )
    x, w, bias, residual = problem.random_operands()
    run: Any = kernel.build(problem, kernel.default(problem))
    want, got = np.empty(problem.output.shape), np.empty(problem.output.shape)
    run(x, w, bias, residual, out=want)
    packed = run.prepack({1: w.copy()})
    packed(x, bias, residual, out=got)
    assert np.array_equal(got, want)
    further = packed.prepack({1: bias})
    del run, packed
    further(x, residual, out=got)
    assert np.array_equal(got, want)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("s", [3, 5])
def test_images_of_any_width_are_read_in_place(kernel: Kernel, s: int, stride: int) -> None:
    """Rows of every width, in pairs of planes and alone, agree with the reference."""
    for width in range(1, 71):
        rng = random.Random(f"{s} {stride} {width}")
        c, m = rng.randint(1, 9), rng.choice((1, 1, 2, 3))
        pad = [rng.choice((s // 2, 0, 1, s + 1)) for _ in range(4)]
        pad[3] = max(pad[3], s - width - pad[2])
        height = max(1, s - pad[0] - pad[1]) + rng.randint(0, 9)
        problem = CONV2D.parse(
            f"conv2d {rng.choice(('float32', 'float32', 'float64'))} nchw n={rng.randint(1, 2)} "
            f"c={c} h={height} w={width} k={c * m} r={s} s={s} pad={','.join(map(str, pad))} "
            f"stride={stride} groups={c}{rng.choice(EPILOGUES)}"
        )
        operands = problem.random_operands(width)
        want = problem.reference(*(a.astype(np.float64) for a in operands))
        space = kernel.space(problem)
        for _ in range(2):
            config = space.sample(rng).replace(transpose=False)
            got = compute(kernel, problem, config, operands)
            assert relative_error(got, want) <= problem.error_budget(), (problem, config)


def test_nothing_beside_the_image_is_read_or_written(kernel: Kernel) -> None:
    """NaN around the operands reach no result, and what lies around the result stays."""
    for width, stride, s in itertools.product((2, 5, 7, 8, 13, 16, 17, 33), (1, 2), (3, 5)):
        problem = CONV2D.parse(
            f"conv2d float32 nchw n=1 c=3 h=6 w={width} k=3 r={s} s={s} pad={s // 2} "
            f"stride={stride} groups=3 +bias+residual"
        )
        operands = [surrounded(a) for a in problem.random_operands()]
        want = problem.reference(*(a.astype(np.float64) for a in operands))
        config = kernel.default(problem).replace(transpose=False)
        out = surrounded(np.zeros(problem.output.shape, np.float32))
        run: Any = kernel.build(problem, config)
        run(*operands, out=out)
        assert relative_error(out, want) <= problem.error_budget(), problem
        assert np.isnan(out.base[:_AROUND]).all()
        assert np.isnan(out.base[-_AROUND:]).all()


_AROUND = 32


def surrounded(array: Any) -> Any:
    """Return a copy between NaN."""
    room = np.full(array.size + 2 * _AROUND, np.nan, array.dtype)
    inner = room[_AROUND:-_AROUND].reshape(array.shape)
    inner[...] = array
    return inner


@pytest.mark.parametrize("width", [7, 21])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_infinities_and_nan_go_where_the_reference_sends_them(
    kernel: Kernel, layout: str, width: int
) -> None:
    """Zeros of the padding meet infinite weights, and NaN reaches every window that covers it."""
    problem = CONV2D.parse(
        f"conv2d float32 {layout} n=1 c=8 h=9 w={width} k=8 r=3 s=3 pad=1 stride=1 groups=8 +relu"
    )
    x, w = problem.random_operands()
    x.flat[[3, 200]] = np.nan, np.inf
    w.flat[[0, 40]] = np.inf, -np.inf
    got = compute(kernel, problem, kernel.default(problem), (x, w))
    want = problem.reference(x.astype(np.float64), w.astype(np.float64))
    assert np.isnan(want).any()
    assert np.array_equal(np.isnan(got), np.isnan(want))
    assert np.array_equal(np.isinf(got), np.isinf(want))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_it_agrees_with_torch(kernel: Kernel, layout: str, stride: int) -> None:
    """A layer of MobileNetV1 gives what torch gives."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    problem = CONV2D.parse(
        f"conv2d float32 nchw n=1 c=32 h=28 w=28 k=32 r=3 s=3 pad=1 stride={stride} groups=32 +bias"
    )
    x, w, bias = problem.random_operands(5)
    want = torch.nn.functional.conv2d(*map(torch.from_numpy, (x, w, bias)), stride, 1, 1, 32)
    want = want.numpy()
    if layout == "nhwc":
        problem = CONV2D.parse(str(problem).replace("nchw", "nhwc"))
        x, w, want = (np.ascontiguousarray(a.transpose(0, 2, 3, 1)) for a in (x, w, want))
    got = compute(kernel, problem, kernel.default(problem), (x, w, bias))
    assert relative_error(got, want) < 2e-6


@pytest.mark.parametrize(
    ("change", "reason"),
    [("groups=8", "groups=16"), ("float16", "float32 or float64"), ("n=0", "nothing to compute")],
)
def test_it_says_why_it_declines(kernel: Kernel, change: str, reason: str) -> None:
    """Each refusal is a sentence with its reason."""
    text = "conv2d float32 nchw n=1 c=16 h=9 w=9 k=16 r=3 s=3 pad=1 stride=1 groups=16"
    word = change.partition("=")[0] + "=" if "=" in change else "float32"
    words = [change if w.startswith(word) else w for w in text.split()]
    answer = kernel.supports(CONV2D.parse(" ".join(words)))
    assert isinstance(answer, str)
    assert reason in answer


def test_it_comes_before_matrix_products() -> None:
    """Without a record, a depthwise problem runs on this kernel."""
    from hwkit.dispatch import selection

    problem = "conv2d float32 nhwc n=1 c=32 h=14 w=14 k=32 r=3 s=3 pad=1 stride=1 groups=32"
    assert selection(problem, "cpu:0").kernel.name == "depthwise"
