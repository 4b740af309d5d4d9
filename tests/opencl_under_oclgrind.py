"""Runs every OpenCL kernel once under oclgrind; started by tests/plugins/test_opencl_oclgrind.py.

The name of a fault as an argument replaces part of a kernel's text by a wrong one, which oclgrind
must report. ``all`` adds doubles, unrolled tails, images and the implicit convolution, where
oclgrind 21.10 reports uninitialised values that poisoned memory (NaN, in the conformance suite and
the tuner) does not show. Prints how many kernels ran and the largest error relative to the budget.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from hwkit import Config
from hwkit.dispatch import parse_problem
from hwkit.op import relative_error
from hwkit.registry import registry
from hwkit_opencl import programs

# Ragged sizes, and a depth of more than one stage: with one, a missing barrier does not race.
CASES: tuple[tuple[str, str, str], ...] = (
    ("packed_gemm", "gemm float32 tt m=7 n=11 k=9 beta=1.0 +bias+residual+relu", "mr=3 nv=1 vec=4"),
    ("packed_gemm", "matmul float64 b=2 m=5 n=9 k=6 shared=b", "mr=2 nv=2 vec=2 unroll=4"),
    ("plain_gemm", "gemm float32 nn m=7 n=11 k=9 alpha=0.5 +sigmoid", "mr=2 nv=2 vec=4 wm=2 wn=2"),
    ("plain_gemm", "gemm float16 tn m=3 n=5 k=1", "mr=2 nv=1 vec=2"),
    ("local_gemm", "gemm float32 nn m=13 n=10 k=21 +bias", "mr=2 nv=1 vec=2 wm=4 wn=4 stage=8"),
    ("image_gemm", "gemm float32 nt m=7 n=11 k=9 alpha=0.5 +bias", "mr=3 nv=1 vec=4"),
    ("image_gemm", "matmul float32 b=2 m=5 n=9 k=6", "mr=2 nv=2 vec=4 wm=2 wn=2"),
    ("implicit_conv2d", "conv2d float32 nchw n=2 c=6 h=7 w=6 k=10 r=3 s=2 pad=1,2,0,3 stride=2,1 "
     "dilation=1,2 groups=2 +bias+residual+leaky_relu:0.1", "mr=3 nv=1 vec=4 unroll=2"),
    ("implicit_conv2d", "conv2d float32 nhwc n=1 c=5 h=4 w=5 k=7 r=1 s=1 pad=0 stride=1",
     "wm=2 wn=2"),
    ("rows_conv2d", "conv2d float32 nchw n=1 c=4 h=5 w=11 k=4 r=3 s=3 pad=1 stride=1 groups=4 "
     "+bias+relu6", "vec=4 tile=1"),
    ("rows_conv2d", "conv2d float32 nhwc n=1 c=4 h=5 w=7 k=6 r=3 s=3 pad=1 stride=2 groups=2",
     "vec=2 tile=2 wm=4"),
    ("channels_conv2d", "conv2d float32 nhwc n=1 c=6 h=5 w=5 k=6 r=3 s=3 pad=0,1,0,1 stride=2 "
     "groups=6 +silu", "vec=4 tile=2"),
    ("window_pool2d", "max_pool2d float32 nchw n=1 c=2 h=7 w=9 r=3 s=2 pad=1,0,2,1 stride=2,3 "
     "dilation=2,1 ceil_mode=true", "vec=4 wm=4"),
    ("window_pool2d", "avg_pool2d float32 nhwc n=1 c=5 h=7 w=6 r=3 s=3 pad=1 stride=2 "
     "ceil_mode=true count_include_pad=false", "vec=2 wm=4"),
    ("image_pool2d", "global_avg_pool2d float32 nchw n=2 c=3 h=5 w=7", "vec=2 wm=4"),
    ("image_pool2d", "global_max_pool2d float32 nchw n=2 c=3 h=5 w=7", "vec=2 wm=4"),
)  # fmt: skip

# Fault: the kernel file, what stands there, what is put instead.
FAULTS = {
    "race": ("gemm.cl", "        BARRIER();\n    }\n    if (row", "    }\n    if (row"),
    "bounds": ("gemm.cl", "if (row + i >= m || left <= 0)", "if (left <= 0)"),
    "uninitialised": ("gemm.cl", "            store1(to + j, (A)0);", "            ;"),
}


UNTRACKED = {"float64", "implicit_conv2d", "image_gemm"}


def plant(fault: str) -> None:
    """Replace a part of a text."""
    file, right, wrong = FAULTS[fault]
    real = programs.source
    assert real(file).count(right) == 1, f"the fault {fault} has no place in {file}"
    text = real(file).replace(right, wrong)
    programs.source = lambda name: text if name == file else real(name)  # type: ignore[assignment]


def run(device: Any, name: str, text: str, tunables: str) -> float:
    """Return the error of one case, as a share of its budget."""
    problem = parse_problem(text)
    kernel = next(k for k in registry().kernels(device, problem.op.name) if k.name == name)
    config = Config({**kernel.default(problem), "wm": 1, **Config.parse(tunables)})
    config = Config({k: v for k, v in config.items() if k in kernel.default(problem)})
    assert kernel.space(problem).why_not(config) is None, (name, config)
    operands = problem.random_operands()
    out = device.put(np.full(problem.output.shape, np.nan, problem.output.dtype))
    kernel.build(problem, config)(*map(device.put, operands), out=out)
    wide = [a.astype(np.float64) for a in operands]
    error = relative_error(device.get(out), problem.reference(*wide))
    return error / max(problem.error_budget(), 1e-30)


def _words(case: tuple[str, str, str]) -> set[str]:
    return {*" ".join(case).split()}


def main() -> None:
    """Run all cases, or those of the planted fault's file."""
    device = registry().device("opencl:0")
    assert "Oclgrind" in str(device.fingerprint.identity["platform"])
    # So that memory that nobody wrote is not memory of the host, which is always initialised.
    device.shares_memory = False
    tracked = [case for case in CASES if not UNTRACKED & _words(case)]
    cases = [*CASES] if "all" in sys.argv else tracked
    if sys.argv[1:] and sys.argv[1] in FAULTS:
        plant(sys.argv[1])
        cases = [case for case in cases if "gemm float32" in case[1]]
    worst = max(run(device, *case) for case in cases)
    print(f"kernels={len(cases)} error={worst:.3f} of the budget")


if __name__ == "__main__":
    main()
