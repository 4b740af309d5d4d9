"""torch: a whole network as a module, eager and frozen, in both memory formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import KernelFailure
from ..graph import Graph, Node
from ..graph.nodes.windows import Window, window_of
from .libraries import Array, Variant, flat
from .networks import folded
from .torch_conv import ACTIVATIONS, Tensor, array, tensor

__all__ = ["networks"]

torch: Any = import_module("torch")
F: Any = import_module("torch.nn.functional")

Step = Callable[..., Tensor]


def networks(model: Path, inputs: dict[str, Array]) -> Iterator[Variant]:
    """Yield the network eager and frozen (``optimize_for_inference``), in two memory formats."""
    graph = folded(model, inputs)
    for label, form in (("nchw", torch.contiguous_format), ("channels_last", torch.channels_last)):
        module = _Network(graph, form).eval()
        given = [_formatted(tensor(each), form) for each in inputs.values()]
        yield _variant(f"{label} eager", module, given)
        frozen = torch.jit.freeze(torch.jit.trace(module, tuple(given)))
        yield _variant(f"{label} frozen", torch.jit.optimize_for_inference(frozen), given)


def _variant(label: str, module: Any, given: list[Tensor]) -> Variant:
    return Variant(label, lambda: module(*given), lambda ys: flat(map(array, ys)))


def _formatted(x: Tensor, form: Any) -> Tensor:
    return x.contiguous(memory_format=form) if x.dim() == 4 else x


class _Network(torch.nn.Module):  # type: ignore[misc]
    """The nodes of a Graph as calls of torch."""

    def __init__(self, graph: Graph, form: Any) -> None:
        super().__init__()
        self._graph = graph
        self._steps = [(node, _step(node, form)) for node in graph.nodes]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs."""
        found = dict(zip(self._graph.inputs, inputs, strict=True))
        for node, step in self._steps:
            given = [found[v] for v in node.inputs if v is not None and v.data is None]
            found[node.output()] = step(*given)
        return tuple(found[v].contiguous() for v in self._graph.outputs)


def _step(node: Node, form: Any) -> Step:
    makers: dict[str, Callable[[Node, Any], Step]] = {
        "Conv": _conv, "Gemm": _gemm, "MaxPool": _pool, "AveragePool": _pool,
    }  # fmt: skip
    if node.type in makers:
        return makers[node.type](node, form)
    sizes = list(node.output().sizes)
    simple: dict[str, Step] = {
        "GlobalAveragePool": lambda x: x.mean((2, 3), keepdim=True),
        "Flatten": lambda x: x.reshape(sizes),
        "Reshape": lambda x: x.reshape(sizes),
        "Transpose": lambda x: x.permute(node.get("perm", None)),
        "Concat": lambda *xs: torch.cat(xs, int(node.get("axis", 1))),
        "Add": lambda x, y: x + y,
        "Mul": lambda x, y: x * y,
        "Relu": F.relu,
        "Sigmoid": torch.sigmoid,
        "Softmax": lambda x: torch.softmax(x, int(node.get("axis", -1))),
    }
    known = node.type in simple and all(
        v is None or v.data is None or node.type == "Reshape" for v in node.inputs
    )
    if not known:
        raise KernelFailure("launch", f"node {node} is not written for torch")
    return simple[node.type]


def _parameter(node: Node, index: int) -> Tensor | None:
    if not node.has(index):
        return None
    data = node.input(index).data
    if data is None:
        raise KernelFailure("launch", f"node {node} is not written for torch")
    return tensor(np.array(data))


def _finish(node: Node) -> Step:
    text = node.get("activation", None)
    if text is None:
        return lambda y: y
    name, _, numbers = text.partition(":")
    values = [float(number) for number in numbers.split(",") if number]
    return lambda y: ACTIVATIONS[name](y, *values)


def _border(window: Window) -> list[int]:
    top, bottom, left, right = window.pad2d
    return [left, right, top, bottom]


def _conv(node: Node, form: Any) -> Step:
    w = _parameter(node, 1)
    assert w is not None
    if w.dim() != 4:
        raise KernelFailure("launch", f"node {node} is not written for torch")
    weights, bias = w.contiguous(memory_format=form), _parameter(node, 2)
    window = window_of(node, node.input(0).sizes[2:], w.shape[2:])
    even = window.before == window.after
    rest = (window.stride, window.before if even else 0, window.dilation, int(node.get("group", 1)))
    end, border = _finish(node), _border(window)

    def run(x: Tensor, *residual: Tensor) -> Tensor:
        y = F.conv2d(x if even else F.pad(x, border), weights, bias, *rest)
        return end(y + residual[0] if residual else y)

    return run


def _gemm(node: Node, form: Any) -> Step:
    w, bias, end = _parameter(node, 1), _parameter(node, 2), _finish(node)
    plain = all(node.get(name, 1.0) == 1.0 for name in ("alpha", "beta")) and w is not None
    if not plain or node.get("transA", 0) or w is None:
        raise KernelFailure("launch", f"node {node} is not written for torch")
    weights = w if node.get("transB", 0) else w.t().contiguous()
    return lambda x: end(F.linear(x, weights, bias))


def _pool(node: Node, form: Any) -> Step:
    taps, most = node.get("kernel_shape", None), node.type == "MaxPool"
    window = window_of(node, node.input(0).sizes[2:], taps, bool(node.get("ceil_mode", 0)))
    counted = bool(node.get("count_include_pad", 0))
    if len(taps) != 2 or (not most and any(window.before + window.after)):
        raise KernelFailure("launch", f"node {node} is not written for torch")
    if window.before == window.after:
        rest = (taps, window.stride, window.before)
        if most:
            return lambda x: F.max_pool2d(x, *rest, ceil_mode=bool(node.get("ceil_mode", 0)))
        return lambda x: F.avg_pool2d(x, *rest, count_include_pad=counted)
    border = _border(window)
    return lambda x: F.max_pool2d(F.pad(x, border, value=-torch.inf), taps, window.stride)
