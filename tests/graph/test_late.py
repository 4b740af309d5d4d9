"""Networks whose shapes depend on data: the right answers, and memory only for what is there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import hwkit

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from small_networks import FLOAT, INT64, check, helper, network  # noqa: E402


def detector(rng: np.random.Generator) -> tuple[Any, dict[str, Any]]:
    """Return a convolution, its boxes and scores, and what is found of them with their scores."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["y"], pads=[1] * 4),
        node("Relu", ["y"], ["head"]),
        node("Slice", ["head", "zero", "four", "one"], ["b"]),
        node("Slice", ["head", "four", "seven", "one"], ["s"]),
        node("Reshape", ["b", "box_shape"], ["boxes4"]),
        node("Transpose", ["boxes4"], ["boxes"], perm=[0, 2, 1]),
        node("Reshape", ["s", "score_shape"], ["scores"]),
        node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["found"]),
        node("Slice", ["found", "two", "three", "one"], ["where"]),
        node("Squeeze", ["where", "one"], ["places"]),
        node("Gather", ["boxes", "places"], ["chosen"], axis=1),
        node("Shape", ["chosen"], ["size"]),
        node("Cast", ["found"], ["numbers"], to=FLOAT),
        node("Mul", ["numbers", "half"], ["halves"]),
    ]
    numbers = {"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "seven": 7}
    constants: dict[str, Any] = {k: np.array([v], np.int64) for k, v in numbers.items()} | {
        "w": rng.standard_normal((7, 3, 3, 3)).astype(np.float32),
        "box_shape": np.array([1, 4, -1], np.int64), "score_shape": np.array([1, 3, -1], np.int64),
        "most": np.array([9], np.int64), "overlap": np.array([0.4], np.float32),
        "least": np.array([0.3], np.float32), "half": np.array(0.5, np.float32),
    }  # fmt: skip
    inputs = {"x": rng.standard_normal((1, 3, 12, 10)).astype(np.float32)}
    model = network(nodes, inputs, ["found", "chosen", "size", "halves", "scores"], constants)
    return model, inputs


def test_a_detector_with_its_selection() -> None:
    """What is planned runs by plans, what is found comes after it, and both are outputs."""
    model, inputs = detector(np.random.default_rng(0))
    loaded = check(model, inputs, 1e-4)
    steps = {step.node.type: step for step in loaded.program().steps}
    assert steps["Conv"].plans
    assert not steps["Gather"].plans
    assert "planned in each run" in loaded.explain()
    profile = loaded.profile(rounds=1)
    kinds = {step.type: step for step in profile.steps}
    assert kinds.keys() >= {"Conv", "NonMaxSuppression", "Gather"}
    assert "planned in each run" in kinds["Gather"].source
    assert "planned in each run" not in kinds["Transpose"].source
    (line,) = [text for text in str(profile).splitlines() if " Gather " in text]
    assert line.endswith("planned in each run, by its data")


def test_what_is_not_tuned_is_said(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The problems of the tail have other sizes in each run, and no part in the budget."""
    from hwkit.cli import main

    monkeypatch.setenv("HWKIT_DB", str(tmp_path / "db"))
    model, _ = heads(np.random.default_rng(12))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert main(["tune", str(tmp_path / "m.onnx"), "--budget", "1s", "--json"]) == 0
    assert "only a run tells their sizes: 10 nodes" in capsys.readouterr().err


_NOTHING: dict[str, tuple[list[str], dict[str, Any]]] = {
    "GatherND": (["x", "places"], {}),
    "Gemm": (["rows", "w"], {"w": np.ones((4, 3), np.float32)}),
    "Resize": (
        ["images", "", "scales"],
        {"scales": np.array([1, 1, 2, 2], np.float32), "shape": np.array([-1, 1, 2, 2])},
    ),
    "Unique": (["found"], {}),
}


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("kind", _NOTHING)
def test_nothing_may_be_found(kind: str, count: int) -> None:
    """What follows takes arrays without a row, as after a detector that sees nothing."""
    inputs, constants = _NOTHING[kind]
    node = helper.make_node
    nodes = [
        node("Compress", ["x", "chosen"], ["rows"], axis=0),
        node("NonZero", ["chosen"], ["found"]),
        node("Transpose", ["found"], ["places"]),
        *([node("Reshape", ["rows", "shape"], ["images"])] if kind == "Resize" else []),
        node(kind, inputs, ["y"]),
    ]
    given = {
        "x": np.random.default_rng(0).random((6, 4), np.float32),
        "chosen": np.arange(6) < count,
    }
    check(network(nodes, given, ["y"], constants), given, 1e-6)


def test_each_run_finds_what_is_in_its_own_input() -> None:
    """Runs from several threads, with other counts each, do not disturb one another."""
    model, inputs = detector(np.random.default_rng(1))
    loaded = hwkit.load(model)
    given = [{"x": inputs["x"] * np.float32(scale)} for scale in (0.0, 0.02, 0.5, 3.0)]
    want = [loaded.run(one) for one in given]
    assert len({len(one["found"]) for one in want}) > 2
    with ThreadPoolExecutor(4) as pool:
        for one, got in zip(want * 3, pool.map(loaded.run, given * 3), strict=True):
            for name in loaded.outputs:
                np.testing.assert_array_equal(got[name], one[name])


def heads(rng: np.random.Generator) -> tuple[Any, dict[str, Any]]:
    """Return what a detector does with the places it found: a norm, activations, products."""
    node = helper.make_node
    nodes = [
        node("Compress", ["x", "chosen"], ["rows"], axis=0),
        node("Conv", ["rows", "w"], ["a"], pads=[1] * 4),
        node("BatchNormalization", ["a", "scale", "shift", "mean", "variance"], ["b"]),
        node("Relu", ["b"], ["c"]),
        node("ConvTranspose", ["c", "t"], ["d"], strides=[2, 2]),
        node("BatchNormalization", ["d", "scale", "shift", "mean", "variance"], ["e"]),
        node("GlobalAveragePool", ["e"], ["f"]),
        node("Flatten", ["f"], ["g"]),
        node("Gemm", ["g", "u", "v"], ["h"], transB=1),
        node("BatchNormalization", ["h", "scale", "shift", "mean", "variance"], ["i"]),
        node("Clip", ["i", "low", "high"], ["j"]),
        node("Mul", ["b", "scale4"], ["k"]),
        node("Add", ["j", "i"], ["y"]),
    ]
    shapes = {"w": (5, 3, 3, 3), "t": (5, 5, 2, 2), "u": (5, 5), "v": (5,), "mean": (5,)}
    constants: dict[str, Any] = {
        n: rng.standard_normal(s).astype(np.float32)
        for n, s in (shapes | {"shift": (5,), "scale4": (5, 1, 1)}).items()
    } | {n: rng.uniform(0.5, 2.0, 5).astype(np.float32) for n in ("scale", "variance")}
    constants |= {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}
    inputs = {"x": rng.standard_normal((6, 3, 9, 8)).astype(np.float32), "chosen": np.arange(6) > 2}
    return network(nodes, inputs, ["y", "k"], constants), inputs


def test_norms_and_activations_go_into_what_is_before_them_in_the_tail() -> None:
    """Whether they fit, weights say without a shape; what two nodes take stays as it is."""
    model, inputs = heads(np.random.default_rng(9))
    loaded = check(model, inputs, 1e-4)
    tail = ["Conv", "Relu", "ConvTranspose", "GlobalAveragePool", "Flatten", "Gemm", "Clip"]
    steps = [step.node.type for step in loaded.program().steps]
    assert steps == ["Compress", *tail, "Mul", "Add"]
    plain = hwkit.load(model, without=("batch_norm", "fusion"))
    assert [s.node.type for s in plain.program().steps].count("BatchNormalization") == 3
    for name, want in plain.run(inputs).items():
        np.testing.assert_allclose(loaded.run(inputs)[name], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [1, 4])
def test_a_norm_in_the_tail_that_does_not_fit_is_one_sentence_of_the_run(size: int) -> None:
    """Nothing is folded where the weights of a norm are of other sizes than the channels."""
    model, inputs = heads(np.random.default_rng(10))
    for tensor in model.graph.initializer:
        if tensor.name in ("scale", "shift", "mean", "variance"):
            ones = np.ones(size, np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(ones, tensor.name))
    loaded = hwkit.load(model)
    with pytest.raises(hwkit.errors.ArgumentError, match="BatchNormalization"):
        loaded.run(inputs)


def test_activations_behind_one_another_in_the_tail() -> None:
    """One goes into the product before it, the next stays."""
    node = helper.make_node
    nodes = [
        node("Compress", ["x", "chosen"], ["rows"], axis=0),
        node("Gemm", ["rows", "w"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("Sigmoid", ["b"], ["y"]),
    ]
    rng = np.random.default_rng(11)
    inputs = {"x": rng.standard_normal((6, 4)).astype(np.float32), "chosen": np.arange(6) > 2}
    model = network(nodes, inputs, ["y"], {"w": rng.standard_normal((4, 3)).astype(np.float32)})
    steps = [step.node.type for step in check(model, inputs, 1e-5).program().steps]
    assert steps == ["Compress", "Gemm", "Sigmoid"]


def test_answers_of_the_tail_are_the_callers() -> None:
    """They share no memory with one another, with constants or with the next run's."""
    node = helper.make_node
    nodes = [
        node("Compress", ["x", "chosen"], ["rows"], axis=0),
        node("Transpose", ["w"], ["turned"], perm=[1, 0]),
        node("MatMul", ["rows", "turned"], ["y"]),
        node("Identity", ["y"], ["same"]),
        node("Reshape", ["y", "shape"], ["flat"]),
        node("Shape", ["x"], ["sizes"]),
        node("Identity", ["w"], ["weights"]),
    ]
    rng = np.random.default_rng(8)
    inputs = {"x": rng.random((6, 80), np.float32), "chosen": np.arange(6) < 3}
    constants = {"w": rng.random((70, 80), np.float32), "shape": np.array([-1], np.int64)}
    outputs = ["y", "same", "flat", "sizes", "weights"]
    loaded = check(network(nodes, inputs, outputs, constants), inputs, 1e-6)
    first = loaded.run(inputs)
    want = {name: array.copy() for name, array in first.items()}
    for name in outputs:
        first[name].fill(0)
        again = loaded.run(inputs)
        assert all(np.array_equal(again[n], want[n]) for n in outputs), name
        assert all(np.array_equal(first[n], want[n]) for n in outputs[outputs.index(name) + 1 :])
    # Weights that the passes have turned are not copied for each run.
    graph = loaded.program().graph
    assert [v.name for v in graph.outputs if v.data is None] == ["x", "chosen"]


def test_reshaping_in_the_tail_copies_nothing() -> None:
    """Only shapes change; a part of an array is copied, so that the rest can be given back."""
    from hwkit.graph.inference import outcome
    from hwkit.graph.ir import Node, Value
    from hwkit.graph.setting import Setting

    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    source = Value.constant("x", x)
    for kind, more in (("Flatten", []), ("Reshape", [np.array([4, -1])]), ("Identity", [])):
        inputs = [source, *(Value.constant("more", a) for a in more)]
        (found,) = outcome(Node(kind, inputs, [Value("y")], version=17), Setting())
        assert np.shares_memory(found, x)
        np.testing.assert_array_equal(found.reshape(-1), x.reshape(-1))
    ends = [Value.constant(n, np.array([i])) for n, i in (("s", 0), ("e", 1), ("a", 0))]
    (part,) = outcome(Node("Slice", [source, *ends], [Value("y")], version=17), Setting())
    assert not np.shares_memory(part, x)
    np.testing.assert_array_equal(part, x[:1])


@pytest.mark.parametrize("centred", [0, 1])
@pytest.mark.parametrize("seed", range(6))
def test_boxes_are_selected_as_onnxruntime_does(seed: int, centred: int) -> None:
    """Batches, classes, ties, flipped corners and boxes without area."""
    rng = np.random.default_rng(seed)
    boxes = rng.integers(0, 6, (2, 40, 4)).astype(np.float32)
    scores = (rng.integers(0, 9, (2, 3, 40)) / 8).astype(np.float32)
    names = ["boxes", "scores", "most", "overlap", "least"][: 5 - seed % 3]
    node = helper.make_node("NonMaxSuppression", names, ["y"], center_point_box=centred)
    constants: dict[str, Any] = {
        "most": np.array([seed * 4 + 3], np.int64),
        "overlap": np.array([seed / 6], np.float32), "least": np.array([0.25], np.float32),
    }  # fmt: skip
    inputs = {"boxes": boxes, "scores": scores}
    check(network([node], inputs, ["y"], {n: constants[n] for n in names[2:]}), inputs)


@pytest.mark.parametrize("shape", [(), (7,), (3, 0), (3, 4, 5)])
def test_non_zero(shape: tuple[int, ...]) -> None:
    """Places of what is not zero, one column each, of any rank."""
    x = np.random.default_rng(2).integers(-1, 2, shape).astype(np.int64)
    check(network([helper.make_node("NonZero", ["x"], ["y"])], {"x": x}, ["y"], {}), {"x": x})


@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("ordered", [0, 1])
def test_unique_and_compress(axis: int | None, ordered: int) -> None:
    """Of elements and of slices, in the order of values and of places."""
    x = np.random.default_rng(3).integers(0, 2, (6, 3)).astype(np.float32)
    keep = np.array([True, False, True])
    where = {} if axis is None else {"axis": axis}
    nodes = [
        helper.make_node("Unique", ["x"], ["y", "i", "n", "c"], sorted=ordered, **where),
        helper.make_node("Compress", ["x", "k"], ["z"], **where),
    ]
    inputs = {"x": x, "k": keep}
    check(network(nodes, inputs, ["y", "i", "n", "c", "z"], {}), inputs)


def test_sizes_that_data_tell_go_into_reshape_expand_and_topk() -> None:
    """Inputs that hwkit asks for before a run may come out of a run as well."""
    node = helper.make_node
    nodes = [
        node("NonZero", ["x"], ["places"]),
        node("Shape", ["places"], ["sizes"]),
        node("Gather", ["sizes", "one"], ["count"]),
        node("TopK", ["x", "count"], ["best", "order"]),
        node("Expand", ["count", "count"], ["many"]),
        node("ReduceSum", ["x"], ["total"], keepdims=0),
        node("Cast", ["total"], ["whole"], to=INT64),
        node("Abs", ["whole"], ["size"]),
        node("ConstantOfShape", ["length"], ["zeros"]),
        node("Unsqueeze", ["size", "zero"], ["length"]),
    ]
    x = np.maximum(np.random.default_rng(4).standard_normal(100), 0).astype(np.float32)
    constants = {"one": np.array([1], np.int64), "zero": np.array([0], np.int64)}
    outputs = ["best", "order", "many", "zeros"]
    check(network(nodes, {"x": x}, outputs, constants), {"x": x})


def test_a_size_that_data_tell_is_checked_before_it_is_allocated() -> None:
    """A run that asks for too much memory is one sentence."""
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"]),
        helper.make_node("ReduceSum", ["places"], ["size"], keepdims=0),
        helper.make_node("Mul", ["size", "much"], ["more"]),
        helper.make_node("Unsqueeze", ["more", "zero"], ["length"]),
        helper.make_node("ConstantOfShape", ["length"], ["y"]),
    ]
    constants = {"much": np.array(1 << 40, np.int64), "zero": np.array([0], np.int64)}
    x = np.ones(100, np.float32)
    loaded = hwkit.load(network(nodes, {"x": x}, ["y"], constants))
    with pytest.raises(hwkit.errors.ArgumentError, match=r"'y'.*bytes allowed"):
        loaded(x)
    assert loaded(np.zeros(100, np.float32)).shape == (0,)


def branches(condition: str, then_name: str = "big") -> Any:
    """Return an If whose branches take values from outside, a constant of their own and an If."""
    node = helper.make_node
    out = [helper.make_tensor_value_info(name, FLOAT, None) for name in ("t", "e", "i", "j")]
    inner = node(
        "If", [then_name], ["e"],
        then_branch=helper.make_graph([node("Neg", ["h"], ["i"])], "i", [], [out[2]]),
        else_branch=helper.make_graph([node("Abs", ["h"], ["j"])], "j", [], [out[3]]),
    )  # fmt: skip
    five = onnx.numpy_helper.from_array(np.array(5, np.float32), "five")
    plus = helper.make_graph([node("Add", ["h", "five"], ["t"])], "t", [], [out[0]], [five])
    other = helper.make_graph([inner], "e", [], [out[1]])
    return node("If", [condition], ["y"], then_branch=plus, else_branch=other)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_if_with_conditions_of_the_run(first: bool, second: bool) -> None:
    """Conditions that are computed from many data choose in the run."""
    x = np.random.default_rng(5).standard_normal(100).astype(np.float32)
    x[:2] = 9 if first else -9, 9 if second else -9
    node = helper.make_node
    nodes = [
        node("Relu", ["x"], ["h"]),
        node("Slice", ["x", "zero", "one"], ["a"]),
        node("Slice", ["x", "one", "two"], ["b"]),
        node("Greater", ["a", "limit"], ["large"]),
        node("Greater", ["b", "limit"], ["big"]),
        branches("large"),
        node("Mul", ["y", "y"], ["z"]),
    ]
    constants: dict[str, Any] = {n: np.array([i], np.int64) for i, n in enumerate(("zero", "one"))}
    constants |= {"two": np.array([2], np.int64), "limit": np.array([0.5], np.float32)}
    loaded = check(network(nodes, {"x": x}, ["z"], constants), {"x": x})
    assert "If" in [step.node.type for step in loaded.program().steps]


@pytest.mark.parametrize("size", [4, 8])
def test_if_about_a_shape_is_decided_before_the_run(size: int) -> None:
    """The nodes of one branch take the place of the If, and passes see them."""
    node = helper.make_node
    nodes = [
        node("Relu", ["x"], ["h"]),
        node("Size", ["x"], ["size"]),
        node("Greater", ["size", "limit"], ["large"]),
        node("Not", ["large"], ["big"]),
        branches("large"),
        node("Mul", ["y", "y"], ["z"]),
    ]
    x = np.random.default_rng(6).standard_normal(size).astype(np.float32)
    model = network(nodes, {"x": x}, ["z"], {"limit": np.array(6, np.int64)})
    kinds = [step.node.type for step in check(model, {"x": x}).program().steps]
    assert "If" not in kinds
    assert "Identity" not in kinds
    assert ("Add" in kinds) == (size == 8)


def test_nodes_in_branches_that_nothing_runs_are_listed() -> None:
    """The one message about unsupported nodes names them, too."""
    node = branches("c", "c")
    node.attribute[0].g.node[0].op_type = "Mystery"
    model = network(
        [helper.make_node("Relu", ["x"], ["h"]), node],
        {"x": np.zeros(3, np.float32), "c": np.array(True)}, ["y"], {},
    )  # fmt: skip
    with pytest.raises(hwkit.errors.NoKernel, match="Mystery"):
        hwkit.load(model)


def test_libraries_that_read_no_onnx_are_told() -> None:
    """A network with a tail is not handed on without it."""
    from hwkit.bench.networks import folded

    model, inputs = detector(np.random.default_rng(7))
    with pytest.raises(hwkit.errors.Unavailable, match="depend on data"):
        folded(model, inputs)
