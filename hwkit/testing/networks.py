"""Well-known networks as ONNX models with seeded random weights: nothing is downloaded.

References: Howard and others, arXiv:1704.04861 (MobileNetV1); Sandler and others,
arXiv:1801.04381 (MobileNetV2); Liu and others, arXiv:1512.02325 (SSD); He and others,
arXiv:1512.03385 (ResNet-50, with the stride in the 3x3 convolution); Simonyan and Zisserman,
arXiv:1409.1556 (VGG16); Iandola and others, arXiv:1602.07360 (SqueezeNet 1.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError

__all__ = ["NETWORKS", "network", "reseed"]

_OPSET = 17


class _Maker:
    """Nodes and weights of a model in the making; a layer takes and returns names."""

    def __init__(self, seed: int) -> None:
        from onnx import helper, numpy_helper

        self._helper, self._numpy = helper, numpy_helper
        self._rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.channels: dict[str, int] = {}

    def weight(self, array: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(self._numpy.from_array(np.ascontiguousarray(array), name))
        return name

    def normal(self, shape: tuple[int, ...], scale: float) -> str:
        return self.weight(self._rng.standard_normal(shape, np.float32) * np.float32(scale))

    def node(self, kind: str, inputs: list[str], channels: int, **attributes: Any) -> str:
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(kind, inputs, [name], name=name, **attributes))
        self.channels[name] = channels
        return name

    def conv(
        self, x: str, k: int, r: int, stride: int = 1, pad: int | None = None, groups: int = 1,
        bias: bool = True,
    ) -> str:  # fmt: skip
        c = self.channels[x]
        depth = c // groups * r * r
        weights = [self.normal((k, c // groups, r, r), math.sqrt(2 / depth))]
        weights += [self.normal((k,), 0.1)] if bias else []
        pad = r // 2 if pad is None else pad
        return self.node(
            "Conv", [x, *weights], k,
            kernel_shape=[r, r], strides=[stride] * 2, pads=[pad] * 4, group=groups,
        )  # fmt: skip

    def norm(self, x: str) -> str:
        c = self.channels[x]
        near = np.float32(0.1) * self._rng.standard_normal((3, c), np.float32)
        parts = (1 + near[0], near[1], near[2], np.abs(1 + near[0]))
        return self.node("BatchNormalization", [x, *map(self.weight, parts)], c)

    def relu(self, x: str) -> str:
        return self.node("Relu", [x], self.channels[x])

    def relu6(self, x: str) -> str:
        ends = [self.weight(np.float32(v)) for v in (0, 6)]
        return self.node("Clip", [x, *ends], self.channels[x])

    def unit(
        self, x: str, k: int, r: int, stride: int = 1, groups: int = 1, act: str = "relu"
    ) -> str:
        """Convolution, batch norm, activation."""
        y = self.norm(self.conv(x, k, r, stride, groups=groups, bias=False))
        return getattr(self, act)(y) if act else y

    def dense(self, x: str, n: int) -> str:
        k = self.channels[x]
        weights = [self.normal((n, k), math.sqrt(1 / k)), self.normal((n,), 0.1)]
        return self.node("Gemm", [x, *weights], n, transB=1)

    def model(self, name: str, inputs: list[Any], outputs: list[str]) -> Any:
        from onnx import TensorProto

        found = [self._helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
        graph = self._helper.make_graph(self.nodes, name, inputs, found, self.weights)
        opset = [self._helper.make_opsetid("", _OPSET)]
        return self._helper.make_model(graph, opset_imports=opset, ir_version=8)


def network(name: str, seed: int = 0, batch: int | str = 1) -> Any:
    """Return a network as an ``onnx.ModelProto``.

    Args:
        name: one of :data:`NETWORKS`.
        seed: of the weights.
        batch: images at once; a name such as ``"n"`` leaves it open.

    Raises:
        ArgumentError: there is no network of that name.
    """
    if name not in NETWORKS:
        raise ArgumentError(f"network {name!r} is not known: there are {', '.join(NETWORKS)}")
    from onnx import TensorProto, helper

    build, size = NETWORKS[name]
    maker = _Maker(seed)
    maker.channels["x"] = 3
    outputs = build(maker, "x")
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, size, size])
    return maker.model(name, [image], outputs)


def _classify(m: _Maker, x: str, classes: int = 1000) -> list[str]:
    y = m.node("GlobalAveragePool", [x], m.channels[x])
    y = m.node("Flatten", [y], m.channels[x])
    return [m.dense(y, classes)]


def _mobile_blocks(m: _Maker, x: str, plan: list[tuple[int, int]]) -> list[str]:
    """Depthwise and pointwise units; returns the output of each."""
    found = []
    for channels, stride in plan:
        x = m.unit(x, m.channels[x], 3, stride, groups=m.channels[x], act="relu6")
        x = m.unit(x, channels, 1, act="relu6")
        found.append(x)
    return found


_MOBILE = [
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5,
    (1024, 2), (1024, 1),
]  # fmt: skip


def _mobilenet_v1(m: _Maker, x: str) -> list[str]:
    return _classify(m, _mobile_blocks(m, m.unit(x, 32, 3, 2, act="relu6"), _MOBILE)[-1])


def _mobilenet_v2(m: _Maker, x: str) -> list[str]:
    x = m.unit(x, 32, 3, 2, act="relu6")
    plan = [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
        (6, 160, 3, 2), (6, 320, 1, 1),
    ]  # fmt: skip
    for factor, channels, count, first in plan:
        for index in range(count):
            stride, before = first if index == 0 else 1, x
            wide = m.channels[x] * factor
            y = m.unit(x, wide, 1, act="relu6") if factor > 1 else x
            y = m.unit(y, wide, 3, stride, groups=wide, act="relu6")
            x = m.unit(y, channels, 1, act="")
            if stride == 1 and m.channels[before] == channels:
                x = m.node("Add", [before, x], channels)
    return _classify(m, m.unit(x, 1280, 1, act="relu6"))


def _ssd(m: _Maker, x: str) -> list[str]:
    """MobileNetV1 with six heads; boxes are not decoded and not suppressed."""
    found = _mobile_blocks(m, m.unit(x, 32, 3, 2, act="relu6"), _MOBILE)
    maps = [found[10], found[12]]
    for middle, channels in ((256, 512), (128, 256), (128, 256), (64, 128)):
        y = m.unit(maps[-1], middle, 1, act="relu6")
        maps.append(m.unit(y, channels, 3, 2, act="relu6"))
    outputs = []
    for width, kind in ((4, "boxes"), (91, "scores")):
        parts = []
        for index, source in enumerate(maps):
            anchors = 3 if index == 0 else 6
            y = m.conv(source, anchors * width, 1)
            y = m.node("Transpose", [y], 0, perm=[0, 2, 3, 1])
            shape = m.weight(np.array([0, -1, width], np.int64))
            parts.append(m.node("Reshape", [y, shape], 0))
        joined = m.node("Concat", parts, 0, axis=1)
        outputs.append(joined if kind == "boxes" else m.node("Sigmoid", [joined], 0))
    return outputs


def _resnet50(m: _Maker, x: str) -> list[str]:
    x = m.unit(x, 64, 7, 2)
    x = m.node("MaxPool", [x], 64, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for stage, (count, middle) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for index in range(count):
            stride = 2 if stage and not index else 1
            y = m.unit(x, middle, 1)
            y = m.unit(y, middle, 3, stride)
            y = m.unit(y, 4 * middle, 1, act="")
            side = m.unit(x, 4 * middle, 1, stride, act="") if index == 0 else x
            x = m.relu(m.node("Add", [y, side], 4 * middle))
    return _classify(m, x)


def _vgg16(m: _Maker, x: str) -> list[str]:
    for count, channels in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(count):
            x = m.relu(m.conv(x, channels, 3))
        x = m.node("MaxPool", [x], channels, kernel_shape=[2, 2], strides=[2, 2])
    x = m.node("Flatten", [x], 512 * 49)
    for _ in range(2):
        x = m.relu(m.dense(x, 4096))
    return [m.dense(x, 1000)]


def _squeezenet(m: _Maker, x: str) -> list[str]:
    def pool(y: str) -> str:
        return m.node("MaxPool", [y], m.channels[y], kernel_shape=[3, 3], strides=[2, 2])

    x = pool(m.relu(m.conv(x, 64, 3, 2, pad=0)))
    for index, (squeeze, expand) in enumerate(
        ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
    ):
        x = pool(x) if index in (2, 4) else x
        y = m.relu(m.conv(x, squeeze, 1))
        parts = [m.relu(m.conv(y, expand, r)) for r in (1, 3)]
        x = m.node("Concat", parts, 2 * expand, axis=1)
    x = m.relu(m.conv(x, 1000, 1))
    y = m.node("GlobalAveragePool", [x], 1000)
    return [m.node("Flatten", [y], 1000)]


NETWORKS: dict[str, tuple[Callable[[_Maker, str], list[str]], int]] = {
    "mobilenetv1": (_mobilenet_v1, 224),
    "mobilenetv2": (_mobilenet_v2, 224),
    "mobilenet-ssd": (_ssd, 300),
    "resnet50": (_resnet50, 224),
    "vgg16": (_vgg16, 224),
    "squeezenet": (_squeezenet, 224),
}
"""Names of the networks; to each, what builds it and the size of its image."""


def reseed(model: Any, seed: int = 0) -> Any:
    """Give a model whose weights say nothing random ones, in place, and return it.

    Weights made by ConstantOfShape become constants. Matrices and filters are scaled so that
    activations keep their size; vectors become positive numbers around one, which is legal for
    every use, variances included. A Softmax at the end is cut off: it would hide differences.
    """
    from onnx import numpy_helper

    rng = np.random.default_rng(seed)
    graph = model.graph
    known = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    shapes = {name: array.shape for name, array in known.items() if _is_weight(array)}
    for node in [n for n in graph.node if n.op_type == "ConstantOfShape" and n.input[0] in known]:
        shapes[node.output[0]] = tuple(known[node.input[0]].tolist())
        graph.node.remove(node)
    for name, shape in shapes.items():
        old = next((t for t in graph.initializer if t.name == name), None)
        new = numpy_helper.from_array(_random(rng, shape), name)
        graph.initializer.add().CopyFrom(new) if old is None else old.CopyFrom(new)
    last = graph.node[-1]
    if last.op_type == "Softmax":
        graph.node.remove(last)
        graph.output[0].name = last.input[0]
        graph.output[0].type.tensor_type.ClearField("shape")
    return model


def _is_weight(array: Any) -> bool:
    return bool(array.dtype == np.float32 and array.size > 1)


def _random(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    values = rng.standard_normal(shape, np.float32)
    if len(shape) > 1:
        depth = math.prod(shape[1:])
        return values * np.float32(math.sqrt(2 / max(depth, 1)))
    return 1 + np.float32(0.05) * np.clip(values, -3, 3)
