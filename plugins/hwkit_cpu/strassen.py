"""Kernels of the Ops gemm, matmul and conv2d by the algorithm of Strassen and Winograd.

Seven products of half the size take the place of eight; ``cython/strassen.h`` names the sources.
Halves of the depth are added to each other, so the error is relative to the largest terms of a
block, not to those of each result; blocks where that matters are summed plainly.
"""

from __future__ import annotations

import math
from typing import Any

from hwkit import Config, Kernel, Problem, Run, Space

from . import tiles, winograd_costs
from .conv2d import FEW_PIXELS
from .device import compiled
from .gemm_common import NC, operation, transposes
from .tiles import Value

__all__ = ["StrassenConv2d", "StrassenGemm", "kernels"]

KC = (64, 128, 256, 512, 1024)
MC = (12, 24, 36, 48, 72, 96, 144, 192, 288, 384)

# Sums of a block's rows, and what its products come to, must stay in the caches.
_ROWS = 36
# Unless what is packed lies beyond a core's share of the third cache: each block reads all of it.
_MANY_ROWS, _NEAR_BYTES = 144, 16 << 20
# So few rows are one block, and threads share the columns.
_FEW_ROWS = 72

# Bounds of errors of float32, measured on random and badly scaled operands: of one product, and for
# the root of the number of products summed.
_ERRORS = 1.6e-7, 5.2e-8

# Measured on Zen 4, in multiply-adds: what seven products of eight take, the sums of an element of
# a, and its copy, the start and the end of a result, plain and of seven products, and packing an
# element of b.
_PRODUCTS, _SUM, _COPY, _PLAIN, _RESULT, _PACK = 0.87, 10.0, 12.0, 5.0, 22.0, 8.0
# The same of an element whose image or result is transposed, while both lie in the second cache (so
# many times as large, for some of it is needed no more), and beyond.
_TURN, _FAR_TURN, _NEAR = 5.0, 14.0, 1.7
# Pixels that fill whole panels where channels come first, and what is lost where they do not.
_PANEL, _UNIT = 32, 8
# What the model must say before it comes first, and the least rows for which it was measured.
_TAPS_ROWS = 128
_GAIN = {"avx2": (1.05, 128), "avx512": (1.03, 48)}


def kernels() -> list[Kernel]:
    """Return the kernels of this module."""
    return [StrassenGemm("gemm"), StrassenGemm("matmul"), StrassenConv2d()]


