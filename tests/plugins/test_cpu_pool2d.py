"""The pooling kernels against the float64 references and torch."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from products import check_apart

from hwkit import Kernel, Problem
from hwkit.dispatch import plan_problem
from hwkit.op import relative_error
from hwkit.registry import registry

WINDOWS = ("max_pool2d", "avg_pool2d")
GLOBALS = ("global_max_pool2d", "global_avg_pool2d")


def kernel_of(op: str) -> Kernel:
    """Return the pooling kernel of an Op."""
    found = registry().kernels(registry().device("cpu:0"), op)
    return next(k for k in found if k.name == "pool2d")


def random_problem(op: str, rng: random.Random) -> Problem:
    """Return a small problem in which the window fits."""
    layout, dtype = rng.choice(("nchw", "nhwc")), rng.choice(("float32", "float64"))
    n, c = rng.randint(1, 2), rng.choice((1, 3, 8, 17, 33, 70))
    if op in GLOBALS:
        h, w = rng.randint(1, 20), rng.randint(1, 20)
        return registry().op(op).parse(f"{op} {dtype} {layout} n={n} c={c} h={h} w={w}")
    r, sy, dy = rng.choice((1, 2, 3, 3, 5, 9)), rng.randint(1, 3), rng.choice((1, 1, 2))
    s, sx, dx = rng.choice((r, 3)), rng.choice((sy, rng.randint(1, 4))), rng.choice((dy, 1))
    pad = [rng.choice((0, 1, 1, 2, 3)) for _ in range(4)]
    h = max(dy * (r - 1) + 1 - pad[0] - pad[1], 1) + rng.randint(0, 15)
    w = max(dx * (s - 1) + 1 - pad[2] - pad[3], 1) + rng.randint(0, 30)
    more = f" ceil_mode={rng.choice(('true', 'false'))}"
    if op == "avg_pool2d":
        more += f" count_include_pad={rng.choice(('true', 'false'))}"
    return (
        registry()
        .op(op)
        .parse(
            f"{op} {dtype} {layout} n={n} c={c} h={h} w={w} r={r} s={s} "
            f"pad={','.join(map(str, pad))} stride={sy},{sx} dilation={dy},{dx}{more}"
        )
    )


def compute(kernel: Kernel, problem: Problem, config: Any, x: Any) -> Any:
    """Return the answer of one config, into memory full of NaN."""
    out = np.full(problem.output.shape, np.nan, problem.output.dtype)
    run: Any = kernel.build(problem, config)
    run(x, out=out)
    check_apart(run, (x,), out)
    return out


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("op", WINDOWS + GLOBALS)
def test_any_config_is_right(op: str, seed: int) -> None:
    """The default and two random configs agree with the reference, with NaN and infinities too."""
    rng, kernel = random.Random(seed), kernel_of(op)
    problem = random_problem(op, rng)
    space, default = kernel.space(problem), kernel.default(problem)
    assert kernel.supports(problem) is True
    assert space.why_not(default) is None
    (x,) = problem.random_operands(seed)
    if seed % 2:
        x.flat[np.random.default_rng(seed).integers(0, x.size, 3)] = np.nan, np.inf, -np.inf
    want = problem.reference(x.astype(np.float64))
    for config in (default, space.sample(rng), space.sample(rng)):
        got = compute(kernel, problem, config, x)
        assert relative_error(got, want) <= problem.error_budget(), config


@pytest.mark.parametrize("op", ["max_pool2d", "avg_pool2d"])
def test_a_plan_that_holds_nothing_writes_into_a_wider_array(op: str) -> None:
    """Packing no constants gives a plan that answers as the first one, wherever the result goes."""
    plan = plan_problem(f"{op} float32 nhwc n=2 c=8 h=9 w=9 r=3 s=3 pad=1 stride=2")
    (x,) = plan.problem.random_operands()
    wide = np.full((2, 5, 5, 20), 7, np.float32)
    part = wide[..., 4:12]
    assert plan.prepack()(x, out=part) is part
    assert np.array_equal(part, plan(x))
    part.fill(7)
    assert (wide == 7).all()


@pytest.mark.parametrize(("s", "stride"), [(2, 2), (3, 1), (3, 2)])
@pytest.mark.parametrize("op", ["max_pool2d", "avg_pool2d"])
def test_images_of_any_width_are_read_in_place(op: str, s: int, stride: int) -> None:
    """Rows of every width, in pairs of planes and alone, agree with the reference, NaN included."""
    kernel = kernel_of(op)
    for width in range(s, 71):
        rng = random.Random(f"{op} {s} {stride} {width}")
        pad = ",".join(str(rng.randint(0, s - 1)) for _ in range(4))
        problem = (
            registry()
            .op(op)
            .parse(
                f"{op} {rng.choice(('float32', 'float64'))} nchw n={rng.randint(1, 2)} "
                f"c={rng.randint(1, 7)} h={rng.randint(s, 12)} w={width} r={s} s={s} pad={pad} "
                f"stride={stride}"
            )
        )
        (x,) = problem.random_operands(width)
        if width % 3 == 0:
            x.flat[[rng.randrange(x.size), rng.randrange(x.size)]] = np.nan, np.inf
        config = kernel.space(problem).sample(rng).replace(transpose=False)
        got = compute(kernel, problem, config, x)
        want = problem.reference(x.astype(np.float64))
        assert np.allclose(got, want, rtol=1e-5, atol=1e-6, equal_nan=True), (problem, config)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_nan_anywhere_in_a_window_wins(layout: str) -> None:
    """NaN is the maximum wherever in the window it lies, before and behind greater numbers."""
    op = registry().op("max_pool2d")
    problem = op.parse(f"max_pool2d float32 {layout} n=1 c=9 h=6 w=6 r=3 s=3 pad=0 stride=3")
    kernel = kernel_of("max_pool2d")
    for place in range(36):
        x = np.arange(36 * 9, dtype=np.float32)
        x = x.reshape((1, 9, 6, 6) if layout == "nchw" else (1, 6, 6, 9))
        pixel = np.unravel_index(place, (6, 6))
        x[(0, 4, *pixel) if layout == "nchw" else (0, *pixel, 4)] = np.nan
        got = compute(kernel, problem, kernel.default(problem), x)
        assert np.isnan(got).sum() == 1
        assert np.array_equal(got, problem.reference(x), equal_nan=True)


@pytest.mark.parametrize("op", GLOBALS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("c", [4, 8, 15, 16, 17, 31, 50])
def test_short_images_keep_their_channels_apart(op: str, dtype: str, c: int) -> None:
    """Channels that are reduced together: NaN and infinities reach their own results alone."""
    rng = np.random.default_rng(c)
    for h, w in ((1, 1), (2, 2), (3, 5), (4, 4), (7, 7), (8, 16), (5, 13)):
        problem = registry().op(op).parse(f"{op} {dtype} nchw n=2 c={c} h={h} w={w}")
        x = rng.uniform(-2, -1, (2, c, h * w)).astype(dtype)
        x[0, rng.integers(c), rng.integers(h * w)] = np.nan
        x[1, rng.integers(c), :] = -np.inf
        x[1, 0, -1] = np.inf
        x = x.reshape(2, c, h, w)
        kernel = kernel_of(op)
        got = compute(kernel, problem, kernel.default(problem), x)
        wanted = problem.reference(x.astype(np.float64))
        if op == "global_max_pool2d":
            assert np.array_equal(got, wanted, equal_nan=True)
        else:
            np.testing.assert_allclose(got, wanted, rtol=1e-6)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_a_mean_of_a_million_stays_exact(layout: str, offset: float) -> None:
    """A long sum in float32 keeps the budget, around zero and away from it."""
    op = registry().op("global_avg_pool2d")
    problem = op.parse(f"global_avg_pool2d float32 {layout} n=1 c=4 h=1000 w=1000")
    x = problem.random_operands()[0] + np.float32(offset)
    kernel = kernel_of("global_avg_pool2d")
    got = compute(kernel, problem, kernel.default(problem), x)
    assert relative_error(got, problem.reference(x.astype(np.float64))) <= problem.error_budget()


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_large_window_stays_exact(layout: str) -> None:
    """A window of 90 000 elements keeps the budget."""
    op = registry().op("avg_pool2d")
    problem = op.parse(
        f"avg_pool2d float32 {layout} n=1 c=5 h=300 w=300 r=300 s=300 pad=0 stride=1"
    )
    x = problem.random_operands()[0] + np.float32(1)
    kernel = kernel_of("avg_pool2d")
    got = compute(kernel, problem, kernel.default(problem), x)
    assert relative_error(got, problem.reference(x.astype(np.float64))) <= problem.error_budget()


@pytest.mark.parametrize("op", WINDOWS)
def test_they_agree_with_torch(op: str) -> None:
    """Windows with padding and ceil_mode give what torch gives."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    problem = (
        registry()
        .op(op)
        .parse(f"{op} float32 nchw n=2 c=6 h=23 w=30 r=3 s=3 pad=1 stride=2 ceil_mode=true")
    )
    (x,) = problem.random_operands(3)
    function = getattr(torch.nn.functional, op)
    want = function(torch.from_numpy(x), 3, 2, 1, ceil_mode=True).numpy()
    kernel = kernel_of(op)
    got = compute(kernel, problem, kernel.default(problem), x)
    assert relative_error(got, want) <= max(problem.error_budget(), 1e-30)


def test_a_stride_that_needs_too_much_memory_is_declined() -> None:
    """A line buffer beyond reason is refused with a sentence, and the reference takes over."""
    from hwkit.dispatch import selection

    text = f"max_pool2d float32 nchw n=1 c=1 h=3 w=3 r=1 s=1 pad=0 stride=1,{1 << 40}"
    problem = registry().op("max_pool2d").parse(text)
    assert "scratch" in str(kernel_of("max_pool2d").supports(problem))
    assert selection(problem, "cpu:0").kernel.name == "reference"
