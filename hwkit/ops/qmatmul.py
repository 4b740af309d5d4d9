"""qmatmul: products of 8-bit matrices with scales and zero points, exact, requantised or not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arrays import host_view, like
from ..dispatch import call
from ..errors import ArgumentError
from ..op import Attribute, Operand, Problem, numpy_dtype
from ..words import flag
from . import quantised
from .checks import check_rank, check_shape, out_view
from .epilogue import Activation, epilogue_text
from .matmul import Matmul
from .parameters import Parameters
from .stacks import result_shape, stack_of

__all__ = ["QMATMUL", "QMatmul", "qmatmul"]

Array = np.ndarray[Any, Any]


class QMatmul(Matmul):
    """The contract of a batch of quantised matrix products.

    Sizes and ``shared`` are those of matmul; in the layout ``nt`` b holds the transposed matrices.
    Operands: a, b, then as far as there are bias, a_scale, a_zero, b_scale, b_zero, y_scale and
    y_zero, as of :class:`hwkit.ops.qconv2d.QConv2d`; ``per_channel`` is for each column.
    """

    name = "qmatmul"
    layouts = ("nn", "nt")
    attributes: Mapping[str, Attribute] = {**Matmul.attributes, "per_channel": False}
    fusable = True
    arguments = ("transpose_b", "activation", "per_channel", "out_dtype")
    constants = (
        "b", "bias", "a_scale", "a_zero", "b_scale", "b_zero", "y_scale", "y_zero",
    )  # fmt: skip
    samples = (
        *(f"qmatmul uint8,int8,int32,int32 nn b=1 m={s} n={s} k={s}" for s in (128, 256, 512)),
        # Fully connected layers: ResNet-50's last, and one of a transformer
        "qmatmul uint8,int8,uint8,int32 nt b=1 m=1 n=1000 k=2048 per_channel=true +bias",
        "qmatmul uint8,uint8,float32,int32 nt b=1 m=16 n=1000 k=2048 +bias",
        "qmatmul int8,int8,int8,int32 nn b=1 m=128 n=768 k=768 per_channel=true +bias+relu",
        # Attention: scores of 12 heads, 128 tokens
        "qmatmul uint8,uint8,uint8,int32 nn b=12 m=128 n=128 k=64",
        "qmatmul int8,uint8,int32,int32 nn b=3 m=17 n=29 k=31 shared=a +relu6",
        "qmatmul uint8,int8,int8,int32 nt b=4 m=9 n=5 k=23 shared=b per_channel=true "
        "+bias+clip:-3.0,4.0",
    )

    def problem(
        self,
        a: Any,
        b: Any,
        bias: Any = None,
        a_scale: Any = None,
        a_zero: Any = None,
        b_scale: Any = None,
        b_zero: Any = None,
        y_scale: Any = None,
        y_zero: Any = None,
        *,
        transpose_b: bool = False,
        activation: Activation = None,
        per_channel: bool | None = None,
        out_dtype: str | None = None,
    ) -> Problem:
        """Return the Problem of stacks ``(b, m, k)`` and ``(b, k, n)``, or ``(b, n, k)``.

        Zero points that are left out are 0 in the public function, and operands of the plan here.
        """
        transpose_b = flag("transpose_b", transpose_b)
        given = {
            "a": a, "b": b, "bias": bias, "a_scale": a_scale, "a_zero": a_zero, "b_scale": b_scale,
            "b_zero": b_zero, "y_scale": y_scale, "y_zero": y_zero,
        }  # fmt: skip
        dtypes = quantised.dtypes_of_specs(given, out_dtype)
        if per_channel is None:
            per_channel = any(p is not None and len(p.shape) == 1 for p in (b_scale, b_zero))
        sizes, shared = _sizes(a, b, transpose_b)
        problem = self.make(
            dtypes,
            "nt" if transpose_b else "nn",
            sizes,
            {"shared": shared, "per_channel": per_channel},
            epilogue_text(bias, None, activation),
        )
        quantised.check_shapes(problem, given)
        check_shape("bias", bias, (sizes["n"],), "one value for each column")
        return problem

    def check(self, problem: Problem) -> None:
        """Check sizes as matmul does, and dtypes and epilogue."""
        quantised.check_problem(problem)
        super().check(problem)

    def operands(self, problem: Problem) -> tuple[Operand, ...]:
        """Return a, b, and the parameters."""
        batch, m, n, k = problem.sizes.values()
        shared = problem["shared"]
        matrix = (k, n) if problem.layout == "nn" else (n, k)
        b = (1 if shared == "b" else batch, *matrix)
        return (
            Operand("a", (1 if shared == "a" else batch, m, k), numpy_dtype(problem.dtypes.input)),
            Operand("b", b, numpy_dtype(problem.dtypes.weight)),
            *quantised.parameter_operands(problem, n, ("a", "b")),
        )

    def reference(self, problem: Problem, *operands: Array) -> Array:
        """Compute exact sums, and round by the formulas of :mod:`hwkit.ops.quantised`."""
        given = quantised.split_parameters(problem, operands)
        b = given.pop("b") if problem.layout == "nn" else given.pop("b").transpose(0, 2, 1)
        # Sums of whole numbers below 2**53 are exact in float64, whose products are fast.
        left = (given.pop("a") - given["a_zero"]).astype(np.float64)
        sums = np.matmul(left, (b - given["b_zero"]).astype(np.float64)).astype(np.int64)
        return quantised.take_result(problem, sums, given, 2)

    def random_operands(self, problem: Problem, rng: np.random.Generator) -> tuple[Array, ...]:
        """Return operands over the whole range of their dtypes."""
        return quantised.random_operands(problem, problem["k"], rng)


def _sizes(a: Any, b: Any, transpose_b: bool) -> tuple[dict[str, int], str]:
    """Return the sizes of a Problem, and which operand the batch shares."""
    count, m, k = check_rank("a", a, ("batch", "m", "k"))
    other, *matrix = check_rank("b", b, ("batch", *(("n", "k") if transpose_b else ("k", "n"))))
    depth, n = matrix[::-1] if transpose_b else matrix
    if depth != k or (count != other and 1 not in (count, other)):
        raise ArgumentError(
            f"b has shape {tuple(b.shape)}, which does not go with a of {tuple(a.shape)}: the "
            f"depth must be {k}, and the batches equal or 1"
        )
    shared = "none" if count == other else "a" if count == 1 else "b"
    return {"b": other if count == 1 else count, "m": m, "n": n, "k": k}, shared


QMATMUL = QMatmul()


def qmatmul(
    a: Any,
    b: Any,
    bias: Any = None,
    *,
    a_scale: Any = None,
    a_zero: Any = None,
    b_scale: Any = None,
    b_zero: Any = None,
    y_scale: Any = None,
    y_zero: Any = None,
    transpose_b: bool = False,
    activation: Activation = None,
    out_dtype: str | None = None,
    out: Any = None,
    device: str | None = None,
    tolerance: float | str | None = None,
) -> Any:
    """Multiply 8-bit matrices or stacks of them, exactly; scale and round the sums if asked to.

    A stored ``v`` stands for ``scale * (v - zero)``. Without scales the result is the int32 sums
    (ONNX MatMulInteger); with those of ``a`` and ``b`` it is float32, dequantised; with that of
    ``y`` as well it is requantised to 8 bits, rounded half to even, saturating (ONNX
    QLinearMatMul).

    Parameters
    ----------
    a, b : array
        ``(..., m, k)`` and ``(..., k, n)``, each int8 or uint8; the rules of ``numpy.matmul``.
    bias : array, optional
        ``(n,)`` of int32, in units of ``a_scale * b_scale``.
    a_scale, y_scale : float, optional
        Of the first operand and of the result.
    b_scale : float or array, optional
        Of the second operand, or ``(n,)`` for each column.
    a_zero, b_zero, y_zero : int or array, optional
        Zero points; 0 by default. ``b_zero`` may be ``(n,)``.
    transpose_b : bool
        Whether ``b`` holds the transposed matrices, ``(..., n, k)``.
    activation, out_dtype
        As of :func:`hwkit.ops.qconv2d`.
    out, device, tolerance
        As of :func:`hwkit.ops.conv2d`.

    Returns
    -------
    array
        ``(..., m, n)``; int32, float32, int8 or uint8.

    Raises
    ------
    ArgumentError
        A shape, a parameter or an option is not legal.
    DtypeError
        ``a`` or ``b`` is not of 8 bits, or ``bias`` not int32.
    NoKernel
        No kernel of the device takes the problem with this tolerance.

    Examples
    --------
    >>> a, b = np.full((2, 3), 5, np.uint8), np.full((3, 2), -4, np.int8)
    >>> qmatmul(a, b, a_zero=3)
    array([[-24, -24],
           [-24, -24]], dtype=int32)
    """
    given, transpose_b = a, flag("transpose_b", transpose_b)
    a = a if type(a) is np.ndarray else host_view(a, "a")
    b = b if type(b) is np.ndarray else host_view(b, "b")
    parameters = Parameters(
        {"a": a, "b": b}, (a_scale, b_scale), (a_zero, b_zero), y_scale, y_zero, out_dtype
    )
    if transpose_b and b.ndim < 2:
        raise ArgumentError(f"b has shape {b.shape}, which has nothing to transpose")
    plain = (*b.shape[:-2], *b.shape[:-3:-1]) if transpose_b else b.shape
    batch, shape = result_shape(a.shape, plain)
    view = None if out is None else out_view(out, shape, np.dtype(parameters.output))
    result = call(
        QMATMUL,
        (*_stacks(a, b, batch), bias, *parameters.arrays()),
        (transpose_b, activation, parameters.per_channel, parameters.output),
        None,
        device,
        tolerance,
    ).reshape(shape)
    if view is not None:
        np.copyto(view, result, casting="same_kind")
        return out
    return like(given, result) if hasattr(given, "dtype") else result


def _stacks(a: Array, b: Array, batch: tuple[int, ...]) -> tuple[Array, Array]:
    """Return the operands as stacks of matrices that share their leading sizes."""
    a = a.reshape(1, -1) if a.ndim == 1 else a
    b = b.reshape(-1, 1) if b.ndim == 1 else b
    if math.prod(b.shape[:-2]) == 1:
        # One matrix for all: the rows of the whole stack are rows of one product.
        rows = math.prod(a.shape[:-1])
        return a.reshape(1, rows, a.shape[-1]), b.reshape(1, *b.shape[-2:])
    return stack_of(a, batch), stack_of(b, batch)
