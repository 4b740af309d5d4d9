"""The child's side of :mod:`hwkit.worker`: a nursery that forks workers, and the worker's loop.

The nursery imports hwkit and its plugins once and stays clean: it opens no device and starts no
thread. A worker is a fork of it, there within milliseconds, with a process group of its own.
Messages are JSON in length-prefixed frames; nothing is unpickled.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import json
import mmap
import os
import resource
import signal
import socket
import struct
import sys
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .backend import Kernel
from .config import Config
from .errors import HwkitError, cause
from .registry import registry
from .runner import Lost
from .trial import Bench

__all__ = ["BOARD", "NUMBER", "PHASES", "nursery"]

BOARD = struct.Struct("=qqq")
"""Phase, key and a counter, in memory shared with the parent: what the worker does right now."""

NUMBER = struct.Struct("=q")
"""What the nursery answers: a process id, or an exit status."""

PHASES = ("idle", "prepare", "build", "run", "open")

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def nursery(control: int, board: int, plugins: Mapping[str, str]) -> None:
    """Serve until the parent goes away: ``fork`` with a socket, or ``wait`` for a process.

    Args:
        control: file descriptor of a socket to the parent.
        board: file descriptor of the shared board.
        plugins: import paths of plugins to register, by name.
    """
    _follow_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name, path in plugins.items():
        module, _, attribute = path.partition(":")
        plugin = importlib.import_module(module)
        registry().register(getattr(plugin, attribute) if attribute else plugin, name)
    registry().ops()
    link = socket.socket(fileno=control)
    link.sendall(NUMBER.pack(0))
    while True:
        message, handles, _, _ = socket.recv_fds(link, 64, 1)
        if not message:
            return
        if message == b"fork":
            link.sendall(NUMBER.pack(_fork(handles[0], board, link)))
        else:
            _, status = os.waitpid(int(message), 0)
            link.sendall(NUMBER.pack(os.waitstatus_to_exitcode(status)))


def _follow_parent() -> None:
    """Be killed when the parent dies, however it dies and whatever this process does then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def _fork(handle: int, board: int, link: socket.socket) -> int:
    with warnings.catch_warnings():
        # numpy's idle threads are no reason to warn: its BLAS takes care of forks.
        warnings.simplefilter("ignore")
        pid = os.fork()
    if pid:
        os.close(handle)
        return pid
    code = 1
    try:
        os.setsid()
        _follow_parent()
        link.close()
        _volunteer()
        faulthandler.enable()
        _Session(Connection(handle), board).serve()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _volunteer() -> None:
    """Let the system take this process first when memory runs out."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        return


class _Session:
    """A worker: answers one message at a time and keeps the board up to date."""

    def __init__(self, link: Connection, board: int) -> None:
        self._link = link
        self._board = mmap.mmap(board, BOARD.size)
        self._count = 0
        self._bench: Bench | None = None

    def _progress(self, phase: str, key: int) -> None:
        self._count += 1
        BOARD.pack_into(self._board, 0, PHASES.index(phase), key, self._count)

    def serve(self) -> None:
        """Answer messages until the parent closes the connection."""
        while True:
            try:
                message = json.loads(self._link.recv_bytes())
            except EOFError:
                return
            try:
                answer = {"answer": getattr(self, "do_" + message.pop("do"))(**message)}
            except Lost as lost:
                answer = {"lost": [lost.key, lost.failure, lost.reason]}
            except HwkitError as error:
                answer = {"error": type(error).__name__, "reason": str(error)}
            except BaseException as error:
                traceback.print_exc()
                answer = {"error": "HwkitError", "reason": cause(error)}
            if self._bench is not None and self._bench.device.lost:
                answer["device_lost"] = True
            self._link.send_bytes(json.dumps(answer).encode())

    @property
    def bench(self) -> Bench:
        """The Bench, once the device is open."""
        assert self._bench is not None
        return self._bench

    def do_open(self, device: str, cold: bool, folder: str) -> None:
        """Open the device."""
        self._progress("open", -1)
        opened = registry().device(device)
        opened = opened.with_cold_caches() if cold else opened
        self._bench = Bench(opened, self._progress, Path(folder))
        self._progress("idle", -1)

    def do_prepare(self, problem: str, seed: int) -> float:
        """Make inputs and references."""
        return self.bench.prepare(registry().op(problem.split(maxsplit=1)[0]).parse(problem), seed)

    def _kernel(self, name: str) -> Kernel:
        for kernel in registry().kernels(self.bench.device, self.bench.problem.op.name):
            if kernel.name == name:
                return kernel
        raise HwkitError(f"the worker process has no kernel {name!r}: install its plugin")

    def do_check(self, key: int, kernel: str, config: dict[str, Any]) -> dict[str, Any]:
        """Build and check a candidate."""
        return asdict(self.bench.check(key, self._kernel(kernel), Config(config)))

    def do_build_ahead(self, candidates: list[tuple[str, dict[str, Any]]]) -> None:
        """Build candidates at the same time."""
        self.bench.build_ahead([(self._kernel(n), Config(c)) for n, c in candidates])

    def do_rebuild(self, key: int, kernel: str, config: dict[str, Any], repeats: int) -> None:
        """Build a candidate that was checked by a worker before this one."""
        self.bench.rebuild(key, self._kernel(kernel), Config(config), repeats)

    def do_sample(self, keys: list[int]) -> list[list[float | bool]]:
        """Take one sample of each."""
        return [list(sample) for sample in self.bench.sample(keys)]

    def do_drop(self, keys: list[int]) -> None:
        """Let go of candidates."""
        self.bench.drop(keys)

    def do_ceilings(self) -> dict[str, float]:
        """Measure the ceilings of the device."""
        self._progress("prepare", -1)
        return self.bench.ceilings()
