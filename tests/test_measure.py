"""Measurement of simulated times."""

from __future__ import annotations

import math

import pytest

from hwkit.measure import Measurement, Sample


def test_measurement_of_samples_is_their_median() -> None:
    """The time of a candidate is the median of its samples, which are kept in order."""
    measured = Measurement.of([Sample(3.0), Sample(1.0), Sample(2.0)], 1e-7)
    assert (measured.seconds, measured.samples, measured.ok) == (2.0, (3.0, 1.0, 2.0), True)


def test_measurement_of_stays_among_its_samples() -> None:
    """A corrected time never lies outside the samples that it stands for."""
    samples = [Sample(1.0), Sample(2.0)]
    assert Measurement.of(samples, 0.0, 5.0).seconds == 2.0
    assert Measurement.of(samples, 0.0, 0.5).seconds == 1.0


def test_measurement_notes_contention() -> None:
    """Some disturbed samples are nothing, many mark the whole measurement."""
    calm, disturbed = Sample(1.0), Sample(1.0, True)
    assert not Measurement.of([calm] * 9 + [disturbed], 0.0).contended
    assert Measurement.of([calm] * 5 + [disturbed] * 5, 0.0).contended


def test_measurement_of_a_failure() -> None:
    """A failure has a known class and infinite seconds."""
    measured = Measurement.failed("crash", "killed by SIGSEGV")
    assert not measured.ok
    assert measured.seconds == math.inf
    with pytest.raises(ValueError, match="failure class"):
        Measurement.failed("sadness", "")
