"""The public functions end to end, on the default device: any array in, the right answer out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pytest

import hwkit
from hwkit import ArgumentError, DtypeError, HwkitError, Op, Problem
from hwkit.dispatch import plan_problem
from hwkit.op import numpy_dtype, relative_error
from hwkit.ops import hwkit_ops

Array = np.ndarray[Any, Any]

OPS = {op.name: op for op in hwkit_ops()}
SAMPLES = [text for op in OPS.values() for text in op.samples]


class Case(NamedTuple):
    """A call of a public function: operands by shape, then keyword arguments."""

    op: str
    shapes: dict[str, tuple[int, ...]]
    arguments: Mapping[str, Any] = {}

    def operands(self, dtype: Any = "float32", seed: int = 5) -> dict[str, Array]:
        """Return random operands by name."""
        rng = np.random.default_rng(seed)
        return {n: rng.standard_normal(s).astype(dtype) for n, s in self.shapes.items()}

    def call(self, operands: dict[str, Any], **more: Any) -> Any:
        """Call the public function."""
        given = dict(operands)
        lead = [given.pop(n) for n in ("x", "w", "a", "b") if n in given]
        return getattr(hwkit.ops, self.op)(*lead, **given, **self.arguments, **more)

    def problem(self, operands: dict[str, Any]) -> Problem:
        """Return the Problem of the call; of matmul, one that takes the operands as they are."""
        return OPS[self.op].problem(**operands, **self.arguments)

    def expect(self, operands: dict[str, Any]) -> Array:
        """Return the float64 answer."""
        wide = {n: np.asarray(a).astype(np.float64) for n, a in operands.items()}
        return self.problem(wide).reference(*wide.values())

    def __repr__(self) -> str:
        return f"{self.op}({', '.join(f'{n}={v}' for n, v in self.arguments.items())})"


CONV = {"x": (2, 6, 9, 8), "w": (4, 6, 3, 3), "bias": (4,), "residual": (2, 4, 9, 8)}
CASES = [
    Case("conv2d", CONV, {"padding": 1, "activation": "relu"}),
    Case("conv2d", {"x": (1, 9, 8, 6), "w": (4, 3, 3, 6)}, {"layout": "nhwc", "stride": 2}),
    Case("conv2d", {"x": (1, 8, 7, 7), "w": (8, 1, 3, 3)}, {"groups": 8, "padding": "same"}),
    Case(
        "conv2d",
        {"x": (1, 7, 7, 4), "w": (8, 2, 3, 1), "bias": (8,)},
        {"groups": 4, "layout": "nhwc", "dilation": 2, "activation": ("clip", -1, 1)},
    ),
    Case("conv2d", {"x": (2, 8, 5, 5), "w": (16, 8, 1, 1)}, {}),
    Case("gemm", {"a": (7, 9), "b": (9, 5), "c": (7, 5), "bias": (5,)}, {"alpha": 0.5, "beta": 2}),
    Case("gemm", {"a": (9, 7), "b": (5, 9)}, {"transpose_a": True, "transpose_b": True}),
    Case("gemm", {"a": (1, 40), "b": (30, 40), "bias": (30,)}, {"transpose_b": True}),
    Case("matmul", {"a": (3, 7, 9), "b": (3, 9, 5)}),
    Case("max_pool2d", {"x": (2, 3, 9, 8)}, {"kernel": 3, "stride": 2, "padding": 1}),
    Case("max_pool2d", {"x": (2, 9, 8, 3)}, {"kernel": (2, 3), "layout": "nhwc"}),
    Case("avg_pool2d", {"x": (2, 3, 9, 8)}, {"kernel": 3, "stride": 2, "ceil_mode": True}),
    Case(
        "avg_pool2d",
        {"x": (2, 9, 8, 3)},
        {"kernel": 3, "padding": 1, "count_include_pad": False, "layout": "nhwc"},
    ),
    Case("global_avg_pool2d", {"x": (2, 5, 7, 6)}),
    Case("global_avg_pool2d", {"x": (2, 7, 6, 5)}, {"layout": "nhwc"}),
    Case("global_max_pool2d", {"x": (2, 5, 7, 6)}),
    Case("global_max_pool2d", {"x": (2, 7, 6, 5)}, {"layout": "nhwc"}),
    Case("transpose", {"x": (2, 7, 6)}),
    Case("local_response_norm", {"x": (2, 7, 6, 5)}, {"size": 3, "alpha": 0.5}),
    Case(
        "elementwise",
        {"x": (2, 7, 6, 5), "other": (2, 1, 6, 1)},
        {"operator": "multiply", "activation": "mish"},
    ),
]
# One of each op for what does not depend on the attributes.
ONE_EACH = list({case.op: case for case in reversed(CASES)}.values())


def _check(case: Case, got: Any, operands: dict[str, Array]) -> None:
    problem, want = case.problem(operands), case.expect(operands)
    assert got.shape == want.shape == problem.output.shape
    assert got.dtype == problem.output.dtype
    assert relative_error(got, want) <= problem.error_budget()


def test_every_op_has_a_case() -> None:
    """A new Op must be added to the table above; those of 8-bit integers have their own tests."""
    assert {case.op for case in CASES} == set(OPS) - {"qconv2d", "qmatmul"}
    assert set(OPS) <= set(hwkit.ops.__all__)


@pytest.mark.parametrize("text", SAMPLES)
def test_samples_run_within_their_budget(text: str) -> None:
    """Every sample problem has a kernel on the default device, and it is right without tuning."""
    plan = plan_problem(text)
    operands = plan.problem.random_operands(1)
    want = plan.problem.reference(*(a.astype(np.float64) for a in operands))
    assert relative_error(plan(*operands), want) <= plan.problem.error_budget()


DEEP = [
    "gemm float32 nn m=16 n=16 k=65536",
    "gemm float32 nn m=1 n=64 k=65536",
    "gemm float32 nt m=1 n=64 k=65536",
    "gemm float32 tn m=4 n=64 k=32768",
    "gemm float64 nn m=1 n=64 k=65536",
    "gemm float16 nn m=4 n=64 k=32768",
    "gemm float32 nn m=1 n=1 k=65536",
    "matmul float32 b=3 m=5 n=7 k=20000",
    "conv2d float32 nchw n=1 c=2048 h=7 w=7 k=64 r=3 s=3 pad=1 stride=1",
    "conv2d float32 nhwc n=1 c=2048 h=7 w=7 k=64 r=3 s=3 pad=1 stride=1",
    "conv2d float32 nchw n=1 c=4 h=64 w=64 k=4 r=63 s=63 pad=31 stride=7 groups=4",
    "conv2d float32 nhwc n=1 c=4 h=64 w=64 k=4 r=63 s=63 pad=31 stride=7 groups=4",
    "avg_pool2d float32 nchw n=1 c=3 h=300 w=300 r=150 s=150 pad=0 stride=150",
    "avg_pool2d float32 nhwc n=1 c=3 h=300 w=300 r=150 s=150 pad=0 stride=150",
    "global_avg_pool2d float32 nchw n=1 c=3 h=1000 w=1000",
    "global_avg_pool2d float32 nhwc n=1 c=3 h=1000 w=1000",
]


@pytest.mark.parametrize("text", DEEP)
def test_deep_sums_stay_within_their_budget(text: str) -> None:
    """Rounding must not grow with the number of terms: a kernel adds up in blocks."""
    plan = plan_problem(text)
    operands = plan.problem.random_operands(1)
    want = plan.problem.reference(*(a.astype(np.float64) for a in operands))
    assert relative_error(plan(*operands), want) <= plan.problem.error_budget(), plan


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_every_floating_dtype(case: Case, dtype: str) -> None:
    """The answer has the operands' dtype and fits its budget; the operands are not touched."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    operands = case.operands(numpy_dtype(dtype))
    before = {name: array.copy() for name, array in operands.items()}
    _check(case, case.call(operands), operands)
    for name, array in operands.items():
        assert np.array_equal(array, before[name])


