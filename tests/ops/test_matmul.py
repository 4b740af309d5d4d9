"""matmul against numpy.matmul: every pair of shapes, how it is folded, out=, and its contract."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hwkit
from hwkit import ArgumentError, DtypeError, Spec
from hwkit.op import relative_error
from hwkit.ops.matmul import MATMUL

Array = np.ndarray[Any, Any]

SHAPES = [
    ((3, 4), (4, 5)),
    ((4,), (4,)),
    ((4,), (4, 5)),
    ((3, 4), (4,)),
    ((2, 3, 4), (4,)),
    ((4,), (2, 4, 5)),
    ((2, 3, 4), (4, 5)),
    ((3, 4), (2, 4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((2, 3, 4), (1, 4, 5)),
    ((1, 3, 4), (2, 4, 5)),
    ((1, 1, 3, 4), (4, 5)),
    ((3, 4), (1, 1, 4, 5)),
    ((2, 1, 3, 4), (1, 6, 4, 5)),
    ((6, 1, 2, 3, 4), (5, 1, 4, 2)),
    ((2, 6, 3, 4), (6, 4, 5)),
    ((1, 1), (1, 1)),
    ((1, 4), (4, 1)),
    ((0, 4), (4, 5)),
    ((3, 0), (0, 5)),
    ((3, 4), (4, 0)),
    ((0,), (0,)),
    ((0, 3, 4), (0, 4, 5)),
    ((0, 3, 4), (4, 5)),
    ((3, 4), (0, 4, 5)),
    ((2, 3, 0), (2, 0, 5)),
    ((2, 0, 3, 4), (1, 4, 5)),
    ((2, 1, 3, 4), (0, 4, 5)),
]


def _check(got: Any, a: Array, b: Array) -> None:
    want = np.matmul(a.astype("f8"), b.astype("f8"))
    assert got.shape == want.shape
    assert got.dtype == a.dtype.newbyteorder("=")
    assert relative_error(got, want) <= (2e-6 if got.dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_agrees_with_numpy(rng: np.random.Generator, a: Any, b: Any, dtype: str) -> None:
    """Shape, dtype and values."""
    left, right = rng.standard_normal(a).astype(dtype), rng.standard_normal(b).astype(dtype)
    got = hwkit.ops.matmul(left, right)
    _check(got, left, right)
    assert type(got) is type(np.matmul(left, right))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_broadcast_agrees_with_numpy(data: st.DataObject) -> None:
    """Random leading sizes, each of which may be 1 or missing on either side."""
    batch = data.draw(st.lists(st.integers(0, 3), max_size=3))
    m, n, k = (data.draw(st.integers(0, 5)) for _ in range(3))

    def side(rows: int, columns: int) -> Array:
        kept = data.draw(st.integers(0, len(batch)))
        leading = [s if data.draw(st.booleans()) else 1 for s in batch[len(batch) - kept :]]
        # Whole numbers: a single result near zero must not look wrong for want of digits.
        array = np.random.default_rng(0).integers(-9, 9, (*leading, rows, columns))
        return array.astype(np.float32)

    a, b = side(m, k), side(k, n)
    _check(hwkit.ops.matmul(a, b), a, b)


def _views(array: Array) -> dict[str, Array]:
    """Return ``array`` in every memory order: equal values, different strides."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return {
        "plain": array,
        "fortran": np.asfortranarray(array),
        "swapped": np.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2),
        "strided": wide[..., ::2],
        "reversed": np.ascontiguousarray(array[..., ::-1])[..., ::-1],
        "big-endian": array.astype(array.dtype.newbyteorder(">")),
    }


