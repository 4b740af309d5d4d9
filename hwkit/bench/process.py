"""PeerProcess: a library in a process of its own, driven over a pipe."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import FAILURE_CLASSES, ArgumentError, KernelFailure, Unavailable

__all__ = ["LIBRARIES", "Built", "PeerProcess", "missing"]

LIBRARIES = {
    "hwkit": None,
    "hwkit-default": None,
    "numpy": None,
    "torch": "torch",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "xnnpack": "ai_edge_litert",
    "ncnn": "ncnn",
    "mnn": "MNN",
}
"""Libraries that can be timed, and the module that each needs. ``hwkit-default`` has no records."""

# Packages that are not called as their module is.
_PACKAGES = {"ai_edge_litert": "ai-edge-litert"}

# A library sets its threads by its own call where it has one; the variables reach the rest.
_THREAD_VARIABLES = (
    "HWKIT_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_START_SECONDS = 120.0
_REPLY_SECONDS = 300.0


def missing(library: str) -> str | None:
    """Return why a library cannot be timed here, or ``None`` if it can.

    Raises:
        ArgumentError: there is no library of that name.
    """
    if library not in LIBRARIES:
        raise ArgumentError(f"peer {library!r} is not known: write one of {', '.join(LIBRARIES)}")
    module = LIBRARIES[library]
    if module is None or importlib.util.find_spec(module) is not None:
        return None
    return f"{module} is not installed: pip install {_PACKAGES.get(module, module)}"


@dataclass(frozen=True)
class Built:
    """What a library made of a problem.

    Attributes:
        variant: the layout, packing or kernel that was the fastest of those it has.
        error: relative error of its answer against float64.
        version: of the library.
        roofline: least seconds by the device's measured ceilings; only hwkit knows them.
        rejected: why other variants were not timed, as a wrong answer or a larger error.
    """

    variant: str
    error: float
    version: str
    roofline: float | None = None
    rejected: tuple[str, ...] = ()


class PeerProcess:
    """One library in a child process, at a fixed number of threads; a context manager.

    Between two orders it is stopped (SIGSTOP), so several can be driven in turns without disturbing
    each other. Sleeping on the pipe is not enough: thread pools go on spinning for 30 ms (numpy's
    OpenBLAS) to more than 50 ms (onnxruntime) after their last task.

    Args:
        library: one of :data:`LIBRARIES`.
        threads: threads that the library may use.

    Raises:
        Unavailable: the library is not installed, or does not import.
    """

    def __init__(self, library: str, threads: int = 1) -> None:
        reason = missing(library)
        if reason is not None:
            raise Unavailable(reason)
        if threads < 1:
            raise ArgumentError(f"threads={threads} must be at least 1")
        self.library = library
        self.threads = threads
        self._folder = tempfile.TemporaryDirectory(prefix="hwkit-bench-")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hwkit.bench.child", library, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment(),
        )
        self._rest = b""
        try:
            self.version: str = self._reply(_START_SECONDS)["version"]
            self._signal("SIGSTOP")
        except BaseException as error:
            # Ctrl-C as well: nobody else can end what has no name yet.
            self.close()
            if not isinstance(error, KernelFailure):
                raise
            raise Unavailable(f"{library} does not start: {error}") from None

    def _environment(self) -> dict[str, str]:
        made = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(self.threads))}
        made["HWKIT_DEVICE"] = "cpu:0"
        # OpenVINO's telemetry forks a process, which may outlive it and hold our pipes for ever;
        # this is how that is told to stay out.
        made["CI"] = "true"
        if self.library == "hwkit-default":
            made["HWKIT_DB"] = str(Path(self._folder.name) / "empty.db")
            off = [made.get("HWKIT_DISABLE_PLUGINS", ""), "tuning_db"]
            made["HWKIT_DISABLE_PLUGINS"] = ",".join(filter(None, off))
        return made

    def build(self, problem: str, reference: Path | None = None, *, packed: bool = True) -> Built:
        """Prepare a problem, check the answer against float64, and keep the fastest variant.

        Args:
            problem: text of the problem; the operands are its random ones of seed 0.
            reference: ``.npy`` file with the float64 answer; computed by the child if ``None``.
            packed: whether operands that do not change (weights) are packed beforehand.

        Raises:
            KernelFailure: the library cannot do the problem, or answers wrong.
        """
        given = None if reference is None else str(reference)
        reply = self._ask(do="build", problem=problem, reference=given, packed=packed)
        return Built(
            reply["variant"], reply["error"], self.version, reply["roofline"],
            tuple(reply["rejected"]),
        )  # fmt: skip

    def network(
        self,
        model: Path,
        inputs: Path,
        reference: Path,
        budget: float,
        options: dict[str, Any] | None = None,
    ) -> Built:
        """Prepare a whole ONNX model as :meth:`build` does a problem.

        Args:
            model: the file.
            inputs: ``.npz`` file of the inputs by name.
            reference: ``.npy`` file with all outputs, flattened and joined.
            budget: relative error that an answer may have.
            options: of :func:`hwkit.load`; other libraries have none.

        Raises:
            KernelFailure: the library cannot run the model, or answers wrong.
        """
        reply = self._ask(
            do="network", model=str(model), inputs=str(inputs), reference=str(reference),
            budget=budget, options=options or {},
        )  # fmt: skip
        return Built(reply["variant"], reply["error"], self.version, None, tuple(reply["rejected"]))

    def warm(self, seconds: float = 0.05) -> float:
        """Run for about ``seconds``, choose the runs per sample; return the seconds of one run."""
        return float(self._ask(do="warm", seconds=seconds)["seconds"])

    def time(self, samples: int = 1) -> list[float]:
        """Return ``samples`` times of one run in seconds, after runs that are not counted.

        A sample is the mean of as many runs as :meth:`warm` chose; as many are not counted.
        """
        return [float(s) for s in self._ask(do="time", samples=samples)["samples"]]

    def _ask(self, **order: Any) -> dict[str, Any]:
        stream = self._process.stdin
        assert stream is not None
        self._signal("SIGCONT")
        try:
            stream.write(json.dumps(order).encode() + b"\n")
            stream.flush()
            return self._reply(_REPLY_SECONDS)
        except (BrokenPipeError, ValueError):
            raise KernelFailure("crash", f"{self.library} has ended: {self._end()}") from None
        finally:
            self._signal("SIGSTOP")

    def _signal(self, name: str) -> None:
        # Windows has neither signal; there a pool may disturb its neighbour.
        if hasattr(signal, name) and self._process.returncode is None:
            self._process.send_signal(getattr(signal, name))

    def _reply(self, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while b"\n" not in self._rest:
            chunk = self._read(deadline, seconds)
            if not chunk:
                raise KernelFailure("crash", f"{self.library} has ended: {self._end()}")
            self._rest += chunk
        text, _, self._rest = self._rest.partition(b"\n")
        reply: dict[str, Any] = json.loads(text)
        if "failure" in reply:
            failure = reply["failure"] if reply["failure"] in FAILURE_CLASSES else "launch"
            raise KernelFailure(failure, reply["reason"])
        return reply

    def _read(self, deadline: float, seconds: float) -> bytes:
        stream = self._process.stdout
        assert stream is not None
        ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            self.close()
            raise KernelFailure("timeout", f"{self.library} did not answer within {seconds:.0f} s")
        return os.read(stream.fileno(), 1 << 16)

    def _end(self) -> str:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    def close(self) -> None:
        """End the process; harmless if it has ended."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                # What was still to be written to a dead process is of no use.
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._folder.cleanup()

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<PeerProcess {self.library} {self.version} threads={self.threads}>"
