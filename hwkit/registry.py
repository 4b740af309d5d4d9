"""What exists: the Backends, Devices, Kernels and Ops that plugins bring."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from .backend import Backend, Device, Kernel
from .errors import ArgumentError, HwkitError, Unavailable, cause, shown
from .loading import Plugins
from .lookup import check_kind, find, unique
from .op import Op
from .settings import settings

__all__ = ["Registry", "registry"]

_DEVICE = re.compile(r"([a-z][a-z0-9_]*)(?::([a-z0-9_.-]+))?\Z")
T = TypeVar("T")


class Registry(Plugins):
    """Plugins and what they bring. Everything is asked for once and kept; safe from threads."""

    def __init__(
        self, plugins: Iterable[tuple[str, object]] = (), *, entry_points: bool = True
    ) -> None:
        super().__init__()
        self._devices: dict[tuple[str, int | str], Device] = {}
        # The device is kept beside its kernels: the id of one that is gone may be used again.
        self._kernels: dict[int, tuple[Device, tuple[Kernel, ...]]] = {}
        self._brought: dict[int, str] = {}
        self._cache: dict[str, Any] = {}
        if entry_points:
            self._load_entry_points()
        for name, plugin in plugins:
            self.register(plugin, name)

    def unregister(self, name: str) -> None:
        """Take a plugin out again, with the devices of its backends."""
        with self._lock:
            brought = self._collect("hwkit_backends", Backend)  # type: ignore[type-abstract]
            gone = {backend.name for plugin, backend in brought if plugin == name}
            super().unregister(name)
            self._devices = {k: d for k, d in self._devices.items() if k[0] not in gone}

    def _forget(self) -> None:
        self._cache.clear()
        self._kernels.clear()
        self._brought.clear()

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
        try:
            return self._opened(name)
        except ArgumentError as error:
            if name == os.environ.get("HWKIT_DEVICE", "").strip():
                raise ArgumentError(f"HWKIT_DEVICE names {name!r}: {error}") from None
            raise

    def _opened(self, name: str) -> Device:
        match = _DEVICE.match(name) if isinstance(name, str) else None
        if match is None:
            raise ArgumentError(f"device {shown(name)} cannot be read: write it as cpu:0")
        backends = self.backends()
        if match.group(1) not in backends and match.group(1) in settings().disable_plugins:
            raise ArgumentError(
                f"device {name} is of a plugin that HWKIT_DISABLE_PLUGINS names: take it out there"
            )
        backend = find(backends, match.group(1), "backend", "hwkit devices")
        with self._lock:
            try:
                key = backend.name, _index(backend, match.group(2) or "0")
                if key not in self._devices:
                    opened = backend.open(key[1])
                    check_kind(opened, Device)
                    self._devices[key] = opened
            except HwkitError:
                raise
            except (Exception, SystemExit) as error:
                raise Unavailable(
                    f"device {name} cannot be opened: its backend failed with {cause(error)}"
                ) from error
            return self._devices[key]

    def devices(self) -> dict[str, Device | Unavailable]:
        """Return every device by name; where there is none, the reason by the backend's name."""
        found: dict[str, Device | Unavailable] = {}
        for name, backend in self.backends().items():
            indices: tuple[int | str, ...] = ()
            try:
                count = backend.count()
                # Without a real device there is nothing to emulate another on.
                indices = (*range(count), *(backend.emulated() if count else ()))
            except Unavailable as reason:
                found[name] = reason
            except (Exception, SystemExit) as error:
                text = f"its backend failed with {cause(error)}"
                found[name] = Unavailable(text)
            for index in indices:
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
                self._brought.update({id(kernel): plugin for plugin, kernel in found})
            return tuple(k for k in self._kernels[id(device)][1] if op is None or k.op in (op, "*"))

    def stranger(self, kernel: Kernel) -> str:
        """Return the plugin that brought a Kernel, or ``""`` if it ships with hwkit.

        Those that ship with hwkit have passed its tests; what others bring is compared with the
        reference where it runs.
        """
        with self._lock:
            name = self._brought.get(id(kernel), "")
            own = [p for p in self.plugins if p.name == name and p.distribution]
            return "" if any(p.distribution.split()[0] == "hwkit" for p in own) else name

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
                found = self._collect("hwkit_nodes", object, ("domain", "types"))
                items = [(p, (k.domain, name), k) for p, k in found for name in k.types]  # type: ignore[attr-defined]
                self._cache["nodes"] = unique(items, "NodeType")
            result: dict[tuple[str, str], Any] = self._cache["nodes"]
            return result

    def passes(self) -> dict[str, Any]:
        """Return the passes over a Graph, by name."""
        with self._lock:
            if "passes" not in self._cache:
                found = self._collect("hwkit_passes", object, ("name", "rank", "run", "tail"))
                items = [(plugin, p.name, p) for plugin, p in found]  # type: ignore[attr-defined]
                self._cache["passes"] = unique(items, "Pass")
            result: dict[str, Any] = self._cache["passes"]
            return result


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
