"""What the operators on 8-bit integers share: scales, zero points, and how sums become results.

A stored value ``v`` stands for the real number ``scale * (v - zero)``. As ONNX has it
(QLinearConv, QLinearMatMul, ConvInteger, MatMulInteger: https://onnx.ai/onnx/operators), with the
order of the float32 operations fixed, so that the answer is one and the same on every device:

* ``sum``: of products of operands less their zero points, plus ``bias``, in 32 bits that wrap;
* int32 out: the sum;
* float32 out: ``float32(sum) * (x_scale * w_scale)``;
* 8 bits out: ``float32(sum) * ((x_scale * w_scale) / y_scale)``, rounded half to even, plus
  ``y_zero``, and the nearest value that fits.

The activation comes before the rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ArgumentError, DtypeError, shown
from ..op import Dtypes, Operand, Problem, dtype_name, numpy_dtype
from .checks import check_shape

__all__ = [
    "BYTES",
    "check_problem",
    "check_shapes",
    "dtypes_of_specs",
    "parameter_operands",
    "random_operands",
    "split_parameters",
    "take_result",
]

Array = np.ndarray[Any, Any]

BYTES = ("int8", "uint8")
OUTPUTS = (*BYTES, "int32", "float32")
_SCALES = ("x_scale", "w_scale", "a_scale", "b_scale")
_ACTIVATIONS = {
    "int32": (None, "relu", "relu6"),
    "float32": (None, "relu", "relu6", "clip"),
    "int8": (None, "relu", "relu6", "clip"),
    "uint8": (None, "relu", "relu6", "clip"),
}


def dtypes_of_specs(operands: Mapping[str, Any], output: str | None) -> Dtypes:
    """Return the dtypes of a problem from what a plan is given.

    Args:
        operands: the two operands, bias, scales and zero points by name; ``None`` where left out.
        output: dtype of the output, or ``None``: that of ``y_zero``, else float32 with scales and
            int32 without.

    Raises:
        DtypeError: an operand is not of 8 bits, the bias not int32, or the output not possible.
    """
    (left, first), (right, second), *_ = operands.items()
    found = [dtype_name(a.dtype, n, BYTES) for n, a in ((left, first), (right, second))]
    if operands["bias"] is not None:
        dtype_name(operands["bias"].dtype, "bias", ("int32",))
    if output is None and operands["y_zero"] is not None:
        output = dtype_name(operands["y_zero"].dtype, "y_zero", BYTES)
    if output is None:
        output = "int32" if operands[f"{left}_scale"] is None else "float32"
    if output not in OUTPUTS:
        raise DtypeError(f"out_dtype={shown(output)} must be one of {', '.join(OUTPUTS)}")
    return Dtypes(found[0], found[1], output, "int32")


def check_problem(problem: Problem) -> None:
    """Check dtypes and epilogue.

    Raises:
        ArgumentError: the problem is not one of 8-bit operands, or fuses what it cannot.
    """
    name, dtypes = problem.op.name, problem.dtypes
    narrow = dtypes.input in BYTES and dtypes.weight in BYTES
    if not narrow or dtypes.output not in OUTPUTS or dtypes.accumulate != "int32":
        raise ArgumentError(
            f"{name} is for int8 and uint8 with int32 sums, not {dtypes}: write "
            "uint8,int8,uint8,int32, or another output out of " + ", ".join(OUTPUTS)
        )
    if "residual" in problem.epilogue:
        raise ArgumentError(f"{name} fuses no residual: leave +residual away")
    activation = problem.activation[0] if problem.activation else None
    if activation not in _ACTIVATIONS[dtypes.output]:
        known = ", ".join(filter(None, _ACTIVATIONS[dtypes.output]))
        raise ArgumentError(
            f"activation {shown(activation)} of {name} is not for {dtypes.output}: "
            f"choose one of {known}"
        )


def parameter_operands(
    problem: Problem, channels: int, names: tuple[str, str]
) -> tuple[Operand, ...]:
    """Return bias, scales and zero points, as far as the problem has them.

    Scales are float32, zero points of the dtype of what they belong to; all are scalars, but those
    of the weights have one element for each output channel where ``per_channel``.

    Args:
        problem: whose parameters.
        channels: of the output.
        names: of the two operands.
    """
    dtypes = problem.dtypes
    each = (channels,) if problem["per_channel"] else ()
    real, (left, right) = numpy_dtype("float32"), names
    found = []
    if "bias" in problem.epilogue:
        found.append(Operand("bias", (channels,), numpy_dtype("int32")))
    for name, shape, dtype in ((left, (), dtypes.input), (right, each, dtypes.weight)):
        if dtypes.output != "int32":
            found.append(Operand(f"{name}_scale", shape, real))
        found.append(Operand(f"{name}_zero", shape, numpy_dtype(dtype)))
    if dtypes.output in BYTES:
        found.append(Operand("y_scale", (), real))
        found.append(Operand("y_zero", (), numpy_dtype(dtypes.output)))
    return tuple(found)


def check_shapes(problem: Problem, given: Mapping[str, Any]) -> None:
    """Check that each parameter given is an operand of the problem, and has its shape.

    Raises:
        ArgumentError: names the parameter.
    """
    expected = {operand.name: operand.shape for operand in problem.operands}
    for name, array in given.items():
        if array is None or name in ("x", "w", "a", "b", "bias"):
            continue
        if name not in expected:
            raise ArgumentError(
                f"{name} is given, but a result of {problem.dtypes.output} does not use it: "
                "leave it out, or give all scales"
            )
        check_shape(name, array, expected[name], "a scalar, or one value for each output channel")


def split_parameters(problem: Problem, operands: tuple[Array, ...]) -> dict[str, Array]:
    """Return all operands by name, integers as int64 and scales as float32."""
    names = [operand.name for operand in problem.operands]
    return {
        name: array.astype(np.float32 if name.endswith("scale") else np.int64)
        for name, array in zip(names, operands, strict=True)
    }


def take_result(problem: Problem, sums: Array, given: dict[str, Array], axis: int) -> Array:
    """Return what becomes of exact sums: wrapped, scaled, rounded, of the output's dtype.

    Args:
        problem: whose epilogue and dtypes.
        sums: int64, of the output's shape.
        given: bias, scales and zero points by name.
        axis: of the output's channels.
    """
    shape = [1] * sums.ndim
    shape[axis] = -1
    if "bias" in given:
        sums = sums + given["bias"].reshape(shape)
    wrapped = sums.astype(np.int32)
    if problem.dtypes.output == "int32":
        low, high = _bounds(problem)
        clipped: Array = np.clip(wrapped, max(low, -(2**31)), min(high, 2**31 - 1))
        return clipped.astype(np.int32)
    with np.errstate(all="ignore"):
        left, right = (array for name, array in given.items() if name in _SCALES)
        scale = left * right
        if "y_scale" in given:
            scale = scale / given["y_scale"]
        result = wrapped.astype(np.float32) * (scale.reshape(shape) if scale.ndim else scale)
        low, high = (np.float32(bound) for bound in _bounds(problem))
        if "y_scale" not in given:
            dequantised: Array = np.minimum(np.maximum(result, low), high)
            return dequantised
        low, high = (bound / given["y_scale"] for bound in (low, high))
        real = np.minimum(np.maximum(result, low), high)
        limits = np.iinfo(problem.dtypes.output)
        shifted = np.rint(real.astype(np.float64)) + given["y_zero"]
        narrow: Array = np.clip(shifted, limits.min, limits.max).astype(limits.dtype)
        return narrow


def _bounds(problem: Problem) -> tuple[float, float]:
    name, parameters = problem.activation or ("", ())
    if name == "clip":
        return parameters[0], parameters[1]
    return (0.0 if name else -np.inf), (6.0 if name == "relu6" else np.inf)


def random_operands(problem: Problem, depth: int, rng: np.random.Generator) -> tuple[Array, ...]:
    """Return operands over the whole range of 8 bits, with scales that spread the results over it.

    Args:
        problem: what for.
        depth: products in a sum.
        rng: source of randomness.
    """
    # The sums of products of such bytes spread by about 75 * 75 * sqrt(depth), which becomes 3; so
    # some results reach the ends of 8 bits and the bounds of activations, and most do not.
    middles = {"y_scale": 0.05, "x_scale": 1 / 75, "a_scale": 1 / 75}
    weights = 3 / (75 * max(depth, 1) ** 0.5)
    arrays: list[Array] = []
    for name, shape, dtype in problem.operands:
        if dtype.kind == "f":
            values = rng.uniform(0.5, 2.0, shape) * middles.get(name, weights)
        elif dtype == np.int32:
            values = rng.integers(-5000, 5000, shape)
        else:
            limits, edge = np.iinfo(dtype), 108 if name.endswith("zero") else 0
            values = rng.integers(limits.min + edge, limits.max + 1 - edge, shape)
        arrays.append(np.asarray(values, dtype))
    return tuple(arrays)
