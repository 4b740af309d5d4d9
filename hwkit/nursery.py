"""The parent's side of a worker process: start it, talk to it, watch it, kill it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, BinaryIO

from .errors import HwkitError
from .registry import registry
from .worker_child import BOARD, NUMBER, PHASES

__all__ = ["Child", "Died", "Limits", "Nursery"]

_START = """\
import json, sys
given = json.loads(sys.argv[1])
sys.path[:] = given["path"]
from hwkit.worker_child import nursery
nursery(given["control"], given["board"], given["plugins"])
"""

# How often a busy child is looked at, and how long a nursery may take to start.
_WATCH, _STARTUP = 0.02, 120.0


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


class Died(Exception):
    """The child is gone; ``key`` is the candidate it was at, or -1."""

    def __init__(self, key: int, failure: str, reason: str) -> None:
        super().__init__(reason)
        self.key, self.failure, self.reason = key, failure, reason


class Nursery:
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

    def fork(self) -> Child:
        """Return a new child."""
        mine, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._link, [b"fork"], [theirs.fileno()])
            return Child(self._number(), Connection(mine.detach()), self)

    def wait(self, pid: int) -> int:
        """Return the exit code of a child that is gone; a signal as a negative number."""
        try:
            self._link.sendall(str(pid).encode())
            return self._number()
        except (OSError, HwkitError):
            # The nursery was killed, and took the child along.
            return -signal.SIGKILL

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


class Child:
    """One child and the connection to it."""

    def __init__(self, pid: int, link: Connection, nursery: Nursery) -> None:
        self.pid = pid
        self._link = link
        self._nursery = nursery
        self._code: int | None = None

    def talk(self, message: dict[str, Any], limits: Limits) -> dict[str, Any]:
        """Send a message and return the answer; kill the child where it takes too much.

        Raises:
            Died: there is no answer, and the child is gone.
        """
        try:
            self._link.send_bytes(json.dumps(message).encode())
            self._watch(limits)
            answer = json.loads(self._link.recv_bytes())
        except (EOFError, OSError, ValueError):
            key = self._at()[1]
            raise Died(key, *self._cause_of_death()) from None
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
                raise Died(at[1], "timeout", took)
            resident = _resident(self.pid)
            if resident > limits.memory:
                self.kill()
                took = f"{resident >> 20} MiB in use, more than {limits.memory >> 20}"
                raise Died(at[1], "memory", took)

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
