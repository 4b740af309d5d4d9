"""How near to the best a search comes, on recorded runs: shares of the optimum, 1 is all of it.

``python asv_bench/benchmarks/search.py [FOLDER [SEEDS]]`` prints the same for a folder of other
recordings (Kernel Tuner cache files, ``*.json.gz``), beside random sampling.
"""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path
from statistics import mean
from typing import Any

RECORDINGS = Path(__file__).parents[2] / "tests" / "data" / "replay"
STRATEGIES = ["random", "evolutionary"]
TRIALS = [5, 10, 25, 50, 100, 200]
SEEDS = 10


def recordings(folder: Path = RECORDINGS) -> list[Any]:
    """Return the recordings of a folder."""
    from hwkit.testing.recording import Recording

    return [Recording(path) for path in sorted(folder.glob("*.json.gz"))]


def cold(recording: Any, strategy: str, seed: int, trials: int) -> list[float]:
    """Return the share of the optimum after each trial of a search from nothing."""
    from hwkit.strategies import strategy as named

    return _search(named(strategy)(recording.space, random.Random(seed)), recording, seed, trials)


def warm(recording: Any, others: list[Any], seed: int, trials: int) -> list[float]:
    """Return the same for a search that has the records of other devices."""
    from hwkit.strategies import Evolutionary, portfolio

    tables = [other.table for other in others]
    seeds = portfolio(tables, recording.space, 5)
    search = Evolutionary(recording.space, random.Random(seed), seeds=seeds, tables=tables)
    return _search(search, recording, seed, trials)


def _search(search: Any, recording: Any, seed: int, trials: int) -> list[float]:
    draw, best, shares = random.Random(f"samples {seed}"), math.inf, []
    for _ in range(trials):
        config = search.ask()
        if config is None:
            shares.append(shares[-1])
            continue
        best = min(best, recording.table[config])
        shares.append(recording.best / best)
        # The search sees one noisy sample; what it found is judged by the true median.
        search.tell(config, draw.choice(recording.samples.get(config, (math.inf,))))
    return shares


class Cold:
    """A search from nothing."""

    params = (STRATEGIES, [25, 50, 100])
    param_names = ("strategy", "trials")
    timeout = 300

    def setup(self, strategy: str, trials: int) -> None:
        self.recordings = recordings()

    def track_share_of_optimum(self, strategy: str, trials: int) -> float:
        return mean(
            cold(recording, strategy, seed, trials)[-1]
            for recording in self.recordings
            for seed in range(SEEDS)
        )

    track_share_of_optimum.unit = "share"  # type: ignore[attr-defined]


class Warm:
    """A search that has the trials of two other devices."""

    params = ([5, 25, 50],)
    param_names = ("trials",)
    timeout = 300

    def setup(self, trials: int) -> None:
        self.recordings = recordings()

    def track_share_of_optimum(self, trials: int) -> float:
        return mean(
            warm(here, [r for r in self.recordings if r is not here], seed, trials)[-1]
            for here in self.recordings
            for seed in range(3)
        )

    track_share_of_optimum.unit = "share"  # type: ignore[attr-defined]


class Ask:
    """What one question costs, when fifty answers are known."""

    params = (STRATEGIES,)
    param_names = ("strategy",)
    number = 20

    def setup(self, strategy: str) -> None:
        from hwkit.strategies import strategy as named

        self.recording = recordings()[0]
        self.search = named(strategy)(self.recording.space, random.Random(0))
        _search(self.search, self.recording, 0, 50)

    def time_ask_and_tell(self, strategy: str) -> None:
        config = self.search.ask()
        if config is not None:
            self.search.tell(config, self.recording.table[config])


def main(folder: Path = RECORDINGS, seeds: int = SEEDS) -> None:
    """Print the shares, mean over recordings and of each."""
    given = recordings(folder)
    for name in STRATEGIES:
        _print(name, [[cold(r, name, s, TRIALS[-1]) for s in range(seeds)] for r in given])
    if len(given) > 1:
        others = {id(r): [o for o in given if o is not r] for r in given}
        runs = [[warm(r, others[id(r)], s, 50) for s in range(max(3, seeds // 5))] for r in given]
        _print("with the records of the others", runs)


def _print(name: str, runs: list[list[list[float]]]) -> None:
    for trials in [t for t in TRIALS if t <= len(runs[0][0])]:
        each = [mean(run[trials - 1] for run in of_one) for of_one in runs]
        shares = " ".join(f"{share:.3f}" for share in each)
        print(f"{name:32} {trials:4} trials  {mean(each):.3f}  ({shares})", flush=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]), *map(int, sys.argv[2:3]))
