"""The conformance suite on the first NVIDIA GPU; ``run_all.sh`` beside this file runs it there."""

from __future__ import annotations

import numpy as np
import pytest

import hwkit
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

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(bool(unavailable("cuda:0")), reason=unavailable("cuda:0")),
]


class TestCuda(BackendSuite):
    device = "cuda:0"
    ops = OPS


def test_torch_tensors_stay_on_the_gpu() -> None:
    """A torch tensor in gives a torch tensor out, of its own memory, in every dtype."""
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        a = torch.randn(33, 65, device="cuda:0").to(dtype)
        b = torch.randn(65, 17, device="cuda:0").to(dtype)
        y = hwkit.ops.gemm(a, b, device="cuda:0")
        assert isinstance(y, torch.Tensor)
        assert (y.device, y.dtype) == (a.device, dtype)
        want = a.double() @ b.double()
        assert ((y.double() - want).norm() / want.norm()).item() < 1e-2


def test_cupy_arrays_stay_on_the_gpu() -> None:
    """A CuPy array in gives a CuPy array out."""
    cupy = pytest.importorskip("cupy")
    a = cupy.random.standard_normal((33, 65)).astype(cupy.float32)
    y = hwkit.ops.gemm(a, a, transpose_b=True, device="cuda:0")
    assert isinstance(y, cupy.ndarray)
    np.testing.assert_allclose(y.get(), (a @ a.T).get(), rtol=1e-4, atol=1e-4)


def test_events_and_the_clock_of_the_host_agree() -> None:
    """A long run takes as long by CUDA events as by the host, within a factor of two."""
    import time

    from hwkit.registry import registry

    device = registry().device("cuda:0")
    x = np.ones((2048, 2048), np.float32)
    a, b = device.put(x), device.put(x)
    plan = hwkit.plan("gemm", x, x, device="cuda:0")
    out = device.empty((2048, 2048), np.dtype(np.float32))

    def run() -> None:
        for _ in range(20):
            plan(a, b, out=out)

    run()
    start = time.perf_counter()
    seconds = device.time(run)
    assert seconds < 2 * (time.perf_counter() - start) < 4 * seconds + 0.1
