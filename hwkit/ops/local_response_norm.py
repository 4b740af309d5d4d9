"""local_response_norm: each channel over its neighbours' strength."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..dispatch import call
from ..errors import ArgumentError
from ..op import Attribute, Op, Operand, Problem, numpy_dtype
from .checks import check_at_least, check_rank, common_dtype
from .epilogue import compute_dtype, result_dtype
from .window import LAYOUTS, image_shape

__all__ = ["LOCAL_RESPONSE_NORM", "LocalResponseNorm", "local_response_norm"]

Array = np.ndarray[Any, Any]

# AlexNet, Inception v1, and odd ones.
_SAMPLES = (
    "float32 nhwc n=1 c=96 h=54 w=54 size=5",
    "float32 nhwc n=1 c=64 h=56 w=56 size=5",
    "float32 nchw n=1 c=64 h=56 w=56 size=5",
    "float32 nchw n=2 c=5 h=3 w=7 size=4 alpha=0.5 beta=0.5 bias=2.0",
    "float64 nhwc n=2 c=9 h=3 w=5 size=3 alpha=1.5 beta=1.0",
    "float32 nhwc n=1 c=33 h=4 w=4 size=7 alpha=0.1 beta=0.6",
    "float16 nhwc n=1 c=17 h=5 w=5 size=5 alpha=0.1",
)


class LocalResponseNorm(Op):
    """The contract of :func:`local_response_norm`. Sizes: batch ``n``, channels ``c``, image."""

    name = "local_response_norm"
    layouts = LAYOUTS
    sizes = ("n", "c", "h", "w")
    attributes: Mapping[str, Attribute] = {"size": 5, "alpha": 1e-4, "beta": 0.75, "bias": 1.0}
    shown = ("size",)
    arguments = ("size", "alpha", "beta", "bias", "layout")
    samples = tuple(f"local_response_norm {rest}" for rest in _SAMPLES)

    def problem(
        self,
        x: Any,
        *,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        bias: float = 1.0,
        layout: str = "nchw",
    ) -> Problem:
        """Return the Problem of a call of the public function."""
        dtypes = common_dtype(x=x)
        layout = self._layout(layout)
        shape = check_rank("x", x, tuple(layout))
        attributes = {"size": size, "alpha": alpha, "beta": beta, "bias": bias}
        return self.make(dtypes, layout, dict(zip(layout, shape, strict=True)), attributes)

    def check(self, problem: Problem) -> None:
        """Check that the window has its own channel, and the numbers are numbers."""
        super().check(problem)
        check_at_least(problem, 1, "size")
        for name in ("alpha", "beta", "bias"):
            if not math.isfinite(problem[name]):
                raise ArgumentError(f"{name}={problem[name]} of {self.name} must be finite")

    def operands(self, problem: Problem) -> tuple[Operand, ...]:
        """Return x."""
        return (self.output(problem)._replace(name="x"),)

    def output(self, problem: Problem) -> Operand:
        """Return y, of the shape of x."""
        shape = image_shape(problem.layout, *problem.sizes.values())
        return Operand("y", shape, numpy_dtype(problem.dtypes.output))

    def flops(self, problem: Problem) -> int:
        """Return a multiply-add for each square, and four for root and quotient."""
        squares = min(int(problem["size"]), problem.sizes["c"])
        return math.prod(problem.sizes.values()) * (2 * squares + 4)

    def reference(self, problem: Problem, *operands: Array) -> Array:
        """Add up shifted squares; differences of one running sum would lose digits."""
        x = operands[0].astype(compute_dtype(*operands))
        axis = problem.layout.index("c")
        size, count = min(problem["size"], 2 * problem["c"] + 1), problem["c"]
        with np.errstate(all="ignore"):
            square = np.moveaxis(np.square(x), axis, -1)
            total = np.zeros_like(square)
            for shift in range(-((size - 1) // 2), size // 2 + 1):
                low, high = max(0, -shift), min(count, count - shift)
                if low < high:
                    total[..., low:high] += square[..., low + shift : high + shift]
            scale = problem["bias"] + problem["alpha"] / problem["size"] * total
            y = x / np.moveaxis(scale, -1, axis) ** problem["beta"]
        return np.asarray(y).astype(result_dtype(*operands))


LOCAL_RESPONSE_NORM = LocalResponseNorm()


def local_response_norm(
    x: Any,
    *,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    bias: float = 1.0,
    layout: str = "nchw",
    out: Any = None,
    device: str | None = None,
    tolerance: float | str | None = None,
) -> Any:
    """Return ``x / (bias + alpha / size * sum of squares) ** beta``.

    The sum is over ``size`` channels around each one, fewer at the edges. Reference: Krizhevsky,
    Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks",
    section 3.3, with ``alpha`` divided by ``size`` as in ONNX.

    Parameters
    ----------
    x : array
        Images: ``(n, c, h, w)``, or ``(n, h, w, c)`` with ``layout="nhwc"``; float32, float64,
        float16 or bfloat16.
    size : int
        Channels of a window; of an even number, one more lies behind than before.
    alpha, beta, bias : float
        Numbers of the formula.
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
        Of the shape, dtype and library of ``x``.

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
    >>> x = np.ones((1, 3, 1, 1), np.float32)
    >>> local_response_norm(x, size=3, alpha=3.0, beta=1.0).ravel()
    array([0.33333334, 0.25      , 0.33333334], dtype=float32)
    """
    arguments = (size, alpha, beta, bias, layout)
    return call(LOCAL_RESPONSE_NORM, (x,), arguments, out, device, tolerance)
