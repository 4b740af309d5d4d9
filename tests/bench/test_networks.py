"""Whole networks in other libraries: what hwkit writes for them gives the answer of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwkit
from hwkit.bench import missing
from hwkit.bench.networks import OTHERS, compare_network
from hwkit.errors import KernelFailure

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")


def model() -> Any:
    """Return a model with what the known networks are made of: branches, sums, pools, heads."""
    helper, rng = onnx.helper, np.random.default_rng(3)
    constants: list[Any] = []

    def weight(*shape: int) -> str:
        values = rng.standard_normal(shape, np.float32) * np.float32(0.3)
        constants.append(onnx.numpy_helper.from_array(values, f"w{len(constants)}"))
        return f"w{len(constants) - 1}"

    def whole(*numbers: int) -> str:
        constants.append(
            onnx.numpy_helper.from_array(np.array(numbers, np.int64), f"w{len(constants)}")
        )
        return f"w{len(constants) - 1}"

    def conv(x: str, y: str, k: int, c: int, r: int, stride: int = 1, group: int = 1) -> Any:
        parts = [x, weight(k, c // group, r, r), weight(k)]
        pads, strides = [r // 2] * 4, [stride] * 2
        return helper.make_node("Conv", parts, [y], pads=pads, strides=strides, group=group)

    node = helper.make_node
    nodes = [
        conv("x", "a", 8, 3, 3, 2), node("Relu", ["a"], ["b"]),
        node("MaxPool", ["b"], ["c"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        conv("c", "d", 8, 8, 3, group=8), node("Clip", ["d", "lo", "hi"], ["e"]),
        conv("e", "f", 8, 8, 1), node("Add", ["f", "c"], ["g"]), node("Relu", ["g"], ["h"]),
        node("Concat", ["h", "e"], ["i"], axis=1),
        conv("i", "j", 12, 16, 1), node("Transpose", ["j"], ["k"], perm=[0, 2, 3, 1]),
        node("Reshape", ["k", whole(0, -1, 4)], ["l"]), node("Sigmoid", ["l"], ["boxes"]),
        node("MaxPool", ["i"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["m"], ["n"]),
        node("Gemm", ["n", weight(6, 16 * 9), weight(6)], ["o"], transB=1),
        node("Relu", ["o"], ["scores"]),
        node("GlobalAveragePool", ["i"], ["p"]), node("Flatten", ["p"], ["q"]),
        node("Gemm", ["q", weight(16, 5), weight(5)], ["y"]),
    ]  # fmt: skip
    constants += [onnx.numpy_helper.from_array(np.float32(v), n) for n, v in (("lo", 0), ("hi", 6))]
    tensor = helper.make_tensor_value_info
    x = tensor("x", onnx.TensorProto.FLOAT, (1, 3, 24, 24))
    outputs = [tensor(n, onnx.TensorProto.FLOAT, None) for n in ("boxes", "scores", "y")]
    graph = helper.make_graph(nodes, "branches", [x], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of the model."""
    file = tmp_path / "branches.onnx"
    file.write_bytes(model().SerializeToString())
    return file


@pytest.mark.parametrize("library", OTHERS)
def test_a_library_gives_the_answer_of_the_model(library: str, path: Path) -> None:
    """Three outputs, in order, to 1e-4; and times for both."""
    reason = missing(library)
    if reason is not None:
        pytest.skip(reason)
    inputs = hwkit.load(path).random_inputs()
    race = compare_network(path, inputs, ["hwkit", library], rounds=2)
    assert not race.failed
    assert race.built[library].error < 1e-4
    assert not race.built[library].rejected
    assert race.ratio(library) > 0


def test_weights_beside_the_model_are_found(tmp_path: Path) -> None:
    """onnxruntime finds external data from whatever folder this runs in."""
    reason = missing("onnxruntime")
    if reason is not None:
        pytest.skip(reason)
    file = tmp_path / "beside.onnx"
    onnx.save(
        model(), str(file), save_as_external_data=True, location="weights", size_threshold=256
    )
    race = compare_network(
        file, hwkit.load(file).random_inputs(), ["hwkit", "onnxruntime"], rounds=1
    )
    assert not race.failed


@pytest.mark.parametrize("library", ["torch", "ncnn", "xnnpack"])
def test_what_is_not_written_is_named(library: str, tmp_path: Path) -> None:
    """A node that hwkit does not write for a library keeps it out of the race, by name."""
    reason = missing(library)
    if reason is not None:
        pytest.skip(reason)
    helper = onnx.helper
    x, y = (
        helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, (1, 4, 4, 4)) for n in ("x", "y")
    )
    graph = helper.make_graph([helper.make_node("Erf", ["x"], ["y"], name="odd")], "g", [x], [y])
    file = tmp_path / "odd.onnx"
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file.write_bytes(proto.SerializeToString())
    race = compare_network(file, hwkit.load(file).random_inputs(), ["hwkit", library], rounds=1)
    assert "'odd' (Erf) is not written for" in race.failed[library]
    assert list(race.samples) == ["hwkit"]


def test_a_wrong_answer_is_not_timed(path: Path, tmp_path: Path) -> None:
    """What differs from the reference by more than 1e-4 is a failure with its error."""
    from hwkit.bench import PeerProcess

    inputs, want = tmp_path / "x.npz", tmp_path / "y.npy"
    np.savez(inputs, x=hwkit.load(path).random_inputs()["x"])
    np.save(want, np.ones(36 * 12 + 6 + 5))
    with PeerProcess("hwkit") as peer, pytest.raises(KernelFailure, match="relative error"):
        peer.network(path, inputs, want, 1e-4)


@pytest.mark.parametrize("library", OTHERS)
def test_a_network_in_bfloat16_is_timed_or_declined(library: str, tmp_path: Path) -> None:
    """torch runs it; those that have float32 only say so in a line, and none crashes."""
    reason = missing(library)
    if reason is not None:
        pytest.skip(reason)
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from small_networks import narrowed

    file = tmp_path / "narrow.onnx"
    file.write_bytes(narrowed(model(), "bfloat16").SerializeToString())
    inputs = hwkit.load(file).random_inputs()
    assert inputs["x"].dtype == ml_dtypes.bfloat16
    race = compare_network(file, inputs, ["hwkit", library], rounds=1)
    assert "hwkit" in race.samples
    if library == "torch":
        assert library in race.samples
    for said in race.failed.values():
        assert "\n" not in said
        assert "crash" not in said
