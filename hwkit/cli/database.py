"""The tuning database as the commands see it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, DatabaseError
from ..settings import expanded

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
        DatabaseError: it does not, or is a file of another kind.
    """
    from ..dispatch import database
    from ..records import Database
    from ..records.tables import is_other_kind
    from ..registry import registry

    if path is None:
        kept = database()
        if kept.path is not None and is_other_kind(kept.path):
            raise DatabaseError(
                f"{kept.path} is no tuning database: set HWKIT_DB to the path of one, or a new one"
            )
        return kept
    file = expanded(path, "--db")
    if there:
        _require_there(file, path)
    if is_other_kind(file):
        raise DatabaseError(
            f"{path} is no tuning database: give --db the path of one, or a new one"
        )
    return Database(file, shipped=registry().record_files())


def _require_there(file: Path, path: str) -> None:
    try:
        file.stat()
    except OSError as error:
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        why = "is not there" if missing else f"cannot be read ({error.strerror})"
        raise DatabaseError(f"{path} {why}: give --db the path of a tuning database") from None


def existing(path: str) -> Path:
    """Return the path of a file to read.

    Raises:
        DatabaseError: there is none.
    """
    found = expanded(path, "FILE")
    if not os.path.isfile(found):
        raise DatabaseError(
            f"{path} is not a file: name a file of 'hwkit db export', or another database"
        )
    return found


def facts(path: str | None = None) -> dict[str, Any]:
    """Return where the database is, whether it can be written, what it holds, what is wrong."""
    kept = opened(path, there=True)
    file = kept.path
    # What is damaged is set aside, and need not leave a file behind.
    wrong = kept.verify()
    exists = file is not None and os.path.exists(file)
    return {
        "path": None if file is None else str(file),
        "exists": exists,
        "bytes": file.stat().st_size if exists and file is not None else 0,
        "writable": file is None or (kept.may_write and _writable(file)),
        "wrong": wrong,
        "counts": kept.counts(),
    }


def _writable(file: Path) -> bool:
    # Those of os.path answer "no" where a folder may not be looked into; those of Path raise.
    if os.path.exists(file) and not (os.path.isfile(file) and os.access(file, os.W_OK)):
        return False
    folder = file.parent
    while not os.path.exists(folder) and folder != folder.parent:
        folder = folder.parent
    return os.path.isdir(folder) and os.access(folder, os.W_OK)


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
