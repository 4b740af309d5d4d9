"""Products by tiles (AMX): float32 and float16 in terms of bfloat16, and bfloat16 itself.

A float32 is the sum of three bfloat16, whose products are exact. Six products of terms are as good
as float32, three give about 17 bits, one those of bfloat16; the ``tolerance`` of a call decides. A
float16 is the sum of two: three products err by less than a thirtieth of the rounding of the
result, four are exact. ``cython/amx_kernels.h`` has the method and its source.

Where there is AVX512-BF16, bfloat16, and float32 as one product, is multiplied by its dot products
in the same way: on Zen 4 in 0.55 to 0.65 of the time of float32. The speed of tiles was not
measured by hwkit on hardware.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from hwkit import Config, Kernel, Problem, Run, Space

from . import gemm_common, tiles
from .device import compiled
from .tiles import Value

__all__ = ["BOUNDS", "NARROW", "SPLIT", "TERMS", "TilesGemm", "TilesKernel", "far", "kernels"]

SIDE = 32

_UNITS = {"amx": "AMX", "pairs": "AVX512-BF16", "vnni": "AVX512-VNNI"}
KC = (256, 512, 768, 1024, 1536, 2048)
MC = (32, 64, 128, 192, 256, 512)
NC = (32, 64, 128, 256, 512, 1024, 2048, 4096, 12288)

# Smaller products take as long as their packing, or as tiles that are not full.
_DEEP, _PACKED, _UNPACKED = 64, 64, 128

_NEAR_BYTES = 8 << 20  # of a core's share of the third cache

BOUNDS = {3: 6e-7, 2: 9e-6, 1: 8e-3}
"""Relative errors by terms. Random operands show 1.2e-7, 4.7e-6 and 2.4e-3; where an activation
cuts off most of the result, or a few terms cancel, up to twice as much."""

TERMS = {6: 3, 4: 2, 3: 2, 1: 1}
"""Terms of each operand, by products of them."""

SPLIT = (("float32", 6), ("float32", 3), ("float32", 1), ("float32", 1, True))
"""Ways to multiply float32, as arguments of :class:`TilesKernel`."""

NARROW = (("float16", 3), ("float16", 4), ("bfloat16", 1), ("bfloat16", 1, True))
"""The same for what is stored narrow."""


def kernels() -> list[Kernel]:
    """Return the kernels of this module."""
    ops = ("gemm", "matmul")
    split = [TilesGemm(op, *way) for op in ops for way in SPLIT]
    return [*split, *(NarrowTilesGemm(op, *way) for op in ops for way in NARROW)]


@cache
def unavailable(unit: str) -> str | None:
    """Return why this process has no ``amx``, ``pairs`` or ``vnni``, or ``None`` if it has."""
    if compiled().cpu_info()[unit]:
        return None
    what = _UNITS[unit]
    return f"this process has no {what}: the processor, the system or HWKIT_MAX_ISA leaves it out"


@cache
def slow_pairs() -> bool:
    """Whether dot products of AVX512-BF16 run only where tuning has chosen them.

    One does the work of two multiply-adds. Processors with AMX issue so few that a prototype on one
    got half the rate of float32; those without have them for their speed.
    """
    return "amxtile" in compiled().cpu_info()["features"].split()


def far(k: int, n: int, terms: int) -> bool:
    """Whether b, split and packed, is larger than a core's share of the third cache."""
    return 2 * terms * k * n > _NEAR_BYTES


