"""Strategy: which Config to try next, by ask and tell."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple, Union

from ..config import Config
from ..errors import ArgumentError
from ..space import Space

__all__ = ["Option", "Strategy"]

Number = Union[int, float]


class Option(NamedTuple):
    """One option of a Strategy: its default, its least value, and what it does."""

    default: Number
    least: Number
    text: str


class Strategy(ABC):
    """Which Config to try next. The same rng seed and the same answers give the same questions.

    A subclass never asks a Config twice, never one outside the space, and takes answers to Configs
    that it did not ask for: those are the portfolio, which the tuner tries first.

    Args:
        space: the legal Configs.
        rng: the only source of chance.
        seeds: Configs to ask for first, in this order, as far as they are in ``space``.
        tables: seconds of Configs on other devices, one mapping a device; a hint, never believed.
        options: values for names in :attr:`OPTIONS`.

    Attributes:
        OPTIONS: the options that this strategy takes.

    Raises:
        ArgumentError: an option is not known, or not a number of the right kind and size.
    """

    OPTIONS: ClassVar[Mapping[str, Option]] = {}

    def __init__(
        self,
        space: Space,
        rng: random.Random,
        seeds: Sequence[Config] = (),
        tables: Sequence[Mapping[Config, float]] = (),
        **options: Number,
    ) -> None:
        self.space = space
        self.rng = rng
        self.seeds = tuple(seed for seed in dict.fromkeys(seeds) if seed in space)
        self.tables = tuple(tables)
        self.options = self._checked(options)

    def _checked(self, given: Mapping[str, Number]) -> dict[str, Number]:
        values = {name: option.default for name, option in self.OPTIONS.items()}
        for name, value in given.items():
            if name not in values:
                known = ", ".join(f"{n} ({o.text})" for n, o in self.OPTIONS.items()) or "none"
                raise ArgumentError(f"{self._name} has no option {name!r}; it has: {known}")
            kinds = (int, float) if isinstance(values[name], float) else (int,)
            least = self.OPTIONS[name].least
            if isinstance(value, bool) or not isinstance(value, kinds) or not value >= least:
                raise ArgumentError(
                    f"option {name}={value!r} of {self._name} must be "
                    f"{'a' if len(kinds) > 1 else 'a whole'} number, at least {least}"
                )
            values[name] = value
        return values

    @property
    def _name(self) -> str:
        return f"strategy {type(self).__name__.lower()}"

    @abstractmethod
    def ask(self) -> Config | None:
        """Return the Config to try next, or ``None`` when there is none left.

        May be called again before the answer to the last Config is told.
        """

    @abstractmethod
    def tell(self, config: Config, seconds: float) -> None:
        """Take the time of one Config; infinity if it failed. The last time told for it counts."""
