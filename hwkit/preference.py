"""Preference: which devices a call may run on, in order, and what happens if the first cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .errors import ArgumentError, shown
from .settings import settings

__all__ = ["FALLBACKS", "in_use", "preferred", "use"]

FALLBACKS = ("error", "warn", "silent")

in_use: ContextVar[tuple[tuple[str, ...], str] | None] = ContextVar("hwkit_use", default=None)
"""What :func:`use` says in this thread or task: names and fallback, or ``None``."""


def preferred(device: str | None) -> tuple[tuple[str, ...], str]:
    """Return the names of devices in order, and the fallback.

    Args:
        device: the only one; those of :func:`use`, or the default device, if ``None``.
    """
    if device is not None:
        return (str(device),), "error"
    return in_use.get() or ((settings().device,), "error")


@contextmanager
def use(*devices: str, fallback: str = "warn") -> Iterator[None]:
    """Order the devices for the calls inside, in this thread or task.

    Args:
        devices: names, the preferred one first.
        fallback: what happens when the first cannot run a problem, is lost or has no memory left:
            ``"error"`` raises, ``"warn"`` takes the next one and says so, ``"silent"`` takes it
            without a word. A plan with packed constants stays where it was packed, and raises.

    Raises:
        ArgumentError: no device, or an unknown ``fallback``.
    """
    known = isinstance(fallback, str) and fallback in FALLBACKS
    if not devices or any(device is None for device in devices) or not known:
        given = ", ".join([*map(shown, devices), f"fallback={shown(fallback)}"])
        raise ArgumentError(
            f"use({given}) needs a device and a fallback out of {', '.join(FALLBACKS)}"
        )
    token = in_use.set((tuple(map(str, devices)), fallback))
    try:
        yield
    finally:
        in_use.reset(token)
