"""Glue with channels last, and along short rows, gives onnxruntime's answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from small_networks import check, helper, network

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 6, 8)).astype(np.float32)
WEIGHTS = RNG.standard_normal((8, 3, 1, 1)).astype(np.float32)


def behind_a_convolution(node: Any, **constants: Any) -> list[str]:
    """Check a node that takes the image a of 8 channels; return the types of all steps."""
    conv = helper.make_node("Conv", ["x", "w"], ["a"])
    model = network([conv, node], {"x": X}, ["y"], {"w": WEIGHTS, **constants})
    return [step.node.type for step in check(model, {"x": X}, 1e-5).program().steps]


@pytest.mark.parametrize("kind", ["DepthToSpace", "SpaceToDepth"])
@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_blocks_of_pixels_become_channels_and_back(kind: str, mode: str) -> None:
    """With channels last as well, so that nothing is turned between."""
    more = {"mode": mode} if kind == "DepthToSpace" else {}
    found = behind_a_convolution(helper.make_node(kind, ["a"], ["y"], blocksize=2, **more))
    assert found == ["Transpose", "Conv", kind, "Transpose"]


@pytest.mark.parametrize(
    "pads",
    [
        (0, 0, 1, 2, 0, 0, 3, 4), (1, 2, 0, 0, 0, 3, 0, 0), (0, 0, -1, 2, 0, 0, 2, -3),
        (1, 1, 2, 1, 0, 2, 1, 3), (0, 0, 0, 0, 0, 0, 0, 0), (0, 0, 5, 7, 0, 0, 5, 7),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_borders(mode: str, pads: tuple[int, ...]) -> None:
    """Each border is written once, from what is there, also where others are cut away."""
    node = helper.make_node("Pad", ["a", "pads", "fill"], ["y"], mode=mode)
    constants = {"pads": np.array(pads, np.int64), "fill": np.float32(1.5)}
    found = behind_a_convolution(node, **constants)
    assert found.count("Transpose") == 2


@pytest.mark.parametrize("shape", [(1, 3), (5000, 5), (2, 3, 64), (3, 65), (4, 1), (0, 3)])
@pytest.mark.parametrize("scale", [1, 1000])
def test_softmax_along_rows(shape: tuple[int, ...], scale: int) -> None:
    """Short rows are turned; the input stays as it is."""
    x = (RNG.standard_normal(shape) * scale).astype(np.float32)
    before = x.copy()
    check(network([helper.make_node("Softmax", ["x"], ["y"])], {"x": x}, ["y"], {}), {"x": x}, 1e-5)
    np.testing.assert_array_equal(x, before)
