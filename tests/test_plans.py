"""Plan: what it accepts, what it refuses, and what it keeps."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from toy import ToyDevice, ToyKernel

from hwkit import ArgumentError, Config, DtypeError, Problem
from hwkit.ops.gemm import GEMM
from hwkit.plans import Plan

RNG = np.random.default_rng(0)


def problem_of(text: str = "gemm float32 nn m=4 n=6 k=5 +bias") -> Problem:
    return GEMM.parse(text)


@pytest.fixture
def kernel() -> ToyKernel:
    return ToyKernel()


@pytest.fixture
def plan(kernel: ToyKernel) -> Plan:
    return Plan(problem_of(), ToyDevice(0), kernel, Config({"tile": 2}))


def operands() -> tuple[Any, Any, Any]:
    a, b, bias = (RNG.standard_normal(s).astype("f4") for s in ((4, 5), (5, 6), (6,)))
    return a, b, bias


def test_computes(plan: Plan) -> None:
    """A plan returns what numpy returns."""
    a, b, bias = operands()
    np.testing.assert_allclose(plan(a, b, bias), a @ b + bias, rtol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: np.asfortranarray(a),
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: np.ascontiguousarray(a[::-1])[::-1],
        lambda a: a.astype(">f4"),
        lambda a: np.frombuffer(b"x" + a.tobytes(), "f4", offset=1).reshape(a.shape),
        lambda a: np.broadcast_to(a, a.shape),
        lambda a: a.copy().view(_Subclass),
    ],
    ids=["fortran", "strided", "negative", "big-endian", "unaligned", "read-only", "subclass"],
)
def test_any_numpy_operand(plan: Plan, change: Any) -> None:
    """Strides, byte order, alignment and subclasses do not matter."""
    a, b, bias = operands()
    np.testing.assert_allclose(plan(change(a), b, bias), a @ b + bias, rtol=1e-6)


class _Subclass(np.ndarray):
    pass


def test_zero_strides(plan: Plan) -> None:
    """A broadcast operand with stride 0 is read as numpy reads it."""
    a, b, _ = operands()
    bias = np.broadcast_to(np.float32(2), (6,))
    np.testing.assert_allclose(plan(a, b, bias), a @ b + 2, rtol=1e-6)


def test_out(plan: Plan) -> None:
    """``out`` is filled and returned, of any strides, and of a wider dtype."""
    a, b, bias = operands()
    for out in (
        np.empty((4, 6), "f4"),
        np.empty((6, 4), "f4").T,
        np.empty((8, 12), "f4")[::2, ::2],
        np.empty((4, 6), "f8"),
        np.empty((4, 6), ">f4"),
    ):
        assert plan(a, b, bias, out=out) is out
        np.testing.assert_allclose(out, a @ b + bias, rtol=1e-6)


def test_out_overlaps() -> None:
    """``out`` may share memory with an operand."""
    plan = Plan(problem_of("gemm float32 nn m=5 n=5 k=5"), ToyDevice(0), ToyKernel(), Config())
    a, b = (RNG.standard_normal((5, 5)).astype("f4") for _ in range(2))
    expected = a @ b
    assert plan(a, b, out=a) is a
    np.testing.assert_allclose(a, expected, rtol=1e-6)
    memory = RNG.standard_normal(30).astype("f4")
    b, out = memory[:25].reshape(5, 5), memory[5:].reshape(5, 5)
    expected = a @ b
    plan(a, b, out=out)
    np.testing.assert_allclose(out, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("out", "error", "words"),
    [
        (np.empty((6, 4), "f4"), ArgumentError, "out has shape (6, 4)"),
        (np.empty((4, 6), "i4"), DtypeError, "out has dtype int32"),
        (np.broadcast_to(np.float32(0), (4, 6)), ArgumentError, "cannot be written"),
        ([[0.0] * 6] * 4, ArgumentError, "cannot be written"),
    ],
    ids=["shape", "dtype", "read-only", "list"],
)
def test_bad_out(plan: Plan, out: Any, error: type[Exception], words: str) -> None:
    """An ``out`` that cannot take the result is refused in one sentence."""
    with pytest.raises(error) as caught:
        plan(*operands(), out=out)
    assert words in str(caught.value)


def test_bad_operands(plan: Plan) -> None:
    """A wrong number, shape or dtype of operands names what was expected."""
    a, b, bias = operands()
    with pytest.raises(ArgumentError, match=r"takes 3 arrays \(a, b, bias\), not 2"):
        plan(a, b)
    with pytest.raises(ArgumentError, match=r"a has shape \(5, 4\), but this plan is for \(4, 5\)"):
        plan(a.T, b, bias)
    with pytest.raises(DtypeError, match="b has dtype float64, but this plan is for float32"):
        plan(a, b.astype("f8"), bias)
    with pytest.raises(ArgumentError, match="masked"):
        plan(np.ma.masked_greater(a, 0), b, bias)


def test_prepack_keeps_a_copy(plan: Plan) -> None:
    """A prepacked plan takes the other operands, and does not see later changes."""
    a, b, bias = operands()
    expected = a @ b + bias
    packed = plan.prepack(b, bias)
    b[:], bias[:] = 0, 0
    assert [o.name for o in packed.operands] == ["a"]
    np.testing.assert_allclose(packed(a), expected, rtol=1e-6)
    half = plan.prepack(bias=np.ones(6, "f4"))
    np.testing.assert_allclose(half(a, b), 1.0, rtol=1e-6)


def test_bad_prepack(plan: Plan) -> None:
    """Too many, unknown or doubled constants are refused."""
    a, b, bias = operands()
    for arguments, named in (((b, bias, a), {}), ((), {"a": a}), ((b,), {"b": b})):
        with pytest.raises(ArgumentError, match="prepack takes b, bias"):
            plan.prepack(*arguments, **named)
    with pytest.raises(ArgumentError, match="b has shape"):
        plan.prepack(a, bias)


def test_direct_comes_first(kernel: ToyKernel) -> None:
    """A run's own fast path is asked first, and may decline."""

    class Run:
        def __call__(self, *operands: Any, out: Any) -> None:
            out[...] = 7

        def direct(self, operands: tuple[Any, ...], out: Any) -> Any:
            return 42 if operands[0].flags.c_contiguous else NotImplemented

    plan = Plan(problem_of(), ToyDevice(0), kernel, Config(), run=Run())
    a, b, bias = operands()
    assert plan(a, b, bias) == 42
    assert (plan(np.asfortranarray(a), b, bias) == 7).all()


