"""Tuning on a CUDA driver that is a mock, with candidates whose launch is an error that stays.

Started by tests/plugins/test_cuda_sticky.py. As a plugin it takes the launches of the worker's
processes as well, and computes them with numpy. Prints what the tuner made of the error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from cuda_under_mock import Launches

import hwkit
from hwkit import Device, Kernel, hookimpl
from hwkit.records import Database
from hwkit.registry import registry

M, N, K = 40, 24, 16
PROBLEM = f"gemm float32 nn m={M} n={N} k={K}"
# An illegal memory access, by every Config of this height.
POISON, CODE = 3, 700
# Where each process that opens the device leaves a line.
OPENED = Path(os.environ.get("OPENED", os.devnull))


class Numpy(Launches):
    """The product, but for the Configs that are poison."""

    def _launch(self, *given: Any) -> int:
        if given[2] == b"multiply_add":
            return 0  # it only keeps the GPU busy, or shows its rates
        self.code = 0
        return super()._launch(*given) or self.code

    def _run(self, text: Any, name: str, grid: Any, *rest: Any) -> None:
        if dict(text.defines)["MR"] == POISON:
            self.code = CODE
            return
        at, size = rest[-2:]
        a, b, _, _, _, y, *_ = self._arguments(text, name, bytes(self._packed(at, size)))
        x, w, out = (array.view(np.float32) for array in (a, b, y))
        product = x[: M * K].reshape(M, K) @ w[: K * N].reshape(K, N)
        out[: M * N] = product.reshape(-1)

    @staticmethod
    def _packed(at: int, size: int) -> bytes:
        from ctypes import string_at

        return string_at(at, size)


_taken: list[Numpy] = []


@hookimpl
def hwkit_kernels(device: Device) -> Iterable[Kernel]:
    """Bring none, but notice that a process opened the device."""
    if device.backend == "cuda" and not _taken:
        _taken.append(Numpy())
        with OPENED.open("a") as file:
            file.write(f"{os.getpid()}\n")
    return []


def main() -> None:
    """Tune twice, and say what is known then."""
    import cuda_sticky_under_mock as plugin

    registry().register(plugin, "poison")
    store = Database(Path(os.environ["HWKIT_DB"]))
    options: Any = {"budget": None, "database": store, "strategy": "random", "timeout": 60}
    kernels = ["plain_gemm"]
    (first,) = hwkit.tune(PROBLEM, "cuda:0", trials=7, kernels=kernels, seed=1, **options)
    processes = len(OPENED.read_text().splitlines()) - 1  # less this one
    records = [*store.records("user")]
    failed = [r for r in records if not r.ok]
    assert {r.measurement.failure for r in failed} == {"crash"}, failed
    assert {r.config["mr"] for r in failed} == {POISON}
    assert POISON not in {r.config["mr"] for r in records if r.ok}
    assert first.best is not None
    assert first.best.ok
    assert len({(r.kernel, r.config) for r in records}) == first.trials
    (second,) = hwkit.tune(PROBLEM, "cuda:0", trials=2, kernels=kernels, seed=1, **options)
    tried = [r.config for r in store.records("user") if not r.ok]
    assert len(tried) == len({*tried}), "a candidate that crashed was tried again"
    print(f"trials={first.trials} crashes={len(failed)} processes={processes}")
    print(f"second: trials={second.trials} best={second.best is not None}")
    print(*{r.measurement.reason for r in failed}, sep="\n")


if __name__ == "__main__":
    main()
