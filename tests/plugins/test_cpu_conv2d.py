"""Kernels of conv2d on the host that are matrix products, against numpy in float64."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
from products import EPILOGUES, candidates, check, run_again

from hwkit import Problem
from hwkit.registry import registry

registry().device("cpu:0")
from hwkit_cpu import conv2d, conv2d_dot, tiles  # noqa: E402  # the device says first if it is missing

KERNELS = [*conv2d.kernels(), *conv2d_dot.kernels()]


def problem(text: str) -> Problem:
    return registry().op("conv2d").parse("conv2d " + text)


def supporting(p: Problem) -> list[Any]:
    return [k for k in KERNELS if k.supports(p) is True]


def random_text(rng: random.Random) -> str:
    """Write a small problem with any attribute that there is."""
    groups = rng.choice([1, 1, 1, 2, 3])
    c, k = groups * rng.choice([1, 2, 3, 8, 17, 32]), groups * rng.choice([1, 2, 5, 16, 33])
    if rng.random() < 0.1:
        groups, k = c, c * rng.choice([1, 2])
    r, s = rng.choice([1, 1, 3, 5, 2]), rng.choice([1, 1, 3, 7, 2])
    dy, dx = rng.choice([1, 1, 2]), rng.choice([1, 1, 3])
    h, w = rng.randint(1, 18), rng.randint(1, 18)
    pad = [rng.choice([0, 1, 2, 9]) for _ in range(4)]
    pad[0] += max(0, (r - 1) * dy + 1 - h - pad[0] - pad[1])
    pad[3] += max(0, (s - 1) * dx + 1 - w - pad[2] - pad[3])
    return (
        f"{rng.choice(['float32', 'float64'])} {rng.choice(['nchw', 'nhwc'])} n={rng.randint(1, 2)}"
        f" c={c} h={h} w={w} k={k} r={r} s={s} pad={','.join(map(str, pad))} "
        f"stride={rng.randint(1, 3)},{rng.randint(1, 3)} dilation={dy},{dx} groups={groups} "
        + rng.choice(EPILOGUES)
    )


def test_few_output_channels_are_dot_products() -> None:
    """Any number of channels in and out, shared by any threads; the default for few of them."""
    rng = random.Random(11)
    (kernel,) = conv2d_dot.kernels()
    for c in range(1, 71):
        dtype, k = rng.choice(["float32", "float64"]), rng.randint(1, 9)
        sizes = f"n={rng.randint(1, 2)} c={c} h={rng.randint(1, 9)} w={rng.randint(1, 9)} k={k}"
        p = problem(f"{dtype} nhwc {sizes} r=1 s=1 " + rng.choice(EPILOGUES))
        for config in candidates(kernel, p, rng, 2):
            check(kernel, p, config, c)
    few = problem("float32 nhwc n=1 c=64 h=128 w=128 k=2 r=1 s=1")
    assert kernel.rank(few) == max(k.rank(few) for k in KERNELS) > 0
    assert kernel.supports(problem("float32 nchw n=1 c=64 h=9 w=9 k=2 r=1 s=1")) is not True


def test_windows_with_few_output_channels_are_dot_products() -> None:
    """Any number of channels in and out, windows that meet the padding anywhere, groups."""
    rng = random.Random(12)
    (kernel,) = conv2d_dot.kernels()
    for c in range(1, 71):
        dtype, groups, k = (
            rng.choice(["float32", "float64"]),
            rng.choice([1, 1, 2]),
            rng.randint(1, 8),
        )
        r, s, h, w = rng.randint(1, 5), rng.randint(1, 5), rng.randint(1, 12), rng.randint(1, 40)
        dilation, pad = rng.choice([1, 1, 2, 9]), rng.randint(0, 4)
        if min(h + 2 * pad - (r - 1) * dilation, w + 2 * pad - (s - 1) * dilation) < 1:
            pad = 4 * dilation
        p = problem(
            f"{dtype} nhwc n={rng.randint(1, 2)} c={c * groups} h={h} w={w} k={k * groups} r={r} "
            f"s={s} pad={pad} stride={rng.randint(1, 3)} dilation={dilation} groups={groups} "
            + rng.choice(EPILOGUES)
        )
        for config in candidates(kernel, p, rng, 2):
            check(kernel, p, config, c)
    few = problem("float32 nhwc n=1 c=64 h=112 w=112 k=3 r=3 s=3 pad=1 stride=1")
    assert kernel.rank(few) == max(k.rank(few) for k in KERNELS) > 0


def test_out_may_be_part_of_a_wider_array() -> None:
    """With channels last and no residual; what overlaps, or is laid out otherwise, is copied."""
    kernel = next(k for k in KERNELS if k.name == "direct_conv2d")
    p = problem("float32 nhwc n=2 c=8 h=6 w=5 k=8 r=3 s=3 pad=1 stride=1 +bias")
    x, w, bias = p.random_operands(0)
    run: Any = kernel.build(p, kernel.default(p))
    assert run.out_apart
    want = run.direct((x, w, bias), None)
    wide = np.zeros((2, 6, 5, 24), np.float32)
    assert run.direct((x, w, bias), wide[..., 8:16]) is not NotImplemented
    assert np.array_equal(wide[..., 8:16], want)
    assert not wide[..., :8].any()
    assert not wide[..., 16:].any()
    for out in (wide[..., 1:17:2], wide[..., 15:7:-1], wide[:, ::-1, :, :8]):
        assert run.direct((x, w, bias), out) is NotImplemented
    inside = wide.reshape(-1)[20 : 20 + x.size].reshape(x.shape)
    assert run.direct((inside, w, bias), wide[..., 8:16]) is NotImplemented
    for more in ("nchw n=2 c=8 h=6 w=5", "nhwc n=2 c=8 h=6 w=5"):
        other = problem(f"float32 {more} k=8 r=3 s=3 pad=1 stride=1 +residual")
        built: Any = kernel.build(other, kernel.default(other))
        assert not built.out_apart


@pytest.mark.parametrize("seed", range(6))
def test_random_problems_and_configs(seed: int) -> None:
    """Any Config of the space gives the right answer for any geometry and epilogue."""
    rng = random.Random(seed)
    for _ in range(12):
        p = problem(random_text(rng))
        for kernel in supporting(p):
            for config in candidates(kernel, p, rng, 3):
                check(kernel, p, config, seed)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("text", ["c=3 r=7 s=7 pad=3 stride=2", "c=64 r=1 s=1 pad=0 stride=2",
                                  "c=40 r=3 s=3 pad=1 stride=1"])  # fmt: skip
def test_layers_of_networks(layout: str, text: str) -> None:
    """First layers, strided 1x1 and 3x3, at every number of threads."""
    p = problem(f"float32 {layout} n=2 h=30 w=29 k=48 {text} +bias+residual+relu")
    for kernel, threads in itertools.product(supporting(p), tiles.thread_ladder(False)):
        check(kernel, p, kernel.default(p).replace(threads=threads, pixels=48, channels=32))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pad", ["0", "1", "2,0,0,2", "0,3,3,0"])
def test_lines_of_merged_taps_meet_the_padding_on_any_side(stride: int, pad: str) -> None:
    """Tiles in the middle of a line read the image (without groups), those at its ends a copy."""
    kernel = conv2d.DirectConv2d()
    for c, w, k, groups in ((3, 41, 20, 1), (1, 30, 7, 1), (16, 23, 50, 1), (51, 25, 27, 3)):
        window = f"r=4 s=3 pad={pad} stride={stride} groups={groups}"
        p = problem(f"float32 nhwc n=2 c={c} h=9 w={w} k={k} {window}")
        for tile in tiles.facts(False).tiles:
            text = tiles.tile_text(tile, False)
            for pixels in (12, 96):
                config = kernel.default(p).replace(merge=True, tile=text, pixels=pixels)
                check(kernel, p, config)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("window", ["r=1 s=1 pad=0", "r=2 s=3 pad=1"])
def test_any_number_of_channels(layout: str, window: str) -> None:
    """The last vector of a tile may be half a vector, or a part of one, at any end of a sum."""
    ends = "", "+bias+residual+relu"
    for k, last in itertools.product((3, 8, 9, 24, 31, 40, 56, 63, 72), ends):
        p = problem(f"float32 {layout} n=1 c=70 h=5 w=6 k={k} {window} stride=1 {last}")
        for kernel, tile in itertools.product(supporting(p), tiles.facts(False).tiles):
            config = kernel.default(p).replace(tile=tiles.tile_text(tile, False), kc=64)
            check(kernel, p, config)


def test_images_beyond_the_second_cache_with_pixels_of_whole_lines() -> None:
    """What is copied whole although its middle could be read in place has the same answer."""
    p = problem("float32 nhwc n=1 c=16 h=300 w=300 k=2 r=3 s=3 pad=1 stride=2")
    kernel = conv2d.DirectConv2d()
    check(kernel, p, kernel.default(p).replace(merge=True))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("taps", ["r=3 s=3", "r=1 s=3", "r=1 s=1"])
def test_padding_wider_than_the_image(layout: str, taps: str) -> None:
    """Windows that see nothing but padding give the bias alone."""
    p = problem(f"float32 {layout} n=1 c=5 h=2 w=3 k=7 {taps} pad=40,7,33,1 stride=1 +bias")
    for kernel in supporting(p):
        for config in candidates(kernel, p, random.Random(0), 6):
            check(kernel, p, config)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize(
    "window",
    [
        "r=3 s=3 pad=14 stride=1 dilation=14",
        "r=3 s=4 pad=1,0,20,3 stride=1 dilation=1,15",
        "r=1 s=3 pad=0,0,0,19 stride=2 dilation=28",
        "r=3 s=2 pad=40 stride=1 dilation=20,30",
    ],
)
def test_taps_far_apart_that_tiles_do_not_see(layout: str, window: str) -> None:
    """Columns of taps beside the image are left out, tile by tile, with any Config."""
    rng = random.Random(len(window))
    for groups, epilogue in ((1, "+bias+residual+relu"), (2, "")):
        p = problem(f"float32 {layout} n=1 c=6 h=19 w=47 k=22 {window} groups={groups} {epilogue}")
        for kernel in supporting(p):
            for config in [kernel.default(p), *candidates(kernel, p, rng, 4)]:
                check(kernel, p, config)
                check(kernel, p, config.replace(kc=64))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_infinite_weights_meet_the_zeros_of_the_padding(layout: str) -> None:
    """Zero times infinity is NaN at the border too, as in the reference, packed or not."""
    p = problem(f"float32 {layout} n=1 c=4 h=6 w=5 k=6 r=3 s=3 pad=1 stride=1")
    x, w = p.random_operands(0)
    w = w.copy()
    w.reshape(-1)[7] = np.inf
    wanted = p.reference(x, w)
    assert np.isnan(wanted).any()
    for kernel in supporting(p):
        for config in candidates(kernel, p, random.Random(1), 4):
            out = np.empty(p.output.shape, np.float32)
            run: Any = kernel.build(p, config)
            run(x, w, out=out)
            np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-4)
            run.prepack({1: w})(x, out=out)
            np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-4)


def test_nan_stays_in_its_windows() -> None:
    """A NaN of one pixel reaches the windows that hold it and no other, through relu."""
    p = problem("float32 nhwc n=1 c=8 h=9 w=9 k=16 r=3 s=3 pad=1 stride=1 +relu")
    x, w = p.random_operands(3)
    x = x.copy()
    x[0, 4, 4, 2] = np.nan
    for kernel in supporting(p):
        out = np.empty(p.output.shape, np.float32)
        kernel.build(p, kernel.default(p))(x, w, out=out)
        found = np.isnan(out).any(axis=3)[0]
        assert found.sum() == 9
        assert found[3:6, 3:6].all()


def test_reasons_of_refusal() -> None:
    """Kernels say in words why they do not take a problem."""
    packed, direct = conv2d.PackedConv2d(), conv2d.DirectConv2d()
    nhwc = problem("float32 nhwc n=1 c=4 h=5 w=5 k=4 r=1 s=1 pad=0 stride=1")
    empty = problem("float32 nchw n=0 c=4 h=5 w=5 k=4 r=1 s=1 pad=0 stride=1")
    half = problem("float16 nchw n=1 c=4 h=5 w=5 k=4 r=1 s=1 pad=0 stride=1")
    assert "nchw" in str(packed.supports(nhwc))
    assert "empty" in str(direct.supports(empty))
    assert "float16" in str(direct.supports(half))


def test_merge_needs_taps_side_by_side() -> None:
    """Spaces leave out what cannot work, and say why."""
    p = problem("float32 nhwc n=1 c=4 h=9 w=9 k=4 r=3 s=3 pad=0 stride=1 dilation=1,2")
    kernel = conv2d.DirectConv2d()
    why = kernel.space(p).why_not(kernel.default(p).replace(merge=True))
    assert why is not None
    assert "dilation" in why


def test_runs_from_many_threads_agree() -> None:
    """One plan may run in several Python threads at a time."""
    from concurrent.futures import ThreadPoolExecutor

    p = problem("float32 nchw n=1 c=16 h=20 w=20 k=24 r=3 s=3 pad=1 stride=1 +bias+relu")
    for kernel in supporting(p):
        run: Any = kernel.build(p, kernel.default(p))
        operands = p.random_operands(0)
        wanted = run.direct(operands, None)
        with ThreadPoolExecutor(4) as pool:
            for result in pool.map(lambda _, r=run, o=operands: r.direct(o, None), range(40)):
                np.testing.assert_array_equal(result, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["scalar", "avx2"])
def test_lower_instruction_set(isa: str) -> None:
    """All of this file passes with the kernels of a lower instruction set."""
    run_again(__file__, isa)
