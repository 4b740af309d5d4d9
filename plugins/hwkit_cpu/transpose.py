"""Transposition, ``cython/transpose.c``."""

from __future__ import annotations

from hwkit import Config, Kernel, Problem, Run

from .block_kernel import BlockKernel
from .device import compiled
from .tiles import operand_arguments

__all__ = ["TransposeKernel", "kernels"]


def kernels() -> list[Kernel]:
    """Return the kernels of this module."""
    return [TransposeKernel()]


class TransposeKernel(BlockKernel):
    """One pass. Tunables: ``block`` elements are one task, ``threads`` share the tasks."""

    op = "transpose"
    name = "transpose"
    block = 16384

    def supports(self, problem: Problem) -> bool | str:
        """Whatever there is to move: elements are not looked at."""
        if len({o.dtype for o in (problem.output, *problem.operands)}) > 1:
            return "it converts nothing"
        return problem.output.nbytes > 0 or "there is nothing to move"

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the compiled run."""
        run: Run = compiled().transpose(
            *operand_arguments(problem),
            **problem.sizes, **config,
        )  # fmt: skip
        return run
