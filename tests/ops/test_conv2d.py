"""The contract of conv2d: shapes, checks, and the reference against torch and onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwkit import ArgumentError, DtypeError, Spec
from hwkit.op import relative_error
from hwkit.ops.conv2d import CONV2D

Array = np.ndarray[Any, Any]

# x as (n, c, h, w), w as (k, c / groups, r, s), arguments.
CASES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 3, 8, 8), (4, 3, 3, 3), {}),
    ((2, 3, 8, 9), (4, 3, 3, 2), {"padding": 1}),
    ((1, 4, 9, 7), (6, 4, 1, 1), {"stride": 2}),
    ((1, 4, 9, 7), (6, 4, 1, 1), {"stride": (3, 2), "padding": (1, 0)}),
    ((1, 3, 12, 12), (5, 3, 5, 5), {"dilation": 2, "padding": 4}),
    ((1, 3, 12, 14), (5, 3, 3, 5), {"dilation": (3, 1), "stride": (1, 2), "padding": (2, 1)}),
    ((2, 6, 7, 7), (4, 3, 3, 3), {"groups": 2, "padding": 1}),
    ((2, 6, 7, 7), (6, 1, 3, 3), {"groups": 6, "padding": 1, "stride": 2}),
    ((1, 4, 7, 7), (12, 1, 3, 3), {"groups": 4}),
    ((1, 1, 7, 7), (3, 1, 3, 3), {}),
    ((1, 2, 5, 5), (3, 2, 5, 5), {}),
    ((1, 2, 3, 3), (3, 2, 5, 5), {"padding": 3}),
    ((1, 2, 6, 6), (3, 2, 2, 2), {"padding": (0, 1, 2, 3)}),
    ((1, 2, 6, 6), (3, 2, 2, 2), {"padding": ((2, 0), (0, 1)), "stride": 2}),
    ((1, 2, 1, 20), (3, 2, 1, 7), {"padding": (0, 3)}),
    ((3, 2, 4, 4), (1, 2, 3, 3), {"padding": "valid"}),
    ((0, 2, 4, 4), (3, 2, 3, 3), {}),
]


def _nhwc(array: Array) -> Array:
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


def _explicit(padding: Any) -> tuple[int, ...]:
    if padding == "valid":
        return (0, 0, 0, 0)
    if isinstance(padding, int):
        return (padding,) * 4
    if len(padding) == 4:
        return tuple(padding)
    if isinstance(padding[0], int):
        return (padding[0], padding[0], padding[1], padding[1])
    return (*padding[0], *padding[1])


def _torch_conv(torch: Any, x: Array, w: Array, arguments: dict[str, Any]) -> Array:
    rest = dict(arguments)
    top, bottom, left, right = _explicit(rest.pop("padding", 0))
    padded = torch.nn.functional.pad(torch.from_numpy(x), (left, right, top, bottom))
    result: Array = torch.nn.functional.conv2d(padded, torch.from_numpy(w), **rest).numpy()
    return result


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "weights", "arguments"), CASES)
def test_reference_agrees_with_torch(
    torch: Any,
    rng: np.random.Generator,
    shape: Any,
    weights: Any,
    arguments: dict[str, Any],
    dtype: str,
) -> None:
    """Both layouts give torch's answer, in the dtype of the operands."""
    x, w = rng.standard_normal(shape).astype(dtype), rng.standard_normal(weights).astype(dtype)
    want = _torch_conv(torch, x, w, arguments)
    problem = CONV2D.problem(x, w, **arguments)
    got = problem.reference(x, w)
    assert got.dtype == dtype
    assert got.shape == want.shape == problem.output.shape
    assert relative_error(got, want) <= problem.error_budget()
    other = CONV2D.problem(_nhwc(x), _nhwc(w), layout="nhwc", **arguments)
    assert np.allclose(other.reference(_nhwc(x), _nhwc(w)), _nhwc(want), 1e-4, 1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_types_accumulate_in_float32(rng: np.random.Generator, dtype: str) -> None:
    """The answer is the float64 one, rounded about once."""
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    x = rng.standard_normal((1, 64, 5, 5)).astype(dtype)
    w = rng.standard_normal((4, 64, 3, 3)).astype(dtype)
    problem = CONV2D.problem(x, w, padding=1)
    got = problem.reference(x, w)
    want = problem.reference(x.astype("f8"), w.astype("f8"))
    assert got.dtype == np.dtype(dtype)
    assert want.dtype == np.float64
    assert relative_error(got, want) <= problem.error_budget()


@pytest.mark.parametrize("size", [5, 6, 7, 8])
@pytest.mark.parametrize("window", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(
    ("padding", "name"), [("same", "SAME_UPPER"), ("same_lower", "SAME_LOWER")]
)
def test_same_padding_agrees_with_onnxruntime(
    onnx_node: Any, size: int, window: int, stride: int, padding: str, name: str
) -> None:
    """ "same" gives ceil(input / stride) outputs; an odd zero goes where ONNX says."""
    x = np.arange(size * 6, dtype=np.float32).reshape(1, 1, size, 6)
    w = np.arange(1, window * 2 + 1, dtype=np.float32).reshape(1, 1, window, 2)
    want = onnx_node("Conv", x, w, auto_pad=name, strides=[stride, 1], kernel_shape=[window, 2])
    problem = CONV2D.problem(x, w, padding=padding, stride=(stride, 1))
    assert problem.output.shape[2:] == (-(-size // stride), 6)
    assert np.allclose(problem.reference(x, w), want)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.one_of(
        st.sampled_from(["valid", "same", "same_lower"]),
        st.integers(0, 3),
        st.tuples(*[st.integers(0, 3)] * 2),
        st.tuples(*[st.integers(0, 3)] * 4),
    ),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.sampled_from(["nchw", "nhwc"]),
    st.sampled_from(["float32", "float64", "float16"]),
    st.sampled_from([None, "relu", "leaky_relu", ("clip", -1, 2), "clip:0,1", "silu"]),
)
def test_problems_read_back_and_have_the_shape_of_their_reference(
    n: int,
    channels: tuple[int, int, int],
    size: tuple[int, int],
    window: tuple[int, int],
    padding: Any,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    layout: str,
    dtype: str,
    activation: Any,
) -> None:
    """What the public function makes prints, parses, and computes in its own shape."""
    groups, per_group, multiple = channels
    c, k = groups * per_group, groups * multiple
    image = (n, c, *size) if layout == "nchw" else (n, *size, c)
    filters = (k, per_group, *window) if layout == "nchw" else (k, *window, per_group)
    try:
        problem = CONV2D.problem(
            Spec(image, dtype),
            Spec(filters, dtype),
            Spec((k,), dtype),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            layout=layout,
            activation=activation,
        )
    except ArgumentError as error:
        assert "the window of conv2d reaches over" in str(error)  # noqa: PT017
        return
    assert CONV2D.parse(str(problem)) == problem
    assert CONV2D.parse(str(problem)).operands == problem.operands
    result = problem.reference(*problem.random_operands())
    assert (result.shape, result.dtype) == (problem.output.shape, problem.output.dtype)


def test_groups_are_a_concatenation(rng: np.random.Generator) -> None:
    """A grouped convolution is its parts side by side."""
    x, w = rng.standard_normal((2, 6, 9, 9)), rng.standard_normal((9, 2, 3, 3))
    whole = CONV2D.problem(x, w, groups=3, padding=1).reference(x, w)
    parts = []
    for g in range(3):
        part_x, part_w = x[:, 2 * g : 2 * g + 2], w[3 * g : 3 * g + 3]
        parts.append(CONV2D.problem(part_x, part_w, padding=1).reference(part_x, part_w))
    assert np.allclose(whole, np.concatenate(parts, 1), 1e-13, 1e-13)


def test_integers_are_exact(rng: np.random.Generator) -> None:
    """A quantised Problem made from text computes in int64, without rounding or overflow."""
    text = "conv2d uint8,int8,int32,int32 nhwc n=1 c=128 h=6 w=6 k=4 r=3 s=3 pad=1 stride=1 +bias"
    problem = CONV2D.parse(text)
    assert str(problem) == text
    assert [o.dtype.name for o in problem.operands] == ["uint8", "int8", "int32"]
    assert problem.output.dtype == np.int32
    x = rng.integers(0, 256, problem.operands[0].shape).astype(np.uint8)
    w = rng.integers(-128, 128, problem.operands[1].shape).astype(np.int8)
    bias = rng.integers(-(2**31), 2**31, 4).astype(np.int32)
    got = problem.reference(x, w, bias)
    want = CONV2D.problem(*(a.astype("f8") for a in (x, w, bias)), layout="nhwc", padding=1)
    assert got.dtype == np.int64
    # Below 2**53 float64 is exact as well.
    assert np.array_equal(got, want.reference(*(a.astype("f8") for a in (x, w, bias))))
    assert problem.error_budget() == 0.0


def test_integers_have_no_activation_that_leaves_them() -> None:
    """relu is one of whole numbers, sigmoid is not."""
    text = "conv2d int8,int8,int32,int32 nchw n=1 c=1 h=2 w=2 k=1 r=1 s=1 pad=0 stride=1 +"
    assert CONV2D.parse(text + "relu").activation == ("relu", ())
    with pytest.raises(ArgumentError, match="activation 'sigmoid' of conv2d needs a floating"):
        CONV2D.parse(text + "sigmoid")


def test_padding_is_zeros_that_take_part(torch: Any) -> None:
    """0 x inf is NaN in the padding as elsewhere, as in torch."""
    x, w = np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3))
    w[0, 0, 0, 0] = np.inf
    got = CONV2D.problem(x, w, padding=1).reference(x, w)
    want = _torch_conv(torch, x, w, {"padding": 1})
    assert np.array_equal(got, want, equal_nan=True)
    assert np.isnan(got[0, 0, 0, 0])
    assert np.isposinf(got[0, 0, 2, 2])


@pytest.mark.parametrize("special", [np.nan, np.inf])
def test_special_values_reach_exactly_their_windows(special: float) -> None:
    """One special pixel spoils the windows that hold it and no other, without a warning."""
    x, w = np.ones((1, 1, 6, 6), np.float32), np.ones((1, 1, 3, 3), np.float32)
    x[0, 0, 2, 3] = special
    got = CONV2D.problem(x, w).reference(x, w)[0, 0]
    spoilt = np.zeros((4, 4), bool)
    spoilt[0:3, 1:4] = True
    assert np.array_equal(~np.isfinite(got), spoilt)
    assert (got[~spoilt] == 9).all()


def test_no_input_channels_give_the_bias() -> None:
    """A sum over nothing is zero."""
    x, w, bias = np.zeros((1, 0, 4, 4)), np.zeros((2, 0, 3, 3)), np.array([1.0, -2.0])
    got = CONV2D.problem(x, w, bias, padding=1, activation="relu").reference(x, w, bias)
    assert np.array_equal(got[0, :, 0, 0], [1, 0])
    assert got.shape == (1, 2, 4, 4)


def test_no_output_channels_give_an_empty_result() -> None:
    """No filters, no results; torch refuses this."""
    x, w = np.zeros((1, 2, 4, 4)), np.zeros((0, 2, 3, 3))
    assert CONV2D.problem(x, w).reference(x, w).shape == (1, 0, 2, 2)


def test_an_empty_image_gives_an_empty_or_a_padded_result() -> None:
    """No rows in means no rows out, unless the padding alone holds a window."""
    w = np.ones((2, 1, 3, 3))
    assert CONV2D.problem(np.zeros((1, 1, 0, 5)), w).output.shape == (1, 2, 0, 3)
    x = np.zeros((1, 1, 0, 5))
    problem = CONV2D.problem(x, w, padding=(2, 0))
    assert np.array_equal(problem.reference(x, w), np.zeros((1, 2, 2, 3)))


def test_flops_count_a_multiply_add_as_two() -> None:
    """The figure of the documentation's layer, and of a grouped one."""
    assert CONV2D.parse(CONV2D.samples[0]).flops == 2 * 56 * 56 * 64 * 64 * 9
    depthwise = "conv2d float32 nchw n=2 c=8 h=5 w=5 k=16 r=3 s=3 pad=1 stride=1 groups=8"
    assert CONV2D.parse(depthwise).flops == 2 * 2 * 16 * 25 * 9


@pytest.mark.parametrize(
    ("shapes", "arguments", "message"),
    [
        (((3, 4), (1, 1, 1, 1)), {}, r"x has shape \(3, 4\), but must have 4 dimensions \(n, c"),
        (((1, 1, 4, 4), (1, 1, 1)), {}, r"w has shape \(1, 1, 1\), but must have 4 .*\(k, c/gr"),
        (((1, 4, 4, 4), (2, 3, 1, 1)), {}, "w has shape .* with 3 input channels, .* 4 of them"),
        (((1, 4, 4, 4), (2, 4, 1, 1)), {"groups": 2}, "w has shape .* must have 2 of them"),
        (((1, 4, 4, 4), (2, 4, 1, 1)), {"groups": 3}, "groups=3 must be .* divides the 4 input"),
        (((1, 4, 4, 4), (3, 2, 1, 1)), {"groups": 2}, "groups=2 must be .* and 3 output"),
        (((1, 4, 4, 4), (2, 4, 1, 1)), {"groups": 0}, "groups=0 must be"),
        (((1, 4, 4, 4), (2, 4, 1, 1)), {"groups": 1.0}, r"groups=1\.0 must be"),
        (
            ((1, 1, 4, 4), (1, 1, 5, 1)),
            {},
            r"reaches over 5 rows \(r=5, dilation 1\), but .* has 4",
        ),
        (((1, 1, 4, 4), (1, 1, 1, 3)), {"dilation": 2}, "reaches over 5 columns"),
        (((1, 1, 4, 4), (1, 1, 0, 1)), {}, "r=0 of conv2d must be at least 1"),
        (
            ((1, 1, 4, 4), (1, 1, 1, 1)),
            {"stride": 0},
            "stride=0 must be a whole number of at least",
        ),
        (((1, 1, 4, 4), (1, 1, 1, 1)), {"stride": (1, 2, 3)}, r"stride=\(1, 2, 3\) must be"),
        (((1, 1, 4, 4), (1, 1, 1, 1)), {"stride": 1.5}, r"stride=1\.5 must be"),
        (((1, 1, 4, 4), (1, 1, 1, 1)), {"dilation": -1}, "dilation=-1 must be"),
        (((1, 1, 4, 4), (1, 1, 1, 1)), {"dilation": True}, "dilation=True must be"),
        (((1, 1, 4, 4), (1, 1, 1, 1)), {"padding": -1}, "padding=-1 must be .*none .*negative"),
        (((1, 1, 4, 4), (1, 1, 1, 1)), {"padding": "full"}, "padding='full' must be a whole"),
        (((1, 1, 4, 4), (1, 1, 1, 1)), {"padding": (1, 2, 3)}, r"padding=\(1, 2, 3\) must be"),
        (((1, 1, 4, 4), (1, 1, 1, 1)), {"padding": ((1, 2), 3)}, r"padding=\(\(1, 2\), 3\) must"),
        (((1, 1, 4, 4), (1, 1, 1, 1)), {"layout": "chwn"}, "layout 'chwn' of conv2d must be one"),
        (((1, 1, 4, 4), (1, 1, 1, 1)), {"activation": "tanh"}, "activation='tanh' is not known"),
        (((1, 1, 4, 4), (3, 1, 1, 1), (4,)), {}, r"bias has shape \(4,\), but must have \(3,\)"),
        (((1, 1, 4, 4), (3, 1, 1, 1), (1, 3)), {}, r"bias has shape \(1, 3\), but must"),
        (
            ((1, 1, 4, 4), (3, 1, 1, 1), None, (1, 3, 4, 3)),
            {},
            r"residual has shape \(1, 3, 4, 3\), but must have \(1, 3, 4, 4\), the shape of",
        ),
        (((1, 1, 2**62, 1), (4, 1, 1, 1)), {}, "more than memory can address"),
        (((1, 1, 4, 4), (1, 1, 1, 1)), {"padding": 2**63}, r"beyond 2\*\*63 - 1"),
        (((1, 1, 4, 4), (1, 1, 2, 2)), {"dilation": 2**63}, r"beyond 2\*\*63 - 1"),
        (((1, 1, 4, 4), (1, 1, 1, 1)), {"dilation": 2**63}, r"beyond 2\*\*63 - 1"),
        (((1, 1, 4, 4), (1, 1, 2, 2)), {"stride": 2**63}, r"stride=.* beyond 2\*\*63 - 1"),
    ],
)
def test_mistakes_are_one_sentence_that_names_the_argument(
    shapes: Any, arguments: dict[str, Any], message: str
) -> None:
    """Shapes and options that are not legal are told before anything is allocated."""
    operands = [None if shape is None else Spec(shape, "float32") for shape in shapes]
    with pytest.raises(ArgumentError, match=message) as caught:
        CONV2D.problem(*operands, **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dtypes", "message"),
    [
        (("int32", "int32"), "x has dtype int32, but must be one of float32"),
        (("float32", "float64"), "w has dtype float64, but x has float32: convert one"),
        (("float32", "float32", "float64"), "bias has dtype float64, but x has float32"),
        (("float32", "float32", "float32", "int8"), "residual has dtype int8, but must be one"),
        (("complex64", "complex64"), "x has dtype complex64"),
    ],
)
def test_dtypes_that_do_not_fit_are_named(dtypes: Any, message: str) -> None:
    """Mixed dtypes name both sides; unsupported ones say how to convert."""
    shapes = [(1, 1, 4, 4), (1, 1, 1, 1), (1,), (1, 1, 4, 4)]
    operands = [Spec(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=False)]
    with pytest.raises(DtypeError, match=message):
        CONV2D.problem(*operands)


def test_numpy_whole_numbers_are_whole_numbers() -> None:
    """Sizes computed with numpy are as good as Python's."""
    x, w = Spec((1, 2, 9, 9)), Spec((2, 1, 3, 3))
    one = CONV2D.problem(x, w, stride=np.int64(2), padding=(np.int32(1), 1), groups=np.uint8(2))
    assert one == CONV2D.problem(x, w, stride=[2, 2], padding=[1, 1], groups=2)
    assert str(one).endswith("pad=1 stride=2 groups=2")
