"""ncnn: a network of one layer and its epilogue, in float32, with images plain and blocked.

Layers and the numbers of their parameters are those of ncnn's "operation param weight table".
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Union

import numpy as np

from ..op import Problem
from .libraries import PRODUCTS, Array, Library, Variant, flat, from_nchw, nchw_shape, to_nchw

__all__ = ["FUSED", "LAYERS", "Ncnn", "Network", "Parameter"]

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
# Elements that ncnn's blocked layouts keep side by side, the widest first.
_BLOCKS = (16, 8, 4)


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


class Ncnn(Library):
    """ncnn on the CPU: one image, Winograd and packing allowed, nothing below float32."""

    name = "ncnn"

    def __init__(self, threads: int) -> None:
        self.version = str(ncnn.__version__)
        self._threads = threads
        ncnn.set_omp_num_threads(threads)

    def variants(
        self, problem: Problem, operands: tuple[Array, ...], packed: bool
    ) -> Iterator[Variant]:
        """Yield the network with plain images, and with those blocks that divide the channels."""
        named = {o.name: a for o, a in zip(problem.operands, operands, strict=True)}
        if any(array.dtype != np.float32 for array in operands):
            return
        if problem.op.name in PRODUCTS:
            for label, made in _products(problem, named, packed):
                yield self._variant(label, made, problem, 1)
            return
        made_of = _convolution if problem.op.name == "conv2d" else _pool
        network = made_of(problem, named, packed) if named["x"].shape[0] == 1 else None
        if network is None:
            return
        yield self._variant("plain", network, problem, 1)
        channels = to_nchw(problem, named["x"]).shape[1]
        for block in [b for b in _BLOCKS if channels % b == 0][:2]:
            yield self._variant(f"blocks of {block}", network, problem, block)

    def networks(
        self, model: Path, inputs: dict[str, Array], options: dict[str, Any]
    ) -> Iterator[Variant]:
        """Yield the network; its layers choose between plain and blocked images."""
        from .ncnn_network import written

        network, outputs = written(model, inputs)
        net = network.load(self._threads)
        given = [(name, _matrix(a, 1, True)) for name, a in network.inputs.items()]

        def run() -> list[Any]:
            extractor = net.create_extractor()
            for name, matrix in given:
                extractor.input(name, matrix)
            return [extractor.extract(name) for name in outputs]

        def result(answers: list[tuple[int, Any]]) -> Array:
            if any(code != 0 for code, _ in answers):
                raise ValueError(f"ncnn ended with codes {[code for code, _ in answers]}")
            return flat(np.array(matrix) for _, matrix in answers)

        yield Variant("packing allowed", run, result)

    def _variant(self, label: str, network: Network, problem: Problem, block: int) -> Variant:
        net = network.load(self._threads)
        images = problem.op.name not in PRODUCTS
        inputs = [(name, _matrix(a, block, images)) for name, a in network.inputs.items()]
        # 0 asks for an answer that is unpacked, 1 for the layout that it has.
        output, kind = network.output, int(block > 1)

        def run() -> Any:
            extractor = net.create_extractor()
            for name, matrix in inputs:
                extractor.input(name, matrix)
            return extractor.extract(output, kind)

        def result(answer: tuple[int, Any]) -> Array:
            code, matrix = answer
            if code != 0:
                raise ValueError(f"ncnn ended with code {code}")
            if matrix.elempack > 1:
                matrix = ncnn.convert_packing(matrix, 1)
            if not images:
                return np.array(matrix).reshape(problem.output.shape)
            return from_nchw(problem, np.array(matrix).reshape(nchw_shape(problem)))

        return Variant(label, run, result)


def _matrix(array: Array, block: int, image: bool) -> Any:
    # A matrix made of an array neither owns it nor keeps it alive. The copy does, and has the
    # alignment between channels that ncnn's kernels expect.
    held = np.ascontiguousarray(array[0] if image else array)
    made = ncnn.Mat(held).clone()
    return ncnn.convert_packing(made, block) if block > 1 else made


def _convolution(problem: Problem, named: dict[str, Array], packed: bool) -> Network | None:
    if not packed:
        return None
    network = Network()
    for name in ("x", "residual"):
        if name in named:
            network.input(name, to_nchw(problem, named[name]))
    w = to_nchw(problem, named["w"])
    top, bottom, left, right = problem["pad"]
    (down, across), (tall, wide) = problem["stride"], problem["dilation"]
    numbers: dict[int, Parameter] = {
        0: w.shape[0], 1: w.shape[3], 11: w.shape[2], 2: wide, 12: tall, 3: across, 13: down,
        4: left, 15: right, 14: top, 16: bottom, 5: int("bias" in named), 6: w.size,
    }  # fmt: skip
    fused = "residual" not in named and _fused(problem, numbers)
    grouped = problem["groups"] > 1
    if grouped:
        numbers[7] = problem["groups"]
    network.layer("ConvolutionDepthWise" if grouped else "Convolution", ["x"], numbers)
    network.weights(w)
    if "bias" in named:
        network.weights(named["bias"], tagged=False)
    _finish(network, problem, named, fused)
    return network


def _fused(problem: Problem, numbers: dict[int, Parameter]) -> bool:
    """Add the activation to a layer's numbers; say whether that can be."""
    if problem.activation is None:
        return True
    name, parameters = problem.activation
    if name not in FUSED:
        return False
    numbers[9] = FUSED[name]
    values = {"relu6": (0.0, 6.0), "hard_swish": (1 / 6, 0.5)}.get(name, parameters)
    if values:
        numbers[10] = tuple(values)
    return True


