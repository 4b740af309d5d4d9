"""Nodes that compute each element on its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...dtypes import is_float, widened
from ...errors import ArgumentError
from ..ir import Array, Node, check_bytes
from ..nodetype import Glue, NodeType, Spec2
from .planned import Planned

__all__ = ["node_types"]


def _aligned(node: Node, arrays: Sequence[Any]) -> list[Any]:
    """Return operands as numpy broadcasts them; before operator set 7 an axis says where."""
    if node.type == "PRelu" and arrays[1].ndim == 1 < arrays[0].ndim:
        x, slope = arrays
        by_channel = slope.size == x.shape[1] != x.shape[-1]
        return [x, slope.reshape(-1, *(1,) * (x.ndim - 2)) if by_channel else slope]
    if node.version >= 7 or not node.get("broadcast", 0) or len(arrays) != 2:
        return list(arrays)
    a, b = arrays
    axis = node.get("axis", a.ndim - b.ndim) % max(a.ndim, 1)
    return [a, b.reshape(b.shape + (1,) * (a.ndim - axis - b.ndim))]


def _shapes(function: Callable[..., Any], node: Node, limit: int) -> list[Spec2]:
    """Shape by numpy's rule, dtype from ones: nothing large is computed."""
    values = [v for v in node.inputs if v is not None]
    tiny = [np.ones((1,) * len(v.sizes), v.dtype) for v in values]
    aligned = _aligned(
        node, [np.broadcast_to(t, v.sizes) for t, v in zip(tiny, values, strict=True)]
    )
    shape = np.broadcast_shapes(*(a.shape for a in aligned))
    with np.errstate(all="ignore"):
        dtype = np.asarray(function(node, *[t.reshape(-1)[:1] for t in tiny])).dtype
    check_bytes(shape, dtype.itemsize, limit, f"the result of node {node}")
    return [(shape, dtype)]


def _ufunc(*types: str, ufunc: np.ufunc, integer: Callable[..., Any] | None = None) -> Glue:
    """A ufunc of numpy, written straight into the output."""

    def pick(dtype: np.dtype[Any]) -> Callable[..., Any]:
        return integer if integer is not None and dtype.kind in "iu" else ufunc

    def function(node: Node, *arrays: Any) -> Any:
        # One more would be taken for an output.
        if len(arrays) != ufunc.nargs - 1:
            raise ArgumentError(f"node {node} takes {ufunc.nargs - 1} inputs, not {len(arrays)}")
        return pick(arrays[0].dtype)(*_aligned(node, arrays))

    def into(node: Node, arrays: Sequence[Any], outs: Sequence[Array]) -> Callable[[], Any]:
        return partial(pick(arrays[0].dtype), *_aligned(node, arrays), out=outs[0])

    return Glue(
        *types, function=function, into=into, shapes=partial(_shapes, function), in_place=True
    )


def _many(name: str, ufunc: np.ufunc, mean: bool = False) -> Glue:
    """Sum, Max, Min, Mean of any number of inputs."""

    def function(node: Node, *arrays: Any) -> Any:
        total = widened(arrays[0]) if ufunc is np.add else arrays[0]
        for array in arrays[1:]:
            total = ufunc(total, array)
        return np.asarray(total / len(arrays) if mean else total).astype(arrays[0].dtype)

    def into(node: Node, arrays: Sequence[Any], outs: Sequence[Array]) -> Callable[[], Any]:
        if len(arrays) == 2 and not mean:
            return partial(ufunc, *arrays, out=outs[0])
        return lambda: np.copyto(outs[0], function(node, *arrays))

    return Glue(name, function=function, into=into, shapes=partial(_shapes, function))


def _formula(*types: str, formula: Callable[..., Any]) -> Glue:
    """A formula whose result has the dtype of its first operand; it is rounded once."""

    def function(node: Node, *arrays: Any) -> Any:
        found = np.asarray(formula(node, *map(widened, arrays)))
        return found.astype(arrays[0].dtype, copy=False)

    return Glue(*types, function=function, shapes=partial(_shapes, function))


