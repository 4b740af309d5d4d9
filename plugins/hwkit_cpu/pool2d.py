"""Pooling, ``cython/pool2d.c``: maximum and mean over windows and over whole images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hwkit import Config, Kernel, KernelFailure, Problem, Run, Space

from .device import CompiledKernel, compiled
from .tasks import (
    ladder,
    most_threads,
    on_ladder,
    part,
    thread_counts,
    transposed_block,
)
from .tiles import Value, facts, operand_arguments

__all__ = ["GlobalPool", "WindowPool", "kernels"]

_MOST_SCRATCH = 1 << 26  # bytes of a task
_LINES = 16384  # bytes of the lines that a small window keeps at a time
_SMALL = 64  # elements of a small window
_MOST_STRIDE = 4  # across, of a small window
# Rows of so few columns leave vectors too empty; so many channels fill them; windows of more
# elements than the third repay that an image is transposed. On AVX2 that takes 0.5 to 0.9 of the
# time then, and 1 to 2.5 of it otherwise. Other tables were not measured.
_SHORT, _FULL, _FEW_TAPS = 14, 16, 4


def kernels() -> list[Kernel]:
    """Return the kernels of this module."""
    return [
        WindowPool("max_pool2d"),
        WindowPool("avg_pool2d"),
        GlobalPool("global_max_pool2d"),
        GlobalPool("global_avg_pool2d"),
    ]


class Pool(CompiledKernel):
    """What all poolings share.

    Args:
        op: name of the Op, which says maximum or mean.
    """

    name = "pool2d"

    def __init__(self, op: str) -> None:
        self.op = op
        self.mean = "avg" in op

    def supports(self, problem: Problem) -> bool | str:
        """Floats, something to compute."""
        if len(set(problem.dtypes)) > 1 or problem.dtypes.input not in ("float32", "float64"):
            return "it computes in float32 or float64 only"
        if not all(array.nbytes for array in (problem.output, *problem.operands)):
            return "there is nothing to compute"
        return True

    def deterministic(self, problem: Problem, config: Config) -> bool:
        """Each output is one sum in a fixed order."""
        return True

    def _common(self, problem: Problem) -> dict[str, Any]:
        operands, output = operand_arguments(problem)
        return {
            "operands": operands,
            "output": output,
            **{name: problem[name] for name in ("n", "c", "h", "w")},
            "nhwc": problem.layout == "nhwc",
            "mean": self.mean,
            "is_double": problem.dtypes.input == "float64",
        }


class WindowPool(Pool):
    """A window at a time (nhwc), or rows first and columns second, by lines (nchw).

    Tunables: ``rows`` and ``block`` channels are one task, ``threads`` share the tasks.
    ``transpose`` turns images of the layout nchw over, a piece at a time, for the kernel of nhwc.
    """

    def supports(self, problem: Problem) -> bool | str:
        """As all poolings; the line buffers must fit."""
        if problem.layout == "nchw" and _scratch(problem) > _MOST_SCRATCH:
            return "one line of its windows does not fit its scratch memory"
        return super().supports(problem)

    def space(self, problem: Problem) -> Space:
        """Return the blockings that make sense for the sizes."""
        least = 16 if problem.layout == "nhwc" else 1
        tunables: dict[str, Sequence[Value]] = {
            "rows": ladder(_output(problem)[0]),
            "block": ladder(problem["c"], least),
            "threads": thread_counts(),
        }
        if problem.layout == "nchw":
            tunables["transpose"] = (False, True)
        return Space(tunables)

    def default(self, problem: Problem) -> Config:
        """Rows of all channels (nhwc) or whole planes (nchw), some tasks for each thread."""
        (p, _), n, c, threads = _output(problem), problem["n"], problem["c"], most_threads()
        if problem.layout == "nhwc":
            rows, block = on_ladder(part(p, n, threads), p), on_ladder(c, c, 16)
            return Config({"rows": rows, "block": block, "threads": threads})
        rows, block = on_ladder(p, p), on_ladder(part(c, n, threads), c)
        taps = problem["r"] * problem["s"]
        transpose = c >= _FULL and problem["w"] <= _SHORT and taps > _FEW_TAPS
        transpose = transpose and not _in_place(problem)
        block = transposed_block(block, c) if transpose else block
        return Config({"rows": rows, "block": block, "threads": threads, "transpose": transpose})

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the compiled run."""
        p, q = _output(problem)
        counts = (_counts(problem, 0, p), _counts(problem, 1, q)) if self.mean else None
        try:
            run: Run = compiled().pool(
                **self._common(problem), r=problem["r"], s=problem["s"], p=p, q=q,
                stride=problem["stride"], dilation=problem["dilation"], top=problem["pad"][0],
                left=problem["pad"][2], counts=counts, **config,
            )  # fmt: skip
        except MemoryError as error:
            raise KernelFailure("memory", str(error)) from error
        return run


