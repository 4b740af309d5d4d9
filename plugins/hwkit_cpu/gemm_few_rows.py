"""Kernels of the Ops gemm and matmul for few rows: the time is that of reading b."""

from __future__ import annotations

from hwkit import Config, Kernel, Problem, Space

from . import tiles
from .gemm_common import NC, GemmKernel, b_bytes, streams, transposes

__all__ = [
    "Bfloat16Gemm",
    "DotGemm",
    "Int8Gemm",
    "Int24Gemm",
    "StreamGemm",
    "few_columns",
    "kernels",
]

# The kernels do so many rows at a time.
_ROWS_AT_A_TIME = 4
# So many terms are summed in registers, and so many in one place of memory, as in C.
_DEPTH, _MOST_DEPTH = 8, 8192
# Rows of b that share a scale.
_PART = 64
# Dot products of so many columns and such a depth take 0.2 to 0.8 of the time of half a vector of
# columns (Zen 4, AVX-512 and AVX2).
_FEW_COLUMNS = ((3, 16), (5, 32))
# Of more rows than this, a b of at most so many bytes is better transposed by the call: 1.1 to 1.5
# times on AVX-512.
_SOON_PACKED = ((256 << 10, 12), (4 << 20, 24))
# Up to so many rows of a transposed a are transposed first, and up to so many columns of a product
# with a transposed a are its rows instead.
_TURNED = 96
# Up to this size, operands are transposed in next to no time.
_SMALL = 64
# It takes 0.15 to 0.95 of the time of the packed kernel (Zen 4, AVX-512 and AVX2) for so few
# columns, or where sums are not so short that turning the result costs more than making it.
_ROWS_ANYWAY, _SHALLOW = 16, 16
# A matrix of more bytes than this is read from memory, time and again.
_LARGE = 1 << 23


def few_columns(n: int, k: int) -> bool:
    """Whether dot products are faster than the kernels of n columns, whose vectors are not full."""
    return any(n <= columns and k >= depth for columns, depth in _FEW_COLUMNS)


def kernels() -> list[Kernel]:
    """Return the kernels of this module."""
    return [
        kind(op)
        for op in ("gemm", "matmul")
        for kind in (DotGemm, StreamGemm, Bfloat16Gemm, Int8Gemm, Int24Gemm)
    ]


def _turned(problem: Problem) -> bool:
    """Whether it is best taken as the transposed result: few columns, and a is read as it lies."""
    m, n = int(problem["m"]), int(problem["n"])
    turned_a, turned_b = transposes(problem)
    return turned_a and n <= _TURNED and (turned_b or m >= n)


def _pays_to_turn(problem: Problem) -> bool:
    """Whether the transposed result is faster than packed panels of a, or a small a transposed."""
    m, n, k = (int(problem[size]) for size in "mnk")
    small = max(m, n, k) <= _SMALL and not transposes(problem)[1]
    return m >= n and not small and (n <= _ROWS_ANYWAY or k >= _SHALLOW)


def _product_size(problem: Problem) -> tuple[int, int]:
    """Return the rows and columns of what is computed: of the transposed result, if turned."""
    m, n = int(problem["m"]), int(problem["n"])
    return (n, m) if _turned(problem) else (m, n)


