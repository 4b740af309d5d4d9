"""Which journal SQLite may use on a file system."""

from __future__ import annotations

from pathlib import Path

__all__ = ["journal_mode"]

# File systems whose locks and shared memory are known to serve WAL; all others get the rollback
# journal, which needs neither (WAL does not work over a network).
_LOCAL = ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay", "bcachefs")


def journal_mode(path: Path, mounts: str = "/proc/mounts") -> str:
    """Return ``"wal"`` where the file system is known to serve it, else ``"delete"``."""
    try:
        text = Path(mounts).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "delete"
    folder, best, kind = str(path.parent.resolve()), -1, ""
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        inside = folder == point or folder.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, kind = len(point), fields[2]
    return "wal" if kind in _LOCAL else "delete"
