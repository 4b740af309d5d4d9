"""Items by name: what a hook returned is checked, is unique, and is found or nearly found."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, TypeVar

from .backend import Backend, Kernel
from .errors import ArgumentError, PluginError
from .op import Op

__all__ = ["check_kind", "find", "import_path", "unique"]

T = TypeVar("T")
K = TypeVar("K")

# What must be there for an item to be listed at all.
_TEXTS: dict[type, tuple[str, ...]] = {Backend: ("name",), Op: ("name",), Kernel: ("op", "name")}


def check_kind(item: Any, kind: type[Any]) -> None:
    """Check one item that a hook returned; a tuple stands for ``(name, Strategy)``.

    Raises:
        TypeError: it is not a ``kind``, or has no name.
    """
    if not isinstance(item, kind):
        raise TypeError(f"it returned {item!r}, which is not a {kind.__name__}")
    if kind is tuple and not (len(item) == 2 and isinstance(item[0], str) and callable(item[1])):
        raise TypeError(f"it returned {item!r}, which is not (name, Strategy)")
    for attribute in _TEXTS.get(kind, ()):
        if not isinstance(getattr(item, attribute, None), str):
            # Not the item itself: its repr may need what is missing.
            raise TypeError(f"it returned a {type(item).__name__} without {attribute}")


def unique(items: Iterable[tuple[str, K, T]], what: str) -> dict[K, T]:
    """Return ``(plugin, name, item)`` as items by name.

    Raises:
        PluginError: two have one name; the message names both plugins.
    """
    owner: dict[K, str] = {}
    found: dict[K, T] = {}
    for plugin, name, item in items:
        if name in owner:
            text = " ".join(name) if isinstance(name, tuple) else name
            raise PluginError(
                f"plugins {owner[name]!r} and {plugin!r} both bring the {what} '{text}': "
                f"set HWKIT_DISABLE_PLUGINS={plugin}, or uninstall one"
            )
        owner[name], found[name] = plugin, item
    return found


def find(known: Mapping[str, T], name: str, what: str, command: str) -> T:
    """Return ``known[name]``.

    Raises:
        ArgumentError: it is not there; the message has the nearest name, or all of them.
    """
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, 1)
    names = ", ".join(sorted(known)) or "none"
    hint = f"did you mean {close[0]!r}" if close else f"there are {names}"
    raise ArgumentError(f"{what} {name!r} is not known, {hint}: type '{command}'")


def import_path(plugin: object) -> str | None:
    """Return ``module`` or ``module:attribute`` by which a plugin is imported, or ``None``."""
    if isinstance(plugin, ModuleType):
        return plugin.__name__
    module = sys.modules.get(type(plugin).__module__)
    for attribute, value in vars(module).items() if module else ():
        if value is plugin:
            return f"{type(plugin).__module__}:{attribute}"
    return None
