"""explain: the reasons in text and as data."""

from __future__ import annotations

import json

import numpy as np
import pytest
from toy import ToyKernel, ToyPlugin

import hwkit
from hwkit import Config, dispatch, explanation, ops
from hwkit.measure import Measurement
from hwkit.records import Database, Record
from hwkit.registry import Registry

TEXT = "gemm float32 nn m=100 n=100 k=100"


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    """Return an empty database that dispatch and explain use, over two toy kernels."""
    kernels = ToyKernel(), ToyKernel(name="odd", supports="m must be odd")
    world = Registry([("ops", ops), ("toy", ToyPlugin(*kernels))], entry_points=False)
    empty = Database(None)
    for module in (dispatch, explanation):
        monkeypatch.setattr(module, "registry", lambda: world)
        monkeypatch.setattr(module, "database", lambda: empty)
    return empty


def add(database: Database, tile: int, seconds: float, *, default: bool = False) -> None:
    device = dispatch.registry().device("toy:0")
    database.add(
        Record(
            TEXT, "gemm", "toy", 3, Config({"tile": tile}), device.arch, device.fingerprint,
            Measurement(seconds, (seconds,) * 31, 1e-7, None), default=default,
        )
    )  # fmt: skip


def test_default(database: Database) -> None:
    """Without a record, the text says so, and how to tune."""
    told = hwkit.explain(TEXT, "toy:0")
    assert "default (no record fits)" in str(told)
    assert f"hwkit tune --device toy:0 --problem '{TEXT}'" in str(told)
    assert "declined  odd: m must be odd" in str(told)
    assert told.to_json()["record"] is None


def test_kernels_with_one_reason_share_a_line(database: Database) -> None:
    """Who declined is told by reason, not a line for each kernel."""
    told = hwkit.explain(TEXT, "toy:0")
    told.selection.declined.update(even="n must be even", third="m must be odd")
    assert "declined  odd, third: m must be odd\ndeclined  even: n must be even" in str(told)


def test_record(database: Database) -> None:
    """With a record: source, age, time, roofline, gain over the default, error, all in numbers."""
    add(database, 1, 8e-3, default=True)
    add(database, 4, 4e-3)
    told = hwkit.explain(TEXT, "toy:0")
    text = str(told)
    # 2e6 flops at 1e9 flop/s are 2 ms; 120 kB at 1e9 byte/s are less.
    for words in ("toy tile=4", "user record", "4 ms, 0.5 GFLOP/s", "50% of the roofline",
                  "2.00x the default", "1.0e-07 measured, 2.0e-06 allowed"):  # fmt: skip
        assert words in text
    data = json.loads(json.dumps(told.to_json()))
    assert data["roofline_share"] == pytest.approx(0.5)
    assert data["speedup_over_default"] == pytest.approx(2.0)
    assert data["config"] == {"tile": 4}


def test_of_a_plan(database: Database) -> None:
    """A Plan explains itself on its own device."""
    a = np.ones((100, 100), "f4")
    told = hwkit.explain(hwkit.plan("gemm", a, a, device="toy:1"))
    assert repr(told.device) == "toy:1"


def test_of_the_device_in_use(database: Database) -> None:
    """Inside ``use`` it tells of the device on which a call would run."""
    with hwkit.use("toy:1"):
        assert repr(hwkit.explain(TEXT).device) == "toy:1"
