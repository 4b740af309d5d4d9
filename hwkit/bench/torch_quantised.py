"""8-bit convolutions and products in torch: its quantised modules' operators, by each engine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from ..op import Problem
from .libraries import Array, Variant, from_nchw, to_nchw
from .torch_conv import Tensor, tensor

__all__ = ["quantised"]

torch: Any = import_module("torch")

# "x86" chooses between fbgemm and oneDNN; the first may saturate, so oneDNN is asked for as well.
_ENGINES = ("x86", "onednn")


def quantised(problem: Problem, named: dict[str, Array], packed: bool) -> Iterator[Variant]:
    """Yield the ways of doing a problem of 8-bit integers; torch packs the weights in all of them.

    Args:
        problem: what to compute; torch wants uint8 with int8 weights, or int8 for int32 products.
        named: operands by name.
        packed: whether weights may be packed beforehand.
    """
    dtypes = problem.dtypes
    if problem.activation is not None or np.any(named[_zero(problem)]):
        return
    if problem.op.name == "qmatmul" and dtypes[:3] == ("int8", "int8", "int32"):
        yield from _int_mm(problem, named)
    if not packed or dtypes[:3] != ("uint8", "int8", "uint8"):
        return
    run_of = _convolution if problem.op.name == "qconv2d" else _linear
    for engine in _ENGINES:
        if engine not in torch.backends.quantized.supported_engines:
            continue
        torch.backends.quantized.engine = engine
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that tensors of 8 bits will go from torch one day
            run = run_of(problem, named)
        if run is not None:
            yield Variant(engine, run, partial(_stored, problem))


def _zero(problem: Problem) -> str:
    return "w_zero" if problem.op.name == "qconv2d" else "b_zero"


def _int_mm(problem: Problem, named: dict[str, Array]) -> Iterator[Variant]:
    if problem["b"] != 1 or np.any(named["a_zero"]) or "bias" in named:
        return
    a, b = tensor(named["a"][0]), tensor(named["b"][0])
    right = b.t() if problem.layout == "nt" else b
    shape = problem.output.shape
    yield Variant("_int_mm", lambda: torch._int_mm(a, right), lambda y: y.numpy().reshape(shape))


def _weights(array: Array, scale: Array) -> Tensor:
    values = tensor(array.astype(np.float32))
    if not scale.ndim:
        return torch.quantize_per_tensor(values * float(scale), float(scale), 0, torch.qint8)
    spread = tensor(scale).reshape([-1] + [1] * (values.dim() - 1))
    zeros = torch.zeros(scale.size, dtype=torch.int64)
    return torch.quantize_per_channel(
        values * spread, tensor(scale).double(), zeros, 0, torch.qint8
    )


def _image(array: Array, scale: Array, zero: Array) -> Tensor:
    return torch._make_per_tensor_quantized_tensor(tensor(array), float(scale), int(zero))


def _bias(named: dict[str, Array], scale: Array) -> Tensor | None:
    return tensor((named["bias"] * scale).astype(np.float32)) if "bias" in named else None


def _convolution(problem: Problem, named: dict[str, Array]) -> Callable[[], Tensor] | None:
    top, bottom, left, right = problem["pad"]
    if (top, left) != (bottom, right):
        return None
    operators = torch.ops.quantized
    window = [list(problem["stride"]), [top, left], list(problem["dilation"]), problem["groups"]]
    weights = _weights(to_nchw(problem, named["w"]), named["w_scale"])
    held = operators.conv2d_prepack(
        weights.contiguous(memory_format=torch.channels_last),
        _bias(named, named["x_scale"] * named["w_scale"]),
        *window,
    )
    x = _image(to_nchw(problem, named["x"]), named["x_scale"], named["x_zero"])
    x = x.contiguous(memory_format=torch.channels_last)
    scale, zero = float(named["y_scale"]), int(named["y_zero"])
    return lambda: operators.conv2d.new(x, held, scale, zero)


def _linear(problem: Problem, named: dict[str, Array]) -> Callable[[], Tensor] | None:
    if problem["b"] != 1:
        return None
    operators = torch.ops.quantized
    b = named["b"][0] if problem.layout == "nt" else named["b"][0].T
    bias = _bias(named, named["a_scale"] * named["b_scale"])
    held = operators.linear_prepack(_weights(b, named["b_scale"]), bias)
    a = _image(named["a"][0], named["a_scale"], named["a_zero"])
    scale, zero = float(named["y_scale"]), int(named["y_zero"])
    return lambda: operators.linear(a, held, scale, zero)


def _stored(problem: Problem, answer: Tensor) -> Array:
    values: Array = answer.int_repr().contiguous().numpy()
    if problem.op.name == "qconv2d":
        return from_nchw(problem, values)
    return values.reshape(problem.output.shape)
