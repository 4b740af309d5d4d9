"""A small Gaussian process over Configs: what an untried one will cost, and how sure that is.

Rasmussen and Williams, *Gaussian Processes for Machine Learning*, chapters 2 and 5; Matern 5/2
kernel with one length per tunable, found by coordinate search on the marginal likelihood.
"""

from __future__ import annotations

from math import erfc, log, sqrt
from typing import Any

import numpy as np

from ..config import Value
from ..space import Space
from .candidates import Rows

__all__ = ["Features", "Surrogate"]

Array = np.ndarray[Any, Any]

_SHORTEST, _LONGEST = 0.05, 20.0
_NOISE_LEAST, _NOISE_MOST = 1e-6, 0.5
# Values are log seconds: Configs that look alike so far may still be this different elsewhere.
_SIGNAL_LEAST = 0.3
_FACTORS = (0.5, 0.8, 1.25, 2.0)


class Features:
    """Rows of positions as points in which near means alike.

    A number counts by its rank among the values of its tunable, and, where that says something
    else, by how often two divides it: alignment, banks, vectors and cache lines make hardware care
    for that more than for size. Text counts as equal or not.

    Attributes:
        groups: for each coordinate, the number of the length that scales it.
    """

    def __init__(self, space: Space) -> None:
        tables: list[tuple[int, Array]] = []
        for column, choices in enumerate(space.values.values()):
            if len(choices) > 1:
                tables += [(column, table) for table in _tables(choices)]
        self._tables = tables
        widths = [table.shape[1] for _, table in tables]
        self.groups: Array = np.repeat(np.arange(len(tables)), widths)

    def __call__(self, rows: Rows) -> Array:
        """Return the points, shape (rows, coordinates)."""
        columns = [table[rows[:, column]] for column, table in self._tables]
        return np.concatenate([np.zeros((len(rows), 0)), *columns], axis=1)


def _tables(choices: tuple[Value, ...]) -> list[Array]:
    numbers = [c for c in choices if not isinstance(c, str)]
    if len(numbers) < len(choices):
        return [np.eye(len(choices)) / np.sqrt(2)]
    ranks = np.unique(np.array(numbers, float), return_inverse=True)[1].reshape(-1)
    tables = [ranks / max(ranks.max(), 1)]
    whole = [c for c in numbers if isinstance(c, int) and c > 0]
    if len(choices) > 2 and len(whole) == len(choices):
        twos = np.unique([(c & -c).bit_length() for c in whole], return_inverse=True)[1].reshape(-1)
        if twos.any() and not np.array_equal(twos, ranks):
            tables.append(twos / twos.max())
    return [table[:, None] for table in tables]


