"""Roofline: bounds, shares, and times that cannot be."""

from __future__ import annotations

import math

import pytest

from hwkit.backend import Device, Fingerprint
from hwkit.op import Problem
from hwkit.registry import registry
from hwkit.roofline import Roofline
from hwkit.testing import FakeBackend

CEILINGS = {"float32 flop/s": 1e9, "byte/s": 1e9}


class HostClock(Device):
    """A device whose clock is the host's."""

    backend, index, arch = "host", 0, "host"
    fingerprint = Fingerprint({})

    def put(self, array: object) -> object:
        return array

    def get(self, buffer: object) -> object:  # type: ignore[override]
        return buffer


@pytest.fixture
def problem() -> Problem:
    """Return a problem of 2 * 10**6 flop and 1.2 * 10**5 bytes."""
    return registry().op("gemm").parse("gemm float32 nn m=100 n=100 k=100")


@pytest.fixture
def device() -> Device:
    """Return a device with a clock of its own."""
    return FakeBackend().open(0)


def test_narrow_types_have_a_rate_of_their_own(device: Device) -> None:
    """Matrix units are faster for what is stored narrow; without such a rate sums count."""
    narrow = registry().op("gemm").parse("gemm float16 nn m=100 n=100 k=100")
    assert Roofline.of(narrow, CEILINGS, device).arithmetic == pytest.approx(2e-3)
    faster = {**CEILINGS, "float16 flop/s": 1e10}
    assert Roofline.of(narrow, faster, device).arithmetic == pytest.approx(2e-4)


def test_bounds(problem: Problem, device: Device) -> None:
    """Arithmetic and memory each bound the time, the larger counts."""
    roofline = Roofline.of(problem, CEILINGS, device)
    assert roofline.arithmetic == pytest.approx(2e-3)
    assert roofline.memory == pytest.approx(1.2e-4)
    assert roofline.seconds == roofline.arithmetic
    assert roofline.share(4e-3) == pytest.approx(0.5)


def test_unknown_ceilings(problem: Problem, device: Device) -> None:
    """Without ceilings there is no share, and only times that are no times are impossible."""
    roofline = Roofline.of(problem, {}, device)
    assert roofline.share(1.0) is None
    assert roofline.share(math.inf) is None
    assert not roofline.impossible(1e-12, True)


def test_ceiling_of_the_accumulator(device: Device) -> None:
    """Narrow inputs are bound by the dtype in which they are added up."""
    half = registry().op("gemm").parse("gemm float16 nn m=100 n=100 k=100")
    assert Roofline.of(half, CEILINGS, device).arithmetic == pytest.approx(2e-3)


def test_memory_does_not_bound_what_fits_the_cache(problem: Problem, device: Device) -> None:
    """A problem that fits the largest cache twice may be faster than memory."""
    device.fingerprint = Fingerprint({"l2": 1000, "l3": 10**6, "name": "text"})
    assert Roofline.of(problem, CEILINGS, device).memory == 0.0


def test_reached(problem: Problem, device: Device) -> None:
    """At 95 % the roofline is reached; a ceiling that was passed by far is not believed."""
    roofline = Roofline.of(problem, CEILINGS, device)
    assert roofline.reached(2e-3 / 0.96)
    assert roofline.reached(2e-3 / 1.04)
    assert not roofline.reached(2e-3 / 0.94)
    assert not roofline.reached(2e-3 / 1.5)
    assert not Roofline().reached(1e-9)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_no_times_at_all(problem: Problem, device: Device, seconds: float) -> None:
    """Zero, negative, infinite and NaN are impossible whatever is known."""
    assert "impossible" in Roofline.of(problem, {}, device).impossible(seconds, True)


def test_impossible_times(problem: Problem, device: Device) -> None:
    """More than 1.5 times faster than the ceilings is impossible, unless arithmetic is saved."""
    roofline = Roofline.of(problem, CEILINGS, device)
    assert not roofline.impossible(1.4e-3, strict=True)
    assert roofline.impossible(1.3e-3, strict=True)
    assert not roofline.impossible(1.3e-3, strict=False)
    assert roofline.impossible(1e-4, strict=False)


def test_host_ceilings_may_be_far_too_low(problem: Problem) -> None:
    """Ceilings that others' work made too low do not condemn a candidate; nonsense is noticed."""
    roofline = Roofline.of(problem, CEILINGS, HostClock())
    assert not roofline.impossible(3e-4, strict=True)
    assert roofline.impossible(1e-5, strict=True)
