"""Kernels of the Ops gemm and matmul: packed blocks, no packing at all, and some for few rows."""

from __future__ import annotations

from typing import Any

from hwkit import Config, Kernel, Problem, Run, Space

from . import tiles
from .device import compiled
from .tiles import Value

__all__ = [
    "Bfloat16Gemm",
    "DotGemm",
    "Int8Gemm",
    "PackedGemm",
    "StreamGemm",
    "UnpackedGemm",
    "batch_of",
    "kernels",
    "operation",
]

KC = (64, 128, 192, 256, 384, 512, 768, 1024)
MC = (12, 24, 48, 72, 96, 144, 192, 288, 384, 768)
NC = (48, 96, 192, 384, 768, 1536, 3072, 12288)

# The kernels for few rows do so many at a time.
_ROWS_AT_A_TIME = 4
# Up to so many rows, a panel of b need not stay in the first cache.
_FEW_ROWS = 64
# Up to so many rows of a are copied even if they lie well.
_ROWS_TO_COPY = 16
# The rounding of sums of positive terms grows with their number; 8e-7 in float32 for these.
_DEEPEST = 1 << 14
# A matrix of more bytes than this is read from memory, time and again.
_LARGE = 1 << 23
# Up to this size both operands lie in the first cache, and nothing is gained by moving them.
_SMALL = 56


def kernels() -> list[Kernel]:
    """Return the kernels of this module."""
    return [
        kind(op)
        for op in ("gemm", "matmul")
        for kind in (PackedGemm, UnpackedGemm, DotGemm, StreamGemm, Bfloat16Gemm, Int8Gemm)
    ]


class _Gemm(tiles.ProductKernel):
    """What all have in common.

    Args:
        op: ``"gemm"`` or ``"matmul"``.
    """

    algorithm: str

    def __init__(self, op: str) -> None:
        self.op = op

    def supports(self, problem: Problem) -> bool | str:
        """Whether the dtypes and the sizes fit."""
        return tiles.refusal(problem) or True

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the run of the compiled kernel."""
        double = problem.dtypes.input == "float64"
        rows, vectors = tiles.tile_of(config.get("tile", _tile(double)), double)
        operands, output = tiles.operand_arguments(problem)
        m, n, k = (int(problem[name]) for name in "mnk")
        run: Run = compiled().gemm(
            operands,
            output,
            m=m,
            n=n,
            k=k,
            is_double=double,
            algorithm=self.algorithm,
            rows=rows,
            vectors=vectors,
            kc=config.get("kc", k),
            mc=config.get("mc", m),
            nc=config.get("nc", n),
            pack_a=bool(config.get("pack_a", False)),
            storage=self.storage,
            threads=config["threads"],
            **operation(problem),
        )
        return run

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return a bound for random operands: blocks of the depth are summed one after another."""
        return 1e-15 if problem.dtypes.input == "float64" else 8e-7


