"""Kernels of the pooling Ops: a vector of channels or pixels, and whole images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwkit import Config, Kernel, Problem, Run, Space

from .common import OpenclKernel, ceiling, integer, offset
from .conv2d import strides, window_arguments
from .run import OUT, OpenclRun, Slot

if TYPE_CHECKING:
    from .device import OpenclDevice

__all__ = ["ImagePool2d", "WindowPool2d", "kernels"]

VEC = (1, 2, 4, 8, 16)
THREADS = (1, 4, 16, 32, 64)
POOLS = ("max_pool2d", "avg_pool2d", "global_max_pool2d", "global_avg_pool2d")


def kernels(device: OpenclDevice) -> list[Kernel]:
    """Return the kernels of this module."""
    found: list[Kernel] = [WindowPool2d(device, op) for op in POOLS]
    return found + [ImagePool2d(device, op) for op in POOLS[2:]]


class _Pool2d(OpenclKernel):
    """What both have in common."""

    file = "pool2d.cl"

    def space(self, problem: Problem) -> Space:
        """Return vector width and work-items of a group."""
        most = self.device.limits.work_group
        return Space(
            {"vec": VEC, "wm": THREADS},
            [(lambda wm: wm <= most, "the device allows such a group")],
        )

    def default(self, problem: Problem) -> Config:
        """Return a vector of the device's width."""
        cpu = self.device.limits.is_cpu
        wide = 4 if problem.dtypes.input == "float64" or not cpu else 8
        return Config({"vec": wide, "wm": 16})

    def _defines(self, config: Config, across: bool) -> dict[str, int]:
        maximum = "max" in self.op
        return {"VEC": int(config["vec"]), "MAXIMUM": int(maximum), "ACROSS": int(across)}


class WindowPool2d(_Pool2d):
    """Window by window; a whole image is one window."""

    name = "window_pool2d"

    def refusal(self, problem: Problem) -> str | None:
        """Return why it does not take the problem; positions are counted in int."""
        if not self._whole(problem):
            shape = dict(zip(problem.layout, problem.output.shape, strict=True))
            reach = max(max(problem[name]) for name in ("pad", "stride", "dilation"))
            if reach * max(problem["r"], problem["s"], shape["h"], shape["w"]) >= 2**30:
                return "padding, stride or dilation are beyond what it counts"
        return super().refusal(problem)

    @staticmethod
    def _whole(problem: Problem) -> bool:
        return "r" not in problem.sizes

    def build(self, problem: Problem, config: Config) -> Run:
        """Compile."""
        across, threads = problem.layout == "nhwc", self.threads(config)
        shape = dict(zip(problem.layout, problem.output.shape, strict=True))
        h, w = problem["h"], problem["w"]
        if self._whole(problem):
            window = tuple(map(integer, (1, 1, h, w, 0, 0, 1, 1, 1, 1)))
            inside = (0, h, 0, w)
        else:
            window = window_arguments(problem)
            top, bottom, left, right = problem["pad"]
            counted = problem.attributes.get("count_include_pad", False)
            inside = (-top, h + bottom, -left, w + right) if counted else (0, h, 0, w)
        strips = ceiling(shape["c"] if across else shape["w"], int(config["vec"]))
        units = strips * (shape["w"] if across else shape["h"])
        rest = shape["h"] if across else shape["c"]
        main = self.launch(
            problem, "pool2d", (ceiling(units, threads), rest, shape["n"]), threads,
            self._defines(config, across),
            (
                Slot(0), OUT, integer(shape["c"]), integer(h), integer(w), *window,
                *map(integer, inside),
                *map(offset, strides(problem.layout, problem.operands[0].shape)),
                *map(offset, strides(problem.layout, problem.output.shape)),
            ),
        )  # fmt: skip
        return OpenclRun(self.device, [main])


class ImagePool2d(_Pool2d):
    """A whole image whose pixels lie side by side, for each work-item."""

    name = "image_pool2d"

    def supports(self, problem: Problem) -> bool | str:
        """Whether the pixels of a channel lie side by side."""
        return super().supports(problem) if problem.layout == "nchw" else "takes channels first"

    def rank(self, problem: Problem) -> int:
        """First, where it can."""
        return 1

    def build(self, problem: Problem, config: Config) -> Run:
        """Compile."""
        images, size = problem["n"] * problem["c"], problem["h"] * problem["w"]
        threads = self.threads(config)
        main = self.launch(
            problem, "reduce_image", (ceiling(images, threads), 1, 1), threads,
            self._defines(config, False), (Slot(0), OUT, integer(images), integer(size)),
        )  # fmt: skip
        return OpenclRun(self.device, [main])
