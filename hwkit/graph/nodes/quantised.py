"""Quantised convolutions and products: exact sums of whole numbers, then one rounding.

Convolutions of one and two dimensions and products run by the Ops qconv2d and qmatmul, in the
integer kernels. What these do not have, as volumes and zero points by row, runs in float64, where
sums of products of two bytes are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ...dtypes import is_float
from ...errors import ArgumentError
from ...ops import qconv2d, qmatmul
from ..ir import Array, Node, Value, check_bytes
from ..nodetype import Built, Glue, NodeType, Setting, Spec2
from .convolution import Conv, _flat
from .products import product_shape
from .scaling import to_range
from .windows import window_of

__all__ = ["node_types"]

_BYTES = ("int8", "uint8")


def _rows_or_columns(zero: Array | None, rows: bool) -> Any:
    """Return the zero point of a matrix: one number, or one a row (or column)."""
    if zero is None:
        return np.float64(0)
    wide = zero.astype(np.float64)
    if zero.ndim == 0 or zero.size == 1:
        return wide.reshape(())
    return wide.reshape(*zero.shape, 1) if rows and zero.ndim == 1 else wide


def _number(parameter: Array) -> Array:
    """Return a scale or zero point of one element as a scalar, scales as float32."""
    found = parameter.reshape(()) if parameter.size == 1 else parameter
    return found.astype(np.float32) if is_float(found.dtype) else found


def _by_kernel(a: Array, b: Array, *parameters: Array | None) -> bool:
    """Whether qmatmul takes these: matrices of bytes, and parameters by tensor or column of b."""
    bytes_only = a.dtype.name in _BYTES and b.dtype.name in _BYTES and min(a.ndim, b.ndim) >= 2
    left, right = parameters[::2], parameters[1::2]
    single = all(p is None or p.size == 1 for p in left)
    return bytes_only and single and all(p is None or p.ndim <= 1 for p in right)


def _matmul_integer(
    node: Node, a: Array, b: Array, za: Array | None = None, zb: Array | None = None
) -> Any:
    if _by_kernel(a, b, za, zb):
        zeros = [None if z is None else _number(z) for z in (za, zb)]
        return qmatmul(a, b, a_zero=zeros[0], b_zero=zeros[1])
    left = a.astype(np.float64) - _rows_or_columns(za, True)
    right = b.astype(np.float64) - _rows_or_columns(zb, False)
    return np.matmul(left, right).astype(np.int64).astype(np.int32)


def _qlinear_matmul(
    node: Node, a: Array, sa: Array, za: Array, b: Array, sb: Array, zb: Array, sy: Array, zy: Array
) -> Any:
    if _by_kernel(a, b, za, zb, sa, sb) and sy.size == zy.size == 1:
        given = [_number(p) for p in (sa, za, sb, zb, sy, zy)]
        return qmatmul(
            a, b, a_scale=given[0], a_zero=given[1], b_scale=given[2], b_zero=given[3],
            y_scale=given[4], y_zero=given[5],
        )  # fmt: skip
    left = a.astype(np.float64) - _rows_or_columns(za, True)
    right = b.astype(np.float64) - _rows_or_columns(zb, False)
    scale = _rows_or_columns(sa, True) * _rows_or_columns(sb, False) / sy.astype(np.float64)
    return to_range(np.rint(np.matmul(left, right) * scale) + zy.astype(np.float64), zy.dtype)


def _qlinear_matmul_shape(node: Node, limit: int) -> list[Spec2]:
    # Not by a try on zeros: a scale of zero is refused.
    shape, kind = product_shape(node.input(0), node.input(3)), node.input(7).kind
    check_bytes(shape, kind.itemsize, limit, f"the result of node {node}")
    return [(shape, kind)]


class _IntegerConv(NodeType):
    """What ConvInteger and QLinearConv share: the convolution of numbers without zero point."""

    def _parts(self, node: Node) -> dict[str, Value | None]:
        raise NotImplementedError

    def _plain(self, node: Node) -> Node:
        """Return the convolution as a Conv of float64."""
        parts = self._parts(node)
        wide = []
        for name in ("x", "w"):
            value = parts[name]
            if value is None or value.kind.name not in _BYTES:
                raise ArgumentError(f"node {node} needs bytes for its image and weights")
            wide.append(Value(value.name, value.shape, np.dtype(np.float64)))
        out = Value(node.output().name, None, np.dtype(np.float64))
        return replace(node, type="Conv", inputs=[*wide], outputs=[out])

    def infer(self, node: Node, setting: Setting) -> list[Spec2]:
        """Return the shape of the convolution."""
        ((shape, _),) = Conv().infer(self._plain(node), setting)
        return [(shape, self._output(node))]

    def _output(self, node: Node) -> np.dtype[Any]:
        return np.dtype(np.int32)

    def _kernel(
        self, node: Node, setting: Setting, x: Array, w: Array, out: Array, **more: Any
    ) -> Callable[[], Any]:
        """Return the call of qconv2d that writes ``out``."""
        window = window_of(node, x.shape[2:], w.shape[2:])
        return partial(
            qconv2d, x.reshape(_flat(x.shape)), w.reshape(_flat(w.shape)),
            stride=window.pair(window.stride), padding=window.pad2d,
            dilation=window.pair(window.dilation), groups=int(node.get("group", 1)),
            out=out.reshape(_flat(out.shape)), device=setting.device, **more,
        )  # fmt: skip

    def _convolve(self, node: Node, setting: Setting) -> tuple[Callable[..., Array], Built]:
        """Return a function of image, weights and their zero points that gives exact sums."""
        plain = self._plain(node)
        built = Conv().build(plain, setting)
        ((shape, _),) = Conv().infer(plain, setting)

        def sums(x: Array, w: Array, zx: Array | None, zw: Array | None) -> Array:
            left = x.astype(np.float64) - (0.0 if zx is None else zx.astype(np.float64).reshape(()))
            right = w.astype(np.float64)
            if zw is not None:
                channels = zw.astype(np.float64).reshape(-1, *(1,) * (w.ndim - 1))
                right = right - channels
            found = np.empty(shape)
            built.bind([left, np.ascontiguousarray(right)], [found])()
            return np.rint(found)

        return sums, built


class ConvInteger(_IntegerConv):
    """Sums of bytes as int32."""

    types = ("ConvInteger",)

    def _parts(self, node: Node) -> dict[str, Value | None]:
        return {"x": node.input(0), "w": node.input(1)}

    def build(self, node: Node, setting: Setting) -> Built:
        """Return the call of the integer kernel, or plan exact sums in float64."""
        if len(node.input(0).sizes) <= 4:

            def call(ins: Sequence[Array], outs: Sequence[Array]) -> Callable[[], Any]:
                given = iter(ins[2:])
                zeros = [_number(next(given)) if node.has(i) else None for i in (2, 3)]
                return self._kernel(
                    node, setting, ins[0], ins[1], outs[0], x_zero=zeros[0], w_zero=zeros[1]
                )

            return Built(call)
        sums, built = self._convolve(node, setting)

        def bind(ins: Sequence[Array], outs: Sequence[Array]) -> Callable[[], Any]:
            given = iter(ins[2:])
            zx, zw = (next(given) if node.has(i) else None for i in (2, 3))
            return lambda: np.copyto(outs[0], sums(ins[0], ins[1], zx, zw), casting="unsafe")

        return Built(bind, built.plans)


class QLinearConv(_IntegerConv):
    """Bytes in, bytes out, with a scale and a zero point each."""

    types = ("QLinearConv",)

    def _parts(self, node: Node) -> dict[str, Value | None]:
        return {"x": node.input(0), "w": node.input(3)}

    def _output(self, node: Node) -> np.dtype[Any]:
        return node.input(7).kind

    def build(self, node: Node, setting: Setting) -> Built:
        """Return the call of the integer kernel, or plan exact sums in float64."""
        if len(node.input(0).sizes) <= 4:

            def call(ins: Sequence[Array], outs: Sequence[Array]) -> Callable[[], Any]:
                x, sx, zx, w, sw, zw, sy, zy, *bias = ins
                return self._kernel(
                    node, setting, x, w, outs[0], bias=bias[0] if bias else None,
                    x_scale=_number(sx), x_zero=_number(zx), w_scale=_number(sw),
                    w_zero=_number(zw), y_scale=_number(sy), y_zero=_number(zy),
                )  # fmt: skip

            return Built(call)
        sums, built = self._convolve(node, setting)

        def bind(ins: Sequence[Array], outs: Sequence[Array]) -> Callable[[], Any]:
            x, sx, zx, w, sw, zw, sy, zy, *bias = ins
            shape = (-1, *(1,) * (x.ndim - 2))

            def run() -> None:
                total = sums(x, w, zx, zw)
                if bias:
                    total = total + bias[0].reshape(shape)
                scale = sx.astype(np.float64) * sw.astype(np.float64) / sy.astype(np.float64)
                total = np.rint(total * scale.reshape(shape)) + zy.astype(np.float64)
                np.copyto(outs[0], to_range(total, outs[0].dtype))

            return run

        return Built(bind, built.plans)


def node_types() -> list[NodeType]:
    """Return the node types of this module."""
    return [
        ConvInteger(),
        QLinearConv(),
        Glue("MatMulInteger", function=_matmul_integer),
        Glue("QLinearMatMul", function=_qlinear_matmul, shapes=_qlinear_matmul_shape),
    ]
