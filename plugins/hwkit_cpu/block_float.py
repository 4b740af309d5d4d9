"""float32 in block floating point, by the dot products of int16 of AVX512-VNNI.

The direct kernel of :mod:`.pairs`, whose pairs are integers of 16 bits with a scale for each block
of at most 32 terms: up to 1.8 times the multiply-adds of float32 at an error of 5e-5. Images, and
rows of a, are converted chunk by chunk. ``cython/block_float.h`` has the method, its bounds and
its sources.
"""

from __future__ import annotations

import math
from types import MappingProxyType

from hwkit import Config, Kernel, Problem, Run, Space

from . import amx, gemm_common, tiles, winograd_costs
from .conv2d import CHANNELS, PIXELS
from .pairs import PairsGemm, PairsKernel, rows_of

__all__ = ["BlockFloatConv2d", "BlockFloatGemm", "kernels"]

_VECTOR, _BLOCK = 16, 32

# Of random operands 5.0e-5, and up to twice as much where an activation cuts off most of the
# result; of operands with a few large values in each block 7.1e-5.
_ERROR = 9.9e-5

# Before all that is plain, and behind three products of tiles.
_RANK, _BESIDE_TILES = 5, 3

# Of fewer channels a block is mostly scaling.
_LEAST_CHANNELS = 16

# Rows for which the right side is worth packing for one call.
_UNPACKED = 64

# What it takes of the time of plain sums (Zen 4): the products; scaling, for each pair of a block;
# converting, for each product of what is converted. It must be less by a little.
_PRODUCTS, _SCALING, _CONVERTING, _GAIN = 0.5, 1.1, 9.0, 0.95


def kernels() -> list[Kernel]:
    """Return the kernels of this module."""
    return [BlockFloatConv2d(), BlockFloatGemm("gemm"), BlockFloatGemm("matmul")]


class _BlockFloat(PairsKernel):
    """What tells block floating point from pairs of bfloat16."""

    shapes = ("6x32", "4x48")
    elements = MappingProxyType({"block_float": True, "merge": True})

    def __init__(self, op: str) -> None:
        super().__init__(op)
        self.dtype = "float32"

    def refusal(self, problem: Problem) -> str | None:
        """Return why the dtypes, the sizes or the processor do not fit, or ``None``."""
        if problem.dtypes.input != "float32":
            return "takes float32 only"
        return tiles.refusal(problem) or amx.unavailable("vnni")

    def strict(self, problem: Problem, config: Config) -> bool:
        """Rounded operands are multiplied."""
        return False

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return a bound for random operands: their roundings are independent."""
        return _ERROR

    def first(self) -> int:
        """Return the rank where vectors are full."""
        return _RANK if amx.unavailable("amx") else _BESIDE_TILES


class BlockFloatConv2d(_BlockFloat):
    """Pixels are rows, padded and converted chunk by chunk; weights are packed panels of blocks."""

    name = "avx512_block_float_conv2d"

    def __init__(self) -> None:
        super().__init__("conv2d")

    def supports(self, problem: Problem) -> bool | str:
        """Whether there is AVX512-VNNI, and all is float32, channels last, in one group."""
        if problem.layout != "nhwc":
            return "takes the layout nhwc only"
        if problem["groups"] != 1:
            return "takes one group only"
        return self.refusal(problem) or True

    def space(self, problem: Problem) -> Space:
        """Return tile, blocks and threads."""
        images = problem["n"] if _flat(problem) else 1
        many = tiles.covering(PIXELS, math.prod(tiles.out_size(problem)) * images)
        wide = tiles.covering(CHANNELS, problem["k"])
        return Space(
            self._values(),
            [
                (lambda pixels: pixels <= many, "pixels beyond the image change nothing"),
                (lambda channels: channels <= wide, "channels beyond the output change nothing"),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return blocks for the second cache."""
        area, images = math.prod(tiles.out_size(problem)), problem["n"]
        if _flat(problem):
            area, images = area * images, 1
        return Config(self._default(area, images, problem["k"], problem["c"], problem))

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the run of the compiled kernel."""
        return self._direct(problem, config, nhwc=True, **tiles.window_arguments(problem))

    def rank(self, problem: Problem) -> int:
        """First, where it gains more than converting costs and than Winograd's algorithm does."""
        if problem["k"] < _VECTOR or problem["c"] < _LEAST_CHANNELS:
            return -2
        share = _share(problem)
        if share > _GAIN:
            return -2
        return 1 if winograd_costs.least_cost(problem) < share else self.first()


class BlockFloatGemm(_BlockFloat, PairsGemm):
    """Rows of a are converted chunk by chunk; b is packed panels of blocks.

    Args:
        op: ``"gemm"`` or ``"matmul"``.
    """

    name = "avx512_block_float_gemm"

    def supports(self, problem: Problem) -> bool | str:
        """As of pairs, with rows of a that lie together."""
        if gemm_common.transposes(problem)[0]:
            return "takes no transposed a"
        return super().supports(problem)

    def rank(self, problem: Problem) -> int:
        """First, where vectors are full and packing pays."""
        if problem["n"] < _VECTOR or (rows_of(problem) < _UNPACKED and not problem.packed):
            return -2
        return self.first()


def _flat(problem: Problem) -> bool:
    """Whether the pixels of all images are rows of one product."""
    window = (problem["r"], problem["s"], problem["stride"], problem["pad"])
    return bool(window == (1, 1, (1, 1), (0, 0, 0, 0)))


def _share(problem: Problem) -> float:
    """Return what it takes of the time of plain sums."""
    c, k = problem["c"], problem["k"]
    pairs = -(-c // -(-c // _BLOCK)) / 2
    # Of windows of one tap, only the pixels that are used are converted.
    steps = (1, 1) if problem["r"] * problem["s"] == 1 else problem["stride"]
    uses = k * problem["r"] * problem["s"] / math.prod(steps)
    share: float = _PRODUCTS + _SCALING / pairs + _CONVERTING / uses
    return share
