"""Turns, medians and means, on peers with a clock that the test sets."""

from __future__ import annotations

from typing import Any, cast

import pytest

from hwkit import ArgumentError
from hwkit.bench import PeerProcess, Race, geometric_mean, interleave


class Peer:
    """A peer that says what it is asked, and answers from a list."""

    def __init__(self, library: str, seconds: list[float], calls: list[str]) -> None:
        self.library = library
        self._seconds = iter(seconds)
        self._calls = calls

    def time(self, samples: int) -> list[float]:
        """Return the next sample."""
        self._calls.append(self.library)
        return [next(self._seconds) for _ in range(samples)]


def test_order_is_flipped_each_round() -> None:
    """Drift and the neighbour's leftovers hit all peers alike."""
    calls: list[str] = []
    peers: list[Any] = [Peer(name, [1.0, 2.0, 3.0], calls) for name in "abc"]
    samples = interleave(cast(list[PeerProcess], peers), 3, settle=0.0)
    assert calls == [*"abc", *"cba", *"abc"]
    assert samples == dict.fromkeys("abc", (1.0, 2.0, 3.0))


def test_ratio_is_the_median_of_the_rounds() -> None:
    """A slow round hits both sides of its own ratio only."""
    race = Race({"hwkit": (1.0, 10.0, 1.0), "torch": (2.0, 20.0, 3.0)})
    assert race.seconds == {"hwkit": 1.0, "torch": 3.0}
    assert race.ratios("torch") == [2.0, 2.0, 3.0]
    assert race.ratio("torch") == 2.0
    assert race.ratio("hwkit", "torch") == 0.5


def test_geometric_mean() -> None:
    """A layer that comes three times counts three times."""
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
    assert geometric_mean([2.0, 8.0], [1, 3]) == pytest.approx((2 * 8**3) ** 0.25)
    with pytest.raises(ArgumentError):
        geometric_mean([])
