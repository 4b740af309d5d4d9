"""Convolutions by tiles (AMX) or pairs (AVX512-BF16): each pixel is split once, not once a tap.

``cython/amx_conv2d.c`` says how the image is laid out; :mod:`.amx` says what terms are. Windows of
one tap without padding or stride are products of matrices, and the image is not copied as a whole.
"""

from __future__ import annotations

from typing import Any

from hwkit import Config, Kernel, Problem, Run, Space

from . import amx, amx_costs, tiles, winograd_costs
from .device import compiled
from .gemm_common import of_pixels
from .half import widened
from .tiles import Value

__all__ = ["TilesConv2d", "kernels", "rank"]

SIDE = amx_costs.SIDE
KC = (256, 512, 768, 1024, 1536, 2048)
PIXELS = (32, 64, 128, 256, 512, 1024, 2048)
CHANNELS = (32, 64, 128, 256, 512, 1024, 2048)

# What is computed for nothing, in channels filled up to 32 and between lines of the image, and the
# fewest output channels and pixels.
_USED, _WIDE, _PACKED, _UNPACKED = 0.6, 64, 49, 128

# Pairs take more of the time of plain sums than this.
_WINOGRAD = 0.5

# Before all others; and terms of float32, the fewest and least accurate first.
_FIRST, _TERMS = 10, (1, 2, 3)


def kernels() -> list[Kernel]:
    """Return the kernels of this module."""
    split = [TilesConv2d(*way) for way in amx.SPLIT]
    # bfloat16 by pairs is that of pairs.
    return [
        *split,
        *(
            NarrowTilesConv2d(dtype, products)
            for dtype, products, *pairs in amx.NARROW
            if not pairs
        ),
    ]


