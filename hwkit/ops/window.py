"""Sliding windows, shared by convolution and pooling: padding, output sizes, taps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Union

import numpy as np

from ..errors import ArgumentError, shown
from ..op import Problem

__all__ = [
    "LAYOUTS",
    "Padding",
    "check_window",
    "from_nchw",
    "image_shape",
    "is_whole",
    "output_size",
    "pad_image",
    "padding_of",
    "pair",
    "taps",
    "to_nchw",
]

Array = np.ndarray[Any, Any]
Padding = Union[int, str, tuple[Any, ...]]

LAYOUTS = ("nchw", "nhwc")
_MAX = 2**63 - 1
_FORMS = (
    "a whole number, (y, x), (top, bottom, left, right), ((top, bottom), (left, right)), "
    "'valid', 'same' or 'same_lower'"
)


def image_shape(layout: str, n: int, c: int, h: int, w: int) -> tuple[int, int, int, int]:
    """Return the shape of an image in ``layout``."""
    return (n, c, h, w) if layout == "nchw" else (n, h, w, c)


def to_nchw(layout: str, array: Array) -> Array:
    """Return a view with the sizes in the order n, c, h, w (for weights k, c, r, s)."""
    return array if layout == "nchw" else array.transpose(0, 3, 1, 2)


def from_nchw(layout: str, array: Array) -> Array:
    """Return the opposite of :func:`to_nchw`, contiguous."""
    return np.ascontiguousarray(array if layout == "nchw" else array.transpose(0, 2, 3, 1))


def is_whole(value: object) -> bool:
    """Whether ``value`` is a whole number of Python or numpy, and no bool."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def pair(name: str, value: Any, least: int = 1) -> tuple[int, int]:
    """Return ``value`` as ``(y, x)``.

    Raises:
        ArgumentError: it is neither a whole number nor two, or below ``least``.
    """
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2 or not all(is_whole(v) and v >= least for v in values):
        raise ArgumentError(
            f"{name}={shown(value)} must be a whole number of at least {least}, "
            "or a pair (y, x) of them"
        )
    return int(values[0]), int(values[1])


def padding_of(
    padding: Padding,
    size: tuple[int, int],
    window: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int, int, int]:
    """Return padding as ``(top, bottom, left, right)``.

    Args:
        padding: as the caller wrote it. ``"same"`` gives ``ceil(size / stride)`` outputs and puts
            an odd zero at the end, ``"same_lower"`` at the beginning.
        size: height and width of the input.
        window: height and width of the window.
        stride: as ``(y, x)``.
        dilation: as ``(y, x)``.

    Raises:
        ArgumentError: the padding has none of the known forms.
    """
    if isinstance(padding, str) and padding in ("same", "same_lower"):
        totals = map(_same, size, window, stride, dilation)
        (top, bottom), (left, right) = ((t // 2, t - t // 2) for t in totals)
        return (top, bottom, left, right) if padding == "same" else (bottom, top, right, left)
    parts = _padding_parts(padding)
    if parts is None or not all(is_whole(p) and p >= 0 for p in parts):
        raise ArgumentError(f"padding={shown(padding)} must be {_FORMS}, none of them negative")
    top, bottom, left, right = map(int, parts)
    return top, bottom, left, right


def _same(size: int, window: int, stride: int, dilation: int) -> int:
    """Return the padding of one axis, in all, that gives ``ceil(size / stride)`` outputs."""
    needed = (-(-size // stride) - 1) * stride + dilation * (window - 1) + 1
    return max(needed - size, 0) if size else 0


def _padding_parts(padding: Any) -> tuple[Any, ...] | None:
    if is_whole(padding):
        return (padding,) * 4
    if isinstance(padding, str):
        return (0, 0, 0, 0) if padding == "valid" else None
    if not isinstance(padding, (tuple, list)):
        return None
    if len(padding) == 4:
        return tuple(padding)
    if len(padding) != 2:
        return None
    rows, columns = padding
    if is_whole(rows) and is_whole(columns):
        return rows, rows, columns, columns
    if all(isinstance(side, (tuple, list)) and len(side) == 2 for side in padding):
        return (*rows, *columns)
    return None


def output_size(problem: Problem) -> tuple[int, int]:
    """Return height and width of the output.

    Rounded down, or up with the attribute ``ceil_mode``, where the last window must still begin
    inside the input or the padding before it.
    """
    return _extent(problem, 0), _extent(problem, 1)


def _extent(problem: Problem, axis: int) -> int:
    size, window = problem["hw"[axis]], problem["rs"[axis]]
    before, after = problem["pad"][2 * axis : 2 * axis + 2]
    stride, dilation = problem["stride"][axis], problem["dilation"][axis]
    span = size + before + after - dilation * (window - 1) - 1
    ceil = bool(problem.attributes.get("ceil_mode", False))
    count: int = (span + (stride - 1 if ceil else 0)) // stride + 1
    if ceil and (count - 1) * stride >= size + before:
        count -= 1
    return max(count, 0)


def check_window(problem: Problem) -> None:
    """Check that at least one window fits, and that no position overflows.

    Raises:
        ArgumentError: names the size.
    """
    for what in ("stride", "dilation"):
        if max(problem[what]) > _MAX:
            raise ArgumentError(f"{what}={problem[what]} of {problem.op.name} is beyond 2**63 - 1")
    for axis, out in enumerate(output_size(problem)):
        name, size, window = "hw"[axis], problem["hw"[axis]], problem["rs"[axis]]
        before, after = problem["pad"][2 * axis : 2 * axis + 2]
        reach = problem["dilation"][axis] * (window - 1) + 1
        if max(size + before + after, reach) > _MAX:
            raise ArgumentError(
                f"{name}={size} of {problem.op.name} with padding {before} and {after} and a "
                f"window that reaches over {reach} is beyond 2**63 - 1"
            )
        # No output from an empty image is an answer; from one with pixels it is a mistake.
        if out == 0 and size > 0:
            raise ArgumentError(
                f"the window of {problem.op.name} reaches over {reach} {('rows', 'columns')[axis]} "
                f"({'rs'[axis]}={window}, dilation {problem['dilation'][axis]}), but the input has "
                f"{size + before + after} with its padding ({name}={size}, padding {before} and "
                f"{after})"
            )


def pad_image(problem: Problem, image: Array, fill: float) -> Array:
    """Return an image (n, c, h, w) with ``fill`` around it, as far as the windows reach."""
    p, q = output_size(problem)
    top, _, left, _ = problem["pad"]
    height = (p - 1) * problem["stride"][0] + problem["dilation"][0] * (problem["r"] - 1) + 1
    width = (q - 1) * problem["stride"][1] + problem["dilation"][1] * (problem["s"] - 1) + 1
    n, c, h, w = image.shape
    h, w = min(h, max(height - top, 0)), min(w, max(width - left, 0))
    padded = np.full((n, c, height, width), fill, image.dtype)
    padded[:, :, top : top + h, left : left + w] = image[:, :, :h, :w]
    return padded


def taps(problem: Problem, padded: Array) -> Iterator[list[Array]]:
    """Yield for each row of the window a view for each column: that element of every window."""
    p, q = output_size(problem)
    (sy, sx), (dy, dx) = problem["stride"], problem["dilation"]
    for i in range(problem["r"]):
        rows = padded[:, :, i * dy : i * dy + (p - 1) * sy + 1 : sy]
        yield [rows[:, :, :, j * dx : j * dx + (q - 1) * sx + 1 : sx] for j in range(problem["s"])]
