"""``hwkit tune model.onnx``: tune the problems of a network, and measure it before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError
from .output import deliver, duration, line, ratio
from .progress import count

if TYPE_CHECKING:
    from ..op import Problem

__all__ = ["tune_network"]


def tune_network(
    path: str, device: str, budget: str, as_json: bool, *, tolerance: Any, **options: Any
) -> int:
    """Tune, print what came of it, and return the exit code."""
    from ..graph import load
    from ..graph.tuning import tune_model
    from ..tuner import parse_budget
    from .tuning import Session, run

    if budget == "none":
        raise ArgumentError("a network needs a budget: write it as --budget 60s")
    model = load(path, device, tolerance=tolerance)
    sessions: list[Session] = []

    def tune(problems: Mapping[Problem, int], seconds: float) -> None:
        session = run(
            problems, device, quiet=as_json, budget=seconds, tolerance=tolerance, **options
        )
        sessions.append(session)
        if session.interrupted:
            raise KeyboardInterrupt

    result = tune_model(model, model.random_inputs(), parse_budget(budget), tune)
    trials = sum(session.trials for session in sessions)
    payload = {
        "model": model.name,
        "device": device,
        "before_seconds": result.before,
        "after_seconds": result.after,
        "kept": result.kept,
        "problems": {str(p): seconds for p, seconds in result.problems.items()},
        "trials": trials,
        "database": sessions[0].database if sessions else None,
    }
    if not deliver("tune", payload, as_json):
        line(f"{model.name} on {device}", "bold")
        line(f"  {count(len(result.problems), 'problem')} tuned, {count(trials, 'trial')}")
        line(f"  before {duration(result.before)}, after {duration(result.after)}")
        line(f"  {ratio(result.before / result.after)} faster" if result.kept else "  not faster")
    return 0
