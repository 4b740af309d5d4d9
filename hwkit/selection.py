"""Which Kernel and Config a Problem gets, from which record, and who declined and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from types import MappingProxyType

from .answers import Tolerance, asked, by_rank, default_of, illegal, misfit
from .backend import Device, Kernel
from .config import Config
from .errors import ArgumentError, NoKernel, shown
from .op import Problem
from .records import Match, Record

__all__ = ["Selection", "Tolerance", "by_reason", "check_tolerance", "refutation", "select"]

POLICIES = ("strict", "deterministic")

# Beyond this log-distance of sizes (a factor of 1.4 in one of them) the default of the analytical
# model is the better guess: another stride alone made a convolution 2.3 times slower.
NEAREST = 0.35


@dataclass
class Selection:
    """What was chosen for a Problem on a Device, and everything that was considered.

    Attributes:
        kernel: the Kernel.
        config: its Config.
        source: as in ``Plan.source``.
        match: the record it comes from, if it comes from one.
        declined: kernel name to the reason why it does not take the problem.
        rejected: records that were looked at and not used, with the reason.
        others: kernels that would have taken the problem.
        plugin: which brought the kernel, ``""`` if it ships with hwkit.
        proof: the trial in which a plugin's kernel was last compared with the reference here, if
            there is one.
    """

    kernel: Kernel
    config: Config
    source: str = "default"
    match: Match | None = None
    declined: dict[str, str] = field(default_factory=dict)
    rejected: list[tuple[Record, str]] = field(default_factory=list)
    others: tuple[str, ...] = ()
    plugin: str = ""
    proof: Record | None = None


def check_tolerance(tolerance: Tolerance) -> Tolerance:
    """Return ``tolerance`` if it is legal.

    Raises:
        ArgumentError: it is neither a positive number nor a policy.
    """
    if tolerance is None or (isinstance(tolerance, str) and tolerance in POLICIES):
        return tolerance
    if isinstance(tolerance, Real) and not isinstance(tolerance, bool) and tolerance > 0:
        return float(tolerance)
    raise ArgumentError(
        f"tolerance={shown(tolerance)} must be a relative error above 0, or one of "
        + ", ".join(POLICIES)
    )


def select(
    problem: Problem,
    device: Device,
    kernels: Iterable[Kernel],
    matches: Iterable[Match],
    tolerance: Tolerance = None,
    storage: str | None = None,
    refuted: Mapping[str, str] = MappingProxyType({}),
) -> Selection:
    """Return the first record that counts, otherwise the default of the kernel of highest rank.

    Args:
        problem: what to compute.
        device: where.
        kernels: the device's Kernels for the problem's Op.
        matches: records in order of preference.
        tolerance: relative error that the answer may have, ``"strict"``, ``"deterministic"``, or
            ``None`` for the Op's budget.
        storage: only kernels that keep packed constants in this dtype; ``None`` for their own.
        refuted: kernels that are not to run, with the reason.

    Raises:
        NoKernel: names the device, the problem, each kernel asked, and why it declined.
    """
    able, declined = _able(problem, list(kernels), storage, refuted)
    rejected: list[tuple[Record, str]] = []
    for match in matches if able else ():
        reason = _other_threads(match, device) or _why_not(match, able, problem, tolerance)
        if reason is None:
            kernel = able.pop(match.record.kernel)
            return Selection(
                kernel, match.record.config, match.source, match, declined, rejected, tuple(able)
            )
        rejected.append((match.record, reason))
        if match.source == "nearest record" and match.distance > NEAREST:
            break  # They come in the order of distance: what follows is farther still.
    chosen = _default(problem, able, declined, tolerance)
    if chosen is None:
        raise NoKernel(_no_kernel(problem, device, declined))
    others = tuple(name for name in able if name != chosen[0].name)
    return Selection(*chosen, "default", None, declined, rejected, others)


def _able(
    problem: Problem, kernels: list[Kernel], storage: str | None, refuted: Mapping[str, str]
) -> tuple[dict[str, Kernel], dict[str, str]]:
    """Return the kernels that take a Problem, and why each other declined.

    Raises:
        NoKernel: none of them keeps constants in ``storage`` at all.
    """
    kept = sorted({k.storage for k in kernels if k.storage is not None})
    if storage is not None and storage not in kept:
        raise NoKernel(
            f"no kernel of {problem.op.name} here keeps packed constants in storage={storage!r}: "
            f"{'choose one of ' + ', '.join(kept) if kept else 'leave it out'}"
        )
    able: dict[str, Kernel] = {}
    declined: dict[str, str] = {}
    for kernel in kernels:
        answer = asked(kernel, problem)
        if answer is True and kernel.storage != storage:
            own = f"in {kernel.storage}" if kernel.storage else "in their own dtype"
            declined[kernel.name] = f"it keeps packed constants {own}"
        elif answer is True and kernel.name in refuted:
            declined[kernel.name] = refuted[kernel.name]
        elif answer is True:
            able[kernel.name] = kernel
        else:
            declined[kernel.name] = answer or "it does not support this problem"
    return able, declined


def _default(
    problem: Problem, able: dict[str, Kernel], declined: dict[str, str], tolerance: Tolerance
) -> tuple[Kernel, Config] | None:
    """Return the default of the highest rank that fits; say of the others why they do not."""
    for kernel in by_rank(able.values(), problem, declined):
        config = default_of(kernel, problem)
        if isinstance(config, str):
            declined[kernel.name] = config
            continue
        reason = misfit(kernel, problem, config, None, tolerance)
        if reason is None:
            return kernel, config
        declined[kernel.name] = reason
    return None


def refutation(config: Config, trials: Iterable[Record]) -> str | None:
    """Return why a Config must not run, by what tuning saw of its Kernel here, or ``None``."""
    mine = [t for t in trials if t.config == config]
    last = max(mine, key=lambda t: t.created, default=None)
    if last is None or last.measurement.failure != "wrong":
        return None
    return f"its default was wrong here: {last.measurement.reason}"


def by_reason(declined: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the names of kernels that declined, by reason."""
    names: dict[str, list[str]] = {}
    for name, why in declined.items():
        names.setdefault(why, []).append(name)
    return names


