"""Turns, medians and means, on peers with a clock that the test sets."""

from __future__ import annotations

import os
from typing import Any, cast

import pytest

from hwkit import ArgumentError, KernelFailure
from hwkit.bench import Built, PeerProcess, Race, geometric_mean, interleave
from hwkit.bench.race import race

_MOST_CALLS = 9


class Peer:
    """A peer that says what it is asked, and answers from a list."""

    def __init__(self, library: str, seconds: list[float], calls: list[str]) -> None:
        self.library = library
        self._seconds = iter(seconds)
        self._calls = calls
        self.pid = os.getpid()

    def build(self, problem: str, reference: object, packed: bool) -> Built:
        """Take any problem."""
        return Built("plain", 0.0, "1.0")

    def warm(self, seconds: float) -> float:
        """Be warm."""
        return seconds

    def time(self, samples: int) -> list[float]:
        """Return the next sample."""
        self._calls.append(self.library)
        if len(self._calls) > _MOST_CALLS and self.library == "b":
            raise KernelFailure("crash", "b has ended: signal 11")
        return [next(self._seconds) for _ in range(samples)]


def test_order_is_flipped_each_round() -> None:
    """Drift and the neighbour's leftovers hit all peers alike."""
    calls: list[str] = []
    peers: list[Any] = [Peer(name, [1.0, 2.0, 3.0], calls) for name in "abc"]
    samples = interleave(cast(list[PeerProcess], peers), 3, settle=0.0)
    assert calls == [*"abc", *"cba", *"abc"]
    assert samples == dict.fromkeys("abc", (1.0, 2.0, 3.0))


def test_a_peer_that_ends_drops_out() -> None:
    """A library that dies while it is timed is named with the reason; the others keep theirs."""
    calls: list[str] = []
    peers: list[Any] = [Peer(name, [1.0] * 6, calls) for name in "abc"]
    found = race("gemm float32 nn m=2 n=2 k=2", peers, rounds=6)
    assert found.samples == {"a": (1.0,) * 6, "c": (1.0,) * 6}
    assert set(found.built) == {"a", "c"}
    assert found.failed == {"b": "b has ended: signal 11"}
    with pytest.raises(KernelFailure, match="signal 11"):
        interleave([Peer("b", [1.0], calls)], settle=0.0)  # type: ignore[list-item]


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
