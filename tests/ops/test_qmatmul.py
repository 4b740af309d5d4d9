"""qmatmul: the contract, onnxruntime's answers, and mistakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hwkit
from hwkit import ArgumentError, DtypeError, Spec
from hwkit.ops.qmatmul import QMATMUL

Array = np.ndarray[Any, Any]

PAIRS = [(a, b) for a in ("uint8", "int8") for b in ("uint8", "int8")]
SHAPES = [
    ((7, 33), (33, 20)),
    ((3, 7, 33), (33, 20)),
    ((2, 3, 5, 9), (3, 9, 4)),
    ((5, 9), (4, 9, 6)),
    ((9,), (9, 4)),
    ((4, 9), (9,)),
]


def byte(rng: np.random.Generator, shape: tuple[int, ...], kind: str, narrow: bool) -> Array:
    """Return bytes; narrow signed ones have products of which two fit 16 bits."""
    low, high = (0, 256) if kind == "uint8" else (-64, 64) if narrow else (-128, 128)
    return rng.integers(low, high, shape).astype(kind)


@pytest.mark.parametrize("kinds", [("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8")])
@pytest.mark.parametrize("shapes", SHAPES[:4], ids=str)
def test_requantised_is_onnx_qlinearmatmul(
    onnx_node: Callable[..., Array], rng: np.random.Generator, kinds: tuple[str, str], shapes: Any
) -> None:
    """Every byte equals onnxruntime's."""
    a, b = (byte(rng, s, kind, True) for s, kind in zip(shapes, kinds, strict=True))
    values = [np.float32(0.02), np.asarray(120, kinds[0]), np.float32(0.03)]
    values += [np.asarray(3, kinds[1]), np.float32(0.5), np.asarray(101, kinds[0])]
    want = onnx_node(
        "QLinearMatMul", a, *map(np.asarray, values[:2]), b, *map(np.asarray, values[2:])
    )
    names = ("a_scale", "a_zero", "b_scale", "b_zero", "y_scale", "y_zero")
    got = hwkit.ops.qmatmul(a, b, **dict(zip(names, values, strict=True)))
    assert len(np.unique(want)) > 30
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("each", [False, True])
def test_sums_are_onnx_matmulinteger(
    onnx_node: Callable[..., Array], rng: np.random.Generator, each: bool
) -> None:
    """Zero points of the columns or of the whole."""
    a, b = byte(rng, (6, 50), "uint8", False), byte(rng, (50, 9), "uint8", False)
    b_zero = rng.integers(0, 256, 9 if each else ()).astype(np.uint8)
    want = onnx_node("MatMulInteger", a, b, np.asarray(77, "u1"), b_zero, dtype="int32")
    np.testing.assert_array_equal(hwkit.ops.qmatmul(a, b, a_zero=77, b_zero=b_zero), want)


@pytest.mark.parametrize("kinds", PAIRS)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_shapes_are_those_of_numpy(
    rng: np.random.Generator, kinds: tuple[str, str], shapes: Any
) -> None:
    """Stacks, vectors, transposed matrices and ``out`` give numpy's products in int64."""
    a, b = (byte(rng, s, kind, False) for s, kind in zip(shapes, kinds, strict=True))
    want = np.matmul(a.astype(np.int64) - 5, b.astype(np.int64) + 2 - 4 * (kinds[1] == "uint8"))
    zero = 2 if kinds[1] == "uint8" else -2
    got = hwkit.ops.qmatmul(a, b, a_zero=5, b_zero=zero)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, want)
    out = np.zeros((*want.shape, 2), np.int32)[..., 0]
    assert hwkit.ops.qmatmul(a, b, a_zero=5, b_zero=zero, out=out) is out
    np.testing.assert_array_equal(out, want)
    if b.ndim > 1:
        turned = np.ascontiguousarray(np.swapaxes(b, -1, -2))
        again = hwkit.ops.qmatmul(a, turned, a_zero=5, b_zero=zero, transpose_b=True)
        np.testing.assert_array_equal(again, want)
    plain = np.matmul(a.astype(np.int64), b.astype(np.int64))
    np.testing.assert_array_equal(hwkit.ops.matmul(a, b), plain)


