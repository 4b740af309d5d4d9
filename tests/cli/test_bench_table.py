"""The table of ``hwkit bench``."""

from __future__ import annotations

from hwkit.cli.bench_table import _split


def test_split() -> None:
    """Words that all problems begin with are said once; at least one word remains."""
    assert _split(["a b c", "a b d"]) == ("a b", {"a b c": "c", "a b d": "d"})
    assert _split(["a b c"]) == ("", {"a b c": "a b c"})
    assert _split(["a b", "a b", "a"]) == ("", {"a b": "a b", "a": "a"})
