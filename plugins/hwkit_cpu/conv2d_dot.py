"""A kernel of the Op conv2d for few output channels: dot products of windows with weights."""

from __future__ import annotations

import math
from typing import Any

from hwkit import Config, Kernel, Problem, Run, Space

from . import tiles, winograd_costs
from .device import compiled
from .gemm_common import of_pixels
from .gemm_few_rows import few_columns

__all__ = ["DotConv2d", "kernels"]

# Pixels of a chunk to choose from, and those that take as long as what a chunk costs beside.
_PIXELS, _AGAIN = (48, 96, 192, 384, 768, 1536), 12.0
# Up to so many output channels it comes first (0.2 to 0.9 of the time, Zen 4), if a window has so
# many vectors: of 3x3 windows with stride 1, which Winograd's algorithm takes, and of others.
_FEW_COLUMNS, _SOME_COLUMNS, _MANY_STEPS = 3, 4, 6


def kernels() -> list[Kernel]:
    """Return the kernel of this module."""
    return [DotConv2d()]


class DotConv2d(tiles.ProductKernel):
    """Windows and weights are read along their channels, where both lie: nothing is packed.

    Tunables: ``pixels`` of a chunk, whole lines of the result, and ``threads``, which share them.
    """

    op = "conv2d"
    name = "dot_conv2d"
    version = 2  # windows of any size

    def supports(self, problem: Problem) -> bool | str:
        """Whether the channels of a pixel lie together."""
        if problem.layout != "nhwc":
            return "takes the layout nhwc only"
        return tiles.refusal(problem) or True

    def space(self, problem: Problem) -> Space:
        """Return the pixels of a chunk, and the threads."""
        double, area = problem.dtypes.input == "float64", math.prod(tiles.out_size(problem))
        return Space(
            {"pixels": _PIXELS, "threads": tiles.thread_ladder(double)},
            [
                (
                    lambda pixels: pixels <= tiles.covering(_PIXELS, area),
                    "pixels beyond the image change nothing",
                )
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return chunks of a few lines."""
        double, area = problem.dtypes.input == "float64", math.prod(tiles.out_size(problem))
        threads = tiles.threads_for(problem, double)
        others = problem["n"] * problem["groups"]
        pixels = tiles.balanced(_PIXELS, area, others, threads, area, _AGAIN)
        return Config({"pixels": pixels, "threads": threads})

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the run of the compiled kernel."""
        double = problem.dtypes.input == "float64"
        rows, vectors = tiles.facts(double).tiles[0]
        operands, output = tiles.operand_arguments(problem)
        common: dict[str, Any] = {
            "is_double": double,
            "algorithm": "dot",
            "rows": rows,
            "vectors": vectors,
            "kc": problem["c"],
            "threads": config["threads"],
            **tiles.epilogue_arguments(problem),
        }
        run: Run
        if _pixel_by_pixel(problem):
            of = of_pixels(problem)
            run = compiled().gemm(operands, output, **of, mc=1, nc=problem["k"], **common)
        else:
            run = compiled().conv2d(
                operands,
                output,
                **tiles.window_arguments(problem),
                groups=problem["groups"],
                nhwc=True,
                pixels=config["pixels"],
                channels=problem["k"],
                **common,
            )
        return run

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return a bound for random operands: each element of a vector has a sum of its own."""
        double = problem.dtypes.input == "float64"
        return tiles.rounding(double, _depth(problem) / tiles.facts(double).vector)

    def rank(self, problem: Problem) -> int:
        """First where so few output channels leave vectors mostly empty."""
        columns = problem["k"] // problem["groups"]
        if _pixel_by_pixel(problem):
            return 3 if few_columns(columns, problem["c"]) else -1
        most = _FEW_COLUMNS if winograd_costs.fits(problem) else _SOME_COLUMNS
        return 6 if columns <= most and _steps(problem) >= _MANY_STEPS else -1


def _pixel_by_pixel(problem: Problem) -> bool:
    """Whether it is a product of pixels, all of them, and weights."""
    window = problem["r"], problem["s"], *problem["stride"], *problem["pad"]
    return window == (1, 1, 1, 1, 0, 0, 0, 0) and problem["groups"] == 1


def _depth(problem: Problem) -> int:
    return int(problem["c"] // problem["groups"] * problem["r"] * problem["s"])


def _steps(problem: Problem) -> int:
    """Return how many vectors of a window each sum takes, partly filled ones too."""
    vector = tiles.facts(problem.dtypes.input == "float64").vector
    together = problem["groups"] == 1 and problem["dilation"][1] == 1
    runs = problem["r"] if together else problem["r"] * problem["s"]
    return int(runs * -(-(_depth(problem) // runs) // vector))
