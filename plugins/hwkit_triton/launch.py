"""Launch: one Triton kernel and what it is given; the same for device, compiler and interpreter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union

__all__ = ["ALIGNMENT", "OUT", "PARTIAL", "Argument", "Launch", "Number", "Slot", "signature"]

_TYPES = {
    "float16": "fp16",
    "bfloat16": "bf16",
    "float32": "fp32",
    "float64": "fp64",
    "int8": "i8",
    "int32": "i32",
}

# Triton assumes of sizes, strides and pointers that are multiples of this what it can.
ALIGNMENT = 16


@dataclass(frozen=True)
class Slot:
    """An argument that is an array: operand number ``number``, the output, or scratch memory."""

    number: int
    dtype: str


OUT, PARTIAL = -1, -2
"""Numbers of the Slots of the output, and of the partial sums."""


@dataclass(frozen=True)
class Number:
    """An argument that is a float32."""

    value: float


Argument = Union[Slot, Number, int]


@dataclass(frozen=True)
class Launch:
    """One kernel and what it is given.

    Attributes:
        function: module and name of the text, as ``"gemm.gemm_tiles"``.
        grid: programs along three axes.
        arguments: by name, what the kernel gets when it runs.
        constants: by name, what it is compiled for.
        warps: of a program.
        stages: of the pipeline.
        scratch: bytes of partial sums that it needs.
    """

    function: str
    grid: tuple[int, int, int]
    arguments: Mapping[str, Argument]
    constants: Mapping[str, Any] = field(default_factory=dict)
    warps: int = 4
    stages: int = 1
    scratch: int = 0

    @property
    def text(self) -> Any:
        """The function in Triton; imports Triton."""
        from importlib import import_module

        module, _, name = self.function.partition(".")
        return getattr(import_module(f"{__package__}.kernels.{module}"), name)

    @property
    def options(self) -> dict[str, Any]:
        """What the compiler is told. Fusing of multiply and add is said, as its default changes."""
        return {"num_warps": self.warps, "num_stages": self.stages, "enable_fp_fusion": True}


@dataclass(frozen=True)
class Signature:
    """What a kernel is compiled for.

    Attributes:
        types: name to type, ``"constexpr"`` for what is compiled in.
        constants: name to value of what is compiled in.
        attributes: places of what is a multiple of 16, as the compiler takes them.
    """

    types: dict[str, str]
    constants: dict[str, Any]
    attributes: dict[tuple[int, ...], list[list[Any]]]


def signature(launch: Launch, aligned: bool = True) -> Signature:
    """Return what Triton's own launcher would compile for: 1 is constant, multiples of 16 are told.

    Args:
        launch: the kernel and its arguments.
        aligned: whether arrays begin at multiples of 16 bytes.
    """
    types: dict[str, str] = {}
    constants = dict(launch.constants)
    attributes: dict[tuple[int, ...], list[list[Any]]] = {}
    for place, name in enumerate(launch.text.arg_names):
        if name in launch.constants:
            types[name] = "constexpr"
            continue
        value = launch.arguments[name]
        divisible = False
        if isinstance(value, Slot):
            types[name] = "*" + _TYPES[value.dtype]
            divisible = aligned
        elif isinstance(value, Number):
            types[name] = "fp32"
        elif value == 1:
            types[name] = "constexpr"
            constants[name] = 1
        else:
            types[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            divisible = value % ALIGNMENT == 0
        if divisible:
            attributes[(place,)] = [["tt.divisibility", ALIGNMENT]]
    return Signature(types, constants, attributes)
