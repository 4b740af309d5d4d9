"""``devices``, ``ops``, ``explain`` and ``doctor`` on a fake device."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hwkit import Backend, Op, Operand, Problem, Unavailable, __version__, hookimpl
from hwkit.cli import checkup
from hwkit.cli.options import problems
from hwkit.loading import LoadedPlugin
from hwkit.records import Database
from hwkit.registry import registry
from hwkit.settings import VARIABLES, Settings, settings
from hwkit.testing.fake import FakeDevice, FakeKernel

from .conftest import Hwkit, record

GEMM = "gemm float32 nn m=64 n=64 k=64"
BEST = "order=ij prefetch=false tile=16 unroll=2"


class Absent(Backend):
    """A backend whose hardware is missing."""

    name = "absent"

    def count(self) -> int:
        """There is none."""
        raise Unavailable("pyabsent is not installed: pip install pyabsent")

    def open(self, index: int) -> None:  # type: ignore[override]
        """Never called."""

    @hookimpl
    def hwkit_backends(self) -> Iterable[Backend]:
        """Return itself."""
        return [self]


@pytest.fixture
def absent() -> Iterator[None]:
    """A backend without a device."""
    registry().register(Absent(), "absent")
    yield
    registry().unregister("absent")


def test_devices(hwkit: Hwkit, fake: None, absent: None) -> None:
    """A row per device with its ceilings, and what to type for what is missing."""
    answer = hwkit("devices")
    assert answer.code == 0
    rows = [line.split() for line in answer.out.splitlines()]
    assert rows[0][:2] == ["device", "arch"]
    (row,) = [row for row in rows if row[:1] == ["fake:0"]]
    # What it does not know is a dash, in as many columns as the other devices here ask for.
    known = [word for word in row if word != "-"]
    assert known == ["fake:0", "fake-0", "1.00", "GFLOP/s", "1.00", "GFLOP/s", "1.00", "TB/s"]
    assert "pip install pyabsent" in answer.out


def test_devices_json(hwkit: Hwkit, fake: None, absent: None) -> None:
    """The same for machines, with the whole fingerprint."""
    found = hwkit("devices", "--json").json
    (device,) = [d for d in found["devices"] if d["name"] == "fake:0"]
    assert device["identity"] == {"backend": "fake", "arch": "fake-0"}
    assert device["ceilings"]["float32 flop/s"] == 1e9
    assert found["unavailable"]["absent"] == "pyabsent is not installed: pip install pyabsent"


def test_no_device_is_exit_code_3(hwkit: Hwkit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that can run nothing says so."""
    monkeypatch.setattr(type(registry()), "devices", lambda self: {"x": Unavailable("no x")})
    answer = hwkit("devices")
    assert answer.code == 3
    assert "no x" in answer.out


def test_ops(hwkit: Hwkit, fake: None) -> None:
    """A row per operator with the kernels of the device."""
    answer = hwkit("ops")
    assert answer.code == 0
    rows = {line.split()[0]: line.split() for line in answer.out.splitlines() if line}
    assert rows["gemm"][-2:] == ["fake", "fake_loose"]
    assert rows["max_pool2d"][-1] == "none"


def test_one_op(hwkit: Hwkit, fake: None) -> None:
    """All about one: attributes with their defaults, kernels with their spaces, samples."""
    answer = hwkit("ops", "gemm")
    assert answer.code == 0
    assert "alpha=1.0 beta=0.0" in answer.out
    assert "gemm float32 nn m=128 n=128 k=128\n" in answer.out
    (kernel,) = [line.split() for line in answer.out.splitlines() if line.startswith("fake_loose")]
    samples = registry().op("gemm").samples
    floats = sum("int" not in text.split()[1] for text in samples)  # all that it takes
    assert kernel == ["fake_loose", "1", f"{floats}/{len(samples)}", "150"]


def test_ops_json(hwkit: Hwkit, fake: None) -> None:
    """Keys are the same with and without a name; counting is for one operator only."""
    every = hwkit("ops", "--json").json["ops"]
    (one,) = hwkit("ops", "gemm", "--json").json["ops"]
    assert all(op.keys() == one.keys() for op in every)
    (same,) = [op for op in every if op["name"] == "gemm"]
    assert same["kernels"][0]["configs"] is None
    assert one["kernels"][0]["configs"] == 150
    assert one["samples"] == list(registry().op("gemm").samples)


class Broken(Op):
    """An operator whose own code fails."""

    name = "broken"
    sizes = ("m",)
    samples = ("broken float32 m=3",)

    def problem(self, *operands: Any, **arguments: Any) -> Problem:
        """Return the Problem of a row."""
        return self.make("float32", "", {"m": len(operands[0])})

    def operands(self, problem: Problem) -> tuple[Operand, ...]:
        """Return a row whose dtype is a name, which it must not be."""
        return (Operand("x", (problem["m"],), "float32"),)  # type: ignore[arg-type]

    output = reference = flops = operands  # type: ignore[assignment]

    @hookimpl
    def hwkit_ops(self) -> list[Op]:
        """Bring it."""
        return [self]


