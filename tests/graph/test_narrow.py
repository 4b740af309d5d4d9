"""Networks in float16 and bfloat16: the steps of float32, and its answers but for the rounding."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwkit
from hwkit.cli import main
from hwkit.dtypes import is_float, numpy_dtype, widened
from hwkit.errors import DtypeError
from hwkit.op import relative_error
from hwkit.testing.networks import NETWORKS
from hwkit.testing.networks import network as well_known

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")

from small_networks import helper, narrowed, network  # noqa: E402  # it needs onnxruntime

NARROW = ("float16", "bfloat16")
# One rounding of a result, relative.
ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
# Of a network of up to fifty layers, each of which rounds.
DEEP = {"float16": 1e-2, "bfloat16": 6e-2}
LARGE = {"vgg16"}


def steps(model: hwkit.graph.Model) -> list[str]:
    """Return the types of the steps that run."""
    return [step.node.type for step in model.program().steps]


def both(
    proto: Any, dtype: str, inputs: dict[str, Any] | None = None
) -> tuple[hwkit.graph.Model, hwkit.graph.Model, float]:
    """Run in float32 and narrow on the same numbers; return both, and how the answers differ."""
    wide, narrow = hwkit.load(proto), hwkit.load(narrowed(proto, dtype))
    kind = numpy_dtype(dtype)
    given = wide.random_inputs(7) if inputs is None else inputs
    given = {n: a.astype(kind) if is_float(a.dtype) else a for n, a in given.items()}
    want = wide.run({n: widened(a) for n, a in given.items()})
    got = narrow.run(given)
    for name, array in want.items():
        assert got[name].dtype == (kind if array.dtype == np.float32 else array.dtype)
    return wide, narrow, max(relative_error(got[n], want[n]) for n in want)


def weights(*shape: int, seed: int = 0) -> Any:
    """Return random float32 weights whose products stay as large as what they multiply."""
    rng = np.random.default_rng([seed, *shape])
    depth = math.prod(shape[1:]) if len(shape) > 1 else 1
    return rng.standard_normal(shape, np.float32) / np.float32(math.sqrt(depth))


def node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
    """Return a node of inputs with spaces between them."""
    return helper.make_node(kind, inputs.split(), [output], name=output, **attributes)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in LARGE else []) for n in NETWORKS]
)
def test_networks_have_the_steps_of_float32(name: str, dtype: str) -> None:
    """Every pass does what it does in float32, channels last included; answers are as near."""
    wide, narrow, error = both(well_known(name), dtype)
    assert steps(narrow) == steps(wide)
    problems = narrow.problems()
    assert [str(p).replace(dtype, "float32") for p in problems] == [str(p) for p in wide.problems()]
    assert {p.layout for p in problems if "conv2d" in p.op.name} == {"nhwc"}
    assert f"conv2d {dtype} nhwc" in narrow.explain()
    assert error < DEEP[dtype]


def _norms(kind: str) -> tuple[list[Any], dict[str, Any]]:
    parts = {n: np.abs(1 + weights(8, seed=i) / 10) for i, n in enumerate("sbmv")}
    first = [node("Conv", "x w", "a", pads=[1] * 4)] if kind == "folded" else []
    held = {**parts, "w": weights(8, 8, 3, 3)} if first else parts
    source = "a" if first else "x"
    return [*first, node("BatchNormalization", f"{source} s b m v", "y")], held


IMAGE = (2, 8, 12, 12)
FUSED: dict[str, tuple[list[Any], dict[str, Any], tuple[int, ...], list[str]]] = {
    "batch norm in weights": (*_norms("folded"), IMAGE, ["Conv"]),
    "batch norm alone": (*_norms("alone"), IMAGE, ["Conv"]),
    "residual and activation": (
        [
            node("Conv", "x w b", "a", pads=[1] * 4),
            node("Add", "a x", "s"),
            node("Clip", "s low high", "y"),
        ],
        {
            "w": weights(8, 8, 3, 3), "b": weights(8), "low": np.float32(0), "high": np.float32(6),
        },
        IMAGE, ["Conv"],
    ),
    "padding": (
        [node("Pad", "x p", "a"), node("Conv", "a w", "y")],
        {"w": weights(8, 8, 3, 3), "p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}, IMAGE, ["Conv"],
    ),
    "bias of a product": (
        [node("MatMul", "x w", "a"), node("Add", "a b", "s"), node("Relu", "s", "y")],
        {"w": weights(32, 24), "b": weights(24)}, (9, 32), ["Gemm"],
    ),
    "transposed matrix": (
        [node("Transpose", "x", "t", perm=[1, 0]), node("MatMul", "t w", "y")],
        {"w": weights(32, 24)}, (32, 9), ["Gemm"],
    ),
    "hard-swish in parts": (
        [
            node("Conv", "x w", "a"),
            node("Add", "a three", "b"),
            node("Clip", "b low high", "c"),
            node("Mul", "a c", "d"),
            node("Mul", "d sixth", "y"),
        ],
        {
            "w": weights(8, 8, 1, 1), "three": np.float32(3), "low": np.float32(0),
            "high": np.float32(6), "sixth": np.float32(1 / 6),
        },
        IMAGE, ["Conv"],
    ),
    "gelu in parts": (
        [
            node("Mul", "x root", "a"),
            node("Erf", "a", "b"),
            node("Add", "b one", "c"),
            node("Mul", "x c", "d"),
            node("Mul", "d half", "y"),
        ],
        {"root": np.float32(math.sqrt(0.5)), "one": np.float32(1), "half": np.float32(0.5)},
        (4, 96), ["Gelu"],
    ),
    "mean of an image": (
        [node("ReduceMean", "x", "y", axes=[2, 3], keepdims=1)], {}, IMAGE, ["GlobalAveragePool"],
    ),
    "transposed convolution": (
        [
            node("Conv", "x v", "a"),
            node("ConvTranspose", "a w b", "c", strides=[2, 2]),
            node("Relu", "c", "y"),
        ],
        {"v": weights(8, 8, 1, 1), "w": weights(8, 6, 2, 2), "b": weights(6)},
        IMAGE, ["Conv", "ConvTiles"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("what", FUSED)
def test_passes_do_not_look_at_the_width(what: str, dtype: str) -> None:
    """Fusion, folding, absorption and idioms leave the same steps, whose answers agree."""
    nodes, constants, shape, expected = FUSED[what]
    proto = network(nodes, {"x": np.zeros(shape, np.float32)}, ["y"], constants)
    wide, narrow, error = both(proto, dtype)
    assert [kind for kind in steps(wide) if kind != "Transpose"] == expected
    assert steps(narrow) == steps(wide)
    assert error < 4 * ROUNDING[dtype]


@pytest.mark.parametrize("dtype", NARROW)
def test_a_chain_of_folded_nodes_is_rounded_once(dtype: str) -> None:
    """Weights are those of float64, rounded at the end, whatever is folded one after the other."""
    kind = numpy_dtype(dtype)
    constants: dict[str, Any] = {
        "w": weights(8, 8, 3, 3), "b": weights(8),
        **{n: np.abs(1 + weights(8, seed=i)) + np.float32(0.1) for i, n in enumerate("sgmv")},
        "f": 1 + weights(1, 8, 1, 1), "o": weights(1, 8, 1, 1, seed=1),
    }  # fmt: skip
    nodes = [
        node("Conv", "x w b", "a", pads=[1] * 4),
        node("BatchNormalization", "a s g m v", "c"),
        node("Mul", "c f", "d"),
        node("Add", "d o", "y"),
    ]
    proto = network(nodes, {"x": np.zeros(IMAGE, np.float32)}, ["y"], constants)
    graph = hwkit.load(narrowed(proto, dtype), without=("layout",)).rewritten((IMAGE,))
    (made,) = graph.nodes
    held = {n: a.astype(kind).astype(np.float64) for n, a in constants.items()}
    factor = held["s"] / np.sqrt(held["v"] + 1e-5)
    offset = (held["b"] - held["m"]) * factor + held["g"]
    f, o = held["f"].reshape(-1), held["o"].reshape(-1)
    assert np.array_equal(
        made.input(1).data, (held["w"] * (factor * f)[:, None, None, None]).astype(kind)
    )
    assert np.array_equal(made.input(2).data, (offset * f + o).astype(kind))


@pytest.mark.parametrize("dtype", NARROW)
def test_constants_are_folded_in_their_dtype(dtype: str) -> None:
    """What follows from constants alone is no step, and has the dtype of the network."""
    nodes = [node("Mul", "a b", "c"), node("Exp", "c", "d"), node("Add", "x d", "y")]
    constants = {"a": weights(80, 80), "b": weights(80, 80, seed=1)}
    proto = network(nodes, {"x": np.zeros((80, 80), np.float32)}, ["y"], constants)
    _, narrow, error = both(proto, dtype)
    assert steps(narrow) == ["Add"]
    assert error < 4 * ROUNDING[dtype]


LONG = {
    "Softmax": ({"axis": 1}, {}),
    "LogSoftmax": ({"axis": 0}, {}),
    "ReduceSum": ({}, {}),
    "ReduceMean": ({"axes": [0]}, {}),
    "ReduceL2": ({"axes": [1]}, {}),
    "ReduceLogSumExp": ({"axes": [0]}, {}),
    "CumSum": ({}, {"axis": np.array(0)}),
    "LpNormalization": ({"axis": 0, "p": 1}, {}),
    "InstanceNormalization": ({}, {"s": np.ones(3, np.float32), "b": np.ones(3, np.float32)}),
    "GlobalLpPool": ({"p": 2}, {}),
}


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("kind", LONG)
def test_long_sums_are_not_added_up_in_few_bits(kind: str, dtype: str) -> None:
    """In bfloat16 a sum of ones would end at 256."""
    attributes, constants = LONG[kind]
    shape = (2, 3, 60, 50) if kind in ("InstanceNormalization", "GlobalLpPool") else (3000, 5)
    x = 1 + np.abs(np.random.default_rng(3).standard_normal(shape, np.float32)) / 4
    nodes = [node(kind, " ".join(["x", *constants]), "y", **attributes)]
    _, _, error = both(network(nodes, {"x": x}, ["y"], constants), dtype, {"x": x})
    assert error < 2 * ROUNDING[dtype]


@pytest.mark.parametrize("dtype", NARROW)
def test_constants_in_typed_fields_need_no_onnx(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bits of narrow floats may lie in a field of whole numbers, as onnx.helper writes them."""
    kind = numpy_dtype(dtype)
    code = helper.np_dtype_to_tensor_dtype(kind)
    held = helper.make_tensor("w", code, (2, 3), [0.5, -1, 2, 3, 1e-3, 7])
    x = helper.make_tensor_value_info("x", code, (2, 3))
    y = helper.make_tensor_value_info("y", code, None)
    graph = helper.make_graph([node("Add", "x w", "y")], "fields", [x], [y], [held])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data, want = proto.SerializeToString(), onnx.numpy_helper.to_array(held)
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    got = hwkit.load(data)(np.zeros((2, 3), kind))
    assert got.dtype == kind
    assert np.array_equal(got, want)