class _FewRows(GemmKernel):
    """What the two kernels for few rows have in common: chunks of columns.

    Attributes:
        few: up to so many rows they are the first choice.
        packs: whether it has a packed b of its own.
    """

    few: int
    packs = False

    def beside(self, problem: Problem) -> int:
        """Return the size that, with the columns of a chunk, makes what is read again and again."""
        return int(problem["k"])

    def space(self, problem: Problem) -> Space:
        """Return the columns of a chunk, and threads."""
        double = problem.dtypes.input == "float64"
        wide = tiles.covering(NC, _product_size(problem)[1])
        return Space(
            {"nc": NC, "threads": tiles.thread_ladder(double)},
            [(lambda nc: nc <= wide, "nc beyond the columns changes nothing")],
        )

    def default(self, problem: Problem) -> Config:
        """Return one chunk for each thread: the longer the runs, the faster memory is."""
        double = problem.dtypes.input == "float64"
        (m, n), threads = _product_size(problem), tiles.threads_for(problem, double)
        nc = tiles.covering(NC, -(-n // threads))
        if m > _ROWS_AT_A_TIME:
            # b is read once for every few rows, so a chunk of it must stay in the second cache.
            size = 8 if double else 4
            fitting = tiles.facts(double).l2 / 2 / (self.beside(problem) * size)
            nc = min(nc, tiles.on_ladder(NC, fitting))
        return Config({"nc": nc, "threads": threads})

    def rank(self, problem: Problem) -> int:
        """Before the packed kernel for few rows; where b is packed already, for fewer of them."""
        few = self.few
        if problem.packed and not self.packs:
            few = self._fewer(problem)
        return 2 if problem["m"] <= few or problem["n"] == 1 else -1

    def _fewer(self, problem: Problem) -> int:
        """Return up to how many rows it is the first choice where b is packed already."""
        # A wide panel is one long run whose sums stay in registers: 1.0 to 2.1 times on AVX-512.
        if tiles.facts(problem.dtypes.input == "float64").isa == "avx512":
            return 0
        # Beyond the caches, all wait for b, and it is read fastest as it lies.
        return _ROWS_AT_A_TIME if problem.operands[1].nbytes > _LARGE else 1


class DotGemm(_FewRows):
    """Rows of a with rows of a transposed b, which is read once, in order, and not copied.

    Of so few columns that no vector would be full, b is transposed by the call.
    """

    name = "dot_gemm"
    algorithm = "dot"
    few = 32

    def supports(self, problem: Problem) -> bool | str:
        """Whether b is transposed, or soon is, and so is a."""
        turned_a, turned_b = transposes(problem)
        if turned_a and problem["m"] > _TURNED:
            return f"takes a transposed a of at most {_TURNED} rows only"
        if not (turned_b or few_columns(int(problem["n"]), int(problem["k"]))):
            return "takes b transposed, or of few columns"
        return super().supports(problem)

    def rank(self, problem: Problem) -> int:
        """For few rows, and where so few columns leave vectors mostly empty."""
        if few_columns(int(problem["n"]), int(problem["k"])) and problem["m"] > self.few:
            return 3
        # A small b is soon transposed, for kernels that keep all of a vector busy.
        wide = tiles.facts(problem.dtypes.input == "float64").isa == "avx512"
        few = [rows for most, rows in _SOON_PACKED if b_bytes(problem) <= most]
        soon = wide and not problem.packed and few and problem["m"] > few[0]
        return -1 if soon else super().rank(problem)

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return a bound for random operands: each element of a vector has a sum of its own."""
        double = problem.dtypes.input == "float64"
        return tiles.rounding(double, problem["k"] / tiles.facts(double).vector)


class StreamGemm(_FewRows):
    """Few rows of a with all rows of b, a few of them at a time, read once and not copied.

    Of a transposed a and few columns, the transposed result is such a product, with a as its b.
    """

    name = "stream_gemm"
    algorithm = "stream"
    few = 8

    def beside(self, problem: Problem) -> int:
        """Return the rows of the product: a chunk of its columns is added to, term by term."""
        return _product_size(problem)[0]

    def supports(self, problem: Problem) -> bool | str:
        """Whether b runs along the rows, or a along the many rows of a narrow result."""
        turned_a, turned_b = transposes(problem)
        few = turned_a and not turned_b and problem["m"] <= _TURNED
        if (turned_a or turned_b) and not (few or _turned(problem)):
            return f"takes a transposed a of at most {_TURNED} rows or columns, no transposed b"
        return super().supports(problem)

    def rank(self, problem: Problem) -> int:
        """For few rows, and some more where b comes from memory."""
        if _turned(problem):
            return 3 if _pays_to_turn(problem) else -1
        return 2 if streams(problem) else super().rank(problem)

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return a bound for random operands: what is summed in registers is added in memory."""
        k = problem["k"]
        summed = _DEPTH + min(k, _MOST_DEPTH) / _DEPTH + k / _MOST_DEPTH
        return tiles.rounding(problem.dtypes.input == "float64", summed)


class _NarrowGemm(_FewRows):
    """Few rows of a with a packed b in fewer bits: the time is that of reading b."""

    algorithm = "narrow"
    few = 16
    packs = True
    bound: float

    def supports(self, problem: Problem) -> bool | str:
        """Whether b is packed beforehand, and all is float32."""
        if not problem.packed:
            return "b must be packed beforehand, by prepack"
        if problem.dtypes.input != "float32":
            return "it is for float32"
        if transposes(problem)[0]:
            return "takes no transposed a"
        return super().supports(problem)

    def strict(self, problem: Problem, config: Config) -> bool:
        """Each element of b is rounded."""
        return False

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return the rounding of b, for elements from a normal distribution."""
        return self.bound


class Bfloat16Gemm(_NarrowGemm):
    """b in bfloat16, rounded to nearest even."""

    name = "bfloat16_gemm"
    storage = narrow = "bfloat16"
    bound = 2.5e-3


class Int8Gemm(_NarrowGemm):
    """b in int8 with a scale for each column and each 64 rows; bfloat16 if b is not finite."""

    name = "int8_storage_gemm"
    version = 2  # halves are rounded away from zero
    storage = narrow = "int8"
    bound = 9e-3


class Int24Gemm(_NarrowGemm):
    """b in int24 with a scale for each column and each 64 rows; float32 where b does not fit.

    Three quarters of the bytes at the accuracy of float32: an element is off by half of 2^-23 of
    the largest of its 64, so that whatever b is, its error is at most 2.8e-7 of its norm.
    """

    name = "int24_storage_gemm"
    narrow = "int24"
    bound = 1e-7

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return a bound for random operands: parts of the depth are summed one after another."""
        depth = float(problem["k"])
        part = min(depth, _PART)
        return self.bound + tiles.rounding(False, part + depth / part)

    def rank(self, problem: Problem) -> int:
        """First for few rows of a large matrix, which takes the time of reading it."""
        large = problem.operands[1].nbytes > _LARGE
        return 3 if large and problem["m"] <= _ROWS_AT_A_TIME else -1
