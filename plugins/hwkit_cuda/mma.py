"""Products and convolutions by the matrix units: mma.sync, fed by cp.async and ldmatrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwkit import Config, Kernel, Problem, Run, Space
from hwkit_opencl.common import ceiling, epilogue, integer, number, offset, tunables
from hwkit_opencl.gemm import Strides
from hwkit_opencl.windows import window_arguments

from .run import OUT, Slot
from .simt import CudaKernel

if TYPE_CHECKING:
    from .device import CudaDevice

__all__ = ["MmaConv2d", "MmaGemm", "kernels"]

# Pixels and places in the depth are counted in int.
_MOST = 2**31 - 2**16
# What a kernel may have of shared memory without asking for more.
_STATIC = 48 * 1024
# Bytes of a copy, and of the padding of a row in shared memory.
_UNIT = 16
_NARROW = ("float16", "bfloat16")
# What tf32 keeps of a factor: ten bits, rounded.
_TF32_ERROR = 1e-3


def kernels(device: CudaDevice) -> list[Kernel]:
    """Return the kernels of this module."""
    return [*(MmaGemm(device, op) for op in ("gemm", "matmul")), MmaConv2d(device, "conv2d")]


class _Mma(CudaKernel):
    """What both have in common: blocks in shared memory, tiles of 16 x 8 sums in registers."""

    def refusal(self, problem: Problem) -> str | None:
        """Return why types or architecture do not fit."""
        if int("".join(filter(str.isdigit, self.device.arch))) < 80:
            return f"needs sm_80 or newer, not {self.device.arch}"
        return super().refusal(problem)

    def staged(self, problem: Problem, bm: int, bn: int, bk: int, stages: int) -> int:
        """Return the bytes of all stages."""
        raise NotImplementedError

    def space(self, problem: Problem) -> Space:
        """Return blocks, tiles of a warp, and stages of copies."""

        def fits(bm: int, bn: int, bk: int, stages: int) -> bool:
            return self.staged(problem, bm, bn, bk, stages) <= _STATIC

        return Space(
            {
                "bm": (32, 64, 128, 256),
                "bn": (32, 64, 128, 256),
                "bk": (16, 32, 64),
                "wm": (16, 32, 64),
                "wn": (16, 32, 64),
                "stages": (2, 3, 4),
            },
            [
                (lambda bm, wm: bm % wm == 0, "whole warps down"),
                (lambda bn, wn: bn % wn == 0, "whole warps across"),
                (
                    lambda bm, bn, wm, wn: bm * bn // (wm * wn) <= 16,
                    "a block has 16 warps at most",
                ),
                (fits, "the stages fit the shared memory"),
            ],
        )

    def tile(self, m: int, n: int, bk: int) -> Config:
        """Return blocks of 128 x 128, smaller where the product is."""
        bm, bn = (128 if m > 64 else 32), (128 if n > 64 else 32)
        wm, wn = (64 if bm == 128 else 16), 32
        return Config({"bm": bm, "bn": bn, "bk": bk, "wm": wm, "wn": wn, "stages": 2})

    def threads(self, config: Config) -> int:
        """Return the threads of a block."""
        c = tunables(config)
        return 32 * (c["bm"] // c["wm"]) * (c["bn"] // c["wn"])

    def local_memory(self, problem: Problem, config: Config) -> int:
        """Return the bytes of all stages."""
        c = tunables(config)
        return self.staged(problem, c["bm"], c["bn"], c["bk"], c["stages"])

    def strict(self, problem: Problem, config: Config) -> bool:
        """How the matrix units round their sums is not written anywhere."""
        return False

    def rank(self, problem: Problem) -> int:
        """Before the kernels without matrix units."""
        return 3

    def defines(self, config: Config) -> dict[str, int]:
        """Return the macros of a Config."""
        return {name.upper(): value for name, value in tunables(config).items()} | {"VEC": 1}


class MmaGemm(_Mma):
    """Products of narrow types."""

    name = "mma_gemm"
    file = "mma_gemm.cu"

    def refusal(self, problem: Problem) -> str | None:
        """Return why types, layout and row lengths do not suit the matrix units, or ``None``."""
        if problem.dtypes.input not in _NARROW:
            return "takes float16 and bfloat16 only"
        if "t" in problem.layout or problem["n"] % 8 or problem["k"] % 8:
            return "takes plain layouts whose n and k are multiples of 8"
        return super().refusal(problem)

    def staged(self, problem: Problem, bm: int, bn: int, bk: int, stages: int) -> int:
        """Return the bytes of all stages."""
        return stages * (bm * (2 * bk + _UNIT) + bk * (2 * bn + _UNIT))

    def default(self, problem: Problem) -> Config:
        """Return a tile of that size."""
        return self.tile(int(problem["m"]), int(problem["n"]), 32)

    def build(self, problem: Problem, config: Config) -> Run:
        """Compile."""
        m, n, k = (int(problem[name]) for name in "mnk")
        sizes, chosen = Strides(problem), tunables(config)
        slots, flags, activation = epilogue(problem)
        arguments = (
            Slot(0), Slot(1), slots["c"], slots["bias"], slots["residual"], OUT,
            integer(m), integer(n), integer(k), offset(sizes.a_batch), offset(sizes.b_batch),
            number(problem, sizes.alpha), number(problem, sizes.beta), integer(flags), *activation,
        )  # fmt: skip
        groups = ceiling(m, chosen["bm"]), ceiling(n, chosen["bn"]), sizes.batch
        launch = self.launch(
            problem, "gemm_mma", groups, self.threads(config), self.defines(config), arguments
        )
        return self.run(problem, config, [launch])


class MmaConv2d(_Mma):
    """Windows are rows of a product that are never written down; channels last.

    float32 is multiplied as tf32, where the tolerance admits it.
    """

    name = "mma_conv2d"
    file = "mma_conv2d.cu"

    def refusal(self, problem: Problem) -> str | None:
        """Return why types, layout and channels do not suit the matrix units, or ``None``."""
        if problem.dtypes.input not in (*_NARROW, "float32"):
            return f"has no {problem.dtypes.input}"
        unit = _UNIT // self._size(problem)
        if problem.layout != "nhwc" or problem["c"] // problem["groups"] % unit:
            return f"takes channels last, a multiple of {unit} in each group"
        shape = dict(zip(problem.layout, problem.output.shape, strict=True))
        reach = max(max(problem[name]) for name in ("pad", "stride", "dilation"))
        if (
            shape["n"] * shape["h"] * shape["w"] >= _MOST
            or self._depth(problem) >= _MOST
            or reach * max(problem["r"], problem["s"], shape["h"], shape["w"]) >= 2**29
        ):
            return "pixels, depth, padding, stride or dilation are beyond what it counts"
        return super().refusal(problem)

    @staticmethod
    def _size(problem: Problem) -> int:
        return int(problem.operands[0].dtype.itemsize)

    @staticmethod
    def _depth(problem: Problem) -> int:
        return int(problem["c"] // problem["groups"] * problem["r"] * problem["s"])

    def staged(self, problem: Problem, bm: int, bn: int, bk: int, stages: int) -> int:
        """Return the bytes of all stages."""
        return stages * (bm + bn) * (self._size(problem) * bk + _UNIT)

    def default(self, problem: Problem) -> Config:
        """Return a tile of that size."""
        pixels = problem.output.nbytes // self._size(problem) // max(problem["k"], 1)
        across = problem["k"] // problem["groups"]
        return self.tile(pixels, across, 64 // self._size(problem))

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return the Op's budget, and what tf32 loses."""
        budget: float = problem.error_budget()
        return max(budget, _TF32_ERROR) if problem.dtypes.input == "float32" else budget

    def rank(self, problem: Problem) -> int:
        """Before the kernels without matrix units, but never for float32's own error."""
        return -2 if problem.dtypes.input == "float32" else super().rank(problem)

    def build(self, problem: Problem, config: Config) -> Run:
        """Compile."""
        groups, channels = int(problem["groups"]), int(problem["c"] // problem["groups"])
        across, chosen = int(problem["k"]) // groups, tunables(config)
        shape = dict(zip(problem.layout, problem.output.shape, strict=True))
        pixels = shape["n"] * shape["h"] * shape["w"]
        slots, flags, activation = epilogue(problem)
        sizes = pixels, channels, problem["h"], problem["w"], across, groups
        arguments = (
            Slot(0), Slot(1), slots["bias"], slots["residual"], OUT, *map(integer, sizes),
            *window_arguments(problem), integer(flags), *activation,
        )  # fmt: skip
        grid = ceiling(pixels, chosen["bm"]), ceiling(across, chosen["bn"]), groups
        launch = self.launch(
            problem, "conv2d_mma", grid, self.threads(config), self.defines(config), arguments
        )
        return self.run(problem, config, [launch])
