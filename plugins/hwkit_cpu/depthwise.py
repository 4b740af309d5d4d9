"""Depthwise convolution, ``cython/depthwise.c``: every output channel reads one input channel.

Groups of 2, 4 or 8 channels, as in ResNeXt, go by the same loops where they fill vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

from hwkit import Config, Kernel, KernelFailure, Problem, Run, Space

from .device import CompiledKernel, compiled
from .tasks import (
    TASKS_PER_THREAD,
    ladder,
    most_threads,
    on_ladder,
    part,
    thread_counts,
    transposed_block,
    transposed_bytes,
)
from .tiles import Value, facts, operand_arguments

__all__ = ["Depthwise", "FewChannels", "kernels"]

_LINE = 64  # bytes of a cache line
_SHORT = 16  # columns of the output; longer rows fill their vectors, and are best read as they are
_MOST_SCRATCH = 1 << 26  # bytes of a task; beyond it another kernel is the better choice


def kernels() -> list[Kernel]:
    """Return the kernels of this module."""
    return [Depthwise(), FewChannels()]


class Depthwise(CompiledKernel):
    """A window over each channel by itself; vectors of channels (nhwc) or of columns (nchw).

    Tunables: ``wide`` output pixels (nhwc) or rows (nchw) are computed together, ``rows`` and
    ``block`` channels are one task, ``threads`` share the tasks. ``transpose`` turns images of the
    layout nchw over, a piece at a time, for the kernel of nhwc, of which ``wide`` is then.
    """

    op = "conv2d"
    name = "depthwise"

    def supports(self, problem: Problem) -> bool | str:
        """One input channel in each group, floats, something to compute."""
        if len(set(problem.dtypes)) > 1 or problem.dtypes.input not in ("float32", "float64"):
            return "it computes in float32 or float64 only"
        unfit = self._unfit(problem)
        if unfit is not None:
            return unfit
        if not all(array.nbytes for array in (problem.output, *problem.operands)):
            return "there is nothing to compute"
        if _scratch(problem, 1) > _MOST_SCRATCH:
            return "one row of its windows does not fit its scratch memory"
        return True

    def _unfit(self, problem: Problem) -> str | None:
        """Return why its groups do not fit, or ``None``."""
        if problem["groups"] == problem["c"]:
            return None
        return f"it needs groups={problem['c']}, one for each input channel"

    def space(self, problem: Problem) -> Space:
        """Return the blockings that make sense for the sizes."""
        p, _, k = _output(problem)
        nhwc = problem.layout == "nhwc"
        rows = [r for r in ladder(p) if _scratch(problem, r) <= _MOST_SCRATCH]
        heights = (1, 4, 7, 14, 28, 56) if _in_place(problem) else (1, 2, 4, 7)
        tunables: dict[str, Sequence[Value]] = {
            "wide": (1, 4, 7) if nhwc else heights,
            "rows": rows,
            "block": ladder(k, self._least_block(problem)),
            "threads": thread_counts(),
        }
        if not nhwc:
            tunables["transpose"] = (False, True) if k == problem["c"] else (False,)
        return Space(tunables)

    def default(self, problem: Problem) -> Config:
        """Whole rows of all channels (nhwc) or whole planes (nchw), some tasks for each thread."""
        p, q, k = _output(problem)
        threads = most_threads()
        transpose = problem.layout == "nchw" and self._turned(problem)
        if problem.layout == "nhwc":
            rows, block = min(8, part(p, problem["n"], threads)), ladder(k)[-1]
        else:
            rows = (
                p if _in_place(problem) and problem["n"] * k >= TASKS_PER_THREAD * threads else 64
            )
            tall = -(-p // rows)
            block = on_ladder(part(k, problem["n"] * tall, threads), k)
            if transpose:  # each pixel has its start, which few channels do not repay
                block = transposed_block(block, k)
        rows = on_ladder(rows, p)
        while rows > 1 and _scratch(problem, rows) > _MOST_SCRATCH:
            rows //= 2
        values: dict[str, Value] = {
            "wide": self._together(problem, q),
            "rows": rows,
            "block": max(block, self._least_block(problem)),
            "threads": threads,
        }
        if problem.layout == "nchw":
            values["transpose"] = transpose
        return Config(values)

    def _together(self, problem: Problem, q: int) -> int:
        """Return how many of ``q`` pixels (nhwc), or how many rows, are computed together."""
        if problem.layout == "nhwc":
            return _wide(problem, q)
        if self._turned(problem):  # a piece lies dense, so that its pixels share no sets
            return 7 if q >= 7 else 4 if q >= 4 else 1
        # Down the image, a vector of columns leaves few lines in the first cache for the next one.
        return 56 // problem["stride"][0] if _in_place(problem) else 4

    def _turned(self, problem: Problem) -> bool:
        """Whether images of the layout nchw are best turned over."""
        _, q, k = _output(problem)
        return _short_rows(problem, q, k)

    def _least_block(self, problem: Problem) -> int:
        """Return the fewest channels of a task; where they are repeated, a task must have all."""
        _, _, k = _output(problem)
        if problem.layout == "nchw":
            return 1
        return 16 if k == problem["c"] else ladder(k)[-1]

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the compiled run."""
        p, q, k = _output(problem)
        try:
            run: Run = compiled().depthwise(
                *operand_arguments(problem),
                **{name: problem[name] for name in ("n", "c", "h", "w", "r", "s")},
                k=k, p=p, q=q, stride=problem["stride"], dilation=problem["dilation"],
                top=problem["pad"][0], left=problem["pad"][2], nhwc=problem.layout == "nhwc",
                is_double=problem.dtypes.input == "float64", bias="bias" in problem.epilogue,
                residual="residual" in problem.epilogue, activation=problem.activation,
                mix=problem["c"] // problem["groups"], **config,
            )  # fmt: skip
        except MemoryError as error:
            raise KernelFailure("memory", str(error)) from error
        return run

    def deterministic(self, problem: Problem, config: Config) -> bool:
        """Each output is one sum in a fixed order."""
        return True

    def rank(self, problem: Problem) -> int:
        """Ahead of matrix products where there are few multiply-adds for each input."""
        if problem["k"] > 4 * problem["c"]:
            return -10
        # One channel in channels-last order leaves vectors nearly empty, and so does its product.
        windowed = problem["r"] * problem["s"] > 1 or problem["k"] == 1
        planes = problem.layout == "nchw" and windowed
        return 100 if problem["c"] > 1 or planes else -10