class _Strassen(tiles.ProductKernel):
    """What all have in common: a product of m rows, n columns and depth k."""

    def space(self, problem: Problem) -> Space:
        """Return tile, depth, rows and columns of a block, and threads."""
        double = problem.dtypes.input == "float64"
        m, n, k = self._sizes(problem)
        deep, tall = tiles.covering(KC, (k + 1) // 2), tiles.covering(MC, m)
        wide = tiles.covering(NC, n)
        return Space(
            {
                "tile": [tiles.tile_text(t, double) for t in tiles.facts(double).tiles],
                "kc": KC,
                "mc": MC,
                "nc": NC,
                "threads": tiles.thread_ladder(double),
            },
            [
                (lambda kc: kc <= deep, "kc beyond half of the depth changes nothing"),
                (lambda mc: mc <= tall, "mc beyond the rows changes nothing"),
                (lambda nc: nc <= wide, "nc beyond the columns changes nothing"),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return blocks for the caches found here."""
        double = problem.dtypes.input == "float64"
        known, threads = tiles.facts(double), tiles.threads_for(problem, double)
        m, n, k = self._sizes(problem)
        # Few rows and many columns at once, as products of rows as they lie.
        tile = known.tiles[1] if known.isa == "avx2" else tiles.of_few_rows(known, n)
        mc, nc = tiles.covering(MC, m), tiles.covering(NC, n)
        if m <= _FEW_ROWS:
            nc = tiles.balanced(NC, n, 1, threads, n)
        else:
            far = 2 * k * n * problem.output.dtype.itemsize > _NEAR_BYTES
            mc = tiles.balanced(MC, m, 1, threads, _MANY_ROWS if far else _ROWS)
        values: dict[str, Value] = {
            "tile": tiles.tile_text(tile, double),
            "kc": min(512, tiles.covering(KC, (k + 1) // 2)),
            "mc": mc,
            "nc": nc,
            "threads": threads,
        }
        return Config(values)

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the run of the compiled kernel."""
        double = problem.dtypes.input == "float64"
        rows, vectors = tiles.tile_of(config["tile"], double)
        return self._compiled(
            problem,
            config,
            is_double=double,
            algorithm="strassen",
            rows=rows,
            vectors=vectors,
            kc=config["kc"],
            threads=config["threads"],
        )

    def strict(self, problem: Problem, config: Config) -> bool:
        """Sums and differences of inputs are multiplied, not inputs."""
        return False

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return a bound for random operands: rounding grows as the root of what is summed."""
        half = (self._sizes(problem)[2] + 1) // 2
        block = min(float(config["kc"]), half)
        first, more = _ERRORS
        bound: float = first + more * (block + half / block - 1) ** 0.5
        return bound * 2.0**-28 if problem.dtypes.input == "float64" else bound

    def rank(self, problem: Problem) -> int:
        """Before plain sums where the model of costs says that it is faster."""
        least, rows = _GAIN.get(tiles.facts(False).isa, (math.inf, 0))
        return 2 if self._sizes(problem)[0] >= rows and self._gain(problem) >= least else -1

    def _refusal(self, problem: Problem) -> str | None:
        if self._sizes(problem)[2] < 2:
            return "takes sums of at least two terms, which it cuts in two"
        return tiles.refusal(problem)

    def _gain(self, problem: Problem) -> float:
        """Return the time of plain sums as a multiple of that of this kernel."""
        m, n, k = self._sizes(problem)
        packing = 0.0 if problem.packed else _PACK * n * k / m
        rows = (_SUM + self._copies(problem)) * k + self._turns(problem)
        plain = self._seen(problem) * n * k + _PLAIN * n
        return plain / (_PRODUCTS * n * k + rows + _RESULT * n + packing)

    def _seen(self, problem: Problem) -> float:
        """Return the share of the products that plain sums form: they leave out padding."""
        return 1.0

    def _copies(self, problem: Problem) -> float:
        """Return what it costs to copy an element of a, in multiply-adds."""
        return 0.0

    def _turns(self, problem: Problem) -> float:
        """Return what transpositions cost for each row, in multiply-adds."""
        return 0.0

    def _sizes(self, problem: Problem) -> tuple[int, int, int]:
        raise NotImplementedError

    def _compiled(self, problem: Problem, config: Config, **arguments: Any) -> Run:
        raise NotImplementedError


class StrassenGemm(_Strassen):
    """A product of matrices.

    Args:
        op: ``"gemm"`` or ``"matmul"``.
    """

    name = "strassen_gemm"

    def __init__(self, op: str) -> None:
        self.op = op

    def supports(self, problem: Problem) -> bool | str:
        """Whether the dtypes and the sizes fit."""
        if transposes(problem)[0]:
            return "takes no transposed a"
        return self._refusal(problem) or True

    def _sizes(self, problem: Problem) -> tuple[int, int, int]:
        m, n, k = (int(problem[name]) for name in "mnk")
        return m, n, k

    def _compiled(self, problem: Problem, config: Config, **arguments: Any) -> Run:
        m, n, k = self._sizes(problem)
        run: Run = compiled().gemm(
            *tiles.operand_arguments(problem),
            m=m,
            n=n,
            k=k,
            mc=config["mc"],
            nc=config["nc"],
            **operation(problem),
            **arguments,
        )
        return run


class StrassenConv2d(_Strassen):
    """A convolution whose rows are what the taps of a pixel see, its channels last.

    They are copied block by block; with one tap and stride 1 they are used as they lie. In the
    layout nchw the image and the result are transposed.
    """

    op = "conv2d"
    name = "strassen_conv2d"

    def supports(self, problem: Problem) -> bool | str:
        """Whether the channels of a pixel meet, all of them."""
        if problem.layout == "nchw" and problem["r"] * problem["s"] > 1:
            return "takes one tap only in the layout nchw"
        if problem["groups"] != 1:
            return "takes one group only"
        return self._refusal(problem) or True

    def rank(self, problem: Problem) -> int:
        """As any, but not where Winograd's algorithm is, nor where many weights meet few rows.

        In nchw it comes before packed pixels, which come before pixels that lie together.
        """
        few = problem["r"] * problem["s"] > 1 and self._sizes(problem)[0] < _TAPS_ROWS
        if few or winograd_costs.gains(problem):
            return -1
        rank = super().rank(problem)
        return rank + 1 if rank > 0 and problem.layout == "nchw" else rank

    def _sizes(self, problem: Problem) -> tuple[int, int, int]:
        p, q = tiles.out_size(problem)
        return problem["n"] * p * q, problem["k"], problem["c"] * problem["r"] * problem["s"]

    def _seen(self, problem: Problem) -> float:
        if problem.layout == "nchw":
            # Columns of the plain product are pixels, of each image by itself, if they are many.
            area = math.prod(tiles.out_size(problem))
            units = -(-area // _UNIT) + (area % _PANEL > 0)
            return 1.0 if area < FEW_PIXELS else units * _UNIT / area
        lines, rows = tiles.out_size(problem)[0], problem["r"]
        first = range(-problem["pad"][0], lines * problem["stride"][0], problem["stride"][0])
        seen = [
            0 <= y + i * problem["dilation"][0] < problem["h"]
            for y in first[:lines]
            for i in range(rows)
        ]
        return float(sum(seen) / len(seen))

    def _copies(self, problem: Problem) -> float:
        window = (problem["r"], problem["s"], *problem["stride"], *problem["pad"])
        return 0.0 if window == (1, 1, 1, 1, 0, 0, 0, 0) else _COPY

    def _turns(self, problem: Problem) -> float:
        if problem.layout == "nhwc":
            return 0.0
        pixels, image = self._sizes(problem)[0], problem["n"] * problem["h"] * problem["w"]
        elements = float(image * problem["c"] + pixels * problem["k"])
        double = problem.dtypes.input == "float64"
        near = elements * problem.output.dtype.itemsize <= _NEAR * tiles.facts(double).l2
        return elements / pixels * (_TURN if near else _FAR_TURN)

    def _compiled(self, problem: Problem, config: Config, **arguments: Any) -> Run:
        run: Run = compiled().conv2d(
            *tiles.operand_arguments(problem),
            **tiles.window_arguments(problem),
            nhwc=problem.layout == "nhwc",
            pixels=config["mc"],
            channels=config["nc"],
            **tiles.epilogue_arguments(problem),
            **arguments,
        )
        return run
