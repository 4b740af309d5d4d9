"""Single work-item kernels, for devices of FPGA profiles."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hwkit import Config, Kernel, Problem, Run, Space

from .common import OpenclKernel, ceiling, epilogue, integer, number, offset, tunables
from .gemm import Strides
from .models import Work, fpga_use
from .pool2d import POOLS, pool_arguments
from .run import OUT, Launch, Slot
from .windows import strides, window_arguments

if TYPE_CHECKING:
    from .device import OpenclDevice

__all__ = ["ChannelGemm", "FpgaConv2d", "FpgaGemm", "FpgaPool2d", "kernels"]

ROWS = (1, 2, 4, 8, 16)
COLUMNS = (1, 2, 4, 8, 16)
INTERLEAVE = (1, 2, 4, 8)
DEPTH = (1, 4, 16, 64)
CHANNELS = "cl_intel_channels"
"""Extension that joins kernels by channels."""

_ONE = (1, 1, 1)
# An M20K block as 512 words of 40 bits (Intel Arria 10 core fabric handbook, embedded memory).
_BLOCK_BITS, _BLOCK_DEPTH = 40, 512


def kernels(device: OpenclDevice) -> list[Kernel]:
    """Return the kernels of this module."""
    kinds = (FpgaGemm, ChannelGemm) if CHANNELS in device.found.extensions.split() else (FpgaGemm,)
    found: list[Kernel] = [kind(device, op) for op in ("gemm", "matmul") for kind in kinds]
    return [*found, FpgaConv2d(device, "conv2d"), *(FpgaPool2d(device, op) for op in POOLS)]


class _Fpga(OpenclKernel):
    """What all have in common: the multiply-adds of a loop's body, and a budget for them."""

    file = "fpga.cl"

    def space(self, problem: Problem) -> Space:
        """Return the unrolled rows and columns, and the tiles that take turns."""
        return Space({"rows": ROWS, "columns": COLUMNS, "interleave": INTERLEAVE})

    def default(self, problem: Problem) -> Config:
        """Return few multiply-adds, interleaved as long as an addition takes."""
        return Config({"rows": 4, "columns": 4, "interleave": 4})

    def threads(self, config: Config) -> int:
        """Return one: the kernel is a single work-item."""
        return 1

    def static_check(self, problem: Problem, config: Config) -> str | None:
        """Return which of DSP blocks, RAM blocks and logic is beyond the budget."""
        known = getattr(self.device, "profile", None)
        if known is None:
            return None
        for name, share in fpga_use(known, self.work(problem, config)).items():
            if share > known["budget"]:
                return (
                    f"{share:.0%} of the {name} are more than the budget of {known['budget']:.0%}"
                )
        return None

    def work(self, problem: Problem, config: Config) -> Work:
        """Return trips of the pipelined loop and what its body holds."""
        chosen = tunables(config)
        rows, columns, turns = chosen["rows"], chosen["columns"], chosen["interleave"]
        down, across, depth = self._extents(problem)
        tiles = ceiling(down, rows * turns) * ceiling(across, columns)
        return Work(
            fma=float(problem.flops) / 2,
            loads=0.0,
            load_bytes=float(problem.operands[0].dtype.itemsize),
            bytes=float(problem.nbytes),
            trips=float(tiles * turns * depth),
            parallel=rows * columns,
            ports=rows + columns,
            interleave=turns,
        )

    def _extents(self, problem: Problem) -> tuple[int, int, int]:
        """Return rows, columns and depth of all tiles together."""
        raise NotImplementedError

    def _single(
        self, problem: Problem, config: Config, function: str, arguments: tuple[Any, ...]
    ) -> Run:
        chosen = tunables(config)
        defines = {
            "ROWS": chosen["rows"],
            "COLUMNS": chosen["columns"],
            "INTERLEAVE": chosen["interleave"],
            "VEC": 1,
            "MAXIMUM": int("max" in self.op),
        }
        # Nothing at all is no loop, but zero divided by zero.
        groups = _ONE if problem.output.nbytes else (0, 1, 1)
        launch: Launch = self.launch(problem, function, groups, 1, defines, arguments)
        return self.run(problem, config, [launch])


class FpgaGemm(_Fpga):
    """A tile of multiply-adds that walks over the product; any layout."""

    name = "fpga_gemm"

    def _extents(self, problem: Problem) -> tuple[int, int, int]:
        batch = int(problem.sizes.get("b", 1))
        return batch * int(problem["m"]), int(problem["n"]), int(problem["k"])

    def build(self, problem: Problem, config: Config) -> Run:
        """Compile."""
        at, (slots, flags, activation) = Strides(problem), epilogue(problem)
        sizes = (at.batch, *(int(problem[name]) for name in "mnk"))
        steps = (at.a_row, at.a_column, at.a_batch, at.b_row, at.b_column, at.b_batch)
        arguments = (
            Slot(0), Slot(1), slots["c"], slots["bias"], slots["residual"], OUT,
            *map(integer, sizes), *map(offset, steps), number(problem, at.alpha),
            number(problem, at.beta), integer(flags), *activation,
        )  # fmt: skip
        return self._single(problem, config, "fpga_gemm", arguments)


