"""Interleaved rounds: every library once per round, the order flipped each round; then medians."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..dispatch import parse_problem
from ..errors import ArgumentError, KernelFailure, Unavailable
from ..op import Problem
from .load import Load
from .process import Built, PeerProcess
from .quantised import operands_of

__all__ = [
    "Race",
    "compare",
    "geometric_mean",
    "interleave",
    "race",
    "raced",
    "reference_file",
    "started",
]

_SETTLE_SECONDS, _WARM_SECONDS = 0.001, 0.05


@dataclass(frozen=True)
class Race:
    """What interleaved rounds showed.

    Attributes:
        samples: seconds of one run, one value a round, by library.
        built: what each library made of the problem.
        failed: why a library is not in the race.
        others: share of the CPUs' time that other processes took meanwhile; ``None`` if not known.
    """

    samples: Mapping[str, tuple[float, ...]]
    built: Mapping[str, Built] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    others: float | None = None

    @property
    def seconds(self) -> dict[str, float]:
        """Median seconds of one run, by library."""
        return {name: statistics.median(values) for name, values in self.samples.items()}

    def ratios(self, library: str, base: str = "hwkit") -> list[float]:
        """Return how many times longer ``library`` took than ``base``, round by round."""
        pairs = zip(self.samples[library], self.samples[base], strict=True)
        return [theirs / ours for theirs, ours in pairs]

    def ratio(self, library: str, base: str = "hwkit") -> float:
        """Return the median of :meth:`ratios`; above 1, ``base`` is the faster."""
        return statistics.median(self.ratios(library, base))


def interleave(
    peers: Sequence[PeerProcess],
    rounds: int = 15,
    *,
    settle: float = _SETTLE_SECONDS,
    failed: dict[str, str] | None = None,
) -> dict[str, tuple[float, ...]]:
    """Time built and warmed peers in turns and return the samples, one a round, by library.

    Args:
        peers: processes, built and warm.
        rounds: turns of each; the order is flipped every round, so that drift hits all alike.
        settle: seconds to wait between two turns, until all threads of the last one have stopped.
        failed: gets why a library dropped out, whose samples are not returned; the others go on.

    Raises:
        KernelFailure: a library ended or hung at its turn, and ``failed`` is ``None``.
    """
    samples: dict[str, list[float]] = {peer.library: [] for peer in peers}
    for number in range(rounds):
        for peer in peers if number % 2 == 0 else reversed(peers):
            if peer.library not in samples:
                continue
            time.sleep(settle)
            try:
                samples[peer.library].append(peer.time(1)[0])
            except KernelFailure as error:
                if failed is None:
                    raise
                failed[peer.library] = str(error)
                del samples[peer.library]
    return {name: tuple(values) for name, values in samples.items()}


@contextmanager
def reference_file(problem: Problem) -> Iterator[Path]:
    """Write the float64 answer for the random operands of seed 0, for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="hwkit-bench-") as folder:
        path = Path(folder) / "reference.npy"
        operands = [a.astype(np.float64) for a in operands_of(problem)]
        np.save(path, problem.reference(*operands))
        yield path


def race(
    problem: Problem | str,
    peers: Sequence[PeerProcess],
    *,
    rounds: int = 15,
    packed: bool | None = None,
    warm: float = _WARM_SECONDS,
) -> Race:
    """Build, check, warm and time one problem on running peers.

    Args:
        problem: what to compute.
        peers: processes of one number of threads.
        rounds: turns of each.
        packed: whether weights are packed beforehand; ``None``: if the problem says so, and for
            convolution, gemm and 8-bit products, whose weights do not change in use (matmul's
            operands do).
        warm: seconds of warming per library.
    """
    asked = parse_problem(problem)
    if packed is None:
        packed = asked.packed or asked.op.name in ("conv2d", "gemm", "qconv2d", "qmatmul")
    with reference_file(asked) as reference:
        return raced(peers, lambda p: p.build(str(asked), reference, packed=packed), rounds, warm)


def raced(
    peers: Sequence[PeerProcess],
    build: Callable[[PeerProcess], Built],
    rounds: int,
    warm: float = _WARM_SECONDS,
) -> Race:
    """Build, warm and time on running peers; one that fails is named in ``Race.failed``.

    Args:
        peers: processes of one number of threads.
        build: prepares what is timed, and checks its answer.
        rounds: turns of each.
        warm: seconds of warming per library.
    """
    built: dict[str, Built] = {}
    failed: dict[str, str] = {}
    for peer in peers:
        try:
            made = build(peer)
            peer.warm(warm)
            built[peer.library] = made
        except KernelFailure as error:
            failed[peer.library] = str(error)
    running = [peer for peer in peers if peer.library in built]
    load = Load(peer.pid for peer in running)
    samples = interleave(running, rounds, failed=failed)
    return Race(samples, {name: built[name] for name in samples}, failed, load.others())


@contextmanager
def started(
    libraries: Iterable[str], threads: int
) -> Iterator[tuple[list[PeerProcess], dict[str, str]]]:
    """Start libraries and end them: those that run, and why others, by name, do not."""
    with ExitStack() as stack:
        peers: list[PeerProcess] = []
        absent: dict[str, str] = {}
        for library in dict.fromkeys(libraries):
            try:
                peers.append(stack.enter_context(PeerProcess(library, threads)))
            except Unavailable as reason:
                absent[library] = str(reason)
        yield peers, absent


def compare(
    problem: Problem | str,
    libraries: Iterable[str] = ("hwkit", "numpy"),
    *,
    threads: int = 1,
    rounds: int = 15,
    packed: bool | None = None,
) -> Race:
    """Start the libraries, run :func:`race` once, and end them.

    Libraries that are missing here are named in ``Race.failed``.
    """
    with started(libraries, threads) as (peers, absent):
        found = race(problem, peers, rounds=rounds, packed=packed)
    return replace(found, failed={**absent, **found.failed})


def geometric_mean(values: Iterable[float], weights: Iterable[float] | None = None) -> float:
    """Return the geometric mean of positive values, weighted if weights are given.

    Raises:
        ArgumentError: there are no values.
    """
    logs = [math.log(value) for value in values]
    each = [1.0] * len(logs) if weights is None else list(weights)
    if not logs or sum(each) <= 0:
        raise ArgumentError("the geometric mean of nothing is not defined")
    return math.exp(sum(w * x for w, x in zip(each, logs, strict=True)) / sum(each))