def test_gemm_and_conv2d_of_bytes_make_int32(rng: np.random.Generator) -> None:
    """Without zero points the plain functions take 8 bits as well, with int32 bias."""
    a, b = byte(rng, (9, 4), "int8", False), byte(rng, (6, 9), "uint8", False)
    bias = rng.integers(-999, 999, 6).astype(np.int32)
    want = a.T.astype(np.int64) @ b.T.astype(np.int64) + bias
    got = hwkit.ops.gemm(a, b, transpose_a=True, transpose_b=True, bias=bias)
    np.testing.assert_array_equal(got, want)
    again = hwkit.ops.gemm(a, b, transpose_a=True, transpose_b=True, alpha=3, activation="relu")
    np.testing.assert_array_equal(again, np.maximum(3 * (want - bias), 0))
    conv = hwkit.ops.conv2d(a.reshape(1, 9, 2, 2), b.reshape(6, 9, 1, 1), bias)
    np.testing.assert_array_equal(conv.reshape(6, 4), want.T)
    with pytest.raises(DtypeError, match="bias has dtype float32, but this plan is for int32"):
        hwkit.ops.gemm(a, b, transpose_a=True, transpose_b=True, bias=bias.astype("f4"))


def test_mistakes_name_the_argument() -> None:
    """Shapes, dtypes and parameters that do not fit are told in one sentence."""
    a, b = np.zeros((2, 3), np.int8), np.zeros((3, 4), np.int8)
    with pytest.raises(ArgumentError, match="a_scale is missing"):
        hwkit.ops.qmatmul(a, b, b_scale=1.0)
    with pytest.raises(ArgumentError, match="a_scale='x' must be of numbers"):
        hwkit.ops.qmatmul(a, b, a_scale="x", b_scale=1.0)
    for scale in (0.0, -1.0, np.nan):
        with pytest.raises(ArgumentError, match=r"y_scale=.* must be a finite number above 0"):
            hwkit.ops.qmatmul(a, b, a_scale=1.0, b_scale=1.0, y_scale=scale)
    with pytest.raises(DtypeError, match="out_dtype='narrow' must be one of int8, uint8"):
        hwkit.ops.qmatmul(a, b, out_dtype="narrow")
    with pytest.raises(ArgumentError, match="transpose_b='no' must be True or False"):
        hwkit.ops.qmatmul(a, b, transpose_b="no")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="last but one size must be 3"):
        hwkit.ops.qmatmul(a, b, transpose_b=True)
    with pytest.raises(ArgumentError, match="nothing to transpose"):
        hwkit.ops.qmatmul(a, b[:, 0], transpose_b=True)
    with pytest.raises(DtypeError, match="b has dtype int32, but must be one of int8, uint8"):
        hwkit.ops.qmatmul(a, b.astype("i4"))
    with pytest.raises(ArgumentError, match=r"out has shape \(2, 3\), but the result has"):
        hwkit.ops.qmatmul(a, b, out=np.zeros((2, 3), "i4"))
    with pytest.raises(DtypeError, match="out has dtype uint8, to which a result of int32 cannot"):
        hwkit.ops.qmatmul(a, b, out=np.zeros((a.shape[0], b.shape[1]), "u1"))
    with pytest.raises(ArgumentError, match="the depth must be 3, and the batches equal or 1"):
        QMATMUL.problem(Spec((2, 2, 3), "int8"), Spec((3, 3, 4), "int8"))
    with pytest.raises(ArgumentError, match="shared=c of qmatmul must be none, a or b"):
        QMATMUL.parse("qmatmul int8,int8,int8,int32 nn b=1 m=1 n=1 k=1 shared=c")
