"""Transposition, ``cython/transpose.c``."""

from __future__ import annotations

from hwkit import Config, Kernel, Problem, Run, Space

from .device import compiled
from .tasks import most_threads, thread_counts

__all__ = ["TransposeKernel", "kernels"]

_BLOCKS = (1024, 4096, 16384, 65536)
_BLOCK = 16384


def kernels() -> list[Kernel]:
    """Return the kernels of this module."""
    return [TransposeKernel()]


class TransposeKernel(Kernel):
    """One pass. Tunables: ``block`` elements are one task, ``threads`` share the tasks."""

    op = "transpose"
    name = "transpose"

    def supports(self, problem: Problem) -> bool | str:
        """Whatever there is to move: elements are not looked at."""
        if len({o.dtype for o in (problem.output, *problem.operands)}) > 1:
            return "it converts nothing"
        return problem.output.nbytes > 0 or "there is nothing to move"

    def space(self, problem: Problem) -> Space:
        """Return the blocks and numbers of threads."""
        return Space({"block": _BLOCKS, "threads": thread_counts()})

    def default(self, problem: Problem) -> Config:
        """All threads."""
        return Config({"block": _BLOCK, "threads": most_threads()})

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the compiled run."""
        run: Run = compiled().transpose(
            [(o.shape, o.dtype) for o in problem.operands],
            (problem.output.shape, problem.output.dtype),
            **problem.sizes, **config,
        )  # fmt: skip
        return run

    def deterministic(self, problem: Problem, config: Config) -> bool:
        """Nothing is computed."""
        return True
