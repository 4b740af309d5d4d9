"""Convolution as direct sums, without packing, for small groups."""

from __future__ import annotations

from hwkit import Config, Problem, Run, Space

from .common import ceiling, epilogue, integer, offset, tunables
from .models import Work
from .run import OUT, Slot
from .windows import VECTORS, Conv2dKernel, strides, window_arguments

__all__ = ["ChannelsConv2d", "RowsConv2d"]

THREADS = (1, 4, 16, 32, 64)


class _Direct(Conv2dKernel):
    """Sums without packing; a vector of pixels or of channels.

    Attributes:
        across: whether the vector lies across channels.
    """

    file = "direct.cl"
    across = False

    def space(self, problem: Problem) -> Space:
        """Return vector width, what a work-item makes, and work-items of a group."""
        most = self.device.limits.work_group
        return Space(
            {"vec": VECTORS, "tile": (1, 2, 4, 8), "wm": THREADS},
            [(lambda wm: wm <= most, "the device allows such a group")],
        )

    def default(self, problem: Problem) -> Config:
        """Return a vector of the device's width."""
        cpu = self.device.limits.is_cpu
        wide = 4 if problem.dtypes.input == "float64" or not cpu else 8
        few = 1 if not self.across and problem["k"] == problem["groups"] else 4
        return Config({"vec": wide, "tile": few, "wm": 1 if cpu else 16})

    def build(self, problem: Problem, config: Config) -> Run:
        """Compile."""
        groups, threads = problem["groups"], self.threads(config)
        vec, tile = int(config["vec"]), int(config["tile"])
        channels, per_group = problem["c"] // groups, problem["k"] // groups
        shape = dict(zip(problem.layout, problem.output.shape, strict=True))
        slots, flags, activation = epilogue(problem)
        sizes = (problem["n"], channels, problem["h"], problem["w"], per_group, groups)
        weights = strides(problem.layout, problem.operands[1].shape)
        if self.across:
            units = ceiling(groups, vec)
            rest = shape["h"] * ceiling(shape["w"], tile)
        else:
            units = shape["h"] * ceiling(shape["w"], vec)
            rest = groups * ceiling(per_group, tile)
        main = self.launch(
            problem, "direct", (ceiling(units, threads), rest, shape["n"]), threads,
            {"VEC": vec, "TILE": tile, "ACROSS": int(self.across)},
            (
                Slot(0), Slot(1), slots["bias"], slots["residual"], OUT, *map(integer, sizes),
                *window_arguments(problem), *self.image_strides(problem), *map(offset, weights),
                *self.output_strides(problem), integer(flags), *activation,
            ),
        )  # fmt: skip
        return self.run(problem, config, [main])

    def registers(self, problem: Problem, config: Config) -> int:
        """Return the sums, a vector, and addresses."""
        wide = 2 if problem.dtypes.input == "float64" else 1
        return int(config["vec"]) * (int(config["tile"]) + 1) * wide + 16

    def work(self, problem: Problem, config: Config) -> Work:
        """Return an access for each vector of the image, and for each weight."""
        chosen, size = tunables(config), problem.operands[0].dtype.itemsize
        outputs = problem.output.nbytes // problem.output.dtype.itemsize
        depth = problem["r"] * problem["s"] * problem["c"] // problem["groups"]
        items = ceiling(outputs, chosen["vec"] * chosen["tile"])
        # Pixels that do not lie side by side are read one by one.
        single = not self.across and (problem.layout == "nhwc" or problem["stride"][1] > 1)
        values = chosen["tile"] if self.across else 1
        weights = 1 if self.across else chosen["tile"]
        loads = float(items * depth) * (values * (chosen["vec"] if single else 1) + weights)
        return Work(
            fma=float(items * chosen["vec"] * chosen["tile"] * depth),
            loads=loads,
            load_bytes=size if single else size * chosen["vec"],
            bytes=float(problem.nbytes),
            groups=ceiling(items, chosen["wm"]),
            threads=chosen["wm"],
            registers=self.registers(problem, config),
            half=size == 2,
        )


class RowsConv2d(_Direct):
    """A vector of pixels of a row; any groups, both layouts."""

    name = "rows_conv2d"

    def rank(self, problem: Problem) -> int:
        """After the others, but for few channels of a group."""
        return 1


class ChannelsConv2d(_Direct):
    """A vector of channels, for depthwise images with channels side by side."""

    name = "channels_conv2d"
    across = True

    def supports(self, problem: Problem) -> bool | str:
        """Whether it is depthwise, in the layout nhwc."""
        depthwise = problem["groups"] == problem["c"] == problem["k"]
        if not depthwise or problem.layout != "nhwc":
            return "takes depthwise problems with channels last"
        return super().supports(problem)

    def rank(self, problem: Problem) -> int:
        """First, where it can."""
        return 3
