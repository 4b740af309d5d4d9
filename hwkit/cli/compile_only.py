"""``hwkit tune --compile-only``: all of tuning that can be done without the device."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .output import deliver, line
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
    from ..registry import registry
    from ..shortlist import Shortlist, compile_only
    from ..tuner import parse_budget

    known = registry()
    name = device.partition(":")[0]
    if name not in known.backends():
        known.device(device)  # says which there are
    offline = known.backends()[name].offline(arch)
    seconds = parse_budget(None if budget == "none" else budget)
    entries: list[Entry] = []
    for problem in asked:
        able = [
            kernel
            for kernel in known.kernels(offline, problem.op.name)
            if kernel.supports(problem) is True and (not kernels or kernel.name in kernels)
        ]
        entries += compile_only(
            problem, offline, able,
            trials=trials or _TRIALS, deadline=time.monotonic() + seconds, seed=seed,
            progress=lambda entry: None if as_json else _show(entry),
        )  # fmt: skip
    path = Path(output or f"shortlist-{arch}.jsonl")
    Shortlist(entries).write(path)
    if not deliver("tune", _document(offline, path, entries), as_json):
        fit = sum(len(entry.configs) for entry in entries)
        line(f"{count(fit, 'config')} of {count(len(entries), 'kernel')} kept in {path}", "bold")
        click.echo(f"on the device: hwkit tune --device {device} --shortlist {path}")
    return 0 if any(entry.configs for entry in entries) else 1


def _show(entry: Entry) -> None:
    dropped = sum(entry.pruned.values())
    line(f"{entry.problem}  {entry.kernel}: {len(entry.configs)} fit, {dropped} dropped")
    for reason, times in sorted(entry.pruned.items(), key=lambda item: -item[1])[:3]:
        line(f"  {times} x {reason}", "dim", hang=4)


def _document(device: Device, path: Path, entries: list[Entry]) -> dict[str, object]:
    return {
        "device": device.backend,
        "arch": device.arch,
        "output": str(path),
        "entries": [entry.to_json() for entry in entries],
    }
