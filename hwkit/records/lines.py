"""Records in other files: shipped ones, exports, databases to merge. A bad line is left out."""

from __future__ import annotations

import json
import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TextIO

from ..errors import ArgumentError, DatabaseError, HwkitWarning
from .record import MAX_LINE, Record
from .store import Store
from .tables import MAGIC

__all__ = ["Shipped", "read_any", "read_lines", "write_lines"]


def read_lines(path: Path, bad: dict[str, str], *words: str) -> Iterator[Record]:
    """Yield the Records of a file; blank lines and those that begin with ``#`` are skipped.

    Args:
        path: the file.
        bad: gets ``"<file>:<line>"`` to what is wrong, for each line that is left out.
        words: only lines that hold all of these texts are looked at.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        number = 0
        # A line is read no further than a legal one can be long.
        while raw := file.readline(MAX_LINE + 2):
            number += 1
            too_long = not raw.endswith(b"\n") and len(raw) > MAX_LINE
            while too_long and raw and not raw.endswith(b"\n"):
                raw = file.readline(MAX_LINE + 2)
            # A byte order mark is what some editors put before the first line.
            line = raw.decode("utf-8", "replace").strip("\ufeff \t\r\n")
            if not too_long and (
                not line or line.startswith("#") or any(w not in line for w in words)
            ):
                continue
            try:
                if too_long:
                    raise ArgumentError(f"the line has more than {MAX_LINE} characters")
                yield Record.from_json(line)
            except ArgumentError as error:
                bad[f"{path.name}:{number}"] = str(error)


def read_any(path: Path, bad: dict[str, str]) -> Iterator[Record]:
    """Yield the Records of a file, which holds JSON lines or is another database.

    Args:
        path: the file.
        bad: gets where to what is wrong, for each Record that is left out.

    Raises:
        DatabaseError: the file cannot be read, or not to its end.
    """
    try:
        with open(path, "rb") as file:
            is_database = file.read(len(MAGIC)) == MAGIC
        if not is_database:
            yield from read_lines(path, bad)
            return
        with closing(Store(path, read_only=True)) as other:
            yield from other
            bad.update(other.bad)
    except OSError as error:
        raise DatabaseError(
            f"{path} cannot be read ({error.strerror}): name a file of 'hwkit db export', or a "
            "database"
        ) from None
    if other.refusal is not None:
        raise DatabaseError(
            f"{path} cannot be merged, {other.refusal}: nothing more of it was added"
        )


def write_lines(path: Path, records: Iterable[Record]) -> int:
    """Write records, one a line, to a file that is there in full or not at all; return how many.

    Raises:
        DatabaseError: the file is a database.
        OSError: it cannot be written.
    """
    import tempfile

    if os.path.exists(path) and not os.path.isfile(path):
        # A pipe or a device would be replaced by a file of its name.
        with open(path, "w", encoding="ascii") as file:
            return _print(file, records)
    path = Path(os.path.realpath(path))
    if _is_database(path):
        raise DatabaseError(f"{path} is a database, which would be lost: name another file")
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            count = _print(file, records)
            file.flush()
            os.fsync(file.fileno())
        # As open() would have made it; mkstemp makes it for the owner only.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return count


def _print(file: TextIO, records: Iterable[Record]) -> int:
    count = 0
    for record in records:
        file.write(record.to_json() + "\n")
        count += 1
    return count


def _is_database(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


class Shipped:
    """Files of Records that plugins bring, never written; read on demand, as far as asked."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(map(Path, files))
        self.bad: dict[str, str] = {}
        self._store = Store(None)
        self._loaded: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def store(self, arch: str = "", family: str = "") -> Store:
        """Return a Store in memory with the Records of an arch and a family, or of all for ``""``.

        Args:
            arch: of the device.
            family: the first words of the Problem, see :func:`hwkit.records.rows.shape`.
        """
        wider = {(a, f) for a in (arch, "") for f in (family, "")}
        # Without the lock first: what is loaded stays.
        if not wider & self._loaded:
            with self._lock:
                if not wider & self._loaded:
                    self._load(arch, family)
                    self._loaded.add((arch, family))
        return self._store

    def _load(self, arch: str, family: str) -> None:
        before = len(self.bad)
        words = ([json.dumps(arch)] if arch else []) + ([f'"{family} '] if family else [])
        records: list[Record] = []
        for path in self.files:
            try:
                records += read_lines(path, self.bad, *words)
            except OSError as error:
                self.bad[path.name] = f"it cannot be read: {error}"
        self._store.add(records)
        if len(self.bad) > before:
            where, why = list(self.bad.items())[before]
            warnings.warn(
                f"{len(self.bad) - before} shipped records are left out (the first: {where}, "
                f"{why}): type 'hwkit db verify'",
                HwkitWarning,
                stacklevel=4,
            )

    def close(self) -> None:
        """Forget what was read."""
        with self._lock:
            self._store.close()
            self._loaded.clear()
