"""A model read without protobuf says what protobuf says, or leaves it to protobuf."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit.graph.message import Message, read_bytes, read_file
from hwkit.graph.tensors import array_of

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
helper = onnx.helper
FLOAT = onnx.TensorProto.FLOAT


def model(*constants: Any, **attributes: Any) -> Any:
    """Return a model of one node with these attributes, and an input with open sizes."""
    attributes = attributes or {"alpha": 0.5}
    node = helper.make_node("Op", ["x", ""], ["y"], name="n\u00e4me", domain="acme", **attributes)
    x = helper.make_tensor_value_info("x", FLOAT, (1, "batch", None, 2**40))
    graph = helper.make_graph([node], "g", [x], [onnx.ValueInfoProto(name="y")], constants)
    return helper.make_model(graph, ir_version=8)


def same(mine: Any, theirs: Any) -> None:
    """Check that all fields of a message, and of those in it, agree."""
    assert isinstance(mine, Message)
    for field in theirs.DESCRIPTOR.fields:
        if field.name not in {**mine.__dict__, **dict.fromkeys(mine._given)}:
            assert not mine.HasField(field.name)
            continue
        got, want = getattr(mine, field.name), getattr(theirs, field.name)
        if not field.is_repeated:
            assert mine.HasField(field.name) == theirs.HasField(field.name)
            got, want = [got], [want]
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            if isinstance(one, Message):
                same(one, other)
            else:
                assert one == other


def test_fields_are_those_of_protobuf() -> None:
    """Texts, numbers, lists and tensors, negative ones and empty ones as well."""
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    proto = model(
        onnx.numpy_helper.from_array(values, "w"),
        helper.make_tensor("typed", onnx.TensorProto.INT32, (2,), [-1, 7]),
        a=-3, b=0.25, c="text", d=[1, -2, 2**62], e=[1.5, -0.0], f=["p", "q"],
        g=onnx.numpy_helper.from_array(values),
    )  # fmt: skip
    found, cut = read_bytes(proto.SerializeToString())
    assert cut == {}
    same(found, proto)
    assert not found.graph.output[0].type.HasField("tensor_type")


def test_large_constants_are_cut_out(tmp_path: Path) -> None:
    """Of the graph as views or arrays by position; those of attributes stay in the message."""
    values = np.random.default_rng(0).standard_normal(3000).astype(np.float32)
    large, small = (
        onnx.numpy_helper.from_array(v, n) for v, n in ((values, "l"), (values[:3], "s"))
    )
    proto = model(small, large, g=onnx.numpy_helper.from_array(values))
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    for found, cut in (read_bytes(path.read_bytes()), read_file(path)):
        assert found is not None
        assert set(cut) == {1}
        held = found.graph.initializer
        assert np.array_equal(array_of(held[1], None, 1 << 20, cut[1]), values)
        assert np.array_equal(array_of(held[0], None, 1 << 20), values[:3])
        assert np.array_equal(array_of(found.graph.node[0].attribute[0].t, None, 1 << 20), values)


@pytest.mark.parametrize(
    "dtype", ["f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8"]
)
def test_numbers_in_typed_fields(dtype: str) -> None:
    """Every type that numpy has, as the package onnx reads it."""
    values = (np.random.default_rng(1).standard_normal(5) * 50).astype(dtype)
    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    proto = model(helper.make_tensor("w", kind, (5,), values))
    found, _ = read_bytes(proto.SerializeToString())
    assert found is not None
    got = array_of(found.graph.initializer[0], None, 1 << 20)
    assert got.dtype == values.dtype
    assert np.array_equal(got, values)


def test_what_is_unusual_is_left_to_protobuf() -> None:
    """Functions, graphs in attributes, other types, fields that come twice, damage."""
    plain = model()
    data = plain.SerializeToString()
    assert read_bytes(data)[0] is not None
    function = model()
    function.functions.add(name="f")
    inner = model(body=plain.graph)
    sparse = model()
    sparse.graph.sparse_initializer.add()
    listed = model()
    listed.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1
    odd = [m.SerializeToString() for m in (function, inner, sparse, listed)]
    odd += [data + data, data[:-1], data + b"\x0b", b"\x12\x01\xff", b"\x00", data + b"\xff" * 11]
    assert [read_bytes(o)[0] for o in odd] == [None] * len(odd)
