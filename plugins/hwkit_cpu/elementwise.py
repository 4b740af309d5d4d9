"""Elementwise operators and activations, ``cython/elementwise.c``."""

from __future__ import annotations

from hwkit import Config, Kernel, Problem, Run

from .block_kernel import BlockKernel
from .device import compiled
from .tiles import operand_arguments

__all__ = ["ElementwiseKernel", "kernels"]


def kernels() -> list[Kernel]:
    """Return the kernels of this module."""
    return [ElementwiseKernel()]


class ElementwiseKernel(BlockKernel):
    """One pass over memory. Tunables: ``block`` elements are one task, ``threads`` share them."""

    op = "elementwise"
    name = "elementwise"
    # What an operator leaves for the activation is still in the first cache.
    blocks = (1024, 2048, 4096, 8192, 16384, 65536)
    block = 4096

    def supports(self, problem: Problem) -> bool | str:
        """Floats, something to compute."""
        if len(set(problem.dtypes)) > 1 or problem.dtypes.input not in ("float32", "float64"):
            return "it computes in float32 or float64 only"
        return problem.output.nbytes > 0 or "there is nothing to compute"

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the compiled run."""
        name, _, numbers = problem["activation"].partition(":")
        activation = (name, tuple(float(p) for p in numbers.split(",") if p))
        run: Run = compiled().elementwise(
            *operand_arguments(problem),
            **problem.sizes, operator=problem["operator"],
            activation=None if name == "none" else activation,
            is_double=problem.dtypes.input == "float64", **config,
        )  # fmt: skip
        return run
