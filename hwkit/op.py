"""Op: an operator's contract. Problem: one instance of it. Neither knows devices.

A Problem prints as one line and parses back; the line serves CLI, database, log, test id and
benchmark name::

    conv2d float32 nchw n=1 c=64 h=56 w=56 k=64 r=3 s=3 pad=1 stride=1 +bias+relu

The words are: op, dtypes, layout (if the Op has layouts), sizes, attributes, fused epilogue, and
``packed`` if the constant operands are packed before the call. Where the four dtypes are not one
floating type and its usual accumulator, all are written, as ``uint8,int8,int32,int32`` for input,
weight, output and accumulator.
"""

from __future__ import annotations

import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Union

import numpy as np

from .errors import ArgumentError, DtypeError, Unavailable

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

Attribute = Union[bool, int, float, str, tuple[int, ...]]
Array = np.ndarray[Any, Any]

ACTIVATIONS: dict[str, int] = {
    "relu": 0,
    "relu6": 0,
    "leaky_relu": 1,
    "sigmoid": 0,
    "hard_swish": 0,
    "silu": 0,
    "clip": 2,
}
"""Activations of an epilogue, and the number of parameters each takes."""

FLOATS = ("float32", "float64", "float16", "bfloat16")
INTEGERS = ("int8", "uint8", "int32", "int64")
_MAX_BYTES = 2**63 - 1
_FEW = 8

# One rounding of the output more than float32 accumulation, for the two that are stored narrow.
_BUDGETS = {
    "float32": 2e-6,
    "float64": 1e-13,
    "float16": 2.0**-11 + 2e-6,
    "bfloat16": 2.0**-8 + 2e-6,
}


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the numpy dtype of a dtype name.

    Raises:
        Unavailable: bfloat16 without ``ml_dtypes``.
    """
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise Unavailable("bfloat16 needs ml_dtypes: pip install ml_dtypes") from None
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


def dtype_name(dtype: object, argument: str, allowed: tuple[str, ...] = FLOATS) -> str:
    """Return the name of a dtype, whatever its byte order.

    Args:
        dtype: a numpy dtype, or what has one's name.
        argument: name of the argument that has it, for the message.
        allowed: names to accept.

    Raises:
        DtypeError: the dtype is not one of ``allowed``.
    """
    name = str(getattr(dtype, "name", dtype))
    if name not in allowed:
        raise DtypeError(
            f"{argument} has dtype {name}, but must be one of {', '.join(allowed)}: "
            f"convert it, as in {argument}.astype('{allowed[0]}')"
        )
    return name


class Dtypes(NamedTuple):
    """The four dtypes of a Problem, by name."""

    input: str
    weight: str
    output: str
    accumulate: str

    @classmethod
    def of(cls, name: str) -> Dtypes:
        """Return one floating dtype for all, with float32 accumulation where it is narrower."""
        return cls(name, name, name, "float32" if name in ("float16", "bfloat16") else name)

    @classmethod
    def parse(cls, text: str) -> Dtypes:
        """Read one dtype, or four with commas."""
        names = text.split(",")
        unknown = [n for n in names if n not in FLOATS + INTEGERS * (len(names) > 1)]
        if unknown or len(names) not in (1, 4):
            raise ArgumentError(
                f"dtype {text!r} cannot be read: write one of {', '.join(FLOATS)}, "
                "or four with commas for input, weight, output and accumulator"
            )
        return cls.of(names[0]) if len(names) == 1 else cls(*names)

    def __str__(self) -> str:
        usual = self.input in FLOATS and self == Dtypes.of(self.input)
        return self.input if usual else ",".join(self)


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
        self.op.check(self)
        if self.packed and not self.constants:
            raise ArgumentError(f"{self.op.name} has no constant operands: leave 'packed' away")
        for operand in (*self.operands, self.output):
            if operand.nbytes > _MAX_BYTES:
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
        return self.op.operands(self)

    @cached_property
    def output(self) -> Operand:
        """The array that comes out."""
        return self.op.output(self)

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
        return self.op.flops(self)

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
            f"{name}={_print_attribute(self.attributes[name])}"
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
            if not 0 <= size <= _MAX_BYTES:
                raise ArgumentError(f"{name}={size} of {self.name} must be between 0 and 2**63 - 1")
        if problem.epilogue and not self.fusable:
            raise ArgumentError(f"{self.name} fuses no epilogue: leave +{problem.epilogue[0]} away")

    def error_budget(self, problem: Problem) -> float:
        """Return the relative Frobenius error against float64 that is allowed by default."""
        return _BUDGETS.get(problem.dtypes.output, 0.0)

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
            {n: _canonical(n, given.get(n, d), d) for n, d in self.attributes.items()},
            epilogue_words(epilogue),
            packed,
        )

    def _layout(self, layout: str) -> str:
        if self.layouts and layout not in self.layouts:
            raise ArgumentError(
                f"layout {layout!r} of {self.name} must be one of {', '.join(self.layouts)}"
            )
        return layout if self.layouts else ""

    def parse(self, text: str) -> Problem:
        """Read a Problem from the line that ``str`` prints.

        Raises:
            ArgumentError: names the word that cannot be read.
        """
        words = text.split()
        if len(words) < 2 or words[0] != self.name:
            raise ArgumentError(f"problem {text!r} must begin with '{self.name} <dtype>'")
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
                sizes[name] = _number(word, value, int)
            elif name in self.attributes:
                attributes[name] = _read_attribute(word, value, self.attributes[name])
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
    known = [*op.sizes, *op.attributes]
    close = difflib.get_close_matches(name, known, 1)
    return f", did you mean {close[0]!r}?" if close else f": {op.name} has {', '.join(known)}"


def _number(word: str, text: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ArgumentError(f"{word!r} cannot be read: numbers must follow its = or :") from None


def _read_attribute(word: str, text: str, default: Attribute) -> Any:
    if isinstance(default, bool):
        if text not in ("0", "1", "true", "false"):
            raise ArgumentError(f"{word!r} must be true or false")
        return text in ("1", "true")
    if isinstance(default, tuple):
        return tuple(_number(word, part, int) for part in text.split(","))
    return text if isinstance(default, str) else _number(word, text, type(default))


def _print_attribute(value: Attribute) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value[:1] if len(set(value)) == 1 else value))
    return repr(value) if isinstance(value, float) else str(value)


def _canonical(name: str, value: Any, default: Attribute) -> Attribute:
    if isinstance(default, tuple):
        values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
        if len(values) == 1:
            values *= len(default)
        if len(values) != len(default) or not all(_is_int(v) for v in values):
            raise ArgumentError(f"{name}={value!r} must be one whole number or {len(default)}")
        return tuple(int(v) for v in values)
    if isinstance(default, bool):
        return bool(value)
    if isinstance(default, int) and not _is_int(value):
        raise ArgumentError(f"{name}={value!r} must be a whole number")
    return type(default)(value)


def _is_int(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def epilogue_words(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return epilogue words in canonical form and order: bias, residual, one activation.

    Raises:
        ArgumentError: a word is not known, comes twice, or lacks parameters.
    """
    bias = [w for w in words if w == "bias"]
    residual = [w for w in words if w == "residual"]
    rest = [w for w in words if w not in ("bias", "residual")]
    if max(len(bias), len(residual), len(rest)) > 1:
        raise ArgumentError(
            f"epilogue {'+'.join(words)} must be at most one bias, one residual, one activation"
        )
    return (*bias, *residual, *(_activation_word(w) for w in rest))


