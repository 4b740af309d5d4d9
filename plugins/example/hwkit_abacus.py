"""A backend in one file. The abacus counts with numpy: put your hardware in its place."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwkit import Backend, Config, Device, Fingerprint, Kernel, Problem, Space, hookimpl


class AbacusBackend(Backend):
    """One abacus lies on the desk."""

    name = "abacus"

    def count(self) -> int:
        return 1  # without hardware: raise Unavailable("what is missing: what to type")

    def open(self, index: int) -> Device:
        return Abacus(index)


class Abacus(Device):
    """A device with memory of its own: what is put there is copied."""

    backend = "abacus"
    arch = "beads"

    def __init__(self, index: int) -> None:
        self.index = index
        self.fingerprint = Fingerprint(
            identity={"backend": "abacus", "arch": self.arch, "rods": 13},
            environment={"numpy": np.__version__},
        )

    def put(self, array: Any) -> np.ndarray:
        return np.array(array, order="C")

    def get(self, buffer: np.ndarray) -> np.ndarray:
        return buffer.copy()


class RowGemm(Kernel):
    """The product a few rows at a time; how many is the tunable."""

    op, name, version = "gemm", "abacus_rows", 1

    def supports(self, problem: Problem) -> bool | str:
        plain = (problem.layout, problem["alpha"], problem["beta"]) == ("nn", 1.0, 0.0)
        if not plain or problem.epilogue:
            return "it takes a @ b only"
        return problem.dtypes.input in ("float32", "float64") or "it has no narrow types"

    def space(self, problem: Problem) -> Space:
        return Space({"rows": (8, 32, 128)})

    def default(self, problem: Problem) -> Config:
        return Config({"rows": 32})

    def build(self, problem: Problem, config: Config) -> Any:
        m, rows = problem["m"], config["rows"]

        def run(a: np.ndarray, b: np.ndarray, *, out: np.ndarray) -> None:
            for i in range(0, m, rows):
                np.matmul(a[i : i + rows], b, out=out[i : i + rows])

        return run


@hookimpl
def hwkit_backends() -> list[Backend]:
    return [AbacusBackend()]


@hookimpl
def hwkit_kernels(device: Device) -> list[Kernel]:
    return [RowGemm()] if device.backend == "abacus" else []
