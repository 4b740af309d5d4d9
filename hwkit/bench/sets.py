"""The problems that are compared: layers of known networks, and matrix products.

Each distinct layer comes once, with the number of times that the network has it. ResNet-50 is the
variant with the stride in the 3x3 convolution. References: He and others, arXiv:1512.03385; Howard
and others, arXiv:1704.04861; Simonyan and Zisserman, arXiv:1409.1556; Szegedy and others, "Going
deeper with convolutions" (GoogLeNet), arXiv:1409.4842.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import ArgumentError

__all__ = ["DTYPES", "SETS", "Layer", "layers"]

_BYTES = ("int8", "uint8")

DTYPES = ("float32", "float64", "float16", "bfloat16", *_BYTES)
"""Dtypes of the sets; the 8-bit ones are quantised problems with int8 weights."""


class Layer(NamedTuple):
    """The text of a problem, and how often its network has it."""

    problem: str
    times: int = 1


class _Conv(NamedTuple):
    """A square convolution on a square image, padded so that stride 1 keeps its size."""

    times: int
    channels: int
    size: int
    kernels: int
    width: int
    stride: int = 1
    groups: int = 1

    def text(self, dtype: str, layout: str, batch: int, epilogue: str) -> str:
        name = "conv2d"
        if dtype in _BYTES:
            name, dtype = "qconv2d", f"{dtype},int8,{dtype},int32"
        words = [
            f"{name} {dtype} {layout} n={batch} c={self.channels} h={self.size} w={self.size}",
            f"k={self.kernels} r={self.width} s={self.width}",
            f"pad={self.width // 2} stride={self.stride}",
        ]
        words += [f"groups={self.groups}"] if self.groups > 1 else []
        words += ["per_channel=true"] if name == "qconv2d" else []
        return " ".join(words + ([epilogue] if epilogue else []))


def _stage(blocks: int, before: int, middle: int, size: int, stride: int) -> list[_Conv]:
    """The bottleneck blocks of one stage of ResNet; ``size`` is that of the stage's output."""
    after, wide = 4 * middle, size * stride
    found = [
        _Conv(1, before, wide, middle, 1),
        _Conv(1, middle, wide, middle, 3, stride),
        _Conv(1, before, wide, after, 1, stride),
        _Conv(blocks, middle, size, after, 1),
        _Conv(blocks - 1, after, size, middle, 1),
        _Conv(blocks - 1, middle, size, middle, 3),
    ]
    return _merged(found)


def _merged(found: list[_Conv]) -> list[_Conv]:
    counts: dict[_Conv, int] = {}
    for conv in found:
        key = conv._replace(times=0)
        counts[key] = counts.get(key, 0) + conv.times
    return [key._replace(times=count) for key, count in counts.items()]