class PackedGemm(_Gemm):
    """b in panels of a few vectors, a in panels or as it is, in blocks that fit the caches."""

    name = "packed_gemm"
    algorithm = "packed"

    def space(self, problem: Problem) -> Space:
        """Return tile, blocks, whether to pack a, and threads."""
        double = problem.dtypes.input == "float64"
        m, n, k = (int(problem[name]) for name in "mnk")
        transposed = _transposes(problem)[0]
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
        tile = tiles.for_rows(known, m)
        # A panel of b may fill the first cache: it is read in order, and prefetched.
        width = tile[1] * known.vector
        kc = tiles.on_ladder(KC, max(known.l1 // (width * size), 256))
        # Past few rows it goes but a few times, from wherever it lies: then whole sums are best.
        kc = min(kc if m > _FEW_ROWS else KC[-1], tiles.covering(KC, k))
        transposed = _transposes(problem)[0]
        # Rows of a that start a multiple of 2 KiB apart fight for the same sets of the cache.
        clash = (m if transposed else k) * size % 2048 == 0 and k >= 512
        # A few rows are copied in next to no time.
        pack = transposed or (n >= 128 and (clash or m <= _ROWS_TO_COPY))
        most = known.l2 / 2 / (kc * size)
        # Threads share the columns of few rows: each reads only its part of b, and copies all of a.
        mc = tiles.balanced(MC, m, batch, threads if m > _ROWS_TO_COPY else 1, most)
        chunks = -(-m // mc) * batch
        nc = NC[-1]
        if chunks < threads:
            nc = tiles.balanced(NC, n, chunks, threads, n)
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


class UnpackedGemm(_Gemm):
    """Both operands where they lie. For small products, whose time would be lost in packing."""

    name = "unpacked_gemm"
    algorithm = "unpacked"

    def supports(self, problem: Problem) -> bool | str:
        """Whether both operands run along the rows."""
        if any(_transposes(problem)):
            return "takes no transposed operand"
        if problem["k"] > _DEEPEST:
            return f"adds up at most {_DEEPEST} terms one after the other, for their rounding"
        return super().supports(problem)

    def space(self, problem: Problem) -> Space:
        """Return tile, rows and columns of a chunk, and threads."""
        double = problem.dtypes.input == "float64"
        tall = tiles.covering(MC, int(problem["m"]))
        wide = tiles.covering(NC, int(problem["n"]))
        return Space(
            {
                "tile": [tiles.tile_text(t, double) for t in tiles.facts(double).tiles],
                "mc": MC,
                "nc": NC,
                "threads": tiles.thread_ladder(double),
            },
            [
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
            "tile": _tile(double),
            "mc": tiles.covering(MC, cut),
            "nc": tiles.covering(NC, columns),
            "threads": threads,
        }
        return Config(values)

    def rank(self, problem: Problem) -> int:
        """Before the packed kernel for small products and single rows."""
        return 3 if max(problem["m"], problem["n"], problem["k"]) <= _SMALL else -1


class _FewRows(_Gemm):
    """What the two kernels for few rows have in common: chunks of columns.

    Attributes:
        few: up to so many rows they are the first choice.
        beside: the size that, with the columns of a chunk, makes what is read again and again.
        packs: whether it has a packed b of its own.
    """

    few: int
    beside: str
    packs = False

    def space(self, problem: Problem) -> Space:
        """Return the columns of a chunk, and threads."""
        double = problem.dtypes.input == "float64"
        wide = tiles.covering(NC, int(problem["n"]))
        return Space(
            {"nc": NC, "threads": tiles.thread_ladder(double)},
            [(lambda nc: nc <= wide, "nc beyond the columns changes nothing")],
        )

    def default(self, problem: Problem) -> Config:
        """Return one chunk for each thread: the longer the runs, the faster memory is."""
        double = problem.dtypes.input == "float64"
        n, threads = int(problem["n"]), tiles.threads_for(problem, double)
        nc = tiles.covering(NC, -(-n // threads))
        if problem["m"] > _ROWS_AT_A_TIME:
            # b is read once for every few rows, so a chunk of it must stay in the second cache.
            size = 8 if double else 4
            fitting = tiles.facts(double).l2 / 2 / (problem[self.beside] * size)
            nc = min(nc, tiles.on_ladder(NC, fitting))
        return Config({"nc": nc, "threads": threads})

    def rank(self, problem: Problem) -> int:
        """Before the packed kernel for few rows; where b is packed already, for fewer of them."""
        few = self.few
        if problem.packed and not self.packs:
            # Beyond the caches, all wait for b, and it is read fastest as it lies.
            few = _ROWS_AT_A_TIME if problem.operands[1].nbytes > _LARGE else 1
        return 2 if problem["m"] <= few or problem["n"] == 1 else -1


class DotGemm(_FewRows):
    """Rows of a with rows of a transposed b, which is read once, in order, and not copied."""

    name = "dot_gemm"
    algorithm = "dot"
    few = 32
    beside = "k"

    def supports(self, problem: Problem) -> bool | str:
        """Whether b is transposed and a is not."""
        if _transposes(problem) != (False, True):
            return "takes a as it is and b transposed (layout nt)"
        return super().supports(problem)


class StreamGemm(_FewRows):
    """Few rows of a with all rows of b, a few of them at a time, read once and not copied."""

    name = "stream_gemm"
    algorithm = "stream"
    few = 8
    beside = "m"

    def supports(self, problem: Problem) -> bool | str:
        """Whether both operands run along the rows."""
        if any(_transposes(problem)):
            return "takes no transposed operand"
        return super().supports(problem)


class _NarrowGemm(_FewRows):
    """Few rows of a with a packed b in fewer bits: the time is that of reading b."""

    algorithm = "narrow"
    few = 16
    beside = "k"
    packs = True
    bound: float

    def supports(self, problem: Problem) -> bool | str:
        """Whether b is packed beforehand, and all is float32."""
        if not problem.packed:
            return "b must be packed beforehand, by prepack"
        if problem.dtypes.input != "float32":
            return "it is for float32"
        if _transposes(problem)[0]:
            return "takes no transposed a"
        return super().supports(problem)

    def strict(self, problem: Problem, config: Config) -> bool:
        """Each element of b is rounded."""
        return False

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return the rounding of b, for elements from a normal distribution."""
        return self.bound

    def workspace(self, problem: Problem, config: Config) -> int:
        """Return 0: the packed b belongs to the plan."""
        return 0


class Bfloat16Gemm(_NarrowGemm):
    """b in bfloat16, rounded to nearest even."""

    name = "bfloat16_gemm"
    storage = "bfloat16"
    bound = 2.5e-3


class Int8Gemm(_NarrowGemm):
    """b in int8 with a scale for each column and each 64 rows; bfloat16 if b is not finite."""

    name = "int8_storage_gemm"
    storage = "int8"
    bound = 9e-3


def _tile(double: bool) -> str:
    return tiles.tile_text(tiles.facts(double).tiles[0], double)


def batch_of(problem: Problem) -> int:
    """Return how many products there are."""
    return int(problem["b"]) if problem.op.name == "matmul" else 1


def _transposes(problem: Problem) -> tuple[bool, bool]:
    """Return how a and b are read; a vector is the same either way, and takes the faster one."""
    if problem.op.name == "matmul":
        return False, False
    return (
        problem.layout[0] == "t" and problem["m"] > 1,
        problem.layout[1] == "t" or problem["n"] == 1,
    )


def operation(problem: Problem) -> dict[str, Any]:
    """Return the arguments of the compiled kernel that say what to compute."""
    if problem.op.name == "matmul":
        batch = batch_of(problem)
        a, b = problem.operands[:2]
        return {
            "batch": batch,
            "a_shared": a.shape[0] < batch,
            "b_shared": b.shape[0] < batch,
        }
    transpose_a, transpose_b = _transposes(problem)
    return {
        "transpose_a": transpose_a,
        "transpose_b": transpose_b,
        "alpha": problem["alpha"],
        "beta": problem["beta"],
        **tiles.epilogue_arguments(problem),
    }