def test_foreign_arrays(plan: Plan) -> None:
    """A torch tensor goes in, a torch tensor comes out; ``out`` is written in place."""
    torch = pytest.importorskip("torch")
    a, b, bias = operands()
    result = plan(*(torch.from_numpy(x) for x in (a, b, bias)))
    assert isinstance(result, torch.Tensor)
    np.testing.assert_allclose(result.numpy(), a @ b + bias, rtol=1e-6)
    out = torch.empty(4, 6)
    assert plan(a, b, bias, out=out) is out
    np.testing.assert_allclose(out.numpy(), a @ b + bias, rtol=1e-6)


def test_prints_what_it_is(plan: Plan) -> None:
    """The text of a plan names problem, device, kernel, config and source."""
    assert repr(plan) == (
        "<Plan gemm float32 nn m=4 n=6 k=5 +bias on toy:0 by toy tile=2 (default)>"
    )


def test_a_copy_is_the_plan_itself(plan: Plan) -> None:
    """Copies share what never changes, so that a model with plans in it can be copied."""
    assert copy.copy(plan) is plan
    assert copy.deepcopy({"layer": plan})["layer"] is plan


def test_pickling_says_what_to_do_instead(plan: Plan) -> None:
    """A plan holds compiled code; pickle gets one sentence, with or without packed weights."""
    for made in (plan, plan.prepack(*operands()[1:])):
        with pytest.raises(TypeError, match=r"cannot be pickled, .* by hwkit.plan with the same"):
            pickle.dumps(made)


class Held(np.ndarray[Any, Any]):
    """What lives on a device, by a mark."""


class HeldDevice(ToyDevice):
    """A device whose arrays are told from the host's."""

    def owns(self, array: Any) -> bool:
        return isinstance(array, Held)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        return np.empty(shape, dtype).view(Held)

    def put(self, array: Any) -> Any:
        return array if self.owns(array) else np.array(array).view(Held)

    def get(self, buffer: Any) -> np.ndarray[Any, Any]:
        return np.array(buffer)


def test_buffers_of_the_device_are_checked(kernel: ToyKernel) -> None:
    """What lives on the device is not taken on trust: a kernel would leave its memory."""
    plan = Plan(problem_of(), HeldDevice(0), kernel, Config({"tile": 2}))
    a, b, bias = (array.view(Held) for array in operands())
    assert isinstance(plan(a, b, bias), Held)
    with pytest.raises(ArgumentError, match=r"b has shape \(4, 6\), but this plan is for \(5, 6\)"):
        plan(a, b[:4], bias)
    with pytest.raises(DtypeError, match="bias has dtype float64, but this plan is for float32"):
        plan(a, b, bias.astype(np.float64))
    with pytest.raises(ArgumentError, match=r"out has shape \(3, 6\)"):
        plan(a, b, bias, out=np.empty((3, 6), "f4").view(Held))
    with pytest.raises(DtypeError, match="out has dtype float64"):
        plan(a, b, bias, out=np.empty((4, 6)).view(Held))


def test_the_answer_of_the_device_goes_to_the_host(kernel: ToyKernel) -> None:
    """An ``out`` in host memory is written, whatever its dtype, and is the answer."""
    plan = Plan(problem_of(), HeldDevice(0), kernel, Config({"tile": 2}))
    a, b, bias = (array.view(Held) for array in operands())
    out = np.empty((4, 6))
    assert plan(a, b, bias, out=out) is out
    np.testing.assert_allclose(out, np.asarray(a @ b + bias), rtol=1e-6)
    with pytest.raises(ArgumentError, match="the result has"):
        plan(a, b, bias, out=np.empty(6))


@pytest.mark.parametrize("dtype", ["U3", "S3", object])
def test_no_answer_becomes_text(plan: Plan, dtype: Any) -> None:
    """numpy would cast numbers to text, and cut it off."""
    with pytest.raises(DtypeError, match="cannot be cast"):
        plan(*operands(), out=np.empty((4, 6), dtype))
