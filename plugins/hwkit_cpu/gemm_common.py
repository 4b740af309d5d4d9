"""What the kernels of the Ops gemm and matmul have in common."""

from __future__ import annotations

from typing import Any

from hwkit import Config, Problem, Run

from . import tiles
from .device import compiled

__all__ = [
    "NC",
    "GemmKernel",
    "b_bytes",
    "batch_of",
    "first_tile",
    "of_pixels",
    "operation",
    "streams",
    "transposes",
]

NC = (48, 96, 192, 384, 768, 1536, 3072, 12288)
"""Columns of a chunk to choose from."""

# So many rows of a are multiplied at the speed at which a b of more than so many bytes arrives.
_STREAM_ROWS, _STREAM_BYTES = 24, 5 << 20


class GemmKernel(tiles.ProductKernel):
    """What all have in common.

    Args:
        op: ``"gemm"`` or ``"matmul"``.

    Attributes:
        algorithm: the compiled kernel's.
        narrow: what the compiled kernel keeps a packed b in; its own dtype if ``None``.
    """

    algorithm: str
    narrow: str | None = None

    def __init__(self, op: str) -> None:
        self.op = op

    def supports(self, problem: Problem) -> bool | str:
        """Whether the dtypes and the sizes fit."""
        return tiles.refusal(problem) or True

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the run of the compiled kernel."""
        double = problem.dtypes.input == "float64"
        rows, vectors = tiles.tile_of(config.get("tile", first_tile(double)), double)
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
            storage=self.narrow,
            threads=config["threads"],
            **operation(problem),
        )
        return run

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return a bound for random operands: blocks of the depth are summed one after another."""
        k = float(problem["k"])
        block = min(float(config.get("kc", k)), k)
        return tiles.rounding(problem.dtypes.input == "float64", block + k / max(block, 1.0))


def first_tile(double: bool) -> str:
    """Return the text of the tile that is the first choice."""
    return tiles.tile_text(tiles.facts(double).tiles[0], double)


def b_bytes(problem: Problem) -> int:
    """Return the bytes of one matrix b."""
    size: int = problem.output.dtype.itemsize
    return int(problem["k"]) * int(problem["n"]) * size


def streams(problem: Problem) -> bool:
    """Whether b comes as it is, from far, for so few rows that it is best read once, in order."""
    far = b_bytes(problem) > _STREAM_BYTES
    return far and not problem.packed and int(problem["m"]) <= _STREAM_ROWS


def batch_of(problem: Problem) -> int:
    """Return how many products there are."""
    return int(problem["b"]) if problem.op.name == "matmul" else 1


def transposes(problem: Problem) -> tuple[bool, bool]:
    """Return how a and b are read; a vector is the same either way, and takes the faster one."""
    if problem.op.name == "matmul":
        return False, bool(problem["n"] == 1)
    return (
        problem.layout[0] == "t" and problem["m"] > 1,
        problem.layout[1] == "t" or problem["n"] == 1,
    )


def of_pixels(problem: Problem) -> dict[str, Any]:
    """Return the sizes of the product that a 1x1 convolution with channels last is."""
    pixels = problem["n"] * problem["h"] * problem["w"]
    return {"m": pixels, "n": problem["k"], "k": problem["c"], "transpose_b": True}


def operation(problem: Problem) -> dict[str, Any]:
    """Return the arguments of the compiled kernel that say what to compute."""
    transpose_a, transpose_b = transposes(problem)
    if problem.op.name == "matmul":
        batch = batch_of(problem)
        a, b = problem.operands[:2]
        return {
            "transpose_b": transpose_b,
            "batch": batch,
            "a_shared": a.shape[0] < batch,
            "b_shared": b.shape[0] < batch,
        }
    return {
        "transpose_a": transpose_a,
        "transpose_b": transpose_b,
        "alpha": problem["alpha"],
        "beta": problem["beta"],
        **tiles.epilogue_arguments(problem),
    }
