"""Each pass rewrites what it says, and the answer stays the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hwkit
from hwkit.op import relative_error

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
helper = onnx.helper

PASSES = ["constants", "dead", "absorb", "shuffle", "batch_norm", "fusion", "lift", "layout"]
PASSES += ["dead_again", "idioms", "fusion_transposed", "ranges"]


def weights(shape: tuple[int, ...], name: str, seed: int = 0) -> Any:
    """Return a constant of random numbers."""
    values = np.random.default_rng([seed, *name.encode()]).standard_normal(shape, np.float32)
    return onnx.numpy_helper.from_array(values, name)


def model_of(
    nodes: list[Any], shape: tuple[int, ...], constants: list[Any], opset: int = 17
) -> Any:
    """Return a model with the input x and the output y."""
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "test", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def types(model: Any) -> list[str]:
    """Return the types of the steps that run."""
    return [step.node.type for step in model.program().steps]


def compare(proto: Any, on: str) -> tuple[list[str], list[str]]:
    """Run with all passes and without one; return the steps of both, whose answers agree."""
    everything, without = hwkit.load(proto), hwkit.load(proto, without=(on,))
    plain = hwkit.load(proto, without=PASSES)
    x = everything.random_inputs()["x"]
    want = plain(x)
    for model in (everything, without):
        assert relative_error(model(x), want) < 1e-5
    return types(everything), types(without)


def conv(x: str, y: str, w: str = "w", **attributes: Any) -> Any:
    """Return a convolution."""
    return helper.make_node("Conv", [x, w], [y], **attributes)


def test_constants_are_folded() -> None:
    """What follows from constants and shapes alone is no step."""
    nodes = [
        helper.make_node("Mul", ["a", "b"], ["ab"]),
        helper.make_node("Add", ["x", "ab"], ["y"]),
    ]
    big = [weights((80, 80), "a"), weights((80, 80), "b")]
    folded, left = compare(model_of(nodes, (80, 80), big), "constants")
    assert folded == ["Add"]
    assert left == ["Mul", "Add"]


def test_dead_nodes_go() -> None:
    """What nobody needs is not computed."""
    nodes = [
        helper.make_node("Exp", ["x"], ["unused"]),
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Neg", ["same"], ["y"]),
    ]
    proto = model_of(nodes, (3, 4), [])
    assert types(hwkit.load(proto)) == ["Neg"]
    assert "Exp" in types(hwkit.load(proto, without=("dead", "dead_again")))


def test_outputs_that_nobody_takes_are_left_away() -> None:
    """A Dropout with a mask and a MaxPool with places are like those without."""
    nodes = [
        conv("x", "a", pads=[1] * 4),
        helper.make_node("Dropout", ["a"], ["b", "mask"]),
        helper.make_node("MaxPool", ["b"], ["c", "places"], kernel_shape=[2, 2]),
        conv("c", "y", pads=[1] * 4),
    ]
    proto = model_of(nodes, (1, 4, 6, 6), [weights((4, 4, 3, 3), "w")])
    found, _ = compare(proto, "dead")
    assert [t for t in found if t != "Transpose"] == ["Conv", "MaxPool", "Conv"]
    assert found.count("Transpose") == 2
    nodes[-1] = helper.make_node("Cast", ["mask"], ["y"], to=1)
    assert "Dropout" in types(
        hwkit.load(model_of(nodes, (1, 4, 6, 6), [weights((4, 4, 3, 3), "w")]))
    )


@pytest.mark.parametrize("grouped", [1, 2])
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_batch_norm_is_folded(kind: str, grouped: int) -> None:
    """Into the weights of a convolution, transposed and grouped ones included."""
    shape = (6, 4 // grouped, 3, 3) if kind == "Conv" else (4, 6 // grouped, 3, 3)
    nodes = [
        helper.make_node(kind, ["x", "w"], ["c"], group=grouped),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"]),
    ]
    constants = [weights(shape, "w"), *(weights((6,), n) for n in "sbm")]
    variance = np.abs(np.random.default_rng(1).standard_normal(6, np.float32)) + 0.5
    constants.append(onnx.numpy_helper.from_array(variance, "v"))
    folded, left = compare(model_of(nodes, (2, 4, 7, 8), constants), "batch_norm")
    assert "BatchNormalization" in left
    assert "BatchNormalization" not in folded
    assert folded.count("ConvPhases" if kind == "ConvTranspose" else kind) == 1


def test_factors_and_offsets_of_channels_are_folded() -> None:
    """A Mul and an Add with a value for each channel behind a convolution, as old models have."""
    nodes = [
        conv("x", "c"),
        helper.make_node("Mul", ["c", "f"], ["d"]),
        helper.make_node("Add", ["d", "o"], ["y"]),
    ]
    constants = [weights((5, 3, 3, 3), "w"), weights((5, 1, 1), "f"), weights((1, 5, 1, 1), "o")]
    folded, left = compare(model_of(nodes, (1, 3, 9, 9), constants), "batch_norm")
    assert [t for t in folded if t != "Transpose"] == ["Conv"]
    assert "Mul" in left


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div"])
def test_constants_of_zero_are_folded_without_a_warning(kind: str) -> None:
    """As the offsets of a grid of anchors have them; what is divided by zero stays as it is."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node(kind, ["a", "some"], ["y"]),
    ]
    some = np.array([0, 1, 0, 2], np.float32).reshape(4, 1, 1)
    constants = [weights((4, 3, 1, 1), "w"), onnx.numpy_helper.from_array(some, "some")]
    proto = model_of(nodes, (1, 3, 5, 5), constants)
    x = np.random.default_rng(1).standard_normal((1, 3, 5, 5)).astype(np.float32)
    x[..., 0] = 0
    model, plain = hwkit.load(proto), hwkit.load(proto, without=("batch_norm",))
    assert (kind in types(model)) == (kind == "Div")
    np.testing.assert_allclose(model(x), plain(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [("Relu", {}), ("LeakyRelu", {"alpha": 0.2}), ("Sigmoid", {}), ("HardSwish", {})],
)
def test_activations_are_fused(kind: str, attributes: dict[str, Any]) -> None:
    """An activation behind a convolution is its epilogue."""
    nodes = [conv("x", "c"), helper.make_node(kind, ["c"], ["y"], **attributes)]
    fused, left = compare(model_of(nodes, (1, 3, 9, 9), [weights((5, 3, 3, 3), "w")]), "fusion")
    assert kind in left
    assert [t for t in fused if t != "Transpose"] == ["Conv"]


def test_silu_is_fused() -> None:
    """The product of a value and its own sigmoid is one activation."""
    nodes = [
        conv("x", "c"),
        helper.make_node("Sigmoid", ["c"], ["s"]),
        helper.make_node("Mul", ["c", "s"], ["y"]),
    ]
    fused, _ = compare(model_of(nodes, (1, 3, 9, 9), [weights((5, 3, 3, 3), "w")]), "fusion")
    assert [t for t in fused if t != "Transpose"] == ["Conv"]


def test_silu_of_a_sum_is_fused() -> None:
    """Behind the sum that ends a block, or of what others take, it is one activation as well."""
    nodes = [
        conv("x", "a", pads=[1] * 4),
        conv("a", "b", pads=[1] * 4),
        helper.make_node("Add", ["b", "a"], ["c"]),
        helper.make_node("Sigmoid", ["c"], ["s"]),
        helper.make_node("Mul", ["c", "s"], ["d"]),
        helper.make_node("Sigmoid", ["a"], ["t"]),
        helper.make_node("Mul", ["t", "a"], ["e"]),
        helper.make_node("Sub", ["d", "e"], ["y"]),
    ]
    proto = model_of(nodes, (1, 4, 9, 9), [weights((4, 4, 3, 3), "w")])
    fused, _ = compare(proto, "idioms")
    assert [t for t in fused if t != "Transpose"] == ["Conv", "Conv", "Swish", "Sub"]


def test_residuals_are_fused_but_not_into_what_others_need() -> None:
    """The sum of two images goes into the later convolution; a value that is used twice stays."""
    nodes = [
        conv("x", "a", pads=[1] * 4),
        conv("a", "b", pads=[1] * 4),
        helper.make_node("Add", ["b", "a"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Add", ["d", "c"], ["y"]),
    ]
    fused, _ = compare(model_of(nodes, (1, 4, 9, 9), [weights((4, 4, 3, 3), "w")]), "fusion")
    assert [t for t in fused if t != "Transpose"] == ["Conv", "Conv", "Relu", "Add"]


def test_a_bias_behind_a_product_is_fused() -> None:
    """MatMul, Add and Relu become one product."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["q"]),
        helper.make_node("Relu", ["q"], ["y"]),
    ]
    constants = [weights((8, 5), "w"), weights((5,), "b")]
    fused, _ = compare(model_of(nodes, (3, 8), constants), "fusion")
    assert fused == ["Gemm"]


def test_pads_and_transpositions_are_absorbed() -> None:
    """A Pad goes into the convolution, two transpositions cancel, one goes into a product."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Transpose", ["t"], ["u"], perm=[0, 3, 1, 2]),
        helper.make_node("Pad", ["u", "p"], ["v"]),
        conv("v", "y"),
    ]
    pads = onnx.numpy_helper.from_array(np.array([0, 0, 1, 2, 0, 0, 2, 1], np.int64), "p")
    absorbed, left = compare(
        model_of(nodes, (1, 3, 9, 9), [weights((5, 3, 3, 3), "w"), pads]), "absorb"
    )
    assert "Pad" in left
    assert "Pad" not in absorbed
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["t", "w"], ["y"]),
    ]
    absorbed, left = compare(model_of(nodes, (6, 3), [weights((6, 4), "w")]), "absorb")
    assert absorbed == ["Gemm"]
    assert left == ["Transpose", "MatMul"]


