"""Kernels of the pooling Ops: windows, and whole images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hwkit import Config, Kernel, Problem, Space

from .common import FEW, TritonKernel, ceiling
from .conv2d import taps
from .launch import OUT, Launch, Slot
from .target import Target

if TYPE_CHECKING:
    from hwkit import Device

__all__ = ["ImagePool2d", "WindowPool2d", "kernels"]

_DTYPES = ("float32", "float64", "float16", "bfloat16")


def kernels(target: Target, device: Device | None = None) -> list[Kernel]:
    """Return the kernels of this module."""
    found: list[Kernel] = [WindowPool2d(target, op, device) for op in ("max_pool2d", "avg_pool2d")]
    wholes = ("global_max_pool2d", "global_avg_pool2d")
    return found + [ImagePool2d(target, op, device) for op in wholes]


class _Pool2d(TritonKernel):
    """What both have in common."""

    def refusal(self, problem: Problem) -> str | None:
        """Return why dtype or sizes do not fit."""
        name = problem.dtypes.input
        if name not in _DTYPES:
            return f"it has no {name}"
        if name == "bfloat16" and self.target.capability < 80:
            return "bfloat16 needs compute capability 8.0"
        if math.prod(problem.output.shape) == 0:
            return "it takes no empty images"
        if (
            math.prod(problem.output.shape) > FEW
            or problem["c"] * problem["h"] * problem["w"] > FEW
        ):
            return "a size is beyond what it counts"
        return None

    @staticmethod
    def sum_size(problem: Problem) -> int:
        """Return the bytes of a sum."""
        return 8 if problem.dtypes.input == "float64" else 4

    def constants(self, problem: Problem) -> dict[str, bool]:
        """Return the constants that both kernels have."""
        return {
            "LAST": problem.layout == "nhwc",
            "MAXIMUM": "max" in self.op,
            "WIDE": problem.dtypes.input == "float64",
        }

    def rank(self, problem: Problem) -> int:
        """Behind kernels that need no Triton: memory decides, not the text."""
        return -1


class WindowPool2d(_Pool2d):
    """An element of the result for each lane."""

    name = "triton_windows"

    def refusal(self, problem: Problem) -> str | None:
        """Return why dtype or sizes do not fit; positions have 31 bits."""
        shape = dict(zip(problem.layout, problem.output.shape, strict=True))
        reach = max(max(problem[name]) for name in ("pad", "stride", "dilation"))
        if reach * max(problem["r"], problem["s"], shape["h"], shape["w"]) >= 2**30:
            return "padding, stride or dilation are beyond what it counts"
        return super().refusal(problem)

    def space(self, problem: Problem) -> Space:
        """Return elements and warps of a program."""
        return Space(
            {"block": (128, 256, 512, 1024, 2048), "warps": (1, 2, 4, 8)},
            [(lambda block, warps: block >= 32 * warps, "every lane has an element")],
        )

    def default(self, problem: Problem) -> Config:
        """Return four elements for each lane."""
        return Config({"block": 512, "warps": 4})

    def shared_memory(self, problem: Problem, config: Config) -> int:
        """Return the most that the compiler reports: results change lanes before a store."""
        return int(config["block"]) * self.sum_size(problem)

    def launches(self, problem: Problem, config: Config, upcast: bool = False) -> list[Launch]:
        """Return the one launch."""
        total, block = math.prod(problem.output.shape), int(config["block"])
        shape = dict(zip(problem.layout, problem.output.shape, strict=True))
        h, w = int(problem["h"]), int(problem["w"])
        top, bottom, left, right = problem["pad"]
        counted = problem.attributes.get("count_include_pad", False)
        inside = (-top, h + bottom, -left, w + right) if counted else (0, h, 0, w)
        names = ("first_y", "last_y", "first_x", "last_x")
        return [
            Launch(
                "pool2d.pool_windows",
                (ceiling(total, block), 1, 1),
                {
                    "x": Slot(0, problem.operands[0].dtype.name),
                    "out": Slot(OUT, problem.output.dtype.name), "total": total,
                    "c": int(problem["c"]), "h": h, "width": w, "p": shape["h"], "q": shape["w"],
                    **dict(zip(names, inside, strict=True)),
                },
                {**self.constants(problem), **taps(problem), "BLOCK": block},
                int(config["warps"]),
            )
        ]  # fmt: skip


class ImagePool2d(_Pool2d):
    """Some channels of an image for each program, some pixels at a time."""

    name = "triton_images"

    def space(self, problem: Problem) -> Space:
        """Return pixels, channels and warps of a program."""
        return Space(
            {"bp": (1, 4, 16, 64, 256), "bc": (1, 4, 16, 64, 256), "warps": (1, 2, 4, 8)},
            [
                (
                    lambda bp, bc, warps: 32 * warps <= bp * bc <= 32 * warps * 64,
                    "1 to 64 elements for each lane",
                )
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return lanes along what lies side by side in memory."""
        if problem.layout == "nhwc":
            return Config({"bp": 16, "bc": 64, "warps": 4})
        return Config({"bp": 64, "bc": 16, "warps": 4})

    def shared_memory(self, problem: Problem, config: Config) -> int:
        """Return the most that the compiler reports: each warp hands over a sum of each channel."""
        return int(config["warps"]) * int(config["bc"]) * self.sum_size(problem)

    def launches(self, problem: Problem, config: Config, upcast: bool = False) -> list[Launch]:
        """Return the one launch."""
        c, pixels = int(problem["c"]), int(problem["h"]) * int(problem["w"])
        bp, bc = int(config["bp"]), int(config["bc"])
        return [
            Launch(
                "pool2d.pool_images",
                (int(problem["n"]) * ceiling(c, bc), 1, 1),
                {
                    "x": Slot(0, problem.operands[0].dtype.name),
                    "out": Slot(OUT, problem.output.dtype.name), "c": c, "pixels": pixels,
                },
                {**self.constants(problem), "BP": bp, "BC": bc},
                int(config["warps"]),
            )
        ]  # fmt: skip
