"""qconv2d: the contract, onnxruntime's answers, and mistakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hwkit
from hwkit import ArgumentError, DtypeError, Spec
from hwkit.ops.qconv2d import QCONV2D

Array = np.ndarray[Any, Any]

PAIRS = [(x, w) for x in ("uint8", "int8") for w in ("uint8", "int8")]
WINDOWS: list[dict[str, Any]] = [
    {},
    {"padding": 1},
    {"padding": (0, 1, 2, 0), "stride": (2, 1)},
    {"padding": 2, "dilation": (1, 2)},
]


def onnx_window(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the same window as ONNX attributes."""
    pad = arguments.get("padding", 0)
    top, bottom, left, right = (pad,) * 4 if isinstance(pad, int) else pad
    stride = arguments.get("stride", (1, 1))
    return {
        "pads": [top, left, bottom, right],
        "strides": list(stride),
        "dilations": list(arguments.get("dilation", (1, 1))),
        "group": arguments.get("groups", 1),
    }


def images(rng: np.random.Generator, groups: int, kinds: tuple[str, str]) -> tuple[Array, Array]:
    """Return x and w whose pairs of products fit 16 bits: onnxruntime's own sums may not else."""
    c, k = (3 * groups, 4 * groups) if groups < 8 else (groups, groups)
    low, high = (0, 256) if kinds[0] == "uint8" else (-128, 128)
    x = rng.integers(low, high, (2, c, 9, 11)).astype(kinds[0])
    low, high = (0, 256) if kinds[1] == "uint8" else (-64, 64)
    return x, rng.integers(low, high, (k, c // groups, 3, 3)).astype(kinds[1])


@pytest.mark.parametrize("kinds", [p for p in PAIRS if p != ("int8", "uint8")])  # it has no such
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_requantised_is_onnx_qlinearconv(
    onnx_node: Callable[..., Array], kinds: tuple[str, str], window: dict[str, Any], groups: int
) -> None:
    """Every byte equals onnxruntime's, per channel and per tensor, with any zero points."""
    rng = np.random.default_rng(groups)
    x, w = images(rng, groups, kinds)
    k = len(w)
    for each in (False, True):
        bias = rng.integers(-3000, 3000, k).astype(np.int32)
        x_scale, y_scale = np.float32(0.03), np.float32(0.11)
        w_scale = rng.uniform(0.001, 0.02, k if each else ()).astype(np.float32)
        x_zero = np.asarray(rng.integers(100, 128), kinds[0])
        y_zero = np.asarray(rng.integers(0, 100), kinds[0])
        w_zero = np.zeros(k if each else (), kinds[1])
        if kinds[1] == "uint8":
            w_zero += np.uint8(131)
        want = onnx_node(
            "QLinearConv", x, np.asarray(x_scale), x_zero, w, w_scale, w_zero, np.asarray(y_scale),
            y_zero, bias, dtype=kinds[0], **onnx_window({**window, "groups": groups}),
        )  # fmt: skip
        given = {"x_scale": x_scale, "x_zero": x_zero, "w_scale": w_scale, "w_zero": w_zero}
        given |= {"y_scale": y_scale, "y_zero": y_zero, "groups": groups, **window}
        got = hwkit.ops.qconv2d(x, w, bias, **given)
        assert got.dtype == kinds[0]
        assert len(np.unique(want)) > 30
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_sums_are_onnx_convinteger(
    onnx_node: Callable[..., Array], rng: np.random.Generator, window: dict[str, Any]
) -> None:
    """Without scales the result is the int32 sums; padding holds the zero point."""
    x, w = images(rng, 1, ("uint8", "uint8"))
    x_zero, w_zero = np.uint8(200), np.uint8(7)
    want = onnx_node(
        "ConvInteger", x, w, np.asarray(x_zero), np.asarray(w_zero), dtype="int32",
        **onnx_window(window),
    )  # fmt: skip
    got = hwkit.ops.qconv2d(x, w, x_zero=x_zero, w_zero=w_zero, **window)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_float32_is_the_dequantised_sum(rng: np.random.Generator, layout: str) -> None:
    """With scales of the operands only, sums are multiplied once in float32."""
    shape, filters = {
        "nchw": ((1, 5, 6, 7), (4, 5, 3, 3)),
        "nhwc": ((1, 6, 7, 5), (4, 3, 3, 5)),
    }[layout]
    x = rng.integers(0, 256, shape).astype(np.uint8)
    w = rng.integers(-128, 128, filters).astype(np.int8)
    sums = hwkit.ops.qconv2d(x, w, x_zero=9, layout=layout)
    scales = np.linspace(0.01, 0.02, 4).astype(np.float32)
    got = hwkit.ops.qconv2d(x, w, x_scale=0.5, x_zero=9, w_scale=scales, layout=layout)
    each = scales.reshape((4, 1, 1) if layout == "nchw" else (4,))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, sums.astype(np.float32) * (np.float32(0.5) * each))


def test_halves_round_to_even_and_what_does_not_fit_saturates() -> None:
    """0.5 and 2.5 go down, 1.5 goes up; far values take the nearest end."""
    x = np.array([1, 3, 5, -1, -3, 127, -128], np.int8).reshape(1, 1, 1, 7)
    w = np.full((1, 1, 1, 1), 10, np.int8)
    got = hwkit.ops.qconv2d(x, w, x_scale=0.05, w_scale=1.0, y_scale=1.0)
    assert got.ravel().tolist() == [0, 2, 2, 0, -2, 64, -64]
    got = hwkit.ops.qconv2d(x, w, x_scale=1.0, w_scale=1.0, y_scale=1.0, y_zero=np.uint8(3))
    assert got.ravel().tolist() == [13, 33, 53, 0, 0, 255, 0]


def test_activation_comes_before_the_rounding() -> None:
    """Bounds are real numbers, whatever the zero point is."""
    x = np.arange(-4, 5, dtype=np.int8).reshape(1, 1, 1, 9)
    w = np.ones((1, 1, 1, 1), np.int8)
    given = {"x_scale": 1.0, "w_scale": 1.0, "y_scale": 0.5, "y_zero": 10}
    relu = hwkit.ops.qconv2d(x, w, **given, activation="relu").ravel()
    assert relu.tolist() == [10, 10, 10, 10, 10, 12, 14, 16, 18]
    clip = hwkit.ops.qconv2d(x, w, **given, activation=("clip", -1.25, 2.0)).ravel()
    assert clip.tolist() == [8, 8, 8, 8, 10, 12, 14, 14, 14]  # -2.5 rounds to -2
    sums = hwkit.ops.qconv2d(x, w, activation="relu6").ravel()
    assert sums.tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 4]


