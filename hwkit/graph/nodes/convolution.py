"""Conv and ConvTranspose in one, two and three dimensions, on the Ops conv2d and gemm.

Passes add to a node: the attribute ``layout`` ("nhwc": image, weights and result have their
channels last), ``activation`` (as of :func:`hwkit.ops.conv2d`), and a fourth input, the residual.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...arrays import Spec
from ...dtypes import widened
from ...errors import ArgumentError
from ...plans import Plan
from ..ir import Array, Node, check_bytes
from ..nodetype import Built, NodeType, Setting, Spec2
from .windows import Window, taps_of, window_of

__all__ = ["Conv", "ConvTranspose", "apart", "call_plan", "node_types", "spatial"]


def spatial(node: Node, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the sizes of an image without batch and channels."""
    last = node.get("layout", "nchw") == "nhwc"
    return tuple(shape[1:-1] if last else shape[2:])


def call_plan(
    plan: Plan, shapes: Sequence[tuple[int, ...]] = ()
) -> Callable[..., Callable[[], Any]]:
    """Return a bind that calls a Plan on its arrays, reshaped to what it takes."""
    wanted = [operand.shape for operand in plan.operands]
    result = plan.problem.output.shape

    def bind(ins: Sequence[Array], outs: Sequence[Array]) -> Callable[[], Any]:
        given = [a.reshape(shape) for a, shape in zip(ins, wanted, strict=True)]
        return partial(plan, *given, out=outs[0].reshape(result))

    return bind


def apart(node: Node, built: Built) -> Built:
    """Return a Built that :func:`call_plan` bound with what may be part of wider arrays."""
    plan = built.plans[0]
    return built._replace(
        x_apart=plan.x_apart and plan.operands[0].shape == node.input(0).sizes,
        out_apart=plan.out_apart and plan.problem.output.shape == node.output().sizes,
    )


class Conv(NodeType):
    """Convolution; weights and bias that are known are packed once."""

    types = ("Conv",)

    def infer(self, node: Node, setting: Setting) -> list[Spec2]:
        """Return the shape of the result."""
        window = self._window(node)
        x, w = node.input(0), node.input(1)
        if node.get("layout", "nchw") == "nhwc":
            return [((x.sizes[0], *window.size, w.sizes[0]), x.kind)]
        return [((x.sizes[0], w.sizes[0], *window.size), x.kind)]

    def _window(self, node: Node) -> Window:
        x, w = node.input(0), node.input(1)
        taps = spatial(node, w.sizes)
        if len(x.sizes) != len(w.sizes) or not 1 <= len(taps) <= 3 or 0 in w.sizes:
            raise ArgumentError(
                f"node {node} convolves an image of shape {x.sizes} with weights of {w.sizes}: "
                "hwkit does so in one, two or three dimensions"
            )
        return window_of(node, spatial(node, x.sizes), taps)

    def build(self, node: Node, setting: Setting) -> Built:
        """Plan, and pack what is known."""
        window = self._window(node)
        if len(window.taps) == 3:
            return self._volume(node, setting, window)
        shapes = [_flat(v.sizes) for v in (node.input(0), node.input(1))]
        residual = node.inputs[3] if node.has(3) else None
        plan = setting.plan(
            "conv2d",
            *(Spec(s, node.input(0).kind) for s in shapes),
            Spec(node.input(2).sizes, node.input(0).kind) if node.has(2) else None,
            None if residual is None else Spec(_flat(residual.sizes), residual.kind),
            packed=all(node.input(i).data is not None for i in (1, 2) if node.has(i)),
            **self._arguments(node, window),
        )
        return apart(node, _packed(node, plan, [1, 2], shapes[1]))

    def _arguments(self, node: Node, window: Window) -> dict[str, Any]:
        return {
            "stride": window.pair(window.stride),
            "padding": window.pad2d,
            "dilation": window.pair(window.dilation),
            "groups": int(node.get("group", 1)),
            "layout": node.get("layout", "nchw"),
            "activation": node.get("activation", None),
        }

    def _volume(self, node: Node, setting: Setting, window: Window) -> Built:
        """Three dimensions: the planes that a window meets become channels of one conv2d."""
        x, w = node.input(0), node.input(1)
        n, c, _, height, width = x.sizes
        depth, frames = window.taps[0], window.size[0]
        k, per_group = w.sizes[:2]
        check_bytes((n, frames, c, depth, height, width), x.kind.itemsize, setting.limit, str(node))
        flat = Window(*(v[1:] for v in window))
        plan = setting.plan(
            "conv2d",
            Spec((n * frames, c * depth, height, width), x.kind),
            Spec((k, per_group * depth, *window.taps[1:]), x.kind),
            Spec((k,), x.kind) if node.has(2) else None,
            **self._arguments(node, flat),
        )

        def bind(ins: Sequence[Array], outs: Sequence[Array]) -> Callable[[], Any]:
            weights = ins[1].reshape(k, per_group * depth, *window.taps[1:])

            def run() -> None:
                planes = _planes(ins[0], window)
                y = plan(planes, weights, *ins[2:])
                y = y.reshape(n, frames, k, *window.size[1:])
                np.copyto(outs[0], y.transpose(0, 2, 1, 3, 4))

            return run

        return Built(bind, (plan,))


