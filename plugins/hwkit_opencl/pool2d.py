"""Kernels of the pooling Ops: a vector of channels or pixels, and whole images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hwkit import Config, Kernel, Problem, Run, Space

from .common import OpenclKernel, ceiling, integer, offset, tunables
from .models import Work
from .run import OUT, Slot
from .windows import VECTORS, strides, window_arguments

if TYPE_CHECKING:
    from .device import OpenclDevice

__all__ = ["POOLS", "ImagePool2d", "WindowPool2d", "kernels", "pool_arguments"]

THREADS = (1, 4, 16, 32, 64)
POOLS = ("max_pool2d", "avg_pool2d", "global_max_pool2d", "global_avg_pool2d")


def kernels(device: OpenclDevice) -> list[Kernel]:
    """Return the kernels of this module."""
    found: list[Kernel] = [WindowPool2d(device, op) for op in POOLS]
    return found + [ImagePool2d(device, op) for op in POOLS[2:]]


def is_whole(problem: Problem) -> bool:
    """Whether the window is the whole image."""
    return "r" not in problem.sizes


def pool_arguments(problem: Problem) -> tuple[Any, ...]:
    """Return sizes, window and strides, as the texts take them."""
    h, w = problem["h"], problem["w"]
    if is_whole(problem):
        window = tuple(map(integer, (1, 1, h, w, 0, 0, 1, 1, 1, 1)))
        inside = (0, h, 0, w)
    else:
        window = window_arguments(problem)
        top, bottom, left, right = problem["pad"]
        counted = problem.attributes.get("count_include_pad", False)
        inside = (-top, h + bottom, -left, w + right) if counted else (0, h, 0, w)
    shapes = (problem.operands[0].shape, problem.output.shape)
    steps = [step for shape in shapes for step in strides(problem.layout, shape)]
    sizes = map(integer, (problem["c"], h, w))
    return (*sizes, *window, *map(integer, inside), *map(offset, steps))


class _Pool2d(OpenclKernel):
    """What both have in common."""

    file = "pool2d.cl"

    def space(self, problem: Problem) -> Space:
        """Return vector width and work-items of a group."""
        most = self.device.limits.work_group
        return Space(
            {"vec": VECTORS, "wm": THREADS},
            [(lambda wm: wm <= most, "the device allows such a group")],
        )

    def default(self, problem: Problem) -> Config:
        """Return a vector of the device's width."""
        cpu = self.device.limits.is_cpu
        wide = 4 if problem.dtypes.input == "float64" or not cpu else 8
        return Config({"vec": wide, "wm": 16})

    def work(self, problem: Problem, config: Config) -> Work:
        """Return an access for each vector of a window; an addition counts as a multiply-add."""
        chosen, size = tunables(config), problem.operands[0].dtype.itemsize
        outputs = problem.output.nbytes // size
        taps = problem.flops // max(outputs, 1)
        whole = self.name == "image_pool2d"
        items = outputs if whole else ceiling(outputs, chosen["vec"])
        single = problem.layout == "nchw" and not whole
        loads = float(items * taps) * (chosen["vec"] if single else 1)
        return Work(
            fma=float(items * taps * (1 if whole else chosen["vec"])),
            loads=loads / (chosen["vec"] if whole else 1),
            load_bytes=size if single else size * chosen["vec"],
            bytes=float(problem.nbytes),
            groups=ceiling(items, chosen["wm"]),
            threads=chosen["wm"],
            registers=chosen["vec"] * (5 if whole else 3) + 16,
            half=size == 2,
        )

    def _defines(self, config: Config, across: bool) -> dict[str, int]:
        maximum = "max" in self.op
        return {"VEC": int(config["vec"]), "MAXIMUM": int(maximum), "ACROSS": int(across)}


class WindowPool2d(_Pool2d):
    """Window by window; a whole image is one window."""

    name = "window_pool2d"

    def refusal(self, problem: Problem) -> str | None:
        """Return why it does not take the problem; positions are counted in int."""
        if not is_whole(problem):
            shape = dict(zip(problem.layout, problem.output.shape, strict=True))
            reach = max(max(problem[name]) for name in ("pad", "stride", "dilation"))
            if reach * max(problem["r"], problem["s"], shape["h"], shape["w"]) >= 2**30:
                return "padding, stride or dilation are beyond what it counts"
        return super().refusal(problem)

    def build(self, problem: Problem, config: Config) -> Run:
        """Compile."""
        across, threads = problem.layout == "nhwc", self.threads(config)
        shape = dict(zip(problem.layout, problem.output.shape, strict=True))
        strips = ceiling(shape["c"] if across else shape["w"], int(config["vec"]))
        units = strips * (shape["w"] if across else shape["h"])
        rest = shape["h"] if across else shape["c"]
        main = self.launch(
            problem, "pool2d", (ceiling(units, threads), rest, shape["n"]), threads,
            self._defines(config, across), (Slot(0), OUT, *pool_arguments(problem)),
        )  # fmt: skip
        return self.run(problem, config, [main])


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
        return self.run(problem, config, [main])