def _no_kernel(problem: Problem, device: Device, declined: dict[str, str]) -> str:
    if not declined:
        return f"no kernel of {device} does {problem.op}: type 'hwkit ops --device {device}'"
    reasons = "; ".join(f"{', '.join(n)}: {why}" for why, n in by_reason(declined).items())
    return (
        f"no kernel of {device} takes '{problem}' ({reasons}): choose another device or tolerance"
    )


def _other_threads(match: Match, device: Device) -> str | None:
    """Return why a record of another device is none for this one's threads, or ``None``.

    Work is cut for as many threads as there were: the best of one thread took twice the time of
    the default on two.
    """
    theirs = match.record.fingerprint.identity.get("threads")
    mine = device.fingerprint.identity.get("threads")
    if match.same_device or theirs == mine:
        return None
    return f"it was measured with threads={theirs}, here are threads={mine}"


def _why_not(
    match: Match, able: dict[str, Kernel], problem: Problem, tolerance: Tolerance
) -> str | None:
    """Return why a record does not count for this call, or ``None`` if it does."""
    record = match.record
    kernel = able.get(record.kernel)
    if kernel is None:
        return f"kernel {record.kernel} is not there or does not take this problem"
    if kernel.version != record.version:
        return (
            f"kernel {kernel.name} is version {kernel.version}, the record is of {record.version}"
        )
    if not problem.packed and record.problem.endswith(" packed"):
        return "it was measured with packed constants"
    if match.source == "nearest record" and match.distance > NEAREST:
        return f"its sizes are too far away (distance {match.distance:.2f})"
    why = illegal(kernel, problem, record.config)
    if why is not None:
        return why
    return misfit(kernel, problem, record.config, record.measurement.error, tolerance)
