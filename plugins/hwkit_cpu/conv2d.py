"""Kernels of the Op conv2d that are matrix products over pixels, without an unfolded image."""

from __future__ import annotations

import math
from typing import Any

from hwkit import Config, Kernel, Problem, Run, Space

from . import tiles
from .device import compiled
from .tiles import Value

__all__ = ["CHANNELS", "FEW_PIXELS", "PIXELS", "DirectConv2d", "PackedConv2d", "blocks", "kernels"]

KC = (64, 128, 192, 256, 384, 512, 768, 1152, 2304)
PIXELS = (12, 24, 48, 72, 96, 144, 192, 288, 384, 768)
CHANNELS = (32, 64, 128, 256, 512, 1024, 2048)

# A segment as short as this spends more time on its start than on its elements.
_SHORT = 16
# Up to so many channels of one of several groups are copied: pixels of the group lie far apart, in
# few sets of the first cache.
_SHORT_OF_GROUP = 32

# Products no deeper than this are bound by the start and the end of their tiles: wide ones are few.
_SHALLOW = 64

# Of a few channels and taps (3 x 3 x 3), packed pixels are cheaper than an image and a result that
# are transposed; of one channel, the image need not be.
_FIRST_LAYER = 36

# Deepest sums of pointwise convolutions that are still best done in one go.
_DEEP = 1152

# So few pixels are copied for so many channels in next to no time, unless each thread does it for
# its own channels.
_PACKED_PIXELS, _PACKED_CHANNELS = 64, 512
# Lines of the result that 4 rows of a tile cut evenly, and 6 do not: on AVX2, 4x24 takes 0.77 to
# 1.0 of the time of 6x16 for so many channels (Zen 4).
_SHORT_LINES, _SOME_CHANNELS = (4, 8), 64
# Panels of three vectors leave too much of fewer channels over.
_WIDE_CHANNELS = 64
# Pixels whose products take as long as what a block of them costs beside.
_AGAIN = 12.0
# By so much, blocks of whole tiles may make threads wait for the one that has the most to do; by
# more with few pixels for each thread, for which reading all weights takes as long as the products.
_UNEVEN, _SOME_PIXELS, _MORE_UNEVEN = 1.1, 32, 1.25

# An image of fewer pixels leaves columns of the last panel empty.
FEW_PIXELS = 128


def kernels() -> list[Kernel]:
    """Return the kernels of this module."""
    return [DirectConv2d(), PackedConv2d()]


