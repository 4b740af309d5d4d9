"""What kernels that multiply tiles share: dtypes, precisions, tiles, parts of the depth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hwkit import Config, Problem

from .common import TritonKernel, ceiling, epilogue
from .compiled import Facts
from .launch import OUT, PARTIAL, Launch, Number, Slot
from .target import Target

__all__ = ["BARRIERS", "PRECISIONS", "SPLIT", "ProductKernel", "pipeline", "power"]

PRECISIONS: dict[str, float] = {
    "ieee": 0.0,
    "tf32x3": 4e-6,
    "bf16x6": 4e-6,
    "bf16x3": 5e-5,
    "tf32": 1e-3,
}
"""How float32 is multiplied, and the error to expect beyond float32's own.

``ieee`` is plain multiply-add without tensor cores; the others split each factor into one to three
parts of tf32 or bfloat16 and add up to six products (Henry, Tang and Heinecke, 2019).
"""

SPLIT = {"tf32x3": 8, "bf16x3": 4, "bf16x6": 6}
"""Bytes of all parts of an element of float32 that is multiplied in parts."""

BARRIERS = 16
"""Bytes of the barriers of tensor memory, from sm_100 on."""

# Rows that are multiples of so many elements are copied asynchronously.
_EVEN = 16
_NARROW = ("float16", "bfloat16")
_BLOCK = 1024
# Sums of a thread: beyond, no choice of instructions keeps them in 255 registers.
_MOST_SUMS = 256
_MOST_PLAIN_SUMS = 64


def power(value: int, least: int, most: int) -> int:
    """Return the power of two from ``value`` on, within bounds that are powers of two."""
    return min(most, max(least, 1 << max(value - 1, 0).bit_length()))


class ProductKernel(TritonKernel):
    """What kernels have in common that multiply tiles: precision, sums, splits."""

    def dtype_refusal(self, problem: Problem) -> str | None:
        """Return why the dtypes do not fit, or ``None``."""
        dtypes = problem.dtypes
        if dtypes.input == "int8":
            if tuple(dtypes) != ("int8", "int8", "int32", "int32"):
                return f"of integers it takes int8,int8,int32,int32, not {dtypes}"
        elif len({dtypes.input, dtypes.weight, dtypes.output}) > 1:
            return f"it has no dtypes {dtypes}"
        elif dtypes.input not in ("float32", *_NARROW):
            return f"it has no {dtypes.input}"
        if dtypes.input == "bfloat16" and self.target.capability < 80:
            return "bfloat16 needs compute capability 8.0"
        if min(problem.output.shape, default=0) == 0 or self.depth(problem) == 0:
            return "it takes no empty matrices"
        return None

    def depth(self, problem: Problem) -> int:
        """Return over how many products an element sums."""
        raise NotImplementedError

    def precision(self, problem: Problem, config: Config) -> str:
        """Return how numbers are multiplied."""
        return str(config.get("precision", "ieee"))

    def plain(self, problem: Problem, config: Config) -> bool:
        """Whether it multiplies without tensor cores."""
        return problem.dtypes.input == "float32" and self.precision(problem, config) == "ieee"

    def values(self, problem: Problem) -> dict[str, tuple[Any, ...]]:
        """Return the values of the tunables of tiles."""
        wide = problem.dtypes.input == "float32"
        found: dict[str, tuple[Any, ...]] = {
            "bm": (16, 32, 64, 128, 256),
            "bn": (16, 32, 64, 128, 256),
            "bk": (16, 32, 64) if wide else (32, 64, 128),
            "group": (1, 4, 8, 16),
            "stages": (2, 3, 4, 5),
            "warps": (4, 8),
        }
        if wide:
            found["precision"] = tuple(PRECISIONS)
        return found

    def constraints(self, problem: Problem) -> list[Any]:
        """Return what every Config must fulfil: sums fit the registers, every thread has some."""

        def few(bm: int, bn: int, warps: int) -> bool:
            return 8 <= bm * bn // (32 * warps) <= _MOST_SUMS

        def plain(bm: int, bn: int, bk: int, warps: int, precision: str) -> bool:
            sums = bm * bn // (32 * warps)
            return precision != "ieee" or (sums <= _MOST_PLAIN_SUMS and bk <= 32)

        found: list[Any] = [(few, "8 to 256 sums for each thread")]
        if problem.dtypes.input == "float32":
            found.append((plain, "without tensor cores, 64 sums for each thread"))
        return found

    def rows(self, problem: Problem) -> tuple[int, int]:
        """Return the elements of a row of each factor, as they lie in memory."""
        raise NotImplementedError

    def tile(self, problem: Problem, m: int, n: int, batch: int = 1) -> dict[str, Any]:
        """Return a good tile for m rows and n columns, in constant time."""
        if problem.dtypes.input == "float32":
            bm, bn = power(m, 16, 64), power(n, 16, 64)
            while bm * bn < 8 * 32 * 4:
                bm, bn = (2 * bm, bn) if bm <= bn else (bm, 2 * bn)
            return {
                "bm": bm, "bn": bn, "bk": 16, "group": 8, "stages": 3, "warps": 4,
                "precision": "ieee",
            }  # fmt: skip
        # Another array of the result's size needs registers of its own.
        more = bool({"c", "residual"} & {operand.name for operand in problem.operands})
        # Rows that are not copied asynchronously take a thread's registers on their way.
        ragged = any(row % _EVEN for row in self.rows(problem))
        bm, bn = power(m, 16, 128), power(n, 32, 128 if more or ragged else 256)
        # Smaller tiles, until there is one for each multiprocessor; of few rows or columns as well,
        # for a thread loads a share of both factors.
        while ceiling(m, bm) * ceiling(n, bn) * batch < self.target.units and (
            bm * bn > 64 * 64 or max(bm, bn) > 128
        ):
            bm, bn = (bm // 2, bn) if bm > bn else (bm, bn // 2)
        while bm * bn < 8 * 32 * 4:
            bm, bn = (2 * bm, bn) if bm <= bn else (bm, 2 * bn)
        few = 128 * 128 if self.target.warpgroups and not (more or ragged) else 64 * 128
        warps = 8 if bm * bn > few else 4
        bk = 32 if ragged else 64
        return {"bm": bm, "bn": bn, "bk": bk, "group": 8, "stages": 4, "warps": warps}

    def fitting(self, problem: Problem, values: Mapping[str, Any], spare: int = 0) -> Config:
        """Return the Config, with as many stages as leave ``spare`` bytes of shared memory."""
        found = Config(values)
        room = self.target.shared - spare
        while int(found["stages"]) > 2 and self.shared_memory(problem, found) > room:
            found = found.replace(stages=int(found["stages"]) - 1)
        return found

    def splits_for(self, tiles: int, depth: int) -> int:
        """Return in how many parts to sum, so that each multiprocessor has a tile."""
        splits = 1
        while splits < 8 and 2 * splits * tiles <= self.target.units and depth >= 512 * splits:
            splits *= 2
        return splits

    def strict(self, problem: Problem, config: Config) -> bool:
        """Whether factors are multiplied as they are."""
        return self.precision(problem, config) == "ieee"

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return the Op's budget, and what the precision loses."""
        budget: float = problem.error_budget()
        return max(budget, PRECISIONS[self.precision(problem, config)])

    def why_useless(self, problem: Problem, config: Config, found: Facts) -> str | None:
        """Return that instructions for matrices were wanted and are not there."""
        if self.plain(problem, config):
            return None
        if not found.tensor_cores:
            return "the compiler chose no instructions for matrices"
        wide = problem.dtypes.input == "float32" and self.precision(problem, config) != "tf32"
        if self.target.warpgroups and not wide and int(config["bm"]) >= 64:
            groups = {"HGMMA", "IGMMA"} & set(found.tensor_cores.split())
            return None if groups else "the compiler chose no instructions of warp groups (HGMMA)"
        return None

    def product(self, problem: Problem, config: Config, upcast: bool) -> dict[str, Any]:
        """Return the constants of tiles and of their product."""
        return {
            "BM": int(config["bm"]),
            "BN": int(config["bn"]),
            "BK": int(config["bk"]),
            "GROUP_M": int(config["group"]),
            "PRECISION": self.precision(problem, config),
            "UPCAST": upcast and problem.dtypes.input == "bfloat16",
        }

    def workspace(self, problem: Problem, config: Config) -> int:
        """Return the bytes of the partial sums."""
        splits = int(config.get("splits", 1))
        return splits * math.prod(problem.output.shape) * 4 if splits > 1 else 0

    def finished(
        self, problem: Problem, config: Config, main: Launch, scale: tuple[float, float]
    ) -> list[Launch]:
        """Return the launch, and where the depth is split the one that adds the parts.

        Args:
            problem: the Problem.
            config: its Config.
            main: what multiplies.
            scale: alpha and beta.
        """
        splits = int(config.get("splits", 1))
        if splits == 1:
            return [main]
        arguments, constants = epilogue(problem)
        total = math.prod(problem.output.shape)
        last = Launch(
            "epilogue.reduce_splits",
            (ceiling(total, _BLOCK), 1, 1),
            {
                "partial": Slot(PARTIAL, self.sums(problem)), **arguments,
                "out": Slot(OUT, problem.output.dtype.name), "total": total,
                "columns": problem.output.shape[-1], "alpha": Number(scale[0]),
                "beta": Number(scale[1]),
            },
            {"SPLITS": splits, "BLOCK": _BLOCK, "SCALED": scale[0] != 1, **constants},
        )  # fmt: skip
        return [main, last]

    @staticmethod
    def sums(problem: Problem) -> str:
        """Return the dtype of sums."""
        return "int32" if problem.dtypes.input == "int8" else "float32"


