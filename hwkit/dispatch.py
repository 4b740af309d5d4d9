"""What runs: the plan table, and the ways into it.

A call makes a key of shapes, dtypes and arguments and looks it up in one dict; only a miss asks the
registry and the records. Readers take no lock: a Plan is complete before it enters the table.
"""

from __future__ import annotations

import contextvars
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import platformdirs

from .arrays import host_view, spec_of
from .errors import ArgumentError, HwkitWarning, KernelFailure, NoKernel, Unavailable
from .op import Op, Problem
from .plans import Plan
from .records import Database
from .registry import registry
from .selection import Selection, Tolerance, check_tolerance, select
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

FALLBACKS = ("error", "warn", "silent")

# Shapes that never repeat must not fill the memory; a plan is cheap to make again.
_MOST_PLANS = 4096

_table: dict[Any, Plan] = {}

# The devices in order, and what to do when the first cannot: (names, fallback), or None.
_in_use: contextvars.ContextVar[tuple[tuple[str, ...], str] | None] = contextvars.ContextVar(
    "hwkit_use", default=None
)


def call(
    op: Op,
    operands: tuple[Any, ...],
    arguments: tuple[Any, ...],
    out: Any = None,
    device: str | None = None,
    tolerance: Tolerance = None,
) -> Any:
    """Run ``op``: one look into the table, then the Plan.

    Args:
        op: the Op.
        operands: arrays in the order of ``op.problem``; ``None`` where left out.
        arguments: values of ``op.arguments``.
        out: array for the result, or ``None``.
        device: device name, or ``None`` for those of :func:`use`, or the default device.
        tolerance: relative error that the answer may have, or a policy.
    """
    x = operands[0]
    key: tuple[Any, ...] | None
    try:
        if len(operands) == 1:
            key = op.name, arguments, device, tolerance, _in_use.get(), x.shape, x.dtype
        else:
            w = operands[1]
            # Shapes of the epilogue's operands follow from these two; the plan checks them.
            key = (
                op.name, arguments, device, tolerance, _in_use.get(), x.shape, x.dtype,
                w.shape, w.dtype, *[a is None for a in operands[2:]],
            )  # fmt: skip
        found = _table.get(key)
    except (AttributeError, TypeError):
        # Lists and numbers have no shape; a list as an argument cannot be hashed.
        key = found = None
    if found is None:
        operands = tuple([a if _is_array(a) else host_view(a) for a in operands])
        found = _remember(key, op, operands, arguments, device, tolerance)
    count = len(found.operands)
    if count != len(operands):
        # An Op's first two operands are always there.
        operands = operands[:2] if count == 2 else tuple([a for a in operands if a is not None])
    return found(*operands, out=out)


def _is_array(array: Any) -> bool:
    return array is None or (hasattr(array, "shape") and hasattr(array, "dtype"))


def _remember(
    key: tuple[Any, ...] | None,
    op: Op,
    operands: tuple[Any, ...],
    arguments: tuple[Any, ...],
    device: str | None,
    tolerance: Tolerance,
) -> Plan:
    problem = op.problem(*map(spec_of, operands), **dict(zip(op.arguments, arguments, strict=True)))
    made = plan_problem(problem, device, tolerance)
    if key is not None:
        if len(_table) >= _MOST_PLANS:
            _table.clear()
        _table[key] = made
    return made


def plan(
    op: str | Op,
    *operands: Any,
    device: str | None = None,
    tolerance: Tolerance = None,
    **arguments: Any,
) -> Plan:
    """Plan a call once, as in ``plan("conv2d", x, w, bias, padding=1)``.

    Args:
        op: name of the Op.
        operands: arrays, or anything with ``shape`` and ``dtype``.
        device: device name; the default device if ``None``.
        tolerance: relative error that the answer may have, ``"strict"`` or ``"deterministic"``.
        arguments: as of the public function.

    Raises:
        ArgumentError: an argument is not legal.
        DtypeError: a dtype is not.
        NoKernel: nothing takes the problem; the message says why.
    """
    contract = registry().op(op) if isinstance(op, str) else op
    try:
        problem = contract.problem(*map(spec_of, operands), **arguments)
    except TypeError as error:
        if isinstance(error, ArgumentError) or "argument" not in str(error):
            raise
        raise ArgumentError(
            f"{contract.name}: {error}: type help(hwkit.ops.{contract.name})"
        ) from None
    return plan_problem(problem, device, tolerance)


