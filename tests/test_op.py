"""Problem, Dtypes and the helpers of hwkit.op, on an Op made for the purpose and on our own."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwkit import ArgumentError, DtypeError, Op, Operand, Problem
from hwkit.dtypes import FLOATS, INTEGERS
from hwkit.op import (
    ACTIVATIONS,
    Attribute,
    Dtypes,
    dtype_name,
    numpy_dtype,
    relative_error,
)
from hwkit.ops import hwkit_ops
from hwkit.ops.pool2d import MAX_POOL2D
from hwkit.words import epilogue_words

OPS = list(hwkit_ops())
SAMPLES = [(op, text) for op in OPS for text in op.samples]
SMALL = [(op, text) for op, text in SAMPLES if op.parse(text).nbytes < 2**20]


class Scale(Op):
    """y = factor * x: the smallest Op with every kind of attribute."""

    name = "scale"
    sizes = ("m", "n")
    attributes: Mapping[str, Attribute] = {
        "factor": 1.0,
        "times": 1,
        "mode": "up",
        "flip": False,
        "edge": (0, 0),
    }
    shown = ("edge",)
    fusable = True
    constants = ("x",)

    def problem(self, *operands: Any, **arguments: Any) -> Problem:
        """Return the Problem of one matrix."""
        m, n = operands[0].shape
        return self.make(dtype_name(operands[0].dtype, "x"), "", {"m": m, "n": n}, arguments)

    def operands(self, problem: Problem) -> tuple[Operand, ...]:
        """Return x."""
        return (Operand("x", (problem["m"], problem["n"]), numpy_dtype(problem.dtypes.input)),)

    def output(self, problem: Problem) -> Operand:
        """Return y."""
        return Operand("y", (problem["m"], problem["n"]), numpy_dtype(problem.dtypes.output))

    def reference(self, problem: Problem, *operands: Any) -> Any:
        """Compute."""
        return problem["factor"] * operands[0]

    def flops(self, problem: Problem) -> int:
        """Return one for each element."""
        return int(problem["m"] * problem["n"])


SCALE = Scale()
FINITE = st.floats(allow_nan=False)
ACTIVATION_WORDS = st.one_of(
    st.sampled_from([n for n, count in ACTIVATIONS.items() if not count]),
    st.floats(allow_nan=False, allow_infinity=False).map("leaky_relu:{!r}".format),
    st.tuples(FINITE, FINITE).map(lambda p: f"clip:{min(p)!r},{max(p)!r}"),
)
DTYPES = st.one_of(
    st.sampled_from(FLOATS), st.lists(st.sampled_from(FLOATS + INTEGERS), min_size=4, max_size=4)
)


@given(
    DTYPES,
    st.integers(0, 2**20),
    st.integers(0, 2**20),
    st.fixed_dictionaries(
        {},
        optional={
            "factor": FINITE,
            "times": st.integers(-(2**40), 2**40),
            "mode": st.sampled_from(["up", "down"]),
            "flip": st.booleans(),
            "edge": st.tuples(st.integers(0, 9), st.integers(0, 9)),
        },
    ),
    st.lists(st.one_of(st.just("bias"), st.just("residual"), ACTIVATION_WORDS), max_size=3),
    st.booleans(),
)
def test_problem_reads_back_what_it_prints(
    dtypes: Any, m: int, n: int, attributes: dict[str, Any], words: list[str], packed: bool
) -> None:
    """Whatever the parts, the line parses to an equal Problem that prints the same line."""
    dtypes = dtypes if isinstance(dtypes, str) else ",".join(dtypes)
    epilogue = tuple(dict.fromkeys(words))
    if len([w for w in epilogue if w not in ("bias", "residual")]) > 1:
        epilogue = ()
    problem = SCALE.make(dtypes, "", {"m": m, "n": n}, attributes, epilogue, packed)
    again = SCALE.parse(str(problem))
    assert again == problem
    assert str(again) == str(problem)
    assert again.dtypes == problem.dtypes
    assert (again.sizes, again.attributes) == (problem.sizes, problem.attributes)
    assert (again.epilogue, again.packed) == (problem.epilogue, packed)
    assert again.with_packed(not packed) != problem


def test_packed_needs_something_to_pack() -> None:
    """An operator without constant operands is told so."""
    with pytest.raises(ArgumentError, match="leave 'packed' away"):
        MAX_POOL2D.parse("max_pool2d float32 nchw n=1 c=1 h=4 w=4 r=2 s=2 packed")


@pytest.mark.parametrize(("op", "text"), SAMPLES, ids=[text for _, text in SAMPLES])
def test_samples_are_canonical(op: Op, text: str) -> None:
    """Every sample prints as it is written."""
    assert str(op.parse(text)) == text


@pytest.mark.parametrize("op", OPS, ids=str)
def test_every_op_has_enough_samples(op: Op) -> None:
    """Records and benchmarks need real layers, odd ones, and more than one dtype."""
    assert 6 <= len(op.samples) <= 13
    assert len(set(op.samples)) == len(op.samples)
    dtypes = {op.parse(text).dtypes.input for text in op.samples}
    integers = {"int8", "uint8"}
    assert dtypes == integers or dtypes - integers == {"float32", "float64", "float16"}


def test_the_line_of_the_documentation() -> None:
    """The example that documents, records and command lines use is one of the samples."""
    text = "conv2d float32 nchw n=1 c=64 h=56 w=56 k=64 r=3 s=3 pad=1 stride=1"
    assert text in next(op for op in OPS if op.name == "conv2d").samples


def test_order_of_words_is_free_when_reading() -> None:
    """Sizes and attributes may be written in any order; a Problem prints in one."""
    problem = SCALE.parse("scale float32 +relu edge=1 n=3 m=2 +bias")
    assert str(problem) == "scale float32 m=2 n=3 edge=1 +bias+relu"
    assert problem == SCALE.parse("scale float32 m=2 n=3 edge=1,1 factor=1 +bias+relu")


def test_problem_is_a_value() -> None:
    """Equal by its text, hashable, picklable, frozen."""
    problem = SCALE.parse("scale float32 m=2 n=3")
    assert pickle.loads(pickle.dumps(problem)) == problem
    assert len({problem, SCALE.parse(str(problem))}) == 1
    assert problem != "scale float32 m=2 n=3 edge=0"
    assert repr(problem) == "<Problem scale float32 m=2 n=3 edge=0>"
    assert repr(SCALE) == "<Op scale>"
    assert problem["m"] == 2
    assert problem["factor"] == 1.0
    with pytest.raises(AttributeError):
        problem.layout = "nchw"  # type: ignore[misc]
    with pytest.raises(KeyError):
        problem["depth"]


def test_bytes_count_every_array_once() -> None:
    """The bytes of a Problem are those of operands and output."""
    problem = SCALE.parse("scale float64 m=10 n=20")
    assert problem.nbytes == 2 * 10 * 20 * 8
    assert problem.flops == 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must begin with 'scale <dtype>'"),
        ("scale", "must begin with 'scale <dtype>'"),
        ("gemm float32 m=1 n=1", "must begin with 'scale <dtype>'"),
        ("scale float8 m=1 n=1", "dtype 'float8' cannot be read"),
        ("scale int8 m=1 n=1", "dtype 'int8' cannot be read"),
        ("scale int8,int8 m=1 n=1", "dtype 'int8,int8' cannot be read"),
        ("scale float32 m=1", "lacks n: add n=..."),
        ("scale float32 m=1 n=x", "'n=x' cannot be read"),
        ("scale float32 m=1 n=1.5", "'n=1.5' cannot be read"),
        ("scale float32 m=1 n=-1", "n=-1 of scale must be between 0 and"),
        ("scale float32 m=1 n=2 n=3", "has n twice"),
        ("scale float32 m=1 n=2 flip=1 flip=1", "has flip twice"),
        ("scale float32 m=1 n=1 facto=2", "did you mean 'factor'"),
        ("scale float32 m=1 n=1 xyz=2", "scale has m, n, factor"),
        ("scale float32 m=1 n=1 flip=maybe", "'flip=maybe' must be true or false"),
        ("scale float32 m=1 n=1 edge=1,2,3", "edge=.* must be one whole number or 2"),
        ("scale float32 m=1 n=1 +tanh", "activation 'tanh' is not known"),
        ("scale float32 m=1 n=1 +", "activation '' is not known"),
        ("scale float32 m=1 n=1 +clip:1", "activation 'clip:1' is not known"),
        ("scale float32 m=1 n=1 +clip:2,1", "lower bound first"),
        ("scale float32 m=1 n=1 +clip:nan,1", "lower bound first"),
        ("scale float32 m=1 n=1 +leaky_relu:inf", "finite slope"),
        ("scale float32 m=1 n=1 +leaky_relu:x", "'leaky_relu:x' cannot be read"),
        ("scale float32 m=1 n=1 +relu+relu6", "at most one"),
        ("scale float32 m=1 n=1 +bias+bias", "at most one"),
        ("scale float32 m=4294967296 n=4294967296", r"more than memory can address"),
        ("scale float32 m=9223372036854775808 n=1", "must be between 0 and"),
    ],
)
def test_a_line_that_cannot_be_read_says_where(text: str, message: str) -> None:
    """Every mistake in a problem line is one sentence."""
    with pytest.raises(ArgumentError, match=message) as caught:
        SCALE.parse(text)
    assert "\n" not in str(caught.value)


def test_making_a_problem_by_hand_checks_names_and_types() -> None:
    """Misspelt sizes and attributes, and values of the wrong kind, are refused."""
    with pytest.raises(ArgumentError, match="scale has the sizes m, n and the attributes factor"):
        SCALE.make("float32", "", {"m": 1})
    with pytest.raises(ArgumentError, match="facto"):
        SCALE.make("float32", "", {"m": 1, "n": 1}, {"facto": 2})
    with pytest.raises(ArgumentError, match=r"times=1\.5 must be a whole number"):
        SCALE.make("float32", "", {"m": 1, "n": 1}, {"times": 1.5})
    with pytest.raises(ArgumentError, match="must be one whole number or 2"):
        SCALE.make("float32", "", {"m": 1, "n": 1}, {"edge": (1, 2.5)})


def test_an_op_without_epilogue_refuses_one() -> None:
    """An epilogue on an Op that cannot fuse is a mistake, not something to drop."""
    pool = next(op for op in OPS if op.name == "max_pool2d")
    with pytest.raises(ArgumentError, match="max_pool2d fuses no epilogue"):
        pool.parse("max_pool2d float32 nchw n=1 c=1 h=4 w=4 r=2 s=2 pad=0 stride=2 +relu")


def test_layouts_must_be_known() -> None:
    """A missing layout and an unknown one are both named."""
    conv = next(op for op in OPS if op.name == "conv2d")
    rest = "n=1 c=1 h=4 w=4 k=1 r=2 s=2"
    with pytest.raises(ArgumentError, match="layout 'chwn' of conv2d must be one of nchw, nhwc"):
        conv.parse(f"conv2d float32 chwn {rest}")
    with pytest.raises(ArgumentError, match="layout '' of conv2d"):
        conv.parse(f"conv2d float32 {rest}")


@pytest.mark.parametrize("name", FLOATS)
def test_one_floating_dtype_stands_for_four(name: str) -> None:
    """float16 and bfloat16 accumulate in float32, and only the unusual is written out."""
    dtypes = Dtypes.of(name)
    assert str(dtypes) == name
    assert Dtypes.parse(name) == dtypes
    assert dtypes.accumulate == ("float32" if "16" in name else name)
    mixed = dtypes._replace(accumulate="float64", output="float32")
    assert Dtypes.parse(str(mixed)) == mixed


def test_integer_dtypes_are_carried() -> None:
    """The four dtypes of a quantised layer print and parse, also where all are alike."""
    assert Dtypes.parse("uint8,int8,int32,int32") == ("uint8", "int8", "int32", "int32")
    assert str(Dtypes("uint8", "int8", "int32", "int32")) == "uint8,int8,int32,int32"
    alike = Dtypes("int8", "int8", "int8", "int8")
    assert Dtypes.parse(str(alike)) == alike


@pytest.mark.parametrize("dtype", [">f4", "<f4", "=f4", "float32"])
def test_dtype_name_has_no_byte_order(dtype: str) -> None:
    """A big-endian array has the dtype of its values."""
    assert dtype_name(np.dtype(dtype), "x") == "float32"


def test_dtype_name_says_how_to_convert() -> None:
    """The message names the argument, the dtype, the choice, and the remedy."""
    with pytest.raises(DtypeError) as caught:
        dtype_name(np.dtype("int64"), "w")
    assert str(caught.value) == (
        "w has dtype int64, but must be one of float32, float64, float16, bfloat16: "
        "convert it, as in w.astype('float32')"
    )


def test_bfloat16_comes_from_ml_dtypes() -> None:
    """bfloat16 is a numpy dtype where ml_dtypes is installed."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert numpy_dtype("bfloat16") == ml_dtypes.bfloat16
    assert dtype_name(np.dtype(ml_dtypes.bfloat16), "x") == "bfloat16"


