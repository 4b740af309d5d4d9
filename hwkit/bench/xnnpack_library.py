"""XNNPACK by way of LiteRT: a model of one operator and its epilogue; images are NHWC."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import KernelFailure
from ..op import Problem
from . import xnnpack_quantised as quantised
from .libraries import (
    POOLS,
    PRODUCTS,
    Array,
    Library,
    Variant,
    flat,
    float32_only,
    nchw_shape,
    silence,
    to_nchw,
)
from .quantised import OPS
from .tflite_model import FlatModel, Scale

__all__ = ["Xnnpack"]

litert: Any = import_module("ai_edge_litert.interpreter")

# Numbers of the schema's Padding and ActivationFunctionType.
_SAME, _VALID = 0, 1
_NONE = 0
_FUSED = {"relu": 1, "relu6": 3}


class Xnnpack(Library):
    """LiteRT, which hands the whole model to XNNPACK where that can run it."""

    name = "xnnpack"

    def __init__(self, threads: int) -> None:
        self.version = f"(LiteRT {version('ai-edge-litert')})"
        self._threads = threads

    def variants(
        self, problem: Problem, operands: tuple[Array, ...], packed: bool
    ) -> Iterator[Variant]:
        """Yield the model, if all of it can be said in TensorFlow Lite's operators."""
        named = {o.name: a for o, a in zip(problem.operands, operands, strict=True)}
        name = problem.op.name
        if name == "qmatmul":
            model = quantised.product(problem, named) if packed else None
        elif name not in OPS and any(array.dtype != np.float32 for array in operands):
            return
        elif name in PRODUCTS:
            model = _product(problem, named, packed)
        elif name in ("conv2d", "qconv2d"):
            model = _convolution(problem, named, packed)
        else:
            model = _pool(problem, named) if name in POOLS else None
        if model is not None:
            yield self._variant(model, problem)

    def networks(
        self, model: Path, inputs: dict[str, Array], options: dict[str, Any]
    ) -> Iterator[Variant]:
        """Yield the network, written in TensorFlow Lite's operators."""
        if not float32_only(inputs):
            return
        from .tflite_network import written

        interpreter, _ = self._interpreter(written(model, inputs))
        outputs = [each["index"] for each in interpreter.get_output_details()]

        def result(_: Any) -> Array:
            return flat(interpreter.get_tensor(index) for index in outputs)

        yield Variant("nhwc", interpreter.invoke, result)

    def _interpreter(self, model: FlatModel) -> tuple[Any, list[str]]:
        with silence():
            interpreter = litert.Interpreter(
                model_content=model.serialise(), num_threads=self._threads
            )
            interpreter.allocate_tensors()
        for detail, array in zip(interpreter.get_input_details(), model.inputs, strict=True):
            interpreter.set_tensor(detail["index"], array)
        operators = [each["op_name"] for each in interpreter._get_ops_details()]
        if "DELEGATE" not in operators:
            raise KernelFailure("launch", "XNNPACK does not take the operator")
        return interpreter, operators

    def _variant(self, model: FlatModel, problem: Problem) -> Variant:
        interpreter, operators = self._interpreter(model)
        label = "nhwc, padded apart" if "PADV2" in operators else "nhwc"
        (output,) = interpreter.get_output_details()

        def result(_: Any) -> Array:
            answer: Array = interpreter.get_tensor(output["index"])
            if problem.op.name in PRODUCTS:
                flat: Array = answer.reshape(problem.output.shape)
                return flat
            n, c, h, w = nchw_shape(problem)
            answer = answer.reshape(n, h, w, c)
            images: Array = answer if problem.layout == "nhwc" else answer.transpose(0, 3, 1, 2)
            return images

        return Variant(label, interpreter.invoke, result)


def _nhwc(problem: Problem, array: Array) -> Array:
    images: Array = to_nchw(problem, array).transpose(0, 2, 3, 1)
    return images


