"""Which plugins there are: entry points, loaded one at a time, and those registered by hand.

The only module that makes a plugin manager. A broken plugin is named and stops nobody.
"""

from __future__ import annotations

import threading
import traceback
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import pluggy

from . import hookspecs
from .errors import HwkitWarning, PluginError, cause
from .lookup import check_kind, import_path
from .settings import settings

if TYPE_CHECKING:
    from importlib.metadata import Distribution

__all__ = ["GROUP", "LoadedPlugin", "Plugins"]

GROUP = "hwkit"
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


def _named(distribution: Distribution | None, texts: dict[int, str]) -> str:
    """Return name and version of what brings an entry point; each is read once, into ``texts``.

    Reading one takes a millisecond: the whole metadata is parsed.
    """
    if distribution is None:
        return ""
    if id(distribution) not in texts:
        texts[id(distribution)] = f"{distribution.name} {distribution.version}"
    return texts[id(distribution)]


class Plugins:
    """The plugins that are loaded, and their hooks. Safe from threads."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._lock = threading.RLock()
        self._from_entry_points: set[str] = set()
        self.plugins: list[LoadedPlugin] = []

    def _forget(self) -> None:
        """Forget what plugins brought: there is one more, or one less."""

    def _load_entry_points(self) -> None:
        import importlib.metadata  # late: it takes longer than all that hwkit imports

        seen: set[tuple[str, str]] = set()
        texts: dict[int, str] = {}
        for point in importlib.metadata.entry_points(group=GROUP):
            distribution = _named(point.dist, texts)
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
                    f"{cause(error)}; type 'hwkit doctor' for the traceback, or "
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
            self._forget()

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
        """Take a plugin out again."""
        with self._lock:
            self._manager.unregister(name=name)
            self.plugins = [p for p in self.plugins if p.name != name or p.error or p.disabled]
            self._forget()

    def _collect(
        self, hook: str, kind: type[T], needs: tuple[str, ...] = (), **arguments: object
    ) -> list[tuple[str, T]]:
        """Call a hook plugin by plugin; what one raises is reported, and stops nobody.

        Args:
            hook: its name.
            kind: class of which all items must be.
            needs: attributes that all items must have.
            arguments: of the hook.
        """
        found: list[tuple[str, T]] = []
        everybody = [(name, p) for name, p in self._manager.list_name_plugin() if p is not None]
        for name, plugin in everybody:
            caller = self._manager.subset_hook_caller(
                hook, [p for _, p in everybody if p is not plugin]
            )
            try:
                items = [item for items in caller(**arguments) for item in items]
                for item in items:
                    check_kind(item, kind, needs)
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
            f"plugin {name!r} failed in {hook} with {cause(error)}; "
            "type 'hwkit doctor' for the traceback",
            HwkitWarning,
            stacklevel=5,
        )