class Surrogate:
    """Posterior over a pool of points, given the points tried so far.

    ``fit`` and ``look`` cost time cubic in the number of tried points; ``add`` only linear.
    """

    def __init__(self, groups: Array) -> None:
        self._groups = groups
        self._lengths = np.full(int(groups.max(initial=-1)) + 1, 0.7)
        self._noise = 1e-2

    def fit(self, points: Array, values: Array, rounds: int = 1) -> None:
        """Take points, shape (n, coordinates), and values, shape (n,); search lengths and noise."""
        self._points, self._centre = points, float(values.mean())
        self._spread = float(values.std()) or 1.0  # all alike
        self._targets = (values - self._centre) / self._spread
        parts = np.zeros((len(self._lengths), len(points), len(points)))
        for coordinate, group in enumerate(self._groups):
            x = points[:, coordinate]
            parts[group] += (x[:, None] - x[None, :]) ** 2
        best = self._cost(np.tensordot(self._lengths**-2.0, parts, 1), self._lengths, self._noise)
        for _ in range(rounds):
            best = self._search(parts, best)

    def _search(self, parts: Array, best: float) -> float:
        total = np.tensordot(self._lengths**-2.0, parts, 1)
        for group, part in enumerate(parts):
            here = self._lengths[group]
            for factor in _FACTORS:
                lengths = self._lengths.copy()
                lengths[group] = np.clip(here * factor, _SHORTEST, _LONGEST)
                trial = total + part * (lengths[group] ** -2.0 - self._lengths[group] ** -2.0)
                cost = self._cost(trial, lengths, self._noise)
                if cost < best:
                    best, self._lengths, total = cost, lengths, trial
        here = self._noise
        for factor in _FACTORS:
            noise = float(np.clip(here * factor**2, _NOISE_LEAST, _NOISE_MOST))
            cost = self._cost(total, self._lengths, noise)
            if cost < best:
                best, self._noise = cost, noise
        return best

    def _cost(self, squares: Array, lengths: Array, noise: float) -> float:
        # Negative log marginal likelihood, the signal's variance at its best value, plus weak
        # log-normal priors that keep lengths and noise sane while there are few points.
        covariance = _matern(squares)
        covariance[np.diag_indices(len(covariance))] += noise
        try:
            factor = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            return float("inf")
        n = len(covariance)
        signal = float(self._targets @ np.linalg.solve(covariance, self._targets)) / n
        likelihood = n / 2 * np.log(max(signal, 1e-12)) + np.log(np.diag(factor)).sum()
        prior = 0.5 * (np.log(lengths / 0.7) ** 2).sum() + 0.5 * (log(noise / 1e-2) / 1.5) ** 2
        return float(likelihood + prior)

    def look(self, pool: Array) -> None:
        """Compute mean and spread at ``pool``, shape (m, coordinates)."""
        scale = self._lengths[self._groups]
        self._pool = pool / scale
        points = self._points / scale
        covariance = _matern(_squares(points, points))
        covariance[np.diag_indices(len(points))] += self._noise
        inverse = np.linalg.inv(np.linalg.cholesky(covariance))
        weights = inverse @ self._targets
        self._signal = float(weights @ weights) / len(points)
        self._rows = inverse @ _matern(_squares(points, self._pool))
        self._mean = weights @ self._rows
        self._variance = 1.0 - (self._rows**2).sum(axis=0)
        self._weights = weights

    def add(self, index: int, value: float) -> None:
        """Take the value of the point ``pool[index]``."""
        row = self._rows[:, index]
        root = sqrt(max(1.0 + self._noise - float(row @ row), self._noise))
        cross = _matern(_squares(self._pool[index : index + 1], self._pool))[0]
        new = (cross - row @ self._rows) / root
        weight = ((value - self._centre) / self._spread - float(row @ self._weights)) / root
        self._mean = self._mean + weight * new
        self._variance = self._variance - new**2
        self._rows = np.vstack([self._rows, new])
        self._weights = np.append(self._weights, weight)

    def mean(self) -> Array:
        """Return the expected value of each point of the pool."""
        mean: Array = self._mean * self._spread + self._centre
        return mean

    def gain(self, best: float, offset: Array | float = 0.0) -> Array:
        """Return the expected improvement on ``best`` of each point of the pool.

        Args:
            best: the value to improve on.
            offset: added to the expected value of each point.
        """
        signal = max(self._signal * self._spread**2, _SIGNAL_LEAST**2)
        spread = np.sqrt(np.maximum(self._variance, 1e-9) * signal)
        z = (best - offset - self.mean()) / spread
        below = np.array([erfc(v) for v in (z * -(0.5**0.5)).tolist()]) / 2
        gain: Array = spread * (z * below + np.exp(-0.5 * z * z) / (2 * np.pi) ** 0.5)
        # Far out all gains vanish alike; there the surest bet is the best one.
        return np.where(gain > 1e-12, gain, 1e-12 * np.exp(np.minimum(z, 0.0)))


def _squares(left: Array, right: Array) -> Array:
    squares: Array = (left**2).sum(1)[:, None] + (right**2).sum(1) - 2 * left @ right.T
    return np.maximum(squares, 0.0)


def _matern(squares: Array) -> Array:
    root = np.sqrt(5.0 * np.maximum(squares, 0.0))
    covariance: Array = (1.0 + root + root**2 / 3.0) * np.exp(-root)
    return covariance
