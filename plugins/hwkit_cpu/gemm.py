"""Kernels of the Ops gemm and matmul: packed blocks, and no packing at all."""

from __future__ import annotations

from hwkit import Config, Kernel, Problem, Space

from . import tiles
from .gemm_common import NC, GemmKernel, b_bytes, batch_of, streams, transposes
from .tiles import Value

__all__ = ["PackedGemm", "UnpackedGemm", "kernels"]

KC = (64, 128, 192, 256, 384, 512, 768, 1024)
MC = (12, 24, 48, 72, 96, 144, 192, 288, 384, 768)

# Up to so many rows, a panel of b need not stay in the first cache.
_FEW_ROWS = 64
# Up to so many rows of a are copied even if they lie well.
_ROWS_TO_COPY = 16

# Up to so many rows a transposed a is transposed as a whole.
_ROWS_TO_TURN = 64

# Copying a costs as much as multiplying it by so many columns.
_COPIES = 16.0
# Up to this size both operands lie in the first cache, and nothing is gained by moving them.
_SMALL = 56
# Up to so many rows a copy of b does not pay, if that has at most so many bytes: narrower panels of
# a larger one are read too slowly. Measured on Zen 4.
_UNPACKED = {"avx2": (32, 2 << 20), "avx512": (64, 1 << 62)}
# Of so few rows, b is better read as a stream: unless it is that narrow, and sums are that deep.
_FEWEST, _NARROW, _SHALLOW, _DEEP = 8, 128, 64, 256


def kernels() -> list[Kernel]:
    """Return the kernels of this module."""
    return [kind(op) for op in ("gemm", "matmul") for kind in (PackedGemm, UnpackedGemm)]


