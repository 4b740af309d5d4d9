"""``hwkit tune --compile-only``: all of tuning that can be done without the device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .commands import INTERRUPTED, NOT_FOUND, OK
from .options import require_writable, writing
from .output import deliver, duration, line
from .progress import count

if TYPE_CHECKING:
    from ..backend import Device
    from ..op import Problem
    from ..shortlist import Entry

__all__ = ["shortlisted"]

_TRIALS = 32


def shortlisted(
    asked: Iterable[Problem],
    device: str,
    arch: str,
    output: str | None,
    budget: str,
    trials: int | None,
    seed: int,
    kernels: tuple[str, ...],
    as_json: bool,
) -> int:
    """Compile candidates, and write those that can be launched to a file.

    Args:
        asked: the problems.
        device: whose backend compiles.
        arch: for which.
        output: the file.
        budget: time for each problem.
        trials: Configs to look at for each kernel.
        seed: of the choice of Configs.
        kernels: names of the kernels; all if empty.
        as_json: print one JSON document.
    """
    from ..shortlist import Shortlist
    from ..tuner import parse_budget

    problems, offline = list(asked), _offline(device, arch)
    seconds = parse_budget(None if budget == "none" else budget)
    path = Path(output or f"shortlist-{arch}.jsonl")
    require_writable(path)
    entries: list[Entry] = []

    def note(entry: Entry) -> None:
        entries.append(entry)
        if not as_json:
            _show(entry)

    if not as_json:
        _announce(len(problems), arch, seconds)
    interrupted = False
    try:
        for problem in problems:
            _compile(problem, offline, kernels, seconds, trials or _TRIALS, seed, note)
    except KeyboardInterrupt:
        interrupted = True
    if entries:
        with writing(path):
            Shortlist(entries).write(path)
    if not deliver("tune", _document(offline, path, entries, interrupted), as_json):
        _close(entries, path, device, interrupted)
    if interrupted:
        return INTERRUPTED
    return OK if any(entry.configs for entry in entries) else NOT_FOUND


def _offline(device: str, arch: str) -> Device:
    """Return an architecture of a device's backend, which need not be here."""
    from ..registry import registry

    known, name = registry(), device.partition(":")[0]
    if name not in known.backends():
        known.device(device)  # says which there are
    return known.backends()[name].offline(arch)


def _compile(
    problem: Problem,
    offline: Device,
    names: tuple[str, ...],
    seconds: float,
    trials: int,
    seed: int,
    note: Callable[[Entry], None],
) -> None:
    from ..answers import untunable
    from ..registry import registry
    from ..shortlist import compile_only

    able = [
        kernel
        for kernel in registry().kernels(offline, problem.op.name)
        if (not names or kernel.name in names) and untunable(kernel, problem) is None
    ]
    deadline = time.monotonic() + seconds
    compile_only(problem, offline, able, trials=trials, deadline=deadline, seed=seed, progress=note)


def _announce(problems: int, arch: str, seconds: float) -> None:
    limit = ""
    if math.isfinite(seconds):
        limit = f", {duration(seconds)} each: about {duration(seconds * problems)} at most"
    line(f"{count(problems, 'problem')} for {arch}{limit}", "bold")
    line("candidates are compiled, none is run; Ctrl-C keeps those that were compiled", "dim")


def _close(entries: Sequence[Entry], path: Path, device: str, interrupted: bool) -> None:
    if not entries:
        line(
            "nothing is kept: " + ("interrupted" if interrupted else "no kernel takes the problems")
        )
        return
    fit = sum(len(entry.configs) for entry in entries)
    problems = count(len({entry.problem for entry in entries}), "problem")
    end = "interrupted: " if interrupted else ""
    line(f"{end}{count(fit, 'config')} for {problems} kept in {path}", "bold")
    click.echo(f"on the device: hwkit tune --device {device} --shortlist {path}")


def _show(entry: Entry) -> None:
    dropped = sum(entry.pruned.values())
    line(f"{entry.problem}  {entry.kernel}: {len(entry.configs)} fit, {dropped} dropped")
    for reason, times in sorted(entry.pruned.items(), key=lambda item: -item[1])[:3]:
        line(f"  {times} x {reason}", "dim", hang=4)


def _document(
    device: Device, path: Path, entries: list[Entry], interrupted: bool
) -> dict[str, object]:
    return {
        "device": device.backend,
        "arch": device.arch,
        "output": str(path),
        "interrupted": interrupted,
        "entries": [entry.to_json() for entry in entries],
    }
