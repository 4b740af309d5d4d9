"""Images read between pixels and regions brought to one size, as onnxruntime does it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hwkit

pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from small_networks import check, helper, network

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 5, 7)).astype(np.float32)
GRID = RNG.uniform(-2.2, 2.2, (2, 4, 6, 2)).astype(np.float32)
REGIONS = np.array(
    [[0, 0, 6, 4], [1.5, 0.7, 9, 3], [-3, -2, 2, 20], [5, 4, 5, 4], [4, 3, 1, 1]], np.float32
)
IMAGES = np.array([0, 1, 1, 0, 1], np.int64)


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_places_within_and_outside_an_image(mode: str, padding: str, corners: int) -> None:
    """All modes and paddings, far outside as well."""
    node = helper.make_node(
        "GridSample", ["x", "g"], ["y"], mode=mode, padding_mode=padding, align_corners=corners
    )
    given = {"x": X, "g": GRID}
    check(network([node], given, ["y"], {}), given, 1e-5)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("half", ["half_pixel", "output_half_pixel"])
def test_regions_with_samples_between_pixels(mode: str, ratio: int, half: str) -> None:
    """Regions that reach outside, have no size, or have their ends exchanged."""
    node = helper.make_node(
        "RoiAlign", ["x", "r", "i"], ["y"], mode=mode, sampling_ratio=ratio, output_height=3,
        output_width=2, spatial_scale=0.9, coordinate_transformation_mode=half,
    )  # fmt: skip
    check(network([node], {"x": X}, ["y"], {"r": REGIONS, "i": IMAGES}), {"x": X}, 1e-5)


def test_regions_rounded_to_pixels() -> None:
    """The greatest pixel of each part, zero where there is none."""
    regions = np.concatenate([IMAGES[:, None], REGIONS], 1).astype(np.float32)
    node = helper.make_node("MaxRoiPool", ["x", "r"], ["y"], pooled_shape=[2, 3], spatial_scale=0.8)
    check(network([node], {"x": X}, ["y"], {"r": regions}), {"x": X})


@pytest.mark.parametrize(
    ("kind", "shapes", "what"),
    [
        ("GridSample", [(1, 2, 4, 4), (2, 3, 3, 2)], "places"),
        ("GridSample", [(1, 2, 4, 4), (1, 3, 3, 3)], "places"),
        ("RoiAlign", [(1, 2, 4, 4), (3, 5), (3,)], "regions"),
        ("MaxRoiPool", [(1, 2, 4, 4), (3, 4)], "regions"),
    ],
)
def test_shapes_that_do_not_fit_are_one_sentence(
    kind: str, shapes: list[tuple[int, ...]], what: str
) -> None:
    """They are looked at before anything runs."""
    given: dict[str, Any] = {f"x{i}": np.zeros(s, np.float32) for i, s in enumerate(shapes)}
    node = helper.make_node(kind, list(given), ["y"], pooled_shape=[1, 1])
    with pytest.raises(hwkit.errors.ArgumentError, match=what):
        hwkit.load(network([node], given, ["y"], {}))


def test_an_image_that_is_not_there_is_one_sentence() -> None:
    """A region may name no image beyond the last."""
    node = helper.make_node("RoiAlign", ["x", "r", "i"], ["y"])
    given = {"x": X, "r": REGIONS[:1], "i": np.array([2])}
    with pytest.raises(hwkit.errors.ArgumentError, match="outside the 2"):
        hwkit.load(network([node], given, ["y"], {})).run(given)