def plan_problem(
    problem: Problem | str, device: str | None = None, tolerance: Tolerance = None
) -> Plan:
    """Return a new Plan for a Problem or its text, on the first device that can."""
    problem = parse_problem(problem)
    check_tolerance(tolerance)
    names, fallback = _devices(device)
    first: NoKernel | Unavailable | None = None
    for name in names:
        try:
            made = _plan_on(problem, name, tolerance)
        except (NoKernel, Unavailable) as error:
            if fallback == "error":
                raise
            first = first or error
            continue
        if first is not None and fallback == "warn":
            warnings.warn(
                f"'{problem}' runs on {name}, not on {names[0]}: {first}",
                HwkitWarning,
                stacklevel=4,
            )
        return made
    raise first if first is not None else ArgumentError("use() needs at least one device")


def _devices(device: str | None) -> tuple[tuple[str, ...], str]:
    if device is not None:
        return (str(device),), "error"
    return _in_use.get() or ((settings().device,), "error")


def _plan_on(problem: Problem, device_name: str, tolerance: Tolerance) -> Plan:
    start = time.perf_counter()
    device = registry().device(device_name)
    failed: set[str] = set()
    while True:
        chosen = selection(problem, device_name, tolerance, without=failed)
        try:
            made = Plan(
                problem, device, chosen.kernel, chosen.config,
                source=chosen.source, match=chosen.match,
                replan=partial(plan_problem, device=device_name, tolerance=tolerance),
            )  # fmt: skip
        except KernelFailure as error:
            failed.add(chosen.kernel.name)
            warnings.warn(
                f"kernel {chosen.kernel.name} of {device} is left out for '{problem}', it failed "
                f"to build ({error.failure}): {error}",
                HwkitWarning,
                stacklevel=6,
            )
            continue
        if settings().trace:
            seconds = time.perf_counter() - start
            print(f"hwkit: {made!r} planned in {seconds:.6f} s", file=sys.stderr)
        return made


def selection(
    problem: Problem | str,
    device: str | None = None,
    tolerance: Tolerance = None,
    without: frozenset[str] | set[str] = frozenset(),
) -> Selection:
    """Return what would run for a Problem on one device, and all that was considered."""
    problem = parse_problem(problem)
    opened = registry().device(_devices(device)[0][0])
    kernels = [k for k in registry().kernels(opened, problem.op.name) if k.name not in without]
    matches = database().candidates(problem, opened.arch, opened.fingerprint)
    return select(problem, opened, kernels, matches, check_tolerance(tolerance))


def parse_problem(problem: Problem | str) -> Problem:
    """Return a Problem, read from its text if need be.

    Raises:
        ArgumentError: the text names no Op, or cannot be read.
    """
    if isinstance(problem, Problem):
        return problem
    words = problem.split()
    if not words:
        raise ArgumentError(
            "the problem is empty: write 'gemm float32 nn m=64 n=64 k=64', or type 'hwkit ops'"
        )
    return registry().op(words[0]).parse(problem)


@contextmanager
def use(*devices: str, fallback: str = "warn") -> Iterator[None]:
    """Order the devices for the calls inside, in this thread or task.

    Args:
        devices: names, the preferred one first.
        fallback: what happens when the first cannot run a problem: ``"error"`` raises, ``"warn"``
            takes the next one and says so, ``"silent"`` takes it without a word.

    Raises:
        ArgumentError: no device, or an unknown ``fallback``.
    """
    if not devices or fallback not in FALLBACKS:
        raise ArgumentError(
            f"use({', '.join(map(repr, devices))}, fallback={fallback!r}) needs a device "
            f"and a fallback out of {', '.join(FALLBACKS)}"
        )
    token = _in_use.set((devices, fallback))
    try:
        yield
    finally:
        _in_use.reset(token)


def forget() -> None:
    """Drop all plans, so that the next call of each kind asks the records again."""
    _table.clear()


@cache
def database() -> Database:
    """Return the Database of this process: the user's records over the shipped ones."""
    path = settings().db or Path(platformdirs.user_data_dir("hwkit", appauthor=False)) / "tuning.db"
    return Database(path, shipped=registry().record_files())
