"""FakeBackend: devices whose clock is simulated, to test searches without hardware.

Answers are true, computed with numpy on the host. To use it, register the object itself, which is a
plugin as well::

    from hwkit.registry import registry
    from hwkit.testing import fake

    registry().register(fake.fake, "fake")
    hwkit.tune("gemm float32 nn m=64 n=64 k=64", "fake:0", trials=50)

A worker process finds the module-level object by its import path; one that is made with other
arguments must be tuned with ``worker=False``.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..backend import Backend, Device, Fingerprint, Kernel, Run
from ..config import Config, Value
from ..hookspecs import hookimpl
from ..op import Problem
from ..space import Space

__all__ = ["OPS", "RATE", "FakeBackend", "FakeDevice", "FakeKernel", "FakeRun", "fake"]

Array = np.ndarray[Any, Any]

RATE = 1e9
"""Ceiling of a fake device: flop/s."""

OPS = ("gemm", "matmul", "conv2d")
"""Ops for which there are fake kernels unless told otherwise."""


class FakeDevice(Device):
    """The host with a simulated clock.

    Args:
        backend: name of the backend.
        index: number of the device; the best Config differs from one to the next.
        noise: relative standard deviation of a time; besides, one time in thirty is an outlier.
        seed: of the noise.

    Attributes:
        clock: simulated seconds spent in kernels so far.
    """

    def __init__(self, backend: str, index: int, noise: float, seed: int) -> None:
        self.backend = backend
        self.index = index
        self.arch = f"{backend}-{index}"
        self.fingerprint = Fingerprint({"backend": backend, "arch": self.arch}, {"driver": "1.0"})
        self.clock = 0.0
        self._noise = noise
        self._rng = random.Random(f"{seed} {index}")

    def put(self, array: Any) -> Array:
        """Return ``array`` as a contiguous array."""
        return np.require(array, None, ("C", "A"))

    def get(self, buffer: Array) -> Array:
        """Return the buffer."""
        return buffer

    def time(self, run: Callable[[], Any]) -> float:
        """Return the simulated seconds of a run, with noise."""
        start = self.clock
        run()
        outlier = self._rng.uniform(1.1, 1.6) if self._noise and self._rng.random() < 1 / 30 else 1
        return (self.clock - start) * math.exp(self._rng.gauss(0, self._noise)) * outlier

    def ceilings(self) -> Mapping[str, float]:
        """Return the ceilings, which the best Configs nearly reach."""
        return {"float32 flop/s": RATE, "float64 flop/s": RATE, "byte/s": 1e3 * RATE}


class FakeKernel(Kernel):
    """Computes with the numpy reference and charges the clock what its Config deserves.

    Args:
        op: name of the Op.
        device: where.
        loose: whether it is faster and has errors of about 1e-3, so that only a call with a wide
            tolerance may use it.
    """

    def __init__(self, op: str, device: FakeDevice, loose: bool = False) -> None:
        self.op = op
        self.name = "fake_loose" if loose else "fake"
        self._device = device
        self._loose = loose

    def supports(self, problem: Problem) -> bool | str:
        """Every problem in floating point."""
        return problem.output.dtype.kind == "f" or "only floating-point problems"

    def space(self, problem: Problem) -> Space:
        """Four tunables, one constraint, 150 Configs."""
        return Space(
            {
                "tile": (1, 2, 4, 8, 16, 32, 64),
                "unroll": (1, 2, 4, 8),
                "order": ("ij", "ji", "blocked"),
                "prefetch": (False, True),
            },
            [(lambda tile, unroll: tile * unroll <= 128, "accumulators fit the registers")],
        )

    def default(self, problem: Problem) -> Config:
        """A fair Config, seldom the best."""
        values: dict[str, Value] = {"tile": 8, "unroll": 2, "order": "ij", "prefetch": False}
        return Config(values)

    def slowness(self, problem: Problem, config: Mapping[str, Any]) -> float:
        """Return how many times longer than the roofline allows this Config takes."""
        distance = 0.0
        values = self.space(problem).values
        for name, choices in values.items():
            rng = random.Random(f"{self._device} {self.op} {name}")
            goal = rng.randrange(len(choices))
            if len(choices) > 3:
                # Larger problems like larger tiles, so near shapes have near winners.
                goal = min(len(choices) - 1, goal + int(math.log2(problem.flops + 2)) % 4)
            distance += rng.uniform(0.5, 1) * ((choices.index(config[name]) - goal) / 2) ** 2
        rough = random.Random(f"{self._device} {problem.text} {sorted(config.items())}").random()
        return (0.6 if self._loose else 1.08) * math.exp(min(distance, 4) / 4 + 0.1 * rough)

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the run."""
        cost = problem.flops / RATE * self.slowness(problem, config)
        return FakeRun(self._device, problem, cost, self._loose)

    def strict(self, problem: Problem, config: Config) -> bool:
        """Whether it is not the loose one."""
        return not self._loose

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return the error to expect."""
        return 2e-3 if self._loose else problem.error_budget()


class FakeRun:
    """Computes with the reference and adds its cost to the device's clock."""

    def __init__(self, device: FakeDevice, problem: Problem, cost: float, loose: bool) -> None:
        self._device, self._problem, self._cost, self._loose = device, problem, cost, loose

    def __call__(self, *operands: Array, out: Array) -> None:
        """Compute into ``out``."""
        self._device.clock += self._cost
        wide = [np.asarray(a, np.float64) for a in operands]
        result = self._problem.reference(*wide)
        np.copyto(out, result * 1.001 if self._loose else result, casting="same_kind")


class FakeBackend(Backend):
    """Devices ``fake:0`` and ``fake:1``, with simulated clocks; also the plugin that brings them.

    Args:
        noise: relative standard deviation of a time.
        seed: of the noise.
        ops: names of the Ops that it has kernels for.
    """

    name = "fake"

    def __init__(self, noise: float = 0.01, seed: int = 0, ops: Iterable[str] = OPS) -> None:
        self._noise = noise
        self._seed = seed
        self._ops = tuple(ops)

    def count(self) -> int:
        """Return 2."""
        return 2

    def open(self, index: int) -> FakeDevice:
        """Return a new device, its clock at zero."""
        return FakeDevice(self.name, index, self._noise, self._seed)

    @hookimpl
    def hwkit_backends(self) -> Iterable[Backend]:
        """Return itself."""
        return [self]

    @hookimpl
    def hwkit_kernels(self, device: Device) -> Iterable[Kernel]:
        """Return a plain and a loose kernel of every Op."""
        if device.backend != self.name or not isinstance(device, FakeDevice):
            return []
        return [FakeKernel(op, device, loose) for op in self._ops for loose in (False, True)]


fake = FakeBackend()
"""The one that a worker process finds by its import path."""
