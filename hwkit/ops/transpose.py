"""transpose: the last two axes of an array change places, in memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arrays import host_view
from ..errors import ArgumentError
from ..op import Dtypes, Op, Operand, Problem, dtype_name, numpy_dtype
from .checks import check_rank
from .reshaped import call_reshaped

__all__ = ["TRANSPOSE", "Transpose", "permuted", "transpose"]

Array = np.ndarray[Any, Any]

_DTYPES = ("float32", "float64", "float16", "bfloat16", "int8", "uint8", "int32", "int64")


class Transpose(Op):
    """The contract of :func:`transpose`. Sizes: ``b`` matrices of ``r`` rows and ``c`` columns."""

    name = "transpose"
    sizes = ("b", "r", "c")
    samples = (
        # A photograph to channels last, an image back; channels shuffled in three groups.
        "transpose float32 b=1 r=3 c=50176",
        "transpose uint8,uint8,uint8,uint8 b=1 r=3 c=50176",
        "transpose float32 b=1 r=50176 c=3",
        "transpose float32 b=1 r=169 c=1000",
        "transpose float32 b=784 r=3 c=80",
        "transpose float64 b=2 r=33 c=47",
        "transpose float16 b=3 r=65 c=9",
    )

    def problem(self, x: Any) -> Problem:
        """Return the Problem of an array of three axes."""
        shape = check_rank("x", x, self.sizes)
        name = dtype_name(x.dtype, "x", _DTYPES)
        dtypes = Dtypes(name, name, name, name) if "int" in name else Dtypes.of(name)
        return self.make(dtypes, "", dict(zip(self.sizes, shape, strict=True)))

    def operands(self, problem: Problem) -> tuple[Operand, ...]:
        """Return x."""
        return (Operand("x", tuple(problem.sizes.values()), numpy_dtype(problem.dtypes.input)),)

    def output(self, problem: Problem) -> Operand:
        """Return y."""
        b, r, c = problem.sizes.values()
        return Operand("y", (b, c, r), numpy_dtype(problem.dtypes.output))

    def flops(self, problem: Problem) -> int:
        """Return nothing: memory is all that counts."""
        return 0

    def error_budget(self, problem: Problem) -> float:
        """Return zero."""
        return 0.0

    def reference(self, problem: Problem, *operands: Array) -> Array:
        """Copy a transposed view."""
        return np.ascontiguousarray(operands[0].transpose(0, 2, 1))


TRANSPOSE = Transpose()


def permuted(shape: tuple[int, ...], order: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Return the sizes b, r and c to which a permutation of axes comes, ``None`` if it does not.

    Args:
        shape: of the operand.
        order: as of ``numpy.transpose``.
    """
    moved = [axis for axis in order if shape[axis] != 1]
    axes = sorted(moved)
    first = 0
    while first < len(axes) and moved[first] == axes[first]:
        first += 1
    rest, moved = axes[first:], moved[first:]
    cut = rest.index(moved[0]) if rest else 0
    if rest[cut:] + rest[:cut] != moved:
        return None
    sizes = (
        math.prod(shape[axis] for axis in part) for part in (axes[:first], rest[:cut], rest[cut:])
    )
    b, r, c = sizes
    return b, r, c


def transpose(
    x: Any,
    *,
    out: Any = None,
    device: str | None = None,
    tolerance: float | str | None = None,
) -> Any:
    """Return an array whose last two axes have changed places, in C order.

    Images go from channels first to channels last as ``(n, c, h * w)``, and back as
    ``(n, h * w, c)``.

    Parameters
    ----------
    x : array
        ``(..., r, c)``; float32, float64, float16, bfloat16, int8, uint8, int32 or int64.
    out : array, optional
        Where to put the result, ``(..., c, r)``; may overlap ``x``.
    device : str, optional
        ``"cpu:0"``; by default that of :func:`hwkit.use`, or the default device.
    tolerance : float or {"strict", "deterministic"}, optional
        As of :func:`hwkit.ops.conv2d`; nothing is rounded.

    Returns
    -------
    array
        ``(..., c, r)``, of the dtype and library of ``x``.

    Raises
    ------
    ArgumentError
        ``x`` has fewer than two axes.
    DtypeError
        The dtype is not supported.
    NoKernel
        No kernel of the device takes the problem.

    Examples
    --------
    >>> transpose(np.array([[1, 2, 3], [4, 5, 6]], np.float32))
    array([[1., 4.],
           [2., 5.],
           [3., 6.]], dtype=float32)
    """
    given, x = x, host_view(x, "x")
    if x.ndim < 2:
        raise ArgumentError(f"x has shape {x.shape}, but must have at least 2 dimensions (r, c)")
    *lead, r, c = x.shape
    b = math.prod(lead)
    return call_reshaped(
        TRANSPOSE,
        (x.reshape(b, r, c),),
        (),
        (b, c, r),
        (*lead, c, r),
        given,
        out,
        device,
        tolerance,
    )
