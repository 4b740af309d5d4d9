"""Worker: a disposable child process that builds, checks and times candidates.

Whatever a candidate does (segfault, endless loop with the interpreter lock held, sleep, stop, exit,
eat all memory), it does it to the child. The parent watches a board in shared memory that says what
the child is at since when, and kills its process group where that lasts too long or takes too much.

The child is a fork of a *nursery*, a fresh interpreter that has imported hwkit and its plugins and
does nothing else, so that the next child is there within milliseconds. It is started by
``subprocess``, not by ``multiprocessing``: the user's main module is not run again.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from . import errors
from .backend import Device, Kernel
from .errors import HwkitError
from .measure import Sample
from .op import Problem
from .registry import registry
from .space import Config
from .trial import Checked, Lost
from .worker_child import BOARD, NUMBER, PHASES

__all__ = ["Limits", "Worker"]

_START = """\
import json, sys
given = json.loads(sys.argv[1])
sys.path[:] = given["path"]
from hwkit.worker_child import nursery
nursery(given["control"], given["board"], given["plugins"])
"""

# How often a busy child is looked at, and how long a nursery may take to start.
_WATCH, _STARTUP = 0.02, 120.0

_MEMORY_SHARE = 0.6


@dataclass
class Limits:
    """What a child may take before it is killed.

    Attributes:
        run: seconds for checking one candidate, and for one sample of it.
        build: seconds for building one.
        prepare: seconds for inputs and references of a problem.
        memory: bytes of resident memory; a share of what is free at the start if 0.
    """

    run: float = 10.0
    build: float = 120.0
    prepare: float = 600.0
    memory: int = 0

    def of(self, phase: str) -> float:
        """Return the seconds that a phase may last."""
        return {"build": self.build, "run": self.run}.get(phase, self.prepare)


class _Died(Exception):
    """The child is gone; ``key`` is the candidate it was at, or -1."""

    def __init__(self, key: int, failure: str, reason: str) -> None:
        super().__init__(reason)
        self.key, self.failure, self.reason = key, failure, reason


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
        self._device = str(device)
        self._problem: tuple[str, int] | None = None
        self._checked: dict[int, tuple[str, Config, int]] = {}
        self._live: set[int] = set()
        self._child: _Child | None = None
        self._nursery: _Nursery | None = _Nursery()
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
        except _Died as died:
            return Checked(failure=died.failure, reason=died.reason)
        if checked.failure is None:
            self._checked[key] = (kernel.name, config, checked.repeats)
            self._live.add(key)
        return checked

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
        except _Died as died:
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
            with suppress(_Died):
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
            self._nursery = _Nursery()
        self._live.clear()
        self._child = self._nursery.fork()
        self._talk({"do": "open", "device": self._device, "folder": self._nursery.folder})
        if self._problem is not None:
            text, seed = self._problem
            self._talk({"do": "prepare", "problem": text, "seed": seed})

    def _ask(self, message: dict[str, Any]) -> Any:
        """Send a message to a child, started if need be, and return the answer.

        Raises:
            _Died: the candidate took the child down.
            HwkitError: the child did no candidate's work when it failed.
        """
        for attempt in range(2):
            try:
                if self._child is None:
                    self._start()
                return self._talk(message)
            except _Died as died:
                if died.key >= 0:
                    raise
                # A candidate before this one may have left a broken process: try a new one.
                if attempt:
                    raise HwkitError(
                        f"the worker process on {self._device} is lost whenever it does "
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
            self.deaths += isinstance(error, _Died)
            raise
        if "lost" in answer:
            raise Lost(*answer["lost"])
        if "error" in answer:
            kind = getattr(errors, answer["error"], HwkitError)
            raise (HwkitError if kind is errors.KernelFailure else kind)(answer["reason"])
        return answer["answer"]


class _Nursery:
    """The clean process that forks children."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="hwkit-")
        self.folder = self._directory.name
        self.log: BinaryIO = open(Path(self.folder, "log"), "w+b")  # noqa: SIM115
        self.board: BinaryIO = open(Path(self.folder, "board"), "w+b")  # noqa: SIM115
        self.board.write(bytes(BOARD.size))
        self.board.flush()
        self._link, theirs = socket.socketpair()
        with theirs:
            given = {
                "path": [os.path.abspath(entry) for entry in sys.path],
                "control": theirs.fileno(),
                "board": self.board.fileno(),
                "plugins": registry().carried(),
            }
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, json.dumps(given)],
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                pass_fds=(theirs.fileno(), self.board.fileno()),
                start_new_session=True,
            )
        try:
            self._link.settimeout(_STARTUP)
            self._number()
        except BaseException:
            self.close()
            raise

    def _number(self) -> int:
        data = b""
        while len(data) < NUMBER.size:
            part = self._link.recv(NUMBER.size - len(data))
            if not part:
                said = self.said(0)
                raise HwkitError(
                    "the worker process ended before it could work"
                    f"{': ' + said if said else ''}; type 'hwkit doctor'"
                )
            data += part
        return int(NUMBER.unpack(data)[0])

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def fork(self) -> _Child:
        """Return a new child."""
        mine, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._link, [b"fork"], [theirs.fileno()])
            return _Child(self._number(), Connection(mine.detach()), self)

    def wait(self, pid: int) -> int:
        """Return the exit code of a child that is gone; a signal as a negative number."""
        self._link.sendall(str(pid).encode())
        return self._number()

    def said(self, since: int) -> str:
        """Return the last line that was printed after byte ``since`` of the log."""
        self.log.seek(since)
        lines = self.log.read()[-4000:].decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def close(self) -> None:
        """End the process and remove its files."""
        self._link.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.log.close()
        self.board.close()
        self._directory.cleanup()


