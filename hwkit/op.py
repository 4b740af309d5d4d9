"""Op: an operator's contract. It knows no devices.

The nouns that an Op is made of come from here too: Problem, Operand, Dtypes and their helpers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from .accuracy import BUDGETS, relative_error
from .dtypes import Dtypes, dtype_name, numpy_dtype
from .errors import ArgumentError, shown
from .problem import MAX_BYTES, Array, Operand, Problem
from .words import (
    ACTIVATIONS,
    Attribute,
    canonical_attribute,
    epilogue_words,
    read_attribute,
    read_number,
)

__all__ = [
    "ACTIVATIONS",
    "Attribute",
    "Dtypes",
    "Op",
    "Operand",
    "Problem",
    "dtype_name",
    "numpy_dtype",
    "relative_error",
]

_FEW = 8


class Op(ABC):
    """An operator's contract. A subclass fills the attributes and the abstract methods.

    Attributes:
        name: the first word of a Problem, and the name of the public function.
        layouts: what the third word may be; empty if the Op has no layouts.
        sizes: names of the sizes, in order of print.
        attributes: names and defaults; a tuple default fixes the length.
        shown: attributes that are printed even where they have the default value.
        fusable: whether an epilogue (bias, residual, activation) may be fused.
        samples: texts of sample problems, which tests, shipped records and benchmarks use.
        arguments: keyword arguments of :meth:`problem`, in the order in which the public function
            hands them to :func:`hwkit.dispatch.call`.
        constants: operands that usually do not change between calls and can be packed once.
    """

    name: str
    layouts: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    attributes: Mapping[str, Attribute] = {}
    shown: tuple[str, ...] = ()
    fusable: bool = False
    samples: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()

    @abstractmethod
    def problem(self, *operands: Any, **arguments: Any) -> Problem:
        """Return the Problem of a call of the public function, after full checks.

        Args:
            operands: arrays, or anything with ``shape`` and ``dtype``; ``None`` where left out.
            arguments: keyword arguments of the public function that say what to compute.

        Raises:
            ArgumentError: names the argument, the value, and what was expected.
            DtypeError: the same for dtypes.
        """

    @abstractmethod
    def operands(self, problem: Problem) -> tuple[Operand, ...]:
        """Return the arrays that go in, those of the epilogue last: bias, then residual."""

    @abstractmethod
    def output(self, problem: Problem) -> Operand:
        """Return the array that comes out."""

    @abstractmethod
    def reference(self, problem: Problem, *operands: Array) -> Array:
        """Compute with plain numpy in the operands' precision, whatever ``problem.dtypes`` says."""

    @abstractmethod
    def flops(self, problem: Problem) -> int:
        """Return the floating-point operations of the plain algorithm; a multiply-add is two."""

    def check(self, problem: Problem) -> None:
        """Check sizes and attributes of a Problem made by hand or read from text.

        Raises:
            ArgumentError: says which is not legal, and why.
        """
        for name, size in problem.sizes.items():
            if not 0 <= size <= MAX_BYTES:
                raise ArgumentError(f"{name}={size} of {self.name} must be between 0 and 2**63 - 1")
        if problem.epilogue and not self.fusable:
            raise ArgumentError(f"{self.name} fuses no epilogue: leave +{problem.epilogue[0]} away")

    def error_budget(self, problem: Problem) -> float:
        """Return the relative Frobenius error against float64 that is allowed by default."""
        return BUDGETS.get(problem.dtypes.output, 0.0)

    def random_operands(self, problem: Problem, rng: np.random.Generator) -> tuple[Array, ...]:
        """Return standard normal operands, or small integers for integer dtypes.

        For a result of a few elements all are positive: a sum that happens to be near zero has no
        digits by which to tell a right kernel from a wrong one.
        """
        positive = math.prod(problem.output.shape) < _FEW
        arrays: list[Array] = []
        for operand in problem.operands:
            if operand.dtype.kind in "iu":
                low = 0 if operand.dtype.kind == "u" else -8
                arrays.append(rng.integers(low, 8, operand.shape).astype(operand.dtype))
            else:
                values = rng.standard_normal(operand.shape, np.float32)
                arrays.append((np.abs(values) if positive else values).astype(operand.dtype))
        return tuple(arrays)

    def make(
        self,
        dtypes: Dtypes | str,
        layout: str,
        sizes: Mapping[str, int],
        attributes: Mapping[str, Any] | None = None,
        epilogue: tuple[str, ...] = (),
        packed: bool = False,
    ) -> Problem:
        """Return a Problem from its parts, attributes completed with their defaults."""
        given = dict(attributes or {})
        unknown = [name for name in given if name not in self.attributes]
        if unknown or set(sizes) != set(self.sizes):
            raise ArgumentError(
                f"{self.name} has the sizes {', '.join(self.sizes)} and the attributes "
                f"{', '.join(self.attributes) or 'none'}, not {', '.join([*sizes, *given])}"
            )
        return Problem(
            self,
            Dtypes.parse(dtypes) if isinstance(dtypes, str) else dtypes,
            self._layout(layout),
            {name: int(sizes[name]) for name in self.sizes},
            {n: canonical_attribute(n, given.get(n, d), d) for n, d in self.attributes.items()},
            epilogue_words(epilogue),
            packed,
        )

    def _layout(self, layout: str) -> str:
        if self.layouts and not (isinstance(layout, str) and layout in self.layouts):
            raise ArgumentError(
                f"layout {shown(layout)} of {self.name} must be one of {', '.join(self.layouts)}"
            )
        return layout if self.layouts else ""

    def parse(self, text: str) -> Problem:
        """Read a Problem from the line that ``str`` prints.

        Raises:
            ArgumentError: names the word that cannot be read.
        """
        words = text.split()
        if len(words) < 2 or words[0] != self.name:
            raise ArgumentError(
                f"problem {text!r} must begin with '{self.name} <dtype>': "
                f"type 'hwkit ops {self.name}' for examples"
            )
        packed = words[-1] == "packed"
        dtypes, rest = Dtypes.parse(words[1]), words[2 : -1 if packed else None]
        layout = rest.pop(0) if self.layouts and rest and "=" not in rest[0] else ""
        epilogue: list[str] = []
        sizes: dict[str, int] = {}
        attributes: dict[str, Any] = {}
        for word in rest:
            if word.startswith("+"):
                epilogue += word[1:].split("+")
                continue
            name, _, value = word.partition("=")
            if name in sizes or name in attributes:
                raise ArgumentError(f"problem {text!r} has {name} twice")
            if name in self.sizes:
                sizes[name] = read_number(word, value, int)
            elif name in self.attributes:
                attributes[name] = read_attribute(word, value, self.attributes[name])
            else:
                raise ArgumentError(
                    f"problem {text!r} cannot be read at {word!r}{_hint(name, self)}"
                )
        missing = [name for name in self.sizes if name not in sizes]
        if missing:
            raise ArgumentError(
                f"problem {text!r} lacks {', '.join(missing)}: add {missing[0]}=..."
            )
        return self.make(dtypes, layout, sizes, attributes, tuple(epilogue), packed)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Op {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


def _hint(name: str, op: Op) -> str:
    import difflib

    known = [*op.sizes, *op.attributes]
    close = difflib.get_close_matches(name, known, 1)
    return f", did you mean {close[0]!r}?" if close else f": {op.name} has {', '.join(known)}"
