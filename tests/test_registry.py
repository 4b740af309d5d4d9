"""The registry: what plugins bring, asked for once and by name."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from racks import Rack, RackBackend, made, plugin, rack_plugin

from hwkit import (
    ArgumentError,
    Backend,
    Device,
    HwkitWarning,
    Kernel,
    PluginError,
    Unavailable,
)
from hwkit.registry import Registry, registry


class Nothing(Kernel):
    """A kernel that supports nothing."""

    def __init__(self, name: str, op: str = "gemm") -> None:
        self.op, self.name = op, name

    def supports(self, problem: Any) -> bool | str:
        return "it does nothing"

    def build(self, problem: Any, config: Any) -> Any:
        raise AssertionError


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


def test_one_plugin_that_brings_a_name_twice() -> None:
    """There is no other one to uninstall."""
    twice = plugin(hwkit_kernels=lambda device: [Nothing("tiled"), Nothing("tiled")])
    found = made(rack=rack_plugin(), first=twice)
    with pytest.raises(PluginError, match=r"'first' brings the Kernel of rack:0 'gemm tiled' twic"):
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


class Odd(Backend):
    """A stranger's backend, of which a test breaks a part."""

    name = "odd"

    def count(self) -> int:
        return 1

    def open(self, index: Any) -> Any:
        return None


@pytest.mark.parametrize(
    ("broken", "key", "why"),
    [
        ({}, "odd:0", "it returned None, which is not a Device"),
        ({"count": lambda self: None}, "odd", "its backend failed with TypeError"),
        ({"emulated": lambda self: None}, "odd", "its backend failed with TypeError"),
        ({"count": lambda self: sys.exit(3)}, "odd", "its backend failed with SystemExit: 3"),
        ({"open": lambda self, index: sys.exit(3)}, "odd:0", "failed with SystemExit: 3"),
    ],
)
def test_a_broken_backend_is_listed_beside_the_others(
    broken: dict[str, Any], key: str, why: str
) -> None:
    """Whatever a stranger's backend does, the other devices are listed, and it with its reason."""
    odd = type("Broken", (Odd,), broken)()
    found = made(odd=plugin(hwkit_backends=lambda: [odd]), rack=rack_plugin()).devices()
    assert isinstance(found["rack:0"], Device)
    assert why in str(found[key])


def test_a_backend_whose_name_cannot_be_written() -> None:
    """Its devices could never be asked for; its plugin is named, the others are there."""
    odd = type("Broken", (Odd,), {"name": "My GPU"})()
    found = made(odd=plugin(hwkit_backends=lambda: [odd]), rack=rack_plugin())
    with pytest.warns(HwkitWarning, match=r"'odd' failed in hwkit_backends.*named 'My GPU'"):
        assert set(found.backends()) == {"rack"}


def test_a_kernel_without_a_whole_version() -> None:
    """Its records could not be kept; the plugin is named before anything is tuned."""
    kernel = Nothing("tiled")
    kernel.version = "1.0"  # type: ignore[assignment]
    found = made(rack=rack_plugin(), odd=plugin(hwkit_kernels=lambda device: [kernel]))
    with pytest.warns(HwkitWarning, match=r"'odd' failed in hwkit_kernels.*version '1\.0'"):
        assert found.kernels(found.device("rack")) == ()


@pytest.mark.parametrize(
    ("hook", "ask"), [("hwkit_nodes", "node_types"), ("hwkit_passes", "passes")]
)
def test_what_is_no_node_type_or_pass(hook: str, ask: str) -> None:
    """A thing of another kind names its plugin, and stops nobody."""
    found = made(odd=plugin(**{hook: lambda: [3]}))
    with pytest.warns(HwkitWarning, match=f"'odd' failed in {hook} .*it returned 3, which has no"):
        assert getattr(found, ask)() == {}
