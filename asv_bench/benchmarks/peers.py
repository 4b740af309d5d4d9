"""How many times longer another library takes: above 1, hwkit is the faster.

One process per library, in turns, the order flipped each round; the median over the rounds of the
ratio within a round. Every answer is checked against float64 first.
"""

from __future__ import annotations

import os

from .common import PROBLEMS

LIBRARIES = ["numpy", "torch", "onnxruntime"]


class Ratio:
    """The records that are there are used; without one, the default config."""

    params = (
        LIBRARIES,
        [*PROBLEMS["conv2d"][:2], PROBLEMS["conv2d"][6], *PROBLEMS["gemm"][:4:2]],
        [1, 2],
    )
    param_names = ("library", "problem", "threads")
    unit = "times hwkit's time"
    timeout = 300

    def setup(self, library: str, problem: str, threads: int) -> None:
        from hwkit.bench import missing

        reason = missing(library)
        if reason is not None:
            raise NotImplementedError(reason)
        if library == "numpy" and problem.startswith("conv2d"):
            raise NotImplementedError("numpy has no convolution")
        if threads > len(os.sched_getaffinity(0)):
            raise NotImplementedError(f"there are fewer than {threads} CPUs")

    def track_ratio(self, library: str, problem: str, threads: int) -> float:
        from hwkit.bench import compare

        race = compare(problem, ["hwkit", library], threads=threads, rounds=15)
        if race.failed:
            raise RuntimeError(str(race.failed))
        return race.ratio(library)