def _finish(network: Network, problem: Problem, named: dict[str, Array], fused: bool) -> None:
    if "residual" in named:
        network.layer("BinaryOp", [network.output, "residual"], {0: 0})
    if fused or problem.activation is None:
        return
    name, parameters = problem.activation
    values = {"relu6": (0.0, 6.0), "hard_swish": (1 / 6, 0.5)}.get(name, parameters)
    network.layer(LAYERS[name], [network.output], dict(enumerate(values)))


def _products(
    problem: Problem, named: dict[str, Array], packed: bool
) -> Iterator[tuple[str, Network]]:
    if problem.op.name == "matmul":
        network = Network()
        network.input("a", named["a"])
        network.input("b", named["b"])
        network.layer("MatMul", ["a", "b"], {})
        yield "MatMul", network
        return
    if problem["alpha"] != 1.0 or "c" in named:
        return
    yield "Gemm", _gemm(problem, named, packed)
    if packed and problem.layout[0] == "n":
        yield "InnerProduct", _inner_product(problem, named)


def _gemm(problem: Problem, named: dict[str, Array], packed: bool) -> Network:
    network = Network()
    network.input("a", named["a"])
    if not packed:
        network.input("b", named["b"])
    for name in ("bias", "residual"):
        if name in named:
            network.input(name, named[name])
    # 5: the second operand is constant; 10: there is no third one.
    numbers: dict[int, Parameter] = {
        2: int(problem.layout[0] == "t"), 3: int(problem.layout[1] == "t"), 5: int(packed), 6: 1,
        10: -1,
    }  # fmt: skip
    if packed:
        numbers |= {8: problem["n"], 9: problem["k"]}
    network.layer("Gemm", ["a"] if packed else ["a", "b"], numbers)
    if packed:
        network.weights(named["b"])
    if "bias" in named:
        network.layer("BinaryOp", [network.output, "bias"], {0: 0})
    _finish(network, problem, named, fused=False)
    return network


def _inner_product(problem: Problem, named: dict[str, Array]) -> Network:
    network = Network()
    for name in ("a", "residual"):
        if name in named:
            network.input(name, named[name])
    b = named["b"] if problem.layout[1] == "t" else named["b"].T
    numbers: dict[int, Parameter] = {0: problem["n"], 1: int("bias" in named), 2: b.size}
    fused = "residual" not in named and _fused(problem, numbers)
    network.layer("InnerProduct", ["a"], numbers)
    network.weights(b)
    if "bias" in named:
        network.weights(named["bias"], tagged=False)
    _finish(network, problem, named, fused)
    return network


def _pool(problem: Problem, named: dict[str, Array], packed: bool) -> Network | None:
    del packed  # there is nothing to pack
    network = Network()
    network.input("x", to_nchw(problem, named["x"]))
    name = problem.op.name
    average = int("avg" in name)
    if name.startswith("global"):
        network.layer("Pooling", ["x"], {0: average, 4: 1})
        return network
    if problem.attributes.get("dilation", (1, 1)) != (1, 1):
        return None
    top, bottom, left, right = problem["pad"]
    down, across = problem["stride"]
    # 5: 0 pads as far as the last window reaches (ceil), 1 only as far as is told (floor).
    network.layer("Pooling", ["x"], {
        0: average, 1: problem["s"], 11: problem["r"], 2: across, 12: down,
        3: left, 14: right, 13: top, 15: bottom, 5: int(not problem["ceil_mode"]),
        6: int(bool(average and problem["count_include_pad"])),
    })  # fmt: skip
    return network
