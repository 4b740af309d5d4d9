"""Progress: what is said, when, and where."""

from __future__ import annotations

import math
import time

import pytest

from hwkit.cli.progress import Lines, Live, Quiet, State, chosen
from hwkit.dispatch import parse_problem
from hwkit.events import ProblemStarted, TrialFinished, TuneResult

from .conftest import record

PROBLEM = "gemm float32 nn m=8 n=8 k=8"


def _started(budget: float | None = 20.0) -> ProblemStarted:
    return ProblemStarted(2, 12, parse_problem(PROBLEM), 150, 1e-3, budget)


def _trial(
    best: float,
    trials: int = 1,
    config: str = "tile=8",
    failures: dict[str, int] | None = None,
    default: float = 4e-3,
) -> TrialFinished:
    trial = record(PROBLEM, 4e-3, config)
    return TrialFinished(trial, best, default, 1e-3 / best, trials, failures or {}, 10.0)


def _state(budget: float | None = 20.0) -> State:
    state = State()
    state.start(_started(budget))
    return state


def test_state_follows_the_trials() -> None:
    """The best so far stands against the default and the roofline; failures count by class."""
    state = _state()
    assert state.standing == "nothing timed yet"
    assert state.tried(_trial(4e-3))
    assert not state.tried(_trial(4e-3, 2, "tile=1", {"wrong": 1}))
    assert state.tried(_trial(2e-3, 6, "tile=16", {"timeout": 1, "wrong": 2}))
    assert state.standing == "best 2.00 ms   2.00x default   50 % of roofline   fake tile=16"
    assert state.effort == "6 trials   3 failed (2 wrong, 1 timeout)   20 s left"
    state.start(_started(None))
    assert state.standing == "nothing timed yet"
    assert state.effort == "0 trials"


def test_without_a_default_or_a_roofline() -> None:
    """What is not known is not shown."""
    state = _state()
    trial = TrialFinished(record(PROBLEM), 1e-3, math.inf, None, 1, {}, None)
    assert state.tried(trial)
    assert state.standing == "best 1.00 ms   fake tile=8"
    assert state.effort.startswith("1 trial   ")


def test_time_left_never_is_negative() -> None:
    """A budget that is over leaves nothing."""
    state = _state()
    state.begun = time.monotonic() - 50
    assert state.left == 0.0


def test_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal: a line per problem, per new best, and at the end."""
    state = _state()
    result = TuneResult(parse_problem(PROBLEM), None, None, (), 2, {"wrong": 1}, 0, 1.25, "budget")
    with Lines(state) as screen:
        screen.begin()
        screen.trial(state.tried(_trial(4e-3)))
        screen.trial(state.tried(_trial(4e-3, 2)))
        screen.note("the machine is busy")
        screen.end(result)
    captured = capsys.readouterr()
    assert captured.out == ""
    begin, best, note, end = captured.err.splitlines()
    assert begin == f"2/12  {PROBLEM}"
    assert best.endswith(
        " s  trial 1    best 4.00 ms   1.00x default   25 % of roofline   fake tile=8"
    )
    assert note == "  note: the machine is busy"
    assert end == "    1.2 s  2 trials   1 failed (1 wrong)   ended by budget"


def test_quiet_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    """With JSON nothing is shown."""
    state = _state()
    with chosen(state, as_json=True) as screen:
        assert type(screen) is Quiet
        screen.begin()
        screen.trial(True)
    assert capfd.readouterr() == ("", "")


def test_no_terminal_means_lines() -> None:
    """Output to a file or a pipe gets plain lines."""
    assert type(chosen(_state(), as_json=False)) is Lines


def test_live_panel(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal the panel shows the problem, the standing, the effort and a bar, on stderr."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm-256color")
    state = _state()
    screen = chosen(state, as_json=False)
    assert isinstance(screen, Live)
    with screen:
        state.tried(_trial(4e-3, config="tile=64"))
        screen._live.refresh()
    captured = capsys.readouterr()
    assert captured.out == ""
    for text in (PROBLEM, "best 4.00 ms", "fake tile=64", "1 trial", "─"):
        assert text in captured.err
