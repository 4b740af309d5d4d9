"""A backend of racks that do nothing, and plugins that bring it: for tests of the registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hwkit import (
    Backend,
    Device,
    Fingerprint,
    hookimpl,
)
from hwkit.registry import Registry


class Rack(Device):
    """A device that does nothing."""

    backend, arch = "rack", "none"

    def __init__(self, index: int) -> None:
        self.index = index
        self.fingerprint = Fingerprint({"backend": "rack"})

    def put(self, array: Any) -> Any:
        return array

    def get(self, buffer: Any) -> Any:
        return buffer


class RackBackend(Backend):
    """Two racks; ``count`` and ``open`` can be told to raise."""

    def __init__(self, name: str = "rack", error: Exception | None = None) -> None:
        self.name, self.error, self.opened = name, error, 0

    def count(self) -> int:
        return 2

    def open(self, index: int) -> Device:
        self.opened += 1
        if self.error is not None and index == 1:
            raise self.error
        return Rack(index)


def plugin(**hooks: Callable[..., Any]) -> object:
    """Return a plugin object with these hooks."""
    return type("Plugin", (), {name: staticmethod(hookimpl(f)) for name, f in hooks.items()})()


def made(**plugins: object) -> Registry:
    """Return a registry of these plugins only."""
    return Registry(plugins.items(), entry_points=False)


def no_backends() -> list[Backend]:
    """Return nothing."""
    return []


def rack_plugin() -> object:
    """Return a plugin with one backend of two devices."""
    backend = RackBackend()
    return plugin(hwkit_backends=lambda: [backend])
