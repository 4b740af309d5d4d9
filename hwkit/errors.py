"""Every exception that hwkit raises on purpose.

::

    HwkitError
    ├── ArgumentError (ValueError)     an argument's value or shape is not legal
    ├── DtypeError (TypeError)         an argument's type or dtype is not legal
    ├── NoKernel (NotImplementedError) no kernel of the device takes the problem
    ├── Unavailable (RuntimeError)     hardware or an optional dependency is missing
    ├── PluginError                    a plugin is broken, or two plugins clash
    ├── DatabaseError                  the tuning database cannot be used as asked
    └── KernelFailure                  a candidate failed while it was built, checked or run

Each message is one sentence or two: what failed, why, and what to type next.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "DatabaseError",
    "DtypeError",
    "FAILURE_CLASSES",
    "HwkitError",
    "HwkitWarning",
    "KernelFailure",
    "NoKernel",
    "PluginError",
    "Unavailable",
]

FAILURE_CLASSES = ("compile", "launch", "wrong", "timeout", "crash", "memory")
"""How a candidate can fail; the class is stored with the failed trial."""


def shown(value: object, most: int = 60) -> str:
    """Return a wrong argument for a message: an array, which prints as many lines, as one."""
    text = " ".join(repr(value).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def cause(error: BaseException) -> str:
    """Return what another's code raised for a message: its class and text, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


class HwkitError(Exception):
    """Base class of all errors that hwkit raises on purpose."""


class ArgumentError(HwkitError, ValueError):
    """An argument's value or shape is not legal."""


class DtypeError(HwkitError, TypeError):
    """An argument's type or dtype is not legal."""


class NoKernel(HwkitError, NotImplementedError):
    """No kernel of the device takes the problem; the message says why each declined."""


class Unavailable(HwkitError, RuntimeError):
    """Hardware or an optional dependency is missing; the message says what to install."""


class PluginError(HwkitError):
    """A plugin is broken, or two plugins claim one name."""


class DatabaseError(HwkitError):
    """The tuning database cannot be read or written as asked."""


class KernelFailure(HwkitError):
    """A candidate failed; ``failure`` is one of :data:`FAILURE_CLASSES`."""

    def __init__(self, failure: str, reason: str) -> None:
        if failure not in FAILURE_CLASSES:
            raise ValueError(f"failure class {failure!r} is not one of {FAILURE_CLASSES}")
        super().__init__(reason)
        self.failure = failure

    @classmethod
    def of(cls, error: BaseException, phase: str) -> KernelFailure:
        """Return what a candidate raised as a failure: of this class, if it does not tell its own.

        Args:
            error: what was raised.
            phase: ``"compile"`` or ``"launch"``.
        """
        if isinstance(error, cls):
            return error
        if isinstance(error, MemoryError):
            return cls("memory", str(error) or "out of memory")
        if isinstance(error, SystemExit):
            return cls("crash", f"it called sys.exit({error.code!r})")
        return cls(phase, cause(error))

    def __reduce__(self) -> tuple[type[KernelFailure], tuple[str, str]]:
        return type(self), (self.failure, str(self))


class HwkitWarning(UserWarning):
    """Something degraded, and this says what; nothing in hwkit degrades silently."""
