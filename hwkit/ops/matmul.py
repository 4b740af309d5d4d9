"""matmul: numpy's matrix product, with its batching and broadcasting; what fits runs as gemm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arrays import host_view, is_elsewhere, like
from ..calls import plain_matrices
from ..dispatch import call
from ..errors import ArgumentError
from ..op import Attribute, Op, Operand, Problem, numpy_dtype
from .checks import check_rank, out_view, product_dtypes, sum_dtype
from .epilogue import compute_dtype, result_dtype
from .gemm import GEMM
from .stacks import batch_message, depth_message, result_shape, stack_of

__all__ = ["MATMUL", "Matmul", "matmul"]

Array = np.ndarray[Any, Any]

# gemm's arguments for the four layouts: alpha, beta, transpose_a, transpose_b, activation.
_GEMM = {(ta, tb): (1.0, None, ta, tb, None) for ta in (False, True) for tb in (False, True)}
_NN = _GEMM[False, False]


class Matmul(Op):
    """The contract of a batch of matrix products.

    Sizes: batch ``b``, and ``m``, ``n``, ``k`` as in gemm. ``shared`` names the operand that has
    one matrix for the whole batch: ``a``, ``b``, or ``none``.
    """

    name = "matmul"
    sizes = ("b", "m", "n", "k")
    attributes: Mapping[str, Attribute] = {"shared": "none"}
    constants: tuple[str, ...] = ("b",)
    samples: tuple[str, ...] = (
        # Attention: scores and values of 12 heads, 128 tokens
        "matmul float32 b=12 m=128 n=128 k=64",
        "matmul float32 b=12 m=128 n=64 k=128",
        "matmul float32 b=64 m=32 n=32 k=32",
        "matmul float32 b=256 m=4 n=4 k=4",
        "matmul float32 b=8 m=64 n=196 k=64 shared=a",
        "matmul float32 b=3 m=17 n=5 k=31 shared=b",
        "matmul float64 b=4 m=33 n=65 k=40",
        "matmul uint8,int8,int32,int32 b=4 m=33 n=40 k=50",
        "matmul float16 b=6 m=48 n=48 k=64",
    )

    def problem(self, a: Any, b: Any) -> Problem:
        """Return the Problem of stacks ``(b, m, k)`` and ``(b, k, n)``; one may have a batch of 1.

        Raises:
            ArgumentError: the shapes do not fit; :func:`matmul` folds numpy's rules into this.
            DtypeError: a dtype is not legal.
        """
        dtypes = product_dtypes(a=a, b=b)
        batch, m, k = check_rank("a", a, ("batch", "m", "k"))
        other, depth, n = check_rank("b", b, ("batch", "k", "n"))
        if depth != k:
            raise ArgumentError(depth_message(tuple(a.shape), tuple(b.shape)))
        if batch != other and 1 not in (batch, other):
            raise ArgumentError(batch_message(tuple(a.shape), tuple(b.shape)))
        shared = "none" if batch == other else "a" if batch == 1 else "b"
        sizes = {"b": other if batch == 1 else batch, "m": m, "n": n, "k": k}
        return self.make(dtypes, "", sizes, {"shared": shared})

    def check(self, problem: Problem) -> None:
        """Check the attribute ``shared``."""
        super().check(problem)
        if problem["shared"] not in ("none", "a", "b"):
            raise ArgumentError(f"shared={problem['shared']} of {self.name} must be none, a or b")

    def operands(self, problem: Problem) -> tuple[Operand, ...]:
        """Return a ``(b, m, k)`` and b ``(b, k, n)``; the shared one has a batch of 1."""
        batch, m, n, k = problem.sizes.values()
        shared = problem["shared"]
        return (
            Operand("a", (1 if shared == "a" else batch, m, k), numpy_dtype(problem.dtypes.input)),
            Operand("b", (1 if shared == "b" else batch, k, n), numpy_dtype(problem.dtypes.weight)),
        )

    def output(self, problem: Problem) -> Operand:
        """Return y: ``(b, m, n)``."""
        batch, m, n, _ = problem.sizes.values()
        return Operand("y", (batch, m, n), numpy_dtype(problem.dtypes.output))

    def flops(self, problem: Problem) -> int:
        """Return ``2 b m n k``."""
        return 2 * math.prod(problem.sizes.values())

    def reference(self, problem: Problem, *operands: Array) -> Array:
        """Compute with ``numpy.matmul``."""
        wide = compute_dtype(*operands)
        with np.errstate(all="ignore"):
            result = np.matmul(*(array.astype(wide) for array in operands))
            return result.astype(result_dtype(*operands))


MATMUL = Matmul()


def matmul(
    a: Any,
    b: Any,
    *,
    out: Any = None,
    device: str | None = None,
    tolerance: float | str | None = None,
) -> Any:
    """Multiply matrices, vectors, or stacks of matrices, by the rules of ``numpy.matmul``.

    Parameters
    ----------
    a, b : array
        ``(..., m, k)`` and ``(..., k, n)`` of one dtype: float32, float64, float16 or bfloat16;
        or each int8 or uint8, for int32 sums.
        The leading sizes broadcast. A vector as ``a`` is a row, as ``b`` a column, and that size is
        missing in the result.
    out : array, optional
        Where to put the result; may overlap an operand.
    device : str, optional
        ``"cpu:0"``; by default that of :func:`hwkit.use`, or the default device.
    tolerance : float or {"strict", "deterministic"}, optional
        As of :func:`hwkit.ops.conv2d`.

    Returns
    -------
    array
        ``(..., m, n)``, of the library of ``a``, and of its dtype or int32; a scalar for two
        vectors.

    Raises
    ------
    ArgumentError
        An operand is a scalar, or the shapes do not fit.
    DtypeError
        A dtype is not supported, or the two differ.
    NoKernel
        No kernel of the device takes the problem with this tolerance.

    Notes
    -----
    Two matrices run as ``gemm``, transposed views without a copy, and so does a stack times one
    matrix or vector. All else runs in the Op ``matmul``. Arrays on a device stay there.

    Examples
    --------
    >>> a = np.ones((5, 2, 3), np.float32)
    >>> matmul(a, np.ones(3, np.float32)).shape
    (5, 2)
    """
    if plain_matrices(a, b):
        return call(GEMM, (a, b, None, None, None), _NN, out, device, tolerance)
    if type(a) is np.ndarray and type(b) is np.ndarray:
        if a.ndim == 2 and b.ndim == 2 and b.shape[1] != 1:
            return _matrices(a, b, out, device, tolerance)
        if a.ndim == 3 and b.ndim == 3 and a.shape[0] == b.shape[0]:
            return call(MATMUL, (a, b), (), out, device, tolerance)
    return _general(a, b, out, device, tolerance)


def _matrices(a: Array, b: Array, out: Any, device: str | None, tolerance: Any) -> Any:
    """Multiply two matrices; those in Fortran order go in as their transposes, without a copy."""
    if a.shape[1] != b.shape[0]:
        raise ArgumentError(depth_message(a.shape, b.shape))
    ta = a.flags.f_contiguous and not a.flags.c_contiguous
    tb = b.flags.f_contiguous and not b.flags.c_contiguous
    operands = (a.T if ta else a, b.T if tb else b, None, None, None)
    return call(GEMM, operands, _GEMM[ta, tb], out, device, tolerance)


def _general(a: Any, b: Any, out: Any, device: str | None, tolerance: Any) -> Any:
    given = a
    if is_elsewhere(a) or is_elsewhere(b):
        return _elsewhere(a, b, out, device, tolerance)
    if all(not isinstance(x, np.ndarray) and getattr(x, "ndim", 0) == 2 for x in (a, b)):
        # Matrices of another library stay where they are.
        return call(GEMM, (a, b, None, None, None), _NN, out, device, tolerance)
    a = a if type(a) is np.ndarray else host_view(a, "a")
    b = b if type(b) is np.ndarray else host_view(b, "b")
    batch, shape = result_shape(a.shape, b.shape)
    if out is not None:
        view = out_view(out, shape, sum_dtype(a.dtype))
        # A reshape that copies would lose the result; it goes there in a second step instead.
        folded = view if view.flags.c_contiguous else None
        result = _fold(a, b, batch, folded, device, tolerance).reshape(shape)
        if folded is None:
            np.copyto(view, result, casting="same_kind")
        return out
    result = _fold(a, b, batch, None, device, tolerance).reshape(shape)
    if type(given) is np.ndarray or not hasattr(given, "dtype"):
        return result if shape else result[()]
    return like(given, result)


def _elsewhere(a: Any, b: Any, out: Any, device: str | None, tolerance: Any) -> Any:
    """Multiply arrays where they are, on a device; their library folds leading sizes."""
    batch, shape = result_shape(tuple(a.shape), tuple(b.shape))
    ranks = len(a.shape), len(b.shape)
    if ranks == (2, 2):
        return call(GEMM, (a, b, None, None, None), _NN, out, device, tolerance)
    if ranks == (3, 3) and (a.shape[0] == b.shape[0] or b.shape[0] != 1):
        return call(MATMUL, (a, b), (), out, device, tolerance)
    for array, wanted in ((a, "reshape"), (b, "reshape"), (out, "__setitem__")):
        if array is not None and not hasattr(array, wanted):
            raise ArgumentError(
                f"an array of type {type(array).__name__} on a device has no {wanted}, by which "
                "leading sizes are folded: pass matrices, or stacks (b, m, k) and (b, k, n)"
            )
    result = _fold(a, b, batch, None, device, tolerance).reshape(shape)
    if out is None:
        return result
    out[...] = result
    return out


def _fold(
    a: Array,
    b: Array,
    batch: tuple[int, ...],
    out: Array | None,
    device: str | None,
    tolerance: Any,
) -> Array:
    """Return the product of arrays that fit, with its sizes still folded; into ``out`` if given."""
    a = a.reshape(1, a.shape[0]) if len(a.shape) == 1 else a
    b = b.reshape(b.shape[0], 1) if len(b.shape) == 1 else b
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    result: Array
    if math.prod(b.shape[:-2]) == 1:
        rows = math.prod(a.shape[:-1])
        out = None if out is None else out.reshape(rows, n)
        a = a if len(a.shape) == 2 else a.reshape(rows, k)
        b = b if len(b.shape) == 2 else b.reshape(k, n)
        if not isinstance(a, np.ndarray):
            result = call(GEMM, (a, b, None, None, None), _NN, out, device, tolerance)
        elif n == 1:
            result = _column(a, b, out, device, tolerance)
        else:
            result = _matrices(a, b, out, device, tolerance)
        return result
    stack = (stack_of(a, batch), stack_of(b, batch))
    out = None if out is None else out.reshape(math.prod(batch), m, n)
    result = call(MATMUL, stack, (), out, device, tolerance)
    return result


def _column(a: Array, b: Array, out: Array | None, device: str | None, tolerance: Any) -> Array:
    """Multiply a matrix by a column: the row times the transposed, which kernels read once."""
    if a.dtype != b.dtype:
        product_dtypes(a=a, b=b)  # the message must name them as the caller did
    row = b.reshape(1, a.shape[1])
    out = None if out is None else out.reshape(1, a.shape[0])
    fortran = a.flags.f_contiguous and not a.flags.c_contiguous
    operands = (row, a.T if fortran else a, None, None, None)
    result: Array = call(GEMM, operands, _GEMM[False, not fortran], out, device, tolerance)
    return result
