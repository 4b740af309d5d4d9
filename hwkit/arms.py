"""Arms: the Kernels of a search, each with its strategy, and how they share the trials."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from .answers import Tolerance, by_rank, misfit
from .backend import Device, Kernel
from .config import Config
from .errors import PluginError, cause
from .op import Problem
from .records import Database
from .records.ranking import stage, standings
from .records.record import Record
from .space import Space
from .strategies import Strategy, portfolio

__all__ = ["Arm", "Arms"]

# A Kernel's first trials are its own, whatever the others reach; unless it is hopeless.
_SCREENING, _HOPELESS = 4, 4.0

# How sharply trials go to the Kernels that came close: at 1.2 times the best, a quarter as many.
_SHARPNESS = 8

# Most of those that an earlier run could not tell from the winner, or did not race to the end.
_RIVALS = 8

# Configs to take from the tables of other devices, before their winners.
_FROM_TABLES = 5

# A strategy that has asked so often for more than there is to know has nothing new to ask.
_REPEATS = 1000

# Spaces with more partial Configs than this are not counted.
_MOST_COUNTED = 20_000


@contextmanager
def _naming(strategy: Strategy | type[Strategy]) -> Iterator[None]:
    """Name the strategy, which may be a stranger's, in what its own code raises."""
    try:
        yield
    except Exception as error:
        kind = strategy if isinstance(strategy, type) else type(strategy)
        raise PluginError(
            f"strategy {kind.__name__} of {kind.__module__} failed with {cause(error)}; "
            "choose another one, or mend it"
        ) from error


@dataclass
class Arm:
    """A Kernel in the search, and what it has come to.

    Attributes:
        kernel: the Kernel.
        space: its Space for the problem.
        default: its default Config.
        strategy: which Config of it to try next.
        known: seconds of the Configs tried here, in this run and before; infinity for those that
            failed or may not win.
        tables: seconds of its Configs on other devices, one mapping a device.
        best: least seconds in this run.
        trials: in this run.
        done: whether all of the space was tried.
        proven: Configs that a run-off here has shown to be faster than the default.
    """

    kernel: Kernel
    space: Space
    default: Config
    strategy: Strategy
    known: dict[Config, float]
    tables: Sequence[Mapping[Config, float]] = ()
    best: float = math.inf
    trials: int = 0
    done: bool = False
    proven: frozenset[Config] = frozenset()

    def ask(self) -> Config | None:
        """Return the next Config that was not tried, in this run or before.

        Raises:
            PluginError: the strategy fails.
        """
        # One that asks with replacement would otherwise never end, once everything is known.
        for _ in range(len(self.known) + _REPEATS):
            with _naming(self.strategy):
                config = self.strategy.ask()
                if config is None or config not in self.known:
                    return config
                self.strategy.tell(config, self.known[config])
        return None

    def tell(self, config: Config, seconds: float) -> None:
        """Take the time of a Config; infinity if it failed or may not win."""
        self.known[config] = seconds
        with _naming(self.strategy):
            self.strategy.tell(config, seconds)
        self.best = min(self.best, seconds)


