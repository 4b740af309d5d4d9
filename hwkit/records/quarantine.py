"""Whether the process that put a candidate into quarantine still lives."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

from ..errors import ArgumentError
from .record import Record

__all__ = ["LEFT", "alive", "crash", "host", "started"]

LEFT = "left unfinished by a run that died"
"""The reason of a trial that never came to its end."""

# A process of another machine or container cannot be asked; no candidate takes this long.
_PATIENCE = 3600.0


@cache
def host() -> str:
    """Return machine, boot and process namespace, as one word each."""
    import socket

    boot, space = "", ""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        pass
    return f"{socket.gethostname()} {boot} {space}"


def started(pid: int) -> str:
    """Return when a process of this machine began, ``""`` if it is not there or cannot be asked.

    A pid is used again; pid and beginning are not.
    """
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]
        )
    except (OSError, IndexError):
        return ""


def crash(line: object) -> Record | None:
    """Return the Record of a quarantine row, or ``None`` if it is damaged."""
    try:
        record = Record.from_json(str(line))
    except ArgumentError:
        return None
    return None if record.ok else record


def alive(line: object, where: object, pid: object, began: object) -> bool:
    """Whether a run may still finish the candidate of a quarantine row."""
    record = crash(line)
    if record is None or not isinstance(pid, int) or not 0 < pid < 2**31:
        return False
    mine, theirs = host().split(" "), str(where).split(" ")
    if mine != theirs:
        rebooted = mine[0] == theirs[0] and mine[1:2] != theirs[1:2]
        age = datetime.now(timezone.utc) - datetime.fromisoformat(record.created)
        return not rebooted and age.total_seconds() < _PATIENCE
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return started(pid) == began
