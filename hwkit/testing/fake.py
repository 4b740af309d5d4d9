"""FakeBackend and FaultyBackend: devices whose clock is simulated and whose kernels may fail.

Both compute true answers with numpy, on the host. To use them, register the object itself, which is
a plugin as well::

    from hwkit.registry import registry
    from hwkit.testing import fake

    registry().register(fake.fake, "fake")
    registry().register(fake.faulty, "faulty")
    hwkit.tune("gemm float32 nn m=64 n=64 k=64", "fake:0", trials=50)

A worker process finds the module-level objects by import path; one that is made with other
arguments must be tuned with ``worker=False``.
"""

from __future__ import annotations

import ctypes
import math
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..backend import Backend, Device, Fingerprint, Kernel, Run
from ..errors import KernelFailure
from ..hookspecs import hookimpl
from ..op import Problem
from ..space import Config, Space, Value

__all__ = ["FAULTS", "FakeBackend", "FakeDevice", "FaultyBackend", "fake", "faulty"]

Array = np.ndarray[Any, Any]

RATE = 1e9
"""Ceiling of a fake device: flop/s."""

OPS = ("gemm", "matmul", "conv2d")
"""Ops for which there are fake kernels unless told otherwise."""

FAULTS: dict[str, str | None] = {
    "none": None,
    "compile": "compile",
    "raise": "launch",
    "exit": "crash",
    "quit": "crash",
    "abort": "crash",
    "segfault": "crash",
    "hang": "timeout",
    "sleep": "timeout",
    "stop": "timeout",
    "memory": "memory",
    "wrong": "wrong",
    "not_a_number": "wrong",
    "unwritten": "wrong",
    "before": "wrong",
    "behind": "wrong",
    "operand": "wrong",
    "impossible": "wrong",
}
"""Values of the tunable ``fault`` of a faulty kernel, and the class under which each is recorded.

``exit`` is ``sys.exit``, ``quit`` is ``os._exit``; ``hang`` spins with the interpreter lock held;
``stop`` is SIGSTOP; ``before`` and ``behind`` write outside the output; ``operand`` changes an
operand; ``impossible`` claims to take no time.
"""


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
        return _FakeRun(self._device, problem, cost, self._loose)

    def strict(self, problem: Problem, config: Config) -> bool:
        """Whether it is not the loose one."""
        return not self._loose

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return the error to expect."""
        return 2e-3 if self._loose else problem.error_budget()


class _FakeRun:
    def __init__(self, device: FakeDevice, problem: Problem, cost: float, loose: bool) -> None:
        self._device, self._problem, self._cost, self._loose = device, problem, cost, loose

    def __call__(self, *operands: Array, out: Array) -> None:
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


class FaultyKernel(FakeKernel):
    """A fake kernel with one more tunable: how it fails.

    Args:
        op: name of the Op.
        device: where.
        faults: the values of ``fault``.
    """

    def __init__(self, op: str, device: FakeDevice, faults: Iterable[str]) -> None:
        super().__init__(op, device)
        self.name = "faulty"
        self._faults = tuple(faults)

    def space(self, problem: Problem) -> Space:
        """Seven tiles, and how it fails."""
        return Space({"tile": (1, 2, 4, 8, 16, 32, 64), "fault": self._faults})

    def default(self, problem: Problem) -> Config:
        """One that does not fail."""
        values: dict[str, Value] = {"tile": 8, "fault": "none"}
        return Config(values)

    def slowness(self, problem: Problem, config: Mapping[str, Any]) -> float:
        """Return the same for every fault: only the tile counts."""
        return 1.1 + 0.1 * abs(math.log2(config["tile"] / 16))

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the run, or fail."""
        fault = str(config["fault"])
        if fault == "compile":
            raise KernelFailure("compile", "the compiler does not like this tile")
        cost = 1e-18 if fault == "impossible" else problem.flops / RATE
        run = _FakeRun(self._device, problem, cost * self.slowness(problem, config), False)
        return run if fault in ("none", "impossible") else _FaultyRun(run, fault)


class _FaultyRun:
    def __init__(self, run: Run, fault: str) -> None:
        self._run, self._fault = run, fault

    def __call__(self, *operands: Array, out: Array) -> None:
        if self._fault in _BREAKS:
            _BREAKS[self._fault]()
        if self._fault == "unwritten":
            keep = out.ravel()[-1:].copy()
            self._run(*operands, out=out)
            out.ravel()[-1:] = keep
            return
        self._run(*operands, out=out)
        if self._fault in ("before", "behind"):
            start = out.ctypes.data
            ctypes.memset(start - 64 if self._fault == "before" else start + out.nbytes, 0x13, 64)
        elif self._fault == "operand":
            operands[0][...] = 0
        elif self._fault == "not_a_number":
            out.ravel()[:1] = math.nan
        elif self._fault == "wrong":
            out *= 2


def _raise() -> None:
    raise RuntimeError("the launch failed")


def _hang() -> None:
    # The regular expression engine never lets go of the interpreter lock.
    re.match(r"(a+)+$", "a" * 64 + "b")


def _eat() -> None:
    hoard = []
    while True:
        hoard.append(np.ones(2**23))


_BREAKS: dict[str, Callable[[], object]] = {
    "raise": _raise,
    "exit": lambda: sys.exit(3),
    "quit": lambda: os._exit(3),
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(0),
    "hang": _hang,
    "sleep": lambda: time.sleep(1e6),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "memory": _eat,
}


class FaultyBackend(FakeBackend):
    """Device ``faulty:0``, whose kernels fail as their tunable ``fault`` says; see :data:`FAULTS`.

    Tune it in a worker process only: most of the faults take the process down.

    Args:
        faults: the values of the tunable ``fault``.
        noise: relative standard deviation of a time.
        seed: of the noise.
        ops: names of the Ops that it has kernels for.
    """

    name = "faulty"

    def __init__(
        self,
        faults: Iterable[str] = tuple(FAULTS),
        noise: float = 0.01,
        seed: int = 0,
        ops: Iterable[str] = OPS,
    ) -> None:
        super().__init__(noise, seed, ops)
        self._faults = tuple(faults)

    def count(self) -> int:
        """Return 1."""
        return 1

    @hookimpl
    def hwkit_kernels(self, device: Device) -> Iterable[Kernel]:
        """Return a faulty kernel of every Op."""
        if device.backend != self.name or not isinstance(device, FakeDevice):
            return []
        return [FaultyKernel(op, device, self._faults) for op in self._ops]


fake = FakeBackend()
"""The one that a worker process finds by its import path."""

faulty = FaultyBackend()
"""The one that a worker process finds by its import path."""
