"""Kernels of the Ops gemm and matmul: tiles by pointers, and persistent by descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hwkit import Config, Kernel, Problem, Space

from .common import FEW, ceiling, epilogue
from .compiled import Facts, version
from .launch import OUT, PARTIAL, Launch, Number, Slot
from .product import BARRIERS, PRECISIONS, SPLIT, ProductKernel, pipeline, power
from .target import Target

if TYPE_CHECKING:
    from hwkit import Device

__all__ = ["DescriptorGemm", "Product", "TileGemm", "kernels"]

# Descriptors: strides are multiples of this many bytes.
_STRIDE = 16
# Beyond this a stride times a tile's rows does not fit 31 bits.
_MOST_STRIDE = 2**22
# Bytes of a barrier; a pipeline by descriptors has one for each stage.
_BARRIER = 8


def kernels(target: Target, device: Device | None = None) -> list[Kernel]:
    """Return the kernels of this module."""
    found: list[Kernel] = [TileGemm(target, op, device) for op in ("gemm", "matmul")]
    if target.descriptors:
        found.append(DescriptorGemm(target, "gemm", device))
    return found


class Product:
    """Sizes and strides of a product: of gemm, of matmul, and of a 1x1 convolution."""

    def __init__(self, problem: Problem) -> None:
        if problem.op.name == "conv2d":
            self.m = int(problem.output.nbytes // problem.output.dtype.itemsize // problem["k"])
            self.n, self.k, self.layout = int(problem["k"]), int(problem["c"]), "nt"
        else:
            self.m, self.n, self.k = (int(problem[name]) for name in "mnk")
            self.layout = problem.layout or "nn"
        self.a_row, self.a_column = (1, self.m) if self.layout[0] == "t" else (self.k, 1)
        self.b_row, self.b_column = (1, self.k) if self.layout[1] == "t" else (self.n, 1)
        self.batch = int(problem.sizes.get("b", 1)) if problem.op.name == "matmul" else 1
        shared = problem.attributes.get("shared", "none")
        self.a_batch = 0 if shared == "a" or self.batch == 1 else self.m * self.k
        self.b_batch = 0 if shared == "b" or self.batch == 1 else self.k * self.n
        self.alpha = float(problem.attributes.get("alpha", 1.0))  # type: ignore[arg-type]
        self.beta = float(problem.attributes.get("beta", 0.0))  # type: ignore[arg-type]

    @property
    def strides(self) -> tuple[int, ...]:
        """The four strides within a matrix, and that of the result."""
        return self.a_row, self.a_column, self.b_row, self.b_column, self.n


class _Gemm(ProductKernel):
    """What both have in common."""

    def depth(self, problem: Problem) -> int:
        """Return k."""
        return Product(problem).k

    def rows(self, problem: Problem) -> tuple[int, int]:
        """Return the longer stride of each factor."""
        found = Product(problem)
        return max(found.a_row, found.a_column), max(found.b_row, found.b_column)

    def refusal(self, problem: Problem) -> str | None:
        """Return why dtypes or sizes do not fit."""
        reason = self.dtype_refusal(problem)
        if reason is not None:
            return reason
        found = Product(problem)
        if max(found.m, found.n, found.k) > FEW or max(found.strides) > _MOST_STRIDE:
            return f"a size is beyond what it counts: strides up to {_MOST_STRIDE}"
        if ceiling(found.m, 16) * ceiling(found.n, 16) * found.batch > FEW:
            return f"it has fewer than {FEW} tiles"
        if problem.dtypes.input == "int8":
            if (found.alpha, found.beta) != (1.0, 0.0):
                return "of integers it takes a @ b only, without alpha and beta"
            if problem.activation is not None and problem.activation[0] != "relu":
                return "of integers its only activation is relu"
        return None

    def arguments(self, problem: Problem) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what both kernels are given: arrays, sizes, scalars, and the epilogue."""
        found = Product(problem)
        names = [operand.dtype.name for operand in problem.operands]
        given, constants = epilogue(problem)
        arguments = {
            "a": Slot(0, names[0]), "b": Slot(1, names[1]), **given,
            "out": Slot(OUT, problem.output.dtype.name),
            "m": found.m, "n": found.n, "k": found.k,
            "alpha": Number(found.alpha), "beta": Number(found.beta),
        }  # fmt: skip
        return arguments, {**constants, "SCALED": found.alpha != 1}

    def rank(self, problem: Problem) -> int:
        """First for what tensor cores multiply, last for plain float32."""
        return -1 if problem.dtypes.input == "float32" else 5


