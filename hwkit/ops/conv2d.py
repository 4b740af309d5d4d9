"""conv2d: two-dimensional convolution (cross-correlation), grouped or depthwise, epilogue fused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..dispatch import call
from ..errors import ArgumentError, shown
from ..op import Attribute, Op, Operand, Problem, numpy_dtype
from . import epilogue, window
from .checks import (
    check_at_least,
    check_integer_epilogue,
    check_rank,
    check_shape,
    product_dtypes,
)
from .epilogue import Activation, compute_dtype, epilogue_operands, epilogue_text, result_dtype
from .window import LAYOUTS, Padding, image_shape, output_size, padding_of, pair

__all__ = ["CONV2D", "Conv2d", "conv2d"]

Array = np.ndarray[Any, Any]


class Conv2d(Op):
    """The contract of :func:`conv2d`.

    Sizes: batch ``n``, input channels ``c``, input ``h`` x ``w``, output channels ``k``, window
    ``r`` x ``s``. ``pad`` is (top, bottom, left, right); ``stride`` and ``dilation`` are (y, x).
    """

    name = "conv2d"
    layouts = LAYOUTS
    sizes = ("n", "c", "h", "w", "k", "r", "s")
    attributes: Mapping[str, Attribute] = {
        "pad": (0, 0, 0, 0),
        "stride": (1, 1),
        "dilation": (1, 1),
        "groups": 1,
    }
    shown = ("pad", "stride")
    fusable = True
    arguments: tuple[str, ...] = ("stride", "padding", "dilation", "groups", "layout", "activation")
    constants: tuple[str, ...] = ("w", "bias")
    samples: tuple[str, ...] = (
        # ResNet-50
        "conv2d float32 nchw n=1 c=64 h=56 w=56 k=64 r=3 s=3 pad=1 stride=1",
        "conv2d float32 nchw n=1 c=3 h=224 w=224 k=64 r=7 s=7 pad=3 stride=2 +bias+relu",
        "conv2d float32 nchw n=1 c=256 h=14 w=14 k=1024 r=1 s=1 pad=0 stride=1 +bias+residual+relu",
        "conv2d float32 nhwc n=1 c=128 h=28 w=28 k=128 r=3 s=3 pad=1 stride=1 +bias+relu",
        "conv2d float32 nhwc n=1 c=256 h=56 w=56 k=512 r=1 s=1 pad=0 stride=2",
        # VGG16
        "conv2d float32 nchw n=1 c=512 h=14 w=14 k=512 r=3 s=3 pad=1 stride=1 +bias+relu",
        # MobileNetV1
        "conv2d float32 nchw n=1 c=32 h=112 w=112 k=32 r=3 s=3 pad=1 stride=1 groups=32 "
        "+bias+relu6",
        "conv2d float32 nhwc n=1 c=512 h=14 w=14 k=512 r=3 s=3 pad=0,1,0,1 stride=2 groups=512",
        "conv2d float32 nhwc n=1 c=512 h=14 w=14 k=512 r=1 s=1 pad=0 stride=1 +bias+relu6",
        # What real layers leave out
        "conv2d float32 nchw n=2 c=6 h=17 w=13 k=8 r=3 s=5 pad=1,2,0,3 stride=2,1 dilation=1,2 "
        "groups=2 +bias+residual+leaky_relu:0.1",
        "conv2d float64 nhwc n=2 c=8 h=15 w=15 k=16 r=5 s=5 pad=2 stride=1 groups=8 +hard_swish",
        "conv2d uint8,int8,int32,int32 nhwc n=1 c=24 h=14 w=14 k=40 r=3 s=3 pad=1 stride=1 +bias",
        "conv2d float16 nchw n=1 c=32 h=20 w=20 k=48 r=3 s=3 pad=1 stride=1 +bias+silu",
    )

    def problem(
        self,
        x: Any,
        w: Any,
        bias: Any = None,
        residual: Any = None,
        *,
        stride: Any = 1,
        padding: Padding = 0,
        dilation: Any = 1,
        groups: int = 1,
        layout: str = "nchw",
        activation: Activation = None,
    ) -> Problem:
        """Return the Problem of a call of :func:`conv2d`."""
        dtypes = product_dtypes(x=x, w=w, bias=bias, residual=residual)
        layout = self._layout(layout)
        sizes = self._sizes(x, w, layout, groups)
        stride, dilation = pair("stride", stride), pair("dilation", dilation)
        image, taps = (sizes["h"], sizes["w"]), (sizes["r"], sizes["s"])
        pad = padding_of(padding, image, taps, stride, dilation)
        problem = self.make(
            dtypes,
            layout,
            sizes,
            {"pad": pad, "stride": stride, "dilation": dilation, "groups": groups},
            epilogue_text(bias, residual, activation),
        )
        check_shape("bias", bias, (sizes["k"],), "one value for each output channel")
        check_shape("residual", residual, problem.output.shape, "the shape of the result")
        return problem

    def _sizes(self, x: Any, w: Any, layout: str, groups: Any) -> dict[str, int]:
        names = {"n": "k", "c": "c/groups", "h": "r", "w": "s"}
        image = dict(zip(layout, check_rank("x", x, tuple(layout)), strict=True))
        shape = check_rank("w", w, tuple(names[letter] for letter in layout))
        filters = dict(zip(layout, shape, strict=True))
        c, k, per_group = image["c"], filters["n"], filters["c"]
        groups = self._groups(groups, c, k)
        if per_group * groups != c:
            raise ArgumentError(
                f"w has shape {shape} with {per_group} input channels, but must have "
                f"{c // groups} of them, the {c} channels of x over groups={groups}"
            )
        return {**image, "k": k, "r": filters["h"], "s": filters["w"]}

    def _groups(self, groups: Any, c: int, k: int) -> int:
        if not window.is_whole(groups) or groups < 1 or c % groups or k % groups:
            raise ArgumentError(
                f"groups={shown(groups)} must be a whole number of at least 1 that divides "
                f"the {c} input and {k} output channels"
            )
        return int(groups)

    def check(self, problem: Problem) -> None:
        """Check that windows fit and that groups divide the channels."""
        super().check(problem)
        check_at_least(problem, 1, "r", "s", "stride", "dilation")
        check_at_least(problem, 0, "pad")
        self._groups(problem["groups"], problem["c"], problem["k"])
        window.check_window(problem)
        self._check_epilogue(problem)

    def _check_epilogue(self, problem: Problem) -> None:
        check_integer_epilogue(problem)

    def operands(self, problem: Problem) -> tuple[Operand, ...]:
        """Return x, w, and where fused bias and residual."""
        n, c, h, width, k, r, s = problem.sizes.values()
        x = image_shape(problem.layout, n, c, h, width)
        w = image_shape(problem.layout, k, c // problem["groups"], r, s)
        return (
            Operand("x", x, numpy_dtype(problem.dtypes.input)),
            Operand("w", w, numpy_dtype(problem.dtypes.weight)),
            *epilogue_operands(problem, k),
        )

    def output(self, problem: Problem) -> Operand:
        """Return y: ``(n, k, p, q)``, or ``(n, p, q, k)`` in the layout nhwc."""
        shape = image_shape(problem.layout, problem["n"], problem["k"], *output_size(problem))
        return Operand("y", shape, numpy_dtype(problem.dtypes.output))

    def flops(self, problem: Problem) -> int:
        """Return two for each output element and weight that it meets; the epilogue is free."""
        n, c, _, _, k, r, s = problem.sizes.values()
        p, q = output_size(problem)
        return int(2 * n * k * p * q * (c // problem["groups"]) * r * s)

    def reference(self, problem: Problem, *operands: Array) -> Array:
        """Compute tap by tap; the zeros of the padding take part in the arithmetic."""
        x, w, *rest = operands
        wide = compute_dtype(*operands)
        with np.errstate(all="ignore"):
            sums = self._sums(
                problem,
                window.to_nchw(problem.layout, x.astype(wide)),
                window.to_nchw(problem.layout, w.astype(wide)),
            )
            sums = window.from_nchw(problem.layout, sums)
            axis = 1 if problem.layout == "nchw" else 3
            result = epilogue.apply(problem, sums, tuple(rest), axis)
            return result.astype(result_dtype(*operands))

    def _sums(self, problem: Problem, x: Array, w: Array) -> Array:
        groups, n, k = problem["groups"], problem["n"], problem["k"]
        p, q = output_size(problem)
        sums = np.zeros((n, groups, k // groups, p * q), x.dtype)
        if sums.size == 0 or x.shape[1] == 0:
            return sums.reshape(n, k, p, q)
        weights = w.reshape(groups, k // groups, -1, *w.shape[2:])
        # One row of taps at a time: never more memory than so many copies of the image.
        for i, views in enumerate(window.taps(problem, window.pad_image(problem, x, 0))):
            pixels = [view.reshape(n, groups, -1, p * q) for view in views]
            taps = [weights[:, :, :, i, j] for j in range(len(views))]
            if weights.shape[2] == 1:
                # Broadcasting is much faster than matrix products of so little depth.
                for tap, values in zip(taps, pixels, strict=True):
                    sums += tap * values
            else:
                sums += np.matmul(np.concatenate(taps, 2), np.concatenate(pixels, 2))
        return sums.reshape(n, k, p, q)


CONV2D = Conv2d()


def conv2d(
    x: Any,
    w: Any,
    bias: Any = None,
    *,
    residual: Any = None,
    stride: int | tuple[int, int] = 1,
    padding: Padding = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    layout: str = "nchw",
    activation: Activation = None,
    out: Any = None,
    device: str | None = None,
    tolerance: float | str | None = None,
) -> Any:
    """Convolve images with filters; fuse bias, residual and activation.

    ``y[n, k] = activation(sum over c of correlate(x[n, c], w[k, c]) + bias[k] + residual[n, k])``

    Parameters
    ----------
    x : array
        Images: ``(n, c, h, w)``, or ``(n, h, w, c)`` with ``layout="nhwc"``; float32, float64,
        float16 or bfloat16. The two narrow types are stored so, and accumulated in float32.
    w : array
        Filters of the same dtype: ``(k, c / groups, r, s)``, or ``(k, r, s, c / groups)`` with
        ``layout="nhwc"``. Or ``x`` and ``w`` are each int8 or uint8: then ``bias``, ``residual``
        and the result are int32 (for scales and zero points see :func:`hwkit.ops.qconv2d`).
    bias : array, optional
        ``(k,)``, added to every pixel of a channel.
    residual : array, optional
        Of the result's shape, added before the activation.
    stride, dilation : int or (int, int)
        For rows and columns.
    padding : int, tuple or str
        Zeros around the image, which take part in the arithmetic (0 x inf is NaN): a number,
        ``(y, x)``, ``(top, bottom, left, right)``, ``((top, bottom), (left, right))``,
        ``"valid"`` (none), or ``"same"``: as many outputs as ``ceil(input / stride)``, an odd zero
        at the end (``"same_lower"``: at the beginning).
    groups : int
        Input and output channels fall into this many independent parts; ``groups=c`` is depthwise.
    layout : {"nchw", "nhwc"}
        Order of the sizes of ``x`` and the result; weights follow.
    activation : str or tuple, optional
        ``"relu"``, ``"relu6"``, ``"sigmoid"``, ``"hard_swish"``, ``"silu"``, ``"leaky_relu"``
        (slope 0.01), ``"leaky_relu:0.1"`` or ``("leaky_relu", 0.1)``, ``"clip:0,6"`` or
        ``("clip", 0, 6)``. NaN goes through each.
    out : array, optional
        Where to put the result; may overlap an operand.
    device : str, optional
        ``"cpu:0"``; by default that of :func:`hwkit.use`, or the default device.
    tolerance : float or {"strict", "deterministic"}, optional
        Largest relative error (Frobenius, against float64) that a kernel may have; ``"strict"``
        admits plain multiply-add only, ``"deterministic"`` kernels with the same bits on every run.

    Returns
    -------
    array
        ``(n, k, p, q)`` or ``(n, p, q, k)``, of the library of ``x``, and of its dtype, or int32
        for integers.

    Raises
    ------
    ArgumentError
        A shape or an option is not legal.
    DtypeError
        A dtype is not supported, or two operands differ.
    NoKernel
        No kernel of the device takes the problem with this tolerance.

    Examples
    --------
    >>> x = np.ones((1, 2, 4, 4), np.float32)
    >>> w = np.ones((3, 2, 3, 3), np.float32)
    >>> conv2d(x, w, padding="same", activation=("clip", 0, 10))[0, 0, 0]
    array([ 8., 10., 10.,  8.], dtype=float32)
    """
    return call(
        CONV2D,
        (x, w, bias, residual),
        (stride, padding, dilation, groups, layout, activation),
        out,
        device,
        tolerance,
    )