def pipeline(target: Target, problem: Problem, config: Config, rows: tuple[int, int]) -> int:
    """Return the bytes of shared memory of a pipeline of tiles by pointers.

    That is what the compiler reports where the rows of both operands are multiples of 16 elements
    and there are three stages or more. Other rows are copied through registers, and in the place
    of fewer stages the sums may need more room when they are stored: then it is the least.

    Args:
        target: with its instructions for matrices.
        problem: with the dtype.
        config: tiles, stages, and precision.
        rows: elements of a row of a, and of b.
    """
    bm, bn, bk, stages = (int(config[name]) for name in ("bm", "bn", "bk", "stages"))
    size, precision = problem.operands[0].dtype.itemsize, str(config.get("precision", ""))
    left, right = bm * bk * size, bn * bk * size
    # Instructions of warp groups read both tiles from shared memory while others are copied there;
    # others have read them into registers by then, and need one stage less.
    groups = target.from_shared and bm >= 64 and precision != "ieee"
    extra = BARRIERS if groups and target.tensor_memory else 0
    split = SPLIT.get(precision, 0) if groups else 0
    if split:
        # Parts of the right factor, which are written back to shared memory.
        return (stages - 1) * (left + right) + split * bn * bk + extra // 2
    held = stages if groups else stages - 1
    once = min(held, 1)
    return (
        left * (held if rows[0] % _EVEN == 0 else once)
        + right * (held if rows[1] % _EVEN == 0 else once)
        + extra
    )