class FewChannels(Depthwise):
    """Groups of 2, 4 or 8 channels, as many out as in: vectors run over several groups.

    Each channel of a group is spread over it in registers. Tunables as of :class:`Depthwise`; the
    layout nchw is always turned over.
    """

    name = "few_channels_conv2d"

    def _unfit(self, problem: Problem) -> str | None:
        mix, vector = problem["c"] // problem["groups"], facts(_double(problem)).vector
        if problem["k"] == problem["c"] and mix in (2, 4, 8) and mix <= vector:
            return None
        return f"it needs groups of 2, 4 or 8 channels, at most {vector}, as many out as in"

    def space(self, problem: Problem) -> Space:
        """Return the blockings that make sense for the sizes."""
        p, _, k = _output(problem)
        tunables: dict[str, Sequence[Value]] = {
            "wide": (1, 4, 7),
            "rows": [r for r in ladder(p) if _scratch(problem, r) <= _MOST_SCRATCH],
            "block": ladder(k, self._least_block(problem)),
            "threads": thread_counts(),
        }
        if problem.layout == "nchw":
            tunables["transpose"] = (True,)
        return Space(tunables)

    def _together(self, problem: Problem, q: int) -> int:
        return 7 if q >= 7 else 4 if q >= 4 else 1

    def _turned(self, problem: Problem) -> bool:
        return True

    def _least_block(self, problem: Problem) -> int:
        return 16

    def rank(self, problem: Problem) -> int:
        """Ahead of matrix products, whose vectors such groups leave nearly empty.

        But not where they leave its own empty: a group alone, and some vectors of AVX-512, of which
        products fill half with 8 channels.
        """
        part = problem["c"] % facts(_double(problem)).vector
        mostly_full = problem["groups"] > 1 and not (
            part and problem["c"] // problem["groups"] == 8
        )
        return 100 if mostly_full else 0