class GlobalPool(Pool):
    """One pass over the image. Tunables: ``block`` channels are one task for ``threads``."""

    def space(self, problem: Problem) -> Space:
        """Return the blockings that make sense for the sizes."""
        return Space({"block": ladder(problem["c"], 16), "threads": thread_counts()})

    def default(self, problem: Problem) -> Config:
        """Some tasks for each thread, of whole cache lines where channels are neighbours."""
        c, threads = problem["c"], most_threads()
        block = part(c, problem["n"], threads)
        block = max(block, 64) if problem.layout == "nhwc" else block
        return Config({"block": on_ladder(block, c, 16), "threads": threads})

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the compiled run."""
        run: Run = compiled().global_pool(**self._common(problem), **config)
        return run


def _in_place(problem: Problem) -> bool:
    """Whether short rows are best read where they lie (``pool2d_planes.inc``), not turned over."""
    window, stride = (problem["r"], problem["s"]), problem["stride"]
    size = problem.output.dtype.itemsize
    wide = facts(size == 8).vector * size
    fits = window == (3, 3) and stride in ((1, 1), (2, 2)) and problem["dilation"] == (1, 1)
    return fits and (wide == 64 or (wide == 32 and problem["w"] > _SHORT // 2))


def _output(problem: Problem) -> tuple[int, int]:
    """Return height and width of the output."""
    shape = problem.output.shape
    return (shape[1], shape[2]) if problem.layout == "nhwc" else (shape[2], shape[3])


def _counts(problem: Problem, axis: int, size: int) -> np.ndarray[Any, Any]:
    """Return how many elements of each window count along one axis, at least 1."""
    length, (before, after) = problem["hw"[axis]], problem["pad"][2 * axis : 2 * axis + 2]
    taps, dilation = problem["rs"[axis]], problem["dilation"][axis]
    low, high = (-before, length + after) if problem["count_include_pad"] else (0, length)
    start = np.arange(size, dtype=np.int64) * problem["stride"][axis] - before
    # Taps start + i * dilation in [low, high): the first one inside, and the first one behind.
    first = np.clip(-((start - low) // dilation), 0, taps)
    behind = np.clip(-((start - high) // dilation), 0, taps)
    counts: np.ndarray[Any, Any] = np.maximum(behind - first, 1)
    return counts


def _scratch(problem: Problem) -> int:
    """Return the bytes of a task's line buffers, at most some vectors too many."""
    q, item = _output(problem)[1], problem.output.dtype.itemsize
    (_, sx), reach = problem["stride"], (problem["s"] - 1) * problem["dilation"][1]
    if sx <= _MOST_STRIDE and problem["r"] * problem["s"] <= _SMALL:
        line = max((q + 32) * sx + reach, problem["pad"][2] + problem["w"] + 48) + 16
        return int(max(line * item, _LINES) + line * item)
    return int(((q + 32 + reach // sx) * sx + problem["w"] + 32) * item)
