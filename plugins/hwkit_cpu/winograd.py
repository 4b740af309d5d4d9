"""Kernels of the Op conv2d for 3x3 and 5x5 taps by Winograd's minimal filtering.

F(2x2) does with 16 products what takes 36, F(4x4) with 36 what takes 144, F(6x6) with 64 what takes
324; their sums round more than plain ones, those of F(6x6) beyond the default budget of float32.
With stride 2, F(2x2) does with 25 products what takes 36, F(4x4) with 81 what takes 144. Of 5x5
taps, F(2x2) does with 36 what takes 100. Pixels that dilation leaves apart are images of their own.
``cython/winograd.h`` names the algorithm and its points of interpolation.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from hwkit import Config, Kernel, Problem, Run, Space

from . import tiles
from .device import compiled
from .tiles import Value

__all__ = ["WinogradConv2d", "costs", "fits", "gains", "kernels", "least_cost"]

SIZES = {(3, 1): (2, 4, 6), (3, 2): (2, 4), (5, 1): (2,)}
"""Outputs of a tile each way, by taps and stride."""
KC = (32, 64, 96, 128, 192, 256, 384, 512)
TILES = (12, 24, 48, 96, 192, 384, 768)

# Bytes that all threads may fill with transformed tiles.
_MOST_BYTES = 1 << 26

# The default sums so many channels in one go; with more, deep layers would use up the error budget:
# the default one with F(4), 1e-5 with F(6). By taps and stride.
_DEFAULT_KC = {(3, 1): {2: 256, 4: 128, 6: 128}, (3, 2): {2: 512, 4: 192}, (5, 1): {2: 96}}

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


class _Numbers(NamedTuple):
    """What the analytical model needs of a problem."""

    every: int  # tiles of all images
    seen: int  # pixels of a tile, which are transformed
    positions: int  # at which they are summed
    c: int  # input channels of a group
    k: int  # output channels of a group
    groups: int
    size: int  # bytes of an element
    packed: bool


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
        if not fits(problem, self.taps, self.stride):
            return f"takes stride {self.stride} only, and dilation with stride 1, channels last"
        return tiles.refusal(problem) or True

    def space(self, problem: Problem) -> Space:
        """Return tile, blocks, how threads share them, and threads."""
        double = problem.dtypes.input == "float64"
        of = self._numbers(problem)
        deep, many = tiles.covering(KC, self._depth(of)), tiles.covering(TILES, of.every)
        most = max(TILES[0], _MOST_BYTES // _tile_bytes(of))
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
        of, known = self._numbers(problem), tiles.facts(double)
        threads = tiles.threads_for(problem, double)
        shared = (False,) if threads == 1 else (False, True)
        _, count, stages = min(
            (_cost(of, known, count, stages, threads), count, stages)
            for count in self._blocks(of)
            for stages in shared
        )
        values: dict[str, Value] = {
            "tile": tiles.tile_text(tiles.of_few_rows(known, of.k), double),
            "kc": min(
                _DEFAULT_KC[self.taps, self.stride][self.m], tiles.covering(KC, self._depth(of))
            ),
            "tiles": count,
            "stages": stages,
            "threads": threads,
        }
        return Config(values)

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the run of the compiled kernel."""
        double = problem.dtypes.input == "float64"
        rows, vectors = tiles.tile_of(config["tile"], double)
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
            rows=rows,
            vectors=vectors,
            kc=config["kc"],
            tiles=config["tiles"],
            stages=bool(config["stages"]),
            threads=config["threads"],
            **tiles.epilogue_arguments(problem),
        )
        return run

    def strict(self, problem: Problem, config: Config) -> bool:
        """Sums and differences of inputs are multiplied, not inputs."""
        return False

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return a bound for random operands: rounding grows as the root of what is summed."""
        deep = float(self._depth(self._numbers(problem)))
        block = max(min(float(config["kc"]), deep), 1.0)
        summed = block + deep / block - 1
        first, more = _ERRORS[self.taps, self.stride][self.m]
        bound: float = first + more * summed**0.5
        return bound * 2.0**-28 if problem.dtypes.input == "float64" else bound

    def rank(self, problem: Problem) -> int:
        """Before plain sums where the model of costs says that it is faster."""
        cost = costs(problem)
        if cost[self.m] > _GAIN:
            return 0 if cost[self.m] < 2 else -1
        alike = _ALIKE_WIDE if tiles.facts(False).isa == "avx512" else _ALIKE
        return 2 + sum(_ahead(cost, self.m, m, alike) for m in cost if m != self.m)

    def _depth(self, of: _Numbers) -> int:
        """Return how much is summed at a position where all parts of both lines meet."""
        return int(of.c * self.stride**2)

    def _numbers(self, problem: Problem) -> _Numbers:
        p, q = tiles.out_size(problem)
        groups, dilation = problem["groups"], problem["dilation"][0]
        down, across = (-(-side // (dilation * self.m)) for side in (p, q))
        return _Numbers(
            every=problem["n"] * dilation**2 * down * across,
            seen=((self.m - 1) * self.stride + self.taps) ** 2,
            positions=(self.m + self.taps - self.stride) ** 2,
            c=problem["c"] // groups,
            k=problem["k"] // groups,
            groups=groups,
            size=problem.output.dtype.itemsize,
            packed=problem.packed,
        )

    def _blocks(self, of: _Numbers) -> list[int]:
        """Return the numbers of tiles of a block to choose from."""
        many, most = tiles.covering(TILES, of.every), _MOST_BYTES // _tile_bytes(of)
        return [t for t in TILES if t == TILES[0] or (t <= many and t <= most)]

    def _least(self, problem: Problem, known: tiles.Facts, threads: int) -> float:
        of = self._numbers(problem)
        return min(_cost(of, known, t, s, threads) for t in self._blocks(of) for s in (False, True))


def fits(problem: Problem, taps: int = 3, stride: int = 1) -> bool:
    """Whether the window has so many taps each way and moves by ``stride``.

    A dilation has to be that of both axes, and takes stride 1 and channels last.
    """
    vertical, horizontal = problem["dilation"]
    dense = vertical == 1 or (stride == 1 and problem.layout == "nhwc")
    window = (problem["r"], problem["s"], problem["stride"])
    return window == (taps, taps, (stride, stride)) and vertical == horizontal and dense


def least_cost(problem: Problem) -> float:
    """Return the least of what the model says of each F(m), infinite where none fits."""
    fit = any(fits(problem, *window) for window in SIZES)
    return min(costs(problem).values()) if fit else math.inf


def gains(problem: Problem) -> bool:
    """Whether it fits, and the model of costs says that it is faster than plain sums."""
    return least_cost(problem) <= _GAIN


def costs(problem: Problem) -> dict[int, float]:
    """Return what the model says of each F(m), as a share of the time of plain sums.

    Args:
        problem: a convolution in float32 or float64 that :func:`fits`.
    """
    double = problem.dtypes.input == "float64"
    known, threads = tiles.facts(double), tiles.threads_for(problem, double)
    p, q = tiles.out_size(problem)
    groups, vector = problem["groups"], known.vector
    c, k = problem["c"] // groups, problem["k"] // groups
    window = problem["r"], problem["stride"][0]
    # Plain sums fill the last vector too; of a few channels, tiles cost more than the model says.
    filled = -(-k // vector) * vector if c >= _FEW else k
    plain = problem["n"] * p * q * window[0] ** 2 * c * filled * groups * _seen(problem)
    cost = {m: WinogradConv2d(m, *window)._least(problem, known, threads) for m in SIZES[window]}
    if 6 in cost:
        # Large tiles are few: the rows of the micro-kernel that the last of them leave empty count.
        every, rows = WinogradConv2d(6)._numbers(problem).every, known.tiles[0][0]
        cost[6] *= -(-every // rows) * rows / max(every, 1)
    return {m: c / (plain * _PLAIN / threads) for m, c in cost.items()}


def _seen(problem: Problem) -> float:
    """Return the share of taps that are not in the padding, which plain sums leave out.

    Without dilation that are a few rows at the border: the model's constants have them.
    """
    step, taps = problem["dilation"][0], range(problem["r"])
    if step == 1:
        return 1.0
    share = 1.0
    for side, out, pad in zip("hw", tiles.out_size(problem), problem["pad"][::2], strict=True):
        inside = sum(0 <= x - pad + t * step < problem[side] for x in range(out) for t in taps)
        share *= inside / (out * len(taps))
    return share


_FEW = 16

# The model counts multiply-adds, and what takes as long as so many.
_GAIN = 0.85
# Smaller tiles come first unless larger ones gain this much. Whoever admits the error of F(6) by
# the tolerance asks for speed.
_ALIKE = {2: 1.1, 4: 1.1, 6: 1.02}
# On AVX-512, F(4) takes 0.75 to 0.92 of the time of F(2) where the model says 0.76 to 0.91 (Zen 4).
_ALIKE_WIDE = {2: 1.03, 4: 1.03, 6: 1.02}
_PLAIN = 1.1  # a plain one, with what is read again for other blocks
_START = 12.0  # the start of a sum, and its end in memory
_TILE = 150.0  # a position of a tile: pointers and calls
_MOVE = 5.0  # transforming one element of a tile, in or out
_MAKE = 7.0  # transforming one element of the weights
_FIRST = 0.2  # a byte of weights from memory, for each element of a vector
# A byte of tiles that went to a core's share of the third cache, likewise, and what any byte costs
# more from beyond it. Weights come in long runs, so within the share they cost nothing.
_NEAR, _FAR = 0.12, 0.37
_NEAR_BYTES, _FAR_BYTES = 4 << 20, 12 << 20
# Wider vectors go through the units in halves of so many bytes (Zen 4), so bytes cost no more.
_HALVES = 32


def _ahead(cost: dict[int, float], m: int, other: int, alike: dict[int, float]) -> bool:
    """Whether F(m) comes first: of two that are ``alike`` the smaller tiles are more accurate."""
    least = alike[max(m, other)]
    return cost[m] <= least * cost[other] if m < other else least * cost[m] < cost[other]


def _far(used: float) -> float:
    """Return what a byte costs more each time but the first, if so many are used in turn."""
    beyond = (used - _NEAR_BYTES) / (_FAR_BYTES - _NEAR_BYTES)
    return _FAR * min(1.0, max(0.0, beyond))


def _cost(of: _Numbers, known: tiles.Facts, count: int, stages: bool, threads: int) -> float:
    """Return the time of the thread that has most to do, in multiply-adds.

    Args:
        of: the problem.
        known: the machine.
        count: tiles of a block.
        stages: whether threads share a block.
        threads: how many.
    """
    blocks = -(-of.every // count)
    count = -(-of.every // blocks)
    c, k = (-(-side // known.vector) * known.vector for side in (of.c, of.k))
    rate = min(known.vector, _HALVES // of.size)
    products = (of.seen * of.c + of.positions * _START) * k
    moves = of.seen * c + of.positions * k
    work = count * (products + of.positions * _TILE + _MOVE * moves)
    # What stays in the second cache costs nothing more.
    weights = max(0, of.seen * of.c * of.k * of.size - 2 * known.l2)
    again = weights * _far(weights) * rate
    first = weights * _FIRST * rate * of.groups
    filled = count * _tile_bytes(of)
    # Written and read.
    beyond = 2 * filled * (_NEAR + _far(filled)) * rate
    spilled = beyond if filled > known.l2 else 0.0
    packing = 0.0 if of.packed else _MAKE * of.seen * of.c * k * of.groups
    if stages:
        # The threads meet three times, and transformed tiles go from cache to cache.
        meeting = 250_000 if threads > 1 else 0
        block = (work + again + 1.5 * spilled) / threads + meeting
        return (packing + first - again * of.groups) / threads + blocks * of.groups * block
    rounds = -(-blocks * of.groups // threads)
    return packing / threads + first - again * of.groups + rounds * (work + again + spilled)


def _tile_bytes(of: _Numbers) -> int:
    """Return the bytes of one transformed tile, before and after the products."""
    return (of.seen * of.c + of.positions * (of.k + 32)) * of.size
