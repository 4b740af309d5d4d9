"""Kernels of the Op conv2d, channels last: windows as rows of a product, and 1x1 as gemm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwkit import Config, Kernel, Problem, Space

from .common import FEW, ceiling, epilogue
from .gemm import DescriptorGemm, TileGemm
from .launch import OUT, PARTIAL, Launch, Slot
from .product import ProductKernel, pipeline
from .target import Target

if TYPE_CHECKING:
    from hwkit import Device

__all__ = ["DescriptorConv2d", "ImplicitConv2d", "TileConv2d", "kernels"]

# With fewer channels in a group a product of tiles is mostly empty.
_LEAST_CHANNELS = 8


def kernels(target: Target, device: Device | None = None) -> list[Kernel]:
    """Return the kernels of this module."""
    found: list[Kernel] = [
        ImplicitConv2d(target, "conv2d", device),
        TileConv2d(target, "conv2d", device),
    ]
    if target.descriptors:
        found.append(DescriptorConv2d(target, "conv2d", device))
    return found


def pointwise(problem: Problem) -> str | None:
    """Return why a convolution is not a plain product of pixels and filters, or ``None``."""
    alone = problem["r"] == problem["s"] == problem["groups"] == 1
    if not alone or any(problem["pad"]) or problem["stride"] != (1, 1):
        return "it takes windows of one pixel only, in one group, without stride and padding"
    return None if problem.layout == "nhwc" else "it takes channels last only"


class TileConv2d(TileGemm):
    """A 1x1 convolution as the product of pixels and filters."""

    name = "triton_tiles_1x1"

    def refusal(self, problem: Problem) -> str | None:
        """Return why it is not a product, or why it is not one that gemm takes."""
        return self.dtype_refusal(problem) or pointwise(problem) or super().refusal(problem)

    def depth(self, problem: Problem) -> int:
        """Return the channels."""
        return int(problem["c"])


class DescriptorConv2d(DescriptorGemm):
    """A 1x1 convolution as the product of pixels and filters, through descriptors."""

    name = "triton_descriptors_1x1"

    def refusal(self, problem: Problem) -> str | None:
        """Return why it is not a product, or why it is not one that gemm takes."""
        return self.dtype_refusal(problem) or pointwise(problem) or super().refusal(problem)

    def depth(self, problem: Problem) -> int:
        """Return the channels."""
        return int(problem["c"])


class ImplicitConv2d(ProductKernel):
    """Windows are rows of a product that are never written down.

    ``order`` is that of the depth: ``taps`` stays within a tap at each step, ``flat`` counts the
    channels of all taps through.
    """

    name = "triton_implicit"

    def depth(self, problem: Problem) -> int:
        """Return the channels of a group times the taps."""
        return int(problem["c"] // problem["groups"] * problem["r"] * problem["s"])

    def rows(self, problem: Problem) -> tuple[int, int]:
        """Return the channels of a group, which lie side by side, and those of all taps."""
        return int(problem["c"]) // int(problem["groups"]), self.depth(problem)

    def _pixels(self, problem: Problem) -> int:
        return int(problem.output.nbytes // problem.output.dtype.itemsize // problem["k"])

    def refusal(self, problem: Problem) -> str | None:
        """Return why dtypes, layout or sizes do not fit."""
        reason = self.dtype_refusal(problem)
        if reason is not None:
            return reason
        if problem.layout != "nhwc":
            return "it takes channels last only"
        groups = problem["groups"]
        if groups > 1 and min(problem["c"], problem["k"]) // groups < _LEAST_CHANNELS:
            return f"it takes groups of {_LEAST_CHANNELS} channels and more"
        activation = problem.activation
        if problem.dtypes.input == "int8" and activation not in (None, ("relu", ())):
            return "of integers its only activation is relu"
        shape = dict(zip(problem.layout, problem.output.shape, strict=True))
        reach = max(max(problem[name]) for name in ("pad", "stride", "dilation"))
        if (
            self._pixels(problem) > FEW
            or problem["h"] * problem["w"] * problem["c"] > FEW
            or problem["k"] * self.depth(problem) > FEW
            or reach * max(problem["r"], problem["s"], shape["h"], shape["w"]) >= 2**30
            or groups >= 2**16
        ):
            return "a size is beyond what it counts"
        return None

    def space(self, problem: Problem) -> Space:
        """Return tiles, pipeline, warps, order, and parts of the depth."""
        depth = self.depth(problem)
        return Space(
            {**self.values(problem), "splits": (1, 2, 4, 8), "order": ("taps", "flat")},
            [
                *self.constraints(problem),
                (
                    lambda bk, splits: splits == 1 or splits * bk <= depth,
                    "every part of the depth has a step",
                ),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return the tile of a product of that size; few channels are counted through."""
        groups, channels = problem["groups"], problem["c"] // problem["groups"]
        m, n = self._pixels(problem), problem["k"] // groups
        values = self.tile(problem, m, n, groups)
        tiles = ceiling(m, values["bm"]) * ceiling(n, values["bn"]) * groups
        values["splits"] = self.splits_for(tiles, self.depth(problem))
        values["order"] = "taps" if channels * 4 >= values["bk"] * 3 else "flat"
        if values["order"] == "flat":
            # Each thread keeps where its elements come from: fewer of them, or it spills.
            values["bk"], values["warps"] = min(values["bk"], 32), 8 if values["bm"] > 64 else 4
        return self.fitting(problem, values)

    def shared_memory(self, problem: Problem, config: Config) -> int:
        """Return the bytes of the pipeline's tiles."""
        return pipeline(self.target, problem, config, self.rows(problem))

    def launches(self, problem: Problem, config: Config, upcast: bool = False) -> list[Launch]:
        """Return the product, and the sum of its parts."""
        groups, splits = int(problem["groups"]), int(config["splits"])
        m, n = self._pixels(problem), int(problem["k"]) // groups
        shape = dict(zip(problem.layout, problem.output.shape, strict=True))
        given, constants = epilogue(problem)
        names = [operand.dtype.name for operand in problem.operands]
        tiles = ceiling(m, int(config["bm"])) * ceiling(n, int(config["bn"]))
        constants = {name: value for name, value in constants.items() if name != "HAS_C"}
        main = Launch(
            "conv2d.conv2d_implicit",
            (tiles, groups, splits),
            {
                "x": Slot(0, names[0]), "w": Slot(1, names[1]),
                **{name: value for name, value in given.items() if name != "c"},
                "out": Slot(OUT, problem.output.dtype.name),
                "partial": Slot(PARTIAL, self.sums(problem)),
                "m": m, "k": n, "h": int(problem["h"]), "width": int(problem["w"]),
                "p": shape["h"], "q": shape["w"], "x_pixel": int(problem["c"]),
                "out_pixel": int(problem["k"]),
            },
            {
                **constants, **self.product(problem, config, upcast), **taps(problem),
                "C": int(problem["c"]) // groups, "SPLITS": splits,
                "FLAT": config["order"] == "flat", "INTEGER": problem.dtypes.input == "int8",
            },
            int(config["warps"]),
            int(config["stages"]),
            self.workspace(problem, config),
        )  # fmt: skip
        return self.finished(problem, config, main, (1.0, 0.0))

    def rank(self, problem: Problem) -> int:
        """First for what tensor cores multiply, after 1x1 as gemm; last for plain float32."""
        return -1 if problem.dtypes.input == "float32" else 4


def taps(problem: Problem) -> dict[str, int]:
    """Return the constants of a window."""
    top, _, left, _ = problem["pad"]
    return {
        "R": int(problem["r"]), "S": int(problem["s"]), "TOP": top, "LEFT": left,
        "STRIDE_Y": problem["stride"][0], "STRIDE_X": problem["stride"][1],
        "DILATION_Y": problem["dilation"][0], "DILATION_X": problem["dilation"][1],
    }  # fmt: skip
