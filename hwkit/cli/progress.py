"""The progress of a tuning run: a quiet live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from .output import console, duration, ratio, share

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Lines", "Live", "Quiet", "State"]

_REFRESH_HZ = 8
_BAR = 32


@dataclass
class State:
    """Where a run is.

    Attributes:
        problem: text of the one at work.
        index: its number, from 1.
        total: number of problems.
        best: least seconds so far.
        what: kernel and config that reached it.
        default: seconds of the default.
        bound: least seconds by the roofline, if known.
        trials: tried for this problem.
        failures: class to number, for this problem.
        all_trials: tried in the whole run.
        all_failures: class to number, in the whole run.
        deadline: when this problem's budget ends, on the monotonic clock.
        begun: when this problem began, on the same clock.
    """

    problem: str = ""
    index: int = 0
    total: int = 0
    best: float | None = None
    what: str = ""
    default: float | None = None
    bound: float | None = None
    trials: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    all_trials: int = 0
    all_failures: Counter[str] = field(default_factory=Counter)
    deadline: float | None = None
    begun: float = field(default_factory=time.monotonic)

    def start(
        self, problem: str, index: int, total: int, budget: float | None, bound: float | None
    ) -> None:
        """Begin a problem; ``budget`` is its seconds, ``bound`` its roofline in seconds."""
        self.problem, self.index, self.total, self.bound = problem, index, total, bound
        self.best = self.default = None
        self.what, self.trials, self.failures = "", 0, Counter()
        self.begun = time.monotonic()
        self.deadline = None if budget is None else self.begun + budget

    def tried(self, seconds: float | None, failure: str | None, what: str, default: bool) -> bool:
        """Note a trial, and return whether it is the best so far."""
        self.trials += 1
        self.all_trials += 1
        if failure is not None:
            self.failures[failure] += 1
            self.all_failures[failure] += 1
            return False
        if default:
            self.default = seconds
        better = seconds is not None and (self.best is None or seconds < self.best)
        if better:
            self.best, self.what = seconds, what
        return better

    @property
    def speedup(self) -> float | None:
        """The default's time over the best."""
        return self.default / self.best if self.default and self.best else None

    @property
    def roofline_share(self) -> float | None:
        """Share of the roofline that the best reaches."""
        return self.bound / self.best if self.bound and self.best else None

    @property
    def left(self) -> float | None:
        """Seconds of this problem's budget that are left."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    @property
    def standing(self) -> str:
        """The best so far against default and roofline, on one line."""
        if self.best is None:
            return "nothing timed yet"
        parts = [f"best {duration(self.best)}"]
        parts += [f"{ratio(self.speedup)} default"] if self.speedup else []
        parts += [f"{share(self.roofline_share)} of roofline"] if self.bound else []
        return "   ".join([*parts, self.what])

    @property
    def effort(self) -> str:
        """Trials, failures by class, and the time left, on one line."""
        parts = [count(self.trials, "trial")]
        parts += [failures(self.failures)] if self.failures else []
        parts += [f"{duration(self.left)} left"] if self.left is not None else []
        return "   ".join(parts)


def count(number: int, what: str) -> str:
    """Return ``"1 trial"``, ``"2 trials"``."""
    return f"{number} {what}{'s' * (number != 1)}"


def failures(classes: Counter[str]) -> str:
    """Return ``"3 failed (2 wrong, 1 timeout)"``."""
    each = ", ".join(f"{number} {name}" for name, number in classes.most_common())
    return (
        f"{classes.total() if hasattr(classes, 'total') else sum(classes.values())} failed ({each})"
    )


class Quiet:
    """Shows nothing."""

    def __init__(self, state: State) -> None:
        self.state = state

    def begin(self) -> None:
        """A problem begins."""

    def trial(self, better: bool) -> None:
        """A trial has ended."""

    def end(self) -> None:
        """A problem has ended."""

    def __enter__(self) -> Quiet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


class Lines(Quiet):
    """One line per problem and one per new best, on stderr."""

    def begin(self) -> None:
        """Name the problem."""
        click.echo(f"{self.state.index}/{self.state.total}  {self.state.problem}", err=True)

    def trial(self, better: bool) -> None:
        """Say what is better now."""
        if better:
            seconds = time.monotonic() - self.state.begun
            click.echo(
                f"  {seconds:5.1f} s  trial {self.state.trials}  {self.state.standing}", err=True
            )

    def end(self) -> None:
        """Say what it took."""
        spent = duration(time.monotonic() - self.state.begun)
        parts = ["done", f"{spent}", count(self.state.trials, "trial")]
        parts += [failures(self.state.failures)] if self.state.failures else []
        click.echo("  " + "  ".join(parts), err=True)


class Live(Quiet):
    """Four lines that stay in place, on stderr; they vanish when the run ends."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        from rich.live import Live as RichLive

        self._live: Any = RichLive(
            get_renderable=self._panel,
            console=console(stderr=True),
            refresh_per_second=_REFRESH_HZ,
            transient=True,
        )

    def _panel(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        state = self.state
        if not state.total:
            return Text("starting", "dim")
        head = Text.assemble((f"{state.index}/{state.total}", "bold"), "  ", state.problem)
        pad = " " * (len(f"{state.index}/{state.total}") + 2)
        return Group(
            head,
            Text(pad + state.standing),
            Text(pad + state.effort, "dim"),
            Text(pad + self._bar(), "dim"),
        )

    def _bar(self) -> str:
        state = self.state
        if state.deadline is None:
            return ""
        whole = max(state.deadline - state.begun, 1e-9)
        done = min(1.0, (time.monotonic() - state.begun) / whole)
        full = round(done * _BAR)
        return "━" * full + "─" * (_BAR - full)

    def __enter__(self) -> Live:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, error, trace)


def chosen(state: State, as_json: bool) -> Callable[[State], Quiet]:
    """Return how to show progress: not at all with JSON, live on a terminal, otherwise lines."""
    if as_json:
        return Quiet
    return Live if console(stderr=True).is_terminal else Lines
