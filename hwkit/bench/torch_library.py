"""torch, at its best: both memory formats, and weights packed for oneDNN or MKL where it can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from ..op import Problem
from .libraries import Array, Library, Variant, from_nchw, to_nchw

__all__ = ["Torch"]

# Untyped on purpose: torch is optional, and its types differ between versions.
torch: Any = import_module("torch")
F: Any = import_module("torch.nn.functional")

Tensor = Any

_ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "relu": F.relu_,
    "relu6": lambda y: F.relu6(y, inplace=True),
    "leaky_relu": F.leaky_relu_,
    "sigmoid": torch.sigmoid_,
    "hard_swish": lambda y: F.hardswish(y, inplace=True),
    "silu": lambda y: F.silu(y, inplace=True),
    "clip": torch.clamp_,
}


class Torch(Library):
    """torch on the CPU, without gradients."""

    name = "torch"

    def __init__(self, threads: int) -> None:
        self.version = str(torch.__version__)
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        torch.set_grad_enabled(False)

    def variants(
        self, problem: Problem, operands: tuple[Array, ...], packed: bool
    ) -> Iterator[Variant]:
        """Yield both memory formats and the packed forms."""
        named = {
            operand.name: array for operand, array in zip(problem.operands, operands, strict=True)
        }
        if problem.op.name == "conv2d":
            yield from _convolutions(problem, named, packed)
        elif problem.op.name == "gemm":
            yield from _products(problem, {n: _tensor(a) for n, a in named.items()}, packed)
        elif problem.op.name == "matmul":
            a, b = (_tensor(x) for x in operands)
            yield Variant("matmul", lambda: torch.matmul(a, b), _array)
        elif "pool2d" in problem.op.name:
            yield from _pools(problem, named["x"])


def _tensor(array: Array) -> Tensor:
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(np.ascontiguousarray(array).view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.ascontiguousarray(array))


def _array(tensor: Tensor) -> Array:
    found: Array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return found


def _finish(problem: Problem, residual: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Return what torch does behind the operator itself, in place."""
    if problem.activation is None:
        return (lambda y: y) if residual is None else (lambda y: y.add_(residual))
    name, parameters = problem.activation
    act = _ACTIVATIONS[name]
    if residual is None:
        return lambda y: act(y, *parameters)
    return lambda y: act(y.add_(residual), *parameters)


def _convolutions(problem: Problem, named: dict[str, Array], packed: bool) -> Iterator[Variant]:
    top, bottom, left, right = problem["pad"]
    even = top == bottom and left == right
    numbers = (problem["stride"], (top, left) if even else (0, 0), problem["dilation"])
    bias = _tensor(named["bias"]) if "bias" in named else None

    def result(y: Tensor) -> Array:
        return from_nchw(problem, _array(y.contiguous()))

    for label, form in (("nchw", torch.contiguous_format), ("channels_last", torch.channels_last)):
        x, w = (
            _tensor(to_nchw(problem, named[name])).contiguous(memory_format=form)
            for name in ("x", "w")
        )
        rest = named.get("residual")
        end = _finish(
            problem,
            None
            if rest is None
            else _tensor(to_nchw(problem, rest)).contiguous(memory_format=form),
        )
        wide = (lambda x=x: x) if even else (lambda x=x: F.pad(x, (left, right, top, bottom)))
        yield Variant(label, _plain_conv(wide, w, bias, numbers, problem["groups"], end), result)
        if packed and x.dtype in (torch.float32, torch.bfloat16):
            run = _packed_conv(wide, w, bias, numbers, problem["groups"], end)
            if run is not None:
                yield Variant(f"{label} packed", run, result)


def _plain_conv(
    x: Callable[[], Tensor],
    w: Tensor,
    bias: Tensor | None,
    numbers: tuple[Any, Any, Any],
    groups: int,
    end: Callable[[Tensor], Tensor],
) -> Callable[[], Tensor]:
    return lambda: end(F.conv2d(x(), w, bias, *numbers, groups))


