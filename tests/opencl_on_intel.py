"""Runs kernels on Intel's OpenCL for CPUs or its emulator of FPGAs, for test_opencl_intel.py.

Prints the platform, how many kernels ran, and their largest error relative to the budget.
"""

from __future__ import annotations

import sys

from opencl_under_oclgrind import CASES, FPGA_CASES, run

from hwkit.registry import registry

CHANNEL_CASES = (
    ("channel_gemm", "gemm float32 tt m=7 n=11 k=9 beta=1.0 +bias+residual+relu", "depth=1 rows=2"),
    ("channel_gemm", "gemm float16 nn m=33 n=13 k=21", ""),
    ("channel_gemm", "matmul float32 b=3 m=17 n=9 k=6 shared=b", "columns=8 interleave=2"),
)


def main() -> None:
    """Run the cases of a runtime: ``cpu`` or ``fpga``."""
    fpga = sys.argv[1] == "fpga"
    device = registry().device("opencl:fpga-arria10" if fpga else "opencl:0")
    cases = CHANNEL_CASES + FPGA_CASES if fpga else CASES
    worst = max(run(device, *case) for case in cases)
    platform = device.found.platform.name  # type: ignore[attr-defined]
    print(f"platform={platform} kernels={len(cases)} error={worst:.3f} of the budget")


if __name__ == "__main__":
    main()
