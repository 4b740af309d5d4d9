"""The ``HWKIT_`` environment variables and their defaults, read once.

An argument beats a variable beats a default.

==========================  ===========================================================
variable                    meaning
==========================  ===========================================================
``HWKIT_DEVICE``            default device, ``cpu:0`` if unset
``HWKIT_DB``                file of the user's tuning database (default: user data folder)
``HWKIT_THREADS``           most threads a kernel may use (default: the CPUs this process may use)
``HWKIT_MAX_ISA``           highest instruction set: ``scalar``, ``avx2``, ``avx512``, ``amx``,
                            ``neon``
``HWKIT_EMULATE_AMX``       ``1``: AMX and AVX512-BF16 by slow plain C, for tests without them
``HWKIT_WORKSPACE_LIMIT``   most scratch memory of a kernel: bytes, or as ``64MiB`` (default: any)
``HWKIT_DISABLE_PLUGINS``   comma-separated entry points not to load
``HWKIT_TRACE``             ``1``: one line on stderr per new plan
``HWKIT_TRACEBACK``         ``1``: commands show where an error comes from
==========================  ===========================================================
"""

from __future__ import annotations

import difflib
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .errors import ArgumentError, HwkitWarning

__all__ = ["VARIABLES", "Settings", "expanded", "settings"]

VARIABLES = (
    "HWKIT_DEVICE",
    "HWKIT_DB",
    "HWKIT_THREADS",
    "HWKIT_MAX_ISA",
    "HWKIT_EMULATE_AMX",
    "HWKIT_WORKSPACE_LIMIT",
    "HWKIT_DISABLE_PLUGINS",
    "HWKIT_TRACE",
    "HWKIT_TRACEBACK",
)
"""The variables that hwkit itself reads; a plugin may have its own."""


@dataclass(frozen=True)
class Settings:
    """User options, one field a variable."""

    device: str = "cpu:0"
    db: Path | None = None
    threads: int | None = None
    max_isa: str | None = None
    disable_plugins: frozenset[str] = frozenset()
    trace: bool = False
    workspace_limit: int | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the variables.

        Raises:
            ArgumentError: a variable holds something that cannot be used.
        """
        env = os.environ if environ is None else environ
        _warn_of_misspelt(env)
        _check_emulation(env.get("HWKIT_EMULATE_AMX", ""))
        return cls(
            device=env.get("HWKIT_DEVICE", "").strip() or "cpu:0",
            db=expanded(env["HWKIT_DB"], "HWKIT_DB") if env.get("HWKIT_DB") else None,
            threads=_threads(env.get("HWKIT_THREADS", "")),
            max_isa=env.get("HWKIT_MAX_ISA", "").strip().lower() or None,
            disable_plugins=frozenset(
                name.strip()
                for name in env.get("HWKIT_DISABLE_PLUGINS", "").split(",")
                if name.strip()
            ),
            trace=env.get("HWKIT_TRACE", "") not in ("", "0"),
            workspace_limit=_bytes(env.get("HWKIT_WORKSPACE_LIMIT", "")),
        )


def expanded(text: str, name: str) -> Path:
    """Return a path with a home folder in place of its ``~``.

    Args:
        text: the path.
        name: what holds it, for the message.

    Raises:
        ArgumentError: there is no such home folder, or no text.
    """
    if not text.strip():
        raise ArgumentError(f"{name} is given as an empty text: write a path")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ArgumentError(
            f"{name} is {text!r}, but no home folder of that name is known: write the whole path"
        ) from None


def _warn_of_misspelt(env: Mapping[str, str]) -> None:
    for name in env:
        if name.startswith("HWKIT_") and name not in VARIABLES:
            close = difflib.get_close_matches(name, VARIABLES, 1, 0.9)
            if close:
                warnings.warn(
                    f"{name} is not read, did you mean {close[0]}?", HwkitWarning, stacklevel=4
                )


def _check_emulation(text: str) -> None:
    """Refuse what the compiled module, which reads the variable itself, would take for off."""
    if text not in ("", "0", "1"):
        raise ArgumentError(
            f"HWKIT_EMULATE_AMX is {text!r}, but must be 1 or 0: unset HWKIT_EMULATE_AMX"
        )


def _threads(text: str) -> int | None:
    if not text.strip():
        return None
    if not text.strip().isdecimal() or int(text) < 1:
        raise ArgumentError(
            f"HWKIT_THREADS is {text!r}, but must be a whole number above 0: unset HWKIT_THREADS"
        )
    return int(text)


def _bytes(text: str) -> int | None:
    if not text.strip():
        return None
    found = re.fullmatch(r"(\d+) *(?:([kmg])i?b?|b)?", text.strip().lower())
    if found is None:
        raise ArgumentError(
            f"HWKIT_WORKSPACE_LIMIT is {text!r}, but must be bytes, or a number with KiB, MiB or "
            "GiB: unset HWKIT_WORKSPACE_LIMIT"
        )
    return int(found[1]) << {"k": 10, "m": 20, "g": 30}.get(found[2] or "", 0)


@cache
def settings() -> Settings:
    """Return the settings of this process, read from the environment once."""
    return Settings.from_environment()