def _output(problem: Problem) -> tuple[int, int, int, int]:
    n, c, h, w = nchw_shape(problem)
    return n, h, w, c


def _same(problem: Problem) -> bool:
    """Whether the padding is what TensorFlow calls SAME: half of it, rounded down, in front."""
    top, _, left, _ = problem["pad"]
    dilation = problem["dilation"] if "dilation" in problem.attributes else (1, 1)
    sizes = zip(
        (problem["h"], problem["w"]), _output(problem)[1:3], (problem["r"], problem["s"]),
        problem["stride"], dilation, (top, left), strict=True,
    )  # fmt: skip
    for size, out, width, stride, spread, before in sizes:
        total = max((out - 1) * stride + (width - 1) * spread + 1 - size, 0)
        if out != -(-size // stride) or before != total // 2:
            return False
    return True


def _padded(
    model: FlatModel, problem: Problem, x: int, fill: float, form: tuple[str, Scale] | None = None
) -> int:
    """Pad apart what SAME and VALID do not say; integers get the zero point."""
    top, bottom, left, right = problem["pad"]
    borders = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    n, c, h, w = (problem[name] for name in "nchw")
    shape = (n, h + top + bottom, w + left + right, c)
    if fill == 0:
        return model.operator("PAD", [x, model.constant(borders)], shape, "PadOptions", form)
    held = model.constant(np.array([fill], np.float32))
    return model.operator("PADV2", [x, model.constant(borders), held], shape, "PadV2Options")


def _convolution(problem: Problem, named: dict[str, Array], packed: bool) -> FlatModel | None:
    narrow = problem.op.name == "qconv2d"
    if not packed or (narrow and not quantised.allowed(problem, named, "w_zero")):
        return None
    model = FlatModel()
    form = (problem.dtypes.input, Scale(named["x_scale"], named["x_zero"])) if narrow else None
    x = model.input(_nhwc(problem, named["x"]), form and form[1])
    padding = _VALID if problem["pad"] == (0, 0, 0, 0) else _SAME
    if padding == _SAME and not _same(problem):
        x, padding = _padded(model, problem, x, 0.0, form), _VALID
    w = to_nchw(problem, named["w"]).transpose(0, 2, 3, 1)
    groups, channels = problem["groups"], problem["c"]
    (down, across), (tall, wide) = problem["stride"], problem["dilation"]
    values: dict[str, Any] = {
        "padding": padding, "strideH": down, "strideW": across, "dilationHFactor": tall,
        "dilationWFactor": wide, "fusedActivationFunction": _fused(problem, named),
    }  # fmt: skip
    kind, options, axis = "CONV_2D", "Conv2DOptions", 0
    if groups > 1 and groups == channels:
        kind, options, axis = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", 3
        values["depthMultiplier"] = problem["k"] // channels
        w = w.transpose(3, 1, 2, 0)
    if narrow:
        weights = model.constant(w, quantised.weights_scale(named["w_scale"], axis))
        scale = named["x_scale"] * named["w_scale"]
        bias = model.constant(*quantised.bias(problem, named, scale))
        end = quantised.stored(problem, named)
        model.operator(kind, [x, weights, bias], _output(problem), options, end, **values)
        return model
    bias = model.constant(named.get("bias", np.zeros(problem["k"], np.float32)))
    model.operator(kind, [x, model.constant(w), bias], _output(problem), options, **values)
    residual = named.get("residual")
    return _finish(
        model, problem, None if residual is None else _nhwc(problem, residual), _output(problem)
    )


def _fused(problem: Problem, named: dict[str, Array]) -> int:
    """Return the activation that the operator itself fuses."""
    if problem.activation is None or "residual" in named:
        return _NONE
    return _FUSED.get(problem.activation[0], _NONE)


def _finish(
    model: FlatModel, problem: Problem, residual: Array | None, shape: tuple[int, ...]
) -> FlatModel:
    name, parameters = problem.activation or ("", ())
    fused = _FUSED.get(name, _NONE)
    if residual is not None:
        added = [model.output, model.input(residual)]
        model.operator("ADD", added, shape, "AddOptions", fusedActivationFunction=fused)
    if fused or not name:
        return model
    before = model.output
    if name == "leaky_relu":
        model.operator("LEAKY_RELU", [before], shape, "LeakyReluOptions", alpha=parameters[0])
    elif name == "hard_swish":
        model.operator("HARD_SWISH", [before], shape, "HardSwishOptions")
    elif name in ("sigmoid", "silu"):
        model.operator("LOGISTIC", [before], shape)
        if name == "silu":
            model.operator("MUL", [before, model.output], shape, "MulOptions")
    else:
        for kind, bound in zip(("MAXIMUM", "MINIMUM"), parameters, strict=True):
            held = model.constant(np.full((1,) * len(shape), bound, np.float32))
            model.operator(kind, [model.output, held], shape, "MaximumMinimumOptions")
    return model


def _product(problem: Problem, named: dict[str, Array], packed: bool) -> FlatModel | None:
    if problem.attributes.get("alpha", 1.0) != 1.0 or "c" in named:
        return None
    model = FlatModel()
    a = model.input(named["a"])
    shape = problem.output.shape
    first, second = tuple(problem.layout if problem.op.name == "gemm" else "nn")
    if packed and problem.op.name == "gemm" and first == "n":
        b = named["b"] if second == "t" else named["b"].T
        bias = named.get("bias", np.zeros(shape[1], np.float32))
        model.operator(
            "FULLY_CONNECTED", [a, model.constant(b), model.constant(bias)], shape,
            "FullyConnectedOptions", fusedActivationFunction=_fused(problem, named),
        )  # fmt: skip
        return _finish(model, problem, named.get("residual"), shape)
    model.operator(
        "BATCH_MATMUL", [a, model.input(named["b"])], shape, "BatchMatMulOptions",
        adjX=first == "t", adjY=second == "t",
    )  # fmt: skip
    if "bias" in named:
        model.operator("ADD", [model.output, model.constant(named["bias"])], shape, "AddOptions")
    return _finish(_activated(model, problem, named), problem, named.get("residual"), shape)


def _activated(model: FlatModel, problem: Problem, named: dict[str, Array]) -> FlatModel:
    """Add an activation as an operator of its own, where nothing before could fuse it."""
    kind = {1: "RELU", 3: "RELU6"}.get(_fused(problem, named))
    if kind is not None:
        model.operator(kind, [model.output], problem.output.shape)
    return model


def _pool(problem: Problem, named: dict[str, Array]) -> FlatModel | None:
    model = FlatModel()
    x = model.input(_nhwc(problem, named["x"]))
    name = problem.op.name
    average = "avg" in name
    n, h, w, c = _output(problem)
    if name.startswith("global"):
        axes = model.constant(np.array([1, 2], np.int32))
        kind = "MEAN" if average else "REDUCE_MAX"
        model.operator(kind, [x, axes], (n, h, w, c), "ReducerOptions", keepDims=True)
        return model
    if problem.attributes.get("dilation", (1, 1)) != (1, 1):
        return None
    # A last window that reaches beyond the edge is like padding there.
    padding = _VALID if problem["pad"] == (0, 0, 0, 0) and not problem["ceil_mode"] else _SAME
    counted = average and problem["count_include_pad"]
    if padding == _SAME and (counted or not _same(problem)):
        if problem["ceil_mode"] or (average and not counted):
            return None
        x = _padded(model, problem, x, 0.0 if average else float(np.finfo(np.float32).min))
        padding = _VALID
    down, across = problem["stride"]
    model.operator(
        "AVERAGE_POOL_2D" if average else "MAX_POOL_2D", [x], (n, h, w, c), "Pool2DOptions",
        padding=padding, strideH=down, strideW=across, filterHeight=problem["r"],
        filterWidth=problem["s"],
    )  # fmt: skip
    return model
