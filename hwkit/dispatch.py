"""What runs: the plan table, and the ways into it.

Only a call that :mod:`hwkit.calls` has not seen before asks the registry and the records.
"""

from __future__ import annotations

import inspect
import sys
import time
import warnings
from collections.abc import Callable, Container, Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from .arrays import spec_of
from .backend import Device, Kernel
from .calls import PlanTable, fastest, operand_names
from .errors import (
    ArgumentError,
    HwkitError,
    HwkitWarning,
    KernelFailure,
    NoKernel,
    Unavailable,
    shown,
)
from .op import Op, Problem
from .plans import Plan
from .preference import in_use, preferred, use
from .proof import compare, disproof, known
from .records import Database
from .registry import registry
from .selection import Selection, Tolerance, check_tolerance, refutation, select
from .settings import settings

__all__ = [
    "call",
    "database",
    "forget",
    "parse_problem",
    "plan",
    "plan_problem",
    "selection",
    "use",
]


def _plan_call(
    op: Op,
    operands: tuple[Any, ...],
    arguments: tuple[Any, ...],
    device: str | None,
    tolerance: Tolerance,
) -> Plan:
    named = dict(zip(op.arguments, arguments, strict=True))
    return plan_problem(op.problem(*_specs(op, operands), **named), device, tolerance)


def _specs(op: Op, operands: tuple[Any, ...]) -> Iterable[Any]:
    return map(spec_of, operands, operand_names(op, len(operands)))


call = fastest(PlanTable(_plan_call, in_use))
"""Run an Op: one look into the table, then the Plan. For the public functions.

Args:
    op: the Op.
    operands: arrays in the order of ``op.problem``; ``None`` where left out.
    arguments: values of ``op.arguments``.
    out: array for the result, or ``None``.
    device: device name, or ``None`` for those of :func:`use`, or the default device.
    tolerance: relative error that the answer may have, or a policy.
"""


def plan(
    op: str | Op,
    *operands: Any,
    device: str | None = None,
    tolerance: Tolerance = None,
    stream: Any = None,
    **arguments: Any,
) -> Plan:
    """Plan a call once, as in ``plan("conv2d", x, w, bias, padding=1)``.

    Args:
        op: name of the Op.
        operands: arrays, or anything with ``shape`` and ``dtype``, of the shapes that the Op has:
            those of the public function, but for ``matmul`` and ``qmatmul`` stacks ``(batch, m,
            k)`` (or take ``gemm``), for ``elementwise`` ``(b, n, c, l)`` and ``(b, 1, c, 1)``.
        device: device name; those of :func:`use`, or the default device, if ``None``.
        tolerance: relative error that the answer may have, ``"strict"`` or ``"deterministic"``.
        stream: of the device, where all work goes, as of :meth:`Plan.on`; if ``None``, where the
            library of the arrays works at each call.
        arguments: as of the public function.

    Raises:
        ArgumentError: an argument is not legal.
        DtypeError: a dtype is not.
        NoKernel: nothing takes the problem; the message says why.
        Unavailable: the device cannot be opened.
    """
    if not isinstance(op, (str, Op)):
        raise ArgumentError(f"op={shown(op)} must be the name of an operator: type 'hwkit ops'")
    contract = registry().op(op) if isinstance(op, str) else op
    try:
        problem = contract.problem(*_specs(contract, operands), **arguments)
    except TypeError:
        _check_arguments(contract, operands, arguments)
        raise
    made = plan_problem(problem, device, tolerance)
    return made if stream is None else made.on(stream)


def _check_arguments(op: Op, operands: tuple[Any, ...], arguments: Mapping[str, Any]) -> None:
    """Check that a call has the arguments that an Op takes.

    Raises:
        ArgumentError: one is missing, unknown, or too many.
    """
    try:
        inspect.signature(op.problem).bind(*operands, **arguments)
    except TypeError as error:
        raise ArgumentError(f"{op.name}: {error}: type help(hwkit.ops.{op.name})") from None


