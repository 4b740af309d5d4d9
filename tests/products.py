"""What tests of kernels share: one kernel, one Config, one problem against float64."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hwkit import Config, Kernel, Problem
from hwkit.op import relative_error

EPILOGUES = (
    "",
    "+bias",
    "+bias+relu",
    "+bias+residual+leaky_relu:0.1",
    "+sigmoid",
    "+residual+silu",
    "+bias+hard_swish",
    "+relu6",
    "+clip:-0.5,0.75",
)

# Single precision of a few sums that happen to cancel is worse than that of a large result.
LIMITS = {"float32": 6e-6, "float64": 2e-14}


def candidates(
    kernel: Kernel, problem: Problem, rng: random.Random, count: int
) -> Iterator[Config]:
    """Yield the default, which must be legal, and some Configs of the space."""
    default, space = kernel.default(problem), kernel.space(problem)
    assert space.why_not(default) is None, (problem, kernel, default)
    yield default
    for _ in range(count):
        yield space.sample(rng)


def check(kernel: Kernel, problem: Problem, config: Config, seed: int = 0) -> None:
    """Compare a run, plain and with packed constants, to the reference in float64."""
    operands = problem.random_operands(seed)
    wanted = problem.reference(*[a.astype(np.float64) for a in operands])
    run: Any = kernel.build(problem, config)
    limit = LIMITS[problem.dtypes.input]
    out = np.full(problem.output.shape, np.nan, problem.output.dtype)
    run(*operands, out=out)
    assert relative_error(out, wanted) < limit, (problem, kernel, config)
    check_apart(run, operands, out)
    constants = {
        i: operands[i].copy()
        for i, operand in enumerate(problem.operands)
        if operand.name in problem.op.constants
    }
    packed = run.prepack(constants)
    for array in constants.values():
        array.fill(np.nan)  # a packed run keeps nothing of the user's
    del run
    out.fill(np.nan)
    packed(*[a for i, a in enumerate(operands) if i not in constants], out=out)
    assert relative_error(out, wanted) < limit, (problem, kernel, config, "packed")


def both_ways(
    kernel: Any, problem: Problem, config: Config, operands: Sequence[Any]
) -> list[np.ndarray[Any, Any]]:
    """Return what a run gives, and what it gives with packed constants."""
    run = kernel.build(problem, config)
    output = problem.output
    results = [np.full(output.shape, np.nan, output.dtype) for _ in range(2)]
    run(*operands, out=results[0])
    check_apart(run, operands, results[0])
    held = {i: operands[i].copy() for i in problem.constants}
    packed = run.prepack(held)
    for array in held.values():
        array.fill(np.nan)  # a packed run keeps nothing of the user's
    del run
    packed(*[a for i, a in enumerate(operands) if i not in held], out=results[1])
    return results


def check_apart(run: Any, operands: Sequence[Any], result: np.ndarray[Any, Any]) -> None:
    """Check that a run reads and writes parts of wider arrays, and nothing beside them."""
    if run.x_apart:
        wide, x = _wide(operands[0])
        x[...] = operands[0]
        out = np.full_like(result, np.nan)
        assert run.direct((x, *operands[1:]), out) is out
        assert np.array_equal(out, result, equal_nan=True)
    if run.out_apart:
        wide, out = _wide(result)
        assert run.direct(tuple(operands), out) is out
        assert np.array_equal(out, result, equal_nan=True)
        out[...] = 7
        assert (wide == 7).all()


def _wide(array: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return an array that is wider, full of sevens, and its part of the shape of ``array``."""
    wide = np.full((*array.shape[:-1], array.shape[-1] + 9), 7, array.dtype)
    return wide, wide[..., 4:-5]


def run_again(path: str, isa: str, only: str = "test", **environment: str) -> None:
    """Run the tests of a file in a child process that may use no more than ``isa``.

    Args:
        path: the file; tests with ``instruction_set`` in their names are left out.
        isa: a value of HWKIT_MAX_ISA.
        only: a word in the names of the tests to run.
        environment: more variables.
    """
    tests = f"{only} and not instruction_set and not slow"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", tests, path],
        env={**os.environ, "HWKIT_MAX_ISA": isa, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
