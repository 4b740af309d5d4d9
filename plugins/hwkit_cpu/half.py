"""float16 and bfloat16 for every float32 kernel: widen, compute in float32, round once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from hwkit import Config, Kernel, Problem, Run, Space

from .depthwise import Depthwise
from .device import CompiledKernel, compiled
from .pool2d import Pool
from .tasks import most_threads
from .tiles import operand_arguments

__all__ = ["HalfKernel", "PiecewiseHalfKernel", "kernels"]

NARROW = ("float16", "bfloat16")
PIECEWISE = (Pool, Depthwise)

# Bytes of an image that are widened at a time, and the most and the fewest channels last, as in C.
PIECE, MOST_PIECE, LEAST_CHANNELS = 256 << 10, 1 << 30, 128


def kernels(plain: Iterable[Kernel]) -> list[Kernel]:
    """Return a kernel for narrow floats for each of the ``plain`` ones."""
    return [
        (PiecewiseHalfKernel if isinstance(kernel, PIECEWISE) else HalfKernel)(kernel)
        for kernel in plain
    ]


@lru_cache(maxsize=256)
def widened(problem: Problem) -> Problem:
    """Return the same problem in float32."""
    return problem.op.make(
        "float32",
        problem.layout,
        problem.sizes,
        problem.attributes,
        problem.epilogue,
        problem.packed,
    )


class HalfKernel(CompiledKernel):
    """A float32 kernel on operands that are stored narrow, widened as a whole.

    Args:
        inner: the kernel that computes; its tunables are this one's.
    """

    def __init__(self, inner: Kernel) -> None:
        self.inner = inner
        self.op = inner.op
        self.name = f"{inner.name}_half"
        self.version = inner.version

    def supports(self, problem: Problem) -> bool | str:
        """All operands narrow and alike, and the inner kernel willing."""
        dtypes = problem.dtypes
        alike = dtypes.input == dtypes.weight == dtypes.output
        if not alike or dtypes.input not in NARROW or dtypes.accumulate != "float32":
            return "it is for float16 and bfloat16 with float32 accumulation"
        return self.inner.supports(widened(problem))

    def space(self, problem: Problem) -> Space:
        """Return the inner kernel's space."""
        return self.inner.space(widened(problem))

    def default(self, problem: Problem) -> Config:
        """Return the inner kernel's default."""
        return self.inner.default(widened(problem))

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the inner kernel's run between two conversions."""
        run: Run = compiled().half(
            self.inner.build(widened(problem), config),
            *operand_arguments(problem),
            threads=most_threads(),
        )
        return run

    def strict(self, problem: Problem, config: Config) -> bool:
        """As the inner kernel: conversions round once."""
        return self.inner.strict(widened(problem), config)

    def deterministic(self, problem: Problem, config: Config) -> bool:
        """As the inner kernel."""
        return self.inner.deterministic(widened(problem), config)

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return the inner bound plus one rounding of the output, which is half of the budget."""
        budget = problem.error_budget()
        return max(budget, budget / 2 + self.inner.error_bound(widened(problem), config))

    def rank(self, problem: Problem) -> int:
        """As the inner kernel."""
        return self.inner.rank(widened(problem))


class PiecewiseHalfKernel(HalfKernel):
    """A float32 kernel that widens images by itself, a piece of some rows at a time."""

    def supports(self, problem: Problem) -> bool | str:
        """As the inner kernel, and what one row of the output needs must fit."""
        answer = super().supports(problem)
        if answer is True and _row_bytes(problem) > MOST_PIECE:
            return "one row of its windows does not fit its scratch memory"
        return answer

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the inner kernel's run, which knows how its operands are stored."""
        return self.inner.build(problem, config)


def _row_bytes(problem: Problem) -> int:
    """Return the bytes of the smallest piece: one output row of few channels and what it needs."""
    if problem.op.name.startswith("global"):
        return 0
    c, (q, k) = problem["c"], _columns(problem)
    reach = min((problem["r"] - 1) * problem["dilation"][0] + 1, problem["h"])
    if problem.layout == "nchw":
        c, k = 1, k // c
    elif k == c:
        c = k = min(c, LEAST_CHANNELS)
    return int(4 * (reach * problem["w"] * c + 2 * q * k))


def _columns(problem: Problem) -> tuple[int, int]:
    """Return width and channels of the output."""
    first, second, third = problem.output.shape[1:]
    return (second, third) if problem.layout == "nhwc" else (third, first)
