"""Kernels of the Op conv2d for 3x3 and 5x5 taps by Winograd's minimal filtering.

F(2x2) does with 16 products what takes 36, F(4x4) with 36 what takes 144, F(6x6) with 64 what takes
324; their sums round more than plain ones, those of F(6x6) beyond the default budget of float32.
With stride 2, F(2x2) does with 25 products what takes 36, F(4x4) with 81 what takes 144. Of 5x5
taps, F(2x2) does with 36 what takes 100. Pixels that dilation leaves apart are images of their own.
``cython/winograd.h`` names the algorithm and its points of interpolation.
"""

from __future__ import annotations

from typing import Any

from hwkit import Config, Kernel, Problem, Run, Space

from . import tiles, winograd_costs
from .device import compiled
from .tiles import Value
from .winograd_costs import SIZES, TILES, fits

__all__ = ["WinogradConv2d", "kernels"]

KC = (32, 64, 96, 128, 192, 256, 384, 512)

# The default sums so many channels in one go; with more, deep layers would use up the error budget:
# the default one with F(4), 1e-5 with F(6). By taps and stride.
_DEFAULT_KC = {(3, 1): {2: 512, 4: 128, 6: 128}, (3, 2): {2: 512, 4: 192}, (5, 1): {2: 96}}

# Channels from which fewer rows and more columns at once are faster on AVX2.
_MANY_CHANNELS, _SOME_CHANNELS = 192, 64

# Bounds of errors of float32 by taps and stride, measured on random and badly scaled operands, down
# to one pixel that outweighs all others of an image, wherever it is in its tile: of one channel and
# for the root of their number. Those of F(6) lie above the default budget.
_ERRORS = {
    (3, 1): {2: (2e-7, 4.5e-8), 4: (3.6e-7, 1.35e-7), 6: (3e-6, 4.5e-7)},
    (3, 2): {2: (1.6e-7, 3.8e-8), 4: (3e-7, 9.8e-8)},
    (5, 1): {2: (4.5e-7, 1.35e-7)},
}


def kernels() -> list[Kernel]:
    """Return the kernels of this module."""
    return [WinogradConv2d(m, *window) for window, sizes in SIZES.items() for m in sizes]