def _sigmoid(x: Any) -> Any:
    # The exponential of a positive number could overflow.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def _clip(node: Node, x: Any, low: Any = None, high: Any = None) -> Any:
    low = node.get("min", None) if low is None else low
    high = node.get("max", None) if high is None else high
    x = x if low is None else np.maximum(x, np.asarray(low, x.dtype))
    return np.array(x) if high is None else np.minimum(x, np.asarray(high, x.dtype))


def _clip_shape(node: Node, limit: int) -> list[Spec2]:
    return [(node.input(0).sizes, node.input(0).kind)]


def _clip_into(node: Node, arrays: Sequence[Any], outs: Sequence[Array]) -> Callable[[], Any]:
    return lambda: np.copyto(outs[0], _clip(node, *arrays))


def _relu_into(node: Node, arrays: Sequence[Any], outs: Sequence[Array]) -> Callable[[], Any]:
    return partial(np.maximum, arrays[0], outs[0].dtype.type(0), out=outs[0])


def _relu(node: Node, x: Any) -> Any:
    return np.maximum(x, x.dtype.type(0))


def _divide(a: Any, b: Any, out: Any = None) -> Any:
    """Divide whole numbers towards zero, as C does."""
    quotient = np.abs(a) // np.maximum(np.abs(b), 1)
    quotient = np.where((a < 0) ^ (b < 0), -quotient, quotient).astype(a.dtype)
    if out is None:
        return quotient
    np.copyto(out, quotient)
    return out


def _mod(node: Node, a: Any, b: Any) -> Any:
    if node.get("fmod", 0):
        return np.fmod(a, b)
    safe = np.where(b == 0, 1, b) if b.dtype.kind in "iu" else b
    return np.mod(a, safe)


def _selu(node: Node, x: Any) -> Any:
    alpha, gamma = node.get("alpha", 1.6732632423543772), node.get("gamma", 1.0507009873554805)
    return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _prelu(node: Node, x: Any, slope: Any) -> Any:
    x, slope = _aligned(node, (x, slope))
    return np.where(x < 0, x * slope, x)


def _gelu(node: Node, x: Any) -> Any:
    if node.get("approximate", "none") == "tanh":
        return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x / 2 * (1 + _erf(x / math.sqrt(2)))


_erf = np.vectorize(math.erf, otypes=[float])


def _log1p_exp(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


_FORMULAS: dict[str, Callable[..., Any]] = {
    "LeakyRelu": lambda n, x: np.where(x < 0, x * x.dtype.type(n.get("alpha", 0.01)), x),
    "ThresholdedRelu": lambda n, x: np.where(x > n.get("alpha", 1.0), x, 0),
    "PRelu": _prelu,
    "Elu": lambda n, x: np.where(x > 0, x, n.get("alpha", 1.0) * np.expm1(np.minimum(x, 0))),
    "Celu": lambda n, x: (
        np.maximum(x, 0) + np.minimum(0, n.get("alpha", 1.0) * np.expm1(x / n.get("alpha", 1.0)))
    ),
    "Selu": _selu,
    "Gelu": _gelu,
    "Erf": lambda n, x: _erf(x),
    "Sigmoid": lambda n, x: _sigmoid(x),
    "HardSigmoid": lambda n, x: np.clip(x * n.get("alpha", 0.2) + n.get("beta", 0.5), 0, 1),
    "HardSwish": lambda n, x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Swish": lambda n, x: x * _sigmoid(n.get("alpha", 1.0) * x),
    "Mish": lambda n, x: x * np.tanh(_log1p_exp(x)),
    "Softplus": lambda n, x: _log1p_exp(x),
    "Softsign": lambda n, x: x / (1 + np.abs(x)),
    "Shrink": lambda n, x: np.where(
        x < -n.get("lambd", 0.5),
        x + n.get("bias", 0.0),
        np.where(x > n.get("lambd", 0.5), x - n.get("bias", 0.0), 0),
    ),
    "Reciprocal": lambda n, x: 1 / x,
    "Round": lambda n, x: np.rint(x),
    "Pow": lambda n, a, b: np.power(*_aligned(n, (a, b))),
    "Mod": _mod,
    "BitShift": lambda n, a, b: (
        np.left_shift(a, b) if n.get("direction", "") == "LEFT" else np.right_shift(a, b)
    ),
}

_UFUNCS: dict[str, np.ufunc] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Neg": np.negative, "Abs": np.absolute,
    "Exp": np.exp, "Log": np.log, "Sqrt": np.sqrt, "Ceil": np.ceil, "Floor": np.floor,
    "Sin": np.sin, "Cos": np.cos, "Tan": np.tan, "Asin": np.arcsin, "Acos": np.arccos,
    "Atan": np.arctan, "Sinh": np.sinh, "Cosh": np.cosh, "Tanh": np.tanh, "Asinh": np.arcsinh,
    "Acosh": np.arccosh, "Atanh": np.arctanh, "Sign": np.sign, "IsNaN": np.isnan,
    "Not": np.logical_not, "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor,
    "Equal": np.equal, "Greater": np.greater, "GreaterOrEqual": np.greater_equal,
    "Less": np.less, "LessOrEqual": np.less_equal, "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or, "BitwiseXor": np.bitwise_xor, "BitwiseNot": np.invert,
}  # fmt: skip