def _activation_word(word: str) -> str:
    name, _, text = word.partition(":")
    parameters = [_number(word, p, float) for p in text.split(",") if p]
    if name not in ACTIVATIONS or len(parameters) != ACTIVATIONS[name]:
        raise ArgumentError(
            f"activation {word!r} is not known: write one of "
            + ", ".join(
                n + ":<number>" * bool(c) + ",<number>" * (c > 1) for n, c in ACTIVATIONS.items()
            )
        )
    if name == "leaky_relu" and not math.isfinite(parameters[0]):
        raise ArgumentError(f"activation {word!r} must have a finite slope")
    if name == "clip" and not parameters[0] <= parameters[1]:
        raise ArgumentError(f"activation {word!r} must have its lower bound first")
    # 1e+16 would split at the +, which parts the words of an epilogue.
    numbers = [repr(p).replace("e+", "e") for p in parameters]
    return name + (":" + ",".join(numbers) if numbers else "")


def relative_error(result: Array, reference: Array) -> float:
    """Return the relative Frobenius error of ``result`` against a float64 ``reference``.

    Infinity where the two differ in where they are NaN, +Inf or -Inf; the absolute error where the
    reference is zero; 0.0 for empty arrays.
    """
    got, want = np.asarray(result, np.float64), np.asarray(reference, np.float64)
    if got.shape != want.shape:
        return math.inf
    finite = np.isfinite(want)
    if not finite.all():
        if not np.array_equal(got[~finite], want[~finite], equal_nan=True):
            return math.inf
        got, want = got[finite], want[finite]
    if not np.isfinite(got).all():
        return math.inf
    # Scaled before squaring: float64 operands near the end of the range must not overflow the norm.
    scale = float(np.abs(want).max(initial=0.0)) or 1.0
    difference = float(np.linalg.norm((got - want).ravel() / scale))
    norm = float(np.linalg.norm(want.ravel() / scale))
    return difference / norm if norm else difference
