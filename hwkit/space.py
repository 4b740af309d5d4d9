"""Space: the legal Configs of a Kernel, by the values of its tunables and constraints."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .config import Config, Value, checked_value, value_text
from .errors import ArgumentError, shown

__all__ = ["Constraint", "Space"]

_SAMPLE_TRIES = 2000
_ROWS_LIMIT = 200_000
_KEY_LIMIT = 2**62


class Constraint(NamedTuple):
    """A test over named tunables that a legal Config passes, and one line that says why."""

    names: tuple[str, ...]
    test: Callable[..., bool]
    reason: str


class Space:
    """The legal Configs: every combination of ``values`` that passes all constraints.

    Args:
        values: the values of each tunable; their order is the order of preference and of
            neighbourhood.
        constraints: predicates whose parameters are named after the tunables they look at, either
            alone or in a pair with the sentence that says why, as in
            ``(lambda mr, nr: mr * nr <= 192, "accumulators fit the registers")``.
    """

    def __init__(
        self,
        values: Mapping[str, Sequence[Value]],
        constraints: Iterable[Callable[..., bool] | tuple[Callable[..., bool], str]] = (),
    ) -> None:
        if not isinstance(values, Mapping):
            raise ArgumentError(
                f"a space {shown(values)} must be values by name: write it as {{'tile': (8, 16)}}"
            )
        if not isinstance(constraints, Iterable):
            raise ArgumentError(f"constraints {shown(constraints)} must be a list of functions")
        self.values: dict[str, tuple[Value, ...]] = {
            name: tuple(checked_value(name, value) for value in _choices(name, choices))
            for name, choices in values.items()
        }
        for name, choices in self.values.items():
            if len({(type(v), v) for v in choices}) != len(choices):
                raise ArgumentError(f"tunable {name} lists a value twice: {choices}")
        self.constraints = tuple(self._constraint(c) for c in constraints)
        self._by_depth = self._schedule()

    def _constraint(
        self, given: Callable[..., bool] | tuple[Callable[..., bool], str]
    ) -> Constraint:
        test, reason = given if isinstance(given, tuple) and len(given) == 2 else (given, "")
        if not callable(test):
            raise ArgumentError(
                f"a constraint {shown(given)} must be a function of tunables, or a pair of one and "
                "the sentence that says why"
            )
        names = tuple(inspect.signature(test).parameters)
        unknown = [name for name in names if name not in self.values]
        if unknown:
            raise ArgumentError(
                f"a constraint looks at {unknown}, but the space has {[*self.values]}"
            )
        return Constraint(names, test, reason)

    def _schedule(self) -> list[list[Constraint]]:
        # A constraint is tested as soon as the last of its names has a value.
        order = {name: depth for depth, name in enumerate(self.values)}
        by_depth: list[list[Constraint]] = [[] for _ in range(len(order) + 1)]
        for constraint in self.constraints:
            by_depth[max((order[n] + 1 for n in constraint.names), default=0)].append(constraint)
        return by_depth

    def why_not(self, config: Mapping[str, Value]) -> str | None:
        """Return why ``config`` is not legal here, or ``None`` if it is."""
        if set(config) != set(self.values):
            return f"tunables are {sorted(config)}, not {sorted(self.values)}"
        for name, value in config.items():
            if not any(value == v and type(value) is type(v) for v in self.values[name]):
                legal = [*map(value_text, self.values[name])]
                return f"{name}={value_text(value)} is not one of {legal}"
        for names, test, reason in self.constraints:
            if not test(**{name: config[name] for name in names}):
                return reason or f"a constraint over {', '.join(names)} fails"
        return None

    def __contains__(self, config: object) -> bool:
        return isinstance(config, Mapping) and self.why_not(config) is None

    def __iter__(self) -> Iterator[Config]:
        """Yield every legal Config in canonical order, depth first, constraints tested early."""
        return self._walk()

    def _walk(self, rng: random.Random | None = None) -> Iterator[Config]:
        names = list(self.values)
        partial: dict[str, Value] = {}

        def extend(depth: int) -> Iterator[Config]:
            if not self._passes(depth, partial):
                return
            if depth == len(names):
                yield Config(partial)
                return
            choices = self.values[names[depth]]
            for value in rng.sample(choices, len(choices)) if rng else choices:
                partial[names[depth]] = value
                yield from extend(depth + 1)
            partial.pop(names[depth], None)

        return extend(0)

    def _passes(self, depth: int, partial: Mapping[str, Value]) -> bool:
        return all(c.test(**{n: partial[n] for n in c.names}) for c in self._by_depth[depth])

    @property
    def combinations(self) -> int:
        """Number of combinations before constraints."""
        product = 1
        for choices in self.values.values():
            product *= len(choices)
        return product

    @cached_property
    def size(self) -> int:
        """Number of legal Configs; enumerates the space once."""
        if not self.constraints:
            return self.combinations
        rows = self.rows()
        return len(rows) if rows is not None else sum(1 for _ in self)

    def rows(self, limit: int = _ROWS_LIMIT) -> np.ndarray[Any, Any] | None:
        """Return every legal Config as positions into ``values``, in canonical order.

        Much faster than iterating: each constraint is called once per combination of the values it
        looks at.

        Args:
            limit: most partial Configs to hold at a time.

        Returns:
            An int32 array of shape (legal Configs, tunables), or ``None`` if it would take more
            than ``limit``.
        """
        rows = np.zeros((1, 0), np.int32)
        for depth, choices in enumerate([(), *self.values.values()]):
            if depth:
                if len(rows) * len(choices) > 4 * limit:
                    return None
                column = np.tile(np.arange(len(choices), dtype=np.int32), len(rows))
                rows = np.column_stack([np.repeat(rows, len(choices), axis=0), column])
            for constraint in self._by_depth[depth]:
                rows = rows[self._passing(constraint, rows)]
            if len(rows) > limit:
                return None
        return rows

    def _passing(
        self, constraint: Constraint, rows: np.ndarray[Any, Any]
    ) -> np.ndarray[Any, np.dtype[np.bool_]]:
        order = {name: depth for depth, name in enumerate(self.values)}
        key, bound = np.zeros(len(rows), np.int64), 1
        for name in constraint.names:
            bound *= len(self.values[name])
            if bound > _KEY_LIMIT:  # keys are renumbered before they could overflow
                key = np.unique(key, return_inverse=True)[1].reshape(-1)
                bound = len(rows) * len(self.values[name])
            key = key * len(self.values[name]) + rows[:, order[name]]
        _, first, back = np.unique(key, return_index=True, return_inverse=True)
        verdicts = [
            bool(
                constraint.test(**{n: self.values[n][rows[i, order[n]]] for n in constraint.names})
            )
            for i in first
        ]
        return np.array(verdicts, bool)[back.reshape(-1)]

    def config(self, row: Iterable[int]) -> Config:
        """Return the Config at these positions into ``values``."""
        pairs = zip(self.values.items(), row, strict=True)
        return Config({name: choices[position] for (name, choices), position in pairs})

    def row(self, config: Mapping[str, Value]) -> tuple[int, ...]:
        """Return the positions into ``values`` of a Config that is in this space."""
        return tuple(self._position(name, config[name]) for name in self.values)

    def _position(self, name: str, value: Value) -> int:
        # Not tuple.index: True, 1 and 1.0 are three values.
        for position, choice in enumerate(self.values[name]):
            if choice == value and type(choice) is type(value):
                return position
        raise ArgumentError(f"{name}={value_text(value)} is not a value of the space")

    def sample(self, rng: random.Random) -> Config:
        """Return one legal Config, uniformly at random.

        Where fewer than about one combination in 2000 is legal, it is some legal Config, found by
        depth-first search in random order.

        Raises:
            ArgumentError: the space is empty.
        """
        for _ in range(_SAMPLE_TRIES):
            partial: dict[str, Value] = {}
            for depth, (name, choices) in enumerate(self.values.items(), start=1):
                partial[name] = rng.choice(choices)
                if not self._passes(depth, partial):
                    break
            else:
                if self._passes(0, partial):
                    return Config(partial)
        found = next(self._walk(rng), None)
        if found is None:
            raise ArgumentError(
                "the space is empty: no combination of values passes the constraints"
            )
        return found

    def neighbours(self, config: Config) -> list[Config]:
        """Return the legal Configs that differ in one value, the nearest values first."""
        found: list[tuple[int, Config]] = []
        for name, choices in self.values.items():
            here = self._position(name, config[name])
            for there, value in enumerate(choices):
                candidate = config.replace(**{name: value})
                if there != here and candidate in self:
                    found.append((abs(there - here), candidate))
        return [candidate for _, candidate in sorted(found, key=lambda pair: pair[0])]

    def __repr__(self) -> str:
        return f"Space({self.values!r}, {len(self.constraints)} constraints)"


def _choices(name: str, choices: object) -> Iterable[Value]:
    # A text would be taken for its letters.
    if isinstance(choices, str) or not isinstance(choices, Iterable):
        raise ArgumentError(
            f"tunable {name} has the values {shown(choices)}: write them as a tuple, also one alone"
        )
    return choices