def _strided(array: Array) -> Array:
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1] + 1), np.nan, array.dtype)
    wide[..., 1::2] = array
    return wide[..., 1::2]


def _unaligned(array: Array) -> Array:
    raw = np.empty(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


def _read_only(array: Array) -> Array:
    array = array.copy()
    array.flags.writeable = False
    return array


class Subclass(np.ndarray):  # type: ignore[type-arg]
    """What numpy lets users derive."""


FORMS: dict[str, Callable[[Array], Array]] = {
    "strided": _strided,
    "reversed": lambda a: np.flip(np.ascontiguousarray(np.flip(a))),
    "zero strides": lambda a: np.broadcast_to(a[:1], a.shape),
    "read-only": _read_only,
    "fortran": np.asfortranarray,
    "unaligned": _unaligned,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "subclass": lambda a: a.view(Subclass),
    "a slice of a larger array": lambda a: np.pad(a, 1)[(slice(1, -1),) * a.ndim],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_every_memory_form(case: Case, form: str) -> None:
    """All operands in this form, then each alone, give what plain copies give."""
    operands = case.operands()
    for chosen in ([*operands], *([name] for name in operands)):
        given = {n: FORMS[form](a) if n in chosen else a for n, a in operands.items()}
        _check(case, case.call(given), {n: np.array(a, "f4") for n, a in given.items()})


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_lists_are_read_as_arrays(case: Case) -> None:
    """Nested lists of floats have the dtype float64."""
    operands = case.operands("float64")
    got = case.call({name: array.tolist() for name, array in operands.items()})
    _check(case, got, operands)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_tensors_in_tensors_out(torch: Any, case: Case) -> None:
    """torch tensors, transposed ones as well, give a tensor; out= may be one."""
    operands = case.operands()
    tensors = {name: torch.from_numpy(array) for name, array in operands.items()}
    got = case.call(tensors)
    assert isinstance(got, torch.Tensor)
    _check(case, got.numpy(), operands)
    swapped = {n: t.transpose(-1, 0).contiguous().transpose(-1, 0) for n, t in tensors.items()}
    _check(case, case.call(swapped).numpy(), operands)
    out = torch.zeros_like(got)
    assert case.call(tensors, out=out) is out
    _check(case, out.numpy(), operands)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_out_is_filled_and_returned(case: Case) -> None:
    """Whatever its strides, alignment and byte order, and nothing beside it is written."""
    operands = case.operands()
    shape = case.expect(operands).shape
    guarded = np.full(tuple(s + 2 for s in shape), 7, np.float32)
    wide = np.full((*shape, 2), 7, np.float32)
    outs = [
        np.empty(shape, np.float32),
        np.full(shape, np.nan, np.float32),
        np.empty(shape, np.float32, order="F"),
        np.empty(shape, np.float64),
        np.empty(shape, ">f4"),
        _unaligned(np.empty(shape, np.float32)),
        np.flip(np.empty(shape, np.float32)),
        wide[..., 0],
        guarded[(slice(1, -1),) * len(shape)],
    ]
    for out in outs:
        assert case.call(operands, out=out) is out
        _check(case, out.astype(np.float32), operands)
    assert (wide[..., 1] == 7).all()
    guarded[(slice(1, -1),) * len(shape)] = 7
    assert (guarded == 7).all()


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_out_may_overlap_an_operand(case: Case) -> None:
    """The answer is as if all operands had been read before the first write."""
    operands = case.operands()
    want = case.expect(operands)
    for name, array in operands.items():
        for shift in (0, 1, 5):
            memory = np.zeros(max(array.size, want.size) + shift, np.float32)
            shared = memory[: array.size].reshape(array.shape)
            shared[...] = array
            out = memory[shift : shift + want.size].reshape(want.shape)
            assert case.call({**operands, name: shared}, out=out) is out
            assert relative_error(out, want) <= case.problem(operands).error_budget()


@pytest.mark.parametrize("case", ONE_EACH, ids=repr)
def test_out_that_does_not_fit_is_named(case: Case) -> None:
    """A wrong shape, a dtype that cannot hold the result, and read-only memory."""
    operands = case.operands()
    shape = case.expect(operands).shape
    with pytest.raises(ArgumentError, match=r"out has shape \(1, 2\), but the result has"):
        case.call(operands, out=np.empty((1, 2), np.float32))
    with pytest.raises(ArgumentError, match="out has shape"):
        case.call(operands, out=np.empty((1, *shape), np.float32))
    with pytest.raises(DtypeError, match="out has dtype int32"):
        case.call(operands, out=np.empty(shape, np.int32))
    with pytest.raises(ArgumentError, match="out of type ndarray cannot be written"):
        case.call(operands, out=_read_only(np.empty(shape, np.float32)))
    with pytest.raises(ArgumentError, match="out of type list cannot be written"):
        case.call(operands, out=np.zeros(shape).tolist())


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_special_values_go_where_the_reference_sends_them(
    case: Case, dtype: str, special: float
) -> None:
    """One special value in each operand in turn: same places, same signs."""
    for name in case.shapes:
        operands = case.operands(dtype)
        array = operands[name]
        array.flat[array.size // 2] = special
        got, want = case.call(operands), case.expect(operands)
        assert relative_error(got, want) <= case.problem(operands).error_budget()


@pytest.mark.parametrize("case", ONE_EACH, ids=repr)
def test_huge_and_tiny_values(case: Case) -> None:
    """Values near the ends of float32 neither overflow nor vanish where they need not."""
    for scale in (1e17, 1e-17):
        operands = case.operands()
        operands = {n: a * np.float32(scale) for n, a in operands.items()}
        _check(case, case.call(operands), operands)


EMPTY = [
    Case("conv2d", {"x": (0, 2, 5, 5), "w": (3, 2, 3, 3)}),
    Case("conv2d", {"x": (1, 2, 5, 5), "w": (0, 2, 3, 3)}),
    Case("conv2d", {"x": (1, 0, 5, 5), "w": (3, 0, 3, 3), "bias": (3,)}),
    Case("conv2d", {"x": (1, 2, 0, 5), "w": (3, 2, 3, 3), "bias": (3,)}, {"padding": (2, 0)}),
    Case(
        "conv2d",
        {"x": (1, 2, 5, 0), "w": (2, 1, 3, 3), "bias": (2,)},
        {"padding": 2, "groups": 2, "activation": "relu"},
    ),
    Case("gemm", {"a": (0, 4), "b": (4, 5)}),
    Case("gemm", {"a": (3, 4), "b": (4, 0)}),
    Case("gemm", {"a": (3, 0), "b": (0, 5), "c": (3, 5), "bias": (5,)}, {"beta": 2.0}),
    Case("matmul", {"a": (0, 3, 4), "b": (0, 4, 5)}),
    Case("matmul", {"a": (2, 3, 0), "b": (2, 0, 5)}),
    Case("max_pool2d", {"x": (0, 2, 4, 4)}, {"kernel": 2}),
    Case("max_pool2d", {"x": (1, 2, 0, 4)}, {"kernel": 2, "padding": 1, "stride": 1}),
    Case("avg_pool2d", {"x": (1, 2, 0, 4)}, {"kernel": 2, "padding": 1, "stride": 1}),
    Case("avg_pool2d", {"x": (1, 0, 4, 4)}, {"kernel": 2}),
    Case("global_avg_pool2d", {"x": (0, 3, 4, 4)}),
    Case("global_max_pool2d", {"x": (1, 0, 4, 4)}),
]


@pytest.mark.parametrize("case", EMPTY, ids=repr)
def test_zero_sizes(case: Case) -> None:
    """Empty results are empty, and sums over nothing are zero."""
    operands = case.operands()
    _check(case, case.call(operands), operands)
    out = np.full(case.expect(operands).shape, np.nan, np.float32)
    _check(case, case.call(operands, out=out), operands)


@pytest.mark.parametrize("case", ONE_EACH, ids=repr)
def test_tolerances(case: Case) -> None:
    """A number, and the two policies."""
    operands = case.operands()
    for tolerance in (None, 1e-2, "strict", "deterministic"):
        _check(case, case.call(operands, tolerance=tolerance), operands)
    for wrong in (0, -1.0, "exact", True):
        with pytest.raises(ArgumentError, match="tolerance="):
            case.call(operands, tolerance=wrong)


@pytest.mark.parametrize("case", ONE_EACH, ids=repr)
def test_devices(case: Case) -> None:
    """A device may be named; an unknown one is an error."""
    operands = case.operands()
    _check(case, case.call(operands, device="cpu:0"), operands)
    with pytest.raises(HwkitError, match="abacus"):
        case.call(operands, device="abacus:0")


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_a_plan_does_the_same(case: Case) -> None:
    """``hwkit.plan`` takes the arguments of the public function and gives the same bits."""
    operands = case.operands()
    plan = hwkit.plan(case.op, *_in_order(case, operands), **case.arguments)
    got = plan(*operands.values())
    _check(case, got, operands)
    packed = plan.prepack(*(operands[n] for n in OPS[case.op].constants if n in operands))
    rest = [a for n, a in operands.items() if n not in OPS[case.op].constants]
    _check(case, packed(*rest), operands)


def _in_order(case: Case, operands: dict[str, Array]) -> list[Array | None]:
    order = {"conv2d": ["x", "w", "bias", "residual"], "gemm": ["a", "b", "c", "bias", "residual"]}
    return [operands.get(name) for name in order.get(case.op, [*operands])]


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_the_same_call_again_gives_the_same(case: Case) -> None:
    """The plan table must not mix up calls that differ in one argument."""
    operands = case.operands()
    first = case.call(operands)
    for other in CASES:
        other.call(other.operands())
    assert np.array_equal(case.call(operands), first)


def test_many_threads_at_once() -> None:
    """Eight threads plan and run all cases in their own order, and each gets its own answers."""
    wants = [case.expect(case.operands()) for case in CASES]

    def work(worker: int) -> list[float]:
        errors = []
        for turn in range(3 * len(CASES)):
            index = (turn * (worker + 1) + worker) % len(CASES)
            case = CASES[index]
            errors.append(relative_error(case.call(case.operands()), wants[index]))
        return errors

    with ThreadPoolExecutor(8) as pool:
        for errors in pool.map(work, range(8)):
            assert max(errors) <= 2e-6


def test_calls_that_differ_in_one_argument_differ() -> None:
    """Every argument is part of the key."""
    x, w = np.ones((1, 4, 8, 8), np.float32), np.ones((4, 4, 3, 3), np.float32)
    plain = hwkit.ops.conv2d(x, w)
    assert hwkit.ops.conv2d(x, w, stride=2).shape == (1, 4, 3, 3)
    assert hwkit.ops.conv2d(x, w, padding=1).shape == (1, 4, 8, 8)
    assert hwkit.ops.conv2d(x, w, dilation=2).shape == (1, 4, 4, 4)
    assert (hwkit.ops.conv2d(x, w, activation=("clip", 0, 1)) == 1).all()
    assert (hwkit.ops.conv2d(x, w, np.ones(4, np.float32)) == plain + 1).all()
    assert (hwkit.ops.conv2d(x, w, residual=plain) == 2 * plain).all()
    assert (hwkit.ops.conv2d(x, w) == plain).all()


def test_options_may_be_lists() -> None:
    """A list cannot be a key of the plan table, but is legal all the same."""
    x, w = np.ones((1, 1, 8, 8), np.float32), np.ones((1, 1, 3, 3), np.float32)
    want = hwkit.ops.conv2d(x, w, stride=(2, 1), padding=(1, 0))
    assert np.array_equal(hwkit.ops.conv2d(x, w, stride=[2, 1], padding=[1, 0]), want)


IMAGE, FILTERS = np.ones((1, 2, 4, 4), np.float32), np.ones((3, 2, 3, 3), np.float32)
MATRIX, BYTES = np.ones((2, 2), np.float32), np.ones((2, 2), np.int8)
READ_ONLY = np.broadcast_to(np.float32(0), (2, 2))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: hwkit.ops.conv2d(IMAGE, FILTERS, layout=np.ones(2)), "layout array([1., 1.])"),  # type: ignore[arg-type]
        (lambda: hwkit.ops.conv2d(IMAGE, FILTERS, np.float32), "bias of type type cannot be read"),
        (lambda: hwkit.ops.gemm(MATRIX, MATRIX, MATRIX, beta=[1, [2]]), "beta=[1, [2]]"),  # type: ignore[arg-type]
        (lambda: hwkit.ops.qmatmul(BYTES, BYTES, a_scale=[1, [2]], b_scale=1), "a_scale of type"),
        (lambda: hwkit.ops.qconv2d([[1], [2, 3]], BYTES), "x of type list cannot be read"),
        (lambda: hwkit.ops.conv2d(IMAGE, FILTERS, tolerance=IMAGE), "must be a relative error"),  # type: ignore[arg-type]
        (lambda: hwkit.ops.conv2d(IMAGE, FILTERS, stride=IMAGE), "stride=array([[[[1., 1., 1., 1"),  # type: ignore[arg-type]
        (lambda: hwkit.ops.conv2d(IMAGE, FILTERS, device=str(IMAGE)), "write it as cpu:0"),
        (lambda: hwkit.ops.matmul(None, IMAGE), "a is None"),
        (lambda: hwkit.ops.matmul(IMAGE, None), "b is None"),
        (lambda: hwkit.ops.transpose(None), "x is None"),
        (lambda: hwkit.ops.qmatmul(BYTES, None), "b is None"),
        (lambda: hwkit.ops.qmatmul(BYTES, BYTES, out_dtype="a,b:c"), "out_dtype='a,b:c'"),
        (lambda: hwkit.ops.elementwise(IMAGE, "relu"), "other='relu' must be an array"),
        (lambda: hwkit.plan(IMAGE, FILTERS), "must be the name of an operator"),  # type: ignore[arg-type]
        (lambda: hwkit.plan("gemm", FILTERS[0, 0], np.float32), "b of type type cannot be read"),
        (lambda: hwkit.ops.transpose(MATRIX, out=READ_ONLY), "(it is read-only)"),
    ],
)
def test_mistakes_are_one_line(call: Callable[[], Any], said: str) -> None:
    """Whatever was passed, the message is short, names the argument, and is hwkit's own."""
    with pytest.raises(HwkitError) as caught:
        call()
    text = str(caught.value)
    assert said in text
    assert "\n" not in text
    assert len(text) < 300


