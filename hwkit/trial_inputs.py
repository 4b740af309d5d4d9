"""Inputs of a trial: random operands on the device, their checksums, and the float64 answers."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .backend import Device
from .contention import on_host_clock
from .guard import checksum
from .memory import on_line
from .op import Problem

__all__ = ["TrialInput", "trial_inputs"]

Array = np.ndarray[Any, Any]

# Checksums of larger operands would cost more than they could show.
_MOST_CHECKSUM = 64 * 2**20


@dataclass
class TrialInput:
    """Operands on the device, their checksums, and the float64 answer.

    Attributes:
        problem: what they are operands of.
        device: where they are.
        buffers: the operands, in the order of the Problem.
        checksums: theirs before any run; ``None`` for an operand that is too large.
        reference: the answer in float64.
    """

    problem: Problem
    device: Device
    buffers: list[Any]
    checksums: list[int | None]
    reference: Array

    def changed(self) -> str | None:
        """Return the name of an operand that is no longer what it was, or ``None``."""
        for operand, buffer, before in zip(
            self.problem.operands, self.buffers, self.checksums, strict=True
        ):
            if before is not None and checksum(self.device.get(buffer)) != before:
                return operand.name
        return None


def trial_inputs(
    problem: Problem, device: Device, seed: int, folder: Path | None = None
) -> list[TrialInput]:
    """Return two inputs, so that an answer learnt by heart is wrong for one of them.

    Args:
        problem: what is to be computed.
        device: where the operands are put.
        seed: of the random operands.
        folder: where references are kept for the process that follows a crash.
    """
    seeds = 2 * seed, 2 * seed + 1
    if on_host_clock(
        device
    ):  # where candidates run in it, there may not be memory for both at once
        made = [_on_host(problem, s, folder) for s in seeds]
    else:
        with ThreadPoolExecutor(2) as pool:
            made = [*pool.map(lambda s: _on_host(problem, s, folder), seeds)]
    return [
        TrialInput(problem, device, [device.put(a) for a in operands], checksums, reference)
        for operands, checksums, reference in made
    ]


def _on_host(
    problem: Problem, seed: int, folder: Path | None
) -> tuple[list[Array], list[int | None], Array]:
    """Return operands, their checksums, and the answer, as the host has them."""
    operands = [on_line(a) for a in problem.random_operands(seed)]
    checksums = [checksum(a) if a.nbytes <= _MOST_CHECKSUM else None for a in operands]
    reference = _kept_reference(problem, operands, seed, folder)
    return operands, checksums, reference


def _kept_reference(
    problem: Problem, operands: Sequence[Array], seed: int, folder: Path | None
) -> Array:
    """Return the float64 answer, from the folder if it is there."""
    if folder is None:
        return _reference(problem, operands)
    file = folder / f"{zlib.crc32(problem.text.encode()):08x}-{seed}.npy"
    if not file.exists():
        partial = file.with_suffix(".part.npy")
        np.save(partial, _reference(problem, operands))
        os.replace(partial, file)
    # Mapped: a reference is as large as two float32 outputs, and every process needs it.
    mapped: Array = np.load(file, mmap_mode="r")
    return mapped


def _reference(problem: Problem, operands: Sequence[Array]) -> Array:
    wide = [a if a.dtype.kind in "iub" else a.astype(np.float64) for a in operands]
    with np.errstate(all="ignore"):
        return np.asarray(problem.reference(*wide))
