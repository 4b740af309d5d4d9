"""The contracts of global_avg_pool2d and global_max_pool2d."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwkit import ArgumentError, DtypeError, Spec
from hwkit.op import relative_error
from hwkit.ops.global_pool2d import GLOBAL_AVG_POOL2D, GLOBAL_MAX_POOL2D

OPS = [GLOBAL_AVG_POOL2D, GLOBAL_MAX_POOL2D]


@pytest.mark.parametrize("shape", [(1, 3, 7, 7), (2, 5, 1, 9), (3, 1, 1, 1), (0, 4, 2, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_references_are_numpys_mean_and_maximum(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: str
) -> None:
    """Both layouts keep the two axes of the image with size 1."""
    x = rng.standard_normal(shape).astype(dtype)
    swapped = x.transpose(0, 2, 3, 1)
    for op, reduce in ((GLOBAL_AVG_POOL2D, np.mean), (GLOBAL_MAX_POOL2D, np.max)):
        want = reduce(x.astype("f8"), (2, 3), keepdims=True)
        problem = op.problem(x)
        got = problem.reference(x)
        assert (got.shape, got.dtype) == (problem.output.shape, x.dtype)
        assert relative_error(got, want) <= problem.error_budget()
        other = op.problem(swapped, layout="nhwc")
        got = other.reference(swapped)
        assert got.shape == other.output.shape == (shape[0], 1, 1, shape[1])
        assert relative_error(got.transpose(0, 3, 1, 2), want) <= problem.error_budget()


def test_they_equal_a_pool_over_the_whole_image(rng: np.random.Generator) -> None:
    """A window as large as the image says the same."""
    from hwkit.ops.pool2d import AVG_POOL2D, MAX_POOL2D

    x = rng.standard_normal((2, 3, 5, 4))
    for whole, windowed in zip(OPS, (AVG_POOL2D, MAX_POOL2D), strict=True):
        want = windowed.problem(x, kernel=(5, 4)).reference(x)
        assert np.allclose(whole.problem(x).reference(x), want, 1e-14, 1e-14)


def test_nan_and_infinity() -> None:
    """NaN is the greatest; infinities add up as floating-point numbers do."""
    x = np.array([[1, np.nan], [np.inf, 2], [np.inf, -np.inf]]).reshape(1, 3, 2, 1)
    top = GLOBAL_MAX_POOL2D.problem(x).reference(x).ravel()
    mean = GLOBAL_AVG_POOL2D.problem(x).reference(x).ravel()
    assert np.array_equal(top, [np.nan, np.inf, np.inf], equal_nan=True)
    assert np.array_equal(mean, [np.nan, np.inf, np.nan], equal_nan=True)


@pytest.mark.parametrize("op", OPS, ids=str)
def test_the_contract(op: Any) -> None:
    """Text, flops and bytes of one problem."""
    problem = op.problem(Spec((2, 3, 4, 5)))
    assert str(problem) == f"{op.name} float32 nchw n=2 c=3 h=4 w=5"
    assert op.parse(str(problem)) == problem
    assert problem.flops == 120
    assert problem.nbytes == 4 * (120 + 6)
    assert op.problem(Spec((2, 4, 5, 3)), layout="nhwc").sizes == problem.sizes


@pytest.mark.parametrize("op", OPS, ids=str)
def test_mistakes_are_one_sentence_that_names_the_argument(op: Any) -> None:
    """An image without pixels has no mean and no maximum."""
    with pytest.raises(ArgumentError, match=r"h=0 of global_.* must be at least 1"):
        op.problem(Spec((1, 3, 0, 4)))
    with pytest.raises(ArgumentError, match=r"x has shape \(3, 4\), but must have 4 dimensions"):
        op.problem(Spec((3, 4)))
    with pytest.raises(ArgumentError, match="layout 'hwc' of global_"):
        op.problem(Spec((1, 3, 4, 4)), layout="hwc")
    with pytest.raises(DtypeError, match="x has dtype bool"):
        op.problem(Spec((1, 3, 4, 4), "bool"))
