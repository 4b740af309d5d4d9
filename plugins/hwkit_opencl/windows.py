"""What the texts of convolution and pooling are told of windows, images and their layout."""

from __future__ import annotations

from typing import Any

from hwkit import Problem

from .common import OpenclKernel, integer, offset

__all__ = ["VECTORS", "Conv2dKernel", "strides", "window_arguments"]

VECTORS = (1, 2, 4, 8, 16)
"""Elements of a vector type of OpenCL C."""


def strides(layout: str, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the strides of n, c, h, w in elements, for an array of that layout."""
    found, step = {}, 1
    for letter, size in zip(reversed(layout), reversed(shape), strict=True):
        found[letter] = step
        step *= size
    return found["n"], found["c"], found["h"], found["w"]


def window_arguments(problem: Problem) -> tuple[Any, ...]:
    """Return output size, window, padding, stride and dilation, as the texts take them."""
    shape = dict(zip(problem.layout, problem.output.shape, strict=True))
    top, _, left, _ = problem["pad"]
    values = (
        shape["h"], shape["w"], problem["r"], problem["s"], top, left, *problem["stride"],
        *problem["dilation"],
    )  # fmt: skip
    return tuple(map(integer, values))


class Conv2dKernel(OpenclKernel):
    """What all kernels of the Op conv2d have in common."""

    def refusal(self, problem: Problem) -> str | None:
        """Return why no kernel takes the problem; pixels are counted in int."""
        shape = dict(zip(problem.layout, problem.output.shape, strict=True))
        if shape["n"] * shape["h"] * shape["w"] >= 2**31 - 2**16:
            return "it counts fewer than 2**31 pixels"
        reach = max(max(problem[name]) for name in ("pad", "stride", "dilation"))
        if reach * max(problem["r"], problem["s"], shape["h"], shape["w"]) >= 2**30:
            return "padding, stride or dilation are beyond what it counts"
        return super().refusal(problem)

    @staticmethod
    def image_strides(problem: Problem) -> tuple[Any, ...]:
        """Return the strides of the images, as the texts take them."""
        return tuple(map(offset, strides(problem.layout, problem.operands[0].shape)))

    @staticmethod
    def output_strides(problem: Problem) -> tuple[Any, ...]:
        """Return the strides of the output, as the texts take them."""
        return tuple(map(offset, strides(problem.layout, problem.output.shape)))