def test_an_input_of_another_width_is_told_how_to_convert() -> None:
    """bfloat16 is no name that numpy knows by itself."""
    proto = network([node("Relu", "x", "y")], {"x": np.zeros((2, 3), np.float32)}, ["y"], {})
    for dtype, way in (
        ("float16", r"x\.astype\('float16'\)"),
        ("bfloat16", r"ml_dtypes\.bfloat16"),
    ):
        with pytest.raises(DtypeError, match=way):
            hwkit.load(narrowed(proto, dtype))(np.zeros((2, 3), np.float32))


def test_floating_dtypes_are_known_by_name() -> None:
    """bfloat16 is one although its kind is that of bytes; bytes and 8-bit floats are none."""
    floats = [numpy_dtype(n) for n in ("float16", "bfloat16", "float32", "float64")]
    assert all(map(is_float, floats))
    assert [widened(np.ones(1, d)).dtype.name for d in floats] == ["float32"] * 3 + ["float64"]
    import ml_dtypes

    for other in (np.int32, "V2", np.complex64, bool, ml_dtypes.float8_e5m2):
        array = np.zeros(1, other)
        assert not is_float(array.dtype)
        assert widened(array) is array


@pytest.fixture
def small() -> Any:
    """A model of a convolution, a pool and a product."""
    nodes = [
        node("Conv", "x w", "a", pads=[1] * 4),
        node("Relu", "a", "b"),
        node("GlobalAveragePool", "b", "c"),
        node("Flatten", "c", "d"),
        node("Gemm", "d m", "y", transB=1),
    ]
    constants = {"w": weights(8, 3, 3, 3), "m": weights(5, 8)}
    return network(nodes, {"x": np.zeros((1, 3, 12, 12), np.float32)}, ["y"], constants)


