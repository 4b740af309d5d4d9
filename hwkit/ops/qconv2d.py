"""qconv2d: convolution of 8-bit integers with scales and zero points, exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..dispatch import call
from ..op import Attribute, Operand, Problem, numpy_dtype
from . import quantised, window
from .checks import check_shape
from .conv2d import Conv2d
from .epilogue import Activation, epilogue_text
from .parameters import Parameters, arrays_of
from .window import Padding, image_shape, padding_of, pair

__all__ = ["QCONV2D", "QConv2d", "qconv2d"]

Array = np.ndarray[Any, Any]


class QConv2d(Conv2d):
    """The contract of :func:`qconv2d`: sizes, layouts and windows are those of conv2d.

    Operands: x, w, then as far as there are bias, x_scale, x_zero, w_scale, w_zero, y_scale and
    y_zero; there are no scales for int32 out, and those of y for 8 bits out only. The attribute
    ``per_channel`` says that w_scale and w_zero have an element for each output channel.
    """

    name = "qconv2d"
    attributes: Mapping[str, Attribute] = {**Conv2d.attributes, "per_channel": False}
    arguments = (*Conv2d.arguments, "per_channel", "out_dtype")
    constants = (
        "w", "bias", "x_scale", "x_zero", "w_scale", "w_zero", "y_scale", "y_zero",
    )  # fmt: skip
    samples = (
        # ResNet-50
        "qconv2d uint8,int8,uint8,int32 nchw n=1 c=64 h=56 w=56 k=64 r=3 s=3 pad=1 stride=1 "
        "per_channel=true +bias",
        "qconv2d uint8,uint8,uint8,int32 nchw n=1 c=3 h=112 w=112 k=64 r=7 s=7 pad=3 stride=2 "
        "+bias+relu",
        "qconv2d int8,int8,int8,int32 nhwc n=1 c=128 h=28 w=28 k=128 r=3 s=3 pad=1 stride=1 "
        "per_channel=true +bias",
        "qconv2d uint8,int8,float32,int32 nhwc n=1 c=256 h=28 w=28 k=512 r=1 s=1 pad=0 stride=2",
        # MobileNetV1
        "qconv2d uint8,int8,uint8,int32 nchw n=1 c=128 h=28 w=28 k=128 r=3 s=3 pad=1 stride=1 "
        "groups=128 per_channel=true +bias",
        "qconv2d int8,uint8,int8,int32 nhwc n=1 c=64 h=28 w=28 k=64 r=3 s=3 pad=0,1,0,1 stride=2 "
        "groups=64 +bias+relu6",
        "qconv2d uint8,int8,uint8,int32 nhwc n=1 c=128 h=28 w=28 k=256 r=1 s=1 pad=0 stride=1 "
        "+bias",
        # What real layers leave out
        "qconv2d int8,uint8,int32,int32 nchw n=2 c=6 h=17 w=13 k=8 r=3 s=5 pad=1,2,0,3 stride=2,1 "
        "dilation=1,2 groups=2 per_channel=true +bias+relu",
        "qconv2d uint8,uint8,int8,int32 nhwc n=2 c=10 h=9 w=14 k=12 r=2 s=3 pad=2,0,1,1 stride=1,3 "
        "groups=2 +bias+clip:-1.0,50.0",
    )

    def problem(
        self,
        x: Any,
        w: Any,
        bias: Any = None,
        x_scale: Any = None,
        x_zero: Any = None,
        w_scale: Any = None,
        w_zero: Any = None,
        y_scale: Any = None,
        y_zero: Any = None,
        *,
        stride: Any = 1,
        padding: Padding = 0,
        dilation: Any = 1,
        groups: int = 1,
        layout: str = "nchw",
        activation: Activation = None,
        per_channel: bool | None = None,
        out_dtype: str | None = None,
    ) -> Problem:
        """Return the Problem of a plan of :func:`qconv2d`, from all its operands.

        Zero points that are left out are 0 in the public function, and operands of the plan here.
        """
        given = {
            "x": x, "w": w, "bias": bias, "x_scale": x_scale, "x_zero": x_zero, "w_scale": w_scale,
            "w_zero": w_zero, "y_scale": y_scale, "y_zero": y_zero,
        }  # fmt: skip
        dtypes = quantised.dtypes_of_specs(given, out_dtype)
        if per_channel is None:
            per_channel = any(p is not None and len(p.shape) == 1 for p in (w_scale, w_zero))
        layout = self._layout(layout)
        sizes = self._sizes(x, w, layout, groups)
        stride, dilation = pair("stride", stride), pair("dilation", dilation)
        image, taps = (sizes["h"], sizes["w"]), (sizes["r"], sizes["s"])
        pad = padding_of(padding, image, taps, stride, dilation)
        attributes = {
            "pad": pad, "stride": stride, "dilation": dilation, "groups": groups,
            "per_channel": per_channel,
        }  # fmt: skip
        words = epilogue_text(bias, None, activation)
        problem = self.make(dtypes, layout, sizes, attributes, words)
        quantised.check_shapes(problem, given)
        check_shape("bias", bias, (sizes["k"],), "one value for each output channel")
        return problem

    def _check_epilogue(self, problem: Problem) -> None:
        quantised.check_problem(problem)

    def operands(self, problem: Problem) -> tuple[Operand, ...]:
        """Return x, w, and the parameters."""
        n, c, h, width, k, r, s = problem.sizes.values()
        x = image_shape(problem.layout, n, c, h, width)
        w = image_shape(problem.layout, k, c // problem["groups"], r, s)
        return (
            Operand("x", x, numpy_dtype(problem.dtypes.input)),
            Operand("w", w, numpy_dtype(problem.dtypes.weight)),
            *quantised.parameter_operands(problem, k, ("x", "w")),
        )

    def reference(self, problem: Problem, *operands: Array) -> Array:
        """Compute exact sums, and round by the formulas of :mod:`hwkit.ops.quantised`.

        Padding holds the zero point, so it adds nothing.
        """
        given = quantised.split_parameters(problem, operands)
        w_zero = given["w_zero"]
        # Sums of whole numbers below 2**53 are exact in float64, whose products are fast.
        x = (given.pop("x") - given["x_zero"]).astype(np.float64)
        w = given.pop("w") - (w_zero.reshape(-1, 1, 1, 1) if w_zero.ndim else w_zero)
        sums = self._sums(
            problem,
            window.to_nchw(problem.layout, x),
            window.to_nchw(problem.layout, w.astype(np.float64)),
        )
        sums = window.from_nchw(problem.layout, sums).astype(np.int64)
        return quantised.take_result(problem, sums, given, 1 if problem.layout == "nchw" else 3)

    def random_operands(self, problem: Problem, rng: np.random.Generator) -> tuple[Array, ...]:
        """Return operands over the whole range of their dtypes."""
        depth = problem["c"] // problem["groups"] * problem["r"] * problem["s"]
        return quantised.random_operands(problem, depth, rng)


QCONV2D = QConv2d()


def qconv2d(
    x: Any,
    w: Any,
    bias: Any = None,
    *,
    x_scale: Any = None,
    x_zero: Any = None,
    w_scale: Any = None,
    w_zero: Any = None,
    y_scale: Any = None,
    y_zero: Any = None,
    stride: int | tuple[int, int] = 1,
    padding: Padding = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    layout: str = "nchw",
    activation: Activation = None,
    out_dtype: str | None = None,
    out: Any = None,
    device: str | None = None,
    tolerance: float | str | None = None,
) -> Any:
    """Convolve 8-bit images with 8-bit filters, exactly; scale and round the sums if asked to.

    A stored ``v`` stands for ``scale * (v - zero)``. Without scales the result is the int32 sums
    (ONNX ConvInteger); with those of ``x`` and ``w`` it is float32, dequantised; with that of ``y``
    as well it is requantised to 8 bits, rounded half to even, saturating (ONNX QLinearConv).

    Parameters
    ----------
    x, w : array
        As of :func:`hwkit.ops.conv2d`, each int8 or uint8.
    bias : array, optional
        ``(k,)`` of int32, in units of ``x_scale * w_scale``.
    x_scale, y_scale : float, optional
        Of the images and of the result.
    w_scale : float or array, optional
        Of the filters, or ``(k,)`` for each output channel.
    x_zero, w_zero, y_zero : int or array, optional
        Zero points; 0 by default. ``w_zero`` may be ``(k,)``. The padding holds ``x_zero``. They
        fit the dtypes of ``x``, ``w`` and the result.
    stride, padding, dilation, groups, layout
        As of :func:`hwkit.ops.conv2d`.
    activation : str or tuple, optional
        ``"relu"``, ``"relu6"``, and unless the result is int32 ``"clip:0,6"``; before the rounding.
    out_dtype : {"int8", "uint8"}, optional
        Of a requantised result: by default the dtype of ``y_zero`` if it is an array, or of ``x``.
    out, device, tolerance
        As of :func:`hwkit.ops.conv2d`.

    Returns
    -------
    array
        ``(n, k, p, q)`` or ``(n, p, q, k)``; int32, float32, int8 or uint8.

    Raises
    ------
    ArgumentError
        A shape, a parameter or an option is not legal.
    DtypeError
        ``x`` or ``w`` is not of 8 bits, or ``bias`` not int32.
    NoKernel
        No kernel of the device takes the problem with this tolerance.

    Notes
    -----
    Sums have 32 bits and wrap beyond them, which takes more than 33,000 products of the largest
    values. Scales and zero points are operands of a plan, like ``bias``: ``plan.prepack`` keeps
    them, and other values need no other plan.

    Examples
    --------
    >>> x, w = np.full((1, 2, 4, 4), 130, np.uint8), np.full((3, 2, 3, 3), 4, np.int8)
    >>> qconv2d(x, w, x_zero=128, padding=1)[0, 0, 0]
    array([64, 96, 96, 64], dtype=int32)
    >>> qconv2d(x, w, x_scale=0.5, x_zero=128, w_scale=0.25, y_scale=0.5, padding=1)[0, 0, 0]
    array([16, 24, 24, 16], dtype=uint8)
    """
    x, w = arrays_of(x=x, w=w)
    parameters = Parameters(
        {"x": x, "w": w}, (x_scale, w_scale), (x_zero, w_zero), y_scale, y_zero, out_dtype
    )
    return call(
        QCONV2D,
        (x, w, bias, *parameters.arrays()),
        (
            stride, padding, dilation, groups, layout, activation, parameters.per_channel,
            parameters.output,
        ),
        out,
        device,
        tolerance,
    )  # fmt: skip
