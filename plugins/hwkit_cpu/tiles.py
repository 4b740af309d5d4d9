"""What the kernels that rest on matrix products share: tiles, blocks, threads, epilogues.

Tunables take their values from fixed ladders, not from the sizes of the problem, so that a Config
found for one shape is legal for its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, Union

from hwkit import Config, Problem

from .device import CompiledKernel, compiled

__all__ = [
    "Facts",
    "ProductKernel",
    "Value",
    "balanced",
    "covering",
    "even",
    "epilogue_arguments",
    "facts",
    "for_product",
    "of_few_rows",
    "on_ladder",
    "operand_arguments",
    "out_size",
    "refusal",
    "rounding",
    "thread_ladder",
    "threads_for",
    "tile_of",
    "tile_text",
    "window_arguments",
]

# Below this another thread costs more than it brings: multiply-adds, or bytes of weights to read.
_THREAD_MULTIPLY_ADDS, _THREAD_BYTES = 400_000, 1 << 20
# Two threads that are awake share this much in less time than one takes; more were not measured.
_TWO_THREADS = 400_000

# Sums of which the ends take a share that counts.
_SHALLOW = 128
# Of fewer columns, the panel that is left over counts: the more rows, the better.
_SEVERAL_PANELS = 128
# Of more rows than so many tiles have, the last ones do not count.
_FEW_TILES = 4

# Of a block, what threads that share them wait for the last one: they are never equally fast.
_LATE = 1.0


Value = Union[bool, int, float, str]


class Facts(NamedTuple):
    """What the analytical models know of the machine: bytes, elements and counts."""

    isa: str
    l1: int
    l2: int
    threads: int
    vector: int
    tiles: tuple[tuple[int, int], ...]


class ProductKernel(CompiledKernel):
    """A Kernel that builds the compiled run of a product."""

    def deterministic(self, problem: Problem, config: Config) -> bool:
        """Every element is summed by one thread, in an order that the Config fixes."""
        return True


def rounding(double: bool, depth: float) -> float:
    """Return a bound for the relative error of sums of random products.

    Rounding is a random walk: 0.3 units for the root of what is added up (Higham and Mary, "A new
    approach to probabilistic rounding error analysis", 2019), and a little more for what is short.

    Args:
        double: whether in float64, else float32.
        depth: how many products are added up one after the other.
    """
    unit = 2.0**-53 if double else 2.0**-24
    return unit * max(13.4, 0.36 * math.sqrt(depth))


@cache
def facts(double: bool) -> Facts:
    """Return the facts for float64 (``double``) or float32 kernels."""
    module = compiled()
    info: dict[str, Any] = module.cpu_info()
    shapes, vector, isa = module.tiles(double)
    most: dict[int, int] = {}
    for rows, vectors in shapes:
        most[vectors] = max(rows, most.get(vectors, 0))
    # Fewer rows than a width allows are for edges, except 12 of 14: more numbers divide by them.
    found = {(rows, vectors) for vectors, rows in most.items()}
    found |= {(12, vectors) for vectors, rows in most.items() if rows > 12}
    # What a tile stores at its end takes the time of fewer accumulators.
    found |= {(7, vectors) for vectors, rows in most.items() if rows == 9}
    # The more accumulators, the fewer loads for each multiply-add.
    largest = max(rows * vectors for rows, vectors in found)
    found = {tile for tile in found if 2 * tile[0] * tile[1] > largest}
    widest = sorted(found, key=lambda tile: (-tile[0] * tile[1], -tile[0]))
    return Facts(isa, info["l1d"], info["l2"], info["threads"], vector, tuple(widest))


def for_product(known: Facts, rows: int, columns: int, depth: int) -> tuple[int, int]:
    """Return the tile of a product: of few rows the one whose accumulators they fill best.

    On AVX-512, 9x48 with deep blocks takes 0.90 to 1.01 of the time of 14x32, and for short sums
    7x48 takes 0.93 to 0.99 of that of 9x48 (Zen 4).
    """

    def filled(tile: tuple[int, int]) -> float:
        return rows / -(-rows // tile[0]) * tile[1]

    if rows < _FEW_TILES * known.tiles[0][0]:
        return max(known.tiles, key=filled)
    if known.isa != "avx512":
        return known.tiles[0]
    return (7, 3) if depth <= _SHALLOW and columns >= _SEVERAL_PANELS else known.tiles[1]


def of_few_rows(known: Facts, columns: int) -> tuple[int, int]:
    """Return the tile for rows that are read where they lie.

    Pointers of few rows stay in registers, and rows that start a multiple of 4 KiB apart in the 8
    ways of the first cache. On AVX-512, 6x64 takes 0.57 to 1.02 of the time of 14x32, and products
    of Winograd 0.76 to 1.06; one or two vectors of columns leave it so few accumulators that 9x48
    takes 0.8 to 1.02 of its time (Zen 4), and so does half a vector beside 64 of them. Other tables
    were not measured.
    """
    if known.isa != "avx512":
        return known.tiles[0]
    least = min(known.tiles)
    few = columns <= 2 * known.vector or 0 < columns - least[1] * known.vector <= known.vector // 2
    return known.tiles[1] if few else least


def tile_text(tile: tuple[int, int], double: bool) -> str:
    """Return rows and columns of a tile, ``"6x16"``."""
    return f"{tile[0]}x{tile[1] * facts(double).vector}"


def tile_of(text: Any, double: bool) -> tuple[int, int]:
    """Return rows and vectors of ``"6x16"``."""
    rows, columns = str(text).split("x")
    return int(rows), int(columns) // facts(double).vector


def thread_ladder(double: bool) -> tuple[int, ...]:
    """Return the numbers of threads to choose from: powers of two and the most there are."""
    most = facts(double).threads
    return tuple(sorted({*(2**i for i in range(most.bit_length()) if 2**i <= most), most}))


def threads_for(problem: Problem, double: bool) -> int:
    """Return how many threads are worth waking."""
    reading, sums = problem.operands[1].nbytes // _THREAD_BYTES, problem.flops // 2
    useful = max(2 if sums >= _TWO_THREADS else 1, sums // _THREAD_MULTIPLY_ADDS, reading)
    return max(t for t in thread_ladder(double) if t <= useful)


def on_ladder(ladder: Sequence[int], value: float) -> int:
    """Return the largest rung that is at most ``value``, or the lowest rung."""
    return max((rung for rung in ladder if rung <= value), default=ladder[0])


def covering(ladder: Sequence[int], size: int) -> int:
    """Return the lowest rung that is at least ``size``, or the highest rung."""
    return next((rung for rung in ladder if rung >= size), ladder[-1])


def even(size: int, block: int, unit: int) -> int:
    """Return into what blocks of about ``block`` the compiled kernels cut ``size``.

    Args:
        size: what is cut.
        block: what is asked for.
        unit: what blocks are multiples of, if there are several.
    """
    whole = -(-size // -(-size // min(block, size)))
    return min(-(-whole // unit) * unit, size)


def balanced(
    ladder: Sequence[int],
    size: int,
    others: int,
    threads: int,
    most: float,
    again: float = 4.0,
    unit: int = 1,
) -> int:
    """Return the block of ``size`` that keeps ``threads`` evenly busy, the larger the better.

    Args:
        ladder: the blocks to choose from.
        size: what is cut into blocks.
        others: how many such cuts there are beside this one.
        threads: who share the blocks.
        most: largest block that fits the cache.
        again: what each block costs beside its size, in units of ``size``: what it reads again.
        unit: what blocks are multiples of.
    """
    found, best = ladder[0], 0.0
    for rung in ladder:
        block = even(size, rung, unit)
        chunks = -(-size // block) * others
        if block > most and rung != ladder[0]:
            break
        # Rounds that are not full leave threads idle.
        rounds = -(-chunks // threads) + (_LATE if threads > 1 else 0.0)
        used = size * others / (rounds * threads * (block + again))
        if used >= best:
            found, best = rung, used
        if rung >= size:
            break
    return found


def refusal(problem: Problem) -> str | None:
    """Return why no kernel of products takes these dtypes or sizes, or ``None``."""
    dtypes = problem.dtypes
    same = {dtypes.input, dtypes.weight, dtypes.output, dtypes.accumulate}
    if len(same) > 1 or dtypes.input not in ("float32", "float64"):
        return f"takes float32 or float64 throughout, not {dtypes}"
    if not all(array.nbytes for array in (problem.output, *problem.operands)):
        return "takes no empty arrays"
    return None


def out_size(problem: Problem) -> tuple[int, int]:
    """Return rows and columns of the images that a convolution makes."""
    shape = problem.output.shape
    return (shape[2], shape[3]) if problem.layout == "nchw" else (shape[1], shape[2])


def window_arguments(problem: Problem) -> dict[str, Any]:
    """Return the arguments of a compiled convolution that describe its window."""
    top, _, left, _ = problem["pad"]
    return {
        "sizes": [problem[name] for name in ("n", "c", "h", "w", "k", "r", "s")],
        "out_size": out_size(problem),
        "pad": (top, left),
        "stride": problem["stride"],
        "dilation": problem["dilation"],
    }


def operand_arguments(problem: Problem) -> tuple[list[tuple[Any, Any]], tuple[Any, Any]]:
    """Return shapes and dtypes of the operands and of the output."""
    operands = [(operand.shape, operand.dtype) for operand in problem.operands]
    return operands, (problem.output.shape, problem.output.dtype)


def epilogue_arguments(problem: Problem) -> dict[str, Any]:
    """Return the arguments of a compiled kernel that describe the epilogue."""
    return {
        "bias": "bias" in problem.epilogue,
        "residual": "residual" in problem.epilogue,
        "activation": problem.activation,
    }
