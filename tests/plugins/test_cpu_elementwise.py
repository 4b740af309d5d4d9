"""The elementwise kernels against float64."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from hwkit import Kernel, Problem
from hwkit.op import relative_error
from hwkit.ops.activations import ALONE
from hwkit.ops.elementwise import OPERATORS
from hwkit.registry import registry

PARAMETERS = {"clip": ":-0.5,0.75", "leaky_relu": ":0.1", "elu": ":1.5", "hard_sigmoid": ":0.3,0.4"}
WORDS = [name + PARAMETERS.get(name, "") for name in ALONE]


def kernel() -> Kernel:
    """Return the kernel."""
    found = registry().kernels(registry().device("cpu:0"), "elementwise")
    return next(k for k in found if k.name == "elementwise")


def parse(text: str) -> Problem:
    """Return a problem of the Op."""
    return registry().op("elementwise").parse(f"elementwise {text}")


def compute(problem: Problem, config: Any, *operands: Any) -> Any:
    """Return the answer of one config, into memory full of NaN."""
    out = np.full(problem.output.shape, np.nan, problem.output.dtype)
    kernel().build(problem, config)(*operands, out=out)
    return out


@pytest.mark.parametrize("seed", range(60))
def test_any_config_is_right(seed: int) -> None:
    """Sizes that fit no vector, every operator and activation, NaN and infinities too."""
    rng = random.Random(seed)
    sizes = [rng.choice((1, 2)), rng.choice((1, 7, 50)), rng.choice((1, 3, 8, 37, 130))]
    sizes.append(rng.choice((1, 1, 9, 64)))
    text = " ".join(f"{n}={s}" for n, s in zip("bncl", sizes, strict=True))
    operator = rng.choice(["none", *OPERATORS])
    dtype = rng.choice(("float32", "float64"))
    problem = parse(f"{dtype} {text} operator={operator} activation={rng.choice(WORDS)}")
    operands = [np.rint(4 * a) / 4 for a in problem.random_operands(seed)]
    if seed % 2:
        places = np.random.default_rng(seed).integers(0, operands[0].size, 3)
        operands[0].flat[places] = np.nan, np.inf, -np.inf
    want = problem.reference(*(a.astype(np.float64) for a in operands))
    with np.errstate(all="ignore"):
        # What float32 makes infinite is infinite.
        want = want.astype(dtype).astype(np.float64)
    space = kernel().space(problem)
    for config in (kernel().default(problem), space.sample(rng), space.sample(rng)):
        got = compute(problem, config, *operands)
        assert relative_error(got, want) <= problem.error_budget(), (str(problem), config)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("word", WORDS)
def test_every_element_is_right(word: str, dtype: str) -> None:
    """From the least to the greatest, each within a few units of its own last place."""
    tiny = np.finfo(dtype).tiny
    x = np.concatenate([np.linspace(-30, 30, 4001), np.geomspace(tiny, 100, 999)]).astype(dtype)
    x = np.concatenate([x, -x, [0]]).astype(dtype)
    problem = parse(f"{dtype} b=1 n=1 c={x.size} l=1 activation={word}")
    x4 = x.reshape(problem.output.shape)
    got = compute(problem, kernel().default(problem), x4).reshape(-1).astype(np.float64)
    wide = x.astype(np.float64)
    want = problem.reference(wide.reshape(x4.shape)).reshape(-1)
    if word == "gelu":  # where the reference has lost its digits
        want = np.array([v * math.erfc(-v / math.sqrt(2)) / 2 for v in wide.tolist()])
    finite = np.abs(want) < np.finfo(dtype).max
    assert np.array_equal(np.isinf(got), ~finite)
    # These two are sums with others: their error counts beside 1 and x.
    scale = np.maximum(np.abs(want), 1.0 if word.startswith("hard_si") else 8 * tiny)
    scale = np.abs(wide) + tiny if word == "gelu_tanh" else scale
    # An exponential carries the rounding of its argument, here and in the reference.
    units = 6 + (2 * wide**2 if word == "gelu" else 0)
    error = (np.abs(got - want) / scale / np.finfo(dtype).eps)[finite]
    assert (error <= np.broadcast_to(units, x.shape)[finite]).all(), (error.max(), word)


def test_an_operand_of_another_shape_is_refused() -> None:
    """The compiled run looks at what it gets."""
    problem = parse("float32 b=1 n=4 c=8 l=1 operator=add")
    x, other = problem.random_operands()
    run = kernel().build(problem, kernel().default(problem))
    with pytest.raises(ValueError, match="as contiguous arrays"):
        run(x, other[..., :4, :], out=np.empty_like(x))


def test_what_it_has_not_is_declined() -> None:
    """Narrow floats go by way of float32, and nothing is nothing to compute."""
    assert "float32 or float64" in str(kernel().supports(parse("float16 b=1 n=1 c=8 l=1")))
    assert "nothing" in str(kernel().supports(parse("float32 b=1 n=0 c=8 l=1")))
