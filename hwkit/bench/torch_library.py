"""torch, at its best: both memory formats, and weights packed for oneDNN or MKL where it can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..op import Problem
from .libraries import Array, Library, Variant, from_nchw, to_nchw
from .quantised import OPS
from .torch_conv import Tensor, array, convolutions, finish, tensor
from .torch_quantised import quantised

__all__ = ["Torch"]

# Untyped on purpose: torch is optional, and its types differ between versions.
torch: Any = import_module("torch")
F: Any = import_module("torch.nn.functional")


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
            yield from convolutions(problem, named, packed)
        elif problem.op.name == "gemm":
            yield from _products(problem, {n: tensor(a) for n, a in named.items()}, packed)
        elif problem.op.name == "matmul":
            a, b = (tensor(x) for x in operands)
            yield Variant("matmul", lambda: torch.matmul(a, b), array)
        elif problem.op.name in OPS:
            yield from quantised(problem, named, packed)
        elif "pool2d" in problem.op.name:
            yield from _pools(problem, named["x"])

    def networks(
        self, model: Path, inputs: dict[str, Array], options: dict[str, Any]
    ) -> Iterator[Variant]:
        """Yield the network as a module."""
        from .torch_network import networks

        return networks(model, inputs)


def _products(problem: Problem, named: dict[str, Tensor], packed: bool) -> Iterator[Variant]:
    a = named["a"].t() if problem.layout[0] == "t" else named["a"]
    b = named["b"].t() if problem.layout[1] == "t" else named["b"]
    alpha, beta, bias, c = problem["alpha"], problem["beta"], named.get("bias"), named.get("c")
    end = finish(problem, named.get("residual"))
    if c is not None and bias is not None:
        yield Variant(
            "addmm", lambda: end(torch.addmm(c, a, b, beta=beta, alpha=alpha).add_(bias)), array
        )
    elif c is not None or bias is not None:
        added, factor = (c, beta) if c is not None else (bias, 1.0)
        yield Variant(
            "addmm", lambda: end(torch.addmm(added, a, b, beta=factor, alpha=alpha)), array
        )
    elif alpha == 1.0:
        out = torch.empty(problem.output.shape, dtype=a.dtype)
        yield Variant("mm", lambda: end(torch.mm(a, b, out=out)), array)
    else:
        yield Variant("mm", lambda: end(torch.mm(a, b).mul_(alpha)), array)
    if packed and c is None and alpha == 1.0 and a.dtype == torch.float32:
        yield from _packed_products(a, b, bias, end)


def _packed_products(
    a: Tensor, b: Tensor, bias: Tensor | None, end: Callable[[Tensor], Tensor]
) -> Iterator[Variant]:
    weights, rows = b.t().contiguous(), a.shape[0]
    try:
        mkl = torch.ops.mkl._mkl_linear
        held = torch.ops.mkl._mkl_reorder_linear_weight(weights, rows)
        yield Variant("MKL packed", lambda: end(mkl(a, held, weights, bias, rows)), array)
    except (AttributeError, RuntimeError):
        pass
    try:
        onednn = torch.ops.mkldnn._linear_pointwise
        kept = torch.ops.mkldnn._reorder_linear_weight(weights, rows)
        yield Variant("oneDNN packed", lambda: end(onednn(a, kept, bias, "none", [], "")), array)
    except (AttributeError, RuntimeError):
        pass


def _pools(problem: Problem, images: Array) -> Iterator[Variant]:
    run = _pool(problem)
    if run is None:
        return
    for label, form in (("nchw", torch.contiguous_format), ("channels_last", torch.channels_last)):
        x = tensor(to_nchw(problem, images)).contiguous(memory_format=form)
        yield Variant(label, partial(run, x), lambda y: from_nchw(problem, array(y.contiguous())))
    if images.dtype == np.float32 and problem.op.name != "global_max_pool2d":
        own = tensor(to_nchw(problem, images)).to_mkldnn()
        yield Variant(
            "oneDNN's layout", partial(run, own), lambda y: from_nchw(problem, array(y.to_dense()))
        )


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