def _separable(count: int, channels: int, size: int, kernels: int, stride: int) -> list[_Conv]:
    """A depthwise 3x3 and a pointwise convolution of MobileNet; ``size`` is that of the input."""
    return [
        _Conv(count, channels, size, channels, 3, stride, channels),
        _Conv(count, channels, size // stride, kernels, 1),
    ]


_NETWORKS: dict[str, list[_Conv]] = {
    "resnet50": [
        _Conv(1, 3, 224, 64, 7, 2),
        *_stage(3, 64, 64, 56, 1),
        *_stage(4, 256, 128, 28, 2),
        *_stage(6, 512, 256, 14, 2),
        *_stage(3, 1024, 512, 7, 2),
    ],
    "mobilenetv1": [
        _Conv(1, 3, 224, 32, 3, 2),
        *_separable(1, 32, 112, 64, 1),
        *_separable(1, 64, 112, 128, 2),
        *_separable(1, 128, 56, 128, 1),
        *_separable(1, 128, 56, 256, 2),
        *_separable(1, 256, 28, 256, 1),
        *_separable(1, 256, 28, 512, 2),
        *_separable(5, 512, 14, 512, 1),
        *_separable(1, 512, 14, 1024, 2),
        *_separable(1, 1024, 7, 1024, 1),
    ],
    "vgg16": [
        _Conv(1, 3, 224, 64, 3),
        _Conv(1, 64, 224, 64, 3),
        _Conv(1, 64, 112, 128, 3),
        _Conv(1, 128, 112, 128, 3),
        _Conv(1, 128, 56, 256, 3),
        _Conv(2, 256, 56, 256, 3),
        _Conv(1, 256, 28, 512, 3),
        _Conv(2, 512, 28, 512, 3),
        _Conv(3, 512, 14, 512, 3),
    ],
}

# Kind, times, channels, size of the input, window, stride, padding, and whether the last window may
# reach beyond the edge, as in GoogLeNet.
_POOLS: list[tuple[str, int, int, int, int, int, int, bool]] = [
    ("max", 1, 64, 112, 3, 2, 1, False),  # ResNet-50
    ("max", 1, 64, 224, 2, 2, 0, False),  # VGG16
    ("max", 1, 128, 112, 2, 2, 0, False),
    ("max", 1, 256, 56, 2, 2, 0, False),
    ("max", 1, 512, 28, 2, 2, 0, False),
    ("max", 1, 512, 14, 2, 2, 0, False),
    ("max", 1, 64, 112, 3, 2, 0, True),  # GoogLeNet, between the stages
    ("max", 1, 192, 56, 3, 2, 0, True),
    ("max", 1, 480, 28, 3, 2, 0, True),
    ("max", 1, 832, 14, 3, 2, 0, True),
    ("max", 1, 192, 28, 3, 1, 1, False),  # and inside its inception modules
    ("max", 1, 512, 14, 3, 1, 1, False),
    ("max", 1, 832, 7, 3, 1, 1, False),
    ("avg", 1, 512, 14, 5, 3, 0, False),  # and in front of its side exits
    ("avg", 1, 192, 28, 3, 1, 1, False),
    ("global_avg", 1, 2048, 7, 7, 1, 0, False),  # ResNet-50
    ("global_avg", 2, 1024, 7, 7, 1, 0, False),  # MobileNetV1, GoogLeNet
]


def _pools(dtype: str, layout: str, batch: int) -> list[Layer]:
    found: list[Layer] = []
    for kind, times, channels, size, width, stride, pad, over in _POOLS:
        text = f"{kind}_pool2d {dtype} {layout} n={batch} c={channels} h={size} w={size}"
        if not kind.startswith("global"):
            text += f" r={width} s={width} pad={pad} stride={stride}"
            text += " ceil_mode=true" * over
        found.append(Layer(text, times))
    return found


_PRODUCTS: dict[str, list[tuple[int, int, int]]] = {
    "gemm": [(n, n, n) for n in (128, 256, 512, 1024, 2048)],
    "gemm-skinny": [
        *[(m, 1024, 1024) for m in (1, 4, 16, 64)],
        *[(m, 4096, 4096) for m in (1, 16, 64)],
        *[(1, 1000, k) for k in (1024, 2048, 4096)],  # last layers: MobileNetV1, ResNet-50, VGG16
        (1, 4096, 25088),  # the first of VGG16's fully connected layers
        *[(m, n, 768) for m in (1, 8) for n in (768, 2304, 3072)],  # attention and what follows it
        (8, 768, 3072),
        (3136, 64, 64),
        (196, 256, 1024),
        (49, 512, 2048),
    ],
    "gemm-tiny": [(n, n, n) for n in (8, 12, 16, 24, 32, 48, 64)],
}

SETS = (*_NETWORKS, *_PRODUCTS, "pool")
"""Names of the sets."""


def layers(
    name: str, *, dtype: str = "float32", layout: str = "nhwc", batch: int = 1, epilogue: str = ""
) -> list[Layer]:
    """Return the problems of a set.

    Args:
        name: one of :data:`SETS`.
        dtype: of all arrays; ``"int8"`` and ``"uint8"`` are of the images, or of the left matrix:
            convolutions are requantised, with a scale for each channel, and products are int32.
        layout: of the images, ``"nchw"`` or ``"nhwc"``; products are always ``"nn"``.
        batch: images at once; it does not change the products.
        epilogue: what is fused, as ``"+bias+relu"``; pooling has none.

    Raises:
        ArgumentError: there is no set of that name, or none of that dtype.
    """
    if dtype not in DTYPES:
        raise ArgumentError(f"dtype {dtype!r} must be one of {', '.join(DTYPES)}")
    if name in _NETWORKS:
        return [Layer(c.text(dtype, layout, batch, epilogue), c.times) for c in _NETWORKS[name]]
    if name == "pool" and dtype in _BYTES:
        raise ArgumentError(f"pooling is not for {dtype}: leave --set pool away, or --dtype")
    if name == "pool":
        return _pools(dtype, layout, batch)
    if name in _PRODUCTS:
        end = f" {epilogue}" if epilogue else ""
        head = f"gemm {dtype} nn"
        if dtype in _BYTES:
            head = f"qmatmul {dtype},int8,int32,int32 nn b=1"
        return [Layer(f"{head} m={m} n={n} k={k}{end}") for m, n, k in _PRODUCTS[name]]
    raise ArgumentError(f"set {name!r} is not known: write one of {', '.join(SETS)}")
