"""Single nodes give onnxruntime's answers where ONNX differs from numpy, or leaves room."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hwkit

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
helper = onnx.helper

X = np.random.default_rng(3).standard_normal((4, 5, 6)).astype(np.float32)


def answers(kind: str, inputs: list[Any], opset: int = 17, **attributes: Any) -> list[Any]:
    """Run a node of one array and constants, by hwkit and by onnxruntime."""
    names = [f"i{n}" for n in range(len(inputs))]
    constants = [
        onnx.numpy_helper.from_array(np.asarray(a), n) for a, n in zip(inputs, names, strict=True)
    ][1:]
    x = helper.make_tensor_value_info("i0", onnx.TensorProto.FLOAT, inputs[0].shape)
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    node = helper.make_node(kind, names, ["y"], **attributes)
    graph = helper.make_graph([node], "test", [x], [y], constants)
    versions = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (want,) = session.run(None, {"i0": inputs[0]})
    return [hwkit.load(model).run({"i0": inputs[0]})["y"], want]


@pytest.mark.parametrize(
    ("shape", "axis"), [((4, 5, 6), 1), ((2, 9, 3), 1), ((1, 5, 1), -1), ((7, 1, 6), 0)]
)
def test_indices_by_element_may_be_fewer_than_the_elements(
    shape: tuple[int, ...], axis: int
) -> None:
    """Indices speak of the first elements along the other axes; nothing is broadcast."""
    indices = np.random.default_rng(4).integers(-X.shape[axis], X.shape[axis], shape)
    got, want = answers("GatherElements", [X, indices], axis=axis)
    np.testing.assert_array_equal(got, want)


def test_indices_by_element_must_lie_within_the_array() -> None:
    """More of them along another axis is one sentence."""
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (2, 3))
    i = helper.make_tensor_value_info("i", onnx.TensorProto.INT64, (3, 3))
    node = helper.make_node("GatherElements", ["x", "i"], ["y"], axis=1)
    graph = helper.make_graph([node], "test", [x, i], [y])
    with pytest.raises(hwkit.errors.ArgumentError, match=r"indices of shape \(3, 3\)"):
        hwkit.load(helper.make_model(graph, ir_version=8))


@pytest.mark.parametrize(
    ("start", "end", "step"),
    [(-100, -(2**63), -1), (-100, -200, -1), (100, -100, -2), (-1, -(2**31), -1), (-7, -8, -3)],
)
def test_slices_downwards_begin_within_the_axis(start: int, end: int, step: int) -> None:
    """A start before the first element is the first element, as ONNX clamps it."""
    numbers = [np.array([n], np.int64) for n in (start, end, 1, step)]
    got, want = answers("Slice", [X, *numbers])
    np.testing.assert_array_equal(got, want)


RESIZES: list[tuple[int, list[Any], dict[str, Any]]] = [
    (10, [X[None], np.array([1, 1, 0.6, 0.5], np.float32)], {"mode": "nearest"}),
    (
        11,
        [X[None], np.zeros(0, np.float32), np.array([1, 1, 2, 1.5], np.float32)],
        {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"},
    ),
    (
        13,
        [
            X[None],
            np.array([0, 0, 0.1, 0.2, 1, 1, 0.8, 0.9], np.float32),
            np.array([1, 1, 1.5, 2], np.float32),
        ],
        {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": "linear"},
    ),
]


RESIZES += [
    (13, [X[None], np.zeros(0, np.float32), np.array([1, 1, *more], np.float32)], attributes)
    for more in ((2, 3), (1, 2), (1.5, 2))
    for attributes in ({"mode": "nearest"}, {"mode": "linear"})
]


@pytest.mark.parametrize(("opset", "inputs", "attributes"), RESIZES)
def test_resize_by_scales(opset: int, inputs: list[Any], attributes: dict[str, Any]) -> None:
    """Sizes and places are onnxruntime's: shrinking in operator set 10, cropping, repeating."""
    got, want = answers("Resize", inputs, opset, **attributes)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rounding", ["floor", "ceil"])
