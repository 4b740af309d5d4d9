"""Contention on the machine that runs the tests."""

from __future__ import annotations

from hwkit.contention import Contention


def test_contention_counts_evictions_and_knows_calm() -> None:
    """The signs of contention can be read, and a loop slower than ever is noticed."""
    contention = Contention()
    assert contention.evictions() >= 0
    contention._calm = 0.0
    assert contention.slowed()
