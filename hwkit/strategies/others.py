"""What other devices say: which Configs to try first, and what to expect of the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..config import Config
from ..space import Space
from .candidates import Row, Rows
from .surrogate import Array, Features, Surrogate

__all__ = ["Others", "portfolio"]

Table = Mapping[Config, float]

# A table shorter than this says which Configs are good, not how the others compare.
_SHORTEST = 10

# Most rows of a table from which the rest of the space is guessed.
_LEARNT = 200

# A Config that one device never ran counts there as this share of its best.
_UNKNOWN = 0.5

# Having chosen one, those that differ from it in n tunables lose 1/n of this.
_ALIKE = 0.02

# How far the data may pull the weight of a device from its equal share; the ratio of variances of
# noise and weights in the ridge regression.
_RIDGE = 0.36


def portfolio(tables: Sequence[Table], space: Space, count: int) -> list[Config]:
    """Return the Configs to try first on a device of which nothing is known.

    The Config that is best on all other devices (by the geometric mean of the shares of each one's
    best that it reaches) comes first, then those that are almost as good but not the same again,
    so that what is common to the first few cannot spoil them all.

    Args:
        tables: seconds by Config, one mapping a device; infinity for those that failed. May hold
            a winner only, or every trial.
        space: the Space of the new device.
        count: most Configs to return.
    """
    legal = dict.fromkeys(c for table in tables for c in table if c in space)
    configs = [c for c in legal if any(math.isfinite(t.get(c, math.inf)) for t in tables)]
    shares = _shares(tables, configs)
    rows = np.array([space.row(c) for c in configs], np.int32)
    chosen: list[Config] = []
    while len(chosen) < min(count, len(configs)):
        index = int(shares.argmax())
        chosen.append(configs[index])
        distance = (rows != rows[index]).sum(axis=1)
        shares = np.where(distance > 0, shares * (1 - _ALIKE / np.maximum(distance, 1)), -1.0)
    return chosen


def _shares(tables: Sequence[Table], configs: Sequence[Config]) -> Array:
    """Return what each Config reaches of the devices' best, by the geometric mean over these."""
    shares = np.ones(len(configs))
    for table in tables:
        best = min(table.values(), default=math.inf)
        if math.isfinite(best):
            shares *= [best / table[c] if c in table else _UNKNOWN for c in configs]
    means: Array = np.maximum(shares, 1e-12) ** (1 / max(len(tables), 1))
    return means


class Others:
    """Tables of other devices as an expectation of log seconds here.

    Args:
        space: the Space here.
        tables: seconds by Config, one mapping a device.
        features: of ``space``.
        numbers: chooses rows of tables that are too long.

    Attributes:
        known: whether any table is long enough to say something.
    """

    def __init__(
        self,
        space: Space,
        tables: Sequence[Table],
        features: Features,
        numbers: np.random.Generator,
    ) -> None:
        self._features = features
        self._tables: list[dict[Row, float]] = []
        self._models: list[Surrogate | None] = []
        self._numbers = numbers
        self._last: tuple[Rows, Array] | None = None
        for table in tables:
            times = {space.row(c): s for c, s in table.items() if c in space and s > 0}
            finite = [s for s in times.values() if math.isfinite(s)]
            if len(finite) >= _SHORTEST:
                best, worst = math.log(min(finite)), math.log(max(finite))
                logs = {r: math.log(s) if s < math.inf else worst for r, s in times.items()}
                self._tables.append({r: value - best for r, value in logs.items()})
                self._models.append(None)  # learnt when a row is asked for that is not there

    @property
    def known(self) -> bool:
        """Whether any table is long enough to say something."""
        return bool(self._tables)

    def _model(self, number: int) -> Surrogate:
        model = self._models[number]
        if model is None:
            model = self._models[number] = self._learn(self._tables[number])
        return model

    def _learn(self, table: dict[Row, float]) -> Surrogate:
        rows, values = np.array(list(table), np.int32), np.array(list(table.values()))
        order = np.argsort(values, kind="stable")
        if len(order) > _LEARNT:
            rest = self._numbers.choice(
                order[_LEARNT // 2 :], _LEARNT - _LEARNT // 2, replace=False
            )
            order = np.concatenate([order[: _LEARNT // 2], rest])
        model = Surrogate(self._features.groups)
        model.fit(self._features(rows[order]), values[order])
        return model

    def _columns(self, rows: Rows) -> Array:
        """Return the log of the ratio to each device's best, shape (rows, devices)."""
        columns = []
        for number, table in enumerate(self._tables):
            found = np.array([table.get(tuple(row), math.nan) for row in rows.tolist()])
            missing = np.isnan(found)
            if missing.any():
                model = self._model(number)
                model.look(self._features(rows[missing]))
                found[missing] = model.mean()
            columns.append(found)
        transposed: Array = np.array(columns).T
        return transposed

    def expect(self, tried: Rows, values: Array, pool: Rows) -> tuple[Array, Array]:
        """Return what to expect of the tried rows and of the pool, up to a constant.

        The devices are weighted alike at first, and by how well they explain ``values`` in the end.
        """
        if not self._tables:
            return np.zeros(len(tried)), np.zeros(len(pool))
        columns = self._columns(tried)
        count = columns.shape[1]
        equal = np.full(count, 1 / count)
        centred = columns - columns.mean(axis=0)
        left = values - values.mean() - centred @ equal
        ridge = centred.T @ centred + _RIDGE * np.eye(count)
        weights = equal + np.linalg.solve(ridge, centred.T @ left)
        if self._last is None or self._last[0] is not pool:
            self._last = pool, self._columns(pool)
        return columns @ weights, self._last[1] @ weights