class Arms:
    """The Kernels of a search.

    Args:
        problem: the Problem.
        device: where.
        kernels: those that support it.
        database: what is known.
        strategy: class of the strategy.
        seed: of all random choices.
        tolerance: which candidates may win.
        shortlist: kernel, version and Config of what to try early.
    """

    def __init__(
        self,
        problem: Problem,
        device: Device,
        kernels: Sequence[Kernel],
        database: Database,
        strategy: type[Strategy],
        seed: int,
        tolerance: Tolerance,
        shortlist: Sequence[tuple[str, int, Config]] = (),
    ) -> None:
        self.problem = problem
        self._shortlist = shortlist
        self._device = device
        self._database = database
        self._strategy = strategy
        self._seed = seed
        self._tolerance = tolerance
        self._rng = random.Random(f"{seed} {problem}")
        self._before: dict[str, list[Record]] = {}
        self.all = [self._arm(kernel) for kernel in by_rank(kernels, problem, {})]
        # What a call runs without any record comes first, whatever the budget.
        fit = {
            a.kernel.name: misfit(a.kernel, problem, a.default, None, tolerance) for a in self.all
        }
        self.all.sort(key=lambda arm: fit[arm.kernel.name] is not None)

    def _arm(self, kernel: Kernel) -> Arm:
        space = kernel.space(self.problem)
        rng = random.Random(f"{self._seed} {self.problem} {kernel.name}")
        before = self._before[kernel.name] = self._database.trials(
            self.problem, self._device.fingerprint, kernel.name, kernel.version
        )
        known = {
            r.config: r.measurement.seconds if self._fits(kernel, r) else math.inf for r in before
        }
        tables = self._tables(kernel)
        with _naming(self._strategy):
            strategy = self._strategy(space, rng, tables=tables)
            for config, seconds in known.items():
                strategy.tell(config, seconds)
        proven = frozenset(r.config for r in standings(before) if r.race and r.race.proven)
        default = kernel.default(self.problem)
        return Arm(kernel, space, default, strategy, known, tables, proven=proven)

    def _tables(self, kernel: Kernel) -> list[dict[Config, float]]:
        """Return the seconds of a Kernel's Configs for this problem, one table a device."""
        tables: list[dict[Config, float]] = []
        for trials in self._database.elsewhere(
            self.problem, self._device.fingerprint, kernel.name, kernel.version
        ):
            table = {r.config: r.measurement.seconds for r in standings(trials)}
            failed = {r.config: math.inf for r in trials if r.config not in table}
            tables.append({**failed, **table})
        return tables

    def _fits(self, kernel: Kernel, record: Record) -> bool:
        error = record.measurement.error
        return record.ok and not misfit(kernel, self.problem, record.config, error, self._tolerance)

    @property
    def space_size(self) -> int:
        """Number of Configs of all Kernels; before constraints where there are very many."""
        rows = [(arm.space.rows(_MOST_COUNTED), arm.space.combinations) for arm in self.all]
        return sum(every if legal is None else len(legal) for legal, every in rows)

    @property
    def plain(self) -> bool:
        """Whether no Kernel saves arithmetic, so that the roofline is the end."""
        return all(a.kernel.strict(self.problem, a.default) for a in self.all)

    def portfolio(self, has_default: Callable[[], bool]) -> Iterator[tuple[Arm, Config, bool]]:
        """Yield what to try first: arm, Config, and whether it is what runs now.

        Args:
            has_default: whether a default has succeeded by now; Kernels of last resort (rank below
                0) are left out if so.
        """
        # What failed here is not tried again, whoever recommends it.
        seen: set[tuple[str, Config]] = set()
        for name, trials in self._before.items():
            good = {r.config for r in standings(trials)}
            seen |= {(name, r.config) for r in trials if r.config not in good}

        def new(arm: Arm, config: Config) -> bool:
            known = (arm.kernel.name, config) in seen
            seen.add((arm.kernel.name, config))
            return not known

        current = self._current()
        owner = None if current is None else self._of(current)
        if current is not None and owner is not None and new(owner, current.config):
            yield owner, current.config, True
        for arm in list(self.all):
            if arm.kernel.rank(self.problem) < 0 and has_default():
                self.all.remove(arm)
            elif new(arm, arm.default):
                yield arm, arm.default, False
        for record in self._ties():
            owner = self._of(record)
            if owner is not None and new(owner, record.config):
                yield owner, record.config, False
        for arm in self.all:
            for config in portfolio(arm.tables, arm.space, _FROM_TABLES):
                if new(arm, config):
                    yield arm, config, False
        for name, version, config in self._shortlist:
            for arm in self.all:
                same = (arm.kernel.name, arm.kernel.version) == (name, version)
                if same and config in arm.space and new(arm, config):
                    yield arm, config, False
        here = self._device.arch, self._device.fingerprint
        for record in self._database.portfolio(self.problem, *here):
            owner = self._of(record)
            if owner is not None and new(owner, record.config):
                yield owner, record.config, False

    def fits(self, record: Record) -> bool:
        """Whether a record can be used here: its Kernel, its Config and its error."""
        arm = self._of(record)
        return arm is not None and self._fits(arm.kernel, record)

    def _of(self, record: Record) -> Arm | None:
        """Return the arm that can try a record's Config here."""
        for arm in self.all:
            if (arm.kernel.name, arm.kernel.version) == (record.kernel, record.version):
                return arm if record.config in arm.space else None
        return None

    def _current(self) -> Record | None:
        """Return what a call runs now, if a record of this very Problem and device says so."""
        here = self._device.arch, self._device.fingerprint
        for match in islice(self._database.candidates(self.problem, *here), 64):
            if match.distance or not match.same_device:
                return None
            if self.fits(match.record):
                return match.record
        return None

    def _ties(self) -> Sequence[Record]:
        """Return what could not be told apart from the best on this very device."""
        here = self._device.arch, self._device.fingerprint
        first = next(iter(self._database.candidates(self.problem, *here)), None)
        ours = first is not None and not first.distance and first.same_device
        if first is None or not ours:
            return ()
        trials = [r for before in self._before.values() for r in standings(before)]
        proven = [r for r in trials if r.race is not None and r.race.proven]
        return [*first.ties[:_RIVALS], *proven[:_RIVALS], *self._promising(first.record)]

    def _promising(self, winner: Record) -> list[Record]:
        """Return trials of a run that ended early, whose few samples were as fast as the winner."""
        reached = stage(winner)
        found = [
            record
            for trials in self._before.values()
            for record in standings(trials)
            if stage(record) < reached and record.measurement.seconds <= winner.measurement.seconds
        ]
        return sorted(found, key=lambda r: r.measurement.seconds)[:_RIVALS]

    def choose(self) -> Arm | None:
        """Return whose turn it is; ``None`` when all Configs were tried."""
        arms = [arm for arm in self.all if not arm.done]
        best = min((arm.best for arm in arms), default=math.inf)
        for arm in arms:
            hopeless = arm.trials and arm.best > _HOPELESS * best
            if arm.trials < _SCREENING and not hopeless:
                return arm
        if not arms:
            return None
        weights = [
            (best / arm.best) ** _SHARPNESS if math.isfinite(arm.best) else 1e-3 for arm in arms
        ]
        return self._rng.choices(arms, weights)[0]
