"""The tuner and the database: lookups among many records, the race, and what a search finds."""

from __future__ import annotations

import random
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwkit import Space

COUNTS = [100, 1_000, 10_000]
STRATEGIES = ["random", "evolutionary"]


def _records(count: int) -> list[Any]:
    from hwkit import Config, Fingerprint
    from hwkit.measure import Measurement
    from hwkit.records import Record

    rng = random.Random(0)
    sizes = [16 * n for n in range(1, 65)]
    return [
        Record(
            problem=f"gemm float32 nn m={rng.choice(sizes)} n={rng.choice(sizes)} k=256",
            op="gemm",
            kernel="tiled",
            version=1,
            config=Config({"mc": rng.choice(sizes), "nc": number}),
            arch="x86-64-avx2",
            fingerprint=Fingerprint({"backend": "cpu", "arch": "x86-64-avx2", "threads": 2}),
            measurement=Measurement((seconds := rng.uniform(1e-4, 1e-3)), (seconds,) * 5, 1e-7),
        )
        for number in range(count)
    ]


@cache
def _opened(path: Path) -> Any:
    """Return the Database of a file, open and in use."""
    from hwkit.records import Database

    return Database(path)


@cache
def _new() -> tuple[Any, Iterator[Any], tempfile.TemporaryDirectory[str]]:
    """Return an empty Database, records for it, and its folder, which goes with the process."""
    folder = tempfile.TemporaryDirectory()
    return _opened(Path(folder.name) / "tuning.db"), iter(_records(20_000)), folder


class Database:
    """A plan's question among many records: exact and nearest, and the file being opened."""

    params = (COUNTS,)
    param_names = ("records",)

    def setup_cache(self) -> str:
        # asv runs this in a folder of its own and removes it.
        from hwkit.records import Database

        folder = Path(tempfile.mkdtemp(dir="."))
        for count in COUNTS:
            database = Database(folder / f"{count}.db")
            database.add_all(_records(count))
            database.close()
        return str(folder.resolve())

    def setup(self, folder: str, count: int) -> None:
        from hwkit.dispatch import parse_problem
        from hwkit.records import Database

        record = _records(1)[0]
        self.arch, self.fingerprint = record.arch, record.fingerprint
        self.path = Path(folder) / f"{count}.db"
        self.known = parse_problem(record.problem)
        self.unknown = parse_problem("gemm float32 nn m=1000 n=999 k=255")
        self.open = Database
        self.database = _opened(self.path)

    def time_first_candidate_of_a_known_problem(self, folder: str, count: int) -> None:
        next(iter(self.database.candidates(self.known, self.arch, self.fingerprint)))

    def time_first_candidate_of_an_unknown_problem(self, folder: str, count: int) -> None:
        next(iter(self.database.candidates(self.unknown, self.arch, self.fingerprint)), None)

    def time_open_and_first_candidate(self, folder: str, count: int) -> None:
        database = self.open(self.path)
        next(iter(database.candidates(self.known, self.arch, self.fingerprint)))
        database.close()


class Writing:
    """One trial as one committed row."""

    def setup(self) -> None:
        self.database, self.records, _ = _new()

    def time_add(self) -> None:
        self.database.add(next(self.records))


class Search:
    """A search on the simulated device: its cost per trial, and what it finds."""

    params = (STRATEGIES,)
    param_names = ("strategy",)
    number = 1
    repeat = 3
    problem = "gemm float32 nn m=64 n=64 k=64"

    def setup(self, strategy: str) -> None:
        from hwkit.registry import registry
        from hwkit.testing import fake

        known = registry()
        if "fake" not in known.backends():
            known.register(fake.fake, "fake")
        self.device = known.device("fake:0")

    def _tune(self, strategy: str, trials: int, seed: int = 0) -> Any:
        import hwkit
        from hwkit.records import Database

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (result,) = hwkit.tune(
                self.problem,
                "fake:0",
                budget=None,
                trials=trials,
                strategy=strategy,
                database=Database(None),
                seed=seed,
                worker=False,
            )
        return result

    def time_fifty_trials(self, strategy: str) -> None:
        self._tune(strategy, 50)

    def track_speedup_after_fifty_trials(self, strategy: str) -> float:
        found = sorted(self._tune(strategy, 50, seed).speedup for seed in range(5))
        return float(found[2])


def _make_space() -> Space:
    from hwkit import Space

    values = {
        "mr": (2, 4, 6, 8), "nr": (8, 16, 24, 32), "kc": tuple(range(32, 512, 16)),
        "mc": tuple(range(24, 240, 24)), "nc": tuple(range(64, 1024, 64)), "unroll": (1, 2, 4),
    }  # fmt: skip
    registers = (lambda mr, nr: mr * nr <= 96, "accumulators fit the registers")
    block = (lambda kc, mc: 4 * kc * mc <= 2**18, "the block of a fits the cache")
    return Space(values, [registers, block])


@cache
def _space() -> Space:
    """Return a space that has answered questions before."""
    return _make_space()


class Spaces:
    """A space of a hundred thousand combinations with two constraints."""

    def setup(self) -> None:
        self.space = _space()
        self.rng = random.Random(0)
        self.config = self.space.sample(self.rng)

    def time_size(self) -> None:
        _ = _make_space().size

    def time_sample(self) -> None:
        self.space.sample(self.rng)

    def time_neighbours(self) -> None:
        self.space.neighbours(self.config)

    def time_contains(self) -> None:
        _ = self.config in self.space
