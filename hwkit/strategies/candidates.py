"""Candidates: the legal Configs of a Space that are still to be tried."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..config import Config
from ..space import Space

__all__ = ["Candidates", "Row", "Rows"]

Row = tuple[int, ...]
Rows = np.ndarray[Any, Any]

_SAMPLE_TRIES = 200

# Most Configs to draw at a time from a space that cannot be enumerated.
_DRAWN = 300


class Candidates:
    """The legal Configs still to be tried, as rows of positions into ``space.values``.

    Attributes:
        all: every legal row where they can be enumerated, else ``None``.
        numbers: a numpy generator that follows ``rng``.
    """

    def __init__(self, space: Space, rng: random.Random) -> None:
        self.space = space
        self.rng = rng
        self.numbers = np.random.default_rng(rng.getrandbits(64))
        self.all = space.rows()
        self._taken: set[Row] = set()
        self._order = (
            None if self.all is None else iter(self.numbers.permutation(len(self.all)).tolist())
        )
        self._scattered: dict[Row, None] = {}
        self._walk: Iterator[Config] | None = None

    def take(self, row: Row) -> Config | None:
        """Mark a row as tried and return its Config; ``None`` if it was marked before."""
        if row in self._taken:
            return None
        self._taken.add(row)
        return self.space.config(row)

    def free(self, rows: Rows) -> Rows:
        """Return the mask of the rows that are not marked."""
        taken = self._taken
        return np.fromiter((tuple(r) not in taken for r in rows.tolist()), bool, len(rows))

    def draw(self) -> Config | None:
        """Mark and return one Config, uniformly at random; ``None`` when none is left."""
        if self._order is not None and self.all is not None:
            for index in self._order:
                config = self.take(tuple(self.all[index].tolist()))
                if config is not None:
                    return config
            return None
        if self._walk is None:
            for _ in range(_SAMPLE_TRIES):
                config = self.take(self.space.row(self.space.sample(self.rng)))
                if config is not None:
                    return config
            self._walk = iter(self.space)  # nearly all is tried: what is left is found in order
        for config in self._walk:
            if self.take(self.space.row(config)) is not None:
                return config
        return None

    def near(self, elites: Rows, count: int) -> Rows:
        """Return up to ``count`` distinct legal rows like the ``elites``, tried ones included.

        They differ from one of them in one or two tunables or combine two of them.
        """
        if self.all is not None:
            return self._near_enumerated(self.all, elites, count)
        width = elites.shape[1]
        lengths = np.array([len(choices) for choices in self.space.values.values()])
        mothers = elites[self.numbers.integers(len(elites), size=count)]
        fathers = elites[self.numbers.integers(len(elites), size=count)]
        children = np.where(self.numbers.random((count, width)) < 0.25, fathers, mothers)
        # One or two changes on average, half of them to the next value.
        change = self.numbers.random((count, width)) < 1.5 / max(width, 1)
        step = children + self.numbers.choice((-1, 1), (count, width))
        anywhere = self.numbers.integers(0, lengths, (count, width))
        target = np.where(self.numbers.random((count, width)) < 0.5, step, anywhere)
        children = np.where(change, np.clip(target, 0, lengths - 1), children)
        children = np.unique(children, axis=0)
        legal = [self.space.config(row) in self.space for row in children.tolist()]
        legal_children: Rows = children[np.array(legal, bool)]
        return legal_children

    def _near_enumerated(self, rows: Rows, elites: Rows, count: int) -> Rows:
        found = [np.flatnonzero((rows != elite).sum(axis=1) <= 2) for elite in elites]
        indices = np.unique(np.concatenate(found))
        if len(indices) > count:
            indices = np.sort(self.numbers.choice(indices, count, replace=False))
        picked: Rows = rows[indices]
        return picked

    def scattered(self, count: int) -> Rows:
        """Return up to ``count`` legal rows from all over the space, tried ones included."""
        if self.all is not None:
            if len(self.all) <= count:
                return self.all
            picked: Rows = self.all[self.numbers.choice(len(self.all), count, replace=False)]
            return picked
        # Drawing takes time where few combinations are legal: most are kept for the next call.
        fresh = count if not self._scattered else count // 16
        for _ in range(min(fresh, _DRAWN)):
            self._scattered[self.space.row(self.space.sample(self.rng))] = None
        for row in list(self._scattered)[: max(0, len(self._scattered) - count)]:
            del self._scattered[row]
        return np.array(list(self._scattered), np.int32)
