"""Kernels of the Ops gemm and matmul: b in panels, b as it is, and tiles in local memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hwkit import Config, Kernel, Problem, Run, Space

from .common import OpenclKernel, Value, ceiling, epilogue, integer, number, offset, tunables
from .models import Work
from .run import OUT, Slot

if TYPE_CHECKING:
    from .device import OpenclDevice

__all__ = ["LocalGemm", "PackedGemm", "PlainGemm", "Strides", "kernels"]

MR = (1, 2, 3, 4, 6, 8)
NV = (1, 2, 3, 4)
VEC = (1, 2, 4, 8, 16)
ACROSS = (1, 2, 4, 8, 16)
UNROLL = (1, 2, 4, 8)
STAGE = (4, 8, 16, 32)

# Rows packed by one group of the packing kernel.
_PACKERS = 16


def kernels(device: OpenclDevice) -> list[Kernel]:
    """Return the kernels of this module."""
    kinds = (PackedGemm, PlainGemm, LocalGemm)
    return [kind(device, op) for op in ("gemm", "matmul") for kind in kinds]


class _Gemm(OpenclKernel):
    """What the three have in common: the text, tiles in registers, arguments."""

    file = "gemm.cl"
    packed = False

    def space(self, problem: Problem) -> Space:
        """Return the tile of a work-item, the work-items of a group, and unrolling."""
        limits = self.device.limits
        wide = 2 if problem.dtypes.input == "float64" else 1
        most = 128 if limits.is_cpu else 64
        return Space(
            {
                "mr": MR,
                "nv": NV,
                "vec": VEC,
                "wm": ACROSS,
                "wn": ACROSS,
                "unroll": UNROLL,
            },
            [
                (lambda mr, nv, vec: mr * nv * vec * wide <= most, "the tile fits the registers"),
                (lambda wm, wn: wm * wn <= limits.work_group, "the device allows such a group"),
                (
                    lambda mr, unroll: mr == 1 or unroll <= 4,
                    "unrolled further, a tile of rows is only more text",
                ),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return a tile that fills the registers of a CPU, or a group that fills a GPU."""
        double = problem.dtypes.input == "float64"
        m = int(problem["m"])
        if self.device.limits.is_cpu:
            values = {"mr": 6 if m > 4 else max(m, 1), "nv": 2, "vec": 4 if double else 8}
            values |= {"wm": 1, "wn": 1, "unroll": 1}
        else:
            values = {"mr": min(4, max(m, 1)), "nv": 1, "vec": 2 if double else 4}
            values |= {"wm": 8, "wn": 8, "unroll": 2}
        return Config(self._more(values))

    def _more(self, values: dict[str, int]) -> dict[str, Value]:
        return {**values}

    def registers(self, problem: Problem, config: Config) -> int:
        """Return the sums, a row of b, and addresses."""
        wide = 2 if problem.dtypes.input == "float64" else 1
        chosen = tunables(config)
        rows, across = chosen["mr"], chosen["nv"] * chosen["vec"]
        return (rows * across + across + rows) * wide + 2 * rows + 8

    def _defines(self, config: Config) -> dict[str, int]:
        names = {"MR": "mr", "NV": "nv", "VEC": "vec", "WM": "wm", "WN": "wn", "UNROLL": "unroll"}
        found = {macro: int(config[name]) for macro, name in names.items() if name in config}
        return {"UNROLL": 1, "STAGE": 0, **found, "PACKED": int(self.packed)}

    def build(self, problem: Problem, config: Config) -> Run:
        """Compile, and allocate the packed b."""
        m, n, k = (int(problem[name]) for name in "mnk")
        sizes = Strides(problem)
        across = int(config["nv"]) * int(config["vec"])
        defines = self._defines(config)
        launches: list[Any] = []
        scratch: tuple[Any, ...] = ()
        right: Any = Slot(1)
        right_batch = sizes.b_batch
        if self.packed:
            panels = ceiling(n, across)
            shape = (sizes.b_count * panels * k * across,)
            buffer = self.device.empty(shape, problem.operands[1].dtype)
            scratch, packed = (buffer,), buffer.base_data
            right = self.as_argument(packed)
            right_batch = panels * k * across if sizes.b_batch else 0
            pack: tuple[Any, ...] = (
                Slot(1), packed, integer(n), integer(k), offset(sizes.b_row),
                offset(sizes.b_column), offset(sizes.b_batch),
            )  # fmt: skip
            groups = ceiling(k, _PACKERS), panels, sizes.b_count
            launches.append(self.launch(problem, "pack_b", groups, _PACKERS, defines, pack))
        slots, flags, activation = epilogue(problem)
        arguments = (
            Slot(0), right, slots["c"], slots["bias"], slots["residual"], OUT,
            integer(m), integer(n), integer(k),
            offset(sizes.a_row), offset(sizes.a_column), offset(sizes.a_batch),
            offset(right_batch), number(problem, sizes.alpha), number(problem, sizes.beta),
            integer(flags), *activation,
        )  # fmt: skip
        groups = (
            ceiling(m, int(config["mr"]) * int(config["wm"])),
            ceiling(n, across * int(config["wn"])),
            sizes.batch,
        )
        launches.append(
            self.launch(problem, "gemm", groups, self.threads(config), defines, arguments)
        )
        return self.run(problem, config, launches, len(launches) - 1, scratch)

    def work(self, problem: Problem, config: Config) -> Work:
        """Return the multiply-adds of whole tiles, and an access for each element or vector."""
        chosen, batch = tunables(config), int(problem.sizes.get("b", 1))
        m, n, k = (int(problem[name]) for name in "mnk")
        size = problem.operands[0].dtype.itemsize
        rows, across = chosen["mr"], chosen["nv"] * chosen["vec"]
        down = ceiling(m, rows * chosen["wm"])
        groups = down * ceiling(n, across * chosen["wn"]) * batch
        threads = chosen["wm"] * chosen["wn"]
        steps = float(groups * threads * k)
        each = rows + chosen["nv"]
        stage = chosen.get("stage", 0)
        shared = (rows * chosen["wm"] + across * chosen["wn"]) / threads
        return Work(
            fma=steps * rows * across,
            loads=steps * (shared if stage else each),
            load_bytes=size if stage else size * chosen["vec"],
            bytes=float(problem.nbytes + 2 * self.workspace(problem, config)),
            groups=groups,
            threads=threads,
            local_loads=steps * (rows + across + shared) if stage else 0.0,
            barriers=2.0 * groups * ceiling(k, stage) if stage else 0.0,
            registers=self.registers(problem, config),
            half=size == 2,
        )

    def workspace(self, problem: Problem, config: Config) -> int:
        """Return the bytes of the packed b."""
        if not self.packed:
            return 0
        across = int(config["nv"]) * int(config["vec"])
        rows = Strides(problem).b_count * int(problem["k"])
        panels = ceiling(int(problem["n"]), across)
        return rows * panels * across * problem.operands[1].dtype.itemsize


