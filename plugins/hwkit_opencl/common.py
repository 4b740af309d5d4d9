"""What the kernels of this package share: dtypes, epilogues, sizes, Config arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from hwkit import Config, Kernel, KernelFailure, Problem, Run

from .models import Work
from .programs import DTYPES, build
from .run import OUT, Launch, OpenclRun, Slot

if TYPE_CHECKING:
    from .device import OpenclDevice

__all__ = [
    "OpenclKernel",
    "Value",
    "ceiling",
    "epilogue",
    "integer",
    "number",
    "offset",
    "tunables",
]

Value = Union[bool, int, float, str]

# In a kernel rows, columns and pixels are counted in int; offsets have 64 bits.
_MOST = 2**31 - 2**16

# As epilogue.h numbers them; relu and relu6 are clip with these bounds.
_ACTIVATIONS = {"leaky_relu": 3, "sigmoid": 4, "hard_swish": 5, "silu": 6, "clip": 7}
_CLIPS = {"relu": (0.0, math.inf), "relu6": (0.0, 6.0)}

C, BIAS, RESIDUAL = 1, 2, 4
"""Flags of an epilogue: which operands there are."""


def ceiling(value: int, by: int) -> int:
    """Return ``value / by``, rounded up."""
    return -(-value // by)


def tunables(config: Config) -> dict[str, int]:
    """Return the tunables of a Config, all of which are whole numbers here."""
    return {name: int(value) for name, value in config.items()}


def integer(value: int) -> Any:
    """Return an argument of type int."""
    return np.int32(value)


def offset(value: int) -> Any:
    """Return an argument of type i64."""
    return np.int64(value)


def number(problem: Problem, value: float) -> Any:
    """Return an argument of the type in which the kernel computes."""
    return (np.float64 if problem.dtypes.input == "float64" else np.float32)(value)


def epilogue(problem: Problem) -> tuple[dict[str, Slot], int, tuple[Any, ...]]:
    """Return the slots of bias, residual and c, the flags, and the arguments of the activation.

    Where there is no such operand the output takes its place, and is not read.
    """
    names = [operand.name for operand in problem.operands]
    known = {"c": C, "bias": BIAS, "residual": RESIDUAL}
    slots = {n: Slot(names.index(n)) if n in names else OUT for n in known}
    flags = sum(flag for n, flag in known.items() if n in names)
    kind, low, high = 0, 0.0, 0.0
    if problem.activation is not None:
        name, parameters = problem.activation
        kind = _ACTIVATIONS.get(name, 7)
        low, high = (*_CLIPS.get(name, parameters), 0.0, 0.0)[:2]
    return slots, flags, (integer(kind), number(problem, low), number(problem, high))


class OpenclKernel(Kernel):
    """What all kernels of the package have in common.

    Args:
        device: where.
        op: name of the Op.
    """

    file: str

    def __init__(self, device: OpenclDevice, op: str) -> None:
        self.device = device
        self.op = op

    def refusal(self, problem: Problem) -> str | None:
        """Return why no kernel of the package takes the problem, or ``None``."""
        dtypes = problem.dtypes
        if len({dtypes.input, dtypes.weight, dtypes.output}) > 1 or dtypes.input not in DTYPES:
            return f"it has no dtypes {dtypes}"
        if dtypes.input == "float64" and not self.device.limits.float64:
            return f"{self.device} has no float64 (cl_khr_fp64)"
        if problem.sizes and max(problem.sizes.values()) > _MOST:
            return f"a size is beyond {_MOST}, up to which it counts"
        for operand in (*problem.operands, problem.output):
            if operand.nbytes > self.device.limits.allocation:
                return (
                    f"{operand.name} has {operand.nbytes} bytes, more than the "
                    f"{self.device.limits.allocation} of the device's largest buffer"
                )
        return None

    def supports(self, problem: Problem) -> bool | str:
        """Whether dtypes and sizes fit."""
        return self.refusal(problem) or True

    def as_argument(self, packed: Any) -> Any:
        """Return as what the kernel reads the buffer of packed weights: as it is."""
        return packed

    def threads(self, config: Config) -> int:
        """Return the work-items of a group."""
        return int(config.get("wm", 1)) * int(config.get("wn", 1))

    def local_memory(self, problem: Problem, config: Config) -> int:
        """Return the bytes of local memory of a group."""
        return 0

    def registers(self, problem: Problem, config: Config) -> int:
        """Return an estimate of the 32-bit registers of a work-item."""
        return 0

    def static_check(self, problem: Problem, config: Config) -> str | None:
        """Return what the device would refuse: work-group, local and private memory."""
        limits = self.device.limits
        reason = limits.why_not(self.threads(config), self.local_memory(problem, config))
        if reason is None and limits.registers:
            needed = self.registers(problem, config)
            # Twice the registers can still spill; far beyond that nobody would launch it.
            if needed > 2 * limits.registers:
                return f"about {needed} registers are far beyond the {limits.registers} there are"
        return reason

    def deterministic(self, problem: Problem, config: Config) -> bool:
        """Every element is summed by one work-item, in an order that the Config fixes."""
        return True

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return the Op's budget, a little more for sums of float32 in one chain."""
        budget: float = problem.error_budget()
        return budget

    def work(self, problem: Problem, config: Config) -> Work:
        """Return what a run does, as the models count it."""
        raise NotImplementedError

    def run(
        self,
        problem: Problem,
        config: Config,
        launches: Sequence[Any],
        packing: int = 0,
        scratch: tuple[Any, ...] = (),
    ) -> Run:
        """Return launches as a run, with its estimate where the device is emulated."""
        run = OpenclRun(self.device, launches, packing, scratch)
        if self.device.emulated:
            run.estimate = self.device.estimate(self.work(problem, config))
        return run

    def launch(
        self,
        problem: Problem,
        function: str,
        groups: tuple[int, int, int],
        threads: int,
        defines: Mapping[str, int],
        arguments: tuple[Any, ...],
    ) -> Any:
        """Return the launch of a function of ``self.file``.

        Raises:
            KernelFailure: it does not compile, or takes too much private memory.
        """
        import pyopencl as cl

        macros = {**defines, "THREADS": threads, "DTYPE": DTYPES[problem.dtypes.input]}
        kernel = cl.Kernel(build(self.device, self.file, macros), function)
        taken = kernel.get_work_group_info(
            cl.kernel_work_group_info.PRIVATE_MEM_SIZE, self.device.found
        )
        reason = self.device.limits.why_not_private(threads, int(taken))
        if reason is not None:
            raise KernelFailure("memory", f"{function} on {self.device}: {reason}")
        return Launch(kernel, groups, threads, arguments)
