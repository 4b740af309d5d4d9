"""Many problems on the same running libraries, and what they amount to."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..dispatch import parse_problem
from .race import Race, geometric_mean, race, started
from .sets import Layer

__all__ = ["BASE", "DEFAULT", "Row", "Suite", "run"]

_BEST = ("library", "ratio")

BASE = "hwkit"
"""What the ratios compare with."""

DEFAULT = "hwkit-default"
"""hwkit without its records."""


@dataclass(frozen=True)
class Row:
    """One problem of a suite, and its race."""

    layer: Layer
    flops: int
    race: Race

    @property
    def seconds(self) -> float | None:
        """Median seconds of hwkit, or ``None`` if it failed."""
        return self.race.seconds.get(BASE)

    @property
    def roofline_share(self) -> float | None:
        """Share of the roofline that hwkit reaches."""
        built = self.race.built.get(BASE)
        if built is None or not built.roofline or not self.seconds:
            return None
        return built.roofline / self.seconds

    def ratio(self, library: str) -> float | None:
        """How many times longer a library takes than hwkit, or ``None`` if one of them failed."""
        if library not in self.race.samples or BASE not in self.race.samples:
            return None
        return self.race.ratio(library, BASE)

    def best(self) -> tuple[str, float] | None:
        """Return the fastest of the other libraries here and its ratio; ``None`` without any."""
        known = [
            (ratio, name)
            for name in self.race.samples
            if name not in (BASE, DEFAULT) and (ratio := self.ratio(name)) is not None
        ]
        return (min(known)[1], min(known)[0]) if known else None

    def quartiles(self, library: str) -> list[float] | None:
        """The middle half of the rounds' ratios: how far :meth:`ratio` is to be trusted."""
        if self.ratio(library) is None or len(self.race.samples[library]) < 2:
            return None
        low, _, high = statistics.quantiles(self.race.ratios(library, BASE), method="inclusive")
        return [low, high]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data; times in seconds."""
        return {
            "problem": self.layer.problem,
            "count": self.layer.times,
            "flops": self.flops,
            "seconds": self.race.seconds,
            "ratios": {name: self.ratio(name) for name in self.race.samples if name != BASE},
            "quartiles": {name: self.quartiles(name) for name in self.race.samples if name != BASE},
            "best": None if (best := self.best()) is None else dict(zip(_BEST, best, strict=True)),
            "gflops": None if not self.seconds else self.flops / self.seconds / 1e9,
            "roofline_share": self.roofline_share,
            "variants": {name: built.variant for name, built in self.race.built.items()},
            "errors": {name: built.error for name, built in self.race.built.items()},
            "rejected": {n: list(b.rejected) for n, b in self.race.built.items() if b.rejected},
            "failed": dict(self.race.failed),
            "others_cpu_share": self.race.others,
        }


@dataclass
class Suite:
    """The rows of one number of threads.

    Attributes:
        threads: of every library.
        versions: of the libraries that run.
        skipped: libraries that do not, with the reason.
        rows: what has been timed so far.
    """

    threads: int
    versions: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    def mean(self, library: str) -> float | None:
        """Return the geometric mean of the ratios, each problem as often as its network has it."""
        pairs = [(row.ratio(library), row.layer.times) for row in self.rows]
        known = [(value, count) for value, count in pairs if value is not None]
        if not known:
            return None
        return geometric_mean([value for value, _ in known], [count for _, count in known])

    @property
    def best_mean(self) -> float | None:
        """Geometric mean of the ratios to the best of the others, each problem having its own."""
        pairs = [(row.best(), row.layer.times) for row in self.rows]
        known = [(best[1], count) for best, count in pairs if best is not None]
        if not known:
            return None
        return geometric_mean([value for value, _ in known], [count for _, count in known])

    def largest_error(self, library: str) -> float | None:
        """Return the largest relative error of a library's answers against float64."""
        known = [built.error for row in self.rows if (built := row.race.built.get(library))]
        return max(known, default=None)

    def total(self, library: str) -> float | None:
        """Return the seconds of all problems together, or ``None`` if one is lacking."""
        times = [(row.race.seconds.get(library), row.layer.times) for row in self.rows]
        known = [seconds * count for seconds, count in times if seconds is not None]
        return sum(known) if known and len(known) == len(times) else None

    @property
    def others(self) -> float | None:
        """Median over the problems of the CPUs' time that other processes took, if it is known."""
        known = [row.race.others for row in self.rows if row.race.others is not None]
        return statistics.median(known) if known else None

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data; times in seconds."""
        return {
            "threads": self.threads,
            "versions": dict(self.versions),
            "skipped": dict(self.skipped),
            "problems": [row.to_json() for row in self.rows],
            "geometric_means": {name: self.mean(name) for name in self.versions if name != BASE},
            "geometric_mean_of_best": self.best_mean,
            "largest_errors": {name: self.largest_error(name) for name in self.versions},
            "total_seconds": {name: self.total(name) for name in self.versions},
        }


def run(
    suite: Suite,
    layers: Iterable[Layer],
    libraries: Sequence[str],
    *,
    rounds: int = 15,
    packed: bool | None = None,
    on_start: Callable[[Suite], None] = lambda suite: None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> None:
    """Start the libraries, race every problem, and fill ``suite`` as they come.

    Args:
        suite: what to fill; it keeps what was timed even if this is interrupted.
        layers: the problems.
        libraries: names; those that are missing here are noted in ``suite.skipped``.
        rounds: turns of each library per problem.
        packed: as of :func:`hwkit.bench.race.race`.
        on_start: called when the libraries are running.
        on_row: called after each problem.
    """
    with started(libraries, suite.threads) as (peers, suite.skipped):
        suite.versions = {peer.library: peer.version for peer in peers}
        on_start(suite)
        for layer in layers:
            problem = parse_problem(layer.problem)
            row = Row(layer, problem.flops, race(problem, peers, rounds=rounds, packed=packed))
            suite.rows.append(row)
            on_row(row)