def plan_problem(
    problem: Problem | str,
    device: str | None = None,
    tolerance: Tolerance = None,
    storage: str | None = None,
    records: Database | bool = True,
) -> Plan:
    """Return a new Plan for a Problem or its text, on the first device that can.

    Args:
        problem: what to compute.
        device: device name; those of :func:`use`, or the default device, if ``None``.
        tolerance: relative error that the answer may have, ``"strict"`` or ``"deterministic"``.
        storage: dtype in which packed constants are kept; their own if ``None``.
        records: whether records count; a Database counts instead of the process's own.
    """
    problem = parse_problem(problem)
    wanted = _Wanted(check_tolerance(tolerance), storage, records)
    names, fallback = preferred(device)
    return _plan_on_one_of(problem, names, fallback, wanted)


class _Wanted(NamedTuple):
    """What a call asks for besides the Problem and the device."""

    tolerance: Tolerance
    storage: str | None = None
    records: Database | bool = True


def _plan_on_one_of(
    problem: Problem, names: tuple[str, ...], fallback: str, wanted: _Wanted
) -> Plan:
    first: NoKernel | Unavailable | None = None
    for position, name in enumerate(names, 1):
        try:
            made = _plan_on(problem, name, wanted)
        except (NoKernel, Unavailable) as error:
            if fallback == "error":
                raise
            first = first or error
            continue
        if first is not None and fallback == "warn":
            _say_elsewhere(problem, name, names[0], first)
        rest = names[position:]
        if fallback != "error" and rest:
            make = partial(_plan_on_one_of, problem, rest, fallback, wanted)
            made.fall_back(_Substitute(problem, name, make, fallback == "warn"))
        return made
    raise first if first is not None else ArgumentError("use() needs at least one device")


class _Substitute:
    """The plan on the next device, made when the first fails while it runs, with one warning."""

    def __init__(self, problem: Problem, failed: str, make: Callable[[], Plan], warn: bool) -> None:
        self._problem, self._failed, self._make, self._warn = problem, failed, make, warn
        self._plan: Plan | None = None

    def __call__(self, error: HwkitError) -> Plan:
        if self._plan is None:
            try:
                self._plan = self._make()
            except (NoKernel, Unavailable):
                raise error from None
            if self._warn:
                _say_elsewhere(self._problem, str(self._plan.device), self._failed, error)
        return self._plan


def _say_elsewhere(problem: Problem, name: str, wanted: str, error: HwkitError) -> None:
    warnings.warn(
        f"'{problem}' runs on {name}, not on {wanted}: {error}", HwkitWarning, stacklevel=6
    )