def test_a_plan_takes_scales_and_zero_points_as_operands(rng: np.random.Generator) -> None:
    """Other values need no other plan; packed, they are kept."""
    x = rng.integers(0, 256, (1, 6, 8, 8)).astype(np.uint8)
    w = rng.integers(-128, 128, (5, 6, 3, 3)).astype(np.int8)
    one, zero = Spec((), "float32"), Spec((), "uint8")
    plan = hwkit.plan(
        "qconv2d", x, w, None, one, zero, Spec((5,), "float32"), Spec((5,), "int8"), one, zero,
        padding=1,
    )  # fmt: skip
    assert "uint8,int8,uint8,int32" in str(plan.problem)
    names = [operand.name for operand in plan.operands]
    assert names == ["x", "w", "x_scale", "x_zero", "w_scale", "w_zero", "y_scale", "y_zero"]
    for seed in range(3):
        rng = np.random.default_rng(seed)
        values = [np.float32(0.02), np.uint8(rng.integers(256))]
        values += [rng.uniform(0.01, 0.2, 5).astype(np.float32)]
        values += [rng.integers(-128, 128, 5).astype(np.int8), np.float32(rng.uniform(1, 9))]
        values += [np.uint8(rng.integers(256))]
        given = dict(zip(names[2:], values, strict=True))
        want = hwkit.ops.qconv2d(x, w, **given, padding=1)
        np.testing.assert_array_equal(plan(x, w, *values), want)
        np.testing.assert_array_equal(plan.prepack(w, *values)(x), want)
        np.testing.assert_array_equal(plan.prepack(w)(x, *values), want)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"w_scale": 1.0}, ArgumentError, "x_scale is missing: give the scales of both"),
        ({"y_scale": 1.0}, ArgumentError, "x_scale is missing"),
        ({"x_zero": 256}, ArgumentError, "x_zero=256 does not fit uint8"),
        ({"w_zero": 0.5}, ArgumentError, "w_zero=0.5 does not fit int8"),
        ({"x_zero": float("nan")}, ArgumentError, "x_zero=nan does not fit uint8"),
        (
            {"x_scale": [[1], [1, 2]], "w_scale": 1},
            ArgumentError,
            "list cannot be read as an array",
        ),
        ({"x_zero": [1, 2]}, ArgumentError, r"x_zero has shape \(2,\), but must be a number"),
        ({"w_zero": [1, 2]}, ArgumentError, r"w_zero has shape \(2,\), but must have \(4,\)"),
        ({"w_zero": [[1, 2]]}, ArgumentError, "must be a number, or one for each output channel"),
        ({"out_dtype": "uint8"}, ArgumentError, "out_dtype='uint8' does not go with these"),
        ({"activation": "silu"}, ArgumentError, "activation 'silu' of qconv2d is not for int32"),
        ({"activation": "clip:0,1"}, ArgumentError, "activation 'clip' of qconv2d is not for"),
        ({"bias": np.zeros(4, "f4")}, DtypeError, "bias has dtype float32, but must be one of int"),
        ({"bias": np.zeros(3, "i4")}, ArgumentError, r"bias has shape \(3,\), but must have \(4,"),
    ],
)
def test_mistakes_name_the_argument(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Parameters that are missing, do not fit or do not go together are told in one sentence."""
    x, w = np.zeros((1, 2, 4, 4), np.uint8), np.zeros((4, 2, 1, 1), np.int8)
    with pytest.raises(error, match=message) as caught:
        hwkit.ops.qconv2d(x, w, **arguments)
    assert "\n" not in str(caught.value)


def test_operands_of_other_dtypes_are_refused() -> None:
    """8 bits only, in calls and in problems."""
    with pytest.raises(DtypeError, match="w has dtype float32, but must be one of int8, uint8"):
        hwkit.ops.qconv2d(np.zeros((1, 1, 2, 2), "u1"), np.zeros((1, 1, 1, 1), "f4"))
    with pytest.raises(ArgumentError, match="qconv2d is for int8 and uint8 with int32 sums"):
        QCONV2D.parse("qconv2d float32 nchw n=1 c=1 h=1 w=1 k=1 r=1 s=1")
    with pytest.raises(ArgumentError, match="qconv2d fuses no residual"):
        QCONV2D.parse("qconv2d int8,int8,int8,int32 nchw n=1 c=1 h=1 w=1 k=1 r=1 s=1 +residual")
    one, scale = Spec((1, 1, 1, 1), "int8"), Spec((), "float32")
    with pytest.raises(ArgumentError, match="x_scale is given, but a result of int32 does not"):
        QCONV2D.problem(one, one, None, scale, out_dtype="int32")
