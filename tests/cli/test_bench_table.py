"""The table of ``hwkit bench``."""

from __future__ import annotations

import pytest

from hwkit.cli.bench_table import _split, say_busy


def test_split() -> None:
    """Words that all problems begin with are said once; at least one word remains."""
    assert _split(["a b c", "a b d"]) == ("a b", {"a b c": "c", "a b d": "d"})
    assert _split(["a b c"]) == ("", {"a b c": "a b c"})
    assert _split(["a b", "a b", "a"]) == ("", {"a b": "a b", "a": "a"})


def test_a_busy_machine_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Figures that other processes may have spoilt come with that warning; others do not."""
    for others in (None, 0.05, 0.4):
        assert not capsys.readouterr().out
        say_busy(others)
    assert "other processes took 40 % of the CPUs" in capsys.readouterr().out