class TileGemm(_Gemm):
    """A tile of the result for each program, by pointers; the depth may be split."""

    name = "triton_tiles"

    def space(self, problem: Problem) -> Space:
        """Return tiles, pipeline, warps, order, and parts of the depth."""
        k = self.depth(problem)
        return Space(
            {**self.values(problem), "splits": (1, 2, 4, 8)},
            [
                *self.constraints(problem),
                (
                    lambda bk, splits: splits == 1 or splits * bk <= k,
                    "every part of the depth has a step",
                ),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return the largest tile that leaves no multiprocessor idle; a deep k is split."""
        found = Product(problem)
        values = self.tile(problem, found.m, found.n, found.batch)
        tiles = ceiling(found.m, values["bm"]) * ceiling(found.n, values["bn"]) * found.batch
        return self.fitting(problem, {**values, "splits": self.splits_for(tiles, found.k)})

    def shared_memory(self, problem: Problem, config: Config) -> int:
        """Return the bytes of the pipeline's tiles."""
        return pipeline(self.target, problem, config, self.rows(problem))

    def launches(self, problem: Problem, config: Config, upcast: bool = False) -> list[Launch]:
        """Return the product, and the sum of its parts."""
        found, splits = Product(problem), int(config["splits"])
        arguments, constants = self.arguments(problem)
        bm, bn, bk = (int(config[name]) for name in ("bm", "bn", "bk"))
        tiles = ceiling(found.m, bm) * ceiling(found.n, bn) * found.batch
        main = Launch(
            "gemm.gemm_tiles",
            (tiles, splits, 1),
            {
                **arguments, "partial": Slot(PARTIAL, self.sums(problem)),
                "a_row": found.a_row, "a_column": found.a_column, "a_batch": found.a_batch,
                "b_row": found.b_row, "b_column": found.b_column, "b_batch": found.b_batch,
            },
            {
                **constants, **self.product(problem, config, upcast), "SPLITS": splits,
                "EVEN_K": found.k % bk == 0, "INTEGER": problem.dtypes.input == "int8",
            },
            int(config["warps"]),
            int(config["stages"]),
            self.workspace(problem, config),
        )  # fmt: skip
        return self.finished(problem, config, main, (found.alpha, found.beta))


class DescriptorGemm(_Gemm):
    """Persistent: a program for each multiprocessor, tiles through tensor descriptors.

    ``specialized`` gives copying and multiplying to warps of their own.
    """

    name = "triton_descriptors"

    def refusal(self, problem: Problem) -> str | None:
        """Return why descriptors cannot describe the operands."""
        reason = super().refusal(problem)
        if reason is not None or problem.dtypes.input == "int8":
            return reason or "it takes no integers"
        found, size = Product(problem), problem.operands[0].dtype.itemsize
        if any(stride * size % _STRIDE for stride in (*self.rows(problem), found.n)):
            return f"rows of a, b and the result must be multiples of {_STRIDE} bytes"
        if size == 4 and found.layout != "nt":
            return "of float32 it takes depth innermost only (layout nt), as tf32 is multiplied"
        return None

    def space(self, problem: Problem) -> Space:
        """Return tiles, pipeline, warps, parts of the epilogue, and the form of the loop."""
        values = self.values(problem)
        values["bm"], values["bn"] = (64, 128, 256), (64, 128, 256)
        if "precision" in values:
            values["precision"] = tuple(p for p in PRECISIONS if p != "ieee")
        one = (lambda specialized, flat: not (specialized and flat), "specialised loops are nested")
        four = (
            lambda specialized, warps, bm: not specialized or (warps == 4 and bm == 128),
            "warps are specialised for tiles of 128 rows, from 4 warps",
        )
        return Space(
            {**values, "parts": (1, 2), "flat": (True, False), "specialized": (False, True)},
            [*self.constraints(problem), one, four],
        )

    def constraints(self, problem: Problem) -> list[Any]:
        """Return that sums fit the registers."""
        return super().constraints(problem)[:1]

    def default(self, problem: Problem) -> Config:
        """Return 128x256 or what fits the problem."""
        found = Product(problem)
        wide = problem.dtypes.input == "float32"
        # Triton 3.6 keeps another tile of float32 in shared memory on sm_100; sm_120 has less.
        most = 128 if wide and self.target.capability >= 100 else 256
        bm, bn = power(found.m, 64, 128), power(found.n, 64, most)
        while ceiling(found.m, bm) * ceiling(found.n, bn) < self.target.units and bn > 64:
            bn //= 2
        values: dict[str, Any] = {
            "bm": bm, "bn": bn, "bk": 32 if wide else 64, "group": 8, "stages": 4,
            "warps": 8 if bm * bn > 128 * 128 else 4, "parts": 2, "flat": True,
            "specialized": False,
        }  # fmt: skip
        if wide:
            values["precision"] = "tf32"
        # What the formula leaves out: an exchange of the sums with fused operands, in float32.
        spare = 4 * bm * bn // 2 if len(problem.operands) > 2 or bm == 64 else 0
        return self.fitting(problem, values, spare)

    def shared_memory(self, problem: Problem, config: Config) -> int:
        """Return the bytes of the pipeline, of its barriers, and of the tile that is stored.

        That is what the compiler reports, but for what it needs to bring fused operands, the
        parts of split factors, specialised warps and, from sm_100 on, 64 rows to their threads.
        """
        bm, bn, bk, stages = (int(config[name]) for name in ("bm", "bn", "bk", "stages"))
        size = problem.operands[0].dtype.itemsize
        stored = bm * bn // int(config["parts"]) * size
        split = SPLIT.get(self.precision(problem, config), 0)
        if split:
            return (stages - 1) * (bm + bn) * bk * size + split * bn * bk + stored
        # Where factors are read into registers first, one stage less is enough.
        stages -= not self.target.from_shared
        barriers = stages * _BARRIER
        if self.target.tensor_memory:
            barriers = ceiling(barriers + BARRIERS, BARRIERS) * BARRIERS
        return stages * (bm + bn) * bk * size + barriers + stored

    def static_check(self, problem: Problem, config: Config) -> str | None:
        """Return also what this Triton is known not to compile, which takes it a second to say."""
        if config["specialized"] and int(config["parts"]) > 1 and version() == (3, 6):
            return "Triton 3.6 specialises no warps where a tile is stored in parts"
        return super().static_check(problem, config)

    def launches(self, problem: Problem, config: Config, upcast: bool = False) -> list[Launch]:
        """Return the one launch."""
        found = Product(problem)
        arguments, constants = self.arguments(problem)
        bm, bn = int(config["bm"]), int(config["bn"])
        tiles = ceiling(found.m, bm) * ceiling(found.n, bn)
        return [
            Launch(
                "gemm.gemm_descriptors",
                (min(tiles, self.target.units), 1, 1),
                arguments,
                {
                    **constants, **self.product(problem, config, upcast),
                    "TURNED_A": found.layout[0] == "t", "TURNED_B": found.layout[1] == "t",
                    "PARTS": int(config["parts"]), "FLAT": bool(config["flat"]),
                    "SPECIALIZED": bool(config["specialized"]),
                },
                int(config["warps"]),
                int(config["stages"]),
            )
        ]  # fmt: skip

    def why_useless(self, problem: Problem, config: Config, found: Facts) -> str | None:
        """Return that warps were to be specialised, and the compiler did not."""
        if config["specialized"] and found.threads == 32 * int(config["warps"]):
            return "the compiler did not specialise warps: the same as without"
        return super().why_useless(problem, config, found)

    def rank(self, problem: Problem) -> int:
        """First where there is a tile for each multiprocessor; never for float32's own error."""
        if problem.dtypes.input == "float32":
            return -2
        found = Product(problem)
        return 6 if ceiling(found.m, 128) * ceiling(found.n, 128) >= self.target.units else 4
