"""What the kernels of this package share: epilogues, pruning, building."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hwkit import Config, Kernel, KernelFailure, Problem, Run

from .compiled import Facts, compile_launch, facts, missing
from .launch import OUT, Argument, Launch, Number, Slot
from .target import Target

if TYPE_CHECKING:
    from hwkit import Device

__all__ = ["FEW", "TritonKernel", "ceiling", "epilogue"]

FEW = 2**31 - 2**16
"""Up to this the kernels count rows and pixels; offsets within a tile have 31 bits as well."""

# Stack that a candidate may have: a few words are saved around calls, more is spilled.
_FREE_STACK = 16


def ceiling(value: int, by: int) -> int:
    """Return ``value / by``, rounded up."""
    return -(-value // by)


def epilogue(problem: Problem) -> tuple[dict[str, Argument], dict[str, Any]]:
    """Return the arguments and the constants of a fused epilogue.

    Where there is no such operand the output takes its place, and is not read.
    """
    arguments: dict[str, Argument] = {}
    constants: dict[str, Any] = {}
    names = [operand.name for operand in problem.operands]
    for name in ("c", "bias", "residual"):
        there = name in names
        place = names.index(name) if there else OUT
        operand = problem.operands[place] if there else problem.output
        arguments[name] = Slot(place, operand.dtype.name)
        constants[f"HAS_{name.upper()}"] = there
    kind, low, high = "none", 0.0, 0.0
    if problem.activation is not None:
        kind, parameters = problem.activation
        if kind == "relu6":
            kind, parameters = "clip", (0.0, 6.0)
        low, high = (*parameters, 0.0, 0.0)[:2]
    return (
        {**arguments, "low": Number(low), "high": Number(high)},
        {**constants, "ACTIVATION": kind},
    )


class TritonKernel(Kernel):
    """What all kernels of the package have in common.

    Args:
        target: what they are compiled for.
        op: name of the Op.
        device: where they run; ``None`` to compile only.
    """

    def __init__(self, target: Target, op: str, device: Device | None = None) -> None:
        self.target = target
        self.op = op
        self.device = device

    def launches(self, problem: Problem, config: Config, upcast: bool = False) -> list[Launch]:
        """Return what a run launches, in order.

        Args:
            problem: the Problem.
            config: its Config.
            upcast: whether bfloat16 is made float32 before it is multiplied, which the
                interpreter needs.
        """
        raise NotImplementedError

    def refusal(self, problem: Problem) -> str | None:
        """Return why the kernel does not take the problem, or ``None``."""
        raise NotImplementedError

    def supports(self, problem: Problem) -> bool | str:
        """Whether Triton is there, and dtypes and sizes fit."""
        return missing() or self.refusal(problem) or True

    def shared_memory(self, problem: Problem, config: Config) -> int:
        """Return the bytes of shared memory that a program needs: what the compiler reports."""
        return 0

    def deterministic(self, problem: Problem, config: Config) -> bool:
        """Every sum is added in an order that the Config fixes; nothing is added atomically."""
        return True

    def static_check(self, problem: Problem, config: Config) -> str | None:
        """Return what cannot be launched, by formulas: a compiler takes a second to tell more.

        Where there is only an architecture and no GPU, compiling is all that can be done, and it
        is done here.
        """
        shared = self.shared_memory(problem, config)
        if shared > self.target.shared:
            return (
                f"it needs {shared} bytes of shared memory, sm_{self.target.capability} "
                f"has {self.target.shared}"
            )
        if self.device is None or hasattr(self.device, "driver"):
            return None
        try:
            return self.compiled_check(problem, config)
        except KernelFailure as error:
            return str(error)

    def compiled_check(self, problem: Problem, config: Config) -> str | None:
        """Compile, and return why nobody should launch the result, or ``None``.

        Raises:
            KernelFailure: it does not compile.
        """
        found = facts(compile_launch(self.launches(problem, config)[0], self.target.capability))
        return self.why_not(problem, config, found)

    def why_not(self, problem: Problem, config: Config, found: Facts) -> str | None:
        """Return why nobody should launch what was compiled, or ``None``."""
        if found.shared > self.target.shared:
            return f"it needs {found.shared} bytes of shared memory"
        if found.stack > _FREE_STACK:
            return f"{found.stack} bytes of a thread are spilled from {found.registers} registers"
        return self.why_useless(problem, config, found)

    def why_useless(self, problem: Problem, config: Config, found: Facts) -> str | None:
        """Return why a Config that can be launched is without use, by its machine code."""
        return None

    def build(self, problem: Problem, config: Config) -> Run:
        """Compile, and load; what only wastes the time of a search is refused.

        Raises:
            KernelFailure: class ``compile``: it does not compile, spills, or is too large.
        """
        from .run import build

        if self.device is None:
            raise KernelFailure("compile", f"{self!r} was made to compile only: open a device")
        if config != self.default(problem):
            reason = self.compiled_check(problem, config)
            if reason is not None:
                raise KernelFailure("compile", reason)
        device: Any = self.device  # of the plugin cuda, which this package does not import
        return build(device, self.target, problem, self.launches(problem, config))

    def workspace(self, problem: Problem, config: Config) -> int:
        """Return the bytes of the partial sums."""
        return 0
