"""The two strategies that learn nothing: in order, and at random."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from ..config import Config
from ..space import Space
from .base import Number, Strategy
from .candidates import Candidates

__all__ = ["Exhaustive", "Random"]


class Exhaustive(Strategy):
    """Every legal Config, in canonical order."""

    def __init__(
        self,
        space: Space,
        rng: random.Random,
        seeds: Sequence[Config] = (),
        tables: Sequence[Mapping[Config, float]] = (),
        **options: Number,
    ) -> None:
        super().__init__(space, rng, seeds, tables, **options)
        self._done: set[Config] = set()
        self._first = iter(self.seeds)
        self._rest = iter(space)

    def ask(self) -> Config | None:
        """Return the next Config in order, or ``None`` at the end."""
        for source in (self._first, self._rest):
            for config in source:
                if config not in self._done:
                    self._done.add(config)
                    return config
        return None

    def tell(self, config: Config, seconds: float) -> None:
        """Note that ``config`` needs no asking any more."""
        self._done.add(config)


class Random(Strategy):
    """Legal Configs uniformly at random, without replacement."""

    def __init__(
        self,
        space: Space,
        rng: random.Random,
        seeds: Sequence[Config] = (),
        tables: Sequence[Mapping[Config, float]] = (),
        **options: Number,
    ) -> None:
        super().__init__(space, rng, seeds, tables, **options)
        self._candidates = Candidates(space, rng)
        self._first = iter(self.seeds)

    def ask(self) -> Config | None:
        """Return another Config at random, or ``None`` when all are tried."""
        for seed in self._first:
            config = self._candidates.take(self.space.row(seed))
            if config is not None:
                return config
        return self._candidates.draw()

    def tell(self, config: Config, seconds: float) -> None:
        """Note that ``config`` needs no asking any more."""
        if config in self.space:
            self._candidates.take(self.space.row(config))
