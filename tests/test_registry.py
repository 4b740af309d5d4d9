"""The registry: who is loaded, what they bring, and what happens when one of them is broken."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hwkit import (
    ArgumentError,
    Backend,
    Device,
    Fingerprint,
    HwkitWarning,
    Kernel,
    PluginError,
    Unavailable,
    discovery,
    hookimpl,
)
from hwkit.registry import Registry, registry
from hwkit.settings import settings


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


class Nothing(Kernel):
    """A kernel that supports nothing."""

    def __init__(self, name: str, op: str = "gemm") -> None:
        self.op, self.name = op, name

    def supports(self, problem: Any) -> bool | str:
        return "it does nothing"

    def build(self, problem: Any, config: Any) -> Any:
        raise AssertionError


def plugin(**hooks: Callable[..., Any]) -> object:
    """Return a plugin object with these hooks."""
    return type("Plugin", (), {name: staticmethod(hookimpl(f)) for name, f in hooks.items()})()


def made(**plugins: object) -> Registry:
    """Return a registry of these plugins only."""
    return Registry(plugins.items(), entry_points=False)


class Point:
    """An entry point as ``hwkit.discovery`` has it."""

    def __init__(self, name: str, load: Any, value: str = "", dist: str = "acme") -> None:
        self.name, self.value, self._load = name, value or name, load
        self.distribution = f"{dist} 1.0"

    def load(self) -> Any:
        return self._load() if callable(self._load) else self._load


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Point]]:
    """Entry points that the next registry finds."""
    found: list[Point] = []
    monkeypatch.setattr(discovery, "entry_points", lambda group: found)
    settings.cache_clear()
    yield found
    settings.cache_clear()


def no_backends() -> list[Backend]:
    """Return nothing."""
    return []


def rack_plugin() -> object:
    """Return a plugin with one backend of two devices."""
    backend = RackBackend()
    return plugin(hwkit_backends=lambda: [backend])


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


def test_two_backends_of_one_name_name_both_plugins() -> None:
    """So the user knows which to remove."""
    found = made(first=rack_plugin(), second=rack_plugin())
    with pytest.raises(PluginError, match=r"plugins 'first' and 'second' both bring.*'rack'"):
        found.backends()


def test_two_kernels_of_one_name_name_both_plugins() -> None:
    """Records would not tell them apart."""
    kernels = plugin(hwkit_kernels=lambda device: [Nothing("tiled")])
    others = plugin(hwkit_kernels=lambda device: [Nothing("tiled")])
    found = made(rack=rack_plugin(), first=kernels, second=others)
    with pytest.raises(PluginError, match=r"'first' and 'second'.*Kernel of rack:0 'gemm tiled'"):
        found.kernels(found.device("rack"))


def test_kernels_are_sorted_and_chosen_by_op() -> None:
    """The order is fixed; a kernel for ``*`` serves every Op."""
    names = [Nothing("z"), Nothing("a"), Nothing("m", "conv2d"), Nothing("all", "*")]
    found = made(rack=rack_plugin(), kernels=plugin(hwkit_kernels=lambda device: names))
    device = found.device("rack")
    assert [k.name for k in found.kernels(device)] == ["all", "m", "a", "z"]
    assert [k.name for k in found.kernels(device, "conv2d")] == ["all", "m"]


def test_kernels_are_asked_for_once_per_device() -> None:
    """Also for devices that come and go and may share an ``id``."""
    asked: list[str] = []

    def kernels(device: Device) -> list[Kernel]:
        asked.append(str(device))
        return [Nothing(f"k{device.index}")]

    found = made(kernels=plugin(hwkit_kernels=kernels))
    for index in range(50):
        assert found.kernels(Rack(index))[0].name == f"k{index}"
    assert len(asked) == 50


def test_device_is_opened_once_by_any_spelling() -> None:
    """``rack``, ``rack:0`` and ``rack:00`` are one device."""
    backend = RackBackend()
    found = made(rack=plugin(hwkit_backends=lambda: [backend]))
    assert found.device("rack") is found.device("rack:0") is found.device("rack:00")
    assert backend.opened == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rakc", "backend 'rakc' is not known, did you mean 'rack'"),
        ("q", "there are rack"),
        ("rack:2", "device rack:2 does not exist, there are 2 of rack"),
        ("rack:x", "rack:x does not exist"),
        ("", "cannot be read"),
        ("Rack 0", "cannot be read: write it as cpu:0"),
    ],
)
def test_unknown_devices_are_one_sentence(name: str, message: str) -> None:
    """The sentence says what is there instead."""
    with pytest.raises(ArgumentError, match=message):
        made(rack=rack_plugin()).device(name)


def test_unavailable_devices_keep_their_reasons() -> None:
    """Backends and single devices that are missing or fail are listed with the reason."""

    class Missing(RackBackend):
        def count(self) -> int:
            raise Unavailable("driver is not installed: pip install driver")

    class Failing(RackBackend):
        def count(self) -> int:
            raise OSError("library not found")

    backends = [Missing("missing"), Failing("failing"), RackBackend("half", Unavailable("busy"))]
    found = made(all=plugin(hwkit_backends=lambda: backends)).devices()
    assert str(found["missing"]) == "driver is not installed: pip install driver"
    assert "OSError: library not found" in str(found["failing"])
    assert isinstance(found["half:0"], Rack)
    assert str(found["half:1"]) == "busy"


def test_error_of_a_driver_becomes_a_sentence() -> None:
    """What ``open`` raises is named after the device, with the cause kept."""
    backend = RackBackend(error=ValueError("bad firmware"))
    found = made(rack=plugin(hwkit_backends=lambda: [backend]))
    with pytest.raises(
        Unavailable, match=r"rack:1 cannot be opened.*ValueError: bad firmware"
    ) as caught:
        found.device("rack:1")
    assert isinstance(caught.value.__cause__, ValueError)


def test_unregistered_plugin_takes_its_devices_along() -> None:
    """And can come back."""
    found = made(rack=rack_plugin())
    first = found.device("rack")
    found.unregister("rack")
    assert found.backends() == {}
    assert found.plugins == []
    found.register(rack_plugin(), "rack")
    assert found.device("rack") is not first


def test_record_files_and_strategies_come_from_hooks(tmp_path: Path) -> None:
    """Records are files, strategies are pairs; two strategies of one name are an error."""
    pair = ("annealing", type("Annealing", (), {}))
    both = {
        "hwkit_records": lambda: [tmp_path / "a.jsonl"],
        "hwkit_strategies": lambda: [pair],
    }
    found = made(one=plugin(**both))
    assert found.record_files() == (tmp_path / "a.jsonl",)
    assert found.strategies() == dict([pair])
    found.register(plugin(**both), "two")
    with pytest.raises(PluginError, match="'one' and 'two' both bring the Strategy 'annealing'"):
        found.strategies()


def test_strategy_that_is_no_pair_is_reported() -> None:
    """The warning names the plugin."""
    found = made(one=plugin(hwkit_strategies=lambda: [("a", "b", "c")]))
    with pytest.warns(HwkitWarning, match=r"'one'.*is not \(name, Strategy\)"):
        assert found.strategies() == {}


def test_unknown_op_is_one_sentence() -> None:
    """It has the nearest name."""
    with pytest.raises(ArgumentError, match="op 'conv2' is not known, did you mean 'conv2d'"):
        registry().op("conv2")


def test_carried_plugins_are_those_registered_by_hand(points: list[Point]) -> None:
    """A worker process loads entry points itself, and is told about the rest."""
    points.append(Point("installed", rack_plugin()))
    found = Registry()
    found.register(os, "module")
    found.register(rack_plugin(), "nameless")
    assert found.carried() == {"module": "os"}


def test_threads_share_one_registry_and_one_device() -> None:
    """Sixteen threads that ask at once open the device once."""
    backend = RackBackend()

    def slow() -> list[Backend]:
        time.sleep(0.02)
        return [backend]

    found = made(rack=plugin(hwkit_backends=slow))
    devices: list[Device] = []
    registries: list[Registry] = []
    barrier = threading.Barrier(16)

    def ask() -> None:
        barrier.wait()
        devices.append(found.device("rack"))
        registries.append(registry())

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(devices) == 16
    assert {id(d) for d in devices} == {id(devices[0])}
    assert {id(r) for r in registries} == {id(registries[0])}
    assert backend.opened == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_child_of_a_fork_does_not_wait_for_a_lock_of_the_parent() -> None:
    """A thread that held the lock does not exist in the child."""
    taken, release = threading.Event(), threading.Event()
    shared = registry()

    def hold() -> None:
        with shared._lock:
            taken.set()
            release.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(30)
    child = os.fork()
    if child == 0:
        os._exit(0 if registry().ops() else 1)
    deadline = time.monotonic() + 20
    ended, status = 0, -1
    while not ended and time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.01)
    release.set()
    holder.join()
    if not ended:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert (ended, status) == (child, 0)
