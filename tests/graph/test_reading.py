"""Models that cannot be trusted: a sentence for each way of being wrong, and never more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwkit
from hwkit.errors import ArgumentError, DtypeError, HwkitError, HwkitWarning, NoKernel
from hwkit.graph.program import Program

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
helper = onnx.helper
FLOAT = onnx.TensorProto.FLOAT


def value(name: str, shape: Any = (2, 3)) -> Any:
    """Return the declaration of an input or output."""
    return helper.make_tensor_value_info(name, FLOAT, shape)


def model_of(
    nodes: list[Any], constants: Any = (), inputs: Any = ("x",), outputs: Any = ("y",)
) -> Any:
    """Return a model, right or wrong."""
    graph = helper.make_graph(
        nodes, "test", [value(i) for i in inputs], [value(o, None) for o in outputs], constants
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def add(*names: str) -> Any:
    """Return a sum; the last name is that of its output."""
    return helper.make_node("Add", list(names[:-1]), [names[-1]], name=f"add_{names[-1]}")


def constant(name: str = "w") -> Any:
    """Return a constant of the input's shape."""
    return onnx.numpy_helper.from_array(np.ones((2, 3), np.float32), name)


def refused(model: Any, match: str, **options: Any) -> str:
    """Load a model that must be refused, and return the sentence."""
    with pytest.raises(HwkitError, match=match) as caught:
        hwkit.load(model, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def external(folder: Path, location: str, **entries: Any) -> Path:
    """Write a model whose constant lies in a file, and return its path."""
    tensor = constant()
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, text in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(text))
    path = folder / "model.onnx"
    path.write_bytes(model_of([add("x", "w", "y")], [tensor]).SerializeToString())
    return path


@pytest.mark.parametrize("model", [None, 3, ["net.onnx"]])
def test_what_is_no_model(model: Any) -> None:
    """Anything but a path, bytes or a ModelProto is one sentence."""
    with pytest.raises(ArgumentError, match="a model is the path of an ONNX file"):
        hwkit.load(model)


def test_a_path_with_a_null_character() -> None:
    """No file can have such a name."""
    with pytest.raises(ArgumentError, match=r"no null characters, as 'net.onnx\\x00' has"):
        hwkit.load("net.onnx\0")


def test_external_data_are_read_from_the_models_folder(tmp_path: Path) -> None:
    """A file beside the model, from an offset."""
    data = np.arange(6, dtype=np.float32)
    (tmp_path / "weights.bin").write_bytes(b"head" + data.tobytes())
    model = hwkit.load(external(tmp_path, "weights.bin", offset=4, length=24))
    assert np.array_equal(model(np.zeros((2, 3), np.float32)), data.reshape(2, 3))


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "link.bin", "sub/link", ""])
def test_external_data_never_leave_the_folder(tmp_path: Path, location: str) -> None:
    """No parent folder, no absolute path, no link, neither of a file nor of a folder."""
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(24))
    os.symlink(tmp_path / "secret.bin", inner / "link.bin")
    os.symlink(tmp_path, inner / "sub")
    (tmp_path / "link").write_bytes(bytes(24))
    refused(external(inner, location), "must be a plain file in the model's own folder")


@pytest.mark.parametrize(
    "entries", [{"offset": 8}, {"length": 12}, {"offset": -4}, {"offset": "x"}]
)
def test_external_data_must_be_all_there(tmp_path: Path, entries: dict[str, Any]) -> None:
    """Neither beyond the end of the file, nor less than the shape needs."""
    (tmp_path / "weights.bin").write_bytes(bytes(24))
    refused(external(tmp_path, "weights.bin", **entries), "tensor 'w'")


def test_external_data_of_a_model_in_memory_are_refused(tmp_path: Path) -> None:
    """There is no folder to look into."""
    (tmp_path / "weights.bin").write_bytes(bytes(24))
    data = external(tmp_path, "weights.bin").read_bytes()
    refused(data, "load it by its path")


