"""A kernel of the Op conv2d for few output channels: dot products of pixels with weights."""

from __future__ import annotations

from hwkit import Config, Kernel, Problem, Run, Space

from . import tiles
from .device import compiled
from .gemm_common import of_pixels
from .gemm_few_rows import few_columns

__all__ = ["DotConv2d", "kernels"]


def kernels() -> list[Kernel]:
    """Return the kernel of this module."""
    return [DotConv2d()]


class DotConv2d(tiles.ProductKernel):
    """Pixels and weights are read along their channels, where both lie: nothing is packed.

    Tunable: ``threads``, which share the pixels.
    """

    op = "conv2d"
    name = "dot_conv2d"

    def supports(self, problem: Problem) -> bool | str:
        """Whether pixels are multiplied where they lie."""
        window = problem["r"], problem["s"], *problem["stride"], *problem["pad"]
        if window != (1, 1, 1, 1, 0, 0, 0, 0) or problem["groups"] != 1:
            return "takes 1x1 windows without stride, padding and groups only"
        if problem.layout != "nhwc":
            return "takes the layout nhwc only"
        return tiles.refusal(problem) or True

    def space(self, problem: Problem) -> Space:
        """Return the threads."""
        return Space({"threads": tiles.thread_ladder(problem.dtypes.input == "float64")})

    def default(self, problem: Problem) -> Config:
        """Return all threads."""
        return Config({"threads": tiles.threads_for(problem, problem.dtypes.input == "float64")})

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the run of the compiled kernel."""
        double = problem.dtypes.input == "float64"
        rows, vectors = tiles.facts(double).tiles[0]
        operands, output = tiles.operand_arguments(problem)
        run: Run = compiled().gemm(
            operands,
            output,
            **of_pixels(problem),
            is_double=double,
            algorithm="dot",
            rows=rows,
            vectors=vectors,
            kc=problem["c"],
            mc=1,
            nc=problem["k"],
            threads=config["threads"],
            **tiles.epilogue_arguments(problem),
        )
        return run

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return a bound for random operands: each element of a vector has a sum of its own."""
        double = problem.dtypes.input == "float64"
        return tiles.rounding(double, problem["c"] / tiles.facts(double).vector)

    def rank(self, problem: Problem) -> int:
        """First where so few output channels leave vectors mostly empty."""
        return 3 if few_columns(problem["k"], problem["c"]) else -1
