"""Whole networks give the answers of onnxruntime, and each pass leaves them unchanged."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwkit
from hwkit.op import relative_error
from hwkit.testing.networks import NETWORKS, network, reseed

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

LIGHT = (
    "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet",
    "squeezenet", "vgg19", "zfnet512",
)  # fmt: skip
LARGE = {"vgg16", "vgg19", "bvlc_alexnet", "zfnet512"}


def answers(model: bytes, inputs: dict[str, Any]) -> list[Any]:
    """Return onnxruntime's answers."""
    runtime.set_default_logger_severity(4)
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def check(proto: Any, **options: Any) -> hwkit.graph.Model:
    """Load a model, compare it with onnxruntime, and return it."""
    data = proto.SerializeToString()
    model = hwkit.load(data, **options)
    inputs = model.random_inputs(7)
    got = model.run(inputs)
    for (name, array), want in zip(got.items(), answers(data, inputs), strict=True):
        assert np.abs(want).max() > 0
        assert np.ptp(want) > 1e-3 * np.abs(want).max(), "the answer must say something"
        assert relative_error(array, want) < 1e-4, name
    return model


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in LARGE else []) for n in NETWORKS]
)
def test_networks_agree_with_onnxruntime(name: str) -> None:
    """To 1e-4, with memory for activations within a tenth of what any placement needs."""
    model = check(network(name))
    assert 0 < model.memory.arena <= 1.1 * model.memory.bound


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in LARGE else []) for n in LIGHT]
)
def test_light_models_with_random_weights_agree_with_onnxruntime(name: str) -> None:
    """The nine models of the package onnx, whose own weights are constant and prove nothing."""
    folder = Path(os.path.dirname(importlib.import_module("onnx.backend.test").__file__ or ""))
    proto = reseed(onnx.load(str(folder / "data" / "light" / f"light_{name}.onnx")))
    model = check(proto)
    assert 0 < model.memory.arena <= 1.1 * model.memory.bound


def test_shufflenet_has_no_step_for_an_activation() -> None:
    """Those behind its joined branches are in epilogues, or have nothing to do behind averages."""
    folder = Path(os.path.dirname(importlib.import_module("onnx.backend.test").__file__ or ""))
    proto = reseed(onnx.load(str(folder / "data" / "light" / "light_shufflenet.onnx")))
    steps = [step.node.type for step in check(proto).program().steps]
    assert "Relu" not in steps
    steps = [step.node.type for step in check(proto, without=("ranges",)).program().steps]
    assert steps.count("Relu") == 3


def test_open_batch_gets_a_plan_for_each_shape() -> None:
    """One model runs batches of one and three, by position and by name."""
    proto = network("squeezenet", batch="n")
    data = proto.SerializeToString()
    model = hwkit.load(data)
    assert model.fixed_shapes is None
    for batch in (1, 3, 1):
        inputs = model.random_inputs(batch, batch)
        (want,) = answers(data, inputs)
        assert relative_error(model(inputs["x"]), want) < 1e-4
        assert relative_error(model(x=inputs["x"]), want) < 1e-4


def test_every_convolution_of_a_network_is_a_plan_with_its_epilogue() -> None:
    """After the passes ResNet-50 is 53 convolutions, two pools, one product and two edges."""
    model = hwkit.load(network("resnet50"))
    problems = model.problems()
    convolutions = {p: n for p, n in problems.items() if p.op.name == "conv2d"}
    assert sum(convolutions.values()) == 53
    assert all("bias" in p.epilogue and p.layout == "nhwc" for p in convolutions)
    assert sum(n for p, n in convolutions.items() if "residual" in p.epilogue) == 16
    assert sum(n for p, n in convolutions.items() if "relu" in p.epilogue) == 49
    glue = [step.node.type for step in model.program().steps if not step.plans]
    assert glue in ([], ["Transpose"])
    assert "direct_conv2d" in model.explain() or "conv2d" in model.explain()


@pytest.mark.parametrize(
    "without",
    [
        "constants", "dead", "idioms", "absorb", "shuffle", "batch_norm", "fusion", "lift",
        "ranges", "layout",
    ],
)  # fmt: skip
def test_a_network_gives_the_same_without_a_pass(without: str) -> None:
    """Each pass can be switched off by name."""
    check(network("mobilenetv2"), without=(without,))


def test_arrays_given_back_are_the_callers() -> None:
    """A second run does not change the first answer, and the input is left as it was."""
    model = hwkit.load(network("squeezenet"))
    first, second = model.random_inputs(1)["x"], model.random_inputs(2)["x"]
    kept = first.copy()
    y = model(first)
    copy = y.copy()
    assert not np.array_equal(model(second), copy)
    assert np.array_equal(y, copy)
    assert np.array_equal(first, kept)
    assert np.array_equal(model(np.asfortranarray(first)), copy)


