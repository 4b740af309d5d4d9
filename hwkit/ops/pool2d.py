"""max_pool2d and avg_pool2d: the greatest and the mean of every window of an image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..dispatch import call
from ..op import Attribute, Op, Operand, Problem, numpy_dtype
from . import window
from .checks import check_at_least, check_rank, common_dtype
from .epilogue import compute_dtype, result_dtype
from .window import LAYOUTS, Padding, image_shape, output_size, padding_of, pair

__all__ = ["AVG_POOL2D", "MAX_POOL2D", "AvgPool2d", "MaxPool2d", "avg_pool2d", "max_pool2d"]

Array = np.ndarray[Any, Any]
IntPair = int | tuple[int, int]


class Pool2d(Op):
    """What the two contracts share.

    Sizes: batch ``n``, channels ``c``, input ``h`` x ``w``, window ``r`` x ``s``. ``pad`` is (top,
    bottom, left, right); ``stride`` and ``dilation`` are (y, x).
    """

    layouts = LAYOUTS
    sizes = ("n", "c", "h", "w", "r", "s")
    shown = ("pad", "stride")

    def problem(
        self,
        x: Any,
        *,
        kernel: IntPair,
        stride: IntPair | None = None,
        padding: Padding = 0,
        dilation: IntPair = 1,
        layout: str = "nchw",
        **rest: Any,
    ) -> Problem:
        """Return the Problem of a call of the public function; ``rest`` are attributes."""
        dtypes = common_dtype(x=x)
        layout = self._layout(layout)
        shape = check_rank("x", x, tuple(layout))
        n, c, h, w = shape if layout == "nchw" else (shape[0], shape[3], shape[1], shape[2])
        r, s = pair("kernel", kernel)
        strides = pair("stride", (r, s) if stride is None else stride)
        dilations = pair("dilation", dilation)
        pad = padding_of(padding, (h, w), (r, s), strides, dilations)
        return self.make(
            dtypes,
            layout,
            {"n": n, "c": c, "h": h, "w": w, "r": r, "s": s},
            {"pad": pad, "stride": strides, "dilation": dilations, **rest},
        )

    def check(self, problem: Problem) -> None:
        """Check that the window fits."""
        super().check(problem)
        check_at_least(problem, 1, "r", "s", "stride", "dilation")
        check_at_least(problem, 0, "pad")
        window.check_window(problem)

    def operands(self, problem: Problem) -> tuple[Operand, ...]:
        """Return x."""
        shape = image_shape(problem.layout, *(problem[name] for name in "nchw"))
        return (Operand("x", shape, numpy_dtype(problem.dtypes.input)),)

    def output(self, problem: Problem) -> Operand:
        """Return y: ``(n, c, p, q)``, or ``(n, p, q, c)`` in the layout nhwc."""
        shape = image_shape(problem.layout, problem["n"], problem["c"], *output_size(problem))
        return Operand("y", shape, numpy_dtype(problem.dtypes.output))

    def flops(self, problem: Problem) -> int:
        """Return one for each element of each window."""
        p, q = output_size(problem)
        return int(problem["n"] * problem["c"] * p * q * problem["r"] * problem["s"])

    def reference(self, problem: Problem, *operands: Array) -> Array:
        """Compute tap by tap."""
        image = window.to_nchw(problem.layout, operands[0].astype(compute_dtype(*operands)))
        p, q = output_size(problem)
        with np.errstate(all="ignore"):
            empty = np.zeros((*image.shape[:2], p, q), image.dtype)
            pooled = self._pool(problem, image) if empty.size else empty
            result: Array = window.from_nchw(problem.layout, pooled)
            return result.astype(result_dtype(*operands))

    @abstractmethod
    def _pool(self, problem: Problem, image: Array) -> Array:
        """Return the pooled image, all in (n, c, h, w), at least one element."""


class MaxPool2d(Pool2d):
    """The contract of :func:`max_pool2d`. Nothing is rounded, so no error is allowed."""

    name = "max_pool2d"
    attributes: Mapping[str, Attribute] = {
        "pad": (0, 0, 0, 0),
        "stride": (1, 1),
        "dilation": (1, 1),
        "ceil_mode": False,
    }
    arguments = ("kernel", "stride", "padding", "dilation", "ceil_mode", "layout")
    samples = (
        # ResNet-50, VGG16
        "max_pool2d float32 nchw n=1 c=64 h=112 w=112 r=3 s=3 pad=1 stride=2",
        "max_pool2d float32 nhwc n=1 c=64 h=112 w=112 r=3 s=3 pad=1 stride=2",
        "max_pool2d float32 nchw n=1 c=128 h=112 w=112 r=2 s=2 pad=0 stride=2",
        "max_pool2d float32 nhwc n=1 c=512 h=14 w=14 r=2 s=2 pad=0 stride=2",
        "max_pool2d float32 nchw n=2 c=5 h=19 w=23 r=3 s=2 pad=1,0,2,1 stride=2,3 dilation=2,1 "
        "ceil_mode=true",
        "max_pool2d float64 nhwc n=2 c=7 h=15 w=11 r=3 s=3 pad=1 stride=1",
        "max_pool2d float16 nchw n=1 c=16 h=28 w=28 r=2 s=2 pad=0 stride=2",
    )

    def error_budget(self, problem: Problem) -> float:
        """Return zero."""
        return 0.0

    def _pool(self, problem: Problem, image: Array) -> Array:
        lowest = -np.inf if image.dtype.kind == "f" else np.iinfo(image.dtype).min
        padded = window.pad_image(problem, image, lowest)
        views = [view for row in window.taps(problem, padded) for view in row]
        result: Array = views[0].copy()
        for view in views[1:]:
            np.maximum(result, view, out=result)
        return result


class AvgPool2d(Pool2d):
    """The contract of :func:`avg_pool2d`."""

    name = "avg_pool2d"
    attributes: Mapping[str, Attribute] = {
        "pad": (0, 0, 0, 0),
        "stride": (1, 1),
        "dilation": (1, 1),
        "ceil_mode": False,
        "count_include_pad": True,
    }
    arguments = (
        "kernel", "stride", "padding", "dilation", "ceil_mode", "count_include_pad", "layout",
    )  # fmt: skip
    samples = (
        # Transitions of DenseNet-121, branches of Inception v3
        "avg_pool2d float32 nchw n=1 c=128 h=56 w=56 r=2 s=2 pad=0 stride=2",
        "avg_pool2d float32 nhwc n=1 c=128 h=56 w=56 r=2 s=2 pad=0 stride=2",
        "avg_pool2d float32 nchw n=1 c=192 h=35 w=35 r=3 s=3 pad=1 stride=1",
        "avg_pool2d float32 nhwc n=1 c=192 h=35 w=35 r=3 s=3 pad=1 stride=1 "
        "count_include_pad=false",
        "avg_pool2d float32 nchw n=2 c=5 h=19 w=23 r=3 s=2 pad=1,0,0,1 stride=2,3 dilation=2,1 "
        "ceil_mode=true",
        "avg_pool2d float64 nhwc n=2 c=7 h=15 w=11 r=3 s=3 pad=1 stride=2 ceil_mode=true "
        "count_include_pad=false",
        "avg_pool2d float16 nchw n=1 c=16 h=28 w=28 r=7 s=7 pad=0 stride=7",
    )

    def _pool(self, problem: Problem, image: Array) -> Array:
        padded = window.pad_image(problem, image, 0)
        total = sum(view for row in window.taps(problem, padded) for view in row)
        # A window without any element has the sum 0, and the mean 0.
        count = np.outer(_counts(problem, 0), _counts(problem, 1)).clip(1).astype(image.dtype)
        result: Array = total // count if image.dtype.kind in "iu" else total / count
        return result


def _counts(problem: Problem, axis: int) -> Array:
    """Return how many elements of each window count, along one axis."""
    size, (before, after) = problem["hw"[axis]], problem["pad"][2 * axis : 2 * axis + 2]
    starts = np.arange(output_size(problem)[axis]) * problem["stride"][axis] - before
    places = starts[:, None] + np.arange(problem["rs"[axis]]) * problem["dilation"][axis]
    first, last = (-before, size + after) if problem["count_include_pad"] else (0, size)
    counts: Array = ((places >= first) & (places < last)).sum(1)
    return counts


MAX_POOL2D = MaxPool2d()
AVG_POOL2D = AvgPool2d()


def max_pool2d(
    x: Any,
    kernel: IntPair,
    *,
    stride: IntPair | None = None,
    padding: Padding = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
    layout: str = "nchw",
    out: Any = None,
    device: str | None = None,
    tolerance: float | str | None = None,
) -> Any:
    """Return the greatest element of every window.

    NaN counts as the greatest. Padding is minus infinity, which is also the answer for a window
    that holds nothing else.

    Parameters
    ----------
    x : array
        Images: ``(n, c, h, w)``, or ``(n, h, w, c)`` with ``layout="nhwc"``; float32, float64,
        float16 or bfloat16.
    kernel : int or (int, int)
        Height and width of the window.
    stride : int or (int, int), optional
        Distance of windows; that of ``kernel`` if left out.
    padding : int, tuple or str
        As of :func:`hwkit.ops.conv2d`.
    dilation : int or (int, int)
        Distance of the elements of a window.
    ceil_mode : bool
        Round the size of the result up: one more window, if it begins inside the image or in the
        padding before it.
    layout : {"nchw", "nhwc"}
        Order of the sizes.
    out : array, optional
        Where to put the result; may overlap ``x``.
    device : str, optional
        ``"cpu:0"``; by default that of :func:`hwkit.use`, or the default device.
    tolerance : float or {"strict", "deterministic"}, optional
        As of :func:`hwkit.ops.conv2d`.

    Returns
    -------
    array
        ``(n, c, p, q)`` or ``(n, p, q, c)``, of the dtype and library of ``x``.

    Raises
    ------
    ArgumentError
        A shape or an option is not legal.
    DtypeError
        The dtype is not supported.
    NoKernel
        No kernel of the device takes the problem.

    Examples
    --------
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    >>> max_pool2d(x, 2)[0, 0]
    array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """
    arguments = (kernel, stride, padding, dilation, ceil_mode, layout)
    return call(MAX_POOL2D, (x,), arguments, out, device, tolerance)


def avg_pool2d(
    x: Any,
    kernel: IntPair,
    *,
    stride: IntPair | None = None,
    padding: Padding = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    layout: str = "nchw",
    out: Any = None,
    device: str | None = None,
    tolerance: float | str | None = None,
) -> Any:
    """Return the mean of every window.

    Parameters
    ----------
    x : array
        Images: ``(n, c, h, w)``, or ``(n, h, w, c)`` with ``layout="nhwc"``; float32, float64,
        float16 or bfloat16. The two narrow types are summed in float32.
    kernel, stride, padding, dilation, ceil_mode, layout, out, device, tolerance
        As of :func:`hwkit.ops.max_pool2d`.
    count_include_pad : bool
        Whether the zeros of the padding count as elements; what ``ceil_mode`` adds beyond the
        padding never does. A window without any element has the mean 0.

    Returns
    -------
    array
        ``(n, c, p, q)`` or ``(n, p, q, c)``, of the dtype and library of ``x``.

    Raises
    ------
    ArgumentError, DtypeError, NoKernel
        As of :func:`hwkit.ops.max_pool2d`.

    Examples
    --------
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    >>> avg_pool2d(x, 2)[0, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]], dtype=float32)
    """
    arguments = (kernel, stride, padding, dilation, ceil_mode, count_include_pad, layout)
    return call(AVG_POOL2D, (x,), arguments, out, device, tolerance)
