"""A tuning run with its progress on the screen, and what came of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from .commands import DATABASE, INTERRUPTED, NOT_FOUND, OK
from .progress import Quiet, State, chosen, count
from .winners import plain

if TYPE_CHECKING:
    from ..events import Event, TrialFinished, TuneResult
    from ..op import Problem
    from ..records import Database

__all__ = ["Session", "ended", "run", "say_interrupted"]


@dataclass
class Session:
    """What a run came to, also if it was interrupted.

    Attributes:
        device: where.
        database: file that keeps the records, or ``None`` for memory.
        asked: number of problems.
        done: what came of each problem that was begun.
        events: every trial, as plain data.
        notes: what the tuner thought worth knowing.
        interrupted: whether Ctrl-C ended it.
        not_kept: records that the database could not keep.
        why: why it could not.
        seconds: wall time.
    """

    device: str
    database: str | None
    asked: int
    done: list[TuneResult] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False
    not_kept: int = 0
    why: str = ""
    seconds: float = 0.0

    @property
    def trials(self) -> int:
        """Candidates tried."""
        return len(self.events)

    @property
    def failures(self) -> Counter[str]:
        """Failed candidates by class."""
        return Counter(e["failure"] for e in self.events if e["failure"] is not None)

    @property
    def ok(self) -> bool:
        """Whether every problem has something that runs."""
        return len(self.done) == self.asked and all(r.best is not None for r in self.done)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data; times in seconds."""
        return {
            "device": self.device,
            "database": self.database,
            "interrupted": self.interrupted,
            "seconds": self.seconds,
            "trials": self.trials,
            "not_kept": self.not_kept,
            "failures": dict(self.failures),
            "problems": [_result(result) for result in self.done],
            "notes": self.notes,
            "events": self.events,
        }


def _result(result: TuneResult) -> dict[str, Any]:
    return {
        "problem": str(result.problem),
        "best": None if result.best is None else plain(result.best),
        "default": None if result.default is None else plain(result.default),
        "ties": [plain(record) for record in result.ties],
        "speedup_over_default": result.speedup,
        "roofline_share": result.roofline_share,
        "trials": result.trials,
        "failures": dict(result.failures),
        "pruned": result.pruned,
        "seconds": result.seconds,
        "stopped_by": result.stopped_by,
    }


def run(
    problems: Mapping[Problem, int],
    device: str,
    *,
    quiet: bool,
    db: str | None = None,
    database: Database | None = None,
    **options: Any,
) -> Session:
    """Tune with progress on stderr; Ctrl-C ends the run and is noted.

    Args:
        problems: what to tune, and how often each is called.
        device: where.
        quiet: show nothing.
        db: database file; the process's own if ``None``.
        database: takes the place of ``db``.
        options: of :func:`hwkit.tuner.tune`.
    """
    from ..tuner import tune
    from .database import opened

    kept = opened(db) if database is None else database
    path = None if kept.path is None else str(kept.path)
    session = Session(device, path, len(problems))
    began = time.monotonic()
    state = State()
    with chosen(state, quiet) as screen:
        try:
            tune(
                problems,
                device,
                database=kept,
                on_event=lambda event: _take(event, session, state, screen),
                **options,
            )
        except KeyboardInterrupt:
            session.interrupted = True
    # Between two problems there is no result that could say it.
    session.interrupted |= len(session.done) < session.asked
    session.interrupted |= any(r.stopped_by == "interrupted" for r in session.done)
    session.not_kept, session.why = kept.counts()["not_kept"], kept.unwritten
    session.seconds = time.monotonic() - began
    return session


def ended(not_kept: int, database: object, why: str, *, interrupted: bool, ok: bool) -> int:
    """Return the exit code of a run; say on stderr what will be forgotten.

    Args:
        not_kept: number of records that the database could not keep.
        database: its file.
        why: why it could not.
        interrupted: whether Ctrl-C ended the run.
        ok: whether it came to what was asked.
    """
    if not_kept:
        click.echo(
            f"hwkit: {count(not_kept, 'record')} not kept in {database}, {why}: "
            "mend that, or name another database with --db",
            err=True,
        )
        # Before the one of Ctrl-C, which says that all is kept.
        return DATABASE
    return INTERRUPTED if interrupted else OK if ok else NOT_FOUND


def say_interrupted() -> None:
    """Say on stderr what Ctrl-C has left."""
    click.echo("hwkit: interrupted; the same command goes on from here", err=True)


def _take(event: Event, session: Session, state: State, screen: Quiet) -> None:
    from ..events import Note, ProblemFinished, ProblemStarted, TrialFinished

    if isinstance(event, ProblemStarted):
        state.start(event)
        screen.begin()
    elif isinstance(event, TrialFinished):
        session.events.append(_trial(event))
        screen.trial(state.tried(event))
    elif isinstance(event, ProblemFinished):
        session.done.append(event.result)
        screen.end(event.result)
    elif isinstance(event, Note):
        session.notes.append(event.text)
        screen.note(event.text)


def _trial(event: TrialFinished) -> dict[str, Any]:
    measured = event.record.measurement
    return {
        "problem": event.record.problem,
        "kernel": event.record.kernel,
        "config": dict(event.record.config),
        "seconds": measured.seconds,
        "origin": event.record.origin,
        "error": measured.error,
        "failure": measured.failure,
        "reason": measured.reason,
        "best": event.best,
        "default": event.default,
        "roofline_share": event.roofline_share,
    }
