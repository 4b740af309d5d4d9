"""Products by tiles (AMX): float32 in terms of bfloat16, and bfloat16 itself.

A float32 is the sum of three bfloat16, whose products are exact. Six products of terms are as good
as float32, three give about 17 bits, one those of bfloat16; the ``tolerance`` of a call decides.
``cython/amx_kernels.h`` has the method and its source. The speed was not measured by hwkit on
hardware with AMX.
"""

from __future__ import annotations

from functools import cache

from hwkit import Config, Kernel, Problem, Run, Space

from . import gemm_common, tiles
from .device import compiled
from .tiles import Value

__all__ = ["BOUNDS", "PRODUCTS", "TilesGemm", "TilesKernel", "kernels", "unavailable"]

SIDE = 32
KC = (256, 512, 768, 1024, 1536, 2048)
MC = (32, 64, 128, 192, 256, 512)
NC = (32, 64, 128, 256, 512, 1024, 2048, 4096, 12288)

# Smaller products take as long as their packing, or as tiles that are not full.
_DEEP, _PACKED, _UNPACKED = 64, 64, 128

BOUNDS = {3: 6e-7, 2: 9e-6, 1: 8e-3}
"""Relative errors by terms. Random operands show 1.2e-7, 4.7e-6 and 2.4e-3; where an activation
cuts off most of the result, or a few terms cancel, up to twice as much."""

PRODUCTS = {3: 6, 2: 3, 1: 1}
"""Products of terms, by terms."""


def kernels() -> list[Kernel]:
    """Return the kernels of this module."""
    ops = ("gemm", "matmul")
    split = [TilesGemm(op, terms) for op in ops for terms in (3, 2, 1)]
    return [*split, *(NarrowTilesGemm(op) for op in ops)]


@cache
def unavailable() -> str | None:
    """Return why this process has no tiles, or ``None`` if it has."""
    if compiled().cpu_info()["amx"]:
        return None
    return "this process has no AMX: the processor, the system or HWKIT_MAX_ISA leaves it out"


def refusal(problem: Problem) -> str | None:
    """Return why no kernel of bfloat16 takes these dtypes or sizes, or ``None``."""
    dtypes = problem.dtypes
    if {dtypes.input, dtypes.weight, dtypes.output} != {"bfloat16"} or (
        dtypes.accumulate != "float32"
    ):
        return "it is for bfloat16 with float32 accumulation"
    if not all(array.nbytes for array in (problem.output, *problem.operands)):
        return "takes no empty arrays"
    return None


class TilesKernel(tiles.ProductKernel):
    """What products and convolutions by tiles say of their accuracy.

    Attributes:
        terms: of each operand, 1 to 3.
        narrow: whether operands are bfloat16, and multiplied as they are.
    """

    terms: int
    narrow = False

    def strict(self, problem: Problem, config: Config) -> bool:
        """Whether operands are multiplied, and not their terms."""
        return self.narrow

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return a bound for random operands; for bfloat16 it is the rounding of the output."""
        return problem.error_budget() if self.narrow else BOUNDS[self.terms]


class TilesGemm(TilesKernel):
    """float32 split into bfloat16: b once, where it is packed beforehand; a while it is packed.

    Values that do not survive the split, and tiny ones, are found then, and their blocks of the
    result are computed in plain float32.

    Args:
        op: ``"gemm"`` or ``"matmul"``.
        terms: of each operand, 1 to 3.
    """

    def __init__(self, op: str, terms: int) -> None:
        self.op = op
        self.terms = terms
        self.name = f"amx{PRODUCTS[terms]}_gemm"

    def supports(self, problem: Problem) -> bool | str:
        """Whether there are tiles, and all is float32."""
        if problem.dtypes.input != "float32":
            return "it is for float32"
        return unavailable() or tiles.refusal(problem) or True

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
        """Return deep blocks, of which those of a take half of the second cache."""
        m, n, k = (int(problem[name]) for name in "mnk")
        batch = gemm_common.batch_of(problem)
        threads = tiles.threads_for(problem, False)
        kc = min(1024, tiles.covering(KC, k))
        most = tiles.facts(False).l2 / 2 / (min(kc, k) * 2 * self.terms)
        mc = tiles.balanced(MC, m, batch, threads, most)
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
            algorithm="tiles",
            rows=rows,
            vectors=vectors,
            kc=config.get("kc", int(problem["k"])),
            mc=config["mc"],
            nc=config["nc"],
            terms=self.terms,
            is_bfloat16=self.narrow,
            threads=config["threads"],
            **gemm_common.operation(problem),
        )
        return run

    def rank(self, problem: Problem) -> int:
        """First where tiles are full and packing pays; the fewer products the better."""
        m, n, k = (int(problem[name]) for name in "mnk")
        least = _PACKED if problem.packed else _UNPACKED
        return 7 - self.terms if min(m, n) >= least and k >= _DEEP else -2


class NarrowTilesGemm(TilesGemm):
    """bfloat16 as it is: exact products, summed in float32 over all of the depth, rounded once.

    Args:
        op: ``"gemm"`` or ``"matmul"``.
    """

    narrow = True

    def __init__(self, op: str) -> None:
        super().__init__(op, 1)
        self.name = "amx_bfloat16_gemm"

    def supports(self, problem: Problem) -> bool | str:
        """Whether there are tiles, and all is bfloat16."""
        return refusal(problem) or unavailable() or True

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
        most = tiles.facts(False).l2 / 2 / (2 * problem["k"])
        values["mc"] = min(int(values["mc"]), tiles.on_ladder(MC, most))
        del values["kc"]
        return Config(values)
