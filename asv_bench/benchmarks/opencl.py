"""OpenCL: hwkit and CLBlast on the same device and queue, in turns.

``python -m benchmarks.opencl [FILE]...`` prints the table. CLBlast runs with the parameters it was
packed with, or with those that its own tuners, ``clblast_tuner_xgemm`` and its like, wrote into the
files; its convolution is im2col and a matrix product. Both libraries use one device and one queue,
have run once before, and are waited for after each call.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import math
import sys
import time
from pathlib import Path
from statistics import median

GEMMS = tuple(f"gemm float32 nn m={s} n={s} k={s}" for s in (256, 384, 512, 768, 1024))
_CONV = "conv2d float32 nchw n=1 c={} h={} w={} k={} r={} s={} pad={} stride={}"
LAYERS = tuple(
    _CONV.format(*sizes)
    for sizes in (
        # ResNet-50
        (3, 224, 224, 64, 7, 7, 3, 2),
        (64, 56, 56, 64, 1, 1, 0, 1),
        (64, 56, 56, 64, 3, 3, 1, 1),
        (64, 56, 56, 256, 1, 1, 0, 1),
        (128, 28, 28, 128, 3, 3, 1, 1),
        (256, 14, 14, 256, 3, 3, 1, 1),
        (256, 14, 14, 1024, 1, 1, 0, 1),
        (512, 7, 7, 512, 3, 3, 1, 1),
        (512, 7, 7, 2048, 1, 1, 0, 1),
        # MobileNetV1, less its depthwise layers, which CLBlast has not
        (3, 224, 224, 32, 3, 3, 1, 2),
        (32, 112, 112, 64, 1, 1, 0, 1),
        (128, 56, 56, 128, 1, 1, 0, 1),
        (256, 28, 28, 256, 1, 1, 0, 1),
        (512, 14, 14, 512, 1, 1, 0, 1),
        (1024, 7, 7, 1024, 1, 1, 0, 1),
    )
)
PROBLEMS = GEMMS + LAYERS
# How CLBlast names what a tuner tunes, by the family in the tuner's file.
_TUNED = {"xgemm": "Xgemm", "xgemm_direct": "XgemmDirect"}
_ROW_MAJOR, _AS_IS, _CROSS_CORRELATION = 101, 111, 151


class Clblast:
    """CLBlast through ctypes, on a device of hwkit.

    Args:
        device: ``opencl:0``, opened.
    """

    def __init__(self, device):
        name = ctypes.util.find_library("clblast")
        if name is None:
            raise NotImplementedError("libclblast is not installed: apt install libclblast1")
        self._library = ctypes.CDLL(name)
        self._device = device
        self._queue = ctypes.c_void_p(device.queue.int_ptr)

    def override(self, file):
        """Take the best parameters from a file that one of CLBlast's tuners wrote."""
        found = json.loads(Path(file).read_text("utf-8"))
        pairs = [pair.split("=") for pair in found["best_parameters"].split()]
        chosen = {name: int(value) for name, value in pairs if name != "PRECISION"}
        names = (ctypes.c_char_p * len(chosen))(*(name.encode() for name in chosen))
        values = (ctypes.c_size_t * len(chosen))(*chosen.values())
        kernel = _TUNED[found["kernel_family"].rstrip("_0123456789")].encode()
        status = self._library.CLBlastOverrideParameters(
            ctypes.c_void_p(self._device.found.int_ptr), kernel, int(found["precision"]),
            ctypes.c_size_t(len(chosen)), names, values,
        )  # fmt: skip
        if status:
            raise RuntimeError(f"CLBlast refuses the parameters of '{file}' with {status}")

    def run(self, problem, operands, out):
        """Return a call of CLBlast that does the problem, to its completion."""
        memory = [ctypes.c_void_p(b.base_data.int_ptr) for b in (*operands, out)]
        size, real, zero = ctypes.c_size_t, ctypes.c_float, ctypes.c_size_t(0)
        queue = ctypes.byref(self._queue)
        x, w, y = memory
        if problem.op.name == "gemm":
            m, n, k = (int(problem[name]) for name in "mnk")
            function = self._library.CLBlastSgemm
            arguments = (
                _ROW_MAJOR, _AS_IS, _AS_IS, size(m), size(n), size(k), real(1.0), x, zero, size(k),
                w, zero, size(n), real(0.0), y, zero, size(n), queue, None,
            )  # fmt: skip
        else:
            function = self._library.CLBlastSconvgemm
            numbers = (
                *(problem[name] for name in "chwrs"), problem["pad"][0], problem["pad"][2],
                *problem["stride"], *problem["dilation"], problem["k"], problem["n"],
            )  # fmt: skip
            arguments = (
                _CROSS_CORRELATION, *map(size, numbers), x, zero, w, zero, y, zero, queue, None,
            )  # fmt: skip

        def call():
            status = function(*arguments)
            if status:
                raise RuntimeError(f"CLBlast failed with {status} for '{problem}'")
            self._device.queue.finish()

        return call


def race(text, rounds=15, tuned=()):
    """Return median seconds of hwkit and of CLBlast, taken in turns, after both were checked.

    Args:
        text: the problem.
        rounds: turns of each.
        tuned: files of CLBlast's tuners.
    """
    import numpy as np

    from hwkit.dispatch import parse_problem, plan_problem
    from hwkit.registry import registry

    device = registry().device("opencl:0")
    problem = parse_problem(text)
    arrays = problem.random_operands()
    operands = [device.put(array) for array in arrays]
    mine, theirs = (device.empty(problem.output.shape, problem.output.dtype) for _ in range(2))
    plan = plan_problem(problem, "opencl:0")
    library = Clblast(device)
    for file in tuned:
        library.override(file)
    other = library.run(problem, operands, theirs)

    def own():
        plan(*operands, out=mine)

    calls = (own, other)
    want = problem.reference(*(array.astype(np.float64) for array in arrays))
    for call, result in zip(calls, (mine, theirs), strict=True):
        call()
        error = np.linalg.norm(device.get(result) - want) / np.linalg.norm(want)
        assert error < 1e-5, f"an answer to '{text}' is wrong by {error:.1e}"
    taken = ([], [])
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter()
            calls[which]()
            taken[which].append(time.perf_counter() - start)
    return median(taken[0]), median(taken[1])


class Clblasts:
    """hwkit beside CLBlast."""

    params = (PROBLEMS,)
    param_names = ("problem",)
    timeout = 120

    def setup(self, problem):
        from hwkit.testing import unavailable

        if unavailable("opencl:0"):
            raise NotImplementedError(unavailable("opencl:0"))

    def track_times_as_fast_as_clblast(self, problem):
        mine, theirs = race(problem)
        return theirs / mine

    track_times_as_fast_as_clblast.unit = "times as fast"


def main():
    """Print the table and the geometric mean."""
    ratios = []
    for text in PROBLEMS:
        mine, theirs = race(text, tuned=sys.argv[1:])
        ratios.append(theirs / mine)
        print(f"{mine * 1e6:9.0f} us {theirs * 1e6:9.0f} us {ratios[-1]:6.2f}x  {text}", flush=True)
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    print(f"geometric mean over {len(ratios)}: {mean:.2f}x CLBlast")


if __name__ == "__main__":
    main()
