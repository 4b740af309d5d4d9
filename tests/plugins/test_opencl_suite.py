"""The conformance suite on the first OpenCL device."""

from __future__ import annotations

import pytest

from hwkit.testing import BackendSuite, unavailable

OPS = (
    "gemm",
    "matmul",
    "conv2d",
    "max_pool2d",
    "avg_pool2d",
    "global_max_pool2d",
    "global_avg_pool2d",
)


@pytest.mark.skipif(bool(unavailable("opencl:0")), reason=unavailable("opencl:0"))
class TestOpencl(BackendSuite):
    device = "opencl:0"
    ops = OPS
    configs = 0  # each is a compilation; test_opencl_kernels samples them
