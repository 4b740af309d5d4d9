"""Entry points of installed projects, found without reading what else they say about themselves.

``importlib.metadata`` reads the same files, and takes longer to be imported than that takes. It is
asked wherever a project may lie elsewhere than as a folder on ``sys.path``.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from functools import reduce
from importlib import import_module
from importlib.machinery import PathFinder
from typing import Any, NamedTuple

__all__ = ["EntryPoint", "entry_points"]

_INFO = (".dist-info", ".egg-info")


class EntryPoint(NamedTuple):
    """What a project offers under a name.

    Attributes:
        name: of the entry point.
        value: ``module`` or ``module:attribute``.
        distribution: ``"name version"`` of the project, ``""`` if unknown.
    """

    name: str
    value: str
    distribution: str = ""

    def load(self) -> Any:
        """Import the module and return it, or the attribute."""
        module, _, attributes = self.value.partition("[")[0].partition(":")
        names = [name for name in attributes.strip().split(".") if name]
        return reduce(getattr, names, import_module(module.strip()))


def entry_points(group: str) -> list[EntryPoint]:
    """Return the entry points of a group, each project's once, in the order of ``sys.path``."""
    try:
        return list(_on_path(group))
    except _ElsewhereError:
        return _by_importlib(group)


class _ElsewhereError(Exception):
    """Projects may lie in archives, eggs or where a finder knows."""


def _by_importlib(group: str) -> list[EntryPoint]:
    from importlib import metadata

    return [
        EntryPoint(p.name, p.value, f"{p.dist.name} {p.dist.version}" if p.dist else "")
        for p in metadata.entry_points(group=group)
    ]


def _on_path(group: str) -> Iterator[EntryPoint]:
    if any(hasattr(f, "find_distributions") and f is not PathFinder for f in sys.meta_path):
        raise _ElsewhereError
    seen: set[str] = set()
    for root in map(str, sys.path):
        if root.lower().endswith(".egg"):
            raise _ElsewhereError
        try:
            names = os.listdir(root or ".")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _ElsewhereError from error
        for name in names:
            project = _project(name)
            # The first one on the path hides others of its name, which cannot be imported either.
            if project and project not in seen:
                seen.add(project)
                yield from _points(os.path.join(root, name), group)


def _project(folder: str) -> str:
    """Return the normal form of a project's name, from that of its folder; else nothing."""
    stem, suffix = os.path.splitext(folder.lower())
    return re.sub(r"[-_.]+", "_", stem.partition("-")[0]) if suffix in _INFO else ""


def _points(folder: str, group: str) -> Iterator[EntryPoint]:
    text = _text(os.path.join(folder, "entry_points.txt"))
    if f"[{group}]" not in text:
        return
    distribution, section = _distribution(folder), ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line.strip("[]")
        elif section == group and "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield EntryPoint(name.strip(), value.strip(), distribution)


def _distribution(folder: str) -> str:
    text = _text(os.path.join(folder, "METADATA")) or _text(os.path.join(folder, "PKG-INFO"))
    head = dict.fromkeys(("name", "version"), "")
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if not colon:
            break
        if key.lower() in head:
            head[key.lower()] = value.strip()
    return f"{head['name']} {head['version']}".strip()


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
