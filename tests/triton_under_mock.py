"""Runs Triton's compiled kernels on a CUDA driver that is a mock; started by test_triton.py.

The driver library, the device and the cubins for sm_90 are real. Each launch ends in a hook that
reads the packed arguments back by the parameters of the machine code, checks that every address is
memory of the driver, and does with numpy what the kernel should. Prints what ran and what is left.
"""

from __future__ import annotations

import ctypes
import gc
import re
from typing import Any

import numpy as np

from hwkit.dispatch import parse_problem
from hwkit.op import relative_error
from hwkit.registry import registry
from hwkit_triton import run as triton_run
from hwkit_triton.compiled import compile_launch

HOOK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint),
    ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_size_t,
)  # fmt: skip
COUNTS = ("blocks", "modules", "events", "stack", "launches", "contexts")
KINDS = {"u64": "u8", "u32": "u4", "f32": "f4", "b32": "u4", "b64": "u8"}

CASES = (
    ("triton_tiles", "gemm float16 nn m=64 n=96 k=80", "splits=1"),
    ("triton_tiles", "gemm float32 nt m=40 n=50 k=300", "splits=4"),
    ("triton_descriptors", "gemm float16 nt m=150 n=80 k=72", ""),
)


class Hook:
    """Takes the mock's launches to numpy."""

    def __init__(self) -> None:
        self.driver = ctypes.CDLL("libcuda.so.1")
        self.driver.mock_extent.restype = ctypes.c_size_t
        self.driver.mock_extent.argtypes = (ctypes.c_void_p,)
        self.hook = HOOK(self._launch)
        self.driver.mock_set_launch(self.hook)
        self.parameters: dict[str, list[str]] = {}
        self.problem: Any = None
        self.splits = 1
        self.names: list[str] = []
        real = compile_launch

        def noted(launch: Any, capability: int, aligned: bool = True) -> Any:
            kernel = real(launch, capability, aligned)
            head = re.search(r"\.entry [^(]*\((.*?)\)", kernel.asm["ptx"], re.DOTALL)
            found = re.findall(r"\.param \.([a-z]\d+)", head[1] if head else "")
            self.parameters[kernel.metadata.name] = found
            return kernel

        triton_run.compile_launch = noted  # type: ignore[attr-defined]

    def counts(self) -> str:
        """Return what lives on the driver."""
        found = (ctypes.c_int * len(COUNTS))()
        self.driver.mock_counts(found)
        return " ".join(f"{name}={value}" for name, value in zip(COUNTS, found, strict=True))

    def _launch(self, image: int, size: int, name: bytes, grid: Any, *rest: int) -> int:
        try:
            self._run(name.decode(), [grid[i] for i in range(3)], *rest)
        except BaseException as error:
            print("hook:", type(error).__name__, error, flush=True)
            return 719
        return 0

    def _run(self, name: str, grid: list[int], threads: int, shared: int, at: int, n: int) -> None:
        assert threads in (128, 256, 384), threads
        assert shared <= 232_448, shared
        values, start, packed = [], 0, ctypes.string_at(at, n)
        for kind in self.parameters[name]:
            dtype = np.dtype(KINDS[kind])
            start = -(-start // dtype.itemsize) * dtype.itemsize
            values.append(np.frombuffer(packed[start : start + dtype.itemsize], dtype)[0])
            start += dtype.itemsize
        assert start == len(packed), (name, start, len(packed))
        self.names.append(name)
        self._compute(name, values, grid)

    def _array(self, address: int, shape: tuple[int, ...], dtype: Any) -> Any:
        assert address % 16 == 0, hex(address)
        found = np.dtype(dtype).itemsize * int(np.prod(shape))
        assert self.driver.mock_extent(address) >= found, hex(address)
        memory = (ctypes.c_uint8 * found).from_address(address)
        return np.ctypeslib.as_array(memory).view(dtype).reshape(shape)

    def _compute(self, name: str, values: list[Any], grid: list[int]) -> None:
        problem = self.problem
        (m, n), dtype = problem.output.shape, problem.output.dtype
        if name == "reduce_splits":
            parts = self._array(int(values[0]), (self.splits, m, n), np.float32)
            self._array(int(values[4]), (m, n), dtype)[:] = parts.sum(0)
            assert int(values[5]) == m * n
            return
        operands = [
            self._array(int(values[i]), o.shape, o.dtype) for i, o in enumerate(problem.operands)
        ]
        product = problem.reference(*(a.astype(np.float32) for a in operands))
        if name == "gemm_tiles" and self.splits > 1:
            parts = self._array(int(values[6]), (self.splits, m, n), np.float32)
            parts[:] = 0
            parts[0] = product
            assert grid[1] == self.splits
        else:
            self._array(int(values[5]), (m, n), dtype)[:] = product
        if name == "gemm_descriptors":  # three descriptors of 128 bytes for each program
            self._array(int(values[-2]), (grid[0], 3 * 128), np.uint8)


def case(device: Any, hook: Hook, name: str, text: str, changes: str) -> float:
    """Return the error of a run with aligned, unaligned and held operands."""
    from hwkit import Config

    hook.problem = problem = parse_problem(text)
    kernel: Any = next(k for k in registry().kernels(device, "gemm") if k.name == name)
    config = kernel.default(problem).replace(**Config.parse(changes))
    hook.splits = int(config.get("splits", 1))
    operands = problem.random_operands()
    run = kernel.build(problem, config)
    reference = problem.reference(*(a.astype(np.float64) for a in operands))
    given = [device.put(a) for a in operands]
    size = problem.output.dtype.itemsize
    flat = device.empty((problem.output.nbytes + 16,), np.dtype(np.uint8))
    odd = type(flat)(flat.pointer + size, problem.output.shape, problem.output.dtype, 0, flat)
    out = device.empty(problem.output.shape, problem.output.dtype)
    worst = 0.0
    for target, runner, rest in (
        (out, run, given), (odd, run, given), (out, run.prepack({1: given[1]}), given[:1])
    ):  # fmt: skip
        runner(*rest, out=target)
        worst = max(worst, relative_error(device.get(target), reference))
    return worst / problem.error_budget()


def main() -> None:
    hook = Hook()
    device = registry().device("cuda:0")
    worst = max(case(device, hook, *given) for given in CASES)
    launched = " ".join(sorted(set(hook.names)))
    print(f"launches={len(hook.names)} error={worst:.2f} {launched}")
    gc.collect()
    device.pool.trim()  # type: ignore[attr-defined]
    print(hook.counts())


if __name__ == "__main__":
    main()
