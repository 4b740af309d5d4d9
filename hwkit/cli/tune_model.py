"""``hwkit tune model.onnx``: tune the problems of a network, and measure it before and after."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError
from .output import deliver, duration, line, ratio
from .progress import count

if TYPE_CHECKING:
    from ..graph.tuning import Records
    from ..op import Problem
    from ..records import Database
    from ..runoff import Paired

__all__ = ["tune_network"]


def tune_network(
    path: str,
    device: str,
    budget: str,
    as_json: bool,
    *,
    tolerance: Any,
    db: str | None,
    **options: Any,
) -> int:
    """Tune, print what came of it, and return the exit code."""
    from ..graph import load
    from ..graph.profile import require_clock
    from ..graph.tuning import tune_model
    from ..tuner import parse_budget
    from .commands import INTERRUPTED
    from .database import opened
    from .tuning import Session, run

    if budget == "none":
        raise ArgumentError("a network needs a budget: write it as --budget 60s")
    require_clock(device)
    model = load(path, device, tolerance=tolerance)
    inputs = model.random_inputs()
    model.prepared(inputs)
    seconds = parse_budget(budget)
    sessions: list[Session] = []
    records = _records(opened(db), device, [str(problem) for problem in model.problems()])

    def tune(problems: Mapping[Problem, int], share: float) -> bool:
        session = run(
            problems, device, quiet=as_json, budget=share, tolerance=tolerance,
            database=records.tried, **options,
        )  # fmt: skip
        sessions.append(session)
        return not session.interrupted

    result = tune_model(model, inputs, seconds, tune, records)
    _close(records.tried)
    trials = sum(session.trials for session in sessions)
    payload = {
        "model": model.name,
        "device": device,
        "before_seconds": result.before,
        "after_seconds": result.after,
        "kept": result.kept,
        "race": asdict(result.race),
        "gained": [str(p) for p in result.gained],
        "interrupted": any(session.interrupted for session in sessions),
        "problems": {str(p): seconds for p, seconds in result.problems.items()},
        "trials": trials,
        "database": None if records.kept.path is None else str(records.kept.path),
    }
    if not deliver("tune", payload, as_json):
        line(f"{model.name} on {device}", "bold")
        line(f"  {count(len(result.problems), 'problem')} tuned, {count(trials, 'trial')}")
        line(f"  {count(len(result.gained), 'problem')} faster inside the network")
        line(f"  before {duration(result.before)}, after {duration(result.after)}")
        line(
            f"  {ratio(result.speedup)} faster{_noise(result.race)}"
            if result.kept
            else f"  not faster by more than the noise{_noise(result.race)}: nothing of it is kept"
        )
    return INTERRUPTED if payload["interrupted"] else 0


def _noise(race: Paired) -> str:
    return f" ({race.low:.2f}..{race.high:.2f}, {race.pairs} pairs)"


def _records(kept: Database, device: str, problems: list[str]) -> Records:
    """Return where trials go until the network has been measured.

    It is a file beside the database: what was tried is there for the same command if this process
    is killed.
    """
    from ..graph.tuning import Records
    from ..records import Database
    from ..registry import registry

    shipped = registry().record_files()
    tried = None
    if kept.path is not None:
        name = hashlib.sha256("\n".join([device, *problems]).encode()).hexdigest()[:12]
        tried = Database(kept.path.with_name(f"{kept.path.name}.network-{name}"), shipped)
    tried = tried or Database(None, shipped)
    trial = Database(None, shipped)
    for records in (tried, trial):
        records.add_all(kept.records("user"))
    return Records(tried, kept, trial)


def _close(tried: Database) -> None:
    """Take the file away: what it holds is kept, or of no use."""
    tried.close()
    if tried.path is not None:
        for end in ("", "-wal", "-shm", "-journal"):
            tried.path.with_name(tried.path.name + end).unlink(missing_ok=True)
