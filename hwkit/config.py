"""Config: one choice of tunables, which prints as what one would type."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Union

from .errors import ArgumentError, shown

__all__ = ["Config", "Value", "checked_value", "value_text"]

Value = Union[bool, int, float, str]

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_TEXT_VALUE = re.compile(r"[A-Za-z0-9_./+x:-]+\Z")


class Config(Mapping[str, Value]):
    """One choice of tunables: a frozen, hashable mapping that prints as ``kc=256 tile=6x16``.

    Names are kept in sorted order, so equal Configs print alike. ``Config.parse(str(c)) == c``.
    """

    __slots__ = ("_hash", "_items")

    def __init__(self, values: Mapping[str, Value] | Iterable[tuple[str, Value]] = ()) -> None:
        try:
            given = sorted(dict(values).items())
        except (TypeError, ValueError):
            raise ArgumentError(
                f"a config {shown(values)} must be values by name: write it as {{'tile': 8}}"
            ) from None
        self._items: dict[str, Value] = {name: checked_value(name, value) for name, value in given}
        # type() keeps apart what == does not: True, 1 and 1.0.
        self._hash = hash(tuple((n, type(v), v) for n, v in self._items.items()))

    def __getitem__(self, name: str) -> Value:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Config):
            return NotImplemented
        return self._items == other._items and all(
            type(value) is type(other._items[name]) for name, value in self._items.items()
        )

    def __str__(self) -> str:
        return " ".join(f"{name}={value_text(value)}" for name, value in self._items.items())

    def __repr__(self) -> str:
        return f"Config.parse({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Config, (dict(self._items),)

    def replace(self, **changes: Value) -> Config:
        """Return this Config with some values changed."""
        return Config({**self._items, **changes})

    @classmethod
    def parse(cls, text: str) -> Config:
        """Read what ``str`` prints.

        Raises:
            ArgumentError: the text is not ``name=value name=value ...``.
        """
        if not isinstance(text, str):
            raise ArgumentError(f"config {shown(text)} must be a text, as 'tile=8'")
        values: dict[str, Value] = {}
        for word in text.split():
            name, equals, value = word.partition("=")
            if not equals or name in values:
                raise ArgumentError(
                    f"config {text!r} cannot be read at {word!r}: write a name once, as name=value"
                )
            values[name] = _read_value(value)
        return cls(values)


def checked_value(name: str, value: Value) -> Value:
    """Return the value of a tunable as Configs keep it.

    Raises:
        ArgumentError: the name or the value would not read back from text.
    """
    if not isinstance(name, str) or not _NAME.match(name):
        raise ArgumentError(f"tunable name {name!r} must be lower-case letters, digits and _")
    # Exact types: a numpy float64 prints alike, but would not equal what is read back.
    if type(value) is str:
        if not _TEXT_VALUE.match(value) or not isinstance(_read_value(value), str):
            raise ArgumentError(
                f"tunable {name} has the text value {value!r}, which would not read back as text"
            )
    elif type(value) not in (bool, int, float) or value != value:  # noqa: PLR0124  (NaN)
        raise ArgumentError(f"tunable {name} is {value!r}, but must be a bool, int, float or str")
    # -0.0 is equal to 0.0, and equal Configs print alike.
    return 0.0 if value == 0 and type(value) is float else value


def value_text(value: Value) -> str:
    """Return a value as a Config prints it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read_value(text: str) -> Value:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if value_text(number) == text:
            return number
    return text
