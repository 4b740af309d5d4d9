"""The default strategy: evolution, its offspring screened by a surrogate."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from ..config import Config
from ..space import Space
from .base import Number, Option, Strategy
from .candidates import Candidates, Row, Rows
from .others import Others
from .surrogate import Features, Surrogate

__all__ = ["Evolutionary"]

# Answers to wait for where the tables of other devices already say where to look.
_WARM = 3

# Beyond this log of the ratio to the best, bad is bad: how bad would only distract the surrogate.
_HOPELESS = 1.5

# A failure counts as this much worse than hopeless.
_FAILED = 1.0


class Evolutionary(Strategy):
    """Uniform draws first, then the offspring that a surrogate of what was told likes best.

    A generation is a pool of candidates: mutations and crossings of the best Configs so far and
    draws from all over the space, or simply all Configs where there are few. Of these it asks for
    the one with the largest expected improvement, learns the answer, and asks for the next. Failed
    Configs count as slower than the slowest, so that their surroundings repel.
    """

    OPTIONS: ClassVar[Mapping[str, Option]] = {
        "start": Option(12, 1, "answers to collect before the surrogate chooses"),
        "explore": Option(24, 2, "every how many-th Config is drawn uniformly all the same"),
        "pool": Option(5000, 10, "candidates that the surrogate looks at in one generation"),
        "elites": Option(8, 1, "best Configs that have offspring"),
        "memory": Option(300, 10, "answers that the surrogate keeps in mind, best ones first"),
    }

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
        self._features = Features(space)
        self._surrogate = Surrogate(self._features.groups)
        self._others = Others(space, self.tables, self._features, self._candidates.numbers)
        self._told: dict[Row, float] = {}  # log seconds; inf if failed
        self._asked = 0
        self._fitted = 0
        self._stale = True

    def tell(self, config: Config, seconds: float) -> None:
        """Take the time of one Config; infinity if it failed."""
        if config not in self.space:
            return
        row = self.space.row(config)
        self._candidates.take(row)
        value = math.log(seconds) if 0 < seconds < math.inf else math.inf
        known = row in self._told
        self._told[row] = value
        index = None if self._stale or known else self._index.get(row)
        if index is None:
            self._stale = True
        else:
            value = self._worst + _FAILED if math.isinf(value) else min(value, self._worst)
            self._surrogate.add(index, value - self._offset[index])

    def ask(self) -> Config | None:
        """Return the most promising Config, or ``None`` when all are tried."""
        for seed in self._first:
            config = self._candidates.take(self.space.row(seed))
            if config is not None:
                return config
        self._asked += 1
        finite = sum(map(math.isfinite, self._told.values()))
        start = _WARM if self._others.known else self.options["start"]
        blind = len(self._told) < start or finite < 2
        if blind or self._asked % self.options["explore"] == 0:
            return self._candidates.draw()
        return self._promising() or self._candidates.draw()

    def _promising(self) -> Config | None:
        if self._stale or len(self._told) >= self._until:
            self._generation()
        gain = self._surrogate.gain(min(self._told.values()), self._offset)
        gain[self._used] = -1.0
        while True:
            index = int(gain.argmax()) if len(gain) else -1
            if index < 0 or gain[index] < 0:
                return None
            gain[index] = -1.0
            self._used[index] = True
            config = self._candidates.take(tuple(self._pool[index].tolist()))
            if config is not None:
                return config

    def _generation(self) -> None:
        rows = np.array(list(self._told), np.int32)
        values = np.array(list(self._told.values()))
        self._worst = float(values[np.isfinite(values)].max())
        self._worst = min(self._worst, float(values.min()) + _HOPELESS)
        values = np.where(np.isinf(values), self._worst + _FAILED, np.minimum(values, self._worst))
        keep = self._kept(values)
        if len(self._told) >= 1.2 * self._fitted:
            rounds = 2 if not self._fitted else 1
            self._fitted = len(self._told)
        else:
            rounds = 0
        order = np.argsort(values, kind="stable")
        self._pool = self._offspring(rows[order[: int(self.options["elites"])]])
        tried, self._offset = self._others.expect(rows[keep], values[keep], self._pool)
        self._surrogate.fit(self._features(rows[keep]), values[keep] - tried, rounds)
        self._used = ~self._candidates.free(self._pool)
        self._surrogate.look(self._features(self._pool))
        self._index = {tuple(r): i for i, r in enumerate(self._pool.tolist())}
        self._until = len(self._told) + min(max(len(self._told) // 8, 2), 16)
        self._stale = False

    def _kept(self, values: Rows) -> Rows:
        memory = int(self.options["memory"])
        if len(values) <= memory:
            return np.arange(len(values))
        order = np.argsort(values, kind="stable")
        rest = self._candidates.numbers.choice(order[memory // 2 :], memory - memory // 2, False)
        return np.concatenate([order[: memory // 2], rest])

    def _offspring(self, elites: Rows) -> Rows:
        count = int(self.options["pool"])
        everything = self._candidates.all
        if everything is not None and len(everything) <= count:
            return everything
        near = self._candidates.near(elites, count // 4)
        far = self._candidates.scattered(count // 4)
        return np.unique(np.concatenate([near, far]), axis=0)