def test_bfloat16_without_ml_dtypes_says_what_to_install(monkeypatch: Any) -> None:
    """A missing optional dependency is one sentence with the command."""
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    with pytest.raises(Exception, match="pip install ml_dtypes") as caught:
        numpy_dtype("bfloat16")
    assert type(caught.value).__name__ == "Unavailable"


def test_epilogue_words_have_one_order_and_form() -> None:
    """Bias, residual, activation; parameters as floats."""
    assert epilogue_words(("relu", "residual", "bias")) == ("bias", "residual", "relu")
    assert epilogue_words(("clip:0,6",)) == ("clip:0.0,6.0",)
    assert SCALE.parse("scale float32 m=1 n=1 +clip:0,6").activation == ("clip", (0.0, 6.0))
    assert SCALE.parse("scale float32 m=1 n=1 +bias").activation is None


@pytest.mark.parametrize(
    ("dtypes", "budget"),
    [
        ("float32", 2e-6),
        ("float64", 1e-13),
        ("float16", 2.0**-11 + 2e-6),
        ("bfloat16", 2.0**-8 + 2e-6),
        ("uint8,int8,int32,int32", 0.0),
    ],
)
def test_error_budgets(dtypes: str, budget: float) -> None:
    """The default comes from the output dtype; a number overrides it, a policy does not."""
    problem = SCALE.parse(f"scale {dtypes} m=1 n=1")
    assert problem.error_budget() == budget
    assert problem.error_budget("strict") == budget
    assert problem.error_budget(1e-3) == 1e-3


