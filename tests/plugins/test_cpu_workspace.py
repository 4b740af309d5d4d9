"""No run takes more scratch memory than its kernel says."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
from products import run_again

from hwkit import Config, Kernel, KernelFailure, Problem
from hwkit.registry import registry
from hwkit.testing.cases import small_problems
from hwkit_cpu.device import CompiledKernel, compiled


def _check(kernel: Kernel, problem: Problem, config: Config) -> bool:
    """Run once in one thread: all that is taken is the caller's, packing included."""
    config = config.replace(threads=1)
    try:
        run = kernel.build(problem, config)
    except KernelFailure:
        return False
    out = np.empty(problem.output.shape, problem.output.dtype)
    compiled().scratch_bytes(free=True)
    run(*problem.random_operands(), out=out)
    taken = compiled().scratch_bytes(free=True)
    assert taken <= kernel.workspace(problem, config), f"{kernel}, '{problem}', '{config}'"
    return taken > 0


@pytest.mark.parametrize(
    "name", sorted({k.op for k in registry().kernels(registry().device("cpu:0"))} - {"*"})
)
def test_runs_take_what_kernels_say(name: str) -> None:
    """Samples and small problems, the default Config and two others."""
    op, rng = registry().op(name), random.Random(0)
    found = [problem for seed in range(4) for problem in small_problems(op, seed)]
    if os.environ.get("HWKIT_EMULATE_AMX") != "1":  # which takes long
        found += map(op.parse, op.samples)
    taken = 0
    for problem in found:
        for kernel in registry().kernels(registry().device("cpu:0"), name):
            if isinstance(kernel, CompiledKernel) and kernel.supports(problem) is True:
                space = kernel.space(problem)
                for config in (kernel.default(problem), space.sample(rng), space.sample(rng)):
                    taken += _check(kernel, problem, config)
    assert taken or name in ("elementwise", "transpose")


def test_instruction_set_emulated() -> None:
    """Tiles in plain C take the memory that tiles take."""
    run_again(__file__, "amx", HWKIT_EMULATE_AMX="1")