_PEAK = """\
import sys
library, path = sys.argv[1:]
import numpy
x = numpy.zeros((1, 3, 224, 224), numpy.float32)
if library == "hwkit":
    import hwkit
    hwkit.load(path)(x)
else:
    import onnxruntime
    onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})
(line,) = [each for each in open("/proc/self/status") if each.startswith("VmHWM")]
print(line.split()[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_network_needs_no_more_memory_than_in_onnxruntime(tmp_path: Path) -> None:
    """The most that a process has from its start to the end of the first run."""
    path = tmp_path / "net.onnx"
    path.write_bytes(network("mobilenetv1").SerializeToString())
    peaks = {}
    for library in ("hwkit", "onnxruntime"):
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, library, str(path)],
            capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        peaks[library] = int(done.stdout)
    assert peaks["hwkit"] <= peaks["onnxruntime"], peaks


def test_parts_of_a_concat_are_written_where_they_belong() -> None:
    """Heads that lie one behind the other need no copy; the rest is copied."""
    helper = onnx.helper
    nodes = [
        helper.make_node("Exp", ["x"], ["a"]),
        helper.make_node("Flatten", ["a"], ["f"], axis=0),
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["g"], axis=0),
        helper.make_node("Flatten", ["x"], ["h"], axis=0),
        helper.make_node("Concat", ["f", "g", "f", "h"], ["c"], axis=1),
        helper.make_node("Concat", ["c", "g"], ["d"], axis=1),
        helper.make_node("Concat", ["a", "b"], ["e"], axis=2),
        helper.make_node("Abs", ["d"], ["y"]),
        helper.make_node("Abs", ["e"], ["z"]),
    ]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (1, 8, 9))
    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in "ycz"]
    graph = helper.make_graph(nodes, "parts", [x], ends)
    opset = [helper.make_opsetid("", 17)]
    model = hwkit.load(helper.make_model(graph, opset_imports=opset, ir_version=8))
    image = model.random_inputs()["x"]
    a, b = np.exp(image), -np.exp(image)
    c = np.concatenate([v.reshape(1, -1) for v in (a, b, a, image)], 1)
    for _ in range(2):
        found = model.run({"x": image})
        assert np.allclose(found["c"], c, 1e-6)
        assert np.allclose(found["y"], np.abs(np.concatenate([c, b.reshape(1, -1)], 1)), 1e-6)
        assert np.allclose(found["z"], np.abs(np.concatenate([a, b], 2)), 1e-6)


def test_branches_are_written_into_the_channels_of_their_concat() -> None:
    """With channels last, what only a Concat reads is not copied, and nothing is overwritten."""
    rng, helper = np.random.default_rng(3), onnx.helper
    sizes = {"w": (16, 8, 1, 1), "u": (24, 8, 3, 3), "t": (40, 1, 1, 1), "v": (9, 80, 1, 1)}
    weights = [
        onnx.numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n)
        for n, s in sizes.items()
    ]
    around = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["x", "u"], ["b"], **around),
        helper.make_node("MaxPool", ["x"], ["p"], **around),
        helper.make_node("Conv", ["x", "u"], ["d"], **around),
        helper.make_node("Concat", ["r", "d"], ["c"], axis=1),
        helper.make_node("Conv", ["c", "t"], ["e"], group=40),
        helper.make_node("MaxPool", ["b"], ["q"], **around),
        helper.make_node("Concat", ["c", "p", "b", "p"], ["f"], axis=1),
        helper.make_node("Conv", ["f", "v"], ["g"]),
        helper.make_node("Concat", ["e", "g", "q"], ["y"], axis=1),
    ]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", (2, 8, 14, 13)), ("y", None))
    ]
    graph = helper.make_graph(nodes, "branches", ends[:1], ends[1:], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = hwkit.load(proto)
    inputs = model.random_inputs()
    want = runtime.InferenceSession(proto.SerializeToString()).run(None, inputs)[0]
    for _ in range(2):
        assert relative_error(model.run(inputs)["y"], want) < 1e-5
    program = model.program()
    c, f, _ = (step.node for step in program.steps if step.node.type == "Concat")
    assert all(program._root(v) is f.output() for v in c.inputs), "which the depthwise one takes"
    places = [program._root(v) is f.output() for v in f.inputs]
    assert places == [True, True, False, True], "b is pooled too, where it must be whole"


def test_the_heads_of_a_detector_are_not_copied() -> None:
    """Each convolution of MobileNet-SSD's heads writes into the joined boxes and scores."""
    model = hwkit.load(network("mobilenet-ssd"))
    concats = [step for step in model.program().steps if step.node.type == "Concat"]
    assert len(concats) == 2
    program = model.program()
    for step in concats:
        assert all(program._root(v) is step.node.output() for v in step.node.inputs)