class PackedGemm(GemmKernel):
    """b in panels of a few vectors, a in panels or as it is, in blocks that fit the caches."""

    name = "packed_gemm"
    algorithm = "packed"

    def space(self, problem: Problem) -> Space:
        """Return tile, blocks, whether to pack a, and threads."""
        double = problem.dtypes.input == "float64"
        m, n, k = (int(problem[name]) for name in "mnk")
        transposed = transposes(problem)[0]
        deep, tall, wide = (
            tiles.covering(ladder, size) for ladder, size in ((KC, k), (MC, m), (NC, n))
        )
        return Space(
            {
                "tile": [tiles.tile_text(t, double) for t in tiles.facts(double).tiles],
                "kc": KC,
                "mc": MC,
                "nc": NC,
                "pack_a": (False, True),
                "threads": tiles.thread_ladder(double),
            },
            [
                (lambda kc: kc <= deep, "kc beyond the depth changes nothing"),
                (lambda mc: mc <= tall, "mc beyond the rows changes nothing"),
                (lambda nc: nc <= wide, "nc beyond the columns changes nothing"),
                (lambda pack_a: pack_a or not transposed, "a transposed a must be packed"),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return blocks for the caches found here."""
        double = problem.dtypes.input == "float64"
        known, size = tiles.facts(double), 8 if double else 4
        m, n, k = (int(problem[name]) for name in "mnk")
        batch = batch_of(problem)
        threads = tiles.threads_for(problem, double)
        tile = tiles.for_product(known, m, n, k)
        # A panel of b may fill the first cache: it is read in order, and prefetched. A step of
        # AVX-512 has so much to do for each line that the panel may come from the second.
        width = tile[1] * known.vector
        near = known.l2 // 4 if known.isa == "avx512" else known.l1
        kc = tiles.on_ladder(KC, max(near // (width * size), 256))
        # Past few rows it goes but a few times, from wherever it lies: then whole sums are best.
        kc = min(kc if m > _FEW_ROWS else KC[-1], tiles.covering(KC, k))
        transposed = transposes(problem)[0]
        # Rows of a that start a multiple of 2 KiB apart fight for the same sets of the cache.
        clash = (m if transposed else k) * size % 2048 == 0 and k >= 512
        # A few rows are copied in next to no time.
        pack = transposed or (n >= 128 and (clash or m <= _ROWS_TO_COPY))
        most = known.l2 / 2 / (kc * size)
        # Threads share the columns where rows are fewer: each reads only its part of b. But panels
        # of a small b may be too few to share them evenly.
        uneven = -(-n // width) % threads and n * k * size <= known.l2 / 4
        few = m <= _FEW_ROWS or (n >= 2 * m and m * k * size <= known.l2 / 2)
        by_rows = not few or (m > tile[0] and uneven)
        mc = tiles.balanced(MC, m, batch, threads if by_rows else 1, most, unit=tile[0])
        chunks = -(-m // mc) * batch
        nc = NC[-1]
        if chunks < threads:
            # Each chunk copies all of a, if it is copied.
            again = _COPIES if pack else 4.0
            nc = tiles.balanced(NC, n, chunks, threads, n, again, width)
        cover = tiles.covering(NC, n)
        values: dict[str, Value] = {
            "tile": tiles.tile_text(tile, double),
            "kc": kc,
            "mc": mc,
            "nc": min(nc, cover),
            "pack_a": pack,
            "threads": threads,
        }
        return Config(values)


class UnpackedGemm(GemmKernel):
    """Both operands where they lie. For small products, whose time would be lost in packing."""

    name = "unpacked_gemm"
    version = 2  # blocks of the depth
    algorithm = "unpacked"

    def supports(self, problem: Problem) -> bool | str:
        """Whether b runs along the rows, and a too, unless it is small enough to be transposed."""
        turned_a, turned_b = transposes(problem)
        if turned_b or (turned_a and problem["m"] > _ROWS_TO_TURN):
            return f"takes no transposed b, and a transposed a of at most {_ROWS_TO_TURN} rows only"
        return super().supports(problem)

    def space(self, problem: Problem) -> Space:
        """Return tile, depth of a block, rows and columns of a chunk, and threads."""
        double = problem.dtypes.input == "float64"
        deep = tiles.covering(KC, int(problem["k"]))
        tall = tiles.covering(MC, int(problem["m"]))
        wide = tiles.covering(NC, int(problem["n"]))
        return Space(
            {
                "tile": [tiles.tile_text(t, double) for t in tiles.facts(double).tiles],
                "kc": KC,
                "mc": MC,
                "nc": NC,
                "threads": tiles.thread_ladder(double),
            },
            [
                (lambda kc: kc <= deep, "kc beyond the depth changes nothing"),
                (lambda mc: mc <= tall, "mc beyond the rows changes nothing"),
                (lambda nc: nc <= wide, "nc beyond the columns changes nothing"),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return one chunk for each thread."""
        double = problem.dtypes.input == "float64"
        m, n = int(problem["m"]), int(problem["n"])
        threads = tiles.threads_for(problem, double)
        tall = m >= 12 * threads
        cut = -(-m // threads) if tall else m
        columns = n if tall else -(-n // threads)
        values: dict[str, Value] = {
            "tile": tiles.tile_text(tiles.of_few_rows(tiles.facts(double), n), double),
            "kc": min(512, tiles.covering(KC, int(problem["k"]))),
            "mc": tiles.covering(MC, cut),
            "nc": tiles.covering(NC, columns),
            "threads": threads,
        }
        return Config(values)

    def rank(self, problem: Problem) -> int:
        """First for small products, and where b meets too few rows to pack it."""
        m, n, k = (int(problem[name]) for name in "mnk")
        if max(m, n, k) <= _SMALL:
            return 3
        known = tiles.facts(problem.dtypes.input == "float64")
        rows, most = _UNPACKED.get(known.isa, (0, 0))
        if problem.packed or streams(problem) or not 1 < m <= rows or b_bytes(problem) > most:
            return -1
        deep = _DEEP if n > _NARROW else _SHALLOW
        some = m >= 4 and k >= deep and (n <= _NARROW or known.isa == "avx512")
        return 3 if m > _FEWEST or n <= 2 * known.vector or some else -1
