"""Shortlist: Configs that a compiler found fit for a device, made where the device is not.

A file of JSON lines, one for each Problem and Kernel, from which a search on the device starts.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .backend import Device, Kernel
from .candidate import Candidate
from .config import Config
from .errors import DatabaseError
from .op import Problem

__all__ = ["Entry", "Shortlist", "compile_only"]

FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """What is known of one Kernel for one Problem.

    Attributes:
        problem: its text.
        kernel: name of the Kernel.
        version: of the Kernel.
        arch: for which it was compiled.
        configs: that can be launched, the default first if it is among them.
        pruned: what cannot be launched, counted by reason.
    """

    problem: str
    kernel: str
    version: int
    arch: str
    configs: tuple[Config, ...]
    pruned: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "format": FORMAT,
            "problem": self.problem,
            "kernel": self.kernel,
            "version": self.version,
            "arch": self.arch,
            "configs": [dict(config) for config in self.configs],
            "pruned": dict(self.pruned),
        }

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Entry:
        """Return what :meth:`to_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        if data.get("format") != FORMAT:
            raise ValueError(f"format {data.get('format')!r} is not {FORMAT}")
        return cls(
            str(data["problem"]), str(data["kernel"]), int(data["version"]), str(data["arch"]),
            tuple(Config(values) for values in data["configs"]),
            {str(reason): int(count) for reason, count in data["pruned"].items()},
        )  # fmt: skip


@dataclass(frozen=True)
class Shortlist:
    """Entries, as a file holds them."""

    entries: Sequence[Entry] = ()

    def write(self, path: Path) -> None:
        """Write JSON lines."""
        lines = [json.dumps(entry.to_json(), sort_keys=True) for entry in self.entries]
        path.write_text("".join(line + "\n" for line in lines), "utf-8")

    @classmethod
    def read(cls, path: Path) -> Shortlist:
        """Return what a file holds.

        Raises:
            DatabaseError: it cannot be read as a shortlist.
        """
        try:
            lines = path.read_text("utf-8").splitlines()
            return cls([Entry.of_json(json.loads(line)) for line in lines if line.strip()])
        except (OSError, ArithmeticError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = getattr(error, "strerror", None) or error
            reason = f"a line lacks {error}" if isinstance(error, KeyError) else reason
            raise DatabaseError(
                f"{path} is no shortlist ({reason}): make one with 'hwkit tune --compile-only'"
            ) from error

    def of(self, problem: Problem, arch: str) -> list[tuple[str, int, Config]]:
        """Return kernel, version and Config of what to try for a Problem, by turns."""
        mine = [e for e in self.entries if (e.problem, e.arch) == (problem.text, arch)]
        longest = max((len(e.configs) for e in mine), default=0)
        return [
            (e.kernel, e.version, e.configs[i])
            for i in range(longest)
            for e in mine
            if i < len(e.configs)
        ]


def compile_only(
    problem: Problem,
    device: Device,
    kernels: Iterable[Kernel],
    *,
    trials: int,
    deadline: float,
    seed: int = 0,
    progress: Callable[[Entry], None] = lambda entry: None,
) -> list[Entry]:
    """Return what can be launched of each Kernel's Space, without launching anything.

    Args:
        problem: what is computed.
        device: one for which kernels can be compiled; it need not be there.
        kernels: those that support the Problem.
        trials: most Configs to look at for each Kernel.
        deadline: when to stop, on the monotonic clock; Kernels have equal shares of the time.
        seed: of the random choice of Configs; the default is always the first.
        progress: told each Entry.
    """
    entries, able = [], list(kernels)
    for number, kernel in enumerate(able):
        rng = random.Random(f"{seed} {problem} {kernel.name}")
        now = time.monotonic()
        end = now + (deadline - now) / (len(able) - number)
        fit: list[Config] = []
        pruned: dict[str, int] = {}
        try:
            _compile(kernel, problem, _sample(kernel, problem, trials, rng), end, fit, pruned)
        finally:
            # Ctrl-C in the middle of a kernel keeps what was compiled of it.
            if fit or pruned:
                facts = problem.text, kernel.name, kernel.version, device.arch
                entries.append(Entry(*facts, tuple(fit), pruned))
                progress(entries[-1])
    return entries


def _sample(kernel: Kernel, problem: Problem, count: int, rng: random.Random) -> list[Config]:
    space, found = kernel.space(problem), {kernel.default(problem): None}
    for _ in range(8 * count):
        if len(found) >= count:
            break
        found.setdefault(space.sample(rng))
    return [*found]


def _compile(
    kernel: Kernel,
    problem: Problem,
    configs: Iterable[Config],
    deadline: float,
    fit: list[Config],
    pruned: dict[str, int],
) -> None:
    """Compile Configs into those that fit, and the counts of why others do not."""
    for config in configs:
        if time.monotonic() > deadline and fit:
            break
        reason = Candidate.why_not(kernel, problem, config)
        if reason is None:
            fit.append(config)
        else:
            pruned[reason] = pruned.get(reason, 0) + 1
