"""Why this kernel: the choice for a Problem, told so that a person can check it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from .backend import Device
from .dispatch import database, parse_problem, selection
from .op import Problem
from .plans import Plan
from .preference import preferred
from .records import Record
from .registry import registry
from .roofline import Roofline
from .selection import Selection, Tolerance, by_reason

__all__ = ["Explanation", "explain"]

_SHOWN = 5


@dataclass(frozen=True)
class Explanation:
    """Why a Problem runs as it does on a device; ``str`` gives the text, ``to_json`` the data."""

    problem: Problem
    device: Device
    tolerance: Tolerance
    selection: Selection
    roofline: Roofline
    default: Record | None = None

    @property
    def record(self) -> Record | None:
        """The record that the choice comes from."""
        return self.selection.match.record if self.selection.match else None

    @property
    def roofline_share(self) -> float | None:
        """Share of the roofline that the record reached, if it is of this very problem."""
        record = self.record
        if record is None or self.selection.source == "nearest record":
            return None
        return self.roofline.share(record.measurement.seconds)

    @property
    def speedup(self) -> float | None:
        """How much faster the record was than the default of its run."""
        if self.record is not None and self.record.race is not None:
            return self.record.race.ratio
        if self.record is None or self.default is None:
            return None
        return self.default.measurement.seconds / self.record.measurement.seconds

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data; times in seconds."""
        chosen, record = self.selection, self.record
        match = chosen.match
        return {
            "problem": str(self.problem),
            "device": repr(self.device),
            "arch": self.device.arch,
            "tolerance": self.tolerance,
            "kernel": chosen.kernel.name,
            "version": chosen.kernel.version,
            "config": dict(chosen.config),
            "source": chosen.source,
            "error_budget": self.problem.error_budget(self.tolerance),
            "record": None
            if record is None or match is None
            else {
                "problem": record.problem,
                "created": record.created,
                "seconds": record.measurement.seconds,
                "error": record.measurement.error,
                "samples": len(record.measurement.samples),
                "contended": record.measurement.contended,
                "race": None if record.race is None else asdict(record.race),
                "stale": match.stale,
                "same_device": match.same_device,
                "distance": match.distance,
                "ties": [f"{t.kernel} {t.config}".strip() for t in match.ties],
            },
            "roofline_share": self.roofline_share,
            "speedup_over_default": self.speedup,
            "plugin": chosen.plugin,
            "checked": None
            if chosen.proof is None
            else {
                "problem": chosen.proof.problem,
                "created": chosen.proof.created,
                "error": chosen.proof.measurement.error,
            },
            "others": list(chosen.others),
            "declined": chosen.declined,
            "rejected": [
                {"kernel": r.kernel, "config": dict(r.config), "reason": why}
                for r, why in chosen.rejected
            ],
        }

    def __str__(self) -> str:
        rows = [
            ("problem", str(self.problem)),
            ("device", f"{self.device} ({self.device.arch})"),
            ("runs", f"{self.selection.kernel.name} {self.selection.config}".strip()),
            ("source", self._source()),
            *self._facts(),
            *[
                ("declined", f"{', '.join(names)}: {why}")
                for why, names in by_reason(self.selection.declined).items()
            ],
            *[
                ("rejected", f"record of {record.kernel} {record.config}: {why}")
                for record, why in self.selection.rejected[:_SHOWN]
            ],
        ]
        more = len(self.selection.rejected) - _SHOWN
        rows += [("", f"and {more} more records")] if more > 0 else []
        return "\n".join(f"{name:<9} {text}" for name, text in rows)

    def _source(self) -> str:
        match = self.selection.match
        if match is None:
            return (
                "default (no record fits): to tune it, type\n"
                f"          hwkit tune --device {self.device} --problem '{self.problem}'"
            )
        notes = [f"{_age(match.record.created)} old"]
        if self.selection.source == "nearest record":
            notes.append(f"of '{match.record.problem}', distance {match.distance:.2f}")
        if not match.same_device:
            notes.append(f"of another {match.record.arch} device")
        if match.stale:
            notes.append("stale: the environment has changed, type 'hwkit db revalidate'")
        return f"{self.selection.source} ({', '.join(notes)})"

    def _facts(self) -> list[tuple[str, str]]:
        rows: list[tuple[str, str]] = []
        budget = self.problem.error_budget(self.tolerance)
        match = self.selection.match
        if match is not None:
            measured = match.record.measurement
            how = "estimated" if match.record.origin == "estimated" else "measured"
            rows.append((how, f"{_time(measured.seconds)}{self._shares()}"))
            rows.append(("error", f"{measured.error:.1e} measured, {budget:.1e} allowed"))
            ties = [f"{t.kernel} {t.config}".strip() for t in match.ties]
            rows += [("ties", tie) for tie in ties[:_SHOWN]]
        else:
            rows.append(("error", f"{budget:.1e} allowed"))
        rows += [("checked", self._proof())] if self.selection.plugin else []
        if self.selection.others:
            rows.append(("others", ", ".join(self.selection.others)))
        return rows

    def _proof(self) -> str:
        """Return whether a plugin's kernel has been compared with the reference."""
        brought, trial = f"plugin {self.selection.plugin!r}", self.selection.proof
        if trial is None:
            return f"not yet ({brought}): it is compared with the reference before its first call"
        where = "" if trial.problem == self.problem.text else f" on '{trial.problem}'"
        error = f"relative error {trial.measurement.error:.1e}"
        return f"{error}{where}, {_age(trial.created)} ago ({brought})"

    def _shares(self) -> str:
        record = self.record
        if record is None or self.selection.source == "nearest record":
            return ""
        parts = [f"{self.problem.flops / record.measurement.seconds / 1e9:.1f} GFLOP/s"]
        if self.roofline_share is not None:
            parts.append(f"{self.roofline_share:.0%} of the roofline")
        if record.against_default is not None:
            parts.append(record.against_default)
        elif self.speedup is not None:
            parts.append(f"{self.speedup:.2f}x the default")
        return ", " + ", ".join(parts)


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _age(created: str) -> str:
    then = datetime.fromisoformat(created)
    then = then if then.tzinfo else then.replace(tzinfo=timezone.utc)
    seconds = max(0.0, (datetime.now(timezone.utc) - then).total_seconds())
    for unit, scale in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * scale:
            return f"{seconds / scale:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def explain(
    problem: Problem | Plan | str, device: str | None = None, tolerance: Tolerance = None
) -> Explanation:
    """Return why a Problem runs as it does.

    Args:
        problem: a Problem, its text, or a Plan.
        device: device name; the first of :func:`use`, or the default device, if ``None``.
        tolerance: as of the call.

    Raises:
        ArgumentError: the text or an option cannot be read.
        NoKernel: nothing takes the problem; the message says why.
        Unavailable: the device cannot be opened.
    """
    if isinstance(problem, Plan):
        device = device or repr(problem.device)
        problem = problem.problem
    problem = parse_problem(problem)
    opened = registry().device(preferred(device)[0][0])
    chosen = selection(problem, repr(opened), tolerance)
    default = None
    if chosen.match is not None and chosen.source != "nearest record":
        budget = problem.error_budget(tolerance)
        default = database().default_record(chosen.match.record, budget)
    bound = Roofline.of(problem, opened.ceilings(), opened)
    return Explanation(problem, opened, tolerance, chosen, bound, default)