def _double(problem: Problem) -> bool:
    return bool(problem.dtypes.input == "float64")


def _wide(problem: Problem, q: int) -> int:
    """Return how many pixels with channels last are best computed together."""
    size = problem.output.dtype.itemsize
    if facts(size == 8).vector * size >= _LINE:
        # 7 x 7, 14 x 14, ... are what networks have; 4 otherwise wastes less at the edge.
        return 7 if q % 7 == 0 or q > 28 else 4 if q >= 4 else 1
    # Vectors are shorter than a cache line. Fewer pixels leave registers for whole lines, which
    # counts where neighbouring pixels share the sets of the first cache.
    crowded = problem["k"] * size % 2048 == 0
    return 1 if q < 4 or (crowded and (problem["stride"][1] > 1 or q <= 7)) else 4


def _short_rows(problem: Problem, q: int, k: int) -> bool:
    """Whether rows leave too much of vectors of columns empty, and channels fill whole ones.

    Transposing then takes 0.4 to 0.9 of the time on AVX2 and 0.2 to 1.05 on AVX-512 (Zen 4), and
    more than all for long rows; beside windows that are read in place 0.55 to 0.95 on AVX2, and 0.5
    to 0.85 on AVX-512. Other tables were not measured.
    """
    size = problem.output.dtype.itemsize
    vector = facts(size == 8).vector
    most = max(_SHORT, 2 * vector)
    if _in_place(problem):
        small, step = problem["s"] == 3, problem["stride"][0]
        if vector * size >= _LINE:  # pairs of rows fill vectors, and load no more with stride 2
            most = 0 if small and step == 2 else vector // 2
        else:
            most = vector * (5 if not small else 5 - step) // 2
    return bool(k == problem["c"] and k >= vector and q <= most)


def _in_place(problem: Problem) -> bool:
    """Whether an image of the layout nchw is read where it lies (``depthwise_planes.inc``)."""
    window, stride = (problem["r"], problem["s"]), problem["stride"]
    dense = problem["dilation"] == (1, 1) and problem["groups"] == problem["c"]
    return dense and window in ((3, 3), (5, 5)) and stride in ((1, 1), (2, 2))


def _output(problem: Problem) -> tuple[int, int, int]:
    """Return height, width and channels of the output."""
    first, second, third = problem.output.shape[1:]
    return (first, second, third) if problem.layout == "nhwc" else (second, third, first)


def _scratch(problem: Problem, rows: int) -> int:
    """Return the bytes of a task of so many output rows, at most a vector too many for each."""
    item = problem.output.dtype.itemsize
    reach = (rows - 1) * problem["stride"][0] + (problem["r"] - 1) * problem["dilation"][0] + 1
    _, q, k = _output(problem)
    if problem.layout == "nhwc":
        pointers = 8 * problem["r"] * (8 * problem["s"] + 16)
        spread = min(reach, problem["h"]) * problem["w"] * k * item if k != problem["c"] else 0
        return int(pointers + spread)
    if _in_place(problem):
        return int(problem["w"] * item)
    sx = problem["stride"][1]
    phase = q + 32 + (problem["s"] - 1) * problem["dilation"][1] // sx
    return int(phase * sx * reach * item)


def _scratch_transposed(problem: Problem) -> int:
    """Return the most bytes of pointers, and of a piece with its residual and its result."""
    pointers = 8 * problem["r"] * (8 * problem["s"] + 16) + 64
    return int(pointers + transposed_bytes(problem, 2 * _output(problem)[1]))