@pytest.mark.parametrize(("op", "text"), SMALL, ids=[text for _, text in SMALL])
def test_random_operands_fit_and_repeat(op: Op, text: str) -> None:
    """Shapes and dtypes are those of the Problem, the same seed gives the same values."""
    problem = op.parse(text)
    arrays, again = problem.random_operands(3), problem.random_operands(3)
    for array, same, operand in zip(arrays, again, problem.operands, strict=True):
        assert (array.shape, array.dtype) == (operand.shape, operand.dtype)
        assert np.array_equal(array, same)
    assert not np.array_equal(arrays[0], problem.random_operands(4)[0])


def test_random_operands_of_a_dot_product_do_not_cancel() -> None:
    """One sum near zero would fail the right kernel; many elements have a norm."""
    gemm = next(op for op in OPS if op.name == "gemm")
    single = gemm.parse("gemm float32 nn m=1 n=1 k=4096")
    assert all((array >= 0).all() for array in single.random_operands())
    for seed in range(20):
        operands = single.random_operands(seed)
        want = single.reference(*(a.astype(np.float64) for a in operands))
        assert relative_error(single.reference(*operands), want) <= single.error_budget()
    many = gemm.parse("gemm float32 nn m=8 n=8 k=16")
    assert all((array < 0).any() for array in many.random_operands())