def _plan_on(
    problem: Problem,
    device_name: str,
    wanted: _Wanted,
    without: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """Return a Plan on one device, by none of the kernels in ``without``, which failed."""
    start = time.perf_counter()
    device = registry().device(device_name)
    failed = dict(without)
    while True:
        try:
            chosen = _selection(problem, device, wanted, failed)
        except NoKernel as error:
            if not failed:
                raise
            reasons = "; ".join(f"{name}: {why}" for name, why in failed.items())
            raise NoKernel(
                f"what {device} has for '{problem}' fails ({reasons}), and nothing else "
                f"takes it: choose another device or tolerance"
            ) from error
        try:
            why = _compared(problem, device, chosen, wanted.tolerance)
            if why is not None:
                failed[chosen.kernel.name] = why
                continue
            made = Plan(
                problem, device, chosen.kernel, chosen.config,
                source=chosen.source, match=chosen.match,
                replan=partial(
                    plan_problem, device=device_name, tolerance=wanted.tolerance,
                    records=wanted.records,
                ),
            )  # fmt: skip
        except KernelFailure as error:
            failed[chosen.kernel.name] = str(error)
            warnings.warn(
                f"kernel {chosen.kernel.name} of {device} is left out for '{problem}', it failed "
                f"to build ({error.failure}): {error}{_advice(chosen.plugin)}",
                HwkitWarning,
                stacklevel=6,
            )
            continue
        again = partial(_plan_on, problem, device_name, wanted)
        made.replace_by(partial(_another, chosen.kernel, failed, again), bool(chosen.plugin))
        if settings().trace:
            seconds = time.perf_counter() - start
            print(f"hwkit: {made!r} planned in {seconds:.6f} s", file=sys.stderr)
        return made


def _compared(
    problem: Problem, device: Device, chosen: Selection, tolerance: Tolerance
) -> str | None:
    """Compare a plugin's kernel that was not yet; return why it is not to run, or ``None``.

    Raises:
        KernelFailure: it cannot be built.
    """
    if not chosen.plugin or chosen.proof is not None:
        return None
    chosen.proof = compare(database(), device, problem, chosen)
    if chosen.proof is None:
        return None
    return disproof(chosen.kernel, problem, chosen.config, chosen.proof, tolerance)


def _advice(plugin: str) -> str:
    return f"; mend it, or set HWKIT_DISABLE_PLUGINS={plugin}" if plugin else ""


def _another(
    kernel: Kernel,
    failed: Mapping[str, str],
    plan: Callable[[Mapping[str, str]], Plan],
    error: HwkitError,
) -> Plan | None:
    """Return the Plan by the next kernel of a device, with a warning, when one fails in a call."""
    try:
        made = plan({**failed, kernel.name: str(error)})
    except (NoKernel, Unavailable):
        return None
    warnings.warn(
        f"{error}; {made.kernel.name} runs instead, in this process", HwkitWarning, stacklevel=5
    )
    return made


def selection(
    problem: Problem | str, device: str | None = None, tolerance: Tolerance = None
) -> Selection:
    """Return what would run for a Problem on one device, and all that was considered."""
    problem = parse_problem(problem)
    opened = registry().device(preferred(device)[0][0])
    return _selection(problem, opened, _Wanted(check_tolerance(tolerance)), ())


def _selection(
    problem: Problem, device: Device, wanted: _Wanted, without: Container[str]
) -> Selection:
    kernels = [k for k in registry().kernels(device, problem.op.name) if k.name not in without]
    kept = database() if wanted.records is True else wanted.records
    refuted: dict[str, str] = {}
    while True:
        matches = kept.candidates(problem, device.arch, device.fingerprint) if kept else ()
        chosen = select(
            problem, device, kernels, matches, wanted.tolerance, wanted.storage, refuted
        )
        reason = _refuted(problem, device, chosen, wanted.tolerance)
        if reason is None:
            return chosen
        refuted[chosen.kernel.name] = reason


def _refuted(
    problem: Problem, device: Device, chosen: Selection, tolerance: Tolerance
) -> str | None:
    """Return why what was chosen must not run, by what was seen of it here, or ``None``."""
    kernel, config = chosen.kernel, chosen.config
    chosen.plugin = registry().stranger(kernel)
    if chosen.plugin:
        chosen.proof = known(database(), device, problem, chosen)
        if chosen.proof is None:
            return None
        return disproof(kernel, problem, config, chosen.proof, tolerance)
    if chosen.source != "default" or not chosen.others:
        return None
    trials = database().trials(problem, device.fingerprint, kernel.name, kernel.version)
    return refutation(config, trials)


def parse_problem(problem: Problem | str) -> Problem:
    """Return a Problem, read from its text if need be.

    Raises:
        ArgumentError: the text names no Op, or cannot be read.
    """
    if isinstance(problem, Problem):
        return problem
    if not isinstance(problem, str):
        raise ArgumentError(
            f"a problem of type {type(problem).__name__} cannot be read: write it as 'gemm float32 "
            "nn m=64 n=64 k=64', or take plan.problem"
        )
    words = problem.split()
    if not words:
        raise ArgumentError(
            "the problem is empty: write 'gemm float32 nn m=64 n=64 k=64', or type 'hwkit ops'"
        )
    return registry().op(words[0]).parse(problem)


def forget() -> None:
    """Drop all plans, so that the next call of each kind asks the records again."""
    call.clear()


@cache
def database() -> Database:
    """Return the Database of this process: the user's records over the shipped ones."""
    path = settings().db
    if path is None:
        import platformdirs

        path = Path(platformdirs.user_data_dir("hwkit", appauthor=False)) / "tuning.db"
    return Database(path, shipped=registry().record_files())
