"""Layered: the user's trials over the shipped ones, and what is kept where the file cannot be."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..backend import Fingerprint
from ..config import Config
from ..errors import ArgumentError, shown
from ..measure import Measurement
from ..op import Problem
from . import quarantine
from .access import ADVICE
from .lines import Shipped
from .matching import Layer
from .record import Record, now
from .rows import shape
from .store import NotKept, Store

__all__ = ["Layered"]


class Layered:
    """The writing half of :class:`hwkit.records.Database`, and the layers that lookups read.

    Attributes:
        path: file of the user's trials, ``None`` for memory.
        read_only: whether that file is never written.
        unwritten: why the file could not be written the last time that it could not.
    """

    def __init__(self, path: Path | None, shipped: Sequence[Path], read_only: bool) -> None:
        if not isinstance(path, (str, os.PathLike, type(None))):
            raise ArgumentError(f"path {shown(path)} must be that of a file, or None for memory")
        self.path = None if path is None else Path(path)
        self.read_only = read_only
        self.unwritten = ""
        self._user = Store(self.path, read_only=read_only)
        self._overlay = Store(None)
        self._shipped = Shipped(shipped)
        self._unkept = 0
        self._overlaid = read_only
        # What is kept in memory, and whether it must still be written, change together.
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"Database({str(self.path) if self.path else None!r})"

    @property
    def refusal(self) -> str | None:
        """Why the file is not used at all, if so; it is opened to see."""
        self._user.read(lambda connection: None, None)
        return self._user.refusal

    @property
    def may_write(self) -> bool:
        """Whether the file is of a version that can be written; it is opened to see."""
        return self.refusal is None and self._user.read_only == self.read_only

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._user.close()
        self._shipped.close()

    def add(self, record: Record) -> None:
        """Keep a trial: one committed row."""
        self.add_all([record])

    def add_all(self, records: Iterable[Record]) -> int:
        """Keep trials in one transaction, and return how many are new."""
        batch = list(records)
        try:
            added = self._user.add(batch)
        except NotKept as error:
            self._not_kept(error)
            return self._overlay_add(batch)
        self.catch_up()
        return added

    def catch_up(self) -> None:
        """Try to write what was kept in memory while the file could not be written."""
        if not self._unkept:
            return
        with self._lock:
            try:
                self._user.add(list(self._overlay))
            except NotKept:
                return
            self._overlay, self._unkept, self._overlaid = Store(None), 0, self.read_only

    def _overlay_add(self, records: list[Record]) -> int:
        with self._lock:
            self._overlaid = True
            added = self._overlay.add(records)
            self._unkept += added
            return added

    def _not_kept(self, error: NotKept) -> None:
        self.unwritten = str(error)
        if not self.read_only:
            self._user.warn(
                f"new trials are not kept in {self.path}, {error}; they are forgotten when this "
                f"process ends: {ADVICE}"
            )

    def begin(
        self,
        problem: Problem | str,
        arch: str,
        fingerprint: Fingerprint,
        kernel: str,
        version: int,
        config: Config,
        *,
        strict: bool = True,
        deterministic: bool = False,
        workspace: int = 0,
        origin: str = "tuned",
        default: bool = False,
    ) -> int:
        """Put a candidate into quarantine, committed, and return the token for :meth:`finish`.

        If this process or the machine dies before that, the candidate counts as failed with class
        ``crash``, and :meth:`tried` names it.
        """
        crash = Record(
            problem=str(problem),
            op=str(problem).split(" ", 1)[0],
            kernel=kernel,
            version=version,
            config=config,
            arch=arch,
            fingerprint=fingerprint,
            measurement=Measurement.failed("crash", quarantine.LEFT),
            strict=strict,
            deterministic=deterministic,
            workspace=workspace,
            origin=origin,
            created=now(),
            default=default,
        )
        try:
            return self._user.begin(crash)
        except NotKept as error:
            self._not_kept(error)
            self._overlaid = True
            return -self._overlay.begin(crash)

    def finish(self, token: int, record: Record | None = None) -> None:
        """Take a candidate out of quarantine and keep its trial, in one transaction.

        Args:
            token: from :meth:`begin`.
            record: the trial; ``None`` if the candidate was not tried after all.
        """
        if token < 0:
            self._overlay.finish(-token, None)
            if record is not None:
                self.add(record)
            return
        try:
            self._user.finish(token, record)
        except NotKept as error:
            self._not_kept(error)
            if record is not None:
                self._overlay_add([record])
            return
        self.catch_up()

    def _user_layer(self) -> Layer:
        return Layer("user record", [self._user, self._overlay] if self._overlaid else [self._user])

    def _layers(self, arch: str = "", problem: str = "") -> tuple[Layer, Layer]:
        """Return the user's layer and the shipped one, which has what serves a Problem on an arch.

        Either may be ``""``, for all.
        """
        family = shape(problem).family if problem else ""
        shipped = [self._shipped.store(arch, family)] if self._shipped.files else []
        return self._user_layer(), Layer("shipped record", shipped)
