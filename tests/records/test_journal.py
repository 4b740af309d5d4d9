"""Tests of the choice of a journal by the file system."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwkit.records.journal import journal_mode


@pytest.mark.parametrize(
    ("mounts", "mode"),
    [
        ("/dev/sda / ext4 rw 0 0\n", "wal"),
        ("/dev/sda / ext4 rw 0 0\nserver:/home {folder} nfs4 rw 0 0\n", "delete"),
        ("server:/ / nfs rw 0 0\ntmpfs {folder} tmpfs rw 0 0\n", "wal"),
        ("x / mysteryfs rw 0 0\n", "delete"),
        ("/dev/sda / ext4 rw 0 0\n/dev/sdb {folder}-beside cifs rw 0 0\n", "wal"),
        ("broken\n", "delete"),
    ],
)
def test_journal_by_file_system(tmp_path: Path, mounts: str, mode: str) -> None:
    """WAL only where the file system is known to serve it; it does not work over a network."""
    listing = tmp_path / "mounts"
    listing.write_text(mounts.format(folder=tmp_path.resolve()))
    assert journal_mode(tmp_path / "tuning.db", str(listing)) == mode
    assert journal_mode(tmp_path / "tuning.db", str(tmp_path / "absent")) == "delete"
