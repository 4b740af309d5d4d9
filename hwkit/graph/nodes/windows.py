"""Sizes and padding of sliding windows in any number of dimensions, as ONNX writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...errors import ArgumentError
from ..ir import Array, Node, check_bytes

__all__ = ["Window", "all_meet", "padded", "taps_of", "window_of"]


class Window(NamedTuple):
    """Windows over the spatial axes.

    Attributes:
        taps: sizes of the window.
        stride: distance of windows.
        dilation: distance of the elements of a window.
        before: padding before each axis.
        after: padding after each axis.
        size: number of windows along each axis.
    """

    taps: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    size: tuple[int, ...]

    @property
    def pad2d(self) -> tuple[int, int, int, int]:
        """Padding as hwkit's operators take it; a missing first axis has none."""
        before, after = _two(self.before, 0), _two(self.after, 0)
        return before[0], after[0], before[1], after[1]

    def pair(self, values: tuple[int, ...]) -> tuple[int, int]:
        """Return one or two values as two."""
        return _two(values, 1)


def _two(values: tuple[int, ...], default: int) -> tuple[int, int]:
    full = (default,) * (2 - len(values)) + tuple(values)
    return full[0], full[1]


def window_of(node: Node, image: Sequence[int], taps: Sequence[int], ceil: bool = False) -> Window:
    """Return the windows of a node over an image of these spatial sizes.

    Raises:
        ArgumentError: the attributes do not fit the image.
    """
    rank = len(image)
    stride = tuple(node.get("strides", None) or (1,) * rank)
    dilation = tuple(node.get("dilations", None) or (1,) * rank)
    pads = tuple(node.get("pads", None) or (0,) * 2 * rank)
    lengths = {len(taps), len(stride), len(dilation), len(pads) // 2}
    if lengths != {rank} or len(pads) % 2 or min((*taps, *stride, *dilation), default=1) < 1:
        raise ArgumentError(
            f"node {node} has windows {tuple(taps)}, strides {stride}, dilations {dilation} and "
            f"pads {pads}, which do not fit an image of {rank} axes"
        )
    if max((*taps, *stride, *dilation, *map(abs, pads)), default=1) >= 2**31:
        raise ArgumentError(f"node {node} has absurd windows or pads")
    before, after = pads[:rank], pads[rank:]
    mode = node.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max((-(-i // s) - 1) * s + d * (t - 1) + 1 - i, 0)
            for i, s, d, t in zip(image, stride, dilation, taps, strict=True)
        ]
        small, large = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
    elif mode == "VALID":
        before = after = (0,) * rank
    size = tuple(
        _count(i + b + a - d * (t - 1) - 1, s, i + b, ceil and mode == "NOTSET")
        for i, b, a, d, t, s in zip(image, before, after, dilation, taps, stride, strict=True)
    )
    if min(size, default=1) < 1:
        raise ArgumentError(f"node {node} has windows larger than its padded image {tuple(image)}")
    return Window(tuple(taps), stride, dilation, before, after, size)


def _count(span: int, stride: int, inside: int, ceil: bool) -> int:
    last = span + (stride - 1 if ceil else 0)  # rounded up, a window may reach beyond the image
    if last < 0:
        return 0
    count = last // stride + 1
    return count - 1 if ceil and (count - 1) * stride >= inside else count


def all_meet(node: Node) -> bool:
    """Whether all windows of a pool meet its image; the greatest of mere padding is -inf."""
    taps = node.get("kernel_shape", None) or ()
    pads = node.get("pads", None) or (0,) * 2 * len(taps)
    dense = all(d == 1 for d in node.get("dilations", None) or ())
    return dense and all(p < t for p, t in zip(pads, (*taps, *taps), strict=True))


def padded(x: Array, window: Window, fill: Any, limit: int = 1 << 40) -> Array:
    """Return ``(n, c, ...)`` with ``fill`` around it, as far as the windows reach."""
    reach = [
        max((o - 1) * s + d * (t - 1) + 1, b + i)
        for o, s, d, t, b, i in zip(
            window.size, window.stride, window.dilation, window.taps, window.before, x.shape[2:],
            strict=True,
        )
    ]  # fmt: skip
    check_bytes((*x.shape[:2], *reach), x.dtype.itemsize, limit, "a padded image")
    found = np.full((*x.shape[:2], *reach), fill, x.dtype)
    inner = [slice(b, b + i) for b, i in zip(window.before, x.shape[2:], strict=True)]
    place = (slice(None), slice(None), *inner)
    found[place] = x
    return found


def taps_of(image: Array, window: Window) -> list[Array]:
    """Return a view of a padded image for each element of the window, the last axis fastest."""
    views = []
    for place in np.ndindex(*window.taps):
        parts = [
            slice(t * d, t * d + (o - 1) * s + 1, s)
            for t, d, o, s in zip(place, window.dilation, window.size, window.stride, strict=True)
        ]
        index = (slice(None), slice(None), *parts)
        views.append(image[index])
    return views