@pytest.mark.parametrize(
    ("a", "b"), [((3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (4, 5))]
)
@pytest.mark.parametrize(
    "pair", list(itertools.product(_views(np.ones((1, 1))), repeat=2)), ids=str
)
def test_memory_order_does_not_matter(
    rng: np.random.Generator, a: Any, b: Any, pair: tuple[str, str]
) -> None:
    """Views of any strides give what their copies give."""
    left = _views(rng.standard_normal(a).astype(np.float32))[pair[0]]
    right = _views(rng.standard_normal(b).astype(np.float32))[pair[1]]
    _check(hwkit.ops.matmul(left, right), left, right)


def test_a_broadcast_view_needs_no_copy_by_the_caller(rng: np.random.Generator) -> None:
    """Strides of zero are read as they are."""
    a = np.broadcast_to(rng.standard_normal(4).astype(np.float32), (3, 4))
    b = np.broadcast_to(np.float32(2), (2, 4, 5))
    _check(hwkit.ops.matmul(a, a.T), a, a.T)
    _check(hwkit.ops.matmul(a, b), a, b)


class _Calls:
    """Stands in for dispatch.call: notes what is asked for, and computes the reference."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.operands: list[Array] = []

    def __call__(
        self, op: Any, operands: Any, arguments: Any, out: Any, device: Any, tolerance: Any
    ) -> Any:
        problem = op.problem(*operands, **dict(zip(op.arguments, arguments, strict=True)))
        self.problems.append(str(problem))
        self.operands = [a for a in operands if a is not None]
        return problem.reference(*self.operands)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> _Calls:
    """What matmul asks dispatch for."""
    import sys

    recorder = _Calls()
    monkeypatch.setattr(sys.modules["hwkit.ops.matmul"], "call", recorder)
    return recorder


@pytest.mark.parametrize(
    ("a", "b", "problem"),
    [
        ((3, 4), (4, 5), "gemm float32 nn m=3 n=5 k=4"),
        ((3, 4), (4,), "gemm float32 nt m=1 n=3 k=4"),
        ((3, 4), (4, 1), "gemm float32 nt m=1 n=3 k=4"),
        ((2, 3, 4), (4,), "gemm float32 nt m=1 n=6 k=4"),
        ((4,), (4, 5), "gemm float32 nn m=1 n=5 k=4"),
        ((4,), (4,), "gemm float32 nt m=1 n=1 k=4"),
        ((2, 3, 4), (4, 5), "gemm float32 nn m=6 n=5 k=4"),
        ((2, 7, 3, 4), (1, 4, 5), "gemm float32 nn m=42 n=5 k=4"),
        ((2, 3, 4), (2, 4, 5), "matmul float32 b=2 m=3 n=5 k=4"),
        ((3, 4), (2, 4, 5), "matmul float32 b=2 m=3 n=5 k=4 shared=a"),
        ((1, 1, 3, 4), (2, 6, 4, 5), "matmul float32 b=12 m=3 n=5 k=4 shared=a"),
        ((2, 1, 3, 4), (6, 4, 5), "matmul float32 b=12 m=3 n=5 k=4"),
    ],
)
def test_what_it_folds_into(calls: _Calls, a: Any, b: Any, problem: str) -> None:
    """One matrix product where there is one, a batch where there is not."""
    hwkit.ops.matmul(np.ones(a, np.float32), np.ones(b, np.float32))
    assert calls.problems == [problem]


def test_transposed_views_are_not_copied(calls: _Calls) -> None:
    """A matrix in Fortran order goes in as its transpose, with another layout."""
    a, b = np.ones((3, 4), np.float32), np.ones((4, 5), np.float32)
    for left, right in itertools.product((a, np.asfortranarray(a)), (b, np.asfortranarray(b))):
        hwkit.ops.matmul(left, right)
        assert all(
            np.shares_memory(seen, given)
            for seen, given in zip(calls.operands, (left, right), strict=True)
        )
    layouts = [text.split()[2] for text in calls.problems]
    assert layouts == ["nn", "nt", "tn", "tt"]
    vector = np.ones(4, np.float32)
    hwkit.ops.matmul(np.asfortranarray(a), vector)
    assert calls.problems[-1] == "gemm float32 nn m=1 n=3 k=4"
    assert np.shares_memory(calls.operands[0], vector)


class _Remote:
    """An array on a device, whose library is this module: numpy does not reach it."""

    def __init__(self, array: Array) -> None:
        self.inner = array
        self.shape, self.dtype = array.shape, array.dtype

    def reshape(self, *shape: Any) -> _Remote:
        return _Remote(self.inner.reshape(*shape))

    def __setitem__(self, place: Any, values: _Remote) -> None:
        self.inner[place] = values.inner


def broadcast_to(array: _Remote, shape: tuple[int, ...]) -> _Remote:
    """Broadcast, as the library of that array."""
    return _Remote(np.broadcast_to(array.inner, shape))


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The problems of products of arrays on a device, computed there."""
    import sys

    asked: list[str] = []

    def call(op: Any, operands: Any, arguments: Any, out: Any, device: Any, tolerance: Any) -> Any:
        problem = op.problem(*operands, **dict(zip(op.arguments, arguments, strict=True)))
        asked.append(str(problem))
        y = problem.reference(*[a.inner for a in operands if a is not None])
        if out is None:
            return _Remote(y)
        out.inner[...] = y
        return out

    monkeypatch.setattr(sys.modules["hwkit.ops.matmul"], "call", call)
    monkeypatch.setitem(sys.modules, __name__.partition(".")[0], sys.modules[__name__])
    return asked


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_arrays_on_a_device_stay_there(
    rng: np.random.Generator, remote: list[str], a: Any, b: Any
) -> None:
    """Matrices, vectors and stacks of any shape, into a new array and into one that is given."""
    x, y = (rng.standard_normal(shape).astype(np.float32) for shape in (a, b))
    result = hwkit.ops.matmul(_Remote(x), _Remote(y))
    np.testing.assert_allclose(result.inner, x @ y, rtol=1e-5)
    out = _Remote(np.zeros((x @ y).shape, np.float32))
    assert hwkit.ops.matmul(_Remote(x), _Remote(y), out=out) is out
    np.testing.assert_array_equal(out.inner, result.inner)
    assert remote[0] == remote[1]


def test_arrays_on_a_device_that_cannot_be_folded(remote: list[str]) -> None:
    """Where the library has no way to, the message says which shapes it takes."""

    class Bare:
        def __init__(self, *shape: int) -> None:
            self.shape, self.dtype = shape, np.dtype(np.float32)

    with pytest.raises(ArgumentError, match=r"type Bare on a device has no reshape.*pass matrices"):
        hwkit.ops.matmul(Bare(2, 3, 4), Bare(4, 5))
    with pytest.raises(ArgumentError, match="leading sizes do not broadcast"):
        hwkit.ops.matmul(Bare(2, 3, 4), Bare(3, 4, 5))


@pytest.mark.parametrize(("a", "b"), [s for s in SHAPES if len(s[0]) + len(s[1]) > 2])
def test_out_is_filled_and_returned(rng: np.random.Generator, a: Any, b: Any) -> None:
    """Contiguous or not, of the result's dtype or one that it can be cast to."""
    left, right = rng.standard_normal(a).astype("f4"), rng.standard_normal(b).astype("f4")
    shape = np.matmul(left, right).shape
    wide = np.full((*shape, 2), 7, np.float32)
    backwards = np.empty(shape, np.float32)[(slice(None, None, -1),) * len(shape)]
    for out in (
        np.empty(shape, np.float32),
        np.empty(shape, np.float32, order="F"),
        np.empty(shape, np.float64),
        np.empty(shape, ">f4"),
        wide[..., 0],
        backwards,
    ):
        assert hwkit.ops.matmul(left, right, out=out) is out
        _check(out.astype("f4"), left, right)
    assert (wide[..., 1] == 7).all()


def test_out_of_two_vectors_is_a_scalar_array() -> None:
    """numpy fills a 0-d array; so does this."""
    x, out = np.arange(3, dtype=np.float32), np.empty((), np.float32)
    assert hwkit.ops.matmul(x, x, out=out) is out
    assert out == 5


@pytest.mark.parametrize("stacked", [False, True])
def test_out_may_overlap_an_operand(rng: np.random.Generator, stacked: bool) -> None:
    """The answer is as if the operands had been read first."""
    a = rng.standard_normal((3, 6, 6) if stacked else (6, 6))
    b = rng.standard_normal((6, 6))
    want = np.matmul(a, b)
    assert hwkit.ops.matmul(a, b, out=a) is a
    assert np.allclose(a, want, 1e-13, 1e-13)
    want = np.matmul(b, b)
    hwkit.ops.matmul(b, b, out=b.T)
    assert np.allclose(b.T, want, 1e-13, 1e-13)


def test_lists_and_scalars_of_other_kinds() -> None:
    """What numpy reads as an array is read as one."""
    got = hwkit.ops.matmul([[1.0, 2.0]], [[3.0], [4.0]])
    assert got.tolist() == [[11.0]]
    assert hwkit.ops.matmul([1.0, 2.0], np.array([3.0, 4.0])) == 11.0


def test_tensors_give_tensors(torch: Any) -> None:
    """The library of a is the library of the result, whatever the shapes."""
    for a, b in [((3, 4), (4, 5)), ((4,), (4,)), ((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (4,))]:
        left, right = torch.rand(a), torch.rand(b)
        got = hwkit.ops.matmul(left, right)
        assert isinstance(got, torch.Tensor)
        assert torch.allclose(got, torch.matmul(left, right))
    left = torch.rand(4, 3).T
    assert torch.allclose(hwkit.ops.matmul(left, left.T), left @ left.T)


def test_arrays_are_left_as_they_were(rng: np.random.Generator) -> None:
    """Read-only operands are read only."""
    a = rng.standard_normal((2, 3, 4))
    before = a.copy()
    a.flags.writeable = False
    hwkit.ops.matmul(a, a.swapaxes(1, 2))
    assert np.array_equal(a, before)


def test_nothing_is_no_matrix() -> None:
    """``None`` is not taken for a scalar."""
    with pytest.raises(ArgumentError, match="a is None, but must be an array"):
        hwkit.ops.matmul(None, np.ones(3))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((3, 4), (5,), r"b has shape \(5,\), but its only size must be 4"),
        ((4, 3), (5, 4, 6), r"b has shape \(5, 4, 6\), but its last but one size must be 3"),
        ((2, 3, 4), (2, 5, 4), "its last but one size must be 4"),
        ((2, 3, 4), (3, 4, 5), "whose leading sizes do not broadcast with those of a"),
        ((2, 1, 3, 4), (3, 3, 5, 4, 5), "do not broadcast"),
        ((), (4,), "a is a scalar, but matmul needs at least one dimension"),
        ((4,), (), "b is a scalar"),
    ],
)
def test_shapes_that_do_not_fit(a: Any, b: Any, message: str) -> None:
    """One sentence that names the operand, as the caller passed it."""
    with pytest.raises(ArgumentError, match=message) as caught:
        hwkit.ops.matmul(np.ones(a), np.ones(b))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fortran", [False, True])
