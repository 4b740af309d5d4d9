"""Problem: one instance of an Op. It knows shapes and dtypes, not devices.

A Problem prints as one line and parses back; the line serves CLI, database, log, test id and
benchmark name::

    conv2d float32 nchw n=1 c=64 h=56 w=56 k=64 r=3 s=3 pad=1 stride=1 +bias+relu

The words are: op, dtypes, layout (if the Op has layouts), sizes, attributes, fused epilogue, and
``packed`` if the constant operands are packed before the call. Where the four dtypes are not one
floating type and its usual accumulator, all are written, as ``uint8,int8,int32,int32`` for input,
weight, output and accumulator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from .dtypes import Dtypes
from .errors import ArgumentError, HwkitError, PluginError, cause
from .words import ACTIVATIONS, Attribute, print_attribute

if TYPE_CHECKING:
    from .op import Op

Array = np.ndarray[Any, Any]
T = TypeVar("T")

MAX_BYTES = 2**63 - 1
"""What memory can address."""


class Operand(NamedTuple):
    """Name, shape and dtype of one array of a Problem."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class Problem:
    """One instance of an Op. Frozen; equal, hashed and printed by its text.

    Attributes:
        op: the Op.
        dtypes: input, weight, output and accumulator dtypes.
        layout: one of ``op.layouts``, or ``""``.
        sizes: ``op.sizes`` to their values.
        attributes: ``op.attributes`` to their values, all of them.
        epilogue: words such as ``"bias"``, ``"residual"``, ``"relu"``, ``"clip:0.0,6.0"``, in the
            order in which they are applied.
        packed: whether calls come with their constants packed beforehand, as by ``Plan.prepack``:
            packing takes none of their time, which can make another kernel the fastest.
    """

    op: Op
    dtypes: Dtypes
    layout: str
    sizes: Mapping[str, int]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    epilogue: tuple[str, ...] = ()
    packed: bool = False

    def __post_init__(self) -> None:
        _told(self.op, "check", lambda: self.op.check(self))
        if self.packed and not self.constants:
            raise ArgumentError(f"{self.op.name} has no constant operands: leave 'packed' away")
        for operand in (*self.operands, self.output):
            if operand.nbytes > MAX_BYTES:
                raise ArgumentError(
                    f"{operand.name} of shape {operand.shape} has {operand.nbytes} bytes, "
                    f"more than memory can address (2**63 - 1)"
                )

    def __getitem__(self, name: str) -> Any:
        """Return a size or an attribute by name."""
        return self.sizes[name] if name in self.sizes else self.attributes[name]

    @cached_property
    def operands(self) -> tuple[Operand, ...]:
        """The arrays that go in, in the Op's order, those of the epilogue last."""
        return _told(self.op, "operands", lambda: tuple(map(_operand, self.op.operands(self))))

    @cached_property
    def output(self) -> Operand:
        """The array that comes out."""
        return _told(self.op, "output", lambda: _operand(self.op.output(self)))

    @cached_property
    def constants(self) -> tuple[int, ...]:
        """Positions of the operands that usually do not change, such as weights and bias."""
        names = self.op.constants
        return tuple(i for i, operand in enumerate(self.operands) if operand.name in names)

    def with_packed(self, packed: bool = True) -> Problem:
        """Return the same Problem with its constants packed beforehand, or not."""
        return self if packed == self.packed else replace(self, packed=packed)

    @property
    def activation(self) -> tuple[str, tuple[float, ...]] | None:
        """The activation and its parameters, or ``None``."""
        for word in self.epilogue:
            name, _, parameters = word.partition(":")
            if name in ACTIVATIONS:
                return name, tuple(float(p) for p in parameters.split(",") if p)
        return None

    @cached_property
    def flops(self) -> int:
        """Floating-point operations of the plain algorithm; a multiply-add is two."""
        return _told(self.op, "flops", lambda: self.op.flops(self))

    @cached_property
    def nbytes(self) -> int:
        """Bytes that must move if every array is touched once."""
        return sum(o.nbytes for o in (*self.operands, self.output))

    def error_budget(self, tolerance: float | str | None = None) -> float:
        """Return the relative Frobenius error allowed for ``tolerance``."""
        if isinstance(tolerance, (int, float)):
            return float(tolerance)
        return self.op.error_budget(self)

    def reference(self, *operands: Array) -> Array:
        """Compute with numpy in the operands' own precision; float64 in gives float64 out."""
        return self.op.reference(self, *operands)

    def random_operands(self, seed: int = 0) -> tuple[Array, ...]:
        """Return random operands of the right shapes and dtypes; the same for the same seed."""
        return self.op.random_operands(self, np.random.default_rng(seed))

    @cached_property
    def text(self) -> str:
        """The one line."""
        words = [self.op.name, str(self.dtypes), *([self.layout] if self.layout else [])]
        words += [f"{name}={self.sizes[name]}" for name in self.op.sizes]
        words += [
            f"{name}={print_attribute(self.attributes[name])}"
            for name, default in self.op.attributes.items()
            if name in self.op.shown or self.attributes[name] != default
        ]
        words += ["+" + "+".join(self.epilogue)] if self.epilogue else []
        return " ".join(words + ["packed"] * self.packed)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Problem {self.text}>"

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, Problem) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)


def _told(op: Op, method: str, ask: Callable[[], T]) -> T:
    """Return what an Op says; it may be a stranger's, and its own code may fail.

    Raises:
        PluginError: it did.
    """
    try:
        return ask()
    except HwkitError:
        raise
    except Exception as error:
        raise PluginError(
            f"op {op.name!r} failed in {method} with {cause(error)}: mend its "
            "plugin, or name that in HWKIT_DISABLE_PLUGINS"
        ) from error


def _operand(found: Any) -> Operand:
    if isinstance(found, Operand) and isinstance(found.dtype, np.dtype):
        return found
    raise TypeError(
        f"{found!r} is no Operand of a name, a shape and a numpy.dtype, as hwkit.op.numpy_dtype "
        "makes of a name"
    )
