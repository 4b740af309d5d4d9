"""Runs CUDA kernels on a driver that is a mock; started by tests/plugins/test_cuda_mock.py.

The driver library is the real one, the kernels are compiled for sm_90 by the real compiler, and
each launch is handed to PoCL: the text that the cubin was made from runs there on the memory of the
mock, with the grid, block and packed arguments of the launch. Prints how many kernels ran, their
largest error relative to the budget, and what is left on the driver when all is given back.
"""

from __future__ import annotations

import ctypes
import gc
import re
import sys
import warnings
from hashlib import blake2b
from typing import Any

import numpy as np

import hwkit
from hwkit import Config, KernelFailure
from hwkit.dispatch import parse_problem
from hwkit.op import relative_error
from hwkit.records import Database
from hwkit.registry import registry
from hwkit_cuda import programs
from hwkit_cuda.arrays import CudaArray

HOOK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint),
    ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_size_t,
)  # fmt: skip
COUNTS = ("blocks", "modules", "events", "stack", "launches", "contexts")


class Launches:
    """Takes the mock's launches, by the text that was compiled and the arguments it declares."""

    def __init__(self) -> None:
        self.driver = ctypes.CDLL("libcuda.so.1")
        self.driver.mock_extent.restype = ctypes.c_size_t
        self.driver.mock_journal.restype = ctypes.c_char_p
        self.driver.mock_extent.argtypes = (ctypes.c_void_p,)
        self.texts: dict[bytes, programs.Text] = {}
        self.hook = HOOK(self._launch)
        self.driver.mock_set_launch(self.hook)
        real = programs.Text.cubin

        def noted(text: programs.Text) -> programs.Cubin:
            cubin = real(text)
            self.texts[blake2b(cubin.data).digest()] = text
            return cubin

        programs.Text.cubin = noted  # type: ignore[method-assign]

    def counts(self) -> dict[str, int]:
        """Return what lives on the driver."""
        found = (ctypes.c_int * len(COUNTS))()
        self.driver.mock_counts(found)
        return dict(zip(COUNTS, found, strict=True))

    def _launch(self, image: int, size: int, name: bytes, grid: Any, *rest: int) -> int:
        try:
            text = self.texts[blake2b(ctypes.string_at(image, size)).digest()]
            self._run(text, name.decode(), grid[:3], *rest)
        except BaseException as error:
            print("bridge:", type(error).__name__, error, flush=True)
            return 719
        return 0

    def _run(
        self, text: programs.Text, name: str, grid: Any, threads: int, shared: int, at: int, n: int
    ) -> None:
        raise NotImplementedError

    def _arguments(self, text: programs.Text, name: str, packed: bytes) -> Any:
        """Yield what is packed, read by the types that the kernel's text declares."""
        signature = re.search(rf"KERNEL\({name}\)\(([^)]*)\)", text.source)
        assert signature is not None, name
        wide = dict(text.defines)["DTYPE"] == 64
        start = 0
        for parameter in signature[1].split(","):
            words = parameter.replace("const", "").split()
            # Some are images on OpenCL devices, and pointers here.
            image = words[0] in ("RIGHT_SIDE", "PIXELS", "WEIGHTS")
            kind = "P" if "*" in parameter or image else words[0]
            dtype = {"P": "u8", "int": "i4", "i64": "i8", "A": "f8" if wide else "f4"}[kind]
            size = np.dtype(dtype).itemsize
            start = -(-start // size) * size
            value = np.frombuffer(packed[start : start + size], dtype)[0]
            start += size
            yield self._buffer(int(value)) if kind == "P" else value
        assert start == len(packed), (name, start, len(packed))

    def _buffer(self, address: int) -> Any:
        length = self.driver.mock_extent(address)
        assert length, f"a kernel was given {address:#x}, where nothing is allocated"
        return np.ctypeslib.as_array((ctypes.c_uint8 * length).from_address(address))


class Bridge(Launches):
    """Takes the mock's launches to PoCL."""

    def __init__(self) -> None:
        import pyopencl as cl

        super().__init__()
        self.cl = cl
        found = registry().device("opencl:0")
        self.queue: Any = found.queue  # type: ignore[attr-defined]
        self.context: Any = found.context  # type: ignore[attr-defined]
        self.kernels: dict[tuple[str, str], Any] = {}

    def _run(
        self, text: programs.Text, name: str, grid: Any, threads: int, shared: int, at: int, n: int
    ) -> None:
        kernel = self._kernel(text, name)
        values = list(self._arguments(text, name, ctypes.string_at(at, n)))
        if shared:
            values.append(self.cl.LocalMemory(shared))
        kernel.set_args(*values)
        size = (grid[0] * threads, grid[1], grid[2])
        self.cl.enqueue_nd_range_kernel(self.queue, kernel, size, (threads, 1, 1)).wait()

    def _kernel(self, text: programs.Text, name: str) -> Any:
        if (text.key, name) not in self.kernels:
            options = ["-w", *(f"-D{macro}={value}" for macro, value in text.defines)]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                program = self.cl.Program(self.context, text.source).build(options)
            self.kernels[text.key, name] = self.cl.Kernel(program, name)
        return self.kernels[text.key, name]

    def _buffer(self, address: int) -> Any:
        host = super()._buffer(address)
        flags = self.cl.mem_flags
        return self.cl.Buffer(self.context, flags.READ_WRITE | flags.USE_HOST_PTR, hostbuf=host)


# Kernel, problem, tunables beyond the default's.
CASES = (
    ("packed_gemm", "gemm {} tt m=37 n=21 k=19 beta=1.0 +bias+residual+relu", ""),
    ("plain_gemm", "gemm {} tn m=13 n=22 k=9 alpha=0.5 +sigmoid", ""),
    ("local_gemm", "gemm {} nn m=35 n=34 k=21 +bias", ""),
    ("packed_gemm", "matmul {} b=2 m=5 n=9 k=6 shared=b", ""),
    ("implicit_conv2d", "conv2d {} nchw n=2 c=6 h=7 w=6 k=10 r=3 s=2 pad=1,2,0,3 stride=2,1 "
     "dilation=1,2 groups=2 +bias+residual+leaky_relu:0.1", ""),
    ("rows_conv2d", "conv2d {} nhwc n=1 c=4 h=5 w=7 k=6 r=3 s=3 pad=1 stride=2 groups=2", ""),
    ("channels_conv2d", "conv2d {} nhwc n=1 c=6 h=5 w=5 k=6 r=3 s=3 pad=0,1,0,1 stride=2 groups=6",
     ""),
    ("window_pool2d", "max_pool2d {} nchw n=1 c=2 h=7 w=9 r=3 s=2 pad=1,0,2,1 stride=2,3", ""),
    ("window_pool2d", "avg_pool2d {} nhwc n=1 c=5 h=7 w=6 r=3 s=3 pad=1 stride=2", ""),
    ("image_pool2d", "global_avg_pool2d {} nchw n=2 c=3 h=5 w=7", ""),
    ("image_pool2d", "global_max_pool2d {} nchw n=2 c=3 h=5 w=7", ""),
    # More blocks of the depth than stages, and edges on three sides.
    ("mma_gemm", "gemm {} nn m=45 n=40 k=136 alpha=0.5 beta=1.0 +bias+residual+relu", ""),
    ("mma_gemm", "matmul {} b=2 m=70 n=72 k=40 shared=b", "bm=64 bn=64 bk=16 wm=32 wn=16 stages=3"),
    # Taps within a block of the depth, padding, groups, edges on three sides.
    ("mma_conv2d", "conv2d {} nhwc n=2 c=16 h=7 w=6 k=20 r=3 s=2 pad=1,2,0,3 stride=2,1 "
     "dilation=1,2 groups=2 +bias+residual+leaky_relu:0.1", "bk=16 stages=3"),
    ("mma_conv2d", "conv2d {} nhwc n=1 c=40 h=9 w=8 k=72 r=3 s=3 pad=1 stride=1 +relu",
     "bm=32 bn=64 wm=16 wn=32 bk=16 stages=2"),
)  # fmt: skip
DTYPES = ("float32", "float64", "float16", "bfloat16")


def dtypes(name: str) -> tuple[str, ...]:
    """Return the dtypes that a kernel takes."""
    narrow = {"mma_gemm": DTYPES[2:], "mma_conv2d": ("float32", *DTYPES[2:])}
    return narrow.get(name, DTYPES)


COUNT = sum(len(dtypes(name)) for name, _, _ in CASES)


def moved(device: Any, array: Any) -> Any:
    """Return an array on the device that begins one element behind a multiple of 256 bytes."""
    whole = np.concatenate([np.zeros(1, array.dtype), array.reshape(-1)])
    held = device.put(whole)
    return CudaArray(held.pointer + array.itemsize, array.shape, array.dtype, 0, held)


def case(device: Any, name: str, text: str, tunables: str) -> float:
    """Return the error of one case, as a share of its budget."""
    problem = parse_problem(text)
    kernel = next(k for k in registry().kernels(device, problem.op.name) if k.name == name)
    config = Config({**kernel.default(problem), **Config.parse(tunables)})
    assert kernel.supports(problem) is True, kernel.supports(problem)
    assert kernel.static_check(problem, config) is None, (name, config)
    operands = problem.random_operands()
    out = device.put(np.full(problem.output.shape, np.nan, problem.output.dtype))
    run = kernel.build(problem, config)
    run(*map(device.put, operands), out=out)
    wide = [a.astype(np.float64) for a in operands]
    reference = problem.reference(*wide)
    worst = relative_error(device.get(out), reference)
    if name.startswith("mma"):
        # From addresses that cp.async does not take, for one operand and for both.
        for odd in ((0,), (1,), (0, 1)):
            given = [moved(device, a) if i in odd else a for i, a in enumerate(operands)]
            device.driver.copy(out.pointer, np.full(out.nbytes, 255, np.uint8), out.nbytes)
            run(*map(device.put, given), out=out)
            worst = max(worst, relative_error(device.get(out), reference))
    # The same with all that can be held packed.
    constants = {
        i: device.put(operands[i])
        for i, o in enumerate(problem.operands)
        if o.name in problem.op.constants
    }
    if constants:
        rest = [device.put(a) for i, a in enumerate(operands) if i not in constants]
        run.prepack(constants)(*rest, out=out)  # type: ignore[attr-defined]
        worst = max(worst, relative_error(device.get(out), reference))
    return worst / max(kernel.error_bound(problem, config), 1e-30)


def kernels(device: Any) -> str:
    """Run every kernel in every dtype."""
    every = {(k.op, k.name) for k in registry().kernels(device)}
    worst, seen = 0.0, 0
    for name, text, tunables in CASES:
        for dtype in dtypes(name):
            worst = max(worst, case(device, name, text.format(dtype), tunables))
            seen += 1
    names = {name for _, name in every}
    assert names == {name for name, _, _ in CASES}, names
    return f"kernels={seen} error={worst:.3f} of the budget"


def tuned(device: Any) -> str:
    """Tune four Configs of a product, and call it as a user would."""
    store = Database(None)
    problem = "gemm float32 nn m=40 n=24 k=16"
    (result,) = hwkit.tune(
        problem, "cuda:0", trials=4, budget=None, worker=False, database=store, strategy="random"
    )
    assert result.best is not None, result
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((40, 16), np.float32), rng.standard_normal((16, 24), np.float32)
    y = hwkit.ops.gemm(a, b, device="cuda:0")
    np.testing.assert_allclose(y, a @ b, rtol=1e-4, atol=1e-4)
    # What lives on the device stays there.
    z = hwkit.ops.gemm(device.put(a), device.put(b), device="cuda:0")
    assert type(z).__name__ == "CudaArray"
    np.testing.assert_allclose(device.get(z), a @ b, rtol=1e-4, atol=1e-4)
    return f"trials={result.trials} best={result.best.kernel}"


def cold(device: Any, bridge: Bridge) -> str:
    """Tune with hot and with emptied caches: what is timed, and whose records are whose."""
    store, problem = Database(None), "gemm float32 nn m=40 n=24 k=16"
    found = {}
    for empty in (False, True):
        (result,) = hwkit.tune(
            problem, "cuda:0", trials=2, budget=None, worker=False, database=store, cold=empty,
            strategy="random", kernels=["plain_gemm"],
        )  # fmt: skip
        assert result.best is not None, result
        found[empty] = result.best.fingerprint.identity.get("caches", "hot")
    emptied = device.with_cold_caches()
    assert emptied.fingerprint.differences(device.fingerprint) == {"caches": ("cold", None)}
    assert not device.cold_caches
    kernel = next(k for k in registry().kernels(emptied, "gemm") if k.name == "plain_gemm")
    asked = parse_problem(problem)
    run = kernel.build(asked, kernel.default(asked))
    operands = [device.put(a) for a in asked.random_operands()]
    out = device.empty((40, 24), np.dtype(np.float32))
    seen = []
    for one in (device, emptied):
        one.time(lambda: None)  # how long the GPU is kept busy is found out first
        bridge.driver.mock_journal()
        assert one.time(lambda: run(*operands, out=out)) > 0
        seen.append([step.split() for step in bridge.driver.mock_journal().decode().split(";")])
    hot, first = ([step[0] for step in steps if step] for steps in seen)
    # First of all something that keeps the GPU busy until the rest has been launched.
    assert hot == ["launch", "record", "launch", "record"], hot
    assert first == ["launch", "copy", *hot[1:]], first
    # Both halves of the buffer are larger than L2, which the mock says has a MiB.
    assert int(seen[1][1][2]) >= 2 * 2**20
    for kept in ("_rubbish", "_stall"):  # as long as the device otherwise
        vars(emptied).pop(kept)
    return f"best={found[False]},{found[True]} journal={','.join(first)}"


def failures(device: Any, bridge: Bridge) -> str:
    """Show what a driver's errors become, the last of which stays."""
    found = []
    problem = parse_problem("gemm float32 nn m=8 n=8 k=8")
    kernel = next(k for k in registry().kernels(device, "gemm") if k.name == "plain_gemm")
    run = kernel.build(problem, kernel.default(problem))
    operands = [device.put(a) for a in problem.random_operands()]
    out = device.empty((8, 8), np.dtype(np.float32))
    try:
        device.empty((1 << 40,), np.dtype(np.uint8))
    except KernelFailure as failure:
        found.append(failure.failure)
    for code in (701, 2, 209, 700, 0):
        bridge.driver.mock_fail(code)
        try:
            run(*operands, out=out)
            found.append("ok")
        except KernelFailure as failure:
            found.append(failure.failure)
    return f"failures={','.join(found)} lost={device.lost}"


def main() -> None:
    """Do what the arguments name."""
    bridge = Bridge()
    device: Any = registry().device("cuda:0")
    assert device.facts.name == "Mock GPU"
    # By it the roofline knows what the caches hold, which memory does not bound.
    assert device.fingerprint.identity["l2"] == 1 << 20
    print(device.facts.library)
    if "kernels" in sys.argv:
        print(kernels(device))
    if "tune" in sys.argv:
        print(tuned(device))
    if "cold" in sys.argv:
        print(cold(device, bridge))
    if "failures" in sys.argv:
        print(failures(device, bridge))
        return  # nothing can be given back after an error that stays
    hwkit.dispatch.forget()
    vars(device).pop("_stall", None)  # kept as long as the device otherwise
    gc.collect()
    device.pool.trim()
    assert device.pool.in_use == 0, device.pool.in_use
    print(" ".join(f"{name}={value}" for name, value in bridge.counts().items()))


if __name__ == "__main__":
    main()
