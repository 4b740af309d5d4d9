"""The lock of a database's folder, which keeps a file from being renamed while it is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

__all__ = ["holding_folder"]


@contextmanager
def holding_folder(path: Path | None, *, alone: bool = False) -> Iterator[None]:
    """Hold the folder of a database: together to open or to write the file, alone to rename it.

    Otherwise a file could be renamed between its opening and the look at its inode, and the new one
    in its place be taken for damaged; or a trial be written into the one that was set aside.
    """
    try:
        if fcntl is None or path is None:
            raise OSError
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError:  # it will be made, or refused, by whoever opens the file
        yield
        return
    try:
        with suppress(OSError):  # a file system without such locks
            fcntl.flock(folder, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(folder)
