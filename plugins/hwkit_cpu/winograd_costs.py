"""What Winograd's convolutions cost, by an analytical model: which F(m) comes first, and where."""

from __future__ import annotations

import math
from typing import NamedTuple

from hwkit import Problem

from . import amx_costs, tiles

__all__ = [
    "PANELS",
    "SIZES",
    "TILES",
    "Numbers",
    "blocks",
    "cost",
    "costs",
    "fits",
    "fits_any",
    "gains",
    "least_cost",
    "most_tiles",
    "numbers",
    "rank",
]

SIZES = {(3, 1): (2, 4, 6), (3, 2): (2, 4), (5, 1): (2,)}
"""Outputs of a tile each way, by taps and stride."""
TILES = (12, 24, 48, 96, 192, 384, 768)
"""Tiles of a block to choose from."""
PANELS = (32, 64, 96, 128, 192, 256, 384, 768)
"""The same for products by tiles (AMX), of 32 rows each."""

# Bytes that all threads may fill with transformed tiles.
_MOST_BYTES = 1 << 26

# Of fewer channels tiles cost more than the model says.
_FEW = 16

# The model counts multiply-adds, and what takes as long as so many.
_GAIN = 0.85
# On AVX-512 it says too much of few channels: where it says 0.86 to 1.03, it is mostly 0.63 to 0.98
# of the time of plain sums (Zen 4).
_GAIN_WIDE = 1.03
# Smaller tiles come first unless larger ones gain this much. Whoever admits the error of F(6) by
# the tolerance asks for speed.
_ALIKE = {2: 1.1, 4: 1.1, 6: 1.02}
# On AVX-512, F(4) takes 0.75 to 0.92 of the time of F(2) where the model says 0.76 to 0.91 (Zen 4).
_ALIKE_WIDE = {2: 1.03, 4: 1.03, 6: 1.02}
# On AVX2, F(4) of so few tiles that one micro-kernel holds them (images of 8 x 8 pixels) takes 0.5
# to 0.72 of the time of F(2) where the model says 0.56 to 1.03 (Zen 4).
_ALIKE_HELD, _HELD_TILES = {2: 0.95, 4: 0.95, 6: 1.02}, 4
_PLAIN = 1.1  # a plain one, with what is read again for other blocks
_START = 12.0  # the start of a sum, and its end in memory
_TILE = 150.0  # a position of a tile: pointers and calls
# Sums that a core makes at a time, and the most that a micro-kernel has rows and vectors for.
_CHAINS, _ROWS, _VECTORS = 8, 8, 3
_MOVE = 5.0  # transforming one element of a tile, in or out
_MAKE = 7.0  # transforming one element of the weights
_FIRST = 0.2  # a byte of weights from memory, for each element of a vector
# A byte of tiles that went to a core's share of the third cache, likewise, and what any byte costs
# more from beyond it. Weights come in long runs, so within the share they cost nothing.
_NEAR, _FAR = 0.12, 0.37
_NEAR_BYTES, _FAR_BYTES = 4 << 20, 12 << 20
_SPLIT = {2: 8.0, 3: 12.0}  # an element of a tile into terms (AMX)
# Wider vectors go through the units in halves of so many bytes (Zen 4), so bytes cost no more.
_HALVES = 32


class Numbers(NamedTuple):
    """What the model needs of a problem."""

    every: int  # tiles of all images
    seen: int  # pixels of a tile, which are transformed
    positions: int  # at which they are summed
    depth: int  # what is summed at a position, at most
    c: int  # input channels of a group
    k: int  # output channels of a group
    groups: int
    size: int  # bytes of an element
    packed: bool
    terms: int  # of each operand of the products, if they are by tiles (AMX)


