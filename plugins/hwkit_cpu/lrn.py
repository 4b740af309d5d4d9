"""Local response normalisation, ``cython/lrn.c``."""

from __future__ import annotations

from hwkit import Config, Kernel, Problem, Run

from .block_kernel import BlockKernel
from .device import compiled
from .tiles import operand_arguments

__all__ = ["LrnKernel", "kernels"]


def kernels() -> list[Kernel]:
    """Return the kernels of this module."""
    return [LrnKernel()]


class LrnKernel(BlockKernel):
    """Roots instead of a power. Tunables: ``block`` elements are one task for ``threads``."""

    op = "local_response_norm"
    name = "lrn"
    block = 4096

    def supports(self, problem: Problem) -> bool | str:
        """Floats, and a power of quarters, as networks have it (0.75)."""
        if len(set(problem.dtypes)) > 1 or problem.dtypes.input not in ("float32", "float64"):
            return "it computes in float32 or float64 only"
        if problem["beta"] not in (0.25, 0.5, 0.75, 1.0):
            return "it has roots only: beta must be 0.25, 0.5, 0.75 or 1"
        if problem["bias"] <= 0 or problem["alpha"] < 0:
            return "it takes no roots of numbers below 0"
        return problem.output.nbytes > 0 or "there is nothing to compute"

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the compiled run."""
        n, c, h, w = problem.sizes.values()
        last, size = problem.layout == "nhwc", problem["size"]
        # Beyond the channels that there are, a window has none.
        before, after = min((size - 1) // 2, c), min(size // 2, c)
        run: Run = compiled().lrn(
            *operand_arguments(problem),
            n=n * h * w if last else n, c=c, l=1 if last else h * w, before=before, after=after,
            factor=problem["alpha"] / size, bias=problem["bias"],
            quarters=round(4 * problem["beta"]), is_double=problem.dtypes.input == "float64",
            **config,
        )  # fmt: skip
        return run
