"""Kernels that read packed weights, and pixels, as images: mobile GPUs cache these apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hwkit import Config, Kernel, Problem, Space

from .common import OpenclKernel, Value, tunables
from .conv2d import ImplicitConv2d
from .gemm import PackedGemm
from .models import Work
from .run import Slot, Texels

if TYPE_CHECKING:
    from .device import OpenclDevice

__all__ = ["ImageConv2d", "ImageGemm", "kernels"]

_TEXEL = 16  # bytes: four floats


def kernels(device: OpenclDevice) -> list[Kernel]:
    """Return the kernels of this module."""
    return [ImageGemm(device, "gemm"), ImageGemm(device, "matmul"), ImageConv2d(device, "conv2d")]


class _Images(OpenclKernel):
    """What both have in common: packed weights that fit an image."""

    def supports(self, problem: Problem) -> bool | str:
        """Whether it is float32, and the packed weights fit an image."""
        answer = super().supports(problem)
        if answer is not True:
            return answer
        if problem.dtypes.input != "float32":
            return "takes float32, of which a texel has four"
        most, texels = self.device.limits.texels, self._texels(problem, self.default(problem))
        if not 0 < texels <= most:
            return f"an image has 1 to {most} texels here, not {texels}"
        return True

    def _texels(self, problem: Problem, config: Mapping[str, Value]) -> int:
        found: int = self.workspace(problem, Config(config)) // _TEXEL
        return found

    def space(self, problem: Problem) -> Space:
        """Return the space without images, less what is no whole number of texels or fits none."""
        most = self.device.limits.texels
        space = super().space(problem)
        known = [(each.test, each.reason) for each in space.constraints]

        def fits(nv: int, vec: int) -> bool:
            return self._texels(problem, {"nv": nv, "vec": vec}) <= most

        whole = (lambda vec: vec % 4 == 0, "a texel has four elements")
        values = {**space.values, "unroll": (1,)}
        return Space(values, [*known, whole, (fits, "the packed weights fit an image")])

    def default(self, problem: Problem) -> Config:
        """Return the default without images."""
        return super().default(problem).replace(unroll=1)

    def as_argument(self, packed: Any) -> Any:
        """Return an image over the buffer."""
        return Texels.over(self.device, packed)

    def rank(self, problem: Problem) -> int:
        """Only where it was measured to be faster."""
        return -2

    def work(self, problem: Problem, config: Config) -> Work:
        """Return the work without images, with the accesses to weights made by the texture unit."""
        work, chosen = super().work(problem, config), tunables(config)
        loads = work.loads * chosen["mr"] / (chosen["mr"] + chosen["nv"])
        return replace(work, loads=loads, texels=(work.loads - loads) * chosen["vec"] / 4)


class ImageGemm(_Images, PackedGemm):
    """The panels of b read as an image."""

    name = "image_gemm"

    def _defines(self, config: Config) -> dict[str, int]:
        return {**super()._defines(config), "IMAGE": 1}


class ImageConv2d(_Images, ImplicitConv2d):
    """The packed weights read as an image (``image=1``), and the pixels as well (``image=2``)."""

    name = "image_conv2d"

    def space(self, problem: Problem) -> Space:
        """Return the space of one image, and of two where four channels are a texel."""
        space = super().space(problem)
        known = [(each.test, each.reason) for each in space.constraints]
        whole = problem.layout == "nhwc" and problem["c"] // problem["groups"] % 4 == 0
        fits = problem.operands[0].nbytes // _TEXEL <= self.device.limits.texels
        test = (lambda image: image == 1 or (whole and fits), "pixels are texels of an image")
        return Space({**space.values, "image": (1, 2)}, [*known, test])

    def default(self, problem: Problem) -> Config:
        """Return the default with weights as an image."""
        return super().default(problem).replace(image=1)

    def _defines(self, config: Config) -> dict[str, int]:
        return {**super()._defines(config), "IMAGE": int(config["image"])}

    def _pixels(self, config: Config) -> Slot:
        return Slot(0, texels=config["image"] == 2)

    def work(self, problem: Problem, config: Config) -> Work:
        """Return the work with one image, or with two, of which four channels are read at once."""
        work = super().work(problem, config)
        if config["image"] == 1:
            return work
        return replace(work, loads=0.0, texels=work.texels + work.loads / 4)