def numbers(problem: Problem, m: int, terms: int = 0) -> Numbers:
    """Return what the model needs of a problem for tiles of m x m outputs."""
    p, q = tiles.out_size(problem)
    groups, taps = problem["groups"], problem["r"]
    stride, dilation = problem["stride"][0], problem["dilation"][0]
    down, across = (-(-side // (dilation * m)) for side in (p, q))
    c = problem["c"] // groups
    return Numbers(
        every=problem["n"] * dilation**2 * down * across,
        seen=((m - 1) * stride + taps) ** 2,
        positions=(m + taps - stride) ** 2,
        depth=c * stride**2,  # where all parts of both lines meet
        c=c,
        k=problem["k"] // groups,
        groups=groups,
        size=problem.output.dtype.itemsize,
        packed=problem.packed,
        terms=terms,
    )


def most_tiles(of: Numbers) -> int:
    """Return how many tiles of a block there may be in memory."""
    return _MOST_BYTES // _tile_bytes(of)


def blocks(of: Numbers) -> list[int]:
    """Return the numbers of tiles of a block to choose from."""
    ladder = PANELS if of.terms else TILES
    many, most = tiles.covering(ladder, of.every), most_tiles(of)
    return [t for t in ladder if t == ladder[0] or (t <= many and t <= most)]


def fits(problem: Problem, taps: int = 3, stride: int = 1) -> bool:
    """Whether the window has so many taps each way and moves by ``stride``.

    A dilation has to be that of both axes, less than the output's longer side, and of stride 1.
    """
    vertical, horizontal = problem["dilation"]
    apart = stride == 1 and vertical < max(tiles.out_size(problem))
    dense = vertical == 1 or apart
    window = (problem["r"], problem["s"], problem["stride"])
    return window == (taps, taps, (stride, stride)) and vertical == horizontal and dense


def least_cost(problem: Problem) -> float:
    """Return the least of what the model says of each F(m), infinite where none fits."""
    return min(costs(problem).values()) if fits_any(problem) else math.inf


def fits_any(problem: Problem) -> bool:
    """Whether any F(m) is for the window."""
    return any(fits(problem, *window) for window in SIZES)


def gains(problem: Problem) -> bool:
    """Whether it fits, and the model of costs says that it is faster than plain sums."""
    return fits_any(problem) and any(
        least <= _limit(problem, m) for m, least in costs(problem).items()
    )


def costs(problem: Problem, terms: int = 0) -> dict[int, float]:
    """Return what the model says of each F(m), as a share of the time of plain sums.

    Args:
        problem: a convolution in float32 or float64 that :func:`fits`.
        terms: of each operand, if products are by tiles (AMX).
    """
    double = problem.dtypes.input == "float64"
    known, threads = tiles.facts(double), tiles.threads_for(problem, double)
    p, q = tiles.out_size(problem)
    groups, vector = problem["groups"], known.vector
    c, k = problem["c"] // groups, problem["k"] // groups
    window = problem["r"], problem["stride"][0]
    # Plain sums fill the last vector too.
    filled = -(-k // vector) * vector if c >= _FEW else k
    plain = problem["n"] * p * q * window[0] ** 2 * c * filled * groups * _seen(problem)
    found = {m: _least(numbers(problem, m, terms), known, threads) for m in SIZES[window]}
    if 6 in found:
        # Large tiles are few: the rows of the micro-kernel that the last of them leave empty count.
        every, rows = numbers(problem, 6).every, known.tiles[0][0]
        found[6] *= -(-every // rows) * rows / max(every, 1)
    if known.isa == "avx2" and window == (3, 2):
        # Of a tile alone F(4) takes 1.5 to 1.9 times as long as F(2) or plain sums (Zen 4).
        found[4] *= max(1.0, known.tiles[-1][0] / max(numbers(problem, 4).every, 1))
    return {m: least / (plain * _PLAIN / threads) for m, least in found.items()}


def rank(problem: Problem, m: int) -> int:
    """Return the rank of F(m): before plain sums where it is faster."""
    found = costs(problem)
    if found[m] > _limit(problem, m):
        return 0 if found[m] < 2 else -1
    alike = _alike(problem)
    return 2 + sum(_ahead(found, m, other, alike) for other in found if other != m)


def _alike(problem: Problem) -> dict[int, float]:
    """Return how much larger tiles must gain to come first, by their outputs."""
    isa = tiles.facts(False).isa
    if isa == "avx512":
        return _ALIKE_WIDE
    window = problem["r"], problem["stride"][0]
    held = isa == "avx2" and window == (3, 1) and numbers(problem, 4).every <= _HELD_TILES
    return _ALIKE_HELD if held else _ALIKE


def _limit(problem: Problem, m: int) -> float:
    """Return what the model may say of F(m), if it is to come before plain sums."""
    wide = tiles.facts(False).isa == "avx512" and m < 6
    return _GAIN_WIDE if wide else _GAIN


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


def _ahead(found: dict[int, float], m: int, other: int, alike: dict[int, float]) -> bool:
    """Whether F(m) comes first: of two that are ``alike`` the smaller tiles are more accurate."""
    least = alike[max(m, other)]
    return found[m] <= least * found[other] if m < other else least * found[m] < found[other]


def _far(used: float) -> float:
    """Return what a byte costs more each time but the first, if so many are used in turn."""
    beyond = (used - _NEAR_BYTES) / (_FAR_BYTES - _NEAR_BYTES)
    return _FAR * min(1.0, max(0.0, beyond))


def _least(of: Numbers, known: tiles.Facts, threads: int) -> float:
    return min(cost(of, known, t, s, threads) for t in blocks(of) for s in (False, True))


def cost(of: Numbers, known: tiles.Facts, count: int, stages: bool, threads: int) -> float:
    """Return the time of the thread that has most to do, in multiply-adds.

    Args:
        of: the problem.
        known: the machine.
        count: tiles of a block.
        stages: whether threads share a block.
        threads: how many.
    """
    parts = -(-of.every // count)
    # As hwkit_blocks of cython/threads.h cuts them.
    if not stages and not of.terms and parts >= threads:
        parts = min((parts + threads // 2) // threads * threads, of.every)
    count = -(-of.every // parts)
    c, k = (-(-side // known.vector) * known.vector for side in (of.c, of.k))
    rate = min(known.vector, _HALVES // of.size)
    products = (of.seen * of.c + of.positions * _START) * k
    # Of a few tiles and vectors, sums wait for the multiply-add before.
    products *= max(1.0, _CHAINS / (min(count, _ROWS) * min(k // known.vector, _VECTORS)))
    moves = _MOVE * (of.seen * c + of.positions * k)
    if of.terms:
        products = amx_costs.share(of.terms, count) * of.seen * of.c * k
        moves += _SPLIT[of.terms] * of.seen * c
    work = count * (products + of.positions * _TILE + moves)
    # What stays in the second cache costs nothing more.
    weights = max(0, of.seen * of.c * of.k * _operand_bytes(of) - 2 * known.l2)
    again = weights * _far(weights) * rate
    first = weights * _FIRST * rate * of.groups
    held = count * _tile_bytes(of)
    # Written and read.
    beyond = 2 * held * (_NEAR + _far(held)) * rate
    spilled = beyond if held > known.l2 else 0.0
    packing = 0.0 if of.packed else _MAKE * of.seen * of.c * k * of.groups
    if stages:
        # The threads meet three times, and transformed tiles go from cache to cache.
        meeting = 250_000 if threads > 1 else 0
        block = (work + again + 1.5 * spilled) / threads + meeting
        return (packing + first - again * of.groups) / threads + parts * of.groups * block
    rounds = -(-parts * of.groups // threads)
    return packing / threads + first - again * of.groups + rounds * (work + again + spilled)


def _operand_bytes(of: Numbers) -> int:
    """Return the bytes of an element of what is multiplied: as it is, or in terms of bfloat16."""
    return 2 * of.terms or of.size


def _tile_bytes(of: Numbers) -> int:
    """Return the bytes of one transformed tile, before and after the products."""
    return of.seen * of.c * _operand_bytes(of) + of.positions * (of.k + 32) * of.size
