"""The host passes the conformance suite, kernel by kernel."""

from __future__ import annotations

from hwkit.testing import BackendSuite


class TestCpu(BackendSuite):
    """Every kernel of the host on every Op of ours."""

    device = "cpu:0"
    ops = (
        "avg_pool2d",
        "conv2d",
        "elementwise",
        "gemm",
        "global_avg_pool2d",
        "global_max_pool2d",
        "local_response_norm",
        "matmul",
        "max_pool2d",
        "qconv2d",
        "qmatmul",
        "transpose",
    )
