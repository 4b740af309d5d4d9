"""The ``HWKIT_`` environment variables and their defaults, read once.

An argument beats a variable beats a default.

==========================  ===========================================================
variable                    meaning
==========================  ===========================================================
``HWKIT_DEVICE``            default device, ``cpu:0`` if unset
``HWKIT_DB``                file of the user's tuning database (default: user data folder)
``HWKIT_THREADS``           most threads a kernel may use (default: the CPUs this process may use)
``HWKIT_MAX_ISA``           highest instruction set: ``scalar``, ``avx2``, ``avx512``, ``neon``
``HWKIT_DISABLE_PLUGINS``   comma-separated entry points not to load
``HWKIT_TRACE``             ``1``: one line on stderr per new plan
==========================  ===========================================================
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .errors import ArgumentError

__all__ = ["Settings", "settings"]


@dataclass(frozen=True)
class Settings:
    """User options, one field a variable."""

    device: str = "cpu:0"
    db: Path | None = None
    threads: int | None = None
    max_isa: str | None = None
    disable_plugins: frozenset[str] = frozenset()
    trace: bool = False

    @classmethod
    def from_environment(cls, environ: dict[str, str] | None = None) -> Settings:
        """Read the variables.

        Raises:
            ArgumentError: a variable holds something that cannot be used.
        """
        env = os.environ if environ is None else environ
        return cls(
            device=env.get("HWKIT_DEVICE", "").strip() or "cpu:0",
            db=Path(env["HWKIT_DB"]).expanduser() if env.get("HWKIT_DB") else None,
            threads=_threads(env.get("HWKIT_THREADS", "")),
            max_isa=env.get("HWKIT_MAX_ISA", "").strip().lower() or None,
            disable_plugins=frozenset(
                name.strip()
                for name in env.get("HWKIT_DISABLE_PLUGINS", "").split(",")
                if name.strip()
            ),
            trace=env.get("HWKIT_TRACE", "") not in ("", "0"),
        )


def _threads(text: str) -> int | None:
    if not text.strip():
        return None
    if not text.strip().isdecimal() or int(text) < 1:
        raise ArgumentError(
            f"HWKIT_THREADS is {text!r}, but must be a whole number above 0: unset HWKIT_THREADS"
        )
    return int(text)


@cache
def settings() -> Settings:
    """Return the settings of this process, read from the environment once."""
    return Settings.from_environment()
