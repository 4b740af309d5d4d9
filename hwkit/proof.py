"""Proof: a kernel that does not ship with hwkit is compared with the reference before it runs.

What was tuned here has been compared. What was not runs once as in the tuner, on random inputs and
between guard zones, when it is planned for the first time; the outcome is a trial in the database
like any other, so that it is done once for each Problem and state of the kernel's module. A kernel
that fails does not run.
"""

from __future__ import annotations

import sys
import warnings
import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path

from .answers import Tolerance, asked, default_of, illegal, misfit
from .backend import Device, Kernel
from .config import Config
from .errors import HwkitError, HwkitWarning, KernelFailure, cause
from .measure import Measurement
from .op import Problem
from .records import Database, Record
from .records.ranking import CHECKED, is_check
from .selection import Selection

__all__ = ["MOST", "code", "compare", "disproof", "known", "stand_in"]

MOST = 2**31
"""The most that a comparison may cost, in floating-point operations: some tenths of a second."""

# What a byte costs beside the arithmetic: random numbers, and the reference where it is not BLAS.
_BYTE = 128


# A compiler may be installed, memory be free tomorrow.
_PASSING = "compile", "memory"


# Kernels of which a warning has said that they fail: a network asks for many problems.
_told: set[tuple[str, str, str]] = set()


def _cost(problem: Problem) -> int:
    return problem.flops + _BYTE * problem.nbytes


def stand_in(kernel: Kernel, problem: Problem, config: Config) -> tuple[Problem, Config]:
    """Return what to compare: this Problem, or where it is large a smaller one like it.

    The largest size is halved as often as it takes, and what is odd stays odd; the Config stays if
    it is legal there, otherwise it is the default.
    """
    small = problem
    while _cost(small) > MOST:
        smaller = _halved(kernel, small)
        if smaller is None:
            break
        small = smaller
    if small is problem or illegal(kernel, small, config) is None:
        return small, config
    default = default_of(kernel, small)
    return (problem, config) if isinstance(default, str) else (small, default)


def _halved(kernel: Kernel, problem: Problem) -> Problem | None:
    """Return the Problem with one size halved, which the Kernel takes too, or ``None``."""
    for name in sorted(problem.sizes, key=lambda n: -problem.sizes[n]):
        whole = problem.sizes[name]
        half = whole // 2
        sizes = {**problem.sizes, name: half + (half + whole) % 2}
        try:
            found = replace(problem, sizes=sizes)
            if _cost(found) < _cost(problem) and asked(kernel, found) is True:
                return found
        except HwkitError:
            continue
    return None


def known(database: Database, device: Device, problem: Problem, chosen: Selection) -> Record | None:
    """Return the last trial here of what was chosen, of the Problem or of what stands in for it."""
    match, kernel = chosen.match, chosen.kernel
    mine = match is not None and match.source == "user record" and match.same_device
    if match is not None and mine and not match.stale:
        return match.record
    here = device.arch, device.fingerprint
    for there, tried in (
        (problem, chosen.config),
        stand_in(kernel, problem, chosen.config),
    ):
        found = database.last(there, *here, (kernel.name, kernel.version, tried), _origin(kernel))
        if found is not None:
            return found
    return None


def _origin(kernel: Kernel) -> str:
    """Return the origin of a comparison, with the code that it is of: what is mended is another."""
    return f"{CHECKED}-{code(type(kernel).__module__)}".rstrip("-")


@cache
def code(module: str) -> str:
    """Return a checksum of a module's file, ``""`` if it has none."""
    file = getattr(sys.modules.get(module), "__file__", None)
    try:
        return "" if file is None else f"{zlib.crc32(Path(file).read_bytes()):08x}"
    except OSError:
        return ""


def disproof(
    kernel: Kernel, problem: Problem, config: Config, trial: Record, tolerance: Tolerance
) -> str | None:
    """Return why a Kernel is not to run, by its trial, or ``None``."""
    measured = trial.measurement
    if trial.ok:
        return misfit(kernel, problem, config, measured.error, tolerance)
    where = "" if trial.problem == problem.text else f" on '{trial.problem}'"
    then = "" if is_check(trial) else "; raise its version once it is mended"
    return (
        f"it failed{where} when it was compared with the reference ({measured.failure}): "
        f"{measured.reason}{then}"
    )


def compare(
    database: Database, device: Device, problem: Problem, chosen: Selection
) -> Record | None:
    """Compare a Kernel with the reference, and return the trial, which is kept.

    Returns:
        ``None``, with a warning, if there is no reference to compare with.

    Raises:
        KernelFailure: it cannot be built here, or memory does not suffice, which is not kept.
    """
    kernel = chosen.kernel
    problem, config = stand_in(kernel, problem, chosen.config)
    facts = problem.text, device.arch, device.fingerprint, kernel.name, kernel.version, config
    default = config == default_of(kernel, problem)
    record = None
    # Should it take the process down, the next one does not run it.
    token = database.begin(*facts, origin=_origin(kernel), default=default)
    try:
        measured = _measured(device, kernel, problem, config)
        if measured is None:
            return None
        if measured.failure in _PASSING:
            raise KernelFailure(measured.failure, measured.reason)
        record = Record(
            problem.text, problem.op.name, kernel.name, kernel.version, config, device.arch,
            device.fingerprint, measured, origin=_origin(kernel), default=default,
            strict=bool(kernel.strict(problem, config)),
            deterministic=bool(kernel.deterministic(problem, config)),
            workspace=kernel.workspace(problem, config),
        )  # fmt: skip
    finally:
        database.finish(token, record)
    name = chosen.plugin, kernel.op, kernel.name
    if not record.ok and name not in _told:
        _told.add(name)
        warnings.warn(
            f"kernel {kernel.name} of plugin {chosen.plugin!r} is left out for '{problem}', it "
            f"failed when it was compared with the reference ({measured.failure}): "
            f"{record.measurement.reason}; mend it, or set HWKIT_DISABLE_PLUGINS={chosen.plugin}; "
            "of other problems that it fails on, 'hwkit explain' tells",
            HwkitWarning,
            stacklevel=6,
        )
    return record


def _measured(
    device: Device, kernel: Kernel, problem: Problem, config: Config
) -> Measurement | None:
    from .runner import Lost  # late, both: few processes need them
    from .trial import Bench

    bench = Bench(device)
    try:
        try:
            bench.prepare(problem, 0)
        except Exception as error:  # the reference may be a stranger's too
            warnings.warn(
                f"kernel {kernel.name} of {kernel.op} runs without having been compared with the "
                f"reference of '{problem}', which failed with {cause(error)}",
                HwkitWarning,
                stacklevel=7,
            )
            return None
        checked = bench.check(0, kernel, config)
        if checked.failure is not None:
            return Measurement.failed(checked.failure, checked.reason, checked.error)
        try:
            return Measurement.of(bench.sample([0]), checked.error)
        except Lost as lost:
            return Measurement.failed(lost.failure, lost.reason, checked.error)
    finally:
        bench.close()
