"""bfloat16 by the dot products of AVX512-BF16, rows of the left side read where they lie.

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
from .conv2d import CHANNELS, PIXELS, blocks
from .device import compiled
from .half import widened
from .tiles import Value

__all__ = ["PairsGemm", "PairsKernel", "PairsConv2d", "kernels"]

# Columns of a vector, and tiles as the compiled module has them.
_VECTOR = 16
_TILES = ("6x64", "9x48", "9x32")

# A pixel of fewer channels spends more time on its start than on them.
_SHORT = 16

# Before plain sums, and behind tiles.
_RANK, _BESIDE_TILES = 5, 3

# What pairs take of the time of plain sums in float32, with what converting costs those (Zen 4).
_SHARE = 0.38

# Of fewer rows the panels of the right side are read again too often.
_LEAST_PIXELS = 96

# Rows for which the right side is worth packing for one call.
_UNPACKED = 64


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
            nhwc=True,
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

    Tunables: ``merge`` copies padded input rows, so that all taps of a row are one segment, and
    fills channels without a neighbour up.
    """

    name = "avx512_bfloat16_direct_conv2d"

    def __init__(self) -> None:
        super().__init__("conv2d")

    def supports(self, problem: Problem) -> bool | str:
        """Whether there are pairs, and all is bfloat16, channels last."""
        if problem.layout != "nhwc":
            return "takes the layout nhwc only"
        if _odd(problem) and not _mergeable(problem):
            return "takes an odd number of channels in one group and without dilation along rows"
        return self.refusal(problem) or True

    def space(self, problem: Problem) -> Space:
        """Return tile, blocks, how pixels are read, and threads."""
        many = tiles.covering(PIXELS, math.prod(tiles.out_size(problem)))
        wide = tiles.covering(CHANNELS, problem["k"] // problem["groups"])
        odd, mergeable = _odd(problem), _mergeable(problem)
        return Space(
            {**self._values(), "merge": (False, True)},
            [
                (lambda pixels: pixels <= many, "pixels beyond the image change nothing"),
                (lambda channels: channels <= wide, "channels beyond a group's change nothing"),
                (lambda merge: merge or not odd, "an odd number of channels needs merge"),
                (
                    lambda merge: not merge or mergeable,
                    "merge needs one group and no dilation along rows",
                ),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return blocks for the second cache; pixels of a few channels are copied."""
        groups, area = problem["groups"], math.prod(tiles.out_size(problem))
        others, channels = problem["n"] * groups, problem["k"] // groups
        values = self._default(area, others, channels, problem["c"], problem)
        short = problem["c"] <= _SHORT and problem["s"] > 1
        return Config({**values, "merge": _mergeable(problem) and (_odd(problem) or short)})

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the run of the compiled kernel."""
        return self._direct(
            problem,
            config,
            **tiles.window_arguments(problem),
            groups=problem["groups"],
            merge=bool(config["merge"]),
        )

    def rank(self, problem: Problem) -> int:
        """First, where vectors are not mostly empty and Winograd's algorithm is no faster.

        On Zen 4 that takes 0.6 to 0.95 of the time of pairs where it comes first.
        """
        if problem["k"] // problem["groups"] < _VECTOR or problem["c"] < problem["groups"] * 2:
            return -2
        if winograd_costs.least_cost(widened(problem)) < _SHARE:
            return 1
        return self.first()


class PairsGemm(PairsKernel):
    """Rows of a are read where they lie; b is packed panels of pairs.

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
        elif gemm_common.transposes(problem)[0]:
            return "takes no transposed a"
        elif problem["alpha"] != 1 or problem["beta"] != 0:
            return "takes alpha=1 and beta=0 only"
        return self.refusal(problem) or self._fits(problem)

    def _fits(self, problem: Problem) -> bool | str:
        return problem["k"] % 2 == 0 or "takes an even depth only"

    def space(self, problem: Problem) -> Space:
        """Return tile, rows and columns of a chunk, and threads."""
        many = tiles.covering(PIXELS, _rows(problem))
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
        return Config(self._default(_rows(problem), 1, n, k, problem))

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the run of the compiled kernel: a convolution of one line of pixels."""
        m = _rows(problem)
        transposed = self.op == "gemm" and gemm_common.transposes(problem)[1]
        return self._direct(
            problem,
            config,
            sizes=(1, int(problem["k"]), 1, m, int(problem["n"]), 1, 1),
            out_size=(1, m),
            pad=(0, 0),
            stride=(1, 1),
            dilation=(1, 1),
            by_depth=not transposed,
        )

    def rank(self, problem: Problem) -> int:
        """First, where vectors are full and packing pays."""
        if problem["n"] < _VECTOR or (_rows(problem) < _UNPACKED and not problem.packed):
            return -2
        return self.first()


def _rows(problem: Problem) -> int:
    return int(problem["m"]) * (int(problem["b"]) if problem.op.name == "matmul" else 1)


def _odd(problem: Problem) -> bool:
    return bool(problem["c"] // problem["groups"] % 2)


def _mergeable(problem: Problem) -> bool:
    return bool(problem["groups"] == 1 and problem["dilation"][1] == 1)