@pytest.mark.parametrize("kind", ["Conv", "AveragePool", "MaxPool"])
def test_a_pad_before_windows_without_padding_is_absorbed(kind: str) -> None:
    """TensorFlow writes a stride of 2 as a Pad and auto_pad=VALID, which is no padding at all."""
    fill = np.float32(-np.inf if kind == "MaxPool" else 0)
    constants = [
        onnx.numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64), "pads"),
        onnx.numpy_helper.from_array(fill, "fill"),
        weights((4, 3, 3, 3), "w"),
    ]
    inputs = ["padded", "w"] if kind == "Conv" else ["padded"]
    attributes = {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "VALID"}
    nodes = [
        helper.make_node("Pad", ["x", "pads", "fill"], ["padded"]),
        helper.make_node(kind, inputs, ["y"], **attributes),
    ]
    absorbed, left = compare(model_of(nodes, (1, 3, 8, 8), constants), "absorb")
    assert "Pad" not in absorbed
    assert "Pad" in left


def test_a_pad_of_another_value_stays() -> None:
    """A convolution pads by zeros only."""
    nodes = [helper.make_node("Pad", ["x", "p", "f"], ["v"]), conv("v", "y")]
    pads = onnx.numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64), "p")
    fill = onnx.numpy_helper.from_array(np.array(2, np.float32), "f")
    constants = [weights((5, 3, 3, 3), "w"), pads, fill]
    absorbed, _ = compare(model_of(nodes, (1, 3, 9, 9), constants), "absorb")
    assert "Pad" in absorbed


