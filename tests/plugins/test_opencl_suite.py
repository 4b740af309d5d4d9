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


needs_opencl = pytest.mark.skipif(bool(unavailable("opencl:0")), reason=unavailable("opencl:0"))


@needs_opencl
class TestOpencl(BackendSuite):
    device = "opencl:0"
    ops = OPS
    configs = 0  # each is a compilation; test_opencl_emulated samples them


@needs_opencl
@pytest.mark.slow
class TestMaliG76(TestOpencl):
    device = "opencl:mali-g76"


@needs_opencl
@pytest.mark.slow
class TestFpgaArria10(TestOpencl):
    device = "opencl:fpga-arria10"


@needs_opencl
@pytest.mark.slow
class TestMaliG52(TestOpencl):
    device = "opencl:mali-g52"


@needs_opencl
@pytest.mark.slow
class TestMaliG78(TestOpencl):
    device = "opencl:mali-g78"


@needs_opencl
@pytest.mark.slow
class TestAdreno640(TestOpencl):
    device = "opencl:adreno-640"


@needs_opencl
@pytest.mark.slow
class TestFpgaStratix10(TestOpencl):
    device = "opencl:fpga-stratix10"