def test_matrices_that_do_not_fit(fortran: bool) -> None:
    """The shapes in the message are the caller's, also for transposed views."""
    a, b = np.ones((3, 4)), np.ones((5, 6))
    b = np.asfortranarray(b) if fortran else b
    with pytest.raises(
        ArgumentError, match=r"b has shape \(5, 6\).* of a, which has shape \(3, 4\)"
    ):
        hwkit.ops.matmul(a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((3, 4), (4, 1))],
)
def test_dtypes_that_do_not_fit(a: Any, b: Any) -> None:
    """Mixed and integer dtypes are refused by name."""
    with pytest.raises(DtypeError, match="b has dtype float64, but a has float32"):
        hwkit.ops.matmul(np.ones(a, "f4"), np.ones(b, "f8"))
    with pytest.raises(DtypeError, match="a has dtype int64, but must be one of float32"):
        hwkit.ops.matmul(np.ones(a, "i8"), np.ones(b, "i8"))


@pytest.mark.parametrize(("a", "b"), [((3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (4,))])
def test_out_that_does_not_fit(a: Any, b: Any) -> None:
    """The result's shape, and a dtype that it can be cast to."""
    left, right = np.ones(a, np.float32), np.ones(b, np.float32)
    with pytest.raises(ArgumentError, match=r"out has shape \(7, 7\), but the result has"):
        hwkit.ops.matmul(left, right, out=np.empty((7, 7), np.float32))
    shape = np.matmul(left, right).shape
    with pytest.raises(DtypeError, match="out has dtype int32"):
        hwkit.ops.matmul(left, right, out=np.empty(shape, np.int32))
    out = np.empty(shape, np.float32)
    out.flags.writeable = False
    with pytest.raises(ArgumentError, match=r"out .* cannot be written"):
        hwkit.ops.matmul(left, right, out=out)


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        ((2, 3, 4), (2, 4, 5), "matmul float32 b=2 m=3 n=5 k=4"),
        ((1, 3, 4), (2, 4, 5), "matmul float32 b=2 m=3 n=5 k=4 shared=a"),
        ((2, 3, 4), (1, 4, 5), "matmul float32 b=2 m=3 n=5 k=4 shared=b"),
        ((1, 3, 4), (1, 4, 5), "matmul float32 b=1 m=3 n=5 k=4"),
        ((0, 3, 4), (1, 4, 5), "matmul float32 b=0 m=3 n=5 k=4 shared=b"),
    ],
)
def test_the_contract(a: Any, b: Any, text: str) -> None:
    """The Problem of a batch prints, reads back, and computes like numpy."""
    problem = MATMUL.problem(Spec(a), Spec(b))
    assert str(problem) == text
    assert MATMUL.parse(text) == problem
    assert [o.shape for o in problem.operands] == [a, b]
    operands = problem.random_operands()
    got = problem.reference(*operands)
    assert got.shape == problem.output.shape
    assert relative_error(got, np.matmul(*(x.astype("f8") for x in operands))) <= 2e-6
    assert problem.flops == 2 * problem["b"] * 60


def test_contract_mistakes() -> None:
    """What matmul() folds before, the Op refuses."""
    with pytest.raises(ArgumentError, match=r"a has shape \(3, 4\), but must have 3 dimensions"):
        MATMUL.problem(Spec((3, 4)), Spec((4, 5)))
    with pytest.raises(ArgumentError, match="last but one size must be 4"):
        MATMUL.problem(Spec((1, 3, 4)), Spec((1, 5, 4)))
    with pytest.raises(ArgumentError, match="do not broadcast"):
        MATMUL.problem(Spec((2, 3, 4)), Spec((3, 4, 5)))
    with pytest.raises(ArgumentError, match="shared=c of matmul must be none, a or b"):
        MATMUL.parse("matmul float32 b=1 m=1 n=1 k=1 shared=c")


def test_integers_are_exact() -> None:
    """int8 products add up in int64."""
    problem = MATMUL.parse("matmul int8,int8,int32,int32 b=2 m=1 n=1 k=1000")
    a, b = np.full((2, 1, 1000), -128, np.int8), np.full((2, 1000, 1), -128, np.int8)
    assert problem.reference(a, b).ravel().tolist() == [16384000] * 2
