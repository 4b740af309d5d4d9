"""The contract of elementwise, and the public function."""

from __future__ import annotations

import numpy as np
import pytest

import hwkit
from hwkit import ArgumentError, DtypeError, Spec
from hwkit.op import relative_error
from hwkit.ops.activations import activation_word
from hwkit.ops.elementwise import ELEMENTWISE, folded

CASES = {
    ((2, 3, 4), None): (1, 1, 24, 1),
    ((2, 3, 4), (2, 3, 4)): (1, 1, 24, 1),
    ((2, 3, 4), ()): (1, 1, 1, 24),
    ((2, 3, 4), (1, 1)): (1, 1, 1, 24),
    ((2, 3, 4), (4,)): (1, 6, 4, 1),
    ((2, 3, 4), (3, 1)): (1, 2, 3, 4),
    ((2, 3, 4), (2, 1, 1)): (1, 1, 2, 12),
    ((2, 3, 4), (2, 1, 4)): (2, 3, 4, 1),
    ((2, 3, 4, 5), (2, 1, 4, 1)): (2, 3, 4, 5),
    ((1, 5, 5, 8), (1, 1, 1, 8)): (1, 25, 8, 1),
    ((), ()): (1, 1, 1, 1),
    ((0, 3), (3,)): (1, 0, 3, 1),
    ((2, 3, 4, 5), (3, 1, 5)): None,
    ((2, 3), (3, 2)): None,
    ((3,), (2, 3)): None,
}


@pytest.mark.parametrize(("shapes", "sizes"), CASES.items())
def test_shapes_come_to_four_sizes(shapes: tuple, sizes: tuple | None) -> None:
    """Any pair of shapes that broadcast is one of few forms, and nothing else is."""
    assert folded(*shapes) == sizes


@pytest.mark.parametrize("shapes", [s for s, sizes in CASES.items() if sizes or len(s[0]) == 4])
def test_numpys_broadcasting(rng: np.random.Generator, shapes: tuple) -> None:
    """The function gives what numpy gives, for any shape that broadcasts to that of x."""
    x = rng.standard_normal(shapes[0]).astype(np.float32)
    other = None if shapes[1] is None else rng.standard_normal(shapes[1]).astype(np.float32)
    want = np.maximum(x if other is None else x - other, 0)
    got = hwkit.ops.elementwise(x, other, operator="subtract", activation="relu")
    assert got.shape == x.shape
    assert relative_error(got, want) < 1e-6


def test_strided_operands_and_results(rng: np.random.Generator) -> None:
    """Views go in, and the result goes into a view or over an operand."""
    x = rng.standard_normal((9, 20)).astype(np.float32).T[::2]
    out = np.zeros((9, 10), np.float32).T
    assert hwkit.ops.elementwise(x, activation="tanh", out=out) is out
    assert relative_error(out, np.tanh(x.astype(float))) < 1e-6
    y = np.ascontiguousarray(x)
    hwkit.ops.elementwise(y, x, operator="multiply", out=y)
    assert np.array_equal(y, x * x)


def test_the_contract() -> None:
    """Text, flops and bytes; one way to write an activation."""
    problem = ELEMENTWISE.problem(Spec((1, 6, 4, 1)), Spec((1, 1, 4, 1)), activation=("clip", 0, 6))
    text = "elementwise float32 b=1 n=6 c=4 l=1 operator=add activation=clip:0.0,6.0"
    assert str(problem) == text
    assert ELEMENTWISE.parse(text) == problem
    assert ELEMENTWISE.parse(text.replace("0.0,6.0", "0,6")) == problem
    assert (problem.flops, problem.nbytes) == (48, 4 * (24 + 24 + 4))
    assert str(ELEMENTWISE.problem(Spec((1, 1, 9, 1)))) == "elementwise float32 b=1 n=1 c=9 l=1"


def test_activations_are_written_in_one_way() -> None:
    """As a name, with numbers, with defaults."""
    assert activation_word(None) == "none"
    assert activation_word("elu") == activation_word(("elu", 1)) == "elu:1.0"
    assert activation_word("clip:-inf,2") == "clip:-inf,2.0"
    for wrong in ("clip", "clip:2,1", "elu:x", "elu:nan", "relu:1", ("hard_sigmoid", 1), "cosine"):
        with pytest.raises(ArgumentError, match=r"^activation="):
            activation_word(wrong)
    for odd in (("clip", 0, 10**400), (["relu"],), {"relu"}):
        with pytest.raises(ArgumentError, match=r"^activation="):
            activation_word(odd)  # type: ignore[arg-type]


def test_mistakes_are_one_sentence() -> None:
    """Each names the argument."""
    x = np.ones((2, 3), np.float32)
    with pytest.raises(ArgumentError, match=r"other has shape \(2,\), which does not broadcast"):
        hwkit.ops.elementwise(x, np.ones(2, np.float32))
    with pytest.raises(ArgumentError, match=r"operator='power' is not known"):
        hwkit.ops.elementwise(x, x, operator="power")
    for none in ("none", None):
        with pytest.raises(ArgumentError, match=f"operator={none!r} is not known"):
            hwkit.ops.elementwise(x, x, operator=none)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="x is None, but must be an array"):
        hwkit.ops.elementwise(None)
    with pytest.raises(ArgumentError, match=r"out has shape \(3, 2\)"):
        hwkit.ops.elementwise(x, out=np.ones((3, 2), np.float32))
    with pytest.raises(DtypeError, match=r"other has dtype float64"):
        hwkit.ops.elementwise(x, x.astype(float))
    with pytest.raises(ArgumentError, match=r"x has shape \(2, 3\), but must have 4"):
        ELEMENTWISE.problem(x)
    with pytest.raises(ArgumentError, match=r"other has shape .*as x has \(b, n, c, l\)"):
        ELEMENTWISE.problem(Spec((1, 2, 3, 1)), Spec((1, 2, 3, 1)))


def test_out_of_another_kind_is_refused() -> None:
    """An ``out`` of integers is a DtypeError in any layout, before anything is computed."""
    x = np.ones((4, 6), np.float32)
    for out in (np.zeros((4, 6), np.int32), np.zeros((6, 4), np.int32).T):
        with pytest.raises(DtypeError, match="out has dtype int32, to which a result of float32"):
            hwkit.ops.elementwise(x, activation="relu", out=out)
        with pytest.raises(DtypeError, match="out has dtype int32, to which a result of float32"):
            hwkit.ops.transpose(x, out=out.T)
