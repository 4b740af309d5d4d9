"""The checks of ``hwkit doctor``; each area is looked at on its own, so that none hides another."""

from __future__ import annotations

import difflib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import platform
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ..errors import HwkitError, Unavailable, cause
from ..settings import VARIABLES, Settings, settings
from .output import nbytes
from .progress import count

__all__ = ["Check", "checkup"]

# All variables begin alike: what is less alike is another word, not a misspelt one.
_ALIKE = 0.8


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes:
        area: heading under which it is shown.
        name: what was looked at.
        state: ``"ok"``, ``"note"`` (not as it could be, but nothing to repair) or ``"broken"``.
        text: what was found.
        detail: more lines, such as a traceback.
    """

    area: str
    name: str
    state: str
    text: str
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def checkup() -> list[Check]:
    """Return all checks, in the order in which a person would make them."""
    areas: tuple[tuple[str, Callable[[], Iterator[Check]]], ...] = (
        ("versions", _versions),
        ("plugins", _plugins),
        ("compiled modules", _compiled),
        ("devices", _devices),
        ("database", _database),
        ("settings", _settings),
    )
    found: list[Check] = []
    with warnings.catch_warnings():
        # What would be warned of is what is reported here.
        warnings.simplefilter("ignore")
        for area, look in areas:
            try:
                found += look()
            except HwkitError as error:
                found.append(Check(area, "", "broken", str(error)))
            except Exception as error:
                found.append(Check(area, "", "broken", cause(error), traceback.format_exc()))
    return found


def _versions() -> Iterator[Check]:
    import numpy

    from .. import __version__

    where = Path(__file__).resolve().parents[1]
    yield Check("versions", "hwkit", "ok", f"{__version__} in {where}")
    python = f"{platform.python_version()} {platform.python_implementation()}, {sys.executable}"
    yield Check("versions", "python", "ok", python)
    yield Check("versions", "numpy", "ok", str(numpy.__version__))
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()} {platform.machine()}, {cpus} CPUs for this process"
    yield Check("versions", "system", "ok", system)


def _plugins() -> Iterator[Check]:
    from ..loading import GROUP
    from ..registry import registry

    known = registry()
    for ask in (
        known.backends, known.ops, known.record_files, known.strategies, known.node_types,
        known.passes,
    ):  # fmt: skip
        # A hook that fails marks its plugin as broken, which is then seen below.
        ask()
    for plugin in known.plugins:
        origin = plugin.distribution or "no distribution"
        if plugin.error is not None:
            last = plugin.error.strip().splitlines()[-1]
            yield Check(
                "plugins", plugin.name, "broken", f"{origin}, {last}", plugin.error.rstrip()
            )
        elif plugin.disabled:
            yield Check("plugins", plugin.name, "note", f"{origin}, HWKIT_DISABLE_PLUGINS names it")
        else:
            yield Check("plugins", plugin.name, "ok", origin)
    for name in sorted(settings().disable_plugins - {plugin.name for plugin in known.plugins}):
        text = "HWKIT_DISABLE_PLUGINS names it, but there is no such plugin"
        yield Check("plugins", name, "note", text)
    if not known.plugins:
        yield Check("plugins", GROUP, "broken", "no plugin is installed: pip install hwkit")


def _compiled() -> Iterator[Check]:
    """Look for extension modules beside the modules that the entry points name."""
    from ..loading import GROUP

    packages = {e.module.partition(".")[0] for e in importlib.metadata.entry_points(group=GROUP)}
    for package in sorted(packages):
        spec = importlib.util.find_spec(package)
        for folder in map(Path, (spec.submodule_search_locations or ()) if spec else ()):
            # Editable installs list a hook that is no folder.
            for name in sorted(_extensions(folder)) if folder.is_dir() else ():
                yield _import(f"{package}.{name}")


def _extensions(folder: Path) -> set[str]:
    suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES)
    return {f.name.partition(".")[0] for f in folder.iterdir() if f.name.endswith(suffixes)}


def _import(name: str) -> Check:
    try:
        module = importlib.import_module(name)
    except Exception as error:
        return Check(
            "compiled modules", name, "broken", cause(error), traceback.format_exc().rstrip()
        )
    return Check("compiled modules", name, "ok", str(module.__file__))


def _devices() -> Iterator[Check]:
    from ..registry import registry

    usable = False
    for name, backend in registry().backends().items():
        try:
            names = [f"{name}:{index}" for index in range(backend.count())]
        except Exception as error:
            yield _unusable(name, error)
            continue
        for check in chain.from_iterable(map(_device, names)):
            usable |= check.state == "ok"
            yield check
    if not usable:
        yield Check("devices", "usable", "broken", "none: no device has a kernel")


def _device(name: str) -> Iterator[Check]:
    from ..registry import registry

    try:
        device = registry().device(name)
        kernels = registry().kernels(device)
    except Exception as error:
        yield _unusable(name, error)
        return
    text = f"{device.arch}, {count(len(kernels), 'kernel')}"
    yield Check("devices", name, "ok" if kernels else "broken", text)
    for op in sorted({kernel.op for kernel in kernels} - {*registry().ops(), "*"}):
        named = ", ".join(kernel.name for kernel in kernels if kernel.op == op)
        yield Check("devices", name, "note", f"no op is named {op!r}, so nobody calls {named}")


def _unusable(name: str, error: Exception) -> Check:
    """Tell hardware that is not there, which is a note, from a backend that does not work."""
    root = error.__cause__
    if isinstance(error, Unavailable) and (root is None or isinstance(root, ImportError)):
        return Check("devices", name, "note", str(error))
    detail = "".join(traceback.format_exception(root or error)).rstrip()
    text = str(error) if isinstance(error, HwkitError) else cause(error)
    return Check("devices", name, "broken", text, detail)


def _database() -> Iterator[Check]:
    from .database import facts

    found = facts()
    made = "" if found["exists"] else " (made by the first tuning)"
    yield Check("database", "file", "ok", f"{found['path'] or 'in memory'}{made}")
    if found["writable"]:
        size = f", {nbytes(found['bytes'])}" if found["exists"] else ""
        yield Check("database", "writable", "ok", f"yes{size}")
    else:
        text = "no, new records will be lost: set HWKIT_DB to a file that can be written"
        yield Check("database", "writable", "broken", text)
    counts = found["counts"]
    text = f"{count(counts['trials'], 'trial')} of {count(counts['problems'], 'problem')}"
    text += f", {counts['failed']} failed"
    yield Check("database", "user", "ok", text)
    yield Check("database", "shipped", "ok", count(counts["shipped"], "record"))
    if counts["quarantined"]:
        text = f"not tried again: {count(counts['quarantined'], 'unfinished candidate')}"
        yield Check("database", "quarantine", "note", f"{text}; type 'hwkit db gc --quarantine'")
    if found["wrong"]:
        text = f"left out: {count(len(found['wrong']), 'record')}; type 'hwkit db verify'"
        detail = "\n".join(f"{where}: {why}" for where, why in found["wrong"].items())
        yield Check("database", "damage", "broken", text, detail)


def _settings() -> Iterator[Check]:
    given = {n: v for n, v in os.environ.items() if n.startswith("HWKIT_")}
    for name, value in sorted(given.items()):
        if name in VARIABLES:
            yield Check("settings", name, "ok", value)
            continue
        close = difflib.get_close_matches(name, VARIABLES, 1, _ALIKE)
        hint = f": did you mean {close[0]}?" if close else "; a plugin may"
        yield Check("settings", name, "note", f"{value} (hwkit does not read it{hint})")
    try:
        read = Settings.from_environment()
    except HwkitError as error:
        yield Check("settings", "values", "broken", str(error))
        return
    yield Check("settings", "device", "ok", read.device)
    yield Check("settings", "threads", "ok", str(read.threads or "all CPUs of this process"))
    yield Check("settings", "max isa", "ok", read.max_isa or "the machine's")
