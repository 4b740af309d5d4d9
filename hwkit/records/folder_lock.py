"""Locks of a database: of its folder while a file is opened, and of a file while it is used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

__all__ = ["holding_folder", "sharing"]


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


@contextmanager
def sharing(path: Path | None) -> Iterator[Callable[[], bool]]:
    """Say to other processes that a file is in use, as long as the context lasts.

    Yields:
        What says whether nobody else uses it, so that it may be removed; to be asked last, as who
        has asked no longer counts as a user. Where there are no such locks it says yes.
    """
    won = False
    lock = None if path is None else path.with_name(path.name + ".lock")
    handle = None if lock is None else _shared(lock)

    def alone() -> bool:
        nonlocal won
        if handle is None or lock is None:
            return True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        won = True
        return True

    try:
        yield alone
    finally:
        if won and lock is not None:
            lock.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def _shared(lock: Path) -> int | None:
    """Return a file descriptor that holds a lock together with others, ``None`` without locks."""
    while fcntl is not None:
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:  # a folder that cannot be written has no file to share, either
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)
            # Who held it alone may have removed it since it was opened.
            if os.path.samestat(os.fstat(handle), os.stat(lock)):
                return handle
        except FileNotFoundError:
            pass
        except OSError:  # a file system without such locks
            os.close(handle)
            return None
        os.close(handle)
    return None