@pytest.mark.parametrize("dtype", NARROW)
def test_commands_take_narrow_networks(
    dtype: str, small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """run reads and writes files, tune tunes, and bench times what answers within the rounding."""
    kind, file = numpy_dtype(dtype), tmp_path / "small.onnx"
    file.write_bytes(narrowed(small, dtype).SerializeToString())
    x = weights(1, 3, 12, 12).astype(kind)
    np.save(tmp_path / "x.npy", x)

    def output_of(*words: str) -> dict[str, Any]:
        assert main([words[0], str(file), *words[1:], "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    given = ("--input", f"x={tmp_path / 'x.npy'}")
    found = output_of("run", *given, "--save", str(tmp_path / "y.npz"))
    assert found["outputs"] == {"y": {"dtype": dtype, "shape": [1, 5]}}
    with np.load(tmp_path / "y.npz") as saved:
        # numpy's files have no name for bfloat16.
        assert np.array_equal(saved["y"].view(kind), hwkit.load(file)(x))
    timed = output_of("bench", *given, "--rounds", "1", "--peers", "none")
    assert set(timed["medians"]) == {"hwkit", "hwkit-default"}
    tuned = output_of("tune", "--budget", "1s", "--trials", "2", "--db", str(tmp_path / "t.db"))
    assert tuned