def _packed_conv(
    x: Callable[[], Tensor],
    w: Tensor,
    bias: Tensor | None,
    numbers: tuple[Any, Any, Any],
    groups: int,
    end: Callable[[Tensor], Tensor],
) -> Callable[[], Tensor] | None:
    """Return a convolution with weights in oneDNN's own layout, or ``None`` without oneDNN."""
    stride, pad, dilation = map(list, numbers)
    try:
        conv = torch.ops.mkldnn._convolution_pointwise
        weights = torch.ops.mkldnn._reorder_convolution_weight(
            w, pad, stride, dilation, groups, list(x().shape)
        )
    except (AttributeError, RuntimeError):
        return None
    return lambda: end(conv(x(), weights, bias, pad, stride, dilation, groups, "none", [], ""))


def _products(problem: Problem, named: dict[str, Tensor], packed: bool) -> Iterator[Variant]:
    a = named["a"].t() if problem.layout[0] == "t" else named["a"]
    b = named["b"].t() if problem.layout[1] == "t" else named["b"]
    alpha, beta, bias, c = problem["alpha"], problem["beta"], named.get("bias"), named.get("c")
    end = _finish(problem, named.get("residual"))
    if c is not None and bias is not None:
        yield Variant(
            "addmm", lambda: end(torch.addmm(c, a, b, beta=beta, alpha=alpha).add_(bias)), _array
        )
    elif c is not None or bias is not None:
        added, factor = (c, beta) if c is not None else (bias, 1.0)
        yield Variant(
            "addmm", lambda: end(torch.addmm(added, a, b, beta=factor, alpha=alpha)), _array
        )
    elif alpha == 1.0:
        out = torch.empty(problem.output.shape, dtype=a.dtype)
        yield Variant("mm", lambda: end(torch.mm(a, b, out=out)), _array)
    else:
        yield Variant("mm", lambda: end(torch.mm(a, b).mul_(alpha)), _array)
    if packed and c is None and alpha == 1.0 and a.dtype == torch.float32:
        yield from _packed_products(a, b, bias, end)


def _packed_products(
    a: Tensor, b: Tensor, bias: Tensor | None, end: Callable[[Tensor], Tensor]
) -> Iterator[Variant]:
    weights, rows = b.t().contiguous(), a.shape[0]
    try:
        mkl = torch.ops.mkl._mkl_linear
        held = torch.ops.mkl._mkl_reorder_linear_weight(weights, rows)
        yield Variant("MKL packed", lambda: end(mkl(a, held, weights, bias, rows)), _array)
    except (AttributeError, RuntimeError):
        pass
    try:
        onednn = torch.ops.mkldnn._linear_pointwise
        kept = torch.ops.mkldnn._reorder_linear_weight(weights, rows)
        yield Variant("oneDNN packed", lambda: end(onednn(a, kept, bias, "none", [], "")), _array)
    except (AttributeError, RuntimeError):
        pass


def _pools(problem: Problem, images: Array) -> Iterator[Variant]:
    run = _pool(problem)
    if run is None:
        return
    for label, form in (("nchw", torch.contiguous_format), ("channels_last", torch.channels_last)):
        x = _tensor(to_nchw(problem, images)).contiguous(memory_format=form)
        yield Variant(label, partial(run, x), lambda y: from_nchw(problem, _array(y.contiguous())))


def _pool(problem: Problem) -> Callable[[Tensor], Tensor] | None:
    name = problem.op.name
    if name == "global_avg_pool2d":
        return lambda x: F.adaptive_avg_pool2d(x, 1)
    if name == "global_max_pool2d":
        return lambda x: F.adaptive_max_pool2d(x, 1)
    top, bottom, left, right = problem["pad"]
    kernel, stride = (problem["r"], problem["s"]), problem["stride"]
    if top != bottom or left != right:
        return None
    if name == "max_pool2d":
        return lambda x: F.max_pool2d(
            x, kernel, stride, (top, left), problem["dilation"], problem["ceil_mode"]
        )
    if name == "avg_pool2d" and problem.attributes.get("dilation", (1, 1)) == (1, 1):
        return lambda x: F.avg_pool2d(
            x, kernel, stride, (top, left), problem["ceil_mode"], problem["count_include_pad"]
        )
    return None