@pytest.mark.parametrize("mode", ["asymmetric", "half_pixel", "pytorch_half_pixel"])
def test_nearest_pixels_are_those_of_float32(mode: str, rounding: str) -> None:
    """Scales of one digit, which no float holds, meet old pixels exactly, as they are meant to."""
    roi = np.zeros(0, np.float32)
    attributes = {"coordinate_transformation_mode": mode, "nearest_mode": rounding}
    for size in (1, 7, 10, 33):
        for tenths in range(3, 31):
            if size * tenths >= 10:
                x = np.arange(size, dtype=np.float32)[None]
                scales = np.array([2, tenths / 10], np.float32)
                got, want = answers("Resize", [x, roi, scales], 13, mode="nearest", **attributes)
                np.testing.assert_array_equal(got, want, err_msg=f"{size} x {tenths / 10}")


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_ceil_mode_takes_images_smaller_than_the_window(kind: str, rank: int) -> None:
    """The last map of a ResNet-D of small images is one pixel under windows of two by two."""
    for size in (1, 2, 3):
        x = np.random.default_rng(size).standard_normal((2, 3, *(size,) * rank)).astype(np.float32)
        for window, stride in ((2, 2), (3, 3), (2, 3)):
            attributes = {"kernel_shape": [window] * rank, "strides": [stride] * rank}
            got, want = answers(kind, [x], ceil_mode=1, **attributes)
            np.testing.assert_allclose(got, want, rtol=1e-5, err_msg=f"{size}, {attributes}")


@pytest.mark.parametrize("mode", ["NOTSET", "SAME_UPPER", "SAME_LOWER"])
def test_transposed_convolution_of_a_given_size(mode: str) -> None:
    """The odd pixel is cut before the image, but with SAME_UPPER behind it."""
    w = np.random.default_rng(5).standard_normal((4, 3, 4, 2)).astype(np.float32)
    sizes = {"output_shape": [9, 12], "strides": [2, 2]}
    got, want = answers("ConvTranspose", [X[None], w], auto_pad=mode, **sizes)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_transposed_convolution_of_windows_smaller_than_strides(mode: str) -> None:
    """As large as ONNX's text says, which is onnxruntime's answer with zeros behind it."""
    w = np.random.default_rng(5).standard_normal((4, 3, 1, 2)).astype(np.float32)
    options = {"auto_pad": mode, "strides": [2, 3]}
    got, want = answers("ConvTranspose", [X[None], w], **options)
    assert got.shape == (1, 3, 5 * 2, 6 * 3)
    more = [(0, a - b) for a, b in zip(got.shape, want.shape, strict=True)]
    np.testing.assert_allclose(got, np.pad(want, more), rtol=1e-5, atol=1e-5)
    got, want = answers("ConvTranspose", [X[None], w], output_shape=[10, 18], **options)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalisation(opset: int) -> None:
    """Operator set 18 has a scale and bias a group, 21 one a channel."""
    rng = np.random.default_rng(6)
    scale, bias = rng.standard_normal((2, 2 if opset < 21 else 4)).astype(np.float32)
    got, want = answers("GroupNormalization", [X[None], scale, bias], opset, num_groups=2)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 9, 8), (2, 3000, 3), (2, 1, 2000)])
@pytest.mark.parametrize(("largest", "axis"), [(1, -1), (0, 1), (1, 1)])
def test_the_first_of_equal_elements_comes_first(
    largest: int, axis: int, shape: tuple[int, ...]
) -> None:
    """TopK of numbers with many ties, all of them sorted or only a few of many."""
    x = np.random.default_rng(7).integers(0, max(shape) // 3, shape).astype(np.float32)
    count = min(5, shape[axis])
    x_info = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)
    outs = [helper.make_empty_tensor_value_info(n) for n in ("y", "i")]
    outs[0].type.tensor_type.elem_type, outs[1].type.tensor_type.elem_type = 1, 7
    k = onnx.numpy_helper.from_array(np.array([count], np.int64), "k")
    node = helper.make_node("TopK", ["x", "k"], ["y", "i"], largest=largest, axis=axis)
    graph = helper.make_graph([node], "test", [x_info], outs, [k])
    versions = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = hwkit.load(model).run({"x": x})
    for name, want in zip(("y", "i"), session.run(None, {"x": x}), strict=True):
        np.testing.assert_array_equal(found[name], want)


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "uint8"])
def test_a_few_of_many_are_the_first_of_all_sorted(largest: int, dtype: str) -> None:
    """TopK that sorts candidates only gives what a sort of all gives, NaN and infinities too."""
    from hwkit.graph.ir import Node
    from hwkit.graph.nodes.placing import _top

    rng = np.random.default_rng(8)
    x = (rng.standard_normal((3, 5000)) * 20).astype(dtype)
    if x.dtype.kind == "f":
        x[0, ::701], x[1, 5], x[1, ::900], x[2] = np.nan, np.inf, -np.inf, 0
    node = Node("TopK", [], [], {"largest": largest})
    every = _top(node, x, np.array(5000))
    for count in (1, 40, 1250):
        for found, want in zip(_top(node, x, np.array(count)), every, strict=True):
            np.testing.assert_array_equal(found, want[:, :count])
