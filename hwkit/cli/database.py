"""The tuning database as the commands see it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, DatabaseError

if TYPE_CHECKING:
    from ..op import Problem
    from ..records import Database

__all__ = ["existing", "facts", "opened", "problems_to_measure"]


def opened(path: str | None = None, *, there: bool = False) -> Database:
    """Return the process's own database, or the one in ``path``, over the shipped records.

    Args:
        path: of ``--db``.
        there: whether that file must exist: reading a new one is a misspelt name.

    Raises:
        DatabaseError: it does not.
    """
    from ..dispatch import database
    from ..records import Database
    from ..registry import registry

    if path is None:
        return database()
    if there and not Path(path).expanduser().exists():
        raise DatabaseError(f"{path} is not there: give --db the path of a tuning database")
    return Database(Path(path).expanduser(), shipped=registry().record_files())


def existing(path: str) -> Path:
    """Return the path of a file to read.

    Raises:
        DatabaseError: there is none.
    """
    found = Path(path).expanduser()
    if not found.is_file():
        raise DatabaseError(
            f"{path} is not a file: name a file of 'hwkit db export', or another database"
        )
    return found


def facts(path: str | None = None) -> dict[str, Any]:
    """Return where the database is, whether it can be written, what it holds, what is wrong."""
    kept = opened(path, there=True)
    file = kept.path
    exists = file is not None and file.exists()
    return {
        "path": None if file is None else str(file),
        "exists": exists,
        "bytes": file.stat().st_size if exists and file is not None else 0,
        "writable": file is None or _writable(file),
        "wrong": kept.verify(),
        "counts": kept.counts(),
    }


def _writable(file: Path) -> bool:
    if file.exists() and not os.access(file, os.W_OK):
        return False
    folder = file.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)


def problems_to_measure(device: str, path: str | None, *, every: bool) -> dict[Problem, int]:
    """Return the problems whose winners on this very device are stale, or all that have one."""
    from ..dispatch import parse_problem
    from ..registry import registry

    here = registry().device(device).fingerprint
    kept = opened(path, there=True)
    if every:
        same = dict(here.identity)
        found = [r for r in kept.winners("user") if dict(r.fingerprint.identity) == same]
    else:
        found = kept.stale(here)
    problems: dict[Problem, int] = {}
    for record in found:
        try:
            problems[parse_problem(record.problem)] = 1
        except ArgumentError:
            # Of an operator whose plugin is not here: nothing could be measured.
            continue
    return problems
