"""Products of narrow types by the matrix units: mma.sync, fed by cp.async and ldmatrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwkit import Config, Kernel, Problem, Run, Space
from hwkit_opencl.common import ceiling, epilogue, integer, number, offset, tunables
from hwkit_opencl.gemm import Strides

from .run import OUT, Slot
from .simt import CudaKernel

if TYPE_CHECKING:
    from .device import CudaDevice

__all__ = ["MmaGemm", "kernels"]

# What a kernel may have of shared memory without asking for more.
_STATIC = 48 * 1024
_PAD = 8


def kernels(device: CudaDevice) -> list[Kernel]:
    """Return the kernels of this module."""
    return [MmaGemm(device, op) for op in ("gemm", "matmul")]


class MmaGemm(CudaKernel):
    """Blocks of a and b in shared memory, tiles of 16 x 8 of the product in registers."""

    name = "mma_gemm"
    file = "mma.cu"

    def supports(self, problem: Problem) -> bool | str:
        """Whether types, layout and row lengths suit the matrix units."""
        if problem.dtypes.input not in ("float16", "bfloat16"):
            return "takes float16 and bfloat16 only"
        if "t" in problem.layout or problem["n"] % 8 or problem["k"] % 8:
            return "takes plain layouts whose n and k are multiples of 8"
        if int("".join(filter(str.isdigit, self.device.arch))) < 80:
            return f"needs sm_80 or newer, not {self.device.arch}"
        return super().supports(problem)

    def space(self, problem: Problem) -> Space:
        """Return blocks, tiles of a warp, and stages of copies."""

        def fits(bm: int, bn: int, bk: int, stages: int) -> bool:
            return _bytes(bm, bn, bk, stages) <= _STATIC

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

    def default(self, problem: Problem) -> Config:
        """Return blocks of 128 x 128, smaller where the product is."""
        bm = 128 if problem["m"] > 64 else 32
        bn = 128 if problem["n"] > 64 else 32
        wm, wn = (64 if bm == 128 else 16), 32
        return Config({"bm": bm, "bn": bn, "bk": 32, "wm": wm, "wn": wn, "stages": 2})

    def threads(self, config: Config) -> int:
        """Return the threads of a block."""
        c = tunables(config)
        return 32 * (c["bm"] // c["wm"]) * (c["bn"] // c["wn"])

    def local_memory(self, problem: Problem, config: Config) -> int:
        """Return the bytes of all stages."""
        c = tunables(config)
        return _bytes(c["bm"], c["bn"], c["bk"], c["stages"])

    def strict(self, problem: Problem, config: Config) -> bool:
        """How the matrix units round their sums is not written anywhere."""
        return False

    def rank(self, problem: Problem) -> int:
        """Before the kernels without matrix units."""
        return 3

    def build(self, problem: Problem, config: Config) -> Run:
        """Compile."""
        m, n, k = (int(problem[name]) for name in "mnk")
        sizes, chosen = Strides(problem), tunables(config)
        slots, flags, activation = epilogue(problem)
        defines = {name.upper(): value for name, value in chosen.items()} | {"VEC": 1}
        arguments = (
            Slot(0), Slot(1), slots["c"], slots["bias"], slots["residual"], OUT,
            integer(m), integer(n), integer(k), offset(sizes.a_batch), offset(sizes.b_batch),
            number(problem, sizes.alpha), number(problem, sizes.beta), integer(flags), *activation,
        )  # fmt: skip
        groups = ceiling(m, chosen["bm"]), ceiling(n, chosen["bn"]), sizes.batch
        launch = self.launch(problem, "gemm_mma", groups, self.threads(config), defines, arguments)
        return self.run(problem, config, [launch])


def _bytes(bm: int, bn: int, bk: int, stages: int) -> int:
    return 2 * stages * (bm * (bk + _PAD) + bk * (bn + _PAD))
