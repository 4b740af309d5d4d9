"""ncnn's own form of a network: the text and the weights that it loads.

Layers and the numbers of their parameters are those of ncnn's "operation param weight table".
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Union

import numpy as np

from .libraries import Array

__all__ = ["FUSED", "LAYERS", "Network", "Parameter", "activation_values"]

ncnn: Any = import_module("ncnn")

Parameter = Union[int, float, Sequence[float]]

# What a convolution or an inner product fuses, by its number.
FUSED = {"relu": 1, "leaky_relu": 2, "relu6": 3, "clip": 3, "sigmoid": 4, "hard_swish": 6}
LAYERS = {
    "relu": "ReLU",
    "leaky_relu": "ReLU",
    "relu6": "Clip",
    "clip": "Clip",
    "sigmoid": "Sigmoid",
    "hard_swish": "HardSwish",
    "silu": "Swish",
}
# In front of an array's parameter number, negated.
_ARRAY = -23300


def activation_values(name: str, parameters: Sequence[float]) -> tuple[float, ...]:
    """Return what ncnn is told of an activation, in the order of its parameters."""
    fixed = {"relu6": (0.0, 6.0), "hard_swish": (1 / 6, 0.5)}
    return fixed.get(name, tuple(parameters))


class Network:
    """The text and the weights of a chain of layers.

    Attributes:
        inputs: arrays to feed, by name.
    """

    def __init__(self) -> None:
        self.inputs: dict[str, Array] = {}
        self.output = ""
        self._lines: list[str] = []
        self._blobs = 0
        self._weights: list[bytes] = []

    def input(self, name: str, array: Array) -> None:
        """Add an array that is fed at each run."""
        self.inputs[name] = array
        self._lines.append(f"Input {name} 0 1 {name}")
        self._blobs += 1

    def layer(self, kind: str, inputs: Sequence[str], numbers: dict[int, Parameter]) -> None:
        """Add a layer behind the others."""
        self.output = f"y{len(self._lines)}"
        words = [kind, self.output, str(len(inputs)), "1", *inputs, self.output]
        words += [_parameter(number, value) for number, value in numbers.items()]
        self._lines.append(" ".join(words))
        self._blobs += 1

    def split(self, name: str, count: int) -> list[str]:
        """Return names of copies of a layer's output, which one layer alone may take."""
        names = [f"{name}_{index}" for index in range(count)]
        self._lines.append(" ".join(["Split", f"{name}_split", "1", str(count), name, *names]))
        self._blobs += count
        return names

    def weights(self, array: Array, tagged: bool = True) -> None:
        """Add weights of the last layer; a tag of zero says that they are float32."""
        data = np.ascontiguousarray(array, np.float32).tobytes()
        self._weights.append((b"\0" * 4 if tagged else b"") + data)

    def load(self, threads: int) -> Any:
        """Return the network, its weights transformed and packed."""
        net = ncnn.Net()
        options = net.opt
        options.num_threads = threads
        options.use_packing_layout = True
        options.use_winograd_convolution = options.use_sgemm_convolution = True
        for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(options, f"use_{name}", False)
        # The 1st number is that of the format.
        text = "\n".join(["7767517", f"{len(self._lines)} {self._blobs}", *self._lines, ""])
        with tempfile.TemporaryDirectory(prefix="hwkit-bench-") as folder:
            path = Path(folder) / "weights.bin"
            path.write_bytes(b"".join(self._weights))
            if net.load_param_mem(text) != 0 or net.load_model(str(path)) < 0:
                raise ValueError("ncnn does not load the network")
        return net


def _parameter(number: int, value: Parameter) -> str:
    if isinstance(value, Sequence):
        return f"{_ARRAY - number}={len(value)},{','.join(repr(float(v)) for v in value)}"
    return f"{number}={value!r}"
