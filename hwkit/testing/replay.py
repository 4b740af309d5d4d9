"""ReplayBackend: devices whose clock is a recording, so that any machine can judge a search."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import Backend, Device, Fingerprint, Kernel, Run
from ..config import Config
from ..errors import ArgumentError, KernelFailure
from ..hookspecs import hookimpl
from ..op import Attribute, Dtypes, Op, Operand, Problem, dtype_name, numpy_dtype
from ..problem import Array
from ..space import Space
from .recording import Recording

__all__ = ["RECORDED", "Recorded", "ReplayBackend", "ReplayDevice", "ReplayKernel"]


class Recorded(Op):
    """The stand-in for what was recorded: the sum of a vector.

    The attribute ``of`` names the recorded kernel and its problem size, so that records of two
    recordings are never mixed.
    """

    name = "recorded"
    sizes = ("n",)
    attributes: Mapping[str, Attribute] = {"of": ""}
    shown = ("of",)
    samples = ("recorded float32 n=8 of=convolution",)
    arguments = ("of",)

    def problem(self, *operands: Any, **arguments: Any) -> Problem:
        """Return the Problem of summing one vector."""
        (x,) = operands
        if len(x.shape) != 1:
            raise ArgumentError(f"x has {len(x.shape)} axes, but must have one")
        return self.make(Dtypes.of(dtype_name(x.dtype, "x")), "", {"n": x.shape[0]}, arguments)

    def operands(self, problem: Problem) -> tuple[Operand, ...]:
        """Return the vector."""
        return (Operand("x", (problem["n"],), numpy_dtype(problem.dtypes.input)),)

    def output(self, problem: Problem) -> Operand:
        """Return the sum, of shape (1,)."""
        return Operand("y", (1,), numpy_dtype(problem.dtypes.output))

    def reference(self, problem: Problem, *operands: Array) -> Array:
        """Sum."""
        total: Array = operands[0].sum(keepdims=True)
        return total

    def flops(self, problem: Problem) -> int:
        """Return the additions."""
        return int(problem["n"])


RECORDED = Recorded()


class ReplayDevice(Device):
    """One recording. Its clock advances by a recorded sample with every run.

    Attributes:
        recording: what is replayed.
        elapsed: simulated seconds of all runs so far.
    """

    backend = "replay"

    def __init__(self, index: int, recording: Recording, rng: random.Random, part: slice) -> None:
        self.index, self.recording = index, recording
        self.arch = recording.device
        self.fingerprint = Fingerprint(
            {"backend": "replay", "device": recording.device}, {"recording": recording.path.name}
        )
        self.elapsed = 0.0
        self._rng = rng
        self._part = part

    @property
    def problem(self) -> Problem:
        """The one Problem that was recorded here."""
        return RECORDED.make("float32", "", {"n": 8}, {"of": self.recording.kernel})

    def run(self, config: Config) -> None:
        """Let the clock advance by one recorded sample of ``config``.

        Raises:
            KernelFailure: what was recorded is a failure.
        """
        failure = self.recording.failures.get(config)
        if failure is not None:
            raise KernelFailure(failure, f"recorded as failed on {self.recording.device}")
        samples = self.recording.samples[config]
        self.elapsed += self._rng.choice(samples[self._part] or samples)

    def put(self, array: Any) -> Any:
        """Return the array itself where it is contiguous."""
        return np.ascontiguousarray(array)

    def get(self, buffer: Any) -> Array:
        """Return the buffer itself."""
        array: Array = buffer
        return array

    def time(self, run: Callable[[], Any]) -> float:
        """Return the simulated seconds of ``run()``."""
        start = self.elapsed
        run()
        return self.elapsed - start


class ReplayKernel(Kernel):
    """The recorded kernel of one device."""

    op = RECORDED.name

    def __init__(self, device: ReplayDevice) -> None:
        self.device = device
        self.name = device.recording.kernel

    def supports(self, problem: Problem) -> bool | str:
        """Only what was recorded."""
        return problem == self.device.problem or f"only {self.device.problem} was recorded"

    def space(self, problem: Problem) -> Space:
        """Return the recorded combinations."""
        return self.device.recording.space

    def default(self, problem: Problem) -> Config:
        """Return the recording's default."""
        return self.device.recording.default

    def build(self, problem: Problem, config: Config) -> Run:
        """Return a run that sums its operand and lets the clock advance.

        Raises:
            KernelFailure: it was recorded that this Config does not compile.
        """
        device = self.device
        if device.recording.failures.get(config) == "compile":
            raise KernelFailure("compile", f"recorded as failed on {device.recording.device}")

        def run(*operands: Any, out: Any) -> None:
            device.run(config)
            out[...] = operands[0].sum()

        return run


class ReplayBackend(Backend):
    """Devices that answer from recorded measurements, one for each file; itself a plugin.

    ``registry().register(ReplayBackend(path), "replay")`` is all there is to it: it brings the
    Backend, the Op ``recorded`` and one Kernel for each device. Tune it with ``worker=False``: its
    clock lives in this process.

    Args:
        paths: Kernel Tuner cache files, plain or gzipped.
        space: their companion file with defaults and constraints, if there is one.
        seed: of the draws of samples; the same seed gives the same times in the same order.
        part: which of each Config's samples to draw from, as in ``slice(0, None, 2)``: two backends
            with disjoint parts measure independently.

    Raises:
        ArgumentError: a file cannot be read.
    """

    name = "replay"

    def __init__(
        self,
        *paths: Path | str,
        space: Path | str | None = None,
        seed: int = 0,
        part: slice = slice(None),
    ) -> None:
        self.recordings = tuple(Recording(path, space) for path in paths)
        self._seed, self._part = seed, part

    def count(self) -> int:
        """Return the number of recordings."""
        return len(self.recordings)

    def open(self, index: int) -> ReplayDevice:
        """Return a device whose clock begins anew."""
        rng = random.Random(f"{self._seed}:{index}")
        return ReplayDevice(index, self.recordings[index], rng, self._part)

    @hookimpl
    def hwkit_backends(self) -> Iterable[Backend]:
        """Return this Backend."""
        return [self]

    @hookimpl
    def hwkit_kernels(self, device: Device) -> Iterable[Kernel]:
        """Return the recorded Kernel of a device of ours."""
        return [ReplayKernel(device)] if isinstance(device, ReplayDevice) else []

    @hookimpl
    def hwkit_ops(self) -> Iterable[Op]:
        """Return the Op of recorded problems."""
        return [RECORDED]
