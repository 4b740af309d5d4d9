"""``hwkit tune model.onnx``: tune the problems of a network, and measure it before and after."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ..errors import ArgumentError
from .model_inputs import arrays_for
from .options import check_kernels, named_kernels
from .output import deliver, duration, line, ratio
from .progress import count

if TYPE_CHECKING:
    from pathlib import Path

    from ..graph.tuning import NetworkResult, Records
    from ..op import Problem
    from ..records import Database
    from ..runoff import Paired
    from .tuning import Session

__all__ = ["tune_network"]


def tune_network(
    path: str,
    device: str,
    budget: str,
    as_json: bool,
    *,
    inputs: tuple[str, ...],
    shapes: tuple[str, ...],
    kernels: tuple[str, ...] | None,
    tolerance: Any,
    db: str | None,
    **options: Any,
) -> int:
    """Tune, print what came of it, and return the exit code."""
    from ..graph import load
    from ..graph.profile import require_clock
    from ..graph.tuning import tune_model
    from ..records.folder_lock import sharing
    from ..tuner import parse_budget
    from .database import opened
    from .tuning import ended, say_interrupted

    if budget == "none":
        raise ArgumentError("a network needs a budget: write it as --budget 60s")
    seconds = parse_budget(budget)
    require_clock(device)
    model = load(path, device, tolerance=tolerance)
    arrays = arrays_for(model, inputs, shapes)
    model.prepared(arrays)
    check_kernels(device, kernels or ())
    tail = model.program().graph.tail
    if tail is not None:
        late = count(len(tail.nodes), "node")
        click.echo(f"hwkit: note: not tuned, as only a run tells their sizes: {late}", err=True)
    named = {p: named_kernels(p, device, kernels) for p in model.problems()}
    if kernels and not any(named.values()):
        raise ArgumentError(
            f"no problem of the model can be tuned with {', '.join(kernels)} on {device}: type "
            f"'hwkit run {path} --explain' for what runs"
        )
    kept = opened(db)
    tried = _file_of_trials(kept, device, [str(problem) for problem in model.problems()])
    with sharing(tried) as alone:
        records = _records(kept, tried)
        sessions = _Sessions(
            device, named, quiet=as_json, database=records.tried, tolerance=tolerance, **options
        )
        result = tune_model(
            model, arrays, seconds, sessions.tune, records, lambda p: named.get(p) != ()
        )
        records.tried.close()
        if alone() and not sessions.interrupted:
            _remove(records.tried)
    payload = _payload(model.name, device, result, sessions, kept)
    # Trials that did not help the network need not be kept, unless the next run goes on from them.
    lost = payload["not_kept"] + (sessions.not_kept if sessions.interrupted else 0)
    if not deliver("tune", payload, as_json):
        _show(model.name, device, result, sessions.trials)
        if sessions.interrupted and not lost:
            say_interrupted()
    why = kept.unwritten or records.tried.unwritten
    return ended(lost, kept.path, why, interrupted=sessions.interrupted, ok=True)


class _Sessions:
    """The runs of the tuner on the problems of one network.

    Args:
        device: where.
        kernels: that may be tried for each problem, any if ``None``.
        options: of :func:`hwkit.cli.tuning.run`.
    """

    def __init__(
        self, device: str, kernels: Mapping[Problem, tuple[str, ...] | None], **options: Any
    ) -> None:
        self._device, self._kernels, self._options = device, kernels, options
        self._done: list[Session] = []

    def tune(self, problems: Mapping[Problem, int], seconds: float) -> bool:
        """Tune some Problems, and return whether to go on."""
        from .tuning import run

        for problem in problems:
            options = {"kernels": self._kernels[problem], "budget": seconds, **self._options}
            self._done.append(run({problem: problems[problem]}, self._device, **options))
        return not self.interrupted

    @property
    def trials(self) -> int:
        """Candidates tried."""
        return sum(session.trials for session in self._done)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended one."""
        return any(session.interrupted for session in self._done)

    @property
    def not_kept(self) -> int:
        """Records that are lost with this process."""
        return self._done[-1].not_kept if self._done else 0


def _payload(
    name: str, device: str, result: NetworkResult, sessions: _Sessions, kept: Database
) -> dict[str, Any]:
    return {
        "model": name,
        "device": device,
        "before_seconds": result.before,
        "after_seconds": result.after,
        "kept": result.kept,
        "race": asdict(result.race),
        "gained": [str(p) for p in result.gained],
        "interrupted": sessions.interrupted,
        "problems": {str(p): seconds for p, seconds in result.problems.items()},
        "trials": sessions.trials,
        "not_kept": kept.counts()["not_kept"],
        "database": None if kept.path is None else str(kept.path),
    }


def _show(name: str, device: str, result: NetworkResult, trials: int) -> None:
    line(f"{name} on {device}", "bold")
    line(f"  {count(len(result.problems), 'problem')} tuned, {count(trials, 'trial')}")
    line(f"  {count(len(result.gained), 'problem')} faster inside the network")
    line(f"  before {duration(result.before)}, after {duration(result.after)}")
    line(
        f"  {ratio(result.speedup)} faster{_noise(result.race)}"
        if result.kept
        else f"  not faster by more than the noise{_noise(result.race)}: nothing of it is kept"
    )


def _noise(race: Paired) -> str:
    return f" ({race.low:.2f}..{race.high:.2f}, {race.pairs} pairs)"


def _file_of_trials(kept: Database, device: str, problems: list[str]) -> Path | None:
    """Return the file beside the database where trials go until the network has been measured.

    What was tried is there for the same command if this process is interrupted or killed.
    """
    if kept.path is None:
        return None
    name = hashlib.sha256("\n".join([device, *problems]).encode()).hexdigest()[:12]
    return kept.path.with_name(f"{kept.path.name}.network-{name}")


def _records(kept: Database, file: Path | None) -> Records:
    """Return where trials go: those of this run, those that are kept, and those on trial."""
    from ..graph.tuning import Records
    from ..records import Database
    from ..registry import registry

    shipped = registry().record_files()
    tried = Database(file, shipped)
    trial = Database(None, shipped)
    for records in (tried, trial):
        records.add_all(kept.records("user"))
    return Records(tried, kept, trial)


def _remove(tried: Database) -> None:
    """Take its file away: what it holds is in the database now, or of no use."""
    if tried.path is not None:
        for end in ("", "-wal", "-shm", "-journal"):
            tried.path.with_name(tried.path.name + end).unlink(missing_ok=True)