class _Conv2d(tiles.ProductKernel):
    """What both have in common."""

    op = "conv2d"
    algorithm: str

    def supports(self, problem: Problem) -> bool | str:
        """Whether the dtypes and the sizes fit."""
        return tiles.refusal(problem) or True

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the run of the compiled kernel."""
        double = problem.dtypes.input == "float64"
        rows, vectors = tiles.tile_of(config["tile"], double)
        operands, output = tiles.operand_arguments(problem)
        run: Run = compiled().conv2d(
            operands,
            output,
            **tiles.window_arguments(problem),
            groups=problem["groups"],
            nhwc=problem.layout == "nhwc",
            is_double=double,
            algorithm=self.algorithm,
            rows=rows,
            vectors=vectors,
            kc=config["kc"],
            pixels=config["pixels"],
            channels=config["channels"],
            pack_a=bool(config.get("pack_a", False)),
            merge=bool(config.get("merge", False)),
            threads=config["threads"],
            **tiles.epilogue_arguments(problem),
        )
        return run

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return a bound for random operands: blocks of the depth are summed one after another."""
        depth = float(_depth(problem))
        block = min(float(config["kc"]), depth)
        return tiles.rounding(problem.dtypes.input == "float64", block + depth / max(block, 1.0))

    def _values(self, problem: Problem) -> dict[str, Any]:
        double = problem.dtypes.input == "float64"
        return {
            "tile": [tiles.tile_text(t, double) for t in tiles.facts(double).tiles],
            "kc": KC,
            "pixels": PIXELS,
            "channels": CHANNELS,
            "threads": tiles.thread_ladder(double),
        }

    def _constraints(self, problem: Problem) -> list[Any]:
        p, q = tiles.out_size(problem)
        deep = tiles.covering(KC, _depth(problem))
        many = tiles.covering(PIXELS, p * q)
        wide = tiles.covering(CHANNELS, problem["k"] // problem["groups"])
        return [
            (lambda kc: kc <= deep, "kc beyond the depth changes nothing"),
            (lambda pixels: pixels <= many, "pixels beyond the image change nothing"),
            (lambda channels: channels <= wide, "channels beyond those of a group change nothing"),
        ]


class DirectConv2d(_Conv2d):
    """Pixels are rows, read tap by tap where they lie; weights are packed panels.

    Tunables: ``merge`` copies padded input rows, so that all taps of a row are one segment;
    ``pack_a`` copies the pixels of a block into panels, the unfolding on the fly. In the layout
    nchw the image is transposed first, and each block of the result at its end.
    """

    name = "direct_conv2d"
    algorithm = "direct"

    def space(self, problem: Problem) -> Space:
        """Return tile, blocks, how pixels are read, and threads."""
        whole = mergeable(problem)
        return Space(
            {**self._values(problem), "merge": (False, True), "pack_a": (False, True)},
            [
                *self._constraints(problem),
                (
                    lambda merge: not merge or whole,
                    "merge needs several taps in a row and no dilation along rows",
                ),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return blocks for the caches found here."""
        double = problem.dtypes.input == "float64"
        known, size = tiles.facts(double), 8 if double else 4
        kg, area = problem["k"] // problem["groups"], math.prod(tiles.out_size(problem))
        threads = tiles.threads_for(problem, double)
        if _pointwise(problem):
            return self._pointwise_default(problem)
        channels = problem["c"] // problem["groups"]
        merge = mergeable(problem) and channels <= longest_copied(problem)
        rows, vectors = _tile(known, problem, kg)
        if merge and not double:
            rows, vectors = _first_layer_tile(known, kg)
        # On AVX2 the panel of 4x24 is the longer one, which leaves the first cache, for all that.
        width = (known.tiles[0][1] if known.isa == "avx2" else vectors) * known.vector
        kc = tiles.on_ladder(KC, max(known.l1 // (width * size), 256))
        kc = min(kc, tiles.covering(KC, _depth(problem)))
        # Transposed blocks of the result must fit the second cache beside the weights' panels.
        most = known.l2 / 4 / (size * min(kg, CHANNELS[-1])) if problem.layout == "nchw" else 1e9
        if merge:  # a few channels: all of the weights are in the first cache
            pixels = tiles.balanced(PIXELS, area, problem["n"], threads, max(most, 4 * rows))
            channels = tiles.covering(CHANNELS, kg)
        else:
            most = min(most, known.l2 / 4 / (min(kc, _depth(problem)) * size))
            others = problem["n"] * problem["groups"]
            most = max(most, 4 * rows)
            wide, weight = vectors * known.vector, _depth(problem) * size
            pixels, channels = blocks(area, others, kg, weight, threads, most, wide)
        if known.isa == "avx512" and not merge:
            # Panels may come from the second cache: 1.0 to 1.1 times as fast (Zen 4).
            kc = tiles.on_ladder(KC, max(known.l2 // 3 // (width * size), 256))
            kc = min(kc, tiles.covering(KC, _depth(problem)))
        values: dict[str, Value] = {
            "tile": tiles.tile_text((rows, vectors), double),
            "kc": kc,
            "pixels": pixels,
            "channels": channels,
            "merge": merge,
            "pack_a": False,
            "threads": threads,
        }
        return Config(values)

    def _pointwise_default(self, problem: Problem) -> Config:
        """Return blocks for one tap and channels last: a product of rows that lie together."""
        double = problem.dtypes.input == "float64"
        known, size = tiles.facts(double), 8 if double else 4
        kg, area = problem["k"] // problem["groups"], math.prod(tiles.out_size(problem))
        depth = _depth(problem)
        threads = tiles.threads_for(problem, double)
        kc = min(_DEEP, tiles.covering(KC, depth))
        # Each panel of weights passes by all pixels of a block, which stay in the second cache.
        most = 0.8 * known.l2 / (min(kc, depth) * size)
        few = area <= _PACKED_PIXELS and kg >= _PACKED_CHANNELS and threads == 1
        packed = few and _clash(problem)
        # Pixel by pixel, AVX2 is faster with fewer rows and more columns at once, most of all where
        # the result comes from memory: 1.02 to 1.45 times.
        wide = known.isa == "avx2" and not double and not packed and kg >= _WIDE_CHANNELS
        tile = known.tiles[1] if wide else _tile(known, problem, kg)
        others = problem["n"] * problem["groups"]
        pixels, channels = blocks(
            area, others, kg, depth * size, threads, most, tile[1] * known.vector
        )
        values: dict[str, Value] = {
            "tile": tiles.tile_text(tile, double),
            "kc": kc,
            "pixels": pixels,
            "channels": channels,
            "merge": False,
            "pack_a": packed,
            "threads": threads,
        }
        return Config(values)

    def rank(self, problem: Problem) -> int:
        """First, except where the other one needs no transposition either."""
        return 1


class PackedConv2d(_Conv2d):
    """Weights are rows, and pixels, packed block by block, the columns. For the layout nchw."""

    name = "packed_conv2d"
    algorithm = "packed"

    def supports(self, problem: Problem) -> bool | str:
        """Whether pixels of a channel lie together."""
        if problem.layout != "nchw":
            return "takes the layout nchw only"
        return super().supports(problem)

    def space(self, problem: Problem) -> Space:
        """Return tile, blocks and threads."""
        return Space(self._values(problem), self._constraints(problem))

    def default(self, problem: Problem) -> Config:
        """Return blocks for the caches found here."""
        double = problem.dtypes.input == "float64"
        known, size = tiles.facts(double), 8 if double else 4
        p, q = tiles.out_size(problem)
        groups, images = problem["groups"], problem["n"]
        kg = problem["k"] // groups
        threads = tiles.threads_for(problem, double)
        tile = known.tiles[0] if _depth(problem) > _SHALLOW else max(known.tiles, key=_vectors)
        width = tile[1] * known.vector
        kc = tiles.on_ladder(KC, max(known.l1 // (width * size), 256))
        kc = min(kc, tiles.covering(KC, _depth(problem)))
        most = known.l2 / 2 / (kc * size)
        pixels = tiles.balanced(PIXELS, p * q, images * groups, threads, most)
        chunks = -(-p * q // pixels) * images * groups
        channels = tiles.covering(CHANNELS, kg)
        while chunks * -(-kg // channels) < threads and channels > CHANNELS[0]:
            channels = CHANNELS[CHANNELS.index(channels) - 1]
        values: dict[str, Value] = {
            "tile": tiles.tile_text(tile, double),
            "kc": kc,
            "pixels": pixels,
            "channels": channels,
            "threads": threads,
        }
        return Config(values)

    def rank(self, problem: Problem) -> int:
        """First for 1x1, whose pixels are packed by plain copies, and for the first layers."""
        p, q = tiles.out_size(problem)
        plain = problem["r"] * problem["s"] == 1 and p * q >= FEW_PIXELS
        first = problem["c"] > 1 and _depth(problem) <= _FIRST_LAYER
        return 2 if plain or first else 0


def _vectors(tile: tuple[int, int]) -> int:
    return tile[1]


def _tile(known: tiles.Facts, problem: Problem, channels: int) -> tuple[int, int]:
    """Return the tile for pixels that are read where they lie.

    Of one or two vectors of channels on AVX-512, 14x32 takes 0.75 to 1.02 of the time of 9x48 (Zen
    4), unless pixels fight for the first cache or most of its tiles meet the padding.
    """
    rows, _ = known.tiles[0]
    long = problem["s"] == 1 or tiles.out_size(problem)[1] >= 4 * rows
    if known.isa == "avx512" and channels <= 2 * known.vector and long and not _clash(problem):
        return known.tiles[0]
    single = problem.dtypes.input == "float32" and problem.layout == "nhwc"
    short = tiles.out_size(problem)[1] in _SHORT_LINES
    if known.isa == "avx2" and single and channels >= _SOME_CHANNELS and short:
        return known.tiles[-1]
    return tiles.of_few_rows(known, channels)


def _clash(problem: Problem) -> bool:
    """Whether pixels start a multiple of 2 KiB apart: few sets of the first cache hold them all."""
    step = problem["c"] * problem["stride"][1] * problem.output.dtype.itemsize
    return bool(step % 2048 == 0)


def _first_layer_tile(known: tiles.Facts, channels: int) -> tuple[int, int]:
    """Return the tile for sums so short that they wait for the lines of the result.

    Each panel passes by all of these lines, so the tile of fewer panels is faster: 1.0 to 1.6 times
    on AVX2, at 24 to 96 channels in float32, and 1.0 to 1.3 on AVX-512. Other tables were not
    measured.
    """
    some = known.tiles[: {"avx2": 2, "avx512": 4}.get(known.isa, 1)]
    return min(some, key=lambda tile: -(-channels // (tile[1] * known.vector)))


def blocks(
    area: int, others: int, channels: int, weight: int, threads: int, most: float, width: int
) -> tuple[int, int]:
    """Return pixels, ``most`` at once, and channels of the blocks that the threads share.

    Args:
        area: pixels of an image.
        others: images, times groups.
        channels: of a group.
        weight: bytes of the weights of a channel.
        threads: who share the blocks.
        most: pixels that fit the cache.
        width: channels of a tile: a block is made of whole ones.
    """
    if area > most or (threads > 1 and channels * weight <= tiles.facts(False).l2 / 4):
        pixels = tiles.balanced(PIXELS, area, others, threads, most, _AGAIN)
        return pixels, tiles.covering(CHANNELS, channels)
    # Of so few pixels the weights are what is large: each thread reads only its part of them.
    block = tiles.balanced(CHANNELS, channels, others, threads, 1e9, unit=width)
    whole = tiles.even(channels, block, width)
    parts = -(-channels // whole) * others
    uneven = -(-parts // threads) * threads * whole / (channels * others)
    if uneven > (_UNEVEN if area >= _SOME_PIXELS * threads else _MORE_UNEVEN):
        block, parts = tiles.covering(CHANNELS, channels), others
    if parts < threads:
        return tiles.balanced(PIXELS, area, parts, threads, most, _AGAIN), block
    return tiles.covering(PIXELS, area), block


def longest_copied(problem: Problem) -> int:
    """Return up to how many channels it pays to copy padded rows of a group, all taps together."""
    several = problem["groups"] > 1 and problem["stride"][1] == 1
    return _SHORT_OF_GROUP if several else _SHORT


def _depth(problem: Problem) -> int:
    return int(problem["c"] // problem["groups"] * problem["r"] * problem["s"])


def _pointwise(problem: Problem) -> bool:
    """Whether it is a product of pixels, channels last, and weights."""
    return bool(problem.layout == "nhwc" and problem["r"] * problem["s"] == 1)


def mergeable(problem: Problem) -> bool:
    return bool(problem["dilation"][1] == 1 and problem["s"] > 1)
