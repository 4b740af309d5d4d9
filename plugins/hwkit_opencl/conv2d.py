"""Convolution as windows times packed weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwkit import Config, Kernel, Problem, Run, Space

from .common import ceiling, epilogue, integer, offset, tunables
from .direct import ChannelsConv2d, RowsConv2d
from .models import Work
from .run import OUT, Slot
from .windows import VECTORS, Conv2dKernel, strides, window_arguments

if TYPE_CHECKING:
    from .device import OpenclDevice

__all__ = ["ImplicitConv2d", "kernels"]

MR = (1, 2, 3, 4, 6, 7, 8)
NV = (1, 2, 3, 4)
ACROSS = (1, 2, 4, 8, 16)
UNROLL = (1, 2, 4)

_PACKERS = 16


def kernels(device: OpenclDevice) -> list[Kernel]:
    """Return the kernels of the Op conv2d."""
    return [kind(device, "conv2d") for kind in (ImplicitConv2d, RowsConv2d, ChannelsConv2d)]


class ImplicitConv2d(Conv2dKernel):
    """Windows are rows of a product that are never written down; weights in panels."""

    name = "implicit_conv2d"
    file = "conv2d.cl"

    def space(self, problem: Problem) -> Space:
        """Return the tile of a work-item, the work-items of a group, and unrolling."""
        limits = self.device.limits
        wide = 2 if problem.dtypes.input == "float64" else 1
        most = 128 if limits.is_cpu else 64
        return Space(
            {"mr": MR, "nv": NV, "vec": VECTORS, "wm": ACROSS, "wn": ACROSS, "unroll": UNROLL},
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
                *self.image_strides(problem), *self.output_strides(problem), integer(flags),
                *activation,
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
