"""Locks of a database: who may remove a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hwkit.records import folder_lock
from hwkit.records.folder_lock import sharing


def test_the_last_user_is_alone(tmp_path: Path) -> None:
    """Whoever ends while another uses the file leaves it; the last one takes the lock away."""
    file = tmp_path / "trials"
    with sharing(file) as first:
        with sharing(file) as second:
            assert not second()
        with sharing(file):
            pass  # one that dies asks nothing
        assert first()
    assert not list(tmp_path.iterdir())


def test_a_lock_that_was_removed_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opened the lock just before it was removed does not stay alone with what is gone."""
    file, opened = tmp_path / "trials", []
    real = os.open

    def late(path: Path, *flags: int) -> int:
        handle = real(path, *flags)
        if not opened:
            path.unlink()
        opened.append(handle)
        return handle

    monkeypatch.setattr(folder_lock.os, "open", late)
    with sharing(file) as first, sharing(file) as second:
        assert len(opened) == 3
        assert not second()
        assert first()


def test_no_lock_where_there_is_no_file(tmp_path: Path) -> None:
    """In memory, or where no file can be made, nobody else is there."""
    for path in (None, tmp_path / "missing" / "trials"):
        with sharing(path) as alone:
            assert alone()