def test_beta_of_zero_does_not_read_c() -> None:
    """NaN in c, or a c of another shape, does not matter then."""
    a = np.eye(3, dtype=np.float32)
    assert np.array_equal(hwkit.ops.gemm(a, a, np.full((3, 3), np.nan, "f4"), beta=0.0), a)
    assert np.array_equal(hwkit.ops.gemm(a, a, np.zeros(7), beta=0), a)
    assert np.array_equal(hwkit.ops.gemm(a, a, a), 2 * a)


@pytest.mark.parametrize("op", OPS.values(), ids=str)
def test_public_functions_say_what_they_take(op: Op) -> None:
    """Every argument of the function is described in its docstring, and so is what it raises."""
    import inspect

    function = getattr(hwkit.ops, op.name)
    text = inspect.getdoc(function) or ""
    for name in inspect.signature(function).parameters:
        assert name in text, name
    assert {"out", "device", "tolerance"} <= set(inspect.signature(function).parameters)
    for section in ("Parameters", "Returns", "Raises", "Examples"):
        assert f"{section}\n----" in text


@pytest.mark.parametrize("op", OPS.values(), ids=str)
def test_examples_of_the_docstrings_run(op: Op) -> None:
    """What the docstring shows is what happens."""
    import doctest
    import sys

    module = sys.modules[type(op).__module__]
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner()
    function = getattr(hwkit.ops, op.name)
    (test,) = finder.find(function, op.name, module=module, extraglobs={"np": np})
    assert test.examples
    assert runner.run(test).failed == 0
