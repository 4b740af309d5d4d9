"""bfloat16 by the dot products of AVX512-BF16, rows of the left side read where they lie.

What has channels first, or a transposed left side, is turned beforehand.

The direct kernel of :mod:`.conv2d`, whose elements are pairs along the depth: sums stay in
registers over all of it and are rounded once. ``cython/conv2d_pairs.c`` says how values that these
dot products take for zeros are found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from hwkit import Config, Kernel, Problem, Run, Space

from . import amx, gemm_common, tiles, winograd_costs
from .conv2d import CHANNELS, PIXELS, blocks, longest_copied, mergeable
from .device import compiled
from .half import widened
from .tiles import Value

__all__ = ["PairsGemm", "PairsKernel", "PairsConv2d", "kernels", "rows_of"]

# Columns of a vector, and tiles as the compiled module has them.
_VECTOR = 16
_TILES = ("9x48", "6x64", "9x32")

# Before all others, behind tiles, behind kernels for groups of few channels, and for one output.
_RANK, _BESIDE_TILES = 101, 3
_BEHIND_FEW, _BEHIND_DOT = 99, 5

# Channels of a group below which those are faster.
_SHORT = 8

# What pairs take of the time of plain sums in float32, with what converting costs those; and of
# sums of half a vector, which Winograd's algorithm makes no faster than whole ones (Zen 4).
_SHARE, _SHARE_OF_HALF = 0.5, 0.35

# Of fewer rows the panels of the right side are read again too often.
_LEAST_PIXELS = 96

# Channels of a group, first, that take longer to turn than to sum where windows are of one tap.
_PLANES = 4

# Rows for which the right side is worth packing for one call, as it is and transposed.
_UNPACKED = (8, 4)


def kernels() -> list[Kernel]:
    """Return the kernels of this module."""
    return [PairsConv2d(), PairsGemm("gemm"), PairsGemm("matmul")]


class PairsKernel(amx.TilesKernel):
    """What both have in common.

    Attributes:
        shapes: of tiles, as the compiled module has them.
        elements: arguments of the compiled kernel that say what pairs are.
    """

    shapes: tuple[str, ...] = _TILES
    elements: Mapping[str, Any] = MappingProxyType({"pairs": True})

    def __init__(self, op: str) -> None:
        super().__init__("bfloat16", 1, True)
        self.op = op

    def _values(self) -> dict[str, Any]:
        return {
            "tile": self.shapes,
            "pixels": PIXELS,
            "channels": CHANNELS,
            "threads": tiles.thread_ladder(False),
        }

    def _default(self, area: int, others: int, channels: int, depth: int, problem: Problem) -> Any:
        """Return blocks whose pixels stay in the second cache beside a panel of weights."""
        threads = tiles.threads_for(problem, False)
        width = int(self.shapes[0].split("x")[1])
        most = max(tiles.facts(False).l2 / 4 / (2 * depth), _LEAST_PIXELS)
        pixels, channels = blocks(area, others, channels, 2 * depth, threads, most, width)
        values: dict[str, Value] = {
            "tile": self.shapes[0],
            "pixels": pixels,
            "channels": channels,
            "threads": threads,
        }
        return values

    def _direct(self, problem: Problem, config: Config, **window: Any) -> Run:
        operands, output = tiles.operand_arguments(problem)
        rows, columns = str(config["tile"]).split("x")
        run: Run = compiled().conv2d(
            operands,
            output,
            algorithm="direct",
            rows=int(rows),
            vectors=int(columns) // _VECTOR,
            kc=1,
            pixels=config["pixels"],
            channels=config["channels"],
            threads=config["threads"],
            **self.elements,
            **window,
            **tiles.epilogue_arguments(problem),
        )
        return run

    def first(self) -> int:
        """Return the rank where vectors are full."""
        if amx.slow_pairs():
            return -2
        return _RANK if amx.unavailable("amx") else _BESIDE_TILES


class PairsConv2d(PairsKernel):
    """Pixels are rows, read tap by tap where they lie; weights are packed panels of pairs.

    Tunables: ``merge`` copies padded input rows, so that all taps of a row are one segment.
    """

    name = "avx512_bfloat16_direct_conv2d"

    def __init__(self) -> None:
        super().__init__("conv2d")

    def supports(self, problem: Problem) -> bool | str:
        """Whether there are pairs, and all is bfloat16."""
        return self.refusal(problem) or True

    def space(self, problem: Problem) -> Space:
        """Return tile, blocks, how pixels are read, and threads."""
        many = tiles.covering(PIXELS, math.prod(tiles.out_size(problem)))
        wide = tiles.covering(CHANNELS, problem["k"] // problem["groups"])
        whole = mergeable(problem)
        return Space(
            {**self._values(), "merge": (False, True)},
            [
                (lambda pixels: pixels <= many, "pixels beyond the image change nothing"),
                (lambda channels: channels <= wide, "channels beyond a group's change nothing"),
                (
                    lambda merge: not merge or whole,
                    "merge needs several taps in a row and no dilation along rows",
                ),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return blocks for the second cache; pixels of a few channels are copied."""
        groups, area = problem["groups"], math.prod(tiles.out_size(problem))
        others, channels = problem["n"] * groups, problem["k"] // groups
        values = self._default(area, others, channels, problem["c"], problem)
        merge = mergeable(problem) and problem["c"] // groups <= longest_copied(problem)
        return Config({**values, "merge": merge})

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the run of the compiled kernel."""
        return self._direct(
            problem,
            config,
            **tiles.window_arguments(problem),
            nhwc=problem.layout == "nhwc",
            groups=problem["groups"],
            merge=bool(config["merge"]),
        )

    def rank(self, problem: Problem) -> int:
        """First, where Winograd's algorithm is no faster, and groups are not of one channel.

        On Zen 4 that takes 0.6 to 0.95 of the time of pairs where it comes first.
        """
        groups = problem["groups"]
        if problem["c"] == groups > 1:
            return -2
        short = problem["c"] // groups < _SHORT
        half = problem["k"] // groups <= _VECTOR // 2
        if winograd_costs.least_cost(widened(problem)) < (_SHARE_OF_HALF if half else _SHARE):
            return 1
        if problem.layout == "nchw" and problem["s"] == 1 and problem["k"] <= _PLANES * groups:
            return 1
        if problem["k"] == groups:
            return _BEHIND_DOT
        return min(self.first(), _BEHIND_FEW) if groups > 1 and short else self.first()


class PairsGemm(PairsKernel):
    """Rows of a, which is turned if it comes transposed, by packed panels of pairs of b.

    Tunables: ``pixels`` are rows and ``channels`` columns of a chunk.

    Args:
        op: ``"gemm"`` or ``"matmul"``.
    """

    name = "avx512_bfloat16_direct_gemm"

    def supports(self, problem: Problem) -> bool | str:
        """Whether there are pairs of these dtypes, and it is one product of rows of a."""
        if self.op == "matmul":
            a, b = problem.operands[:2]
            if b.shape[0] > 1 or a.shape[0] < problem["b"]:
                return "takes one matrix b for the whole batch only"
        elif problem["alpha"] != 1 or problem["beta"] != 0:
            return "takes alpha=1 and beta=0 only"
        return self.refusal(problem) or True

    def space(self, problem: Problem) -> Space:
        """Return tile, rows and columns of a chunk, and threads."""
        many = tiles.covering(PIXELS, rows_of(problem))
        wide = tiles.covering(CHANNELS, int(problem["n"]))
        return Space(
            self._values(),
            [
                (lambda pixels: pixels <= many, "pixels beyond the rows change nothing"),
                (lambda channels: channels <= wide, "channels beyond the columns change nothing"),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return rows for the second cache."""
        n, k = int(problem["n"]), int(problem["k"])
        return Config(self._default(rows_of(problem), 1, n, k, problem))

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the run of the compiled kernel: a convolution of one line of pixels."""
        m = rows_of(problem)
        turned, transposed = gemm_common.transposes(problem)
        return self._direct(
            problem,
            config,
            nhwc=True,
            sizes=(1, int(problem["k"]), 1, m, int(problem["n"]), 1, 1),
            out_size=(1, m),
            pad=(0, 0),
            stride=(1, 1),
            dilation=(1, 1),
            by_depth=not transposed,
            x_planes=turned,
        )

    def rank(self, problem: Problem) -> int:
        """First, where packing pays, and it is no product with a vector."""
        transposed = gemm_common.transposes(problem)[1]
        packing = not problem.packed and rows_of(problem) < _UNPACKED[transposed]
        if packing or problem["n"] == 1:
            return -2
        return self.first()


def rows_of(problem: Problem) -> int:
    """Return the rows of a, those of a whole batch."""
    return int(problem["m"]) * (int(problem["b"]) if problem.op.name == "matmul" else 1)
