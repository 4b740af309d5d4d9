"""Nodes that onnxruntime's optimizer and quantizer write give its own answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hwkit

pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from small_networks import check, helper, network

DOMAIN = "com.microsoft"
RNG = np.random.default_rng(0)


def floats(*shape: int) -> Any:
    """Return normal numbers."""
    return RNG.standard_normal(shape).astype(np.float32)


def both(kind: str, arrays: list[Any], **attributes: Any) -> hwkit.graph.Model:
    """Compare a node of one array and constants; ``None`` for what is left out."""
    names = ["" if a is None else f"i{n}" for n, a in enumerate(arrays)]
    given = {n: np.asarray(a) for n, a in zip(names, arrays, strict=True) if n}
    node = helper.make_node(kind, names, ["y"], domain=DOMAIN, **attributes)
    x = next(n for n, a in given.items() if a.ndim)
    constants = {n: a for n, a in given.items() if n != x}
    model = network([node], {x: given[x]}, ["y"], constants)
    return check(model, {x: given[x]}, 1e-5)


@pytest.mark.parametrize(
    ("activation", "numbers"),
    [("Relu", []), ("LeakyRelu", [0.1]), ("Clip", [-0.5, 1.0]), ("HardSigmoid", [0.3, 0.4])],
)
def test_fused_convolutions(activation: str, numbers: list[float]) -> None:
    """The activation goes into the epilogue where hwkit has it there."""
    more = {"activation_params": numbers} if numbers else {}
    arrays = [floats(1, 4, 7, 6), floats(6, 2, 3, 3), floats(6)]
    model = both("FusedConv", arrays, group=2, pads=[1] * 4, activation=activation, **more)
    kinds = [step.node.type for step in model.program().steps]
    assert (activation in kinds) == (activation == "HardSigmoid")


def test_fused_products_and_gelus() -> None:
    """Turned operands, factors, biases and activations."""
    a, b, c = floats(5, 4), floats(3, 5), floats(3)
    both(
        "FusedGemm", [a, b, c], transA=1, transB=1, alpha=0.5, beta=2.0, activation="LeakyRelu",
        activation_alpha=0.2,
    )  # fmt: skip
    both("FusedMatMul", [floats(2, 5, 4), floats(2, 3, 5)], transA=1, transB=1, alpha=0.25)
    both("Gelu", [a])
    both("QuickGelu", [a], alpha=1.5)
    both("BiasGelu", [a, floats(4)])
    both("FastGelu", [a, floats(4)])


def test_a_fusion_with_an_unknown_activation_is_one_sentence() -> None:
    """Nothing is left out silently."""
    given = {"x": floats(1, 2, 3, 3), "w": floats(2, 2, 1, 1)}
    node = helper.make_node("FusedConv", ["x", "w"], ["y"], domain=DOMAIN, activation="Softmax")
    with pytest.raises(hwkit.errors.ArgumentError, match="unknown activation 'Softmax'"):
        hwkit.load(network([node], given, ["y"], {}))


@pytest.fixture(params=["int8", "uint8"])
def kind(request: pytest.FixtureRequest) -> Any:
    """Return a type of bytes."""
    return np.dtype(request.param)


def some(kind: Any, *shape: int) -> Any:
    """Return bytes of all values."""
    info = np.iinfo(kind)
    return RNG.integers(info.min, info.max + 1, shape).astype(kind)


def scales(kind: Any, *values: float) -> list[Any]:
    """Return each scale with a zero point."""
    return [v for s in values for v in (np.float32(s), some(kind).reshape(()))]


@pytest.mark.parametrize("shape", [(3, 40, 50), (40, 1), (1,)])
def test_sums_and_products_of_bytes(kind: Any, shape: tuple[int, ...]) -> None:
    """Every byte is that of onnxruntime, ties included."""
    for numbers in ((0.5, 0.25, 0.125), (0.013, 0.031, 0.044)):
        a, b, c = (scales(kind, n) for n in numbers)
        arrays = [some(kind, 3, 40, 50), *a, some(kind, *shape), *b, *c]
        both("QLinearAdd", arrays)
        both("QLinearMul", arrays)


def test_functions_of_bytes(kind: Any) -> None:
    """Sigmoids, leaky rectifiers, softmax and Concat."""
    x = some(kind, 2, 20, 30)
    both("QLinearSigmoid", [x, *scales(kind, 0.05, 1 / 256)])
    both("QLinearLeakyRelu", [x, *scales(kind, 0.05, 0.04)], alpha=0.2)
    least = np.array(np.iinfo(kind).min, kind)
    for axis, opset in ((1, 11), (-1, 13), (1, 13)):
        given = [x, *scales(kind, 0.02), np.float32(1 / 256), least]
        both("QLinearSoftmax", given, axis=axis, opset=opset)
    y = scales(kind, 0.03)
    other = some(kind, 2, 5, 30)
    both("QLinearConcat", [*y, x, *y, other, *scales(kind, 0.05)], axis=1)


@pytest.mark.parametrize("last", [0, 1])
def test_means_of_bytes(kind: Any, last: int) -> None:
    """Of whole images, and of windows with padding."""
    x = some(kind, 2, 7, 8, 5)
    both("QLinearGlobalAveragePool", [x, *scales(kind, 0.03, 0.02)], channels_last=last)
    for pad in (0, 1):
        both(
            "QLinearAveragePool", [x, *scales(kind, 0.25, 0.125)], channels_last=last,
            kernel_shape=[2, 1], strides=[2, 1], pads=[1, 0, 0, 0], count_include_pad=pad,
        )  # fmt: skip


def test_products_of_bytes(kind: Any) -> None:
    """With bytes or float32 as the result; sums are exact."""
    b, c = some(kind, 6, 40), RNG.integers(-900, 900, 6).astype(np.int32)
    given = [some(kind, 3, 40), *scales(kind, 0.03), b, *scales(kind, 0.02), c]
    both("QGemm", [*given, *scales(kind, 0.7)], transB=1)
    both("QGemm", given, transB=1, alpha=0.5)
    zero = np.uint8(7)
    weights = (some(kind, 40, 6) // 2).astype(kind)  # larger ones make onnxruntime saturate
    scale, nought = np.float32(0.02), np.zeros((), kind)
    pixels = some(np.uint8, 3, 40)
    given = [pixels, weights, scale, np.float32(0.01), zero, nought, floats(6)]
    both("MatMulIntegerToFloat", given)
    both("DynamicQuantizeMatMul", [floats(3, 40), weights, scale, nought, floats(6)])


def test_channels_last(kind: Any) -> None:
    """What onnxruntime's layout optimizer writes."""
    x = some(kind, 1, 6, 7, 3)
    w = some(kind, 4, 3, 3, 3)
    zero = np.zeros((), kind)
    given = [x, *scales(kind, 0.1), w, np.float32(0.02), zero, *scales(kind, 0.7)]
    both("QLinearConv", given, channels_last=1, pads=[1] * 4)
    both("NhwcMaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
