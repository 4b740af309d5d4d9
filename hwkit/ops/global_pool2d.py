"""global_avg_pool2d and global_max_pool2d: one number for each channel of an image."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from ..dispatch import call
from ..op import Op, Operand, Problem, numpy_dtype
from .checks import check_at_least, check_rank, common_dtype
from .epilogue import compute_dtype, result_dtype
from .window import LAYOUTS, image_shape

__all__ = [
    "GLOBAL_AVG_POOL2D",
    "GLOBAL_MAX_POOL2D",
    "GlobalAvgPool2d",
    "GlobalMaxPool2d",
    "global_avg_pool2d",
    "global_max_pool2d",
]

Array = np.ndarray[Any, Any]

# The last layers of ResNet-50 and MobileNetV1, an early one, and odd ones.
_SAMPLES = (
    "float32 nchw n=1 c=2048 h=7 w=7",
    "float32 nhwc n=1 c=2048 h=7 w=7",
    "float32 nchw n=1 c=1024 h=7 w=7",
    "float32 nhwc n=1 c=1024 h=7 w=7",
    "float32 nhwc n=4 c=64 h=56 w=56",
    "float32 nchw n=3 c=5 h=9 w=13",
    "float64 nhwc n=2 c=7 h=11 w=3",
    "float16 nchw n=1 c=32 h=14 w=14",
)


class GlobalPool2d(Op):
    """What the two contracts share. Sizes: batch ``n``, channels ``c``, image ``h`` x ``w``."""

    layouts = LAYOUTS
    sizes = ("n", "c", "h", "w")
    arguments = ("layout",)

    def problem(self, x: Any, *, layout: str = "nchw") -> Problem:
        """Return the Problem of a call of the public function."""
        dtypes = common_dtype(x=x)
        layout = self._layout(layout)
        shape = check_rank("x", x, tuple(layout))
        return self.make(dtypes, layout, dict(zip(layout, shape, strict=True)))

    def check(self, problem: Problem) -> None:
        """Check that there is a pixel: nothing has neither a mean nor a maximum."""
        super().check(problem)
        check_at_least(problem, 1, "h", "w")

    def operands(self, problem: Problem) -> tuple[Operand, ...]:
        """Return x."""
        n, c, h, w = problem.sizes.values()
        shape = image_shape(problem.layout, n, c, h, w)
        return (Operand("x", shape, numpy_dtype(problem.dtypes.input)),)

    def output(self, problem: Problem) -> Operand:
        """Return y: ``(n, c, 1, 1)``, or ``(n, 1, 1, c)`` in the layout nhwc."""
        shape = image_shape(problem.layout, problem["n"], problem["c"], 1, 1)
        return Operand("y", shape, numpy_dtype(problem.dtypes.output))

    def flops(self, problem: Problem) -> int:
        """Return one for each element."""
        n, c, h, w = problem.sizes.values()
        return n * c * h * w

    def reference(self, problem: Problem, *operands: Array) -> Array:
        """Reduce with numpy over the two axes of the image."""
        x = operands[0].astype(compute_dtype(*operands))
        axes = (2, 3) if problem.layout == "nchw" else (1, 2)
        with np.errstate(all="ignore"):
            return self._reduce(x, axes).astype(result_dtype(*operands))

    @abstractmethod
    def _reduce(self, x: Array, axes: tuple[int, int]) -> Array:
        """Return ``x`` reduced over ``axes``, which stay with size 1."""


class GlobalAvgPool2d(GlobalPool2d):
    """The contract of :func:`global_avg_pool2d`."""

    name = "global_avg_pool2d"
    samples = tuple(f"global_avg_pool2d {rest}" for rest in _SAMPLES)

    def _reduce(self, x: Array, axes: tuple[int, int]) -> Array:
        # Rows first: short sums round less than one long one.
        total: Array = x.sum(axes[1], keepdims=True).sum(axes[0], keepdims=True)
        count = x.shape[axes[0]] * x.shape[axes[1]]
        result: Array = total // count if x.dtype.kind in "iu" else total / count
        return result


class GlobalMaxPool2d(GlobalPool2d):
    """The contract of :func:`global_max_pool2d`. Nothing is rounded, so no error is allowed."""

    name = "global_max_pool2d"
    samples = tuple(f"global_max_pool2d {rest}" for rest in _SAMPLES)

    def error_budget(self, problem: Problem) -> float:
        """Return zero."""
        return 0.0

    def _reduce(self, x: Array, axes: tuple[int, int]) -> Array:
        result: Array = x.max(axes, keepdims=True)
        return result


GLOBAL_AVG_POOL2D = GlobalAvgPool2d()
GLOBAL_MAX_POOL2D = GlobalMaxPool2d()


def global_avg_pool2d(
    x: Any,
    *,
    layout: str = "nchw",
    out: Any = None,
    device: str | None = None,
    tolerance: float | str | None = None,
) -> Any:
    """Return the mean of every channel of every image.

    Parameters
    ----------
    x : array
        Images: ``(n, c, h, w)``, or ``(n, h, w, c)`` with ``layout="nhwc"``, of at least one
        pixel; float32, float64, float16 or bfloat16. The two narrow types are summed in float32.
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
        ``(n, c, 1, 1)`` or ``(n, 1, 1, c)``, of the dtype and library of ``x``.

    Raises
    ------
    ArgumentError
        A shape or an option is not legal.
    DtypeError
        The dtype is not supported.
    NoKernel
        No kernel of the device takes the problem with this tolerance.

    Examples
    --------
    >>> x = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    >>> global_avg_pool2d(x).ravel()
    array([1.5, 5.5], dtype=float32)
    """
    return call(GLOBAL_AVG_POOL2D, (x,), (layout,), out, device, tolerance)


def global_max_pool2d(
    x: Any,
    *,
    layout: str = "nchw",
    out: Any = None,
    device: str | None = None,
    tolerance: float | str | None = None,
) -> Any:
    """Return the greatest pixel of every channel of every image; NaN counts as the greatest.

    Parameters
    ----------
    x : array
        Images: ``(n, c, h, w)``, or ``(n, h, w, c)`` with ``layout="nhwc"``, of at least one
        pixel; float32, float64, float16 or bfloat16.
    layout, out, device, tolerance
        As of :func:`hwkit.ops.global_avg_pool2d`.

    Returns
    -------
    array
        ``(n, c, 1, 1)`` or ``(n, 1, 1, c)``, of the dtype and library of ``x``.

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
    >>> x = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    >>> global_max_pool2d(x).ravel()
    array([3., 7.], dtype=float32)
    """
    return call(GLOBAL_MAX_POOL2D, (x,), (layout,), out, device, tolerance)