class TilesConv2d(amx.TilesKernel):
    """Pixels are rows of A and output channels columns of B; a tap is an offset into the image.

    An image with values that do not survive the split, or tiny ones, is convolved in plain float32.

    Args:
        way: arguments of :class:`~.amx.TilesKernel`.
    """

    op = "conv2d"

    def __init__(self, *way: Any) -> None:
        super().__init__(*way)
        self.name = f"{self.prefix}_conv2d"

    def supports(self, problem: Problem) -> bool | str:
        """Whether there are tiles, the dtypes fit, and all is in one group."""
        if problem["groups"] != 1:
            return "takes one group only"
        return self.refusal(problem) or True

    def space(self, problem: Problem) -> Space:
        """Return blocks and threads."""
        deep = tiles.covering(KC, _depth(problem))
        many = tiles.covering(PIXELS, _flat(problem))
        wide = tiles.covering(CHANNELS, problem["k"])
        return Space(
            {
                "kc": KC,
                "pixels": PIXELS,
                "channels": CHANNELS,
                "threads": tiles.thread_ladder(False),
            },
            [
                (lambda kc: kc <= deep, "kc beyond the depth changes nothing"),
                (lambda pixels: pixels <= many, "pixels beyond the images change nothing"),
                (lambda channels: channels <= wide, "channels beyond the output change nothing"),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return deep blocks, and as many pixels as the second cache holds of the image.

        Each chunk of pixels reads all weights: where those lie beyond the caches, one has them all.
        """
        threads = tiles.threads_for(problem, False)
        every = -(-problem["c"] // SIDE) * SIDE
        channels = min(512, tiles.covering(CHANNELS, problem["k"]))
        bytes_of_pixel = 2 * self.terms * every + 4 * min(channels, problem["k"])
        most = tiles.facts(False).l2 / 2 / bytes_of_pixel
        pixels = tiles.balanced(PIXELS, _flat(problem), 1, threads, most)
        if amx.far(_depth(problem), problem["k"], self.terms):
            pixels = PIXELS[-1]
        chunks = -(-_flat(problem) // pixels)
        while chunks * -(-problem["k"] // channels) < threads and channels > CHANNELS[0]:
            channels = CHANNELS[CHANNELS.index(channels) - 1]
        values: dict[str, Value] = {
            "kc": min(1024, tiles.covering(KC, _depth(problem))),
            "pixels": min(pixels, tiles.covering(PIXELS, _flat(problem))),
            "channels": channels,
            "threads": threads,
        }
        return Config(values)

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the run of the compiled kernel."""
        operands, output = tiles.operand_arguments(problem)
        rows, vectors = tiles.facts(False).tiles[0]
        shared = {
            "rows": rows,
            "vectors": vectors,
            "kc": config.get("kc", _depth(problem)),
            "threads": config["threads"],
            **self.way(),
            **tiles.epilogue_arguments(problem),
        }
        if _plain_product(problem):
            product: Run = compiled().gemm(
                operands,
                output,
                **of_pixels(problem),
                mc=config["pixels"],
                nc=config["channels"],
                **shared,
            )
            return product
        run: Run = compiled().conv2d(
            operands,
            output,
            **tiles.window_arguments(problem),
            nhwc=problem.layout == "nhwc",
            pixels=config["pixels"],
            channels=config["channels"],
            **shared,
        )
        return run

    def rank(self, problem: Problem) -> int:
        """Before plain sums where tiles are full, and Winograd's is not faster.

        On Zen 4, pairs take 0.53 to 0.76 of the time of plain sums, and F(4) mostly 0.3 to 0.4.
        """
        if not self._filled(problem):
            return -2
        if not self.pairs:
            return rank(problem, _share(problem, self.terms))
        behind = winograd_costs.least_cost(widened(problem)) < _WINOGRAD
        return self.order() - (2 if behind else 1)

    def _filled(self, problem: Problem) -> bool:
        c, k = problem["c"], problem["k"]
        p, q = tiles.out_size(problem)
        pixels = problem["n"] * p * q
        used = c / (-(-c // SIDE) * SIDE) * pixels / _flat(problem)
        least = _PACKED if problem.packed else _UNPACKED
        enough = k >= _WIDE and pixels >= least and _depth(problem) >= 2 * SIDE
        return bool(used >= _USED and enough)


class NarrowTilesConv2d(TilesConv2d):
    """bfloat16 or float16, channels last: exact terms, summed in float32, rounded once."""

    def supports(self, problem: Problem) -> bool | str:
        """Whether there are tiles, the dtypes fit, and all is channels last, in one group."""
        if problem.layout != "nhwc":
            return "takes the layout nhwc only"
        return super().supports(problem)

    def space(self, problem: Problem) -> Space:
        """Return pixels and channels of a chunk, and threads."""
        many = tiles.covering(PIXELS, _flat(problem))
        wide = tiles.covering(CHANNELS, problem["k"])
        return Space(
            {"pixels": PIXELS, "channels": CHANNELS, "threads": tiles.thread_ladder(False)},
            [
                (lambda pixels: pixels <= many, "pixels beyond the images change nothing"),
                (lambda channels: channels <= wide, "channels beyond the output change nothing"),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return as many pixels as the second cache holds of the image."""
        values = dict(super().default(problem))
        del values["kc"]
        return Config(values)

    def rank(self, problem: Problem) -> int:
        """Before what is converted to float32, where tiles are full."""
        return self.order() - 1 if self._filled(problem) else -2


def rank(problem: Problem, share: float) -> int:
    """Return the rank of a way by tiles that takes this share of the time of plain sums.

    The faster the higher, so that of those that a tolerance admits the fastest comes first.
    """
    ways = [_share(problem, terms) for terms in _TERMS]
    plain = 1.0
    if winograd_costs.fits_any(problem):
        # The error of F(6) is beyond what most calls admit.
        plain = min(plain, *(w for m, w in winograd_costs.costs(problem).items() if m < 6))
        ways += [w for t in _TERMS[1:] for w in winograd_costs.costs(problem, t).values()]
    return _FIRST + sum(way > share for way in ways) if share < plain else 1


def _share(problem: Problem, terms: int) -> float:
    """Return the time of a convolution by tiles, as a share of that of plain sums."""
    p, q = tiles.out_size(problem)
    pixels = problem["n"] * p * q
    filled = -(-problem["c"] // SIDE) * SIDE / problem["c"] * _flat(problem) / pixels
    products: float = amx_costs.share(terms, _flat(problem)) * filled
    return products + amx_costs.streamed(terms, pixels, tiles.facts(False).vector)


def _plain_product(problem: Problem) -> bool:
    """Whether pixels are multiplied where they lie."""
    single = problem["r"] == problem["s"] == 1 and problem["stride"] == (1, 1)
    return single and problem["pad"] == (0, 0, 0, 0) and problem.layout == "nhwc"


def _depth(problem: Problem) -> int:
    return int(problem["c"] * problem["r"] * problem["s"])


def _flat(problem: Problem) -> int:
    """Return the outputs that are computed, those between lines and images too."""
    p, q = tiles.out_size(problem)
    high = p + (problem["r"] - 1) * problem["dilation"][0] // problem["stride"][0]
    wide = q + (problem["s"] - 1) * problem["dilation"][1] // problem["stride"][1]
    return int(problem["n"] * high * wide)
