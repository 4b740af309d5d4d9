"""Random problems on the default device against the float64 reference, as Hypothesis finds them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hwkit import ArgumentError, Op, Problem
from hwkit.dispatch import plan_problem
from hwkit.op import relative_error
from hwkit.ops import hwkit_ops

OPS = {op.name: op for op in hwkit_ops()}
DTYPES = st.sampled_from(["float32", "float32", "float64", "float16"])
LAYOUTS = st.sampled_from(["nchw", "nhwc"])
ACTIVATIONS = st.sampled_from(
    [
        (),
        ("relu",),
        ("relu6",),
        ("leaky_relu:0.2",),
        ("sigmoid",),
        ("hard_swish",),
        ("silu",),
        ("clip:-0.5,0.5",),
    ]
)
EPILOGUES = st.tuples(st.booleans(), st.booleans(), ACTIVATIONS).map(
    lambda e: ("bias",) * e[0] + ("residual",) * e[1] + e[2]
)


def _check(problem: Problem, seed: int) -> None:
    """Run the problem twice, into a new array and into a poisoned one, and compare.

    Halves of whole numbers add up exactly in float32, so that a result of one element near zero
    does not look wrong for want of digits.
    """
    operands = tuple(np.rint(2 * a) / a.dtype.type(2) for a in problem.random_operands(seed))
    want = problem.reference(*(a.astype(np.float64) for a in operands))
    plan = plan_problem(problem)
    assert relative_error(plan(*operands), want) <= problem.error_budget(), plan
    out = np.full(problem.output.shape, np.nan, problem.output.dtype)
    assert relative_error(plan(*operands, out=out), want) <= problem.error_budget(), plan


def _made(op: Op, *arguments: Any) -> Problem | None:
    """Return the problem, or ``None`` where no window fits."""
    try:
        return op.make(*arguments)
    except ArgumentError as error:
        assert "reaches over" in str(error)  # noqa: PT017
        return None


def _window(data: st.DataObject, largest: int) -> tuple[dict[str, int], dict[str, Any]]:
    """Return sizes h, w, r, s and the attributes that convolution and pooling share."""
    draw = data.draw
    sizes = {name: draw(st.integers(1, largest), name) for name in "hw"}
    sizes |= {name: draw(st.integers(1, 5), name) for name in "rs"}
    attributes = {
        "pad": draw(st.tuples(*[st.integers(0, 3)] * 4), "pad"),
        "stride": draw(st.tuples(*[st.integers(1, 3)] * 2), "stride"),
        "dilation": draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (1, 3), (2, 2)]), "dilation"),
    }
    return sizes, attributes


@settings(max_examples=150, deadline=None)
@given(st.data(), DTYPES, LAYOUTS, EPILOGUES)
def test_any_convolution(data: Any, dtype: str, layout: str, epilogue: tuple[str, ...]) -> None:
    """Groups, depthwise multipliers, strides, dilations, paddings and epilogues together."""
    sizes, attributes = _window(data, 20)
    groups = data.draw(st.integers(1, 6), "groups")
    channels = st.integers(1, 20) if groups == 1 else st.integers(1, 4)
    sizes["n"] = data.draw(st.integers(1, 2), "n")
    sizes["c"] = groups * data.draw(channels, "c / groups")
    sizes["k"] = groups * data.draw(channels, "k / groups")
    attributes["groups"] = groups
    problem = _made(OPS["conv2d"], dtype, layout, sizes, attributes, epilogue)
    if problem is not None:
        _check(problem, 1)


@settings(max_examples=60, deadline=None)
@given(st.data(), DTYPES, LAYOUTS, EPILOGUES)
def test_any_depthwise(data: Any, dtype: str, layout: str, epilogue: tuple[str, ...]) -> None:
    """One input channel for each group, with and without a multiplier."""
    sizes, attributes = _window(data, 24)
    channels = data.draw(st.integers(2, 40), "c")
    sizes |= {"n": 1, "c": channels, "k": channels * data.draw(st.integers(1, 3), "multiplier")}
    attributes["groups"] = channels
    problem = _made(OPS["conv2d"], dtype, layout, sizes, attributes, epilogue)
    if problem is not None:
        _check(problem, 2)


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(*[st.one_of(st.integers(1, 9), st.integers(1, 150))] * 3),
    st.sampled_from(["nn", "nt", "tn", "tt"]),
    DTYPES,
    st.sampled_from([1.0, 1.0, -0.5]),
    st.sampled_from([0.0, 1.0, 2.5]),
    EPILOGUES,
)
def test_any_gemm(
    sizes: tuple[int, int, int],
    layout: str,
    dtype: str,
    alpha: float,
    beta: float,
    epilogue: tuple[str, ...],
) -> None:
    """All layouts, edges of every tile, alpha, beta and epilogue together."""
    attributes = {"alpha": alpha, "beta": beta}
    named = dict(zip("mnk", sizes, strict=True))
    _check(OPS["gemm"].make(dtype, layout, named, attributes, epilogue), 3)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 12),
    st.tuples(*[st.integers(1, 40)] * 3),
    st.sampled_from(["none", "a", "b"]),
    DTYPES,
)
def test_any_matmul(b: int, sizes: tuple[int, int, int], shared: str, dtype: str) -> None:
    """Batches, shared operands, and sizes that fit no tile."""
    named = {"b": b, **dict(zip("mnk", sizes, strict=True))}
    _check(OPS["matmul"].make(dtype, "", named, {"shared": shared}), 4)


@settings(max_examples=100, deadline=None)
@given(st.data(), DTYPES, LAYOUTS, st.booleans(), st.booleans())
def test_any_pool(data: Any, dtype: str, layout: str, ceil_mode: bool, include: bool) -> None:
    """Maximum and mean of windows anywhere, also beyond the image."""
    sizes, attributes = _window(data, 30)
    sizes |= {"n": data.draw(st.integers(1, 2), "n"), "c": data.draw(st.integers(1, 35), "c")}
    attributes["ceil_mode"] = ceil_mode
    problem = _made(OPS["max_pool2d"], dtype, layout, sizes, attributes)
    if problem is not None:
        _check(problem, 5)
        attributes["count_include_pad"] = include
        _check(OPS["avg_pool2d"].make(dtype, layout, sizes, attributes), 5)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 20), st.integers(1, 20)),
    DTYPES,
    LAYOUTS,
)
def test_any_global_pool(sizes: tuple[int, int, int, int], dtype: str, layout: str) -> None:
    """Channels and pixels that fit no vector."""
    named = dict(zip("nchw", sizes, strict=True))
    for name in ("global_avg_pool2d", "global_max_pool2d"):
        _check(OPS[name].make(dtype, layout, named), 6)
