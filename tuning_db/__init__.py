"""The records that hwkit ships: JSON lines, one file per backend and arch, and this hook."""

from __future__ import annotations

from pathlib import Path

from hwkit import hookimpl

__all__ = ["hwkit_records"]


@hookimpl
def hwkit_records() -> list[Path]:
    """Return the files of records beside this one."""
    return sorted(Path(__file__).parent.glob("*.jsonl"))
