"""Answers: what a Kernel says of a Problem, and what becomes of one whose own code fails.

A Kernel may be a stranger's. Where one of its methods raises, or returns what it must not, that
Kernel is left out with a warning that names it, and the others go on. So may an Op be.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Union

import numpy as np

from .backend import Kernel
from .config import Config
from .errors import HwkitError, HwkitWarning, KernelFailure, Unavailable, cause
from .op import Op, Problem
from .settings import settings

__all__ = [
    "Tolerance",
    "asked",
    "by_rank",
    "default_of",
    "illegal",
    "misfit",
    "over_limit",
    "sampled",
    "untunable",
]

Tolerance = Union[float, str, None]


def asked(kernel: Kernel, problem: Problem) -> bool | str:
    """Return what a Kernel says to a Problem: ``True``, or ``False`` or a reason why not."""
    try:
        answer = kernel.supports(problem)
        if isinstance(answer, str):
            return answer
        # A comparison of numpy numbers is a bool of its own.
        if isinstance(answer, (bool, np.bool_)):
            return bool(answer)
        raise TypeError(f"it returned {answer!r}, not True, False or a reason")
    except Unavailable:
        raise
    except (Exception, SystemExit) as error:
        return _left_out(kernel, "supports", error)


def by_rank(kernels: Iterable[Kernel], problem: Problem, declined: dict[str, str]) -> list[Kernel]:
    """Return Kernels, the highest rank first, ties by name; one that has no rank declines."""
    ranked: list[tuple[float, str, Kernel]] = []
    for kernel in kernels:
        try:
            ranked.append((-kernel.rank(problem), kernel.name, kernel))
        except (Exception, SystemExit) as error:
            declined[kernel.name] = _left_out(kernel, "rank", error)
    return [kernel for _, _, kernel in sorted(ranked, key=lambda r: r[:2])]


def default_of(kernel: Kernel, problem: Problem) -> Config | str:
    """Return the default Config of a Kernel, or why there is none."""
    try:
        config = kernel.default(problem)
        if not isinstance(config, Config):
            raise TypeError(f"it returned {config!r}, which is not a Config")
    except Unavailable:
        raise
    except (Exception, SystemExit) as error:
        return _left_out(kernel, "default", error)
    return config


def illegal(kernel: Kernel, problem: Problem, config: Config) -> str | None:
    """Return why a Config is outside a Kernel's Space, or ``None``."""
    try:
        why = kernel.space(problem).why_not(config)
    except (Exception, SystemExit) as error:
        return _left_out(kernel, "space", error)
    return None if why is None else f"its config is not legal here: {why}"


def untunable(kernel: Kernel, problem: Problem) -> str | None:
    """Return why a Kernel is not tuned for a Problem, or ``None``."""
    if kernel.storage is not None:
        return f"it keeps packed constants in {kernel.storage}, which only prepack asks for"
    answer = asked(kernel, problem)
    if answer is not True:
        return answer or "it does not support this problem"
    declined: dict[str, str] = {}
    if not by_rank([kernel], problem, declined):
        return declined[kernel.name]
    config = default_of(kernel, problem)
    if isinstance(config, str):
        return config
    try:
        kernel.space(problem).why_not(config)
        kernel.strict(problem, config)
        kernel.deterministic(problem, config)
    except (Exception, SystemExit) as error:
        return _left_out(kernel, "space, strict or deterministic", error)
    return None


def misfit(
    kernel: Kernel, problem: Problem, config: Config, error: float | None, tolerance: Tolerance
) -> str | None:
    """Return why a call does not run a kernel with this Config, or ``None``.

    Args:
        kernel: the Kernel.
        problem: which it supports.
        config: which is legal.
        error: measured relative error, NaN fits no tolerance; what the Kernel expects if ``None``.
        tolerance: of the call.
    """
    try:
        if tolerance == "strict" and not kernel.strict(problem, config):
            return "its arithmetic is not strict"
        if tolerance == "deterministic" and not kernel.deterministic(problem, config):
            return "its result is not deterministic"
        too_large = over_limit(kernel, problem, config)
        if too_large is not None:
            return too_large
        budget = problem.error_budget(tolerance)
        expected = kernel.error_bound(problem, config) if error is None else error
        # NaN must not pass.
        if expected <= budget:
            return None
        return f"its relative error {expected:.1e} exceeds {budget:.1e}"
    except (Exception, SystemExit) as failed:
        return _left_out(kernel, "own account of a config", failed)


def over_limit(kernel: Kernel, problem: Problem, config: Config) -> str | None:
    """Return why a Config's workspace is beyond ``HWKIT_WORKSPACE_LIMIT``, or ``None``."""
    limit = settings().workspace_limit
    if limit is None:
        return None
    try:
        needed = kernel.workspace(problem, config)
    except KernelFailure:
        return None  # The build will fail in the same way, and is handled there.
    if needed <= limit:
        return None
    return f"its workspace of {needed} bytes exceeds HWKIT_WORKSPACE_LIMIT={limit}"


def sampled(ops: Iterable[Op]) -> dict[Op, list[Problem]]:
    """Return the sample Problems of Ops; an Op that cannot read its own is left out."""
    found: dict[Op, list[Problem]] = {}
    for op in ops:
        try:
            found[op] = [op.parse(text) for text in op.samples]
        except HwkitError as error:
            warnings.warn(
                f"op {op.name!r} is left out, its samples cannot be read: {error}",
                HwkitWarning,
                stacklevel=3,
            )
    return found


def _left_out(kernel: Kernel, method: str, error: BaseException) -> str:
    """Warn of a kernel whose own code fails, and return why it is left out."""
    why = f"its {method} failed with {cause(error)}"
    # Without the problem: the same bug is told once.
    warnings.warn(
        f"kernel {kernel.name} of {kernel.op} is left out, {why}: mend its plugin, or set "
        "HWKIT_DISABLE_PLUGINS to the plugin's name",
        HwkitWarning,
        stacklevel=7,
    )
    return why
