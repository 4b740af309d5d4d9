"""What exists: the plugins, and the Backends, Devices, Kernels and Ops that they bring.

The only module that makes a plugin manager. Entry points are loaded one at a time, so that a broken
plugin is named and stops nobody.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pluggy

from . import hookspecs
from .backend import Backend, Device, Kernel
from .errors import ArgumentError, HwkitWarning, PluginError, Unavailable
from .op import Op
from .settings import settings

__all__ = ["GROUP", "LoadedPlugin", "Registry", "registry"]

GROUP = "hwkit"
_DEVICE = re.compile(r"([a-z][a-z0-9_]*)(?::([a-z0-9_.-]+))?\Z")
T = TypeVar("T")


@dataclass(frozen=True)
class LoadedPlugin:
    """One entry point, and what came of loading it.

    Attributes:
        name: entry point name.
        distribution: ``"name version"`` of the project that brings it, ``""`` if unknown.
        error: the traceback if loading failed, else ``None``.
        disabled: whether ``HWKIT_DISABLE_PLUGINS`` names it.
    """

    name: str
    distribution: str = ""
    error: str | None = None
    disabled: bool = False


class Registry:
    """Plugins and what they bring. Everything is asked for once and kept; safe from threads."""

    def __init__(
        self, plugins: Iterable[tuple[str, object]] = (), *, entry_points: bool = True
    ) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._lock = threading.RLock()
        self._devices: dict[tuple[str, str], Device] = {}
        self._kernels: dict[int, tuple[Kernel, ...]] = {}
        self._cache: dict[str, Any] = {}
        self._from_entry_points: set[str] = set()
        self.plugins: list[LoadedPlugin] = []
        if entry_points:
            self._load_entry_points()
        for name, plugin in plugins:
            self.register(plugin, name)

    def _load_entry_points(self) -> None:
        seen: set[str] = set()
        for point in importlib.metadata.entry_points(group=GROUP):
            distribution = f"{point.dist.name} {point.dist.version}" if point.dist else ""
            # An editable install beside a regular one lists the same point twice.
            if point.value in seen:
                continue
            seen.add(point.value)
            if point.name in settings().disable_plugins:
                self.plugins.append(LoadedPlugin(point.name, distribution, disabled=True))
                continue
            try:
                self.register(point.load(), point.name, distribution)
                self._from_entry_points.add(point.name)
            except BaseException as error:
                if isinstance(error, (KeyboardInterrupt, MemoryError)):
                    raise
                self.plugins.append(LoadedPlugin(point.name, distribution, traceback.format_exc()))
                warnings.warn(
                    f"plugin {point.name!r} ({distribution}) is left out, loading it failed with "
                    f"{type(error).__name__}: {error}; type 'hwkit doctor' for the traceback, or "
                    f"set HWKIT_DISABLE_PLUGINS={point.name}",
                    HwkitWarning,
                    stacklevel=2,
                )

    def register(self, plugin: object, name: str, distribution: str = "") -> None:
        """Add a plugin: a module or any object with hook implementations.

        Raises:
            PluginError: the name is taken, or an implementation does not fit its hook.
        """
        with self._lock:
            if self._manager.has_plugin(name):
                raise PluginError(f"two plugins are named {name!r}: uninstall or disable one")
            try:
                self._manager.register(plugin, name)
                self._manager.check_pending()
            except Exception as error:
                if self._manager.has_plugin(name):
                    self._manager.unregister(name=name)
                raise PluginError(f"plugin {name!r} does not fit the hooks: {error}") from error
            self.plugins.append(LoadedPlugin(name, distribution))
            self._cache.clear()
            self._kernels.clear()

    def carried(self) -> dict[str, str]:
        """Return the plugins registered by hand, as ``{name: "module:attribute"}``.

        A worker process registers the same. A plugin that is neither a module nor an attribute of
        the module of its class has no such path, and is left out.
        """
        found: dict[str, str] = {}
        for name, plugin in self._manager.list_name_plugin():
            path = None if name in self._from_entry_points else _import_path(plugin)
            if path is not None:
                found[name] = path
        return found

    def unregister(self, name: str) -> None:
        """Take a plugin out again, with the devices of its backends."""
        with self._lock:
            gone = {b.name for plugin, b in self._collect("hwkit_backends") if plugin == name}
            self._manager.unregister(name=name)
            self.plugins = [p for p in self.plugins if p.name != name]
            self._devices = {k: d for k, d in self._devices.items() if k[0] not in gone}
            self._cache.clear()
            self._kernels.clear()

    def _collect(self, hook: str, **arguments: object) -> list[tuple[str, Any]]:
        """Call a hook plugin by plugin; what one raises is reported, and stops nobody."""
        found: list[tuple[str, Any]] = []
        for name, plugin in self._manager.list_name_plugin():
            if plugin is None:
                continue
            caller = self._manager.subset_hook_caller(
                hook, [p for _, p in self._manager.list_name_plugin() if p is not plugin and p]
            )
            try:
                found += [(name, item) for items in caller(**arguments) for item in items]
            except Exception as error:
                self._note_broken(name, hook, error)
        return found

    def _note_broken(self, name: str, hook: str, error: Exception) -> None:
        self.plugins = [
            LoadedPlugin(p.name, p.distribution, traceback.format_exc()) if p.name == name else p
            for p in self.plugins
        ]
        warnings.warn(
            f"plugin {name!r} failed in {hook} with {type(error).__name__}: {error}; "
            "type 'hwkit doctor' for the traceback",
            HwkitWarning,
            stacklevel=4,
        )

    def _named(self, hook: str, kind: type[T]) -> dict[str, T]:
        with self._lock:
            if hook not in self._cache:
                owner: dict[str, str] = {}
                items: dict[str, T] = {}
                for plugin, item in self._collect(hook):
                    if not isinstance(item, kind):
                        raise PluginError(
                            f"plugin {plugin!r} returned {item!r} from {hook}, "
                            f"which is not a {kind.__name__}"
                        )
                    name: str = item.name  # type: ignore[attr-defined]
                    if name in owner:
                        raise PluginError(
                            f"plugins {owner[name]!r} and {plugin!r} both bring the "
                            f"{kind.__name__} {name!r}: set HWKIT_DISABLE_PLUGINS to one of them"
                        )
                    owner[name], items[name] = plugin, item
                self._cache[hook] = items
            result: dict[str, T] = self._cache[hook]
            return result

    def backends(self) -> dict[str, Backend]:
        """Return the Backends by name."""
        return self._named("hwkit_backends", Backend)  # type: ignore[type-abstract]

    def ops(self) -> dict[str, Op]:
        """Return the Ops by name."""
        return self._named("hwkit_ops", Op)  # type: ignore[type-abstract]

    def op(self, name: str) -> Op:
        """Return an Op.

        Raises:
            ArgumentError: there is none of that name.
        """
        return _find(self.ops(), name, "op", "hwkit ops")

    def device(self, name: str) -> Device:
        """Return a Device by name (``"cpu:0"``, or ``"cpu"`` for the first), opened on first use.

        Raises:
            ArgumentError: no backend or device of that name.
            Unavailable: the device is known but cannot be opened; the message says what to do.
        """
        match = _DEVICE.match(name)
        if match is None:
            raise ArgumentError(f"device {name!r} cannot be read: write it as cpu:0")
        backend_name, part = match.group(1), match.group(2) or "0"
        backend = _find(self.backends(), backend_name, "backend", "hwkit devices")
        with self._lock:
            device = self._devices.get((backend_name, part))
            if device is None:
                device = backend.open(_index(backend, part))
                self._devices[backend_name, part] = device
            return device

    def devices(self) -> dict[str, Device | Unavailable]:
        """Return every device by name, and for a backend without one the reason, by its name."""
        found: dict[str, Device | Unavailable] = {}
        for name, backend in self.backends().items():
            try:
                for index in range(backend.count()):
                    found[f"{name}:{index}"] = self.device(f"{name}:{index}")
            except Unavailable as reason:
                found[name] = reason
        return found

    def kernels(self, device: Device, op: str | None = None) -> tuple[Kernel, ...]:
        """Return the Kernels of a device, of one Op or all, in a fixed order."""
        with self._lock:
            if id(device) not in self._kernels:
                owner: dict[tuple[str, str], str] = {}
                kernels: list[Kernel] = []
                for plugin, kernel in self._collect("hwkit_kernels", device=device):
                    key = (kernel.op, kernel.name)
                    if key in owner:
                        raise PluginError(
                            f"plugins {owner[key]!r} and {plugin!r} both bring the kernel "
                            f"{kernel.name!r} for {kernel.op} on {device}: disable one of them"
                        )
                    owner[key] = plugin
                    kernels.append(kernel)
                self._kernels[id(device)] = tuple(sorted(kernels, key=lambda k: (k.op, k.name)))
            return tuple(k for k in self._kernels[id(device)] if op is None or k.op in (op, "*"))

    def record_files(self) -> tuple[Path, ...]:
        """Return the files of shipped Records."""
        with self._lock:
            if "records" not in self._cache:
                self._cache["records"] = tuple(f for _, f in self._collect("hwkit_records"))
            files: tuple[Path, ...] = self._cache["records"]
            return files

    def strategies(self) -> dict[str, Any]:
        """Return the search strategies that plugins bring, by name."""
        return {name: strategy for _, (name, strategy) in self._collect("hwkit_strategies")}

    def implements(self, hook: str) -> list[str]:
        """Return the names of the plugins that implement a hook."""
        return [impl.plugin_name for impl in getattr(self._manager.hook, hook).get_hookimpls()]


def _index(backend: Backend, part: str) -> int:
    count = backend.count()
    if not part.isdecimal() or int(part) >= count:
        raise ArgumentError(
            f"device {backend.name}:{part} does not exist, there are {count} of {backend.name}: "
            "type 'hwkit devices'"
        )
    return int(part)


def _import_path(plugin: object) -> str | None:
    if isinstance(plugin, ModuleType):
        return plugin.__name__
    module = sys.modules.get(type(plugin).__module__)
    for attribute, value in vars(module).items() if module else ():
        if value is plugin:
            return f"{type(plugin).__module__}:{attribute}"
    return None


def _find(known: dict[str, T], name: str, what: str, command: str) -> T:
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]!r}" if close else f"there are {', '.join(sorted(known))}"
    raise ArgumentError(f"{what} {name!r} is not known, {hint}: type '{command}'")


@cache
def registry() -> Registry:
    """Return the registry of this process, with all entry points of the group ``hwkit``."""
    return Registry()
