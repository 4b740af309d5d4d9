"""Backend, Device, Kernel: the three classes that a backend author writes.

Together with :mod:`hwkit.hookspecs` this file is the whole contract. ``plugins/README.md`` builds
a backend from it in thirty minutes, and :class:`hwkit.testing.BackendSuite` tells whether it is
right.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Union, runtime_checkable

import numpy as np

from .config import Config
from .errors import ArgumentError, Unavailable, shown
from .op import Problem
from .space import Space

__all__ = ["Backend", "Device", "Fingerprint", "Kernel", "Run"]

Fact = Union[bool, int, float, str]


@dataclass(frozen=True)
class Fingerprint:
    """What a device is, compared field by field, never by a hash alone.

    Attributes:
        identity: backend, arch, ISA features, compute units, threads, cache and memory sizes.
            A difference makes another device.
        environment: driver, runtime, compiler, hwkit version. A difference makes a record *stale*:
            a good start for a search, to be measured again before it is trusted.
    """

    identity: Mapping[str, Fact] = field(default_factory=dict)
    environment: Mapping[str, Fact] = field(default_factory=dict)

    def differences(self, other: Fingerprint) -> dict[str, tuple[Fact | None, Fact | None]]:
        """Return each field that differs, as ``{name: (mine, theirs)}``; ``None`` is absent."""
        found: dict[str, tuple[Fact | None, Fact | None]] = {}
        for mine, theirs in (
            (self.identity, other.identity),
            (self.environment, other.environment),
        ):
            for name in sorted({*mine, *theirs}):
                if mine.get(name) != theirs.get(name):
                    found[name] = (mine.get(name), theirs.get(name))
        return found


@runtime_checkable
class Run(Protocol):
    """What :meth:`Kernel.build` returns: a built kernel for one Problem and one Config.

    Operands arrive in the Op's order, as buffers of the device, C-contiguous, aligned, in native
    byte order, of exactly the shapes and dtypes of ``problem.operands``; ``out`` has those of
    ``problem.output`` and overlaps none of them. All of ``out`` must be written.

    A run may also have

    * ``direct(operands: tuple, out) -> array | NotImplemented``: the fast path of a call. It takes
      the user's objects as they are and answers ``NotImplemented`` where they are not already as
      above; ``out=None`` means that it allocates.
    * ``x_apart: bool`` and ``out_apart: bool``: whether ``direct`` also takes a first operand or
      an ``out`` that is part of a wider array, ``wide[..., 8:24]``.
    * ``prepack(constants: dict[int, buffer]) -> Run``: the same kernel with these operands (by
      position in ``problem.operands``) kept in the kernel's own layout; the new run takes the
      others in order, and keeps no reference to the user's arrays.
    * ``on(stream) -> Run``: the same run, all of whose work goes to one stream of the device.
    * ``workspace: int``: bytes of scratch memory that it holds.
    * ``scratch``: the scratch buffers themselves; the tuner fills them with NaN before a check.
    """

    def __call__(self, *operands: Any, out: Any) -> None:
        """Write the result into ``out``, and return when it is there."""
        ...


def no_run(built: object) -> str:
    """Return what to say of a build that returned this instead of a run."""
    return f"its build returned {shown(built)}, which is no run: return a callable"


class Kernel(ABC):
    """One way to do an Op on a Device. Immutable; a subclass overrides what it needs.

    Attributes:
        op: name of the Op, or ``"*"`` for a kernel that serves every Op.
        name: stable id, stored in records; never reused for another algorithm.
        version: raised whenever a change could alter the speed or the answer of a Config.
        storage: dtype in which packed constants are kept, if it is not their own; such a kernel is
            chosen only by ``prepack(..., storage=)``.
    """

    op: str
    name: str
    version: int = 1
    storage: str | None = None

    @abstractmethod
    def supports(self, problem: Problem) -> bool | str:
        """Whether this kernel can run the problem; a ``str`` is the reason why not."""

    def space(self, problem: Problem) -> Space:
        """Return the legal Configs for this problem on this device."""
        return Space({})

    def default(self, problem: Problem) -> Config:
        """Return a good Config in constant time, without measuring; always inside :meth:`space`."""
        return Config()

    @abstractmethod
    def build(self, problem: Problem, config: Config) -> Run:
        """Do all heavy work (compile, plan) and return the callable.

        Raises:
            KernelFailure: class ``compile`` or ``memory``.
        """

    def strict(self, problem: Problem, config: Config) -> bool:
        """Whether the arithmetic is plain multiply-add in the problem's accumulation dtype."""
        return True

    def deterministic(self, problem: Problem, config: Config) -> bool:
        """Whether every run with this Config, thread count included, gives the same bits."""
        return False

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return the relative Frobenius error to expect before it has been measured."""
        return problem.error_budget()

    def rank(self, problem: Problem) -> int:
        """Return the order among kernels without a record: the highest runs, ties go by name."""
        return 0

    def workspace(self, problem: Problem, config: Config) -> int:
        """Return the bytes of scratch memory that a run needs."""
        return 0

    def static_check(self, problem: Problem, config: Config) -> str | None:
        """Return why this Config cannot run, as far as can be told without running it."""
        return None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.op}:{self.name} v{self.version}>"


class Device(ABC):
    """One opened place to run: memory in, memory out, a clock, and what the hardware is.

    Attributes:
        backend: name of the Backend, ``"cuda"``.
        index: number among the backend's devices, or the name of an emulated one.
        arch: what records are shared by, ``"sm_90"``, ``"x86-64-avx2"``.
        fingerprint: all that a measurement depends on.
        emulated: whether the hardware is not there. Answers are real; :meth:`time` gives what a
            model estimates, and records say so.
        lost: whether an error has ended all work on it in this process, so that only a new process
            can go on; the tuner then starts a new worker.
        cold_caches: whether :meth:`time` empties the caches before each run, outside of the time.
    """

    backend: str
    index: int | str
    arch: str
    fingerprint: Fingerprint
    emulated: bool = False
    lost: bool = False
    cold_caches: bool = False

    @abstractmethod
    def put(self, array: Any) -> Any:
        """Return ``array`` (numpy or DLPack) as a contiguous buffer here, uncopied if it can be."""

    @abstractmethod
    def get(self, buffer: Any) -> np.ndarray[Any, Any]:
        """Return a buffer as a numpy array; without a copy where it can be."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """Return an uninitialised contiguous buffer."""
        return self.put(np.empty(shape, dtype))

    def part(self, buffer: Any, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """Return part of a flat uint8 buffer, from byte ``start`` on, as a buffer; uncopied.

        The tuner puts guard zones around outputs by it. ``None`` if the device cannot.
        """
        if not isinstance(buffer, np.ndarray):
            return None
        length = math.prod(shape) * dtype.itemsize
        return buffer[start : start + length].view(dtype).reshape(shape)

    def owns(self, array: Any) -> bool:
        """Whether ``array`` already lives here, so that the answer should as well."""
        return False

    def time(self, run: Callable[[], Any]) -> float:
        """Return the seconds of one ``run()`` on the device's own clock, to its completion."""
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    def with_cold_caches(self) -> Device:
        """Return this device, timed as for a caller whose data is never in the caches.

        Its fingerprint has another identity, so that records of both are never compared.

        Raises:
            ArgumentError: its caches cannot be emptied.
        """
        raise ArgumentError(f"the caches of {self} cannot be emptied: leave --cold out")

    def ceilings(self) -> Mapping[str, float]:
        """Return measured ceilings: ``"<dtype> flop/s"`` and ``"byte/s"``; empty if not known."""
        return {}

    def __repr__(self) -> str:
        return f"{self.backend}:{self.index}"


class Backend(ABC):
    """What a plugin adds to reach hardware.

    Attributes:
        name: the first half of ``"cuda:0"``.
    """

    name: str

    @abstractmethod
    def count(self) -> int:
        """Return how many devices there are.

        Raises:
            Unavailable: hardware or a dependency is missing; the message says what to install.
        """

    def emulated(self) -> tuple[str, ...]:
        """Return the names of devices that can be emulated, as ``"mali-g76"``; they are opened by
        name, and are not counted.
        """
        return ()

    def offline(self, arch: str) -> Device:
        """Return a device that is not there, for which kernels are compiled but on which none runs.

        Args:
            arch: as of :attr:`Device.arch`.

        Raises:
            Unavailable: this backend compiles nothing without the device.
        """
        raise Unavailable(
            f"the backend {self.name} compiles nothing without its device: leave --compile-only out"
        )

    @abstractmethod
    def open(self, index: Any) -> Device:
        """Return device number ``index``, or the emulated device of that name, opened."""
