"""Items by name: what a hook returned is checked, is unique, and is found or nearly found."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, TypeVar

from .backend import Backend, Device, Kernel
from .errors import ArgumentError, PluginError
from .op import Op

__all__ = ["check_kind", "find", "import_path", "unique"]

T = TypeVar("T")
K = TypeVar("K")

# What must be there for an item to be listed at all.
_TEXTS: dict[type, tuple[str, ...]] = {
    Backend: ("name",), Device: ("arch",), Op: ("name",), Kernel: ("op", "name")
}  # fmt: skip

# Backends are asked for as "<name>:<index>".
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


def check_kind(item: Any, kind: type[Any], needs: tuple[str, ...] = ()) -> None:
    """Check one item that a hook returned; a tuple stands for ``(name, Strategy)``.

    Args:
        item: what was returned.
        kind: class of which it must be.
        needs: attributes that it must have.

    Raises:
        TypeError: it is not a ``kind``, has no name, or one that cannot be written.
    """
    if not isinstance(item, kind):
        raise TypeError(f"it returned {item!r}, which is not a {kind.__name__}")
    if kind is tuple and not (len(item) == 2 and isinstance(item[0], str) and callable(item[1])):
        raise TypeError(f"it returned {item!r}, which is not (name, Strategy)")
    missing = [attribute for attribute in needs if not hasattr(item, attribute)]
    if missing:
        raise TypeError(f"it returned {item!r}, which has no {missing[0]}")
    if "rank" in needs and not isinstance(item.rank, (int, float)):
        raise TypeError(f"rank {item.rank!r} of its {type(item).__name__} is no number")
    for attribute in _TEXTS.get(kind, ()):
        text = getattr(item, attribute, None)
        if not isinstance(text, str) or not text.strip():
            # Not the item itself: its repr may need what is missing.
            raise TypeError(f"it returned a {type(item).__name__} without {attribute}")
    if isinstance(item, Backend) and not _NAME.match(item.name):
        raise TypeError(f"it returned a Backend named {item.name!r}: lower-case letters, digits, _")
    if isinstance(item, Kernel) and not isinstance(item.version, int):
        raise TypeError(f"version {item.version!r} of its Kernel {item.name} is no whole number")


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
                f"plugin {plugin!r} brings the {what} '{text}' twice: mend it, or set "
                f"HWKIT_DISABLE_PLUGINS={plugin}"
                if owner[name] == plugin
                else f"plugins {owner[name]!r} and {plugin!r} both bring the {what} '{text}': "
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
