"""The contract of gemm: layouts, alpha, beta and c, checks, and the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwkit import ArgumentError, DtypeError, Spec
from hwkit.op import relative_error
from hwkit.ops.gemm import GEMM, gemm

LAYOUTS = [(False, False), (False, True), (True, False), (True, True)]


@pytest.mark.parametrize(("transpose_a", "transpose_b"), LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_reference_agrees_with_torch(
    torch: Any, rng: np.random.Generator, transpose_a: bool, transpose_b: bool, dtype: str
) -> None:
    """alpha op(a) op(b) + beta c, with each of the four layouts."""
    m, n, k = 7, 5, 9
    a = rng.standard_normal((k, m) if transpose_a else (m, k)).astype(dtype)
    b = rng.standard_normal((n, k) if transpose_b else (k, n)).astype(dtype)
    c = rng.standard_normal((m, n)).astype(dtype)
    left, right, added = (torch.from_numpy(array) for array in (a, b, c))
    want = torch.addmm(
        added,
        left.T if transpose_a else left,
        right.T if transpose_b else right,
        beta=-0.5,
        alpha=1.5,
    ).numpy()
    problem = GEMM.problem(
        a, b, c, alpha=1.5, beta=-0.5, transpose_a=transpose_a, transpose_b=transpose_b
    )
    assert problem.layout == "nt"[transpose_a] + "nt"[transpose_b]
    got = problem.reference(a, b, c)
    assert got.dtype == dtype
    assert relative_error(got, want) <= problem.error_budget()


def test_bias_residual_and_activation_follow_c(rng: np.random.Generator) -> None:
    """The whole formula, against numpy."""
    a, b = rng.standard_normal((4, 6)), rng.standard_normal((6, 3))
    c, residual, bias = rng.standard_normal((4, 3)), rng.standard_normal((4, 3)), np.arange(3.0)
    problem = GEMM.problem(a, b, c, bias, residual, alpha=2, beta=3, activation="relu")
    assert [o.name for o in problem.operands] == ["a", "b", "c", "bias", "residual"]
    want = np.maximum(2 * (a @ b) + 3 * c + bias + residual, 0)
    assert np.allclose(problem.reference(a, b, c, bias, residual), want, 1e-14, 1e-14)


def test_beta_is_one_where_c_is_given() -> None:
    """c alone is added as it is; a beta of zero leaves it out of the Problem."""
    a, c = Spec((4, 4)), Spec((4, 4))
    assert GEMM.problem(a, a, c)["beta"] == 1.0
    assert GEMM.problem(a, a)["beta"] == 0.0
    assert GEMM.problem(a, a, c, beta=0) == GEMM.problem(a, a)
    # What is not read may have any shape and dtype.
    assert GEMM.problem(a, a, Spec((9,), "int8"), beta=0.0) == GEMM.problem(a, a)
    assert [o.name for o in GEMM.problem(a, a, c).operands] == ["a", "b", "c"]


def test_alpha_of_zero_is_plain_arithmetic() -> None:
    """0 x NaN is NaN: only a beta of zero keeps an operand from being read."""
    a = np.array([[np.nan, 1.0]])
    problem = GEMM.problem(a, np.ones((2, 2)), alpha=0.0)
    assert np.isnan(problem.reference(a, np.ones((2, 2)))).all()


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)])
def test_zero_sizes(shape: tuple[int, int, int]) -> None:
    """No depth gives zeros plus bias; no rows or columns give an empty result."""
    m, n, k = shape
    a, b, bias = np.ones((m, k)), np.ones((k, n)), np.arange(float(n))
    problem = GEMM.problem(a, b, bias=bias)
    got = problem.reference(a, b, bias)
    assert got.shape == (m, n)
    assert np.array_equal(got, np.broadcast_to(bias, (m, n)) + k)


def test_narrow_types_accumulate_in_float32(rng: np.random.Generator) -> None:
    """2048 halves added up stay near the float64 answer."""
    a, b = rng.random((2, 2048), np.float32), rng.random((2048, 2), np.float32)
    a, b = a.astype(np.float16), b.astype(np.float16)
    problem = GEMM.problem(a, b)
    got = problem.reference(a, b)
    assert got.dtype == np.float16
    assert relative_error(got, a.astype("f8") @ b.astype("f8")) <= problem.error_budget()


def test_integers_are_exact(rng: np.random.Generator) -> None:
    """A quantised product, deep enough to leave int8 and float32 behind."""
    problem = GEMM.parse("gemm int8,int8,int32,int32 nt m=3 n=4 k=4096 alpha=2.0 +bias+relu")
    a, b = (rng.integers(-128, 128, (rows, 4096)).astype(np.int8) for rows in (3, 4))
    bias = rng.integers(-(2**31), 2**31, 4).astype(np.int32)
    want = np.maximum(2 * (a.astype(object) @ b.astype(object).T) + bias, 0)
    got = problem.reference(a, b, bias)
    assert got.dtype == np.int64
    assert (got == want).all()
    with pytest.raises(ArgumentError, match=r"alpha=0\.5 of gemm must be whole for int8,int8"):
        GEMM.parse("gemm int8,int8,int32,int32 nn m=1 n=1 k=1 alpha=0.5")


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.integers(0, 9)] * 3),
    st.sampled_from(LAYOUTS),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["float32", "float64", "float16"]),
    st.sampled_from([None, "relu6", "leaky_relu:0.2", ("clip", -1e20, 1e20)]),
)
def test_problems_read_back_and_have_the_shape_of_their_reference(
    sizes: tuple[int, int, int],
    layout: tuple[bool, bool],
    alpha: float,
    beta: float,
    dtype: str,
    activation: Any,
) -> None:
    """What the public function makes prints, parses, and computes in its own shape."""
    m, n, k = sizes
    problem = GEMM.problem(
        Spec((k, m) if layout[0] else (m, k), dtype),
        Spec((n, k) if layout[1] else (k, n), dtype),
        Spec((m, n), dtype),
        Spec((n,), dtype),
        alpha=alpha,
        beta=beta,
        transpose_a=layout[0],
        transpose_b=layout[1],
        activation=activation,
    )
    again = GEMM.parse(str(problem))
    assert again == problem
    assert again.attributes == problem.attributes
    assert again.operands == problem.operands
    result = problem.reference(*problem.random_operands())
    assert (result.shape, result.dtype) == (problem.output.shape, problem.output.dtype)


def test_flops_count_a_multiply_add_as_two() -> None:
    """2 m n k, whatever the epilogue."""
    assert GEMM.parse("gemm float32 nt m=3 n=5 k=7 beta=1.0 +bias+relu").flops == 210


@pytest.mark.parametrize(
    ("shapes", "arguments", "message"),
    [
        (((3, 4), (5, 6)), {}, r"b has shape \(5, 6\) and the depth 5, but must have the depth 4"),
        (((3, 4), (4, 6)), {"transpose_b": True}, "b has shape .* and the depth 6, .* depth 4"),
        (((3, 4), (4, 6)), {"transpose_a": True}, "b has shape .* and the depth 4, .* depth 3"),
        (((3,), (3, 4)), {}, r"a has shape \(3,\), but must have 2 dimensions \(m, k\)"),
        (((2, 3), (1, 3, 4)), {}, r"b has shape \(1, 3, 4\), but must have 2 dimensions"),
        (((2, 3), (3, 4), (4,)), {}, r"c has shape \(4,\), but must have \(2, 4\)"),
        (((2, 3), (3, 4), None, (2,)), {}, r"bias has shape \(2,\), but must have \(4,\)"),
        (((2, 3), (3, 4), None, None, (4, 2)), {}, r"residual has shape \(4, 2\), but must"),
        (((2, 3), (3, 4)), {"beta": 2.0}, r"beta=2\.0 scales c, but there is no c"),
        (((2, 3), (3, 4)), {"alpha": "x"}, "alpha='x' must be a number"),
        (((2, 3), (3, 4)), {"alpha": "2"}, "alpha='2' must be a number"),
        (((2, 3), (3, 4)), {"alpha": 10**400}, "alpha=1000.* must be a number"),
        (((3, 3), (3, 3)), {"transpose_a": "no"}, "transpose_a='no' must be True or False"),
        ((None, (3, 4)), {}, "a is None, but must be an array"),
        (((2, 3), None), {}, "b is None, but must be an array"),
        (((2, 3), (3, 4), (2, 4)), {"beta": [1]}, r"beta=\[1\] must be a number"),
        (((2, 3), (3, 4)), {"activation": 3}, "activation=3 must be a name such as 'relu'"),
        (((2**40, 0), (0, 2**40)), {}, "y of shape .* more than memory can address"),
    ],
)
def test_mistakes_are_one_sentence_that_names_the_argument(
    shapes: Any, arguments: dict[str, Any], message: str
) -> None:
    """Shapes and options that are not legal are told before anything is allocated."""
    operands = [None if shape is None else Spec(shape, "float32") for shape in shapes]
    with pytest.raises(ArgumentError, match=message) as caught:
        GEMM.problem(*operands, **arguments)
    assert "\n" not in str(caught.value)


def test_beta_of_any_kind() -> None:
    """A zero of numpy leaves c out as Python's does; an array of numbers is no number."""
    a = np.ones((2, 2), np.float32)
    np.testing.assert_array_equal(gemm(a, a, a.astype(int), beta=np.float32(0)), a @ a)
    with pytest.raises(ArgumentError, match=r"beta=array.* must be a number"):
        gemm(a, a, a, beta=np.zeros(2))  # type: ignore[arg-type]


def test_mixed_dtypes_are_named() -> None:
    """Every operand must have the dtype of a."""
    a, other = Spec((2, 2), "float32"), Spec((2, 2), "float64")
    with pytest.raises(DtypeError, match="b has dtype float64, but a has float32"):
        GEMM.problem(a, other)
    with pytest.raises(DtypeError, match="c has dtype float64, but a has float32"):
        GEMM.problem(a, a, other)


def test_integer_sums_wrap_before_the_activation() -> None:
    """A bias beyond 32 bits: each kernel and the reference answer as int32 arithmetic does."""
    a, b = np.full((3, 40), 255, np.uint8), np.full((40, 5), 127, np.int8)
    bias = np.array([2**31 - 1, -(2**31), 0, 2**31 - 2, 7], np.int32)
    for activation in (None, "relu", "relu6"):
        wanted = (a.astype(np.int32) @ b.astype(np.int32)) + bias
        if activation is not None:
            wanted = np.clip(wanted, 0, 6 if activation == "relu6" else None)
        problem = GEMM.problem(a, b, bias=bias, activation=activation)
        assert np.array_equal(problem.reference(a, b, bias), wanted)
        assert np.array_equal(gemm(a, b, bias=bias, activation=activation), wanted)
