"""Problems of 8-bit integers as convolutions: the sizes that ``cython/int8.c`` goes by."""

from __future__ import annotations

from typing import Any

from hwkit import Problem

__all__ = ["as_convolution", "channels", "depth", "halo", "images", "pixels", "taps"]


def as_convolution(problem: Problem) -> dict[str, Any]:
    """Return the problem as a convolution: a matrix product is one of 1 x 1."""
    if problem.op.name.endswith("conv2d"):
        nhwc = problem.layout == "nhwc"
        out = problem.output.shape
        top, _, left, _ = problem["pad"]
        return {
            "sizes": [problem[name] for name in ("n", "c", "h", "w", "k", "r", "s")],
            "out_size": out[1:3] if nhwc else out[2:4],
            "pad": (top, left),
            "stride": problem["stride"],
            "dilation": problem["dilation"],
            "groups": problem["groups"],
            "x_planes": not nhwc,
            "y_planes": not nhwc,
            "w_order": "krsc" if nhwc else "kcrs",
        }
    m, n, k = (problem[name] for name in "mnk")
    layout = problem.layout or "nn"
    shape = {
        "sizes": [1, k, 1, m, n, 1, 1],
        "out_size": (1, m),
        "stride": (1, 1),
        "groups": 1,
        "x_planes": layout[0] == "t",
        "y_planes": False,
        "w_order": "ck" if layout[1] == "n" else "krsc",
    }
    if problem.op.name != "gemm":
        shared = problem["shared"]
        shape |= {"batch": problem["b"], "x_shared": shared == "a", "w_shared": shared == "b"}
    return shape


def depth(shape: dict[str, Any]) -> int:
    """Return the terms of each sum."""
    return int(shape["sizes"][1] // shape["groups"] * taps(shape))


def taps(shape: dict[str, Any]) -> int:
    """Return the elements of the window."""
    return int(shape["sizes"][5] * shape["sizes"][6])


def halo(shape: dict[str, Any]) -> int:
    """Return the pixels that a block of pixels widens beside those of its neighbours."""
    return int((shape["sizes"][5] - 1) * shape["out_size"][1])


def channels(shape: dict[str, Any]) -> int:
    """Return the output channels of a group."""
    return int(shape["sizes"][4] // shape["groups"])


def pixels(shape: dict[str, Any]) -> int:
    """Return the output pixels of an image; those of a batch with one matrix are one image."""
    p, q = shape["out_size"]
    return int(p * q) * (shape["batch"] if shape.get("w_shared") else 1)


def images(shape: dict[str, Any]) -> int:
    """Return how many products there are, of images and of a batch."""
    batch = 1 if shape.get("w_shared") else shape.get("batch", 1)
    return int(shape["sizes"][0] * batch)
