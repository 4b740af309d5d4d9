"""Plugins as they are loaded and registered, and what happens when one of them is broken."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from racks import RackBackend, made, no_backends, plugin, rack_plugin

from hwkit import ArgumentError, HwkitWarning, PluginError
from hwkit.registry import Registry
from hwkit.settings import settings


class Point:
    """An entry point as ``importlib.metadata`` has it."""

    def __init__(self, name: str, load: Any, value: str = "", dist: str = "acme") -> None:
        self.name, self.value, self._load = name, value or name, load
        self.dist = type("Dist", (), {"name": dist, "version": "1.0"})()

    def load(self) -> Any:
        return self._load() if callable(self._load) else self._load


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Point]]:
    """Entry points that the next registry finds."""
    found: list[Point] = []
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found)
    settings.cache_clear()
    yield found
    settings.cache_clear()


def test_broken_plugin_is_named_and_stops_nobody(points: list[Point]) -> None:
    """Plugins that raise anything while they load are left out, with their tracebacks."""

    def fails() -> Any:
        raise ImportError("no module named driver")

    def exits() -> Any:
        raise SystemExit(3)

    points += [Point("bad", fails), Point("worse", exits), Point("good", rack_plugin())]
    with pytest.warns(HwkitWarning) as seen:
        found = Registry()
    messages = [str(w.message) for w in seen]
    assert "plugin 'bad' (acme 1.0) is left out" in messages[0]
    assert "HWKIT_DISABLE_PLUGINS=bad" in messages[0]
    assert "'worse'" in messages[1]
    assert [p.name for p in found.plugins if p.error] == ["bad", "worse"]
    assert "no module named driver" in str(found.plugins[0].error)
    assert str(found.device("rack:1")) == "rack:1"


def test_interrupt_while_loading_is_not_swallowed(points: list[Point]) -> None:
    """Ctrl-C during start-up ends the program."""

    def interrupted() -> Any:
        raise KeyboardInterrupt

    points.append(Point("slow", interrupted))
    with pytest.raises(KeyboardInterrupt):
        Registry()


def test_disabled_plugin_is_not_even_imported(
    points: list[Point], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``HWKIT_DISABLE_PLUGINS`` names entry points that are never loaded, and it shows."""
    points += [Point("bad", lambda: 1 / 0), Point("good", rack_plugin())]
    monkeypatch.setenv("HWKIT_DISABLE_PLUGINS", " bad ,other")
    found = Registry()
    assert [(p.name, p.disabled) for p in found.plugins] == [("bad", True), ("good", False)]
    with pytest.raises(ArgumentError, match="bad:0 is of a plugin that HWKIT_DISABLE_PLUGINS"):
        found.device("bad:0")


def test_point_that_is_listed_twice_counts_once(points: list[Point]) -> None:
    """An editable install beside a regular one is no clash."""
    points += [Point("one", rack_plugin(), "module"), Point("one", rack_plugin(), "module")]
    assert [p.name for p in Registry().plugins] == ["one"]


def test_two_projects_with_one_plugin_name_are_both_named(points: list[Point]) -> None:
    """The second is left out, and the warning has both distributions."""
    points += [
        Point("one", rack_plugin(), "a", dist="acme"),
        Point("one", rack_plugin(), "b", dist="zeta"),
    ]
    with pytest.warns(HwkitWarning, match=r"named 'one' \(acme 1.0 and zeta 1.0\)"):
        found = Registry()
    assert len(found.backends()) == 1


def test_registering_a_name_twice_is_an_error() -> None:
    """By hand as well."""
    found = made(one=rack_plugin())
    with pytest.raises(PluginError, match="two plugins are named 'one'"):
        found.register(rack_plugin(), "one")


def test_misspelt_hook_and_wrong_arguments_are_errors() -> None:
    """What pluggy would ignore or report late is reported at once, and leaves nothing behind."""
    found = made()
    with pytest.raises(PluginError, match=r"plugin 'typo' does not fit the hooks.*hwkit_backend"):
        found.register(plugin(hwkit_backend=no_backends), "typo")
    with pytest.raises(PluginError, match=r"plugin 'more' does not fit the hooks.*gpu"):
        found.register(plugin(hwkit_kernels=lambda gpu: []), "more")
    assert found.plugins == []
    found.register(rack_plugin(), "typo")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: RackBackend(), "TypeError"),
        (lambda: ["rack"], "which is not a Backend"),
        (lambda: [RackBackend(name=None)], "without name"),  # type: ignore[arg-type]
        (lambda: [RackBackend(name=" ")], "without name"),
    ],
)
def test_hook_that_fails_is_reported_and_stops_nobody(
    answer: Callable[[], Any], message: str
) -> None:
    """A hook that raises, or returns something else, is a warning; the other plugin works."""
    found = made(bad=plugin(hwkit_backends=answer), good=rack_plugin())
    with pytest.warns(HwkitWarning, match=rf"plugin 'bad' failed in hwkit_backends.*{message}"):
        assert list(found.backends()) == ["rack"]
    assert [p.name for p in found.plugins if p.error] == ["bad"]


def test_what_a_hook_raises_is_told_on_one_line() -> None:
    """Compilers and drivers raise many lines; a warning stays one sentence."""

    def raises() -> Any:
        raise RuntimeError("no licence:\n  call us\n")

    found = made(bad=plugin(hwkit_backends=raises), good=rack_plugin())
    with pytest.warns(HwkitWarning, match=r"RuntimeError: no licence: call us; type 'hwkit doctor"):
        assert list(found.backends()) == ["rack"]


def test_carried_plugins_are_those_registered_by_hand(points: list[Point]) -> None:
    """A worker process loads entry points itself, and is told about the rest."""
    points.append(Point("installed", rack_plugin()))
    found = Registry()
    found.register(os, "module")
    found.register(rack_plugin(), "nameless")
    assert found.carried() == {"module": "os"}