class _Child:
    """One child and the connection to it."""

    def __init__(self, pid: int, link: Connection, nursery: _Nursery) -> None:
        self.pid = pid
        self._link = link
        self._nursery = nursery
        self._code: int | None = None

    def talk(self, message: dict[str, Any], limits: Limits) -> dict[str, Any]:
        """Send a message and return the answer; kill the child where it takes too much.

        Raises:
            _Died: there is no answer, and the child is gone.
        """
        try:
            self._link.send_bytes(json.dumps(message).encode())
            self._watch(limits)
            answer = json.loads(self._link.recv_bytes())
        except (EOFError, OSError, ValueError):
            key = self._at()[1]
            raise _Died(key, *self._cause_of_death()) from None
        except BaseException:
            self.kill()
            raise
        assert isinstance(answer, dict)
        return answer

    def _at(self) -> tuple[int, int, int]:
        phase, key, count = BOARD.unpack(os.pread(self._nursery.board.fileno(), BOARD.size, 0))
        return phase, key, count

    def _watch(self, limits: Limits) -> None:
        """Wait for the answer."""
        at, since = self._at(), time.monotonic()
        while not self._link.poll(_WATCH):
            now_at, now = self._at(), time.monotonic()
            if now_at != at:
                at, since = now_at, now
            phase = PHASES[at[0]]
            if now - since > limits.of(phase):
                self.kill()
                took = f"{phase} took longer than {limits.of(phase):.1f} s"
                raise _Died(at[1], "timeout", took)
            resident = _resident(self.pid)
            if resident > limits.memory:
                self.kill()
                took = f"{resident >> 20} MiB in use, more than {limits.memory >> 20}"
                raise _Died(at[1], "memory", took)

    def kill(self) -> int:
        """Kill the process group, and return the exit code."""
        if self._code is not None:
            return self._code
        self._link.close()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGKILL)
        self._code = self._nursery.wait(self.pid)
        return self._code

    def _cause_of_death(self) -> tuple[str, str]:
        """Return class and reason; the child closed the connection, or is broken."""
        # A process that is about to end of itself is given the time to do so.
        patience = time.monotonic() + 0.3
        while not _ended(self.pid) and time.monotonic() < patience:
            time.sleep(0.001)
        code = self.kill()
        if code == -signal.SIGKILL:
            return "memory", "killed by the system, most likely for the memory it took"
        if code < 0:
            return "crash", f"killed by {signal.Signals(-code).name}"
        return "crash", f"it ended the process with exit code {code}"


def _ended(pid: int) -> bool:
    """Whether a process has ended and waits to be asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (OSError, IndexError):
        return True


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


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
