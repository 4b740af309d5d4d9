"""Candidate: one Kernel with one Config in a search, and the facts that its records state."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

from .answers import Tolerance, misfit, over_limit
from .arms import Arm
from .backend import Device, Kernel
from .config import Config
from .errors import HwkitWarning, KernelFailure, cause
from .measure import Measurement
from .op import Problem
from .records.record import Record
from .runoff import Paired

__all__ = ["Candidate"]


@dataclass
class Candidate:
    """One Kernel with one Config, and its last record.

    Attributes:
        problem: what it computes.
        device: where.
        arm: its Kernel in the search.
        config: its Config.
        error: measured relative error; NaN before the check.
        result: its last record; ``None`` before the first.
    """

    problem: Problem
    device: Device
    arm: Arm
    config: Config
    error: float = math.nan
    result: Record | None = None

    @property
    def is_default(self) -> bool:
        """Whether this is the Kernel's default."""
        return self.config == self.arm.default

    @property
    def strict(self) -> bool:
        """Whether the arithmetic is plain multiply-add."""
        return self.arm.kernel.strict(self.problem, self.config)

    def facts(self) -> dict[str, Any]:
        """Return what a record states besides the measurement."""
        kernel = self.arm.kernel
        return {
            "strict": bool(self.strict),
            "deterministic": bool(kernel.deterministic(self.problem, self.config)),
            "workspace": int(kernel.workspace(self.problem, self.config)),
            "default": self.is_default,
        }

    def record(self, measurement: Measurement, race: Paired | None = None) -> Record:
        """Return the record of a measurement, in a run-off or not, and keep it as the result."""
        self.result = Record(
            problem=self.problem.text,
            op=self.problem.op.name,
            kernel=self.arm.kernel.name,
            version=self.arm.kernel.version,
            config=self.config,
            arch=self.device.arch,
            fingerprint=self.device.fingerprint,
            measurement=measurement,
            origin="estimated" if self.device.emulated else "tuned",
            race=race,
            **self.facts(),
        )
        return self.result

    def may_win(self, tolerance: Tolerance) -> bool:
        """Whether it was right and its error fits."""
        if self.result is not None and not self.result.ok:
            return False
        kernel, problem = self.arm.kernel, self.problem
        return misfit(kernel, problem, self.config, self.error, tolerance) is None

    def ruled_out(self) -> str | None:
        """Return why it cannot run, as far as its Kernel can tell without running it."""
        why = self.why_not(self.arm.kernel, self.problem, self.config)
        if why is not None:
            return why
        try:
            self.facts()
        except KernelFailure as failure:
            return str(failure)
        except Exception as error:
            return _warned(self.arm.kernel, "strict, deterministic or workspace", error)
        return None

    @staticmethod
    def why_not(kernel: Kernel, problem: Problem, config: Config) -> str | None:
        """Return why a Config cannot run, as far as its Kernel can tell without running it."""
        try:
            found = kernel.static_check(problem, config)
            return found or over_limit(kernel, problem, config)
        except Exception as error:
            return _warned(kernel, "static_check", error)


def _warned(kernel: Kernel, method: str, error: Exception) -> str:
    """Warn of a kernel whose own code fails for a Config, and return why that is left out."""
    why = f"its {method} failed with {cause(error)}"
    warnings.warn(
        f"configs of kernel {kernel.name} of {kernel.op} are left out, {why}: mend its plugin",
        HwkitWarning,
        stacklevel=5,
    )
    return why
