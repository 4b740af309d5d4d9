"""The progress of a tuning run: a quiet live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from .output import console, ratio, share, timed

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..events import ProblemStarted, TrialFinished, TuneResult

__all__ = ["Lines", "Live", "Quiet", "State", "chosen", "count", "failures"]

_REFRESH_HZ = 8
_BAR = 32


@dataclass
class State:
    """Where a run is.

    Attributes:
        problem: text of the one at work.
        index: its number, from 1.
        total: number of problems.
        best: least seconds so far; infinity before there is one.
        default: seconds of the default; infinity before it is known.
        what: kernel and config of the best.
        origin: of the records; ``"estimated"`` where the device is emulated.
        roofline_share: share of the roofline that the best reaches.
        trials: tried for this problem.
        failures: how many failed, by class.
        begun: when this problem began, on the monotonic clock.
        budget: its seconds, or ``None``.
    """

    problem: str = ""
    index: int = 0
    total: int = 0
    best: float = math.inf
    default: float = math.inf
    what: str = ""
    origin: str = "tuned"
    roofline_share: float | None = None
    trials: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)
    budget: float | None = None

    def start(self, event: ProblemStarted) -> None:
        """Begin a problem."""
        self.problem, self.index, self.total = str(event.problem), event.index, event.count
        self.best = self.default = math.inf
        self.what, self.roofline_share, self.trials, self.failures = "", None, 0, {}
        self.begun, self.budget = time.monotonic(), event.budget

    def tried(self, event: TrialFinished) -> bool:
        """Note a trial, and return whether it is the best so far."""
        better = event.best < self.best
        if better:
            self.what = f"{event.record.kernel} {event.record.config}".strip()
        self.best, self.default = event.best, event.default
        self.origin = event.record.origin
        self.roofline_share = event.roofline_share
        self.trials, self.failures = event.trials, event.failures
        return better

    @property
    def spent(self) -> float:
        """Seconds since this problem began."""
        return time.monotonic() - self.begun

    @property
    def left(self) -> float | None:
        """Seconds of this problem's budget that are left."""
        return None if self.budget is None else max(0.0, self.budget - self.spent)

    @property
    def standing(self) -> str:
        """The best so far against default and roofline, on one line."""
        if math.isinf(self.best):
            return "nothing timed yet"
        parts = [f"best {timed(self.best, self.origin)}"]
        if math.isfinite(self.default):
            parts.append(f"{ratio(self.default / self.best)} default")
        if self.roofline_share is not None:
            parts.append(f"{share(self.roofline_share)} of roofline")
        return "   ".join([*parts, self.what])

    @property
    def effort(self) -> str:
        """Trials, failures by class, and the time left, on one line."""
        parts = [count(self.trials, "trial")]
        parts += [failures(self.failures)] if self.failures else []
        parts += [f"{self.left:.0f} s left"] if self.left is not None else []
        return "   ".join(parts)


def count(number: int, what: str) -> str:
    """Return ``"1 trial"``, ``"2 trials"``."""
    return f"{number} {what}{'s' * (number != 1)}"


def failures(classes: Mapping[str, int]) -> str:
    """Return ``"3 failed (2 wrong, 1 timeout)"``."""
    order = sorted(classes.items(), key=lambda item: (-item[1], item[0]))
    each = ", ".join(f"{number} {name}" for name, number in order)
    return f"{sum(classes.values())} failed ({each})"


class Quiet:
    """Shows nothing."""

    def __init__(self, state: State) -> None:
        self.state = state

    def begin(self) -> None:
        """A problem begins."""

    def trial(self, better: bool) -> None:
        """A trial has ended."""

    def end(self, result: TuneResult) -> None:
        """A problem has ended."""

    def note(self, text: str) -> None:
        """The tuner has something to say."""

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
            state = self.state
            click.echo(
                f"  {state.spent:5.1f} s  trial {state.trials:<4} {state.standing}", err=True
            )

    def end(self, result: TuneResult) -> None:
        """Say what it took, and why it ended."""
        parts = [f"  {result.seconds:5.1f} s  {count(result.trials, 'trial')}"]
        parts += [failures(result.failures)] if result.failures else []
        click.echo("   ".join([*parts, f"ended by {result.stopped_by}"]), err=True)

    def note(self, text: str) -> None:
        """Pass it on."""
        click.echo(f"  note: {text}", err=True)


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
        rows = [
            head,
            Text(pad + state.standing),
            Text(pad + state.effort, "dim"),
            Text(pad + self._bar(), "dim"),
        ]
        for row in rows:
            # The panel keeps its height: what is too long is cut, the summary has it in full.
            row.no_wrap, row.overflow = True, "ellipsis"
        return Group(*rows)

    def _bar(self) -> str:
        state = self.state
        if state.budget is None:
            return ""
        full = round(min(1.0, state.spent / max(state.budget, 1e-9)) * _BAR)
        return "━" * full + "─" * (_BAR - full)

    def note(self, text: str) -> None:
        """Say it above the panel."""
        self._live.console.print(f"note: {text}", style="yellow")

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


def chosen(state: State, as_json: bool) -> Quiet:
    """Return how to show progress: not at all with JSON, live on a terminal, otherwise lines."""
    if as_json:
        return Quiet(state)
    return Live(state) if console(stderr=True).is_terminal else Lines(state)
