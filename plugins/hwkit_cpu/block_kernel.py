"""What kernels have in common that pass over arrays once, a block of elements after the other."""

from __future__ import annotations

from collections.abc import Sequence

from hwkit import Config, Problem, Space

from .device import CompiledKernel
from .tasks import most_threads, thread_counts

__all__ = ["BlockKernel"]


class BlockKernel(CompiledKernel):
    """Tunables: ``block`` elements are one task, ``threads`` share the tasks.

    Attributes:
        blocks: to choose from.
        block: the default.
    """

    blocks: Sequence[int] = (1024, 4096, 16384, 65536)
    block: int

    def space(self, problem: Problem) -> Space:
        """Return the blocks and numbers of threads."""
        return Space({"block": self.blocks, "threads": thread_counts()})

    def default(self, problem: Problem) -> Config:
        """All threads."""
        return Config({"block": self.block, "threads": most_threads()})

    def deterministic(self, problem: Problem, config: Config) -> bool:
        """Each output is computed in a fixed order, whatever is one task."""
        return True