class TestRelativeError:
    """The error that admits or refuses a kernel."""

    def test_is_the_frobenius_norm(self) -> None:
        """Twice the norm of the difference over the norm of the reference."""
        assert relative_error(np.array([3.0, 4.5]), np.array([3.0, 4.0])) == pytest.approx(0.1)
        assert relative_error(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == 0.0

    def test_of_nothing_is_zero(self) -> None:
        """Empty results agree."""
        assert relative_error(np.zeros((0, 3)), np.zeros((0, 3))) == 0.0

    def test_of_another_shape_is_infinite(self) -> None:
        """Broadcasting must not hide a wrong shape."""
        assert relative_error(np.zeros((1, 3)), np.zeros(3)) == math.inf

    def test_against_zero_is_absolute(self) -> None:
        """Where the reference is zero there is nothing to divide by."""
        assert relative_error(np.array([3.0, 4.0]), np.zeros(2)) == 5.0

    @pytest.mark.parametrize("special", [math.nan, math.inf, -math.inf])
    def test_special_values_must_be_where_the_reference_has_them(self, special: float) -> None:
        """NaN and infinities count as right only in the same places."""
        want = np.array([1.0, special, 2.0])
        assert relative_error(want.copy(), want) == 0.0
        assert relative_error(np.array([1.0, 7.0, 2.0]), want) == math.inf
        assert relative_error(want, np.array([1.0, 7.0, 2.0])) == math.inf
        assert relative_error(np.array([special, special, 2.0]), want) == math.inf
        assert relative_error(np.array([1.0, special, 2.2]), want) == pytest.approx(
            0.2 / math.sqrt(5)
        )

    def test_does_not_overflow(self) -> None:
        """Values whose squares leave the range are compared all the same."""
        want = np.array([1e300, 1e300])
        assert relative_error(want * 1.5, want) == pytest.approx(0.5)
        assert relative_error(want * 1e-320 * 2, want * 1e-320) == pytest.approx(1.0)

    def test_far_off_is_infinite(self) -> None:
        """Squares beyond the range are no warning, and no small error."""
        assert relative_error(np.array([1e200, 1.0]), np.array([1.0, 1.0])) == math.inf

    def test_of_many_elements_is_that_of_all(self) -> None:
        """The scale, differences and special values count wherever they are in a large array."""
        want = np.ones((5, 70_001))
        want[4, -1] = 1e300
        assert relative_error(want, want) == 0.0
        assert relative_error(want * 1.5, want) == pytest.approx(0.5)
        want = np.ones((5, 70_001))
        off = want.copy()
        off[2] += 0.5
        assert relative_error(off, want) == pytest.approx(0.5 / math.sqrt(5))
        assert relative_error(np.asfortranarray(off), want) == pytest.approx(0.5 / math.sqrt(5))
        want[4, -1] = math.nan
        assert relative_error(off, want) == math.inf
        off[4, -1] = math.nan
        assert relative_error(off, want) == pytest.approx(0.5 / math.sqrt(5), rel=1e-4)

    def test_reads_narrow_types(self) -> None:
        """float16 results are compared in float64."""
        want = np.array([1.0, 2.0])
        assert relative_error(want.astype(np.float16), want) == 0.0