class TilesKernel(tiles.ProductKernel):
    """What products and convolutions by tiles have in common.

    Args:
        dtype: of operands and result; what is not float32 has exact terms.
        products: of terms, see ``TERMS``.
        pairs: by the dot products of AVX512-BF16 instead of tiles.
    """

    def __init__(self, dtype: str, products: int, pairs: bool = False) -> None:
        self.dtype, self.products, self.pairs = dtype, products, pairs
        self.terms = TERMS[products]
        unit = "avx512" if pairs else "amx" if dtype == "bfloat16" else f"amx{products}"
        if dtype == "float32":
            self.prefix = "avx512bf16" if pairs else unit
        else:
            self.prefix = f"{unit}_{dtype}"

    def refusal(self, problem: Problem) -> str | None:
        """Return why the dtypes, the sizes or the processor do not fit, or ``None``."""
        dtypes = problem.dtypes
        same = {dtypes.input, dtypes.weight, dtypes.output} == {self.dtype}
        if not same or dtypes.accumulate != "float32":
            return f"it is for {self.dtype} with float32 accumulation"
        if not all(array.nbytes for array in (problem.output, *problem.operands)):
            return "takes no empty arrays"
        return unavailable("pairs" if self.pairs else "amx")

    def strict(self, problem: Problem, config: Config) -> bool:
        """Whether products are those of the operands, and none is left out."""
        return self.dtype != "float32" and self.products == self.terms**2

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return a bound for random operands; of what is narrow, it is the rounding of the output.

        The rounding of random results is about half of that, which leaves room for what three
        products of float16 leave out.
        """
        return BOUNDS[self.terms] if self.dtype == "float32" else problem.error_budget()

    def way(self) -> dict[str, Any]:
        """Return the arguments of a compiled kernel that say how to multiply."""
        return {"algorithm": "tiles", "products": self.products, "pairs": self.pairs}

    def order(self) -> int:
        """Return the rank where blocks are full: the fewer products the better."""
        if self.pairs:
            return -2 if slow_pairs() else 5
        return {6: 4, 4: 4, 3: 5, 1: 6}[self.products]


class TilesGemm(TilesKernel):
    """float32 split into bfloat16: b once, where it is packed beforehand; a while it is packed.

    Values that do not survive the split, and tiny ones, are found then, and their blocks of the
    result are computed in plain float32.

    Args:
        op: ``"gemm"`` or ``"matmul"``.
        way: arguments of :class:`TilesKernel`.
    """

    def __init__(self, op: str, *way: Any) -> None:
        super().__init__(*way)
        self.op = op
        self.name = f"{self.prefix}_gemm"

    def supports(self, problem: Problem) -> bool | str:
        """Whether there are tiles, and the dtypes fit."""
        return self.refusal(problem) or True

    def space(self, problem: Problem) -> Space:
        """Return blocks and threads."""
        m, n, k = (int(problem[name]) for name in "mnk")
        deep, tall, wide = (
            tiles.covering(ladder, size) for ladder, size in ((KC, k), (MC, m), (NC, n))
        )
        return Space(
            {"kc": KC, "mc": MC, "nc": NC, "threads": tiles.thread_ladder(False)},
            [
                (lambda kc: kc <= deep, "kc beyond the depth changes nothing"),
                (lambda mc: mc <= tall, "mc beyond the rows changes nothing"),
                (lambda nc: nc <= wide, "nc beyond the columns changes nothing"),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return deep blocks, of which those of a take half of the second cache.

        Each block of rows reads all of b: if that lies beyond the caches, blocks are large.
        """
        m, n, k = (int(problem[name]) for name in "mnk")
        batch = gemm_common.batch_of(problem)
        threads = tiles.threads_for(problem, False)
        kc = min(1024, tiles.covering(KC, k))
        most = tiles.facts(False).l2 / 2 / (min(kc, k) * 2 * self.terms)
        mc = MC[-1] if far(k, n, self.terms) else tiles.balanced(MC, m, batch, threads, most)
        chunks = -(-m // mc) * batch
        nc = NC[-1]
        if chunks < threads:
            nc = tiles.on_ladder(NC, -(-n // -(-threads // chunks)) + SIDE)
        values: dict[str, Value] = {
            "kc": kc,
            "mc": mc,
            "nc": min(nc, tiles.covering(NC, n)),
            "threads": threads,
        }
        return Config(values)

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the run of the compiled kernel."""
        operands, output = tiles.operand_arguments(problem)
        rows, vectors = tiles.facts(False).tiles[0]
        run: Run = compiled().gemm(
            operands,
            output,
            **{name: int(problem[name]) for name in "mnk"},
            rows=rows,
            vectors=vectors,
            kc=config.get("kc", int(problem["k"])),
            mc=config["mc"],
            nc=config["nc"],
            threads=config["threads"],
            **self.way(),
            **gemm_common.operation(problem),
        )
        return run

    def rank(self, problem: Problem) -> int:
        """First where tiles are full and packing pays."""
        m, n, k = (int(problem[name]) for name in "mnk")
        least = _PACKED if problem.packed else _UNPACKED
        return self.order() if min(m, n) >= least and k >= _DEEP else -2


class NarrowTilesGemm(TilesGemm):
    """bfloat16 or float16: exact terms, summed in float32 over all of the depth, rounded once."""

    def space(self, problem: Problem) -> Space:
        """Return rows and columns of a chunk, and threads."""
        tall = tiles.covering(MC, int(problem["m"]))
        wide = tiles.covering(NC, int(problem["n"]))
        return Space(
            {"mc": MC, "nc": NC, "threads": tiles.thread_ladder(False)},
            [
                (lambda mc: mc <= tall, "mc beyond the rows changes nothing"),
                (lambda nc: nc <= wide, "nc beyond the columns changes nothing"),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return the rows of a that take half of the second cache."""
        values = dict(super().default(problem))
        most = tiles.facts(False).l2 / 2 / (2 * self.terms * problem["k"])
        values["mc"] = min(int(values["mc"]), tiles.on_ladder(MC, most))
        del values["kc"]
        return Config(values)
