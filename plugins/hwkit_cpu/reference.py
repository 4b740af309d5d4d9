"""The kernel that serves every Op, third parties' included, by running its numpy reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwkit import Config, Kernel, Problem

__all__ = ["ReferenceKernel", "kernels"]

Array = np.ndarray[Any, Any]


def kernels() -> list[Kernel]:
    """Return the kernels of this module."""
    return [ReferenceKernel()]


class ReferenceKernel(Kernel):
    """``op.reference`` on the host: right for every problem, zero sizes too, and slow.

    Its rank is below that of every real kernel, so it runs where nothing else does.
    """

    op = "*"
    name = "reference"

    def supports(self, problem: Problem) -> bool | str:
        """Every Op has a reference."""
        return True

    def build(self, problem: Problem, config: Config) -> ReferenceRun:
        """Return the run."""
        return ReferenceRun(problem)

    def rank(self, problem: Problem) -> int:
        """Last."""
        return -100

    def deterministic(self, problem: Problem, config: Config) -> bool:
        """Only where there is nothing to add up: numpy's own threads may change the order."""
        return problem.flops == 0 or problem.output.nbytes == 0


class ReferenceRun:
    """The reference in float64 (float64 operands stay as they are), rounded once at the end."""

    workspace = 0

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def __call__(self, *operands: Array, out: Array) -> None:
        """Compute into ``out``."""
        if out.size == 0:
            return
        wide = [a if a.dtype.kind in "iub" else np.asarray(a, np.float64) for a in operands]
        result = self._problem.reference(*wide)
        with np.errstate(all="ignore"):
            np.copyto(out, result, casting="unsafe")