class PackedGemm(_Gemm):
    """b in panels of a few vectors, padded; a as it is. Any layout."""

    name = "packed_gemm"
    packed = True

    def rank(self, problem: Problem) -> int:
        """First, but for few rows."""
        return 2 if problem["m"] > 8 or problem.packed else -1


class PlainGemm(_Gemm):
    """Both operands where they lie; b must run along the rows."""

    name = "plain_gemm"

    def supports(self, problem: Problem) -> bool | str:
        """Whether b runs along the rows."""
        if problem.layout[1:] == "t":
            return "takes no transposed b"
        return super().supports(problem)

    def rank(self, problem: Problem) -> int:
        """After the packed kernel, but for few rows."""
        return 1


class LocalGemm(PlainGemm):
    """Blocks of a and b in local memory, shared by the work-items of a group."""

    name = "local_gemm"

    def space(self, problem: Problem) -> Space:
        """Return tiles, groups, and how much of the depth is copied at once."""
        limits = self.device.limits
        size = 8 if problem.dtypes.input == "float64" else 4

        def fits(mr: int, nv: int, vec: int, wm: int, wn: int, stage: int) -> bool:
            return stage * (wm * mr + wn * nv * vec) * size <= limits.local_memory

        return Space(
            {"mr": MR, "nv": (1, 2), "vec": VEC[:4], "wm": ACROSS, "wn": ACROSS, "stage": STAGE},
            [
                (lambda mr, nv, vec: mr * nv * vec <= 64, "the tile fits the registers"),
                (lambda wm, wn: wm * wn <= limits.work_group, "the device allows such a group"),
                (lambda wm, wn: wm * wn >= 4, "a group of one shares nothing"),
                (fits, "the blocks fit the local memory"),
            ],
        )

    def _more(self, values: dict[str, int]) -> dict[str, Value]:
        rest = {name: value for name, value in values.items() if name != "unroll"}
        return {**rest, "mr": 4, "nv": 1, "vec": 4, "wm": 8, "wn": 8, "stage": 8}

    def _defines(self, config: Config) -> dict[str, int]:
        return {**super()._defines(config), "STAGE": int(config["stage"])}

    def local_memory(self, problem: Problem, config: Config) -> int:
        """Return the bytes of both blocks."""
        size = 8 if problem.dtypes.input == "float64" else 4
        chosen = tunables(config)
        block = chosen["wm"] * chosen["mr"] + chosen["wn"] * chosen["nv"] * chosen["vec"]
        return chosen["stage"] * block * size

    def rank(self, problem: Problem) -> int:
        """Last."""
        return 0 if not self.device.limits.is_cpu else -2


class Strides:
    """Where elements lie: strides of a and b by row, column and batch, and the scalars."""

    def __init__(self, problem: Problem) -> None:
        m, n, k = (int(problem[name]) for name in "mnk")
        self.a_row, self.a_column = (1, m) if problem.layout[:1] == "t" else (k, 1)
        self.b_row, self.b_column = (1, k) if problem.layout[1:] == "t" else (n, 1)
        self.batch = int(problem.sizes.get("b", 1))
        shared = problem.attributes.get("shared", "none")
        self.a_batch = 0 if shared == "a" or self.batch == 1 else m * k
        self.b_batch = 0 if shared == "b" or self.batch == 1 else k * n
        self.b_count = self.batch if self.b_batch else 1
        self.alpha = float(problem.attributes.get("alpha", 1.0))  # type: ignore[arg-type]
        self.beta = float(problem.attributes.get("beta", 0.0))  # type: ignore[arg-type]
