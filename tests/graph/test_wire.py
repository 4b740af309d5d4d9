"""Large constants are cut out of a model's bytes; what is unusual is left to protobuf."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit.graph.wire import cut_file, without_arrays
from hwkit.memory import LINE

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")


def model(sizes: tuple[int, ...] = (4, 3000, 5, 2000)) -> Any:
    """Return a model with constants of these sizes, every second one in a typed field."""
    helper, rng = onnx.helper, np.random.default_rng(1)
    held = []
    for index, size in enumerate(sizes):
        values = rng.standard_normal(size, np.float32)
        held.append(onnx.numpy_helper.from_array(values, f"w{index}"))
    held.append(helper.make_tensor("typed", onnx.TensorProto.FLOAT, (2000,), [1.0] * 2000))
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (1,))
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (1,))
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [x], [y], held)
    return helper.make_model(graph, ir_version=8)


def test_the_rest_is_the_same_message() -> None:
    """Put back, the large constants give the model again."""
    proto = model()
    rest, cut = without_arrays(proto.SerializeToString())
    assert set(cut) == {1, 3}
    found = onnx.ModelProto()
    found.ParseFromString(rest)
    assert len(rest) < 12_000
    for index, data in cut.items():
        assert not found.graph.initializer[index].HasField("raw_data")
        found.graph.initializer[index].raw_data = bytes(data)
    assert found == proto


def test_cut_arrays_are_views_of_the_bytes() -> None:
    """No element is copied."""
    data = model().SerializeToString()
    _, cut = without_arrays(data)
    assert all(np.may_share_memory(np.frombuffer(v, "u1"), np.frombuffer(data, "u1"))
               for v in cut.values())  # fmt: skip


def test_a_file_gives_what_its_bytes_give(tmp_path: Path) -> None:
    """Its large constants lie in memory of their own; an empty file has none."""
    data = model().SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    rest, cut = cut_file(path)
    want, views = without_arrays(data)
    assert rest == want
    assert {i: bytes(v) for i, v in cut.items()} == {i: bytes(v) for i, v in views.items()}
    assert [np.frombuffer(v, "u1").ctypes.data % LINE for v in cut.values()] == [0, 0]
    path.write_bytes(b"")
    assert cut_file(path) == (b"", {})
    with pytest.raises(OSError, match="plain file"):
        cut_file(Path(os.devnull))


def test_a_model_of_fixed_shapes_reads_its_file_again(tmp_path: Path) -> None:
    """Its weights are held packed only; the file must still be the same."""
    import hwkit
    from hwkit.errors import ArgumentError
    from hwkit.testing.networks import network

    path = tmp_path / "net.onnx"
    path.write_bytes(network("squeezenet").SerializeToString())
    loaded = hwkit.load(path)
    x = loaded.random_inputs()
    want = loaded.run(x)
    assert loaded.memory.constants < path.stat().st_size / 2
    loaded.forget()
    got = loaded.run(x)
    assert all(np.array_equal(got[name], array) for name, array in want.items())
    path.write_bytes(network("squeezenet", seed=1).SerializeToString())
    os.utime(path, (1, 1))
    loaded.forget()
    with pytest.raises(ArgumentError, match="has changed since"):
        loaded.run(x)


def test_what_is_unusual_is_left_alone() -> None:
    """Two graphs, a raw field twice, cut ends, groups: the bytes as they are."""
    data = model().SerializeToString()
    twice = model()
    message = twice.graph.initializer[1].SerializeToString()
    again = bytes(message) + bytes(message)
    tensor = b"\x2a" + _varint(len(again)) + again
    graph = twice.graph.SerializeToString() + tensor
    doubled = b"\x3a" + _varint(len(graph)) + graph
    for odd in (data + data, data[:-1], b"\x0b" + data, data + b"\xff" * 11, b"", b"\x00"):
        assert without_arrays(odd) == (odd, {})
    _, cut = without_arrays(doubled)
    assert set(cut) == {1, 3}


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


@pytest.mark.parametrize("seed", range(4))
def test_mutated_bytes_mean_what_they_mean_to_protobuf(seed: int) -> None:
    """Where both read a mutated file, they read the same."""
    import hwkit
    from hwkit.errors import HwkitError
    from hwkit.graph import reading

    rng = np.random.default_rng(seed)
    good = model().SerializeToString()
    for _ in range(50):
        data = bytearray(good)
        for _ in range(rng.integers(1, 4)):
            # Where the fields begin, not in the numbers.
            place = int(rng.choice([rng.integers(60), len(good) - 1 - rng.integers(200)]))
            data[place] = rng.integers(256)
        plain, mine = onnx.ModelProto(), bytes(data)
        try:
            plain.ParseFromString(mine)
        except Exception:
            with pytest.raises(HwkitError):
                hwkit.load(mine)
            continue
        try:
            got = reading.read(mine, 1 << 30)
            want = reading.read(plain, 1 << 30)
        except HwkitError:
            continue
        assert [n.type for n in got.nodes] == [n.type for n in want.nodes]