@pytest.fixture
def broken() -> Iterator[None]:
    """The operator ``broken``."""
    registry().register(Broken(), "broken")
    yield
    registry().unregister("broken")


@pytest.mark.filterwarnings("ignore:op 'broken' is left out")
def test_an_operator_whose_own_code_fails(hwkit: Hwkit, fake: None, broken: None) -> None:
    """It is named, with what it did, and takes no other operator along."""
    answer = hwkit("ops")
    assert answer.code == 0
    assert "gemm" in answer.out
    assert "broken" not in answer.out
    for words in (["ops", "broken"], ["explain", "broken float32 m=3"], ["tune", "--op", "broken"]):
        found = hwkit(*words)
        assert "op 'broken' failed in operands" in found.err
        assert "is no Operand of a name, a shape and a numpy.dtype" in found.err
        assert "internal error" not in found.err
    assert all(problem.op.name != "broken" for problem in problems())


def test_ops_without_a_device(hwkit: Hwkit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators are listed on a machine that cannot run them, unless a device was asked for."""

    def none(*_: object) -> None:
        raise Unavailable("no device")

    monkeypatch.setattr(type(registry()), "device", none)
    answer = hwkit("ops", "--json")
    assert answer.code == 1
    assert answer.json["device"] is None
    assert len(answer.json["ops"]) >= 7
    assert hwkit("ops", "--device", "cpu:0").code == 3


def test_ops_of_a_misspelt_device(hwkit: Hwkit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that nobody knows is a mistake, also in HWKIT_DEVICE, and no missing device."""
    monkeypatch.setenv("HWKIT_DEVICE", "cpux:0")
    settings.cache_clear()
    answer = hwkit("ops")
    assert answer.code == 2
    assert "HWKIT_DEVICE names 'cpux:0': backend 'cpux' is not known" in answer.err


def test_explain(hwkit: Hwkit, fake: None, db: Path) -> None:
    """Before tuning the default with what to type; after it the record, its age and its share."""
    before = hwkit("explain", GEMM)
    assert before.code == 0
    assert "default (no record fits)" in before.out
    assert f"hwkit tune --device fake:0 --problem '{GEMM}'" in before.out
    kept = Database(db)
    kept.add(record(GEMM, 2 * 64**3 * 2 / 1e9, BEST))
    kept.close()
    after = hwkit("explain", *GEMM.split())
    assert "user record" in after.out
    assert "50% of the roofline" in after.out
    assert BEST in after.out
    found = hwkit("explain", GEMM, "--json").json
    assert found["command"] == "explain"
    assert found["source"] == "user record"
    assert found["roofline_share"] == pytest.approx(0.5)
    assert (
        hwkit("explain", GEMM, "--tolerance", "1e-9", "--json").json["message"].startswith("no k")
    )


def test_doctor_is_content(hwkit: Hwkit, fake: None) -> None:
    """Versions, plugins, devices, database and settings are listed."""
    answer = hwkit("doctor", "--json")
    found = {(check["area"], check["name"]): check for check in answer.json["checks"]}
    assert found["versions", "hwkit"]["text"].startswith(__version__)
    assert found["versions", "python"]["text"].startswith(sys.version.split()[0])
    assert found["versions", "numpy"]["text"] == np.__version__
    assert found["devices", "fake:0"]["text"] == "fake-0, 6 kernels"
    assert found["database", "writable"]["state"] == "ok"
    assert found["settings", "HWKIT_DEVICE"]["text"] == "fake:0"
    assert answer.json["ok"] == all(c["state"] != "broken" for c in answer.json["checks"])
    assert answer.code == (0 if answer.json["ok"] else 1)


def test_doctor_shows_the_traceback_of_a_broken_plugin(
    hwkit: Hwkit, fake: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken plugin is named with its distribution and traceback; the exit code is 1."""
    broken = LoadedPlugin("abacus", "hwkit-abacus 1.2", "Traceback ...\nImportError: no beads")
    monkeypatch.setattr(registry(), "plugins", [*registry().plugins, broken])
    answer = hwkit("doctor")
    assert answer.code == 1
    assert "abacus" in answer.out
    assert "broken: hwkit-abacus 1.2, ImportError: no beads" in answer.out
    assert "    Traceback ...\n    ImportError: no beads\n" in answer.out
    assert "plugins abacus" in answer.out.rstrip().splitlines()[-1]


def test_doctor_notes_kernels_of_an_op_that_is_not_there(
    hwkit: Hwkit, fake: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt op is no fault of the device, but nobody would find its kernel."""
    device = registry().device("fake:0")
    assert isinstance(device, FakeDevice)
    found = (*registry().kernels(device), FakeKernel("conv2e", device))
    monkeypatch.setattr(type(registry()), "kernels", lambda self, device, op=None: found)
    checks = hwkit("doctor", "--json").json["checks"]
    notes = [c["text"] for c in checks if c["name"] == "fake:0" and c["state"] == "note"]
    assert notes == ["no op is named 'conv2e', so nobody calls fake"]


def test_doctor_notes_a_missing_device(hwkit: Hwkit, fake: None, absent: None) -> None:
    """Hardware that is not there is a note, not a fault."""
    checks = hwkit("doctor", "--json").json["checks"]
    (check,) = [c for c in checks if c["name"] == "absent" and c["area"] == "devices"]
    assert (check["state"], check["text"]) == (
        "note",
        "pyabsent is not installed: pip install pyabsent",
    )


def test_doctor_finds_a_broken_backend_and_module(
    hwkit: Hwkit, fake: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend that raises, and a compiled module that does not load, hide nothing else."""

    def boom(self: object) -> int:
        raise OSError("driver mismatch")

    monkeypatch.setattr(type(registry().backends()["fake"]), "count", boom)
    package = tmp_path / "hwkit_bad"
    package.mkdir()
    (package / "__init__.py").write_text("")
    suffix = checkup.importlib.machinery.EXTENSION_SUFFIXES[0]
    (package / f"_native{suffix}").write_bytes(b"not a library")
    monkeypatch.syspath_prepend(tmp_path)
    points = [SimpleNamespace(module="hwkit_bad")]
    monkeypatch.setattr(checkup.importlib.metadata, "entry_points", lambda group: points)
    answer = hwkit("doctor", "--json")
    broken = {c["name"]: c for c in answer.json["checks"] if c["state"] == "broken"}
    assert answer.code == 1
    assert broken["fake"]["text"] == "OSError: driver mismatch"
    assert "Traceback" in broken["fake"]["detail"]
    assert "hwkit_bad._native" in broken
    assert "ImportError" in broken["hwkit_bad._native"]["text"]


def test_doctor_finds_one_broken_device(
    hwkit: Hwkit, fake: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that does not open is broken by its own name; the next one is looked at as well."""
    opened = type(registry()).device

    def device(self: Any, name: str) -> Any:
        if name == "fake:0":
            raise OSError("lost")
        return opened(self, name)

    monkeypatch.setattr(type(registry()), "device", device)
    states = {
        c["name"]: c["state"]
        for c in hwkit("doctor", "--json").json["checks"]
        if c["area"] == "devices"
    }
    assert (states["fake:0"], states["fake:1"]) == ("broken", "ok")


@pytest.mark.parametrize("kind", ["folder", "other program's"])
def test_doctor_finds_a_database_that_keeps_nothing(hwkit: Hwkit, db: Path, kind: str) -> None:
    """What 'hwkit tune' cannot keep its records in is broken."""
    if kind == "folder":
        db.mkdir()
    else:
        with sqlite3.connect(db) as connection:
            connection.execute("CREATE TABLE songs (title TEXT)")
        connection.close()
    answer = hwkit("doctor", "--json")
    states = {c["name"]: c["state"] for c in answer.json["checks"] if c["area"] == "database"}
    assert states["writable"] == "broken"
    assert answer.code == 1


def test_doctor_notes_a_disabled_plugin_that_is_not_there(
    hwkit: Hwkit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt name in HWKIT_DISABLE_PLUGINS disables nothing, and that is told."""
    monkeypatch.setenv("HWKIT_DISABLE_PLUGINS", "opencll")
    settings.cache_clear()
    try:
        checks = hwkit("doctor", "--json").json["checks"]
    finally:
        settings.cache_clear()
    (check,) = [c for c in checks if c["name"] == "opencll"]
    assert check["state"] == "note"
    assert "no such plugin" in check["text"]


def test_doctor_knows_the_variables(hwkit: Hwkit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that means nothing is noted with the one that was meant; a bad value is broken."""
    monkeypatch.setenv("HWKIT_THREAD", "2")
    monkeypatch.setenv("HWKIT_CUDA_DRIVER", "cupy")
    monkeypatch.setenv("HWKIT_THREADS", "many")
    answer = hwkit("doctor", "--json")
    settings = {c["name"]: c for c in answer.json["checks"] if c["area"] == "settings"}
    assert settings["HWKIT_THREAD"]["state"] == "note"
    assert "did you mean HWKIT_THREADS?" in settings["HWKIT_THREAD"]["text"]
    assert settings["HWKIT_CUDA_DRIVER"]["text"] == "cupy (hwkit does not read it; a plugin may)"
    assert settings["values"]["state"] == "broken"
    assert "'many'" in settings["values"]["text"]
    assert answer.code == 1
    assert {check["area"] for check in answer.json["checks"]} >= {"versions", "settings"}


def test_every_setting_is_known_to_the_doctor() -> None:
    """The doctor's list of variables and the library's settings do not drift apart."""
    fields = {f"HWKIT_{name.upper()}" for name in Settings.__dataclass_fields__}
    assert fields <= set(VARIABLES)
