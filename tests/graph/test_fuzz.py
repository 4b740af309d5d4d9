"""Mutated models: whatever a file holds, loading and running it ends in an answer or a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")

COUNT = int(os.environ.get("HWKIT_FUZZ_MODELS", "200"))
MEMORY = 64 << 20

_CHILD = """\
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
sys.path.insert(0, sys.argv[1])
import test_fuzz
test_fuzz.run(int(sys.argv[2]))
"""


def seed_models() -> list[Any]:
    """Return small models with many kinds of nodes."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)

    def constant(name: str, array: Any) -> Any:
        return numpy_helper.from_array(np.asarray(array), name)

    def build(nodes: list[Any], constants: list[Any]) -> Any:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4, 8, 8))
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph(nodes, "seed", [x], [y], constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    node = helper.make_node
    w = constant("w", rng.standard_normal((4, 4, 3, 3)).astype(np.float32))
    ones = constant("o", np.ones(4, np.float32))
    images = [
        node("Conv", ["x", "w", "o"], ["a"], pads=[1] * 4, strides=[1, 1]),
        node("BatchNormalization", ["a", "o", "o", "o", "o"], ["b"]),
        node("Relu", ["b"], ["c"]),
        node("Add", ["c", "x"], ["d"]),
        node("MaxPool", ["d"], ["e"], kernel_shape=[2, 2], strides=[2, 2]),
        node("AveragePool", ["e"], ["f"], kernel_shape=[2, 2], pads=[1, 0, 0, 1]),
        node("ConvTranspose", ["f", "w"], ["g"], strides=[2, 2], group=1),
        node("GlobalAveragePool", ["g"], ["h"]),
        node("Flatten", ["h"], ["i"]),
        node("Gemm", ["i", "m", "o"], ["y"], transB=1, alpha=0.5),
    ]
    matrix = constant("m", rng.standard_normal((4, 4)).astype(np.float32))
    glue = [
        node("Reshape", ["x", "s"], ["a"]),
        node("Transpose", ["a"], ["b"], perm=[1, 0]),
        node("Slice", ["b", "t", "u"], ["c"]),
        node("Concat", ["c", "c"], ["d"], axis=0),
        node("Pad", ["d", "p"], ["e"]),
        node("Softmax", ["e"], ["f"], axis=-1),
        node("ReduceMean", ["f"], ["g"], axes=[0], keepdims=0),
        node("Unsqueeze", ["g", "t0"], ["h"]),
        node("Expand", ["h", "z"], ["i"]),
        node("Tile", ["i", "r"], ["j"]),
        node("Split", ["j"], ["k", "l"], axis=0),
        node("Gather", ["k", "t0"], ["n"], axis=0),
        node("Resize", ["n", "", "q"], ["y"], mode="linear"),
    ]

    def whole(name: str, *numbers: int) -> Any:
        return constant(name, np.array(numbers, np.int64))

    parts = [
        whole("s", 16, -1), whole("t", 0, 0), whole("u", 8, 8), whole("t0", 0),
        whole("p", 0, 1, 1, 0), whole("z", 3, 1), whole("r", 2, 2),
        constant("q", np.array([2, 2], np.float32)),
    ]  # fmt: skip
    return [build(images, [w, ones, matrix]), build(glue, parts)]


def mutate(model: Any, rng: np.random.Generator) -> bytes:
    """Return a model with a few things changed: fields, names, sizes, or plain bytes."""
    from onnx import ModelProto

    copy = ModelProto()
    copy.CopyFrom(model)
    odd = [0, 1, -1, 2, 3, 7, 255, 2**16, 2**31, -(2**31), 2**40, 2**62, -(2**63)]
    for _ in range(rng.integers(1, 4)):
        kind = rng.integers(6)
        node = copy.graph.node[rng.integers(len(copy.graph.node))]
        number = odd[rng.integers(len(odd))]
        if kind == 0 and node.attribute:
            attribute = node.attribute[rng.integers(len(node.attribute))]
            if attribute.ints:
                attribute.ints[rng.integers(len(attribute.ints))] = number
            else:
                attribute.i = number
        elif kind == 1 and node.input:
            other = copy.graph.node[rng.integers(len(copy.graph.node))]
            names = [*other.input, *other.output]
            node.input[rng.integers(len(node.input))] = names[rng.integers(len(names))]
        elif kind == 2:
            tensor = copy.graph.initializer[rng.integers(len(copy.graph.initializer))]
            if tensor.dims:
                tensor.dims[rng.integers(len(tensor.dims))] = number
        elif kind == 3:
            tensor = copy.graph.initializer[rng.integers(len(copy.graph.initializer))]
            raw = bytearray(tensor.raw_data)
            raw[rng.integers(len(raw))] = rng.integers(256)
            tensor.raw_data = bytes(raw)
        elif kind == 4:
            types = [n.op_type for n in copy.graph.node]
            node.op_type = types[rng.integers(len(types))]
        else:
            data = bytearray(copy.SerializeToString())
            for _ in range(rng.integers(1, 8)):
                data[rng.integers(len(data))] = rng.integers(256)
            return bytes(data)
    return copy.SerializeToString()


def run(count: int) -> None:
    """Load and run mutated models; anything but an answer or an error of hwkit's escapes."""
    import warnings

    import hwkit
    from hwkit.errors import HwkitError

    warnings.simplefilter("ignore")
    seeds = seed_models()
    for model in seeds:
        loaded = hwkit.load(model)
        loaded.run(loaded.random_inputs())
    answers = 0
    for index in range(count):
        rng = np.random.default_rng([7, index])
        data = mutate(seeds[index % len(seeds)], rng)
        try:
            loaded = hwkit.load(data, memory=MEMORY)
            loaded.run(loaded.random_inputs())
            answers += 1
        except HwkitError as error:
            if "\n" in str(error) or len(str(error)) > 4000:
                raise RuntimeError(f"model {index} is refused at length: {error}") from error
        except BaseException:
            print(f"model {index} of the fuzz test", file=sys.stderr)
            raise
    print(f"{answers} of {count} still ran")
    assert 0 < answers < count


def test_mutated_models_end_in_an_answer_or_a_sentence() -> None:
    """In a child with little memory: no crash, no hang, no other exception."""
    folder = os.path.dirname(os.path.abspath(__file__))
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, folder, str(COUNT)],
        capture_output=True, text=True, timeout=60 + COUNT, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
