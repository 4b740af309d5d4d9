"""The model strategy: boosted trees learn the cost from what was told, and choose in batches."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from ..config import Config
from ..errors import Unavailable
from ..space import Space
from .base import Number, Option, Strategy
from .candidates import Candidates, Row
from .surrogate import Features

__all__ = ["Model"]


class Model(Strategy):
    """A cost model of boosted trees, trained again after every batch of answers.

    Worth its time where trials are many and dear: it needs more answers than ``evolutionary`` to
    be right, and learns more from them.

    Raises:
        Unavailable: scikit-learn is not installed.
    """

    OPTIONS: ClassVar[Mapping[str, Option]] = {
        "start": Option(24, 2, "answers to collect before the model chooses"),
        "batch": Option(6, 1, "Configs to choose from one training"),
        "explore": Option(6, 2, "every how many-th Config is drawn uniformly all the same"),
        "pool": Option(5000, 10, "candidates that the model looks at in one batch"),
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
        self._new_trees, self._one_thread = _trees()
        self._candidates = Candidates(space, rng)
        self._features = Features(space)
        self._first = iter(self.seeds)
        self._told: dict[Row, float] = {}
        self._asked = 0
        self._batch: list[Row] = []

    def tell(self, config: Config, seconds: float) -> None:
        """Take the time of one Config; infinity if it failed."""
        if config in self.space:
            row = self.space.row(config)
            self._candidates.take(row)
            self._told[row] = math.log(seconds) if 0 < seconds < math.inf else math.inf

    def ask(self) -> Config | None:
        """Return the next Config of the batch, or ``None`` when all are tried."""
        for seed in self._first:
            config = self._candidates.take(self.space.row(seed))
            if config is not None:
                return config
        self._asked += 1
        finite = sum(map(math.isfinite, self._told.values()))
        blind = len(self._told) < self.options["start"] or finite < 2
        if blind or self._asked % self.options["explore"] == 0:
            return self._candidates.draw()
        if not self._batch:
            self._batch = self._chosen()
        while self._batch:
            config = self._candidates.take(self._batch.pop())
            if config is not None:
                return config
        return self._candidates.draw()

    def _chosen(self) -> list[Row]:
        rows = np.array(list(self._told), np.int32)
        values = np.array(list(self._told.values()))
        values = np.minimum(values, values[np.isfinite(values)].max())
        trees = self._new_trees(
            max_iter=60,
            min_samples_leaf=max(2, len(rows) // 50),
            early_stopping=False,
            random_state=self.rng.getrandbits(31),
        )
        # On so little data its threads cost more than they bring, on a busy machine a hundredfold.
        with self._one_thread(1):
            trees.fit(self._features(rows), values)
        count = int(self.options["pool"])
        elites = rows[np.argsort(values, kind="stable")[:8]]
        near, far = self._candidates.near(elites, count // 2), self._candidates.scattered(count)
        pool = np.unique(np.concatenate([near, far]), axis=0)
        pool = pool[self._candidates.free(pool)]
        if not len(pool):
            return []
        with self._one_thread(1):
            guess = trees.predict(self._features(pool))
        order = np.argsort(guess, kind="stable")
        best = pool[order[: int(self.options["batch"])]]
        return [tuple(row) for row in best[::-1].tolist()]


def _trees() -> tuple[Any, Any]:
    """Return the class of the cost model, and what keeps it to a number of threads."""
    try:
        ensemble, threads = import_module("sklearn.ensemble"), import_module("threadpoolctl")
    except ImportError:
        raise Unavailable(
            "strategy 'model' needs scikit-learn: pip install 'hwkit[tune]'"
        ) from None
    return ensemble.HistGradientBoostingRegressor, threads.threadpool_limits
