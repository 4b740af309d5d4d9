"""The contracts of max_pool2d and avg_pool2d: sizes, divisors, checks, and the references."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwkit import ArgumentError, DtypeError, Spec
from hwkit.op import relative_error
from hwkit.ops.pool2d import AVG_POOL2D, MAX_POOL2D

Array = np.ndarray[Any, Any]

# What torch allows: padding at most half the window, alike on both sides.
TORCH_CASES = [
    {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil}
    for kernel, stride, padding, ceil in itertools.product(
        [2, 3, (3, 2), (1, 4)], [None, 1, (2, 3), 3], [0, 1, (1, 0)], [False, True]
    )
    if padding == 0 or kernel != (1, 4)
]


def _nhwc(array: Array) -> Array:
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


def _torch_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    rest = dict(arguments)
    return {"kernel_size": rest.pop("kernel"), **rest}


@pytest.mark.parametrize("arguments", TORCH_CASES, ids=str)
@pytest.mark.parametrize("shape", [(1, 2, 7, 8), (2, 1, 10, 5)])
def test_max_agrees_with_torch(
    torch: Any, rng: np.random.Generator, shape: Any, arguments: dict[str, Any]
) -> None:
    """Shape and values, in both layouts."""
    x = rng.standard_normal(shape)
    want = torch.nn.functional.max_pool2d(
        torch.from_numpy(x), **_torch_arguments(arguments)
    ).numpy()
    problem = MAX_POOL2D.problem(x, **arguments)
    assert problem.output.shape == want.shape
    assert np.array_equal(problem.reference(x), want)
    other = MAX_POOL2D.problem(_nhwc(x), layout="nhwc", **arguments)
    assert np.array_equal(other.reference(_nhwc(x)), _nhwc(want))


@pytest.mark.parametrize("dilation", [2, (1, 2), (3, 1)])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_dilated_max_agrees_with_torch(
    torch: Any, rng: np.random.Generator, dilation: Any, ceil_mode: bool, stride: int
) -> None:
    """The elements of a window may stand apart."""
    x = rng.standard_normal((1, 2, 11, 12))
    arguments = {"stride": stride, "padding": 1, "dilation": dilation, "ceil_mode": ceil_mode}
    want = torch.nn.functional.max_pool2d(torch.from_numpy(x), 3, **arguments).numpy()
    problem = MAX_POOL2D.problem(x, kernel=3, **arguments)
    assert problem.output.shape == want.shape
    assert np.array_equal(problem.reference(x), want)


@pytest.mark.parametrize("count_include_pad", [False, True])
@pytest.mark.parametrize("arguments", TORCH_CASES, ids=str)
def test_avg_agrees_with_torch(
    torch: Any, rng: np.random.Generator, arguments: dict[str, Any], count_include_pad: bool
) -> None:
    """Shape, values and divisors, in both layouts."""
    x = rng.standard_normal((2, 3, 8, 7))
    arguments = {**arguments, "count_include_pad": count_include_pad}
    want = torch.nn.functional.avg_pool2d(
        torch.from_numpy(x), **_torch_arguments(arguments)
    ).numpy()
    problem = AVG_POOL2D.problem(x, **arguments)
    assert problem.output.shape == want.shape
    assert relative_error(problem.reference(x), want) <= problem.error_budget()
    other = AVG_POOL2D.problem(_nhwc(x), layout="nhwc", **arguments)
    assert np.allclose(other.reference(_nhwc(x)), _nhwc(want), 1e-13, 1e-13)


def _onnxruntime() -> tuple[int, ...]:
    runtime = pytest.importorskip("onnxruntime")
    return tuple(map(int, runtime.__version__.split(".")[:2]))


@pytest.mark.parametrize("padding", [(0, 1, 2, 0), (1, 2, 0, 1), (2, 2, 1, 1)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1), (2, 3)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("count_include_pad", [False, True])
def test_asymmetric_and_dilated_pools_agree_with_onnxruntime(
    onnx_node: Any,
    rng: np.random.Generator,
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    stride: tuple[int, int],
    count_include_pad: bool,
) -> None:
    """ONNX has padding for each side, and dilation in both pools."""
    if count_include_pad and _onnxruntime() < (1, 31):
        pytest.skip("onnxruntime 1.23 divides otherwise than 1.31 does")
    x = rng.standard_normal((1, 2, 9, 11)).astype(np.float32)
    top, bottom, left, right = padding
    node = {
        "kernel_shape": [3, 3],
        "pads": [top, left, bottom, right],
        "dilations": dilation,
        "strides": stride,
    }
    arguments = {"kernel": 3, "padding": padding, "dilation": dilation, "stride": stride}
    want = onnx_node("MaxPool", x, **node)
    assert np.array_equal(MAX_POOL2D.problem(x, **arguments).reference(x), want)
    want = onnx_node("AveragePool", x, **node, count_include_pad=int(count_include_pad))
    problem = AVG_POOL2D.problem(x, **arguments, count_include_pad=count_include_pad)
    assert relative_error(problem.reference(x), want) <= problem.error_budget()


@pytest.mark.parametrize(
    ("padding", "name"), [("same", "SAME_UPPER"), ("same_lower", "SAME_LOWER")]
)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_padding_agrees_with_onnxruntime(
    onnx_node: Any, rng: np.random.Generator, padding: str, name: str, stride: int
) -> None:
    """The padding strings of convolution hold for pools."""
    x = rng.standard_normal((1, 2, 8, 9)).astype(np.float32)
    want = onnx_node("MaxPool", x, kernel_shape=[3, 3], strides=[stride] * 2, auto_pad=name)
    problem = MAX_POOL2D.problem(x, kernel=3, stride=stride, padding=padding)
    assert np.array_equal(problem.reference(x), want)


@settings(max_examples=80, deadline=None)
@given(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 9), st.integers(0, 9)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(*[st.integers(0, 4)] * 4),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["nchw", "nhwc"]),
    st.sampled_from(["float32", "float64", "float16"]),
)
def test_any_pool_equals_its_definition(
    shape: tuple[int, int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    ceil_mode: bool,
    count_include_pad: bool,
    layout: str,
    dtype: str,
) -> None:
    """The maximum of the elements inside, the sum over the count; and the line reads back."""
    n, c, h, w = shape
    image = shape if layout == "nchw" else (n, h, w, c)
    arguments = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    arguments |= {"ceil_mode": ceil_mode, "layout": layout}
    try:
        top = MAX_POOL2D.problem(Spec(image, dtype), **arguments)
        mean = AVG_POOL2D.problem(
            Spec(image, dtype), **arguments, count_include_pad=count_include_pad
        )
    except ArgumentError as error:
        assert "pool2d reaches over" in str(error)  # noqa: PT017
        return
    for problem, op in ((top, MAX_POOL2D), (mean, AVG_POOL2D)):
        assert op.parse(str(problem)) == problem
        (x,) = problem.random_operands()
        got = problem.reference(x)
        assert (got.shape, got.dtype) == (problem.output.shape, problem.output.dtype)
        want = _by_definition(problem, x.astype("f8"))
        assert relative_error(got, want) <= problem.error_budget()


def _by_definition(problem: Any, x: Array) -> Array:
    """Return the pool of float64 ``x`` by a loop over windows."""
    x = x if problem.layout == "nchw" else x.transpose(0, 3, 1, 2)
    out = problem.output.shape
    p, q = out[2:] if problem.layout == "nchw" else out[1:3]
    result = np.zeros((*x.shape[:2], p, q))
    top, bottom, left, right = problem["pad"]
    height, width = x.shape[2:]
    for i, j in itertools.product(range(p), range(q)):
        rows = [
            i * problem["stride"][0] - top + r * problem["dilation"][0] for r in range(problem["r"])
        ]
        cols = [
            j * problem["stride"][1] - left + s * problem["dilation"][1]
            for s in range(problem["s"])
        ]
        inside = [x[:, :, r, s] for r in rows for s in cols if 0 <= r < height and 0 <= s < width]
        if problem.op.name == "max_pool2d":
            result[:, :, i, j] = np.max(inside, 0) if inside else -np.inf
            continue
        count = len(inside)
        if problem["count_include_pad"]:
            count = sum(r < height + bottom for r in rows) * sum(s < width + right for s in cols)
        result[:, :, i, j] = np.sum(inside, 0) / count if inside else 0
    return result if problem.layout == "nchw" else result.transpose(0, 2, 3, 1)


def test_stride_is_that_of_the_window() -> None:
    """Windows lie side by side unless told otherwise."""
    problem = MAX_POOL2D.problem(Spec((1, 1, 12, 12)), kernel=(3, 4))
    assert problem["stride"] == (3, 4)
    assert str(problem) == "max_pool2d float32 nchw n=1 c=1 h=12 w=12 r=3 s=4 pad=0 stride=3,4"


def test_the_maximum_of_padding_alone_is_minus_infinity() -> None:
    """A window that holds nothing has the maximum of nothing, and the mean 0."""
    x = np.ones((1, 1, 1, 1))
    got = MAX_POOL2D.problem(x, kernel=1, stride=1, padding=1).reference(x)
    assert np.array_equal(got[0, 0, 1], [-np.inf, 1, -np.inf])
    got = AVG_POOL2D.problem(x, kernel=1, stride=1, padding=1, count_include_pad=False).reference(x)
    assert np.array_equal(got[0, 0, 1], [0, 1, 0])


def test_nan_is_the_greatest(torch: Any) -> None:
    """NaN wins against everything in its windows, as in torch."""
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    x[0, 0, 0, 1], x[0, 0, 3, 3] = np.nan, np.inf
    want = torch.nn.functional.max_pool2d(torch.from_numpy(x), 2).numpy()
    got = MAX_POOL2D.problem(x, kernel=2).reference(x)
    assert np.array_equal(got, want, equal_nan=True)
    assert np.isnan(got[0, 0, 0, 0])
    got = AVG_POOL2D.problem(x, kernel=2).reference(x)
    assert np.isnan(got[0, 0, 0, 0])
    assert np.isposinf(got[0, 0, 1, 1])


def test_integers_are_exact() -> None:
    """Pools of integers made from text compute in int64; a mean rounds down."""
    problem = MAX_POOL2D.parse("max_pool2d uint8,uint8,uint8,uint8 nchw n=1 c=1 h=2 w=2 r=2 s=2")
    x = np.array([[[[3, 250], [7, 9]]]], np.uint8)
    assert problem.reference(x).item() == 250
    problem = AVG_POOL2D.parse("avg_pool2d int8,int8,int8,int32 nchw n=1 c=1 h=1 w=2 r=1 s=2")
    x = np.array([[[[-4, 1]]]], np.int8)
    assert problem.reference(x).item() == -2
    assert problem.reference(x).dtype == np.int64


def test_flops_count_the_elements_of_the_windows() -> None:
    """One comparison or addition each."""
    text = "n=2 c=3 h=8 w=8 r=2 s=2 pad=0 stride=2"
    assert MAX_POOL2D.parse(f"max_pool2d float32 nchw {text}").flops == 2 * 3 * 16 * 4
    assert AVG_POOL2D.parse(f"avg_pool2d float32 nhwc {text}").flops == 2 * 3 * 16 * 4


def test_a_maximum_has_no_error_budget() -> None:
    """Nothing is rounded, so nothing may differ."""
    assert MAX_POOL2D.parse(MAX_POOL2D.samples[0]).error_budget() == 0.0
    assert AVG_POOL2D.parse(AVG_POOL2D.samples[0]).error_budget() == 2e-6


@pytest.mark.parametrize("op", [MAX_POOL2D, AVG_POOL2D], ids=str)
@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((4, 4), {"kernel": 2}, r"x has shape \(4, 4\), but must have 4 dimensions \(n, c, h, w"),
        ((1, 1, 4, 4), {"kernel": 0}, "kernel=0 must be a whole number of at least 1"),
        ((1, 1, 4, 4), {"kernel": (2, 2, 2)}, r"kernel=\(2, 2, 2\) must be"),
        ((1, 1, 4, 4), {"kernel": 2, "stride": 0}, "stride=0 must be"),
        ((1, 1, 4, 4), {"kernel": 2, "padding": "full"}, "padding='full' must be"),
        ((1, 1, 4, 4), {"kernel": 2, "dilation": 0}, "dilation=0 must be"),
        ((1, 1, 4, 4), {"kernel": 5}, "reaches over 5 rows"),
        ((1, 1, 4, 4), {"kernel": 2, "ceil_mode": "no"}, "ceil_mode='no' must be True or False"),
        ((1, 1, 4, 4), {"kernel": 2, "layout": "hwc"}, "layout 'hwc' of"),
    ],
)
def test_mistakes_are_one_sentence_that_names_the_argument(
    op: Any, shape: Any, arguments: dict[str, Any], message: str
) -> None:
    """Shapes and options that are not legal are told before anything is allocated."""
    with pytest.raises(ArgumentError, match=message) as caught:
        op.problem(Spec(shape), **arguments)
    assert "\n" not in str(caught.value)


def test_a_dtype_that_does_not_fit_is_named() -> None:
    """Integers are refused by the public function."""
    with pytest.raises(DtypeError, match="x has dtype int64, but must be one of float32"):
        MAX_POOL2D.problem(Spec((1, 1, 4, 4), "int64"), kernel=2)


@pytest.mark.parametrize("op", [MAX_POOL2D, AVG_POOL2D], ids=str)
def test_an_image_that_is_none_is_named(op: Any) -> None:
    """A forgotten result, ``None``, is told as such."""
    with pytest.raises(ArgumentError, match="x is None, but must be an array"):
        op.problem(None, kernel=2)
