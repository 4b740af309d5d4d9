"""A backend of two devices in plain numpy, whose kernels do what a test asks of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwkit import Backend, Config, Device, Fingerprint, Kernel, Problem, Space, hookimpl


class ToyDevice(Device):
    """Host memory under another name; ``held`` marks arrays that "live" here."""

    backend = "toy"
    arch = "toy-arch"

    def __init__(self, index: int) -> None:
        self.index = index
        self.fingerprint = Fingerprint({"backend": "toy", "index": index}, {"driver": "1"})

    def put(self, array: Any) -> Any:
        return np.ascontiguousarray(array)

    def get(self, buffer: Any) -> np.ndarray[Any, Any]:
        return buffer

    def ceilings(self) -> dict[str, float]:
        return {"float32 flop/s": 1e9, "byte/s": 1e9}


class ToyBackend(Backend):
    """Two devices."""

    name = "toy"

    def count(self) -> int:
        return 2

    def open(self, index: int) -> Device:
        return ToyDevice(index)


class ToyKernel(Kernel):
    """The reference, with a tunable and knobs for tests; counts its builds and runs."""

    version = 3

    def __init__(self, op: str = "gemm", name: str = "toy", **knobs: Any) -> None:
        self.op, self.name = op, name
        self.knobs = {"supports": True, "strict": True, "rank": 0, "error": None, **knobs}
        self.builds = self.runs = 0

    def supports(self, problem: Problem) -> bool | str:
        if isinstance(self.knobs["supports"], Exception):
            raise self.knobs["supports"]
        return self.knobs["supports"]

    def space(self, problem: Problem) -> Space:
        return Space({"tile": (1, 2, 4)})

    def default(self, problem: Problem) -> Config:
        return Config({"tile": 1})

    def strict(self, problem: Problem, config: Config) -> bool:
        return self.knobs["strict"]

    def rank(self, problem: Problem) -> int:
        return self.knobs["rank"]

    def error_bound(self, problem: Problem, config: Config) -> float:
        return self.knobs["error"] or super().error_bound(problem, config)

    def build(self, problem: Problem, config: Config) -> Any:
        if "build" in self.knobs:
            raise self.knobs["build"]
        self.builds += 1

        def run(*operands: Any, out: Any) -> None:
            self.runs += 1
            for operand, expected in zip(operands, problem.operands, strict=True):
                assert operand.flags.c_contiguous
                assert operand.flags.aligned
                assert operand.dtype == expected.dtype
                assert operand.dtype.isnative
                assert operand.shape == expected.shape
                assert not np.may_share_memory(operand, out)
            out[...] = problem.reference(*operands)

        return run


class ToyPlugin:
    """A plugin object with these kernels on every toy device."""

    def __init__(self, *kernels: Kernel) -> None:
        self.kernels = kernels

    @hookimpl
    def hwkit_backends(self) -> list[Backend]:
        return [ToyBackend()]

    @hookimpl
    def hwkit_kernels(self, device: Device) -> list[Kernel]:
        return [*self.kernels] if device.backend == "toy" else []
