"""Kernels of the Op conv2d: windows times packed weights, and direct sums for small groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hwkit import Config, Kernel, Problem, Run, Space

from .common import OpenclKernel, ceiling, epilogue, integer, offset, tunables
from .models import Work
from .run import OUT, Slot

if TYPE_CHECKING:
    from .device import OpenclDevice

__all__ = [
    "ChannelsConv2d",
    "ImplicitConv2d",
    "RowsConv2d",
    "kernels",
    "strides",
    "window_arguments",
]

MR = (1, 2, 3, 4, 6, 7, 8)
NV = (1, 2, 3, 4)
VEC = (1, 2, 4, 8, 16)
ACROSS = (1, 2, 4, 8, 16)
UNROLL = (1, 2, 4)
THREADS = (1, 4, 16, 32, 64)

_PACKERS = 16


def kernels(device: OpenclDevice) -> list[Kernel]:
    """Return the kernels of this module."""
    return [kind(device, "conv2d") for kind in (ImplicitConv2d, RowsConv2d, ChannelsConv2d)]


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


class _Conv2d(OpenclKernel):
    """What all have in common."""

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
    def _images(problem: Problem) -> tuple[Any, ...]:
        x = strides(problem.layout, problem.operands[0].shape)
        return tuple(map(offset, x))

    @staticmethod
    def _output(problem: Problem) -> tuple[Any, ...]:
        return tuple(map(offset, strides(problem.layout, problem.output.shape)))


class ImplicitConv2d(_Conv2d):
    """Windows are rows of a product that are never written down; weights in panels."""

    name = "implicit_conv2d"
    file = "conv2d.cl"

    def space(self, problem: Problem) -> Space:
        """Return the tile of a work-item, the work-items of a group, and unrolling."""
        limits = self.device.limits
        wide = 2 if problem.dtypes.input == "float64" else 1
        most = 128 if limits.is_cpu else 64
        return Space(
            {"mr": MR, "nv": NV, "vec": VEC, "wm": ACROSS, "wn": ACROSS, "unroll": UNROLL},
            [
                (lambda mr, nv, vec: mr * nv * vec * wide <= most, "the tile fits the registers"),
                (lambda wm, wn: wm * wn <= limits.work_group, "the device allows such a group"),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return a tile that fills the registers of a CPU, or a group that fills a GPU."""
        double = problem.dtypes.input == "float64"
        if self.device.limits.is_cpu:
            narrow = problem["k"] // problem["groups"] <= 8
            values = {"mr": 6, "nv": 1 if narrow else 2, "vec": 4 if double else 8}
            values |= {"wm": 1, "wn": 1, "unroll": 1}
        else:
            values = {"mr": 4, "nv": 1, "vec": 2 if double else 4}
            values |= {"wm": 8, "wn": 4, "unroll": 1}
        return Config(values)

    def registers(self, problem: Problem, config: Config) -> int:
        """Return the sums, a row of weights, and addresses."""
        wide = 2 if problem.dtypes.input == "float64" else 1
        chosen = tunables(config)
        rows, across = chosen["mr"], chosen["nv"] * chosen["vec"]
        return (rows * across + across + rows) * wide + 4 * rows + 12

    def rank(self, problem: Problem) -> int:
        """First, where a group has channels enough for a panel."""
        return 2 if problem["k"] // problem["groups"] >= 8 else 0

    def _panels(self, problem: Problem, config: Config) -> tuple[int, int]:
        """Return panels of a group, and elements of a row of a panel."""
        across = int(config["nv"]) * int(config["vec"])
        return ceiling(problem["k"] // problem["groups"], across), across

    def _defines(self, config: Config) -> dict[str, int]:
        names = {"MR": "mr", "NV": "nv", "VEC": "vec", "WM": "wm", "WN": "wn", "UNROLL": "unroll"}
        return {macro: int(config[name]) for macro, name in names.items()}

    def _pixels(self, config: Config) -> Slot:
        """Return as what the kernel reads the pictures: as a buffer."""
        return Slot(0)

    def build(self, problem: Problem, config: Config) -> Run:
        """Compile, and allocate the packed weights."""
        groups, channels = problem["groups"], problem["c"] // problem["groups"]
        per_group, taps = problem["k"] // groups, problem["r"] * problem["s"]
        panels, across = self._panels(problem, config)
        defines = self._defines(config)
        depth = taps * channels
        packed = self.device.empty((groups * panels * depth * across,), problem.operands[1].dtype)
        # A tap is a step along s: rows of taps follow one another in both layouts.
        w_k, w_c, _, w_s = strides(problem.layout, problem.operands[1].shape)
        pack = self.launch(
            problem, "pack_weights", (ceiling(depth, _PACKERS), panels, groups), _PACKERS, defines,
            (
                Slot(1), packed.base_data, *map(integer, (depth, channels, per_group, taps)),
                offset(w_k), offset(w_c), offset(w_s),
            ),
        )  # fmt: skip
        shape = dict(zip(problem.layout, problem.output.shape, strict=True))
        pixels = shape["n"] * shape["h"] * shape["w"]
        slots, flags, activation = epilogue(problem)
        sizes = (pixels, channels, problem["h"], problem["w"], per_group)
        main = self.launch(
            problem, "conv2d",
            (
                ceiling(pixels, int(config["mr"]) * int(config["wm"])),
                ceiling(panels, int(config["wn"])),
                groups,
            ),
            self.threads(config), defines,
            (
                self._pixels(config), self.as_argument(packed.base_data), slots["bias"],
                slots["residual"], OUT, *map(integer, sizes), *window_arguments(problem),
                *self._images(problem), *self._output(problem), integer(flags), *activation,
            ),
        )  # fmt: skip
        return self.run(problem, config, [pack, main], 1, (packed,))

    def work(self, problem: Problem, config: Config) -> Work:
        """Return the multiply-adds of whole tiles, and an access for each element or vector."""
        chosen, groups = tunables(config), int(problem["groups"])
        pixels = problem.output.nbytes // problem.output.dtype.itemsize // max(problem["k"], 1)
        panels, across = self._panels(problem, config)
        depth = problem["r"] * problem["s"] * problem["c"] // groups
        size, threads = problem.operands[0].dtype.itemsize, chosen["wm"] * chosen["wn"]
        blocks = ceiling(pixels, chosen["mr"] * chosen["wm"]) * ceiling(panels, chosen["wn"])
        steps = float(blocks * groups * threads * depth)
        return Work(
            fma=steps * chosen["mr"] * across,
            loads=steps * (chosen["mr"] + chosen["nv"]),
            load_bytes=size * chosen["vec"],
            bytes=float(problem.nbytes + 2 * self.workspace(problem, config)),
            groups=blocks * groups,
            threads=threads,
            registers=self.registers(problem, config),
            half=size == 2,
        )

    def workspace(self, problem: Problem, config: Config) -> int:
        """Return the bytes of the packed weights."""
        panels, across = self._panels(problem, config)
        depth = problem["r"] * problem["s"] * problem["c"] // problem["groups"]
        itemsize = problem.operands[1].dtype.itemsize
        return int(problem["groups"] * panels * depth * across * itemsize)


class _Direct(_Conv2d):
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
            {"vec": VEC, "tile": (1, 2, 4, 8), "wm": THREADS},
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
                *window_arguments(problem), *self._images(problem), *map(offset, weights),
                *self._output(problem), integer(flags), *activation,
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