class WinogradConv2d(tiles.ProductKernel):
    """Tiles of m x m outputs. For images of several tiles and some dozens of channels.

    Tunables: ``tile`` of the matrix products, ``kc`` channels that are summed in one go, ``tiles``
    of a block, ``threads``; with ``stages`` all threads share a block and go through its three
    stages together, so that each reads only its part of the weights.

    Args:
        m: outputs of a tile each way, one of :data:`SIZES`.
        taps, stride: of each axis.
    """

    op = "conv2d"

    def __init__(self, m: int, taps: int = 3, stride: int = 1) -> None:
        self.m, self.taps, self.stride = m, taps, stride
        window = (f"_{taps}x{taps}" if taps != 3 else "") + ("_stride2" if stride == 2 else "")
        self.name = f"winograd{m}{window}_conv2d"

    def supports(self, problem: Problem) -> bool | str:
        """Whether the window has the taps and the stride that it is for."""
        if (problem["r"], problem["s"]) != (self.taps, self.taps):
            return f"takes {self.taps}x{self.taps} windows only"
        if problem["stride"] != (self.stride, self.stride):
            return f"takes stride {self.stride} only"
        if not fits(problem, self.taps, self.stride):
            return "takes dilation with stride 1, below the size of the output only"
        return tiles.refusal(problem) or True

    def space(self, problem: Problem) -> Space:
        """Return tile, blocks, how threads share them, and threads."""
        double = problem.dtypes.input == "float64"
        of = self.numbers(problem)
        deep, many = tiles.covering(KC, of.depth), tiles.covering(TILES, of.every)
        most = max(TILES[0], winograd_costs.most_tiles(of))
        return Space(
            {
                "tile": [tiles.tile_text(t, double) for t in tiles.facts(double).tiles],
                "kc": KC,
                "tiles": TILES,
                "stages": (False, True),
                "threads": tiles.thread_ladder(double),
            },
            [
                (lambda kc: kc <= deep, "kc beyond what is summed changes nothing"),
                (lambda tiles: tiles <= many, "tiles beyond the images change nothing"),
                (lambda tiles: tiles <= most, "so many transformed tiles take too much memory"),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return the blocks that the model of costs finds best."""
        double = problem.dtypes.input == "float64"
        of = self.numbers(problem)
        values: dict[str, Value] = {
            "tile": tiles.tile_text(self._tile(of, tiles.facts(double), double), double),
            "kc": min(_DEFAULT_KC[self.taps, self.stride][self.m], tiles.covering(KC, of.depth)),
        }
        return Config({**values, **self.blocks(problem)})

    def _tile(
        self, of: winograd_costs.Numbers, known: tiles.Facts, double: bool
    ) -> tuple[int, int]:
        """Return the tile of the products.

        On AVX2, 4x24 takes 0.7 to 1.05 of the time of 6x16 for F(4) and stride 2, 0.93 in the mean,
        where many channels meet, or where its rows hold all tiles (Zen 4).
        """
        many = of.depth >= _MANY_CHANNELS and of.k >= _MANY_CHANNELS
        few = of.every <= known.tiles[-1][0] and of.k >= _SOME_CHANNELS
        wide = (self.m == 4 or self.stride == 2) and (many or few)
        if known.isa == "avx2" and not double and wide:
            return known.tiles[-1]
        return tiles.of_few_rows(known, of.k)

    def numbers(self, problem: Problem) -> winograd_costs.Numbers:
        """Return what the model of costs needs of a problem."""
        return winograd_costs.numbers(problem, self.m)

    def blocks(self, problem: Problem) -> dict[str, Value]:
        """Return the tunables that say what threads do, as the model of costs finds them best."""
        double = problem.dtypes.input == "float64"
        of, known = self.numbers(problem), tiles.facts(double)
        threads = tiles.threads_for(problem, double)
        shared = (False,) if threads == 1 else (False, True)
        _, count, stages = min(
            (winograd_costs.cost(of, known, count, stages, threads), count, stages)
            for count in winograd_costs.blocks(of)
            for stages in shared
        )
        return {"tiles": count, "stages": stages, "threads": threads}

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the run of the compiled kernel."""
        double = problem.dtypes.input == "float64"
        operands, output = tiles.operand_arguments(problem)
        top, _, left, _ = problem["pad"]
        run: Run = compiled().winograd(
            operands,
            output,
            sizes=[problem[name] for name in ("n", "c", "h", "w", "k")],
            out_size=tiles.out_size(problem),
            pad=(top, left),
            groups=problem["groups"],
            nhwc=problem.layout == "nhwc",
            is_double=double,
            m=self.m,
            taps=self.taps,
            stride=self.stride,
            dilation=problem["dilation"][0],
            **self.products(problem, config),
            tiles=config["tiles"],
            stages=bool(config["stages"]),
            threads=config["threads"],
            **tiles.epilogue_arguments(problem),
        )
        return run

    def products(self, problem: Problem, config: Config) -> dict[str, Any]:
        """Return the arguments of the compiled kernel that say how matrices are multiplied."""
        double = problem.dtypes.input == "float64"
        rows, vectors = tiles.tile_of(config["tile"], double)
        return {"rows": rows, "vectors": vectors, "kc": config["kc"]}

    def strict(self, problem: Problem, config: Config) -> bool:
        """Sums and differences of inputs are multiplied, not inputs."""
        return False

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return a bound for random operands: rounding grows as the root of what is summed."""
        deep = float(self.numbers(problem).depth)
        block = max(min(float(config["kc"]), deep), 1.0)
        summed = block + deep / block - 1
        first, more = _ERRORS[self.taps, self.stride][self.m]
        bound: float = first + more * summed**0.5
        return bound * 2.0**-28 if problem.dtypes.input == "float64" else bound

    def rank(self, problem: Problem) -> int:
        """Before plain sums where the model of costs says that it is faster."""
        return winograd_costs.rank(problem, self.m)
