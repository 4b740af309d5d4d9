"""Runs: how a Plan gets one, keeps operands for it, and bears what a stranger's code raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .backend import Device, Kernel, Run, no_run
from .config import Config
from .errors import HwkitError, KernelFailure
from .op import Problem

if TYPE_CHECKING:
    from .plans import Plan

__all__ = ["Held", "Raised", "Watched", "built", "fast_path"]

Array = np.ndarray[Any, Any]
FastPath = Callable[[tuple[Any, ...], Any], Any]


def _no_fast_path(operands: tuple[Any, ...], out: Any) -> Any:
    return NotImplemented


def fast_path(run: Run) -> FastPath:
    """Return ``run.direct``, or what refuses every call."""
    found: FastPath = getattr(run, "direct", _no_fast_path)
    return found


def built(kernel: Kernel, problem: Problem, config: Config) -> Run:
    """Build a run.

    Raises:
        KernelFailure: it cannot be built, whatever the Kernel raised to say so.
    """
    try:
        run = kernel.build(problem, config)
    except HwkitError:
        raise
    except (Exception, SystemExit) as error:
        raise KernelFailure.of(error, "compile") from error
    if not callable(run):
        raise KernelFailure("compile", no_run(run))
    return run


class Raised(KernelFailure):
    """A run raised what is no error of hwkit: its own code is at fault."""

    @classmethod
    def by(cls, plan: Plan, error: BaseException) -> Raised:
        """Return what a call of a Plan raises, given what its run raised."""
        found = cls.of(error, "launch")
        return cls(
            found.failure,
            f"kernel {plan.kernel.name} of {plan.device} failed in a call of '{plan.problem}': "
            f"{found}; mend its plugin, or name that in HWKIT_DISABLE_PLUGINS",
        )


class Watched:
    """The fast path of a stranger's run: once it has raised, the general way takes over."""

    __slots__ = ("_direct",)

    def __init__(self, direct: FastPath) -> None:
        self._direct = direct

    def __call__(self, operands: tuple[Any, ...], out: Any) -> Any:
        """Run, or return ``NotImplemented``."""
        try:
            return self._direct(operands, out)
        except HwkitError:
            raise
        except (Exception, SystemExit):
            self._direct = _no_fast_path
            return NotImplemented


class Held:
    """A run with some operands kept as they are, for kernels that have no packed layout."""

    def __init__(self, run: Run, held: dict[int, Array], device: Device) -> None:
        self._run = run
        self._held = {
            position: device.put((device.get(array) if device.owns(array) else array).copy())
            for position, array in held.items()
        }

    def __call__(self, *operands: Any, out: Any) -> None:
        """Run on these and those that are kept."""
        rest = iter(operands)
        count = len(operands) + len(self._held)
        self._run(
            *(self._held[i] if i in self._held else next(rest) for i in range(count)), out=out
        )