class ChannelGemm(FpgaGemm):
    """The same in three kernels joined by channels: memory, multiply-adds, epilogue."""

    name = "channel_gemm"
    file = "channels.cl"

    def space(self, problem: Problem) -> Space:
        """Return the space of the single kernel, and how much a channel holds."""
        return Space({**super().space(problem).values, "depth": DEPTH})

    def default(self, problem: Problem) -> Config:
        """Return the default of the single kernel, with room for a few steps."""
        return super().default(problem).replace(depth=16)

    def rank(self, problem: Problem) -> int:
        """After the single kernel, which every runtime has."""
        return -1

    def work(self, problem: Problem, config: Config) -> Work:
        """Return the work of the single kernel, and the RAM blocks that hold both channels."""
        chosen = tunables(config)
        rows, columns = chosen["rows"], chosen["columns"]
        bits = 32 * (rows + columns + rows * columns)
        blocks = ceiling(bits, _BLOCK_BITS) * ceiling(chosen["depth"], _BLOCK_DEPTH)
        return replace(super().work(problem, config), channel_blocks=blocks)

    def build(self, problem: Problem, config: Config) -> Run:
        """Compile."""
        at, (slots, flags, activation) = Strides(problem), epilogue(problem)
        m, n, k = (int(problem[name]) for name in "mnk")
        chosen = tunables(config)
        down, across = chosen["rows"] * chosen["interleave"], chosen["columns"]
        tiles = at.batch * ceiling(m, down) * ceiling(n, across)
        steps = (at.a_row, at.a_column, at.a_batch, at.b_row, at.b_column, at.b_batch)
        sizes = tuple(map(integer, (at.batch, m, n)))
        defines = {name.upper(): value for name, value in chosen.items()} | {"VEC": 1}
        parts: dict[str, tuple[Any, ...]] = {
            "read": (Slot(0), Slot(1), *sizes, integer(k), *map(offset, steps)),
            "multiply": (offset(tiles), integer(k)),
            "write": (
                slots["c"], slots["bias"], slots["residual"], OUT, *sizes,
                number(problem, at.alpha), number(problem, at.beta), integer(flags), *activation,
            ),
        }  # fmt: skip
        groups = _ONE if problem.output.nbytes else (0, 1, 1)
        launches = [
            # A queue each: in one they would wait for one another for ever.
            replace(
                self.launch(problem, f"channel_{part}", groups, 1, defines, arguments),
                queue=self.device.new_queue(),
            )
            for part, arguments in parts.items()
        ]
        return self.run(problem, config, launches)


class FpgaConv2d(_Fpga):
    """The same over windows and weights; any groups, both layouts."""

    name = "fpga_conv2d"

    def _extents(self, problem: Problem) -> tuple[int, int, int]:
        groups = int(problem["groups"])
        shape = dict(zip(problem.layout, problem.output.shape, strict=True))
        depth = problem["r"] * problem["s"] * problem["c"] // groups
        return shape["n"] * shape["h"] * shape["w"] * groups, problem["k"] // groups, depth

    def build(self, problem: Problem, config: Config) -> Run:
        """Compile."""
        groups = problem["groups"]
        shape = dict(zip(problem.layout, problem.output.shape, strict=True))
        slots, flags, activation = epilogue(problem)
        sizes = (
            shape["n"] * shape["h"] * shape["w"], problem["c"] // groups, problem["h"],
            problem["w"], problem["k"] // groups, groups,
        )  # fmt: skip
        arrays = (*(operand.shape for operand in problem.operands[:2]), problem.output.shape)
        steps = [step for array in arrays for step in strides(problem.layout, array)]
        arguments = (
            Slot(0), Slot(1), slots["bias"], slots["residual"], OUT, *map(integer, sizes),
            *window_arguments(problem), *map(offset, steps), integer(flags), *activation,
        )  # fmt: skip
        return self._single(problem, config, "fpga_conv2d", arguments)


class FpgaPool2d(_Fpga):
    """Channels side by side, window by window."""

    name = "fpga_pool2d"

    def space(self, problem: Problem) -> Space:
        """Return the channels of a trip."""
        return Space({"rows": (1,), "columns": COLUMNS, "interleave": (1,)})

    def default(self, problem: Problem) -> Config:
        """Return four channels."""
        return Config({"rows": 1, "columns": 4, "interleave": 1})

    def _extents(self, problem: Problem) -> tuple[int, int, int]:
        shape = dict(zip(problem.layout, problem.output.shape, strict=True))
        pixels = shape["n"] * shape["h"] * shape["w"]
        return pixels, shape["c"], problem.flops // max(pixels * shape["c"], 1)

    def build(self, problem: Problem, config: Config) -> Run:
        """Compile."""
        shape = dict(zip(problem.layout, problem.output.shape, strict=True))
        pixels = shape["n"] * shape["h"] * shape["w"]
        arguments = (Slot(0), OUT, integer(pixels), *pool_arguments(problem))
        return self._single(problem, config, "fpga_pool2d", arguments)
