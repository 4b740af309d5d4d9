"""What exists: the plugins, and the Backends, Devices, Kernels and Ops that they bring.

The only module that makes a plugin manager. Entry points are loaded one at a time, so that a broken
plugin is named and stops nobody.
"""

from __future__ import annotations

import os
import re
import threading
import traceback
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pluggy

from . import discovery, hookspecs
from .backend import Backend, Device, Kernel
from .errors import ArgumentError, HwkitError, HwkitWarning, PluginError, Unavailable
from .lookup import check_kind, find, import_path, unique
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
        self._devices: dict[tuple[str, int | str], Device] = {}
        # The device is kept beside its kernels: the id of one that is gone may be used again.
        self._kernels: dict[int, tuple[Device, tuple[Kernel, ...]]] = {}
        self._cache: dict[str, Any] = {}
        self._from_entry_points: set[str] = set()
        self.plugins: list[LoadedPlugin] = []
        if entry_points:
            self._load_entry_points()
        for name, plugin in plugins:
            self.register(plugin, name)

    def _load_entry_points(self) -> None:
        seen: set[tuple[str, str]] = set()
        for point in discovery.entry_points(GROUP):
            distribution = point.distribution
            # An editable install beside a regular one lists the same point twice.
            if (point.name, point.value) in seen:
                continue
            seen.add((point.name, point.value))
            if point.name in settings().disable_plugins:
                self.plugins.append(LoadedPlugin(point.name, distribution, disabled=True))
                continue
            try:
                self.register(point.load(), point.name, distribution)
                self._from_entry_points.add(point.name)
            except (Exception, SystemExit, GeneratorExit) as error:
                self.plugins.append(LoadedPlugin(point.name, distribution, traceback.format_exc()))
                warnings.warn(
                    f"plugin {point.name!r} ({distribution}) is left out, loading it failed with "
                    f"{type(error).__name__}: {error}; type 'hwkit doctor' for the traceback, or "
                    f"set HWKIT_DISABLE_PLUGINS={point.name}",
                    HwkitWarning,
                    stacklevel=3,
                )

    def register(self, plugin: object, name: str, distribution: str = "") -> None:
        """Add a plugin: a module or any object with hook implementations.

        Raises:
            PluginError: the name is taken, or an implementation does not fit its hook.
        """
        with self._lock:
            if self._manager.has_plugin(name):
                raise PluginError(self._name_clash(name, distribution))
            try:
                self._manager.register(plugin, name)
                self._manager.check_pending()
            except Exception as error:
                if self._manager.has_plugin(name):
                    self._manager.unregister(name=name)
                reason = " ".join(str(error).split())  # pluggy breaks lines
                raise PluginError(f"plugin {name!r} does not fit the hooks: {reason}") from error
            self.plugins.append(LoadedPlugin(name, distribution))
            self._cache.clear()
            self._kernels.clear()

    def _name_clash(self, name: str, distribution: str) -> str:
        first = next((p.distribution for p in self.plugins if p.name == name), "")
        origins = " and ".join(text or "one registered by hand" for text in (first, distribution))
        return f"two plugins are named {name!r} ({origins}): uninstall or rename one"

    def carried(self) -> dict[str, str]:
        """Return the plugins registered by hand, as ``{name: "module:attribute"}``.

        A worker process registers the same. A plugin that is neither a module nor an attribute of
        the module of its class has no such path, and is left out.
        """
        found: dict[str, str] = {}
        for name, plugin in self._manager.list_name_plugin():
            path = None if name in self._from_entry_points else import_path(plugin)
            if path is not None:
                found[name] = path
        return found

    def unregister(self, name: str) -> None:
        """Take a plugin out again, with the devices of its backends."""
        with self._lock:
            brought = self._collect("hwkit_backends", Backend)  # type: ignore[type-abstract]
            gone = {backend.name for plugin, backend in brought if plugin == name}
            self._manager.unregister(name=name)
            self.plugins = [p for p in self.plugins if p.name != name or p.error or p.disabled]
            self._devices = {k: d for k, d in self._devices.items() if k[0] not in gone}
            self._cache.clear()
            self._kernels.clear()

    def _collect(self, hook: str, kind: type[T], **arguments: object) -> list[tuple[str, T]]:
        """Call a hook plugin by plugin; what one raises is reported, and stops nobody."""
        found: list[tuple[str, T]] = []
        everybody = [(name, p) for name, p in self._manager.list_name_plugin() if p is not None]
        for name, plugin in everybody:
            caller = self._manager.subset_hook_caller(
                hook, [p for _, p in everybody if p is not plugin]
            )
            try:
                items = [item for items in caller(**arguments) for item in items]
                for item in items:
                    check_kind(item, kind)
            except (Exception, SystemExit) as error:
                self._note_broken(name, hook, error)
            else:
                found += [(name, item) for item in items]
        return found

    def _note_broken(self, name: str, hook: str, error: BaseException) -> None:
        self.plugins = [
            LoadedPlugin(p.name, p.distribution, traceback.format_exc())
            if p.name == name and not p.disabled and p.error is None
            else p
            for p in self.plugins
        ]
        warnings.warn(
            f"plugin {name!r} failed in {hook} with {type(error).__name__}: {error}; "
            "type 'hwkit doctor' for the traceback",
            HwkitWarning,
            stacklevel=5,
        )

    def _named(self, hook: str, kind: type[T]) -> dict[str, T]:
        with self._lock:
            if hook not in self._cache:
                items = [(p, i.name, i) for p, i in self._collect(hook, kind)]  # type: ignore[attr-defined]
                self._cache[hook] = unique(items, kind.__name__)
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
        return find(self.ops(), name, "op", "hwkit ops")

    def device(self, name: str) -> Device:
        """Return a Device by name (``"cpu:0"``, or ``"cpu"`` for the first), opened on first use.

        Raises:
            ArgumentError: no backend or device of that name.
            Unavailable: the device is known but cannot be opened; the message says what to do.
        """
        match = _DEVICE.match(name)
        if match is None:
            raise ArgumentError(f"device {name!r} cannot be read: write it as cpu:0")
        backend = find(self.backends(), match.group(1), "backend", "hwkit devices")
        with self._lock:
            try:
                key = backend.name, _index(backend, match.group(2) or "0")
                if key not in self._devices:
                    self._devices[key] = backend.open(key[1])
            except HwkitError:
                raise
            except Exception as error:
                raise Unavailable(
                    f"device {name} cannot be opened: its backend failed with "
                    f"{type(error).__name__}: {error}"
                ) from error
            return self._devices[key]

    def devices(self) -> dict[str, Device | Unavailable]:
        """Return every device by name; where there is none, the reason by the backend's name."""
        found: dict[str, Device | Unavailable] = {}
        for name, backend in self.backends().items():
            count = 0
            try:
                count = backend.count()
            except Unavailable as reason:
                found[name] = reason
            except Exception as error:
                text = f"its backend failed with {type(error).__name__}: {error}"
                found[name] = Unavailable(text)
            # Without a real device there is nothing to emulate another on.
            for index in (*range(count), *(backend.emulated() if count else ())):
                try:
                    found[f"{name}:{index}"] = self.device(f"{name}:{index}")
                except Unavailable as reason:
                    found[f"{name}:{index}"] = reason
        return found

    def kernels(self, device: Device, op: str | None = None) -> tuple[Kernel, ...]:
        """Return the Kernels of a device, of one Op or all, in a fixed order."""
        with self._lock:
            if id(device) not in self._kernels:
                found = self._collect("hwkit_kernels", Kernel, device=device)  # type: ignore[type-abstract]
                items = [(plugin, (k.op, k.name), k) for plugin, k in found]
                kernels = unique(items, f"Kernel of {device}").values()
                ordered = tuple(sorted(kernels, key=lambda k: (k.op, k.name)))
                self._kernels[id(device)] = device, ordered
            return tuple(k for k in self._kernels[id(device)][1] if op is None or k.op in (op, "*"))

    def record_files(self) -> tuple[Path, ...]:
        """Return the files of shipped Records."""
        with self._lock:
            if "records" not in self._cache:
                self._cache["records"] = tuple(f for _, f in self._collect("hwkit_records", Path))
            files: tuple[Path, ...] = self._cache["records"]
            return files

    def strategies(self) -> dict[str, Any]:
        """Return the search strategies that plugins bring, by name."""
        with self._lock:
            found = self._collect("hwkit_strategies", tuple)
            return unique([(plugin, name, made) for plugin, (name, made) in found], "Strategy")

    def node_types(self) -> dict[tuple[str, str], Any]:
        """Return how ONNX node types run, by domain and type."""
        with self._lock:
            if "nodes" not in self._cache:
                found = self._collect("hwkit_nodes", object)
                items = [(p, (k.domain, name), k) for p, k in found for name in k.types]  # type: ignore[attr-defined]
                self._cache["nodes"] = unique(items, "NodeType")
            result: dict[tuple[str, str], Any] = self._cache["nodes"]
            return result

    def passes(self) -> dict[str, Any]:
        """Return the passes over a Graph, by name."""
        with self._lock:
            if "passes" not in self._cache:
                found = self._collect("hwkit_passes", object)
                items = [(plugin, p.name, p) for plugin, p in found]  # type: ignore[attr-defined]
                self._cache["passes"] = unique(items, "Pass")
            result: dict[str, Any] = self._cache["passes"]
            return result

    def implements(self, hook: str) -> list[str]:
        """Return the names of the plugins that implement a hook."""
        return [impl.plugin_name for impl in getattr(self._manager.hook, hook).get_hookimpls()]


def _index(backend: Backend, part: str) -> int | str:
    count = backend.count()
    if part in backend.emulated():
        return part
    if not part.isdecimal() or int(part) >= count:
        raise ArgumentError(
            f"device {backend.name}:{part} does not exist, there are {count} of {backend.name}"
            f"{_named(backend.emulated())}: "
            "type 'hwkit devices'"
        )
    return int(part)


def _named(emulated: tuple[str, ...]) -> str:
    return f" and emulated {', '.join(emulated)}" if emulated else ""


_lock = threading.Lock()


def registry() -> Registry:
    """Return the registry of this process, with all entry points of the group ``hwkit``."""
    with _lock:
        return _only_registry()


@cache
def _only_registry() -> Registry:
    return Registry()


def _after_fork() -> None:
    # Threads of the parent that held a lock do not exist in the child, which would wait for ever.
    global _lock  # noqa: PLW0603  (a lock cannot be replaced in any other way)
    _lock = threading.Lock()
    if _only_registry.cache_info().currsize:
        _only_registry()._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