def test_every_prefix_of_a_file_is_refused_or_loads(tmp_path: Path) -> None:
    """A truncated file is a sentence, wherever it ends."""
    data = model_of([add("x", "w", "y")], [constant()]).SerializeToString()
    refused(data[: len(data) // 2], "not an ONNX file|truncated|no graph|no outputs")
    for end in range(0, len(data), 3):
        try:
            hwkit.load(data[:end])
        except HwkitError as error:
            if "\n" in str(error):
                raise RuntimeError(f"{end} bytes are refused at length: {error}") from error
    refused(tmp_path / "nothing.onnx", "cannot be read")
    refused(b"", "no graph")


def test_data_that_do_not_fit_the_shape_are_refused() -> None:
    """Too few bytes, too few numbers, negative and absurd sizes, before anything is allocated."""
    short = constant()
    short.raw_data = short.raw_data[:-4]
    refused(model_of([add("x", "w", "y")], [short]), "needs 24 bytes of data, but has 20")
    few = helper.make_tensor("w", FLOAT, (2, 3), [0.0] * 6)
    few.float_data.pop()
    refused(model_of([add("x", "w", "y")], [few]), "needs 6 numbers, but has 5")
    for size, match in ((-2, "negative shape"), (2**50, "more than")):
        odd = constant()
        odd.dims[0] = size
        refused(model_of([add("x", "w", "y")], [odd]), match)


@pytest.mark.parametrize("opset", [-1, 0, 10_000])
def test_opsets_that_nobody_knows(opset: int) -> None:
    """What no operator can be of is refused; of a later one it is said that it is later."""
    proto = model_of([add("x", "x", "y")])
    proto.opset_import[0].version = opset
    if opset < 1:
        with pytest.raises(ArgumentError, match=f"opset {opset}, .* export it again"):
            hwkit.load(proto)
    else:
        with pytest.warns(HwkitWarning, match=f"opset {opset}, .* export it with opset"):
            hwkit.load(proto)


def test_names_must_be_defined_once_and_before() -> None:
    """Twice defined, undefined, circular, or an output that nothing makes."""
    refused(model_of([add("x", "x", "y"), add("x", "x", "y")]), "'y' is defined twice")
    refused(model_of([add("x", "x", "x")]), "'x' is defined twice")
    refused(model_of([add("x", "z", "y")]), "takes 'z', which nothing makes")
    refused(model_of([add("x", "z", "y"), add("y", "x", "z")]), "has a cycle")
    refused(model_of([add("x", "x", "z")]), "'y' of the model is made by no node")
    refused(model_of([add("x", "x", "y")], outputs=()), "no outputs")


def test_nodes_may_come_in_any_order() -> None:
    """A file that lists them out of order is sorted."""
    model = hwkit.load(model_of([add("z", "x", "y"), add("x", "x", "z")]))
    x = np.ones((2, 3), np.float32)
    assert np.array_equal(model(x), 3 * x)


def test_all_unsupported_nodes_are_listed_at_once() -> None:
    """With name, type and attributes, and how to add one."""
    nodes = [
        helper.make_node("Frobnicate", ["x"], ["a"], name="first", strength=3, domain="acme"),
        add("a", "a", "b"),
        helper.make_node("Loop", ["b"], ["y"], name="second"),
    ]
    text = refused(model_of(nodes), "2 nodes that hwkit cannot run")
    for part in ("'first' (Frobnicate) of acme strength=3", "'second' (Loop)", "hwkit_nodes"):
        assert part in text
    with pytest.raises(NoKernel):
        hwkit.load(model_of(nodes))


def test_of_many_unsupported_nodes_every_type_is_named() -> None:
    """The nodes beyond the first twenty are counted, their types listed once."""
    types = ["LSTM"] * 22 + ["GRU", "Loop", "GRU"]
    nodes = [helper.make_node(t, ["x"], [f"v{i}"]) for i, t in enumerate(types)]
    text = refused(model_of([*nodes, add("x", "x", "y")]), "25 nodes that hwkit cannot run")
    assert "; and 5 more (LSTM, GRU, Loop); a plugin" in text


def test_a_node_type_of_a_plugin_runs() -> None:
    """What was unsupported runs once a plugin brings it."""
    from hwkit import hookimpl
    from hwkit.graph import Glue
    from hwkit.registry import registry

    class Plugin:
        @staticmethod
        @hookimpl
        def hwkit_nodes() -> list[Glue]:
            return [Glue("Cube", function=lambda node, x: x * x * x, domain="acme")]

    proto = model_of([helper.make_node("Cube", ["x"], ["y"], domain="acme")])
    registry().register(Plugin(), "acme")
    try:
        assert np.array_equal(hwkit.load(proto)(np.full((2, 3), 2, np.float32)), np.full((2, 3), 8))
    finally:
        registry().unregister("acme")
    refused(proto, "cannot run")


@pytest.mark.parametrize("sizes", [(2**40, 2**20), (-1, 2), (2**62, 2**62)])
def test_sizes_that_nodes_ask_for_are_checked(sizes: tuple[int, int]) -> None:
    """An absurd Expand, ConstantOfShape or Tile is refused before it allocates."""
    shape = onnx.numpy_helper.from_array(np.array(sizes, np.int64), "s")
    for kind, inputs in (("Expand", ["x", "s"]), ("ConstantOfShape", ["s"]), ("Tile", ["x", "s"])):
        nodes = [helper.make_node(kind, inputs, ["y"])]
        with pytest.raises(HwkitError):
            hwkit.load(model_of(nodes, [shape]), memory=1 << 24)


def test_memory_is_limited() -> None:
    """What lies between nodes counts as well, and absurd inputs are refused."""
    big = helper.make_graph(
        [helper.make_node("Exp", ["x"], ["z"]), helper.make_node("Neg", ["z"], ["y"])],
        "big", [value("x", (1024, 1024))], [value("y", None)],
    )  # fmt: skip
    proto = helper.make_model(big, opset_imports=[helper.make_opsetid("", 17)])
    assert hwkit.load(proto).memory.arena == 4 << 20
    refused(proto, "allowed", memory=1 << 20)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2**60
    refused(proto, "absurd")
    refused(proto, "above 0", memory=0)


def test_memory_is_limited_before_anything_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays that live together beyond the limit are refused before a plan is built."""
    nodes = [helper.make_node(kind, ["x"], [kind]) for kind in ("Exp", "Neg")]
    nodes.append(helper.make_node("MatMul", ["Exp", "Neg"], ["y"]))
    graph = helper.make_graph(nodes, "g", [value("x", (512, 512))], [value("y", None)])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    assert hwkit.load(proto, memory=2 << 20).memory.arena == 2 << 20
    monkeypatch.setattr(Program, "_built", lambda *_: pytest.fail("it was built"))
    refused(proto, "need 2097152 bytes, more than the 1572864 allowed", memory=3 << 19)


def test_a_call_says_what_is_wrong_with_its_inputs() -> None:
    """Number, names, dtype and shape."""
    model = hwkit.load(model_of([add("x", "z", "y")], inputs=("x", "z")))
    x = np.ones((2, 3), np.float32)
    assert np.array_equal(model(x, z=x), 2 * x)
    assert np.array_equal(model(x, x[::1, ::1].copy(order="F")), 2 * x)
    for call, match in (
        (lambda: model(x), "takes x, z"),
        (lambda: model(x, x, x), "takes 2 inputs"),
        (lambda: model(x, x=x), "given twice"),
        (lambda: model(x, q=x), "takes x, z"),
        (lambda: model(x, x[:1]), "has shape"),
    ):
        with pytest.raises(ArgumentError, match=match):
            call()
    with pytest.raises(DtypeError, match="convert it"):
        model(x, x.astype(np.float64))
    with pytest.raises(ArgumentError, match="no pass 'nothing'"):
        hwkit.load(model_of([add("x", "x", "y")]), without=("nothing",))


def test_mistakes_in_options_are_one_sentence() -> None:
    """Options of ``load``, and shapes asked about, that are not what they must be."""
    model = model_of([add("x", "x", "y")])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    wrong: Any
    for name, wrong, match in (
        ("device", 5, "device 5 cannot be read"),
        ("device", "", "device '' cannot be read"),
        ("memory", "lots", "memory='lots' must be a number of bytes"),
        ("memory", float("nan"), "must be a number of bytes"),
        ("without", 7, "without=7 must be names of passes"),
        ("without", "no such pass", "there is no pass 'no such pass' to leave out"),
        ("without", [["layout"]], r"there is no pass \['layout'\] to leave out"),
        ("tolerance", -1, "tolerance=-1 must be a relative error above 0"),
        ("tolerance", "some", "tolerance='some' must be a relative error above 0"),
    ):
        refused(model, match, **{name: wrong})
    loaded = hwkit.load(model, without="layout", memory=1e6)  # type: ignore[arg-type]
    assert len(loaded.problems([[2, 3]])) == len(loaded.problems(((2, 3),)))  # type: ignore[arg-type]
    assert loaded.explain([(4, 3)])  # type: ignore[arg-type]
    shapes: Any
    for shapes in (5, "x", (2, 3), ((2, 3), (2, 3)), (("a", 3),), ((-1, 3),)):
        with pytest.raises(ArgumentError, match=r"must be a tuple of sizes for each input \(x\)"):
            loaded.explain(shapes)
    with pytest.raises(ArgumentError, match=r"input 'x' has shape \(2, 4\), but the model takes"):
        loaded.problems(((2, 4),))
    with pytest.raises(ArgumentError, match="must be arrays by name"):
        loaded.run(np.ones((2, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="the model takes x, not 0"):
        loaded.run({0: np.ones((2, 3), np.float32)})  # type: ignore[dict-item]
    with pytest.raises(ArgumentError, match="input 'x' is None"):
        loaded(None)
    with pytest.raises(ArgumentError, match=r"'x' is a dict, .*: pass .* as model\(\*\*inputs\)"):
        loaded({"x": np.ones((2, 3), np.float32)})


def test_numbers_to_try_a_model_with_are_whole() -> None:
    """Seed, batch and rounds that nothing can be made of."""
    model = model_of([add("x", "x", "y")])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    loaded = hwkit.load(model)
    number: Any
    for name, number in (("seed", -1), ("seed", "a"), ("batch", -1), ("batch", 1.5)):
        with pytest.raises(ArgumentError, match=f"{name}={number!r} must be a whole number"):
            loaded.random_inputs(**{name: number})
    for number in (0, -3, "a", 2.5):
        with pytest.raises(ArgumentError, match=f"rounds={number!r} must be a whole number"):
            loaded.profile(rounds=number)
    assert loaded.random_inputs(batch=0)["x"].shape == (0, 3)
    assert loaded.profile(rounds=np.int64(1)).steps  # type: ignore[arg-type]


def test_other_libraries_go_in_and_come_out() -> None:
    """A tensor of torch comes back as one."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    model = hwkit.load(model_of([add("x", "x", "y")]))
    y = model(torch.ones(2, 3))
    assert isinstance(y, torch.Tensor)
    assert torch.equal(y, torch.full((2, 3), 2.0))


def test_without_onnx_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain models need no protobuf; of what is unusual the error names the extra."""
    data = model_of([add("x", "w", "y")], [constant()]).SerializeToString()
    narrow = helper.make_tensor("w", onnx.TensorProto.FLOAT8E5M2, (2, 3), [1.0] * 6)
    odd = model_of([add("x", "w", "y")], [narrow]).SerializeToString()
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    x = np.zeros((2, 3), np.float32)
    assert np.array_equal(hwkit.load(data)(x), np.ones((2, 3)))
    for unusual in (b"\x0b", odd):
        with pytest.raises(hwkit.Unavailable, match=r"pip install 'hwkit\[onnx\]'"):
            hwkit.load(unusual)
