"""float16 and bfloat16 for every float32 kernel: widen, compute in float32, round once."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from hwkit import Config, Kernel, Operand, Problem, Run, Space

from .device import compiled
from .tasks import most_threads

__all__ = ["HalfKernel", "HalfRun", "kernels"]

Array = np.ndarray[Any, Any]
NARROW = ("float16", "bfloat16")


def kernels(plain: Iterable[Kernel]) -> list[Kernel]:
    """Return a kernel for narrow floats for each of the ``plain`` ones."""
    return [HalfKernel(kernel) for kernel in plain]


@lru_cache(maxsize=256)
def widened(problem: Problem) -> Problem:
    """Return the same problem in float32."""
    return problem.op.make(
        "float32", problem.layout, problem.sizes, problem.attributes, problem.epilogue
    )


class HalfKernel(Kernel):
    """A float32 kernel on operands that are stored narrow.

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

    def build(self, problem: Problem, config: Config) -> HalfRun:
        """Return the inner kernel's run between two conversions."""
        inner = self.inner.build(widened(problem), config)
        return HalfRun(inner, problem.operands, problem.output)

    def strict(self, problem: Problem, config: Config) -> bool:
        """As the inner kernel: conversions round once."""
        return self.inner.strict(widened(problem), config)

    def deterministic(self, problem: Problem, config: Config) -> bool:
        """As the inner kernel."""
        return self.inner.deterministic(widened(problem), config)

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return the inner bound plus one rounding of the output."""
        wide = widened(problem)
        excess = self.inner.error_bound(wide, config) - wide.error_budget()
        return problem.error_budget() + max(excess, 0.0)

    def rank(self, problem: Problem) -> int:
        """As the inner kernel."""
        return self.inner.rank(widened(problem))

    def workspace(self, problem: Problem, config: Config) -> int:
        """Return the inner workspace plus float32 copies of what is narrow."""
        wide = widened(problem)
        return self.inner.workspace(wide, config) + wide.nbytes


class HalfRun:
    """A float32 run on narrow operands. Each thread keeps its own wide copies.

    Args:
        inner: the float32 run.
        operands: what a call takes.
        output: what it makes.
    """

    def __init__(self, inner: Run, operands: Iterable[Operand], output: Operand) -> None:
        self._inner: Any = inner
        self._operands = tuple(operands)
        self._output = output
        self._kept = threading.local()
        self._threads = most_threads()
        wide = sum(2 * o.nbytes for o in (*self._operands, output))
        self.workspace: int = getattr(inner, "workspace", 0) + wide

    def _wide(self) -> list[Array]:
        found: list[Array] | None = getattr(self._kept, "arrays", None)
        if found is None:
            every = (*self._operands, self._output)
            found = self._kept.arrays = [np.empty(o.shape, np.float32) for o in every]
        return found

    def __call__(self, *operands: Array, out: Array) -> None:
        """Widen, compute, round into ``out``."""
        convert = compiled().convert
        *wide, result = self._wide()
        for narrow, copy in zip(operands, wide, strict=True):
            convert(narrow, copy, self._threads)
        self._inner(*wide, out=result)
        convert(result, out, self._threads)

    def prepack(self, constants: dict[int, Array]) -> HalfRun:
        """Return a run that keeps these operands as the inner kernel packs them, in float32."""
        convert = compiled().convert
        wide = {position: np.empty(a.shape, np.float32) for position, a in constants.items()}
        for position, array in constants.items():
            convert(array, wide[position], self._threads)
        rest = (o for i, o in enumerate(self._operands) if i not in constants)
        return HalfRun(self._inner.prepack(wide), rest, self._output)
