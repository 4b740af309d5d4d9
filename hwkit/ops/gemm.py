"""gemm: matrix product with alpha, beta, c, transposes, and a fused epilogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..dispatch import call
from ..errors import ArgumentError
from ..op import Attribute, Op, Operand, Problem, numpy_dtype
from ..words import flag, number
from . import epilogue
from .checks import check_integer_epilogue, check_rank, check_shape, is_integer, product_dtypes
from .epilogue import Activation, compute_dtype, epilogue_operands, epilogue_text, result_dtype

__all__ = ["GEMM", "Gemm", "gemm"]

Array = np.ndarray[Any, Any]


class Gemm(Op):
    """The contract of :func:`gemm`.

    Sizes: ``m`` rows and ``n`` columns of the result, depth ``k``. The layout has a letter for a
    and one for b: ``n`` as is, ``t`` transposed. The operand c exists where ``beta`` is not zero.
    """

    name = "gemm"
    layouts = ("nn", "nt", "tn", "tt")
    sizes = ("m", "n", "k")
    attributes: Mapping[str, Attribute] = {"alpha": 1.0, "beta": 0.0}
    fusable = True
    arguments = ("alpha", "beta", "transpose_a", "transpose_b", "activation")
    constants = ("b", "bias")
    samples = (
        *(f"gemm float32 nn m={s} n={s} k={s}" for s in (128, 256, 512, 1024)),
        # Fully connected layers: ResNet-50's last at batch 1 and 16, and one of a transformer
        "gemm float32 nt m=1 n=1000 k=2048 +bias",
        "gemm float32 nt m=16 n=1000 k=2048 +bias",
        "gemm float32 nt m=64 n=1024 k=1024 +bias+relu",
        # Attention scores of 196 patches
        "gemm float32 nt m=196 n=196 k=64 alpha=0.125",
        "gemm float32 tn m=100 n=60 k=300 beta=1.0",
        "gemm float32 tt m=17 n=13 k=29 alpha=0.5 beta=-2.0 +bias+residual+leaky_relu:0.1",
        "gemm float64 nn m=200 n=200 k=200",
        "gemm int8,uint8,int32,int32 tn m=70 n=90 k=110 +bias+relu",
        "gemm float16 nn m=64 n=96 k=128 +bias+silu",
    )

    def problem(
        self,
        a: Any,
        b: Any,
        c: Any = None,
        bias: Any = None,
        residual: Any = None,
        *,
        alpha: float = 1.0,
        beta: float | None = None,
        transpose_a: bool = False,
        transpose_b: bool = False,
        activation: Activation = None,
    ) -> Problem:
        """Return the Problem of a call of :func:`gemm`."""
        beta = _beta(beta, c)
        c = None if beta == 0 else c
        dtypes = product_dtypes(a=a, b=b, c=c, bias=bias, residual=residual)
        transpose_a, transpose_b = (
            flag("transpose_a", transpose_a),
            flag("transpose_b", transpose_b),
        )
        m, n, k = _sizes(a, b, transpose_a, transpose_b)
        problem = self.make(
            dtypes,
            "nt"[transpose_a] + "nt"[transpose_b],
            {"m": m, "n": n, "k": k},
            {"alpha": number("alpha", alpha), "beta": beta},
            epilogue_text(bias, residual, activation),
        )
        check_shape("c", c, (m, n), "the shape of the result: a row for every row goes into bias")
        check_shape("bias", bias, (n,), "one value for each column")
        check_shape("residual", residual, (m, n), "the shape of the result")
        return problem

    def check(self, problem: Problem) -> None:
        """Check what integer dtypes cannot have."""
        super().check(problem)
        check_integer_epilogue(problem)
        for name in ("alpha", "beta"):
            if is_integer(problem) and not float(problem[name]).is_integer():
                raise ArgumentError(
                    f"{name}={problem[name]} of gemm must be whole for {problem.dtypes}"
                )

    def operands(self, problem: Problem) -> tuple[Operand, ...]:
        """Return a, b, c where beta is not zero, and where fused bias and residual."""
        (m, n, k), dtypes = problem.sizes.values(), problem.dtypes
        a, b = problem.layout[0], problem.layout[1]
        found = [
            Operand("a", (m, k) if a == "n" else (k, m), numpy_dtype(dtypes.input)),
            Operand("b", (k, n) if b == "n" else (n, k), numpy_dtype(dtypes.weight)),
        ]
        if problem["beta"] != 0:
            found.append(Operand("c", (m, n), numpy_dtype(dtypes.output)))
        return (*found, *epilogue_operands(problem, n))

    def output(self, problem: Problem) -> Operand:
        """Return y: ``(m, n)``."""
        return Operand("y", (problem["m"], problem["n"]), numpy_dtype(problem.dtypes.output))

    def flops(self, problem: Problem) -> int:
        """Return ``2 m n k``; alpha, beta and the epilogue are free."""
        return int(2 * problem["m"] * problem["n"] * problem["k"])

    def reference(self, problem: Problem, *operands: Array) -> Array:
        """Compute ``activation(alpha a b + beta c + bias + residual)`` with ``numpy.matmul``."""
        wide = compute_dtype(*operands)
        a, b, *rest = (array.astype(wide) for array in operands)
        with np.errstate(all="ignore"):
            alpha, beta = wide.type(problem["alpha"]), wide.type(problem["beta"])
            left = a if problem.layout[0] == "n" else a.T
            result = np.matmul(left, b if problem.layout[1] == "n" else b.T)
            if alpha != 1:
                result = alpha * result
            if problem["beta"] != 0:
                result = result + beta * rest.pop(0)
            result = epilogue.apply(problem, result, tuple(rest), 1)
            return result.astype(result_dtype(*operands))


def _sizes(a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> tuple[int, int, int]:
    rows = check_rank("a", a, ("k", "m") if transpose_a else ("m", "k"))
    m, k = rows[::-1] if transpose_a else rows
    rows = check_rank("b", b, ("n", "k") if transpose_b else ("k", "n"))
    depth, n = rows[::-1] if transpose_b else rows
    if depth != k:
        raise ArgumentError(
            f"b has shape {tuple(b.shape)} and the depth {depth}, but must have the depth {k} "
            f"of a, which has shape {tuple(a.shape)}: check which of them is transposed"
        )
    return m, n, k


def _beta(beta: Any, c: Any) -> float:
    value = float(c is not None) if beta is None else number("beta", beta)
    if value != 0 and c is None:
        raise ArgumentError(f"beta={beta!r} scales c, but there is no c: pass c, or leave beta out")
    return value


GEMM = Gemm()


def gemm(
    a: Any,
    b: Any,
    c: Any = None,
    *,
    alpha: float = 1.0,
    beta: float | None = None,
    transpose_a: bool = False,
    transpose_b: bool = False,
    bias: Any = None,
    residual: Any = None,
    activation: Activation = None,
    out: Any = None,
    device: str | None = None,
    tolerance: float | str | None = None,
) -> Any:
    """Multiply two matrices: ``activation(alpha a b + beta c + bias + residual)``.

    Parameters
    ----------
    a : array
        ``(m, k)``, or ``(k, m)`` with ``transpose_a``; float32, float64, float16 or bfloat16. The
        two narrow types are stored so, and accumulated in float32.
    b : array
        ``(k, n)``, or ``(n, k)`` with ``transpose_b``; of the same dtype, as all that follow. Or
        ``a`` and ``b`` are each int8 or uint8: then all that follow and the result are int32, and
        ``alpha`` and ``beta`` whole.
    c : array, optional
        ``(m, n)``, added after it is scaled by ``beta``.
    alpha : float
        Scales the product.
    beta : float, optional
        Scales ``c``: 1.0 if ``c`` is given. With 0.0, ``c`` is not read.
    transpose_a, transpose_b : bool
        Whether the array holds the transposed matrix.
    bias : array, optional
        ``(n,)``, added to every row.
    residual : array, optional
        ``(m, n)``, added before the activation.
    activation : str or tuple, optional
        As of :func:`hwkit.ops.conv2d`.
    out : array, optional
        Where to put the result; may overlap an operand.
    device : str, optional
        ``"cpu:0"``; by default that of :func:`hwkit.use`, or the default device.
    tolerance : float or {"strict", "deterministic"}, optional
        As of :func:`hwkit.ops.conv2d`.

    Returns
    -------
    array
        ``(m, n)``, of the library of ``a``, and of its dtype, or int32 for integers.

    Raises
    ------
    ArgumentError
        A shape or an option is not legal.
    DtypeError
        A dtype is not supported, or two operands differ.
    NoKernel
        No kernel of the device takes the problem with this tolerance.

    Examples
    --------
    >>> a = np.arange(6, dtype=np.float32).reshape(2, 3)
    >>> gemm(a, a, transpose_b=True, alpha=2)
    array([[ 10.,  28.],
           [ 28., 100.]], dtype=float32)
    """
    # What is not read must not decide about dtypes, shapes or the plan.
    if c is not None and getattr(beta, "ndim", 0) == 0 and beta == 0:
        c = None
    return call(
        GEMM,
        (a, b, c, bias, residual),
        (alpha, beta, transpose_a, transpose_b, activation),
        out,
        device,
        tolerance,
    )
