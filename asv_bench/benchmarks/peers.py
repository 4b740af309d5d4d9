"""How many times longer another library takes: above 1, hwkit is the faster.

One process per library, in turns, the order flipped each round; the median over the rounds of the
ratio within a round. Every answer is checked against float64 first. Weights are packed beforehand
for all that can. The records that are there are used; without one, the default config.
"""

from __future__ import annotations

import os

from .common import PROBLEMS

LIBRARIES = ["numpy", "torch", "onnxruntime", "openvino", "xnnpack", "ncnn", "mnn"]

SETS = ["gemm", "gemm-skinny", "gemm-tiny", "resnet50", "mobilenetv1", "vgg16", "pool"]


def _enough(threads: int) -> None:
    if threads > len(os.sched_getaffinity(0)):
        raise NotImplementedError(f"there are fewer than {threads} CPUs")


class Ratio:
    """One problem and one other library."""

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
        _enough(threads)

    def track_ratio(self, library: str, problem: str, threads: int) -> float:
        from hwkit.bench import compare

        race = compare(problem, ["hwkit", library], threads=threads, rounds=15)
        if race.failed:
            raise RuntimeError(str(race.failed))
        return race.ratio(library)


class Mean:
    """The geometric mean over a set, each layer as often as its network has it.

    ``best`` is the best of all the libraries here for each problem by itself.
    """

    params = (["best", *LIBRARIES], SETS, [1, 2])
    param_names = ("library", "set", "threads")
    unit = "times hwkit's time"
    timeout = 1800
    number = 1

    def setup(self, library: str, name: str, threads: int) -> None:
        from hwkit.bench import missing

        reason = None if library == "best" else missing(library)
        if reason is not None:
            raise NotImplementedError(reason)
        if library == "numpy" and not name.startswith("gemm"):
            raise NotImplementedError("numpy has matrix products only")
        _enough(threads)

    def track_mean(self, library: str, name: str, threads: int) -> float:
        from hwkit.bench import layers
        from hwkit.bench.suite import Suite, run

        others = [library]
        if library == "best":
            others = [each for each in LIBRARIES if name.startswith("gemm") or each != "numpy"]
        suite = Suite(threads)
        run(suite, layers(name), ["hwkit", *others], rounds=9)
        mean = suite.best_mean if library == "best" else suite.mean(library)
        if mean is None:
            raise RuntimeError(f"{library} has none of these problems")
        return mean