def _planes(x: Array, window: Window) -> Array:
    """Return (n * frames, c * depth, h, w): for each result plane the planes under the window."""
    n, c, size, height, width = x.shape
    frames, depth = window.size[0], window.taps[0]
    found = np.zeros((n, frames, c, depth, height, width), x.dtype)
    for frame in range(frames):
        for tap in range(depth):
            place = frame * window.stride[0] + tap * window.dilation[0] - window.before[0]
            if 0 <= place < size:
                found[:, frame, :, tap] = x[:, :, place]
    return found.reshape(n * frames, c * depth, height, width)


def _flat(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return (n, c, l) as (n, c, 1, l)."""
    return (*shape[:2], 1, shape[2]) if len(shape) == 3 else shape


def _packed(node: Node, plan: Plan, constants: list[int], shape: tuple[int, ...]) -> Built:
    """Return the plan, with its constants packed if all of them are known."""
    given = [node.input(i) for i in constants if node.has(i)]
    if any(value.data is None for value in given):
        return Built(call_plan(plan), (plan,))
    arrays = [value.data for value in given if value.data is not None]
    held = plan.prepack(arrays[0].reshape(shape), *arrays[1:])
    bind = call_plan(held)
    drop = [sum(v is not None for v in node.inputs[:i]) for i in constants if node.has(i)]

    def without(ins: Sequence[Array], outs: Sequence[Array]) -> Callable[[], Any]:
        return bind([a for i, a in enumerate(ins) if i not in drop], outs)

    return Built(without, (held,), tuple(i for i in constants if node.has(i)))


class ConvTranspose(NodeType):
    """Transposed convolution: one product of weights and pixels, then a sum of shifted images."""

    types = ("ConvTranspose",)

    def infer(self, node: Node, setting: Setting) -> list[Spec2]:
        """Return the shape of the result."""
        size, _ = self.sizes(node)
        x, w = node.input(0), node.input(1)
        channels = w.sizes[1] * int(node.get("group", 1))
        shape = (x.sizes[0], channels, *size)
        check_bytes(
            (math.prod(w.sizes[1:]) * int(node.get("group", 1)), math.prod(x.sizes[2:])),
            x.kind.itemsize, setting.limit, f"the products of node {node}",
        )  # fmt: skip
        return [(shape, x.kind)]

    def sizes(self, node: Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the sizes of the result, and the padding cut away before each axis.

        Raises:
            ArgumentError: the weights or attributes do not fit the image.
        """
        x, w = node.input(0), node.input(1)
        image, taps, rank = x.sizes[2:], w.sizes[2:], len(x.sizes) - 2
        groups = int(node.get("group", 1))
        if len(w.sizes) != rank + 2 or rank < 1 or groups < 1 or w.sizes[0] != x.sizes[1]:
            raise ArgumentError(
                f"node {node} has weights {w.sizes}, which do not fit the image {x.sizes}"
            )
        stride = node.get("strides", None) or [1] * rank
        dilation = node.get("dilations", None) or [1] * rank
        more = node.get("output_padding", None) or [0] * rank
        pads = node.get("pads", None) or [0] * 2 * rank
        if {len(stride), len(dilation), len(more), len(pads) // 2} != {rank} or min(stride) < 1:
            raise ArgumentError(f"node {node} has attributes for another number of axes")
        full = [
            s * (i - 1) + m + (t - 1) * d + 1
            for s, i, m, t, d in zip(stride, image, more, taps, dilation, strict=True)
        ]
        wanted = node.get("output_shape", None)
        mode = node.get("auto_pad", "NOTSET")
        # As ONNX's text says; where windows are smaller than strides, onnxruntime and ONNX's shape
        # inference leave away what lies behind the last window.
        if wanted is None and mode.startswith("SAME"):
            wanted = [i * s for i, s in zip(image, stride, strict=True)]
        if wanted is None:
            sizes = [f - pads[i] - pads[rank + i] for i, f in enumerate(full)]
            return tuple(sizes), tuple(pads[:rank])
        wanted = list(wanted)[-rank:]
        total = [max(f - s, 0) for f, s in zip(full, wanted, strict=True)]
        before = [t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in total]
        return tuple(wanted), tuple(before)

    def build(self, node: Node, setting: Setting) -> Built:
        """Plan the product, by group."""
        size, before = self.sizes(node)
        x, w = node.input(0), node.input(1)
        groups = int(node.get("group", 1))
        depth, pixels = x.sizes[1] // groups, math.prod(x.sizes[2:])
        rows = math.prod(w.sizes[1:])
        gemm = setting.plan(
            "gemm", Spec((depth, rows), x.kind), Spec((depth, pixels), x.kind), transpose_a=True
        )
        rank = len(size)
        stride = tuple(node.get("strides", None) or (1,) * rank)
        dilation = tuple(node.get("dilations", None) or (1,) * rank)
        # As wide as the products reach, the padding still there.
        taps, image = w.sizes[2:], x.sizes[2:]
        reach = tuple(
            max(s * (i - 1) + d * (t - 1) + 1, b + o)
            for s, i, d, t, b, o in zip(stride, image, dilation, taps, before, size, strict=True)
        )
        window = Window(taps, stride, dilation, (0,) * rank, (0,) * rank, image)

        def bind(ins: Sequence[Array], outs: Sequence[Array]) -> Callable[[], Any]:
            return partial(_scatter, node, gemm, window, reach, before, list(ins), outs[0], groups)

        return Built(bind, (gemm,))


def _scatter(
    node: Node,
    gemm: Plan,
    window: Window,
    reach: tuple[int, ...],
    before: tuple[int, ...],
    ins: list[Array],
    out: Array,
    groups: int,
) -> None:
    x, w = ins[:2]
    n, c = x.shape[:2]
    per_group = w.shape[1]
    # Products overlap: float16 and bfloat16 are added up in float32.
    full = widened(np.zeros((n, groups * per_group, *reach), x.dtype))
    weights = w.reshape(groups, c // groups, -1)
    for image in range(n):
        for group in range(groups):
            part = slice(group * (c // groups), (group + 1) * (c // groups))
            pixels = x[image, part].reshape(c // groups, -1)
            products = gemm(weights[group], pixels)
            products = products.reshape(per_group, math.prod(window.taps), *window.size)
            place = slice(group * per_group, (group + 1) * per_group)
            part_of = full[image : image + 1, place]
            for tap, view in enumerate(taps_of(part_of, window)):
                view[0] += products[:, tap]
    # What lies beyond the products is the bias alone.
    bias = np.zeros(1, x.dtype) if len(ins) < 3 else ins[2]
    bias = bias.reshape(-1, *(1,) * len(window.taps))
    full += bias
    out[...] = bias
    sizes = [min(o, r - b) for o, r, b in zip(out.shape[2:], reach, before, strict=True)]
    whole = (slice(None), slice(None))
    target = (*whole, *(slice(0, size) for size in sizes))
    source = (*whole, *(slice(b, b + size) for b, size in zip(before, sizes, strict=True)))
    out[target] = full[source]


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [Conv(), ConvTranspose()]
