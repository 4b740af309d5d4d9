"""Worker: a disposable child process that builds, checks and times candidates.

Whatever a candidate does (segfault, endless loop with the interpreter lock held, sleep, stop, exit,
eat all memory), it does it to the child. The parent watches a board in shared memory that says what
the child is at since when, and kills its process group where that lasts too long or takes too much.

The child is a fork of a *nursery*, a fresh interpreter that has imported hwkit and its plugins and
does nothing else, so that the next child is there within milliseconds. It is started by
``subprocess``, not by ``multiprocessing``: the user's main module is not run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from . import errors
from .backend import Device, Kernel
from .config import Config
from .errors import HwkitError
from .measure import Sample
from .nursery import Child, Died, Limits, Nursery
from .op import Problem
from .runner import Checked, Lost

__all__ = ["Limits", "Worker"]

_MEMORY_SHARE = 0.6


class Worker:
    """A :class:`hwkit.trial.Bench` in a child process that may die. A context manager.

    Args:
        device: the device to open there; known to the registry by its name.
        limits: may be changed at any time.

    Attributes:
        limits: what the child may take.
        deaths: how many children died.

    Raises:
        HwkitError: the child cannot start or cannot open the device; the message says why.
    """

    def __init__(self, device: Device, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.limits.memory = self.limits.memory or int(_MEMORY_SHARE * _free_memory())
        self.deaths = 0
        self._device = {"device": str(device), "cold": device.cold_caches}
        self._problem: tuple[str, int] | None = None
        self._checked: dict[int, tuple[str, Config, int]] = {}
        self._live: set[int] = set()
        self._child: Child | None = None
        self._nursery: Nursery | None = Nursery()
        try:
            self._ask({"do": "drop", "keys": []})
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the present child; ``None`` between children."""
        return None if self._child is None else self._child.pid

    def prepare(self, problem: Problem, seed: int) -> float:
        """Make inputs and references of a problem, drop what is held; return the seconds taken."""
        self._problem = None
        self._checked.clear()
        self._live.clear()
        seconds = float(self._ask({"do": "prepare", "problem": problem.text, "seed": seed}))
        self._problem = (problem.text, seed)
        return seconds

    def check(self, key: int, kernel: Kernel, config: Config) -> Checked:
        """Build a candidate, check it, and keep it under ``key`` if it is right."""
        message = {"do": "check", "key": key, "kernel": kernel.name, "config": dict(config)}
        try:
            checked = Checked(**self._ask(message))
        except Died as died:
            return Checked(failure=died.failure, reason=died.reason)
        if checked.failure is None:
            self._checked[key] = (kernel.name, config, checked.repeats)
            self._live.add(key)
        return checked

    def build_ahead(self, candidates: Sequence[tuple[Kernel, Config]]) -> None:
        """Build candidates at the same time; :meth:`check` then finds them built."""
        named = [(kernel.name, dict(config)) for kernel, config in candidates]
        # Whoever takes the child down now does it again in its own check, and is named there.
        with suppress(Died):
            if self._child is not None:
                self._talk({"do": "build_ahead", "candidates": named})

    def sample(self, keys: Sequence[int]) -> list[Sample]:
        """Take one sample of each, in this order.

        Raises:
            Lost: one of them failed.
        """
        try:
            for key in dict.fromkeys(keys):
                if key not in self._live:
                    self._rebuild(key)
            taken = self._ask({"do": "sample", "keys": list(keys)})
        except Died as died:
            raise Lost(died.key, died.failure, died.reason) from None
        return [Sample(*sample) for sample in taken]

    def _rebuild(self, key: int) -> None:
        kernel, config, repeats = self._checked[key]
        self._ask(
            {"do": "rebuild", "key": key, "kernel": kernel, "config": dict(config)}
            | {"repeats": repeats}
        )
        self._live.add(key)

    def drop(self, keys: Iterable[int]) -> None:
        """Let go of candidates."""
        gone = [key for key in keys if self._checked.pop(key, None)]
        held = [key for key in gone if key in self._live]
        self._live.difference_update(held)
        if held and self._child is not None:
            with suppress(Died):
                self._ask({"do": "drop", "keys": held})

    def ceilings(self) -> dict[str, float]:
        """Return the measured ceilings of the device."""
        return dict(self._ask({"do": "ceilings"}))

    def close(self) -> None:
        """Kill the child and the nursery."""
        if self._child is not None:
            self._child.kill()
            self._child = None
        if self._nursery is not None:
            self._nursery.close()
            self._nursery = None

    def _start(self) -> None:
        """Get a child that has the device open and the problem prepared."""
        if self._nursery is None:
            raise HwkitError("the worker is closed: make another one")
        if not self._nursery.alive:
            self._nursery.close()
            self._nursery = Nursery()
        self._live.clear()
        self._child = self._nursery.fork()
        self._talk({"do": "open", **self._device, "folder": self._nursery.folder})
        if self._problem is not None:
            text, seed = self._problem
            self._talk({"do": "prepare", "problem": text, "seed": seed})

    def _ask(self, message: dict[str, Any]) -> Any:
        """Send a message to a child, started if need be, and return the answer.

        Raises:
            Died: the candidate took the child down.
            HwkitError: the child did no candidate's work when it failed.
        """
        for attempt in range(2):
            try:
                if self._child is None:
                    self._start()
                return self._talk(message)
            except Died as died:
                if died.key >= 0:
                    raise
                # A candidate before this one may have left a broken process: try a new one.
                if attempt:
                    if message["do"] == "prepare" and died.failure == "timeout":
                        raise HwkitError(
                            "its inputs and its answer in float64, which the host computes, took "
                            f"longer than {self.limits.prepare:.1f} s: give it a longer --budget"
                        ) from None
                    raise HwkitError(
                        f"the worker process on {self._device['device']} is lost whenever it does "
                        f"'{message['do']}': {died.reason}"
                    ) from None
        raise AssertionError

    def _talk(self, message: dict[str, Any]) -> Any:
        assert self._child is not None
        try:
            answer = self._child.talk(message, self.limits)
        except BaseException as error:
            self._child = None
            self._live.clear()
            self.deaths += isinstance(error, Died)
            raise
        if answer.pop("device_lost", False):
            # Nothing can run there any more: what comes next gets a new process.
            self._child.kill()
            self._child = None
            self._live.clear()
            self.deaths += 1
        if "lost" in answer:
            raise Lost(*answer["lost"])
        if "error" in answer:
            kind = getattr(errors, answer["error"], HwkitError)
            raise (HwkitError if kind is errors.KernelFailure else kind)(answer["reason"])
        return answer["answer"]


def _free_memory() -> int:
    """Return the bytes that can still be had, by the system's and the container's account."""
    free = 2**63
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        facts = {line.split(":")[0]: line.split()[1] for line in lines if ":" in line}
        free = int(facts["MemAvailable"]) * 1024
    with suppress(OSError, ValueError, KeyError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        free = min(free, limit - used)
    return max(free, 2**28)
