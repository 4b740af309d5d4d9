"""Profile: how long each step of a network takes, as a table, a Chrome trace or plain data."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, shown
from ..registry import registry
from ..roofline import Roofline
from .ir import Array
from .program import LATE

if TYPE_CHECKING:
    from .model import Model

__all__ = ["Profile", "StepTime", "profile", "require_clock"]


@dataclass(frozen=True)
class StepTime:
    """One step of a network.

    Attributes:
        name: of its node.
        type: of its node.
        seconds: median over the runs.
        start: seconds after the beginning of the run that was traced.
        problem: what its plan computes, ``""`` for glue.
        kernel: by what, with its config.
        source: where that choice comes from; of a node whose sizes only a run tells, that.
        roofline_share: share of the roofline, ``None`` if the device's ceilings are not known.
    """

    name: str
    type: str
    seconds: float
    start: float
    problem: str = ""
    kernel: str = ""
    source: str = ""
    roofline_share: float | None = None


@dataclass(frozen=True)
class Profile:
    """The steps of a network, and how long a whole run takes.

    Attributes:
        model: name of the model.
        device: name of the device.
        seconds: median of whole runs, timed step by step.
        steps: in order.
    """

    model: str
    device: str
    seconds: float
    steps: tuple[StepTime, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data; times in seconds."""
        return {
            "model": self.model,
            "device": self.device,
            "seconds": self.seconds,
            "steps": [dict(vars(step)) for step in self.steps],
        }

    def trace(self) -> str:
        """Return one run in the Chrome trace format, for chrome://tracing or ui.perfetto.dev."""
        events = [
            {
                "name": step.name,
                "cat": step.type,
                "ph": "X",
                "ts": step.start * 1e6,
                "dur": step.seconds * 1e6,
                "pid": 0,
                "tid": 0,
                "args": {"problem": step.problem, "kernel": step.kernel, "source": step.source},
            }
            for step in self.steps
        ]
        return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})

    def __str__(self) -> str:
        total = sum(step.seconds for step in self.steps) or 1.0
        lines = [f"{self.model} on {self.device}: {1e3 * self.seconds:.3f} ms a run"]
        for step in self.steps:
            share = "" if step.roofline_share is None else f"{step.roofline_share:4.0%} of roofline"
            lines.append(
                f"{1e3 * step.seconds:9.3f} ms {step.seconds / total:6.1%}  {step.type:<20} "
                f"{step.name[:28]:<28} {share:<17} {step.kernel or step.source or 'numpy'}"
            )
        return "\n".join(lines)


def require_clock(name: str) -> None:
    """Refuse to time a network on a device that is emulated: only its Ops have estimates.

    Raises:
        ArgumentError: the device is emulated.
    """
    device = registry().device(name)
    if device.emulated:
        raise ArgumentError(
            f"{device} is emulated: a network cannot be timed there; choose a device that is here "
            f"('hwkit devices'), or tune problems: 'hwkit tune --device {device} --op conv2d'"
        )


def profile(model: Model, inputs: Mapping[str, Array], rounds: int = 10) -> Profile:
    """Run a model several times, and time each step.

    Args:
        model: what to run.
        inputs: by name.
        rounds: runs that count, after two that do not.

    Raises:
        ArgumentError: the device is emulated, or ``rounds`` is not a number of runs.
    """
    if not isinstance(rounds, Integral) or rounds < 1:
        raise ArgumentError(f"rounds={shown(rounds)} must be a whole number, 1 or above")
    require_clock(model.device)
    arrays, program = model.prepared(inputs)
    for _ in range(2):
        program(arrays)
    runs = [program.timed(arrays) for _ in range(int(rounds))]
    device = registry().device(model.device)
    ceilings = device.ceilings()
    steps = []
    start = 0.0
    for index, step in enumerate(program.steps):
        seconds = statistics.median(run[index][1] - run[index][0] for run in runs)
        plans = step.plans
        share = None
        if len(plans) == 1:
            share = Roofline.of(plans[0].problem, ceilings, device).share(seconds)
        steps.append(
            StepTime(
                step.node.name, step.node.type, seconds, start,
                "; ".join(str(p.problem) for p in plans),
                "; ".join(f"{p.kernel.name} {p.config}".strip() for p in plans),
                LATE if step.bind is None else "; ".join(p.source for p in plans),
                share,
            )
        )  # fmt: skip
        start += seconds
    whole = statistics.median(run[-1][1] - run[0][0] for run in runs) if program.steps else 0.0
    return Profile(model.name, model.device, whole, tuple(steps))
