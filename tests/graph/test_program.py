"""What a run takes and gives belongs to the caller."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from small_networks import check, helper, network


@pytest.mark.parametrize("rows", [3, 70_000])
def test_answers_belong_to_the_caller(rows: int) -> None:
    """Small results are copied, large ones are written where they stay: neither changes later."""
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Flatten", ["y"], ["z"], axis=0),
        helper.make_node("Neg", ["y"], ["w"]),
        helper.make_node("Identity", ["x"], ["same"]),
    ]
    rng = np.random.default_rng(rows)
    first, second = (rng.standard_normal((rows, 2), np.float32) for _ in range(2))
    model = check(network(nodes, {"x": first}, ["y", "z", "w", "same"], {}), {"x": first})
    got = model.run({"x": first})
    kept = {name: array.copy() for name, array in got.items()}
    for array in model.run({"x": second}).values():
        array[:] = 0
    for name, array in got.items():
        np.testing.assert_array_equal(array, kept[name])
        assert not np.may_share_memory(array, first)


def test_inputs_of_any_memory() -> None:
    """What cannot be read as it lies is copied, and no input is written."""
    x = np.random.default_rng(0).standard_normal((6, 8), np.float32)
    model = check(network([helper.make_node("Neg", ["x"], ["y"])], {"x": x}, ["y"], {}), {"x": x})
    read_only, wide = x.copy(), np.zeros((6, 16), np.float32)
    read_only.flags.writeable = False
    wide[:, ::2] = x
    raw = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(np.float32).reshape(x.shape)
    unaligned[:] = x
    for given in (read_only, wide[:, ::2], np.asfortranarray(x), x.astype(">f4"), unaligned):
        np.testing.assert_array_equal(model(given), -x)


def test_a_copy_is_the_model_itself_and_pickling_says_what_to_do_instead() -> None:
    """As of a Plan."""
    x = np.ones((2, 3), np.float32)
    model = check(network([helper.make_node("Neg", ["x"], ["y"])], {"x": x}, ["y"], {}), {"x": x})
    assert copy.copy(model) is model
    assert copy.deepcopy({"net": model})["net"] is model
    with pytest.raises(TypeError, match=r"cannot be pickled, .* by hwkit.load with the same"):
        pickle.dumps(model)