def test_factors_behind_a_norm_that_stands_alone_are_folded() -> None:
    """A norm behind a sum becomes a convolution of one tap, which takes the factors along."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["a"]),
        helper.make_node("BatchNormalization", ["a", "s", "b", "m", "v"], ["n"]),
        helper.make_node("Mul", ["n", "f"], ["c"]),
        helper.make_node("Add", ["c", "o"], ["d"]),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    constants = [*(weights((6,), n) for n in "sbm"), weights((6, 1, 1), "f")]
    constants += [weights((6, 1, 1), "o")]
    variance = np.abs(np.random.default_rng(1).standard_normal(6, np.float32)) + 0.5
    constants.append(onnx.numpy_helper.from_array(variance, "v"))
    folded, left = compare(model_of(nodes, (2, 6, 7, 8), constants), "batch_norm")
    assert [t for t in folded if t != "Transpose"] == ["Add", "Conv"]
    assert "Mul" in left


def whole(name: str, *numbers: int) -> Any:
    """Return a constant of whole numbers."""
    return onnx.numpy_helper.from_array(np.array(numbers, np.int64), name)


@pytest.mark.parametrize("order", [[0, 2, 1, 3, 4], [0, 2, 1, 4, 3]])
def test_channel_shuffles_are_one_copy(order: list[int]) -> None:
    """Only what moves nothing but channels; inside, the image goes on with its channels last."""
    nodes = [
        conv("x", "a", pads=[1] * 4),
        helper.make_node("Reshape", ["a", "p"], ["b"]),
        helper.make_node("Transpose", ["b"], ["c"], perm=order),
        helper.make_node("Reshape", ["c", "q"], ["d"]),
        conv("d", "y", pads=[1] * 4),
    ]
    constants = [weights((6, 6, 3, 3), "w"), whole("p", 2, 3, 2, 5, 4), whole("q", 2, 6, 5, 4)]
    joined, left = compare(model_of(nodes, (2, 6, 5, 4), constants), "shuffle")
    assert "ChannelShuffle" not in left
    if order == [0, 2, 1, 3, 4]:
        assert joined == ["Transpose", "Conv", "ChannelShuffle", "Conv", "Transpose"]
    else:
        assert "ChannelShuffle" not in joined


def test_images_lie_with_channels_last_inside() -> None:
    """Nodes between convolutions follow; only the edges are transposed."""
    nodes = [
        conv("x", "a", pads=[1] * 4),
        helper.make_node("Mul", ["a", "f"], ["b"]),
        helper.make_node("Tanh", ["b"], ["t"]),
        helper.make_node("Concat", ["t", "a"], ["c"], axis=1),
        helper.make_node("LRN", ["c"], ["n"], size=3, alpha=0.1),
        helper.make_node("Split", ["n"], ["s", "r"], axis=1, num_outputs=2),
        conv("r", "d", pads=[1] * 4),
        helper.make_node("Add", ["s", "d"], ["e"]),
        helper.make_node("Resize", ["e", "", "z"], ["h"], mode="linear"),
        helper.make_node("PRelu", ["h", "p"], ["i"]),
        helper.make_node("MaxPool", ["i"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    constants = [
        weights((4, 4, 3, 3), "w"), weights((4, 6, 5), "f"), weights((4, 1, 1), "p"),
        onnx.numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "z"),
    ]  # fmt: skip
    proto = model_of(nodes, (1, 4, 6, 5), constants, 18)
    inside, outside = compare(proto, "layout")
    assert inside.count("Transpose") == 2
    assert "Transpose" not in outside


def heads(*kinds: str) -> tuple[list[Any], list[Any]]:
    """Return branches on an image of (1, 4, 6, 6), joined as a detector joins its heads."""
    nodes, constants, parts = [], [whole("flat", 1, -1, 2)], []
    for i, kind in enumerate(kinds):
        if kind == "Conv":
            constants.append(weights((2 * i + 2, 4, 3, 3), f"w{i}"))
            nodes.append(conv("x", f"c{i}", f"w{i}", strides=[i + 1] * 2))
        else:
            nodes.append(helper.make_node(kind, ["x"], [f"c{i}"]))
        nodes.append(helper.make_node("Transpose", [f"c{i}"], [f"t{i}"], perm=[0, 2, 3, 1]))
        nodes.append(helper.make_node("Reshape", [f"t{i}", "flat"], [f"r{i}"]))
        parts.append(f"r{i}")
    return [*nodes, helper.make_node("Concat", parts, ["joined"], axis=1)], constants


def test_an_activation_behind_joined_heads_is_lifted_into_them() -> None:
    """Each head computes its own share in its epilogue, and no step is left for it."""
    nodes, constants = heads("Conv", "Conv")
    nodes.append(helper.make_node("Sigmoid", ["joined"], ["y"]))
    lifted, left = compare(model_of(nodes, (1, 4, 6, 6), constants), "lift")
    assert "Sigmoid" not in lifted
    assert left.count("Sigmoid") == 1


def test_a_branch_that_cannot_take_it_keeps_its_share_of_the_activation() -> None:
    """A pool among the heads gets a step of its own; where it is the greater part, all stays."""
    nodes, constants = heads("Conv", "Conv", "GlobalMaxPool")
    nodes.append(helper.make_node("LeakyRelu", ["joined"], ["y"], alpha=0.25))
    lifted, left = compare(model_of(nodes, (1, 4, 6, 6), constants), "lift")
    assert lifted.index("LeakyRelu") < lifted.index("Concat") < len(left)
    assert left.index("LeakyRelu") > left.index("Concat")
    nodes, constants = heads("Neg", "Conv")
    nodes.append(helper.make_node("Sigmoid", ["joined"], ["y"]))
    kept, _ = compare(model_of(nodes, (1, 4, 6, 6), constants), "lift")
    assert kept.index("Sigmoid") > kept.index("Concat")


def test_what_others_take_is_not_lifted() -> None:
    """Whoever takes the joined heads, or one of them, gets them without the activation."""
    nodes, constants = heads("Conv", "Conv")
    more = [
        helper.make_node("Sigmoid", ["joined"], ["s"]),
        helper.make_node("Sub", ["s", "joined"], ["y"]),
    ]
    kept, _ = compare(model_of([*nodes, *more], (1, 4, 6, 6), constants), "lift")
    assert kept[-2:] == ["Sigmoid", "Sub"]
    nodes[-1] = helper.make_node("Concat", ["r0", "r1", "r1"], ["joined"], axis=1)
    more = [
        helper.make_node("Sigmoid", ["joined"], ["s"]),
        helper.make_node("ReduceMax", ["r1"], ["m"], keepdims=0),
        helper.make_node("Add", ["s", "m"], ["y"]),
    ]
    partly, _ = compare(model_of([*nodes, *more], (1, 4, 6, 6), constants), "lift")
    assert partly.count("Sigmoid") == 2  # for both copies of the head that is used thrice


POOL: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}


def numbers(**values: float) -> list[Any]:
    """Return constants of one element, by name."""
    return [onnx.numpy_helper.from_array(np.array(v, np.float32), n) for n, v in values.items()]


@pytest.mark.parametrize(("kind", "inputs"), [("Relu", []), ("Clip", ["low", "high"])])
def test_what_never_falls_is_lifted_over_a_maximum(kind: str, inputs: list[str]) -> None:
    """The greatest of what is clamped is the clamped greatest, over joined branches as well."""
    nodes = [
        conv("x", "a", pads=[1] * 4),
        conv("x", "b", "v", pads=[1] * 4),
        helper.make_node("Concat", ["a", "b"], ["c"], axis=1),
        helper.make_node("MaxPool", ["c"], ["d"], pads=[1] * 4, **POOL),
        helper.make_node(kind, ["d", *inputs], ["y"]),
    ]
    constants = [weights((5, 4, 3, 3), "w"), weights((3, 4, 3, 3), "v"), *numbers(low=-0.5, high=2)]
    proto = model_of(nodes, (2, 4, 8, 9), constants)
    lifted, left = compare(proto, "lift")
    assert kind not in lifted
    assert kind in left
    fused = [s.node for s in hwkit.load(proto).program().steps if s.node.type == "Conv"]
    assert all(node.get("activation", None) for node in fused)


@pytest.mark.parametrize(
    ("kind", "pool", "attributes"),
    [
        ("Relu", "AveragePool", POOL),
        ("HardSwish", "MaxPool", POOL),
        # A window of padding alone is -inf, which a Relu changes.
        ("Relu", "MaxPool", {"kernel_shape": [2, 2], "dilations": [9, 9], "pads": [9] * 4}),
    ],
)
def test_what_a_pool_would_change_is_not_lifted(
    kind: str, pool: str, attributes: dict[str, Any]
) -> None:
    """Averages of what is clamped are others, and so is the greatest of what first falls."""
    nodes = [
        conv("x", "a", pads=[1] * 4),
        helper.make_node(pool, ["a"], ["b"], **attributes),
        helper.make_node(kind, ["b"], ["y"]),
    ]
    proto = model_of(nodes, (1, 4, 8, 9), [weights((5, 4, 3, 3), "w")])
    assert kind in compare(proto, "lift")[0]


def test_a_branch_without_an_epilogue_is_clamped_behind_its_pool() -> None:
    """There it has fewer elements than in front of it."""
    nodes = [
        conv("x", "a", strides=[2, 2]),
        helper.make_node("Neg", ["x"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["c"], **POOL),
        helper.make_node("Concat", ["a", "c"], ["d"], axis=1),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    proto = model_of(nodes, (1, 4, 8, 8), [weights((5, 4, 2, 2), "w")])
    lifted, _ = compare(proto, "lift")
    assert lifted.index("MaxPool") < lifted.index("Relu") < lifted.index("Concat")


@pytest.mark.parametrize(
    ("first", "second", "does_nothing"),
    [
        (("Relu",), ("Relu",), True),
        (("Relu",), ("Clip", "", "six"), False),
        (("Clip", "zero", "six"), ("Relu",), True),
        (("Clip", "zero", "six"), ("Clip", "low", "six"), True),
        (("Clip", "low", "six"), ("Relu",), False),
        (("Clip", "low", "six"), ("Clip", "zero", "six"), False),
        (("Relu",), ("LeakyRelu",), True),
        (("Tanh",), ("Relu",), False),
    ],
)
@pytest.mark.parametrize("between", ["MaxPool", "Transpose", "Split"])
def test_clamps_of_what_lies_between_their_bounds_go(
    first: tuple[str, ...], second: tuple[str, ...], does_nothing: bool, between: str
) -> None:
    """Behind nodes that move or choose elements nothing has left its range."""
    options: dict[str, dict[str, Any]] = {
        "MaxPool": POOL, "Transpose": {"perm": [0, 2, 3, 1]}, "Split": {"axis": 1},
    }  # fmt: skip
    outputs = ["b", "rest"] if between == "Split" else ["b"]
    nodes = [
        helper.make_node(first[0], ["x", *first[1:]], ["a"]),
        helper.make_node(between, ["a"], outputs, **options[between]),
        helper.make_node(second[0], ["b", *second[1:]], ["c"]),
        helper.make_node("Neg", ["c"], ["y"]),
    ]
    proto = model_of(nodes, (1, 4, 6, 6), numbers(zero=0, low=-0.5, six=6))
    found, left = compare(proto, "ranges")
    assert len(left) - len(found) == does_nothing


@pytest.mark.parametrize(
    ("kind", "attributes", "stays"),
    [
        ("AveragePool", POOL, False),
        ("GlobalAveragePool", {}, False),
        ("ReduceMean", {"axes": [1]}, False),
        ("Add", {}, False),
        ("Sub", {}, True),
    ],
)
def test_means_and_sums_of_what_is_not_negative_are_not(
    kind: str, attributes: dict[str, Any], stays: bool
) -> None:
    """A Relu behind them goes, but not a Clip, as rounding may leave an upper bound."""
    both = ["p", "q"] if kind in ("Add", "Sub") else ["p"]
    for last, more in (("Relu", []), ("Clip", ["zero", "six"])):
        nodes = [
            helper.make_node("Clip", ["x", "zero", "six"], ["p"]),
            helper.make_node("Relu", ["x"], ["q"]),
            helper.make_node(kind, both, ["a"], **attributes),
            helper.make_node(last, ["a", *more], ["b"]),
            helper.make_node("Neg", ["b"], ["y"]),
        ]
        proto = model_of(nodes, (1, 4, 6, 6), numbers(zero=0, six=6))
        found, left = compare(proto, "ranges")
        assert (len(found) == len(left)) is (stays or last == "Clip")


def test_layout_takes_scales_of_an_attribute_along() -> None:
    """Operator set 7 has the scales of an Upsample as an attribute, in the order of the axes."""
    nodes = [
        conv("x", "a"),
        helper.make_node("Upsample", ["a"], ["y"], scales=[1.0, 1.0, 2.0, 3.0]),
    ]
    proto = model_of(nodes, (1, 3, 5, 6), [weights((4, 3, 1, 1), "w")], opset=7)
    assert compare(proto, "layout")[0] == ["Transpose", "Conv", "Upsample", "Transpose"]


def test_layout_takes_a_small_operand_along() -> None:
    """A factor for each channel, made by products, does not turn the image back."""
    nodes = [
        conv("x", "a"),
        helper.make_node("GlobalAveragePool", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("MatMul", ["c", "m"], ["d"]),
        helper.make_node("Reshape", ["d", "s"], ["e"]),
        helper.make_node("Mul", ["a", "e"], ["f"]),
        conv("f", "y", "v"),
    ]
    constants = [weights((8, 3, 1, 1), "w"), weights((8, 8), "m"), weights((4, 8, 1, 1), "v")]
    constants.append(onnx.numpy_helper.from_array(np.array([1, 8, 1, 1]), "s"))
    found, _ = compare(model_of(nodes, (1, 3, 9, 9), constants), "layout")
    assert found.count("Transpose") == 2


def chain(*steps: tuple[str, ...]) -> list[Any]:
    """Return nodes, each given as type, inputs and output."""
    return [helper.make_node(kind, ins, [out]) for kind, *ins, out in steps]


CONSTANTS = {"three": 3.0, "zero": 0.0, "six": 6.0, "sixth": 1 / 6, "one": 1.0, "half": 0.5}
CONSTANTS |= {"root": 2**0.5, "five": 5.0}
GATE = [("Add", "a", "three", "b"), ("Clip", "b", "zero", "six", "c")]
IDIOMS: list[tuple[str, list[tuple[str, ...]]]] = [
    ("HardSigmoid", [*GATE, ("Div", "c", "six", "y")]),
    ("HardSwish", [*GATE, ("Mul", "c", "a", "d"), ("Div", "d", "six", "y")]),
    ("HardSwish", [*GATE, ("Mul", "a", "c", "d"), ("Mul", "sixth", "d", "y")]),
    ("HardSwish", [*GATE, ("Mul", "c", "sixth", "d"), ("Mul", "a", "d", "y")]),
    ("Swish", [("Sigmoid", "a", "b"), ("Mul", "b", "a", "y")]),
    ("Mish", [("Softplus", "a", "b"), ("Tanh", "b", "c"), ("Mul", "a", "c", "y")]),
    (
        "Gelu",
        [
            ("Div", "a", "root", "b"),
            ("Erf", "b", "c"),
            ("Add", "c", "one", "d"),
            ("Mul", "a", "d", "e"),
            ("Mul", "e", "half", "y"),
        ],
    ),
]


def idiom(steps: list[tuple[str, ...]]) -> Any:
    """Return a model of these nodes behind a Softsign, which nothing fuses with."""
    values = [
        onnx.numpy_helper.from_array(np.array(v, np.float32), n) for n, v in CONSTANTS.items()
    ]
    return model_of(chain(("Softsign", "x", "a"), *steps), (2, 3, 8, 8), values)


@pytest.mark.parametrize(("kind", "steps"), IDIOMS)
def test_an_activation_in_parts_is_one_node(kind: str, steps: list[tuple[str, ...]]) -> None:
    """What PyTorch writes for an activation that its operator set had not."""
    assert [steps.count(kind) for steps in compare(idiom(steps), "idioms")] == [1, 0]


def test_other_numbers_are_no_idiom() -> None:
    """Only the numbers of hard-swish are hard-swish, and only if nobody takes a part of it."""
    steps = [*GATE, ("Mul", "c", "a", "d"), ("Div", "d", "five", "y")]
    assert "HardSwish" not in compare(idiom(steps), "idioms")[0]
    steps = [*GATE, ("Mul", "c", "a", "d"), ("Div", "d", "six", "e"), ("Add", "e", "b", "y")]
    assert "HardSwish" not in compare(idiom(steps), "idioms")[0]


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize(
    ("kind", "pool"), [("ReduceMean", "GlobalAveragePool"), ("ReduceMax", "GlobalMaxPool")]
)
def test_a_reduction_of_images_is_a_pooling(kind: str, pool: str, keepdims: int) -> None:
    """As Keras has it; over other axes it stays."""
    for axes, found in (([2, 3], True), ([-1, 2], True), ([1, 2], False)):
        node = helper.make_node(kind, ["x"], ["y"], axes=axes, keepdims=keepdims)
        proto = model_of([node], (2, 3, 6, 7), [])
        assert (pool in compare(proto, "idioms")[0]) is found


@pytest.mark.parametrize("bias", [True, False])
def test_layout_takes_transposed_convolutions_without_overlap(bias: bool) -> None:
    """As in a U-Net; where windows overlap they are convolutions by phases."""
    for stride, kind in (([2, 3], "ConvTiles"), ([2, 2], "ConvPhases")):
        names = ["a", "m", "n"] if bias else ["a", "m"]
        nodes = [
            conv("x", "a"),
            helper.make_node("ConvTranspose", names, ["b"], strides=stride),
            conv("b", "y", "v"),
        ]
        constants = [weights((8, 3, 1, 1), "w"), weights((8, 5, 2, 3), "m"), weights((5,), "n")]
        constants.append(weights((4, 5, 1, 1), "v"))
        found, _ = compare(model_of(nodes, (2, 3, 5, 6), constants), "layout")
        assert kind in found
        assert found.count("Transpose") == 2


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("taps", "stride", "pads", "more", "group"),
    [
        ((4, 4), [2, 2], [1, 1, 1, 1], [0, 0], 1),  # of generators
        ((3, 3), [2, 2], [1, 1, 1, 1], [1, 1], 2),
        ((6, 5), [3, 2], [2, 1, 1, 2], [0, 1], 8),  # depthwise
        ((3, 3), [1, 1], [1, 1, 1, 1], [0, 0], 1),
        ((2, 1), [3, 4], [0, 0, 0, 0], [1, 0], 1),  # places that no tap meets
        ((4, 4), [1, 1], [0, 0, 0, 0], [0, 0], 4),
    ],
)
def test_layout_takes_transposed_convolutions_by_phases(
    taps: tuple[int, int], stride: list[int], pads: list[int], more: list[int], group: int,
    bias: bool,
) -> None:  # fmt: skip
    """Each remainder by the stride is a convolution of its own; the sums are the same."""
    names = ["x", "m", "n"] if bias else ["x", "m"]
    node = helper.make_node(
        "ConvTranspose", names, ["y"], strides=stride, pads=pads, output_padding=more, group=group
    )
    constants = [weights((8, 3, *taps), "m"), weights((3 * group,), "n")]
    found, _ = compare(model_of([node], (2, 8, 5, 6), constants), "layout")
    assert found == ["Transpose", "ConvPhases", "Transpose"]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kind", "attributes"),
    [("Relu", {}), ("LeakyRelu", {"alpha": 0.2}), ("Sigmoid", {}), ("HardSwish", {})],
)
@pytest.mark.parametrize(
    ("form", "stride"), [("ConvTiles", [3, 2]), ("ConvPhases", [2, 1]), ("ConvPhases", [4, 3])]
)
def test_activations_behind_transposed_convolutions_are_fused(
    form: str, stride: list[int], kind: str, attributes: dict[str, Any], bias: bool
) -> None:
    """Each part of the result has it in its epilogue; places that no tap meets get it as well."""
    nodes = [
        conv("x", "a"),
        helper.make_node("ConvTranspose", ["a", "m", *(["n"] * bias)], ["b"], strides=stride),
        helper.make_node(kind, ["b"], ["y"], **attributes),
    ]
    constants = [weights((8, 3, 1, 1), "w"), weights((8, 5, 3, 2), "m"), weights((5,), "n")]
    proto = model_of(nodes, (2, 3, 5, 6), constants, 14)
    fused, left = compare(proto, "fusion_transposed")
    assert [t for t in fused if t != "Transpose"] == ["Conv", form]
    assert kind in left
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    data = proto.SerializeToString()
    x = hwkit.load(data).random_inputs()["x"]
    (want,) = runtime.InferenceSession(data).run(None, {"x": x})
    assert relative_error(hwkit.load(data)(x), want) < 1e-5


def test_an_activation_that_others_go_round_stays() -> None:
    """Who takes the transposed convolution itself gets it without the activation."""
    nodes = [
        helper.make_node("ConvTranspose", ["x", "m"], ["a"], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Sub", ["a", "b"], ["y"]),
    ]
    constants = [weights((4, 3, 3, 3), "m")]
    fused, _ = compare(model_of(nodes, (1, 4, 5, 6), constants), "fusion_transposed")
    assert "Relu" in fused


@pytest.mark.parametrize("more", [{"pads": [2, 2, 2, 2]}, {"dilations": [2, 2]}])
def test_layout_leaves_transposed_convolutions_that_are_no_phases(more: dict[str, Any]) -> None:
    """Where the image would be cut, or taps are apart, the products are added up as before."""
    node = helper.make_node("ConvTranspose", ["x", "m"], ["y"], strides=[2, 2], **more)
    found, _ = compare(model_of([node], (1, 4, 5, 6), [weights((4, 3, 2, 2), "m")]), "layout")
    assert found == ["ConvTranspose"]
