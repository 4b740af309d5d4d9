"""The way of a call: the table of Plans, and the entry into a Plan.

All of it is also compiled, in ``cython/calls.pyx``, and used from there where it has been built: it
is most of what a small call costs. Readers take no lock: a Plan is complete before it enters the
table.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .arrays import host_view

if TYPE_CHECKING:
    from .op import Op

__all__ = [
    "Call",
    "Caller",
    "PlanTable",
    "PythonCall",
    "fastest",
    "operand_names",
    "plain_matrices",
]


class PythonCall:
    """A callable whose fast path is ``_direct``; what that refuses goes to ``_general``."""

    __slots__ = ("_direct",)

    _direct: Callable[[tuple[Any, ...], Any], Any]

    def __call__(self, *operands: Any, out: Any = None) -> Any:
        """Run: see :class:`hwkit.plans.Plan`."""
        result = self._direct(operands, out)
        return self._general(operands, out) if result is NotImplemented else result

    def _general(self, operands: tuple[Any, ...], out: Any) -> Any:
        raise NotImplementedError


class Caller(Protocol):
    """What runs a call of an Op; see :data:`hwkit.dispatch.call`."""

    def __call__(
        self,
        op: Op,
        operands: tuple[Any, ...],
        arguments: tuple[Any, ...],
        out: Any = None,
        device: str | None = None,
        tolerance: Any = None,
    ) -> Any:
        """Run."""

    def __len__(self) -> int: ...

    def clear(self) -> None:
        """Forget all Plans."""


class PlanTable:
    """Plans by what a call says: shapes, dtypes, arguments, and what is in use.

    Args:
        plan: makes the Plan of a call that is new.
        in_use: holds the devices of :func:`hwkit.use`.

    Attributes:
        most: Plans to keep. Shapes that never repeat must not fill the memory, and a Plan is cheap
            to make again.
    """

    most = 4096

    def __init__(self, plan: Callable[..., Any], in_use: ContextVar[Any]) -> None:
        self.in_use = in_use
        self._plan = plan
        self._plans: dict[Any, Any] = {}

    def __call__(
        self,
        op: Op,
        operands: tuple[Any, ...],
        arguments: tuple[Any, ...],
        out: Any = None,
        device: str | None = None,
        tolerance: Any = None,
    ) -> Any:
        """Run: see :data:`hwkit.dispatch.call`."""
        found, operands = self.find(op, operands, arguments, device, tolerance)
        return found(*operands, out=out)

    def find(
        self,
        op: Op,
        operands: tuple[Any, ...],
        arguments: tuple[Any, ...],
        device: str | None,
        tolerance: Any,
    ) -> tuple[Any, tuple[Any, ...]]:
        """Return the Plan of a call, and the operands that it takes."""
        x = operands[0]
        key: tuple[Any, ...] | None
        try:
            if len(operands) == 1:
                key = op.name, arguments, device, tolerance, self.in_use.get(), x.shape, x.dtype
            else:
                w = operands[1]
                # Shapes of the epilogue's operands follow from these two; the plan checks them.
                key = (
                    op.name, arguments, device, tolerance, self.in_use.get(), x.shape, x.dtype,
                    w.shape, w.dtype, *[a is None for a in operands[2:]],
                )  # fmt: skip
            found = self._plans.get(key)
        except (AttributeError, TypeError):
            # Lists and numbers have no shape; a list as an argument cannot be hashed.
            key = found = None
        if found is None:
            if not all(map(_is_array, operands)):
                names = operand_names(op, len(operands))
                given = zip(operands, names, strict=True)
                operands = tuple([a if _is_array(a) else host_view(a, name) for a, name in given])
            found = self._remember(key, self._plan(op, operands, arguments, device, tolerance))
        if len(found.operands) != len(operands):
            operands = tuple([a for a in operands if a is not None])
        return found, operands

    def _remember(self, key: tuple[Any, ...] | None, plan: Any) -> Any:
        if key is not None:
            if len(self._plans) >= self.most:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def clear(self) -> None:
        """Forget all Plans."""
        self._plans.clear()

    def __len__(self) -> int:
        return len(self._plans)


def operand_names(op: Op, count: int) -> list[str]:
    """Return what messages call the operands of a call: the first parameters of ``op.problem``."""
    names = list(inspect.signature(op.problem).parameters)[:count]
    return names + ["an argument"] * (count - len(names))


def _is_array(array: Any) -> bool:
    return array is None or (hasattr(array, "shape") and hasattr(array, "dtype"))


def _plain_matrices(a: Any, b: Any) -> bool:
    """Whether both are numpy arrays of two dimensions in C order, the second not one column."""
    exact = type(a) is np.ndarray and type(b) is np.ndarray and a.ndim == 2 and b.ndim == 2
    return exact and a.flags.c_contiguous and b.flags.c_contiguous and b.shape[1] != 1


def fastest(table: PlanTable) -> Caller:
    """Return the compiled form of a table, or the table itself where none has been built."""
    return table if _calls is None else _calls.Calls(table)


try:
    from . import _calls
except ImportError:
    _calls = None

if TYPE_CHECKING or _calls is None:
    Call = PythonCall
    plain_matrices = _plain_matrices
else:
    Call = _calls.Call
    plain_matrices = _calls.plain_matrices
