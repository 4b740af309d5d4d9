"""FaultyBackend: kernels that fail in every way there is, to see that a run survives them."""

from __future__ import annotations

import ctypes
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..backend import Device, Kernel, Run
from ..config import Config, Value
from ..errors import KernelFailure
from ..hookspecs import hookimpl
from ..op import Problem
from ..space import Space
from .fake import OPS, RATE, FakeBackend, FakeDevice, FakeKernel, FakeRun

__all__ = ["FAULTS", "FaultyBackend", "FaultyKernel", "faulty"]

Array = np.ndarray[Any, Any]

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
    "device_lost": "crash",
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
``stop`` is SIGSTOP; ``device_lost`` leaves a device on which nothing runs any more; ``before`` and
``behind`` write outside the output; ``operand`` changes an operand; ``impossible`` claims to take
no time.
"""


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
        run = FakeRun(self._device, problem, cost * self.slowness(problem, config), False)
        return run if fault in ("none", "impossible") else _FaultyRun(run, fault, self._device)


class _FaultyRun:
    def __init__(self, run: Run, fault: str, device: Device) -> None:
        self._run, self._fault, self._device = run, fault, device

    def __call__(self, *operands: Array, out: Array) -> None:
        if self._fault in _BREAKS:
            _BREAKS[self._fault]()
        if self._fault == "device_lost":
            self._device.lost = True
            raise KernelFailure("crash", "an illegal memory access: the device is lost")
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
        return [self._make(op, device) for op in self._ops]

    def _make(self, op: str, device: FakeDevice) -> FaultyKernel:
        return FaultyKernel(op, device, self._faults)


faulty = FaultyBackend()
"""The one that a worker process finds by its import path."""