def _is_inf(node: Node, x: Any) -> Any:
    positive = np.isposinf(x) & bool(node.get("detect_positive", 1))
    return positive | (np.isneginf(x) & bool(node.get("detect_negative", 1)))


def _cast(node: Node, x: Any, like: Any = None) -> Any:
    from ..tensors import numpy_type

    dtype = numpy_type(int(node.get("to", 0)), f"node {node}") if like is None else like.dtype
    if is_float(x.dtype) and dtype.kind in "iu":
        x = np.nan_to_num(x, copy=True)
    if dtype.name.startswith("float8") and node.get("saturate", 1) and dtype.name != _SCALES:
        import ml_dtypes

        info: Any = ml_dtypes.finfo
        most = float(info(dtype).max)
        x = np.clip(x.astype(np.float32), -most, most)
    return x.astype(dtype)


# Powers of two without a sign, which round in ways of their own.
_SCALES = "float8_e8m0fnu"


def _cast_shape(node: Node, limit: int) -> list[Spec2]:
    like = np.ones(0, node.input(1).dtype) if node.has(1) else None
    return [(node.input(0).sizes, _cast(node, np.ones(1, node.input(0).dtype), like).dtype)]


def _where_shape(node: Node, limit: int) -> list[Spec2]:
    shape = np.broadcast_shapes(*(node.input(i).sizes for i in range(3)))
    if node.input(1).dtype != node.input(2).dtype:
        raise ArgumentError(f"node {node} chooses between two dtypes: cast one of them")
    check_bytes(shape, node.input(1).kind.itemsize, limit, f"the result of node {node}")
    return [(shape, node.input(1).kind)]


# Those that the Op has.
_PLANNED = (
    "Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "PRelu", "Relu", "Clip", "LeakyRelu",
    "Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Tanh", "Exp", "Elu", "Erf", "Gelu", "Mish",
)  # fmt: skip


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [Planned(t) if t.types[0] in _PLANNED else t for t in _plain_types()]


def _plain_types() -> list[NodeType]:
    return [
        *(_ufunc(name, ufunc=ufunc) for name, ufunc in _UFUNCS.items()),
        _ufunc("Div", ufunc=np.divide, integer=_divide),
        *(_formula(name, formula=formula) for name, formula in _FORMULAS.items()),
        Glue("IsInf", function=_is_inf),
        _many("Sum", np.add),
        _many("Mean", np.add, mean=True),
        _many("Max", np.maximum),
        _many("Min", np.minimum),
        Glue("Relu", function=_relu, into=_relu_into, shapes=_clip_shape, in_place=True),
        Glue("Clip", function=_clip, into=_clip_into, shapes=_clip_shape),
        Glue("Cast", "CastLike", function=_cast, shapes=_cast_shape),
        Glue("Where", function=lambda n, c, a, b: np.where(c, a, b), shapes=_where_shape),
    ]
