"""Elementwise operators and activations, ``cython/elementwise.c``."""

from __future__ import annotations

from hwkit import Config, Kernel, Problem, Run, Space

from .device import compiled
from .tasks import most_threads, thread_counts

__all__ = ["ElementwiseKernel", "kernels"]

# Elements of a task: what an operator leaves for the activation is still in the first cache.
_BLOCKS = (1024, 2048, 4096, 8192, 16384, 65536)
_BLOCK = 4096


def kernels() -> list[Kernel]:
    """Return the kernels of this module."""
    return [ElementwiseKernel()]


class ElementwiseKernel(Kernel):
    """One pass over memory. Tunables: ``block`` elements are one task, ``threads`` share them."""

    op = "elementwise"
    name = "elementwise"

    def supports(self, problem: Problem) -> bool | str:
        """Floats, something to compute."""
        if len(set(problem.dtypes)) > 1 or problem.dtypes.input not in ("float32", "float64"):
            return "it computes in float32 or float64 only"
        return problem.output.nbytes > 0 or "there is nothing to compute"

    def space(self, problem: Problem) -> Space:
        """Return the blocks and numbers of threads."""
        return Space({"block": _BLOCKS, "threads": thread_counts()})

    def default(self, problem: Problem) -> Config:
        """All threads."""
        return Config({"block": _BLOCK, "threads": most_threads()})

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the compiled run."""
        name, _, numbers = problem["activation"].partition(":")
        activation = (name, tuple(float(p) for p in numbers.split(",") if p))
        run: Run = compiled().elementwise(
            [(o.shape, o.dtype) for o in problem.operands],
            (problem.output.shape, problem.output.dtype),
            **problem.sizes, operator=problem["operator"],
            activation=None if name == "none" else activation,
            is_double=problem.dtypes.input == "float64", **config,
        )  # fmt: skip
        return run

    def deterministic(self, problem: Problem, config: Config) -> bool:
        """No element depends on another."""
        return True
