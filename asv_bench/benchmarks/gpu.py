"""CUDA: hwkit beside cuBLAS and cuDNN, which torch calls, on one GPU and stream, in turns.

``python -m benchmarks.gpu FILE`` prints the table last, and writes it with GPU, driver, clocks and
date. Times are of CUDA events around many launches, after both answers were compared with a float64
product; what is given already lies on the GPU.
"""

import json
import math
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

_SQUARE = (512, 1024, 2048, 4096, 8192)
_SKINNY = ((16, 4096, 4096), (4096, 16, 4096), (64, 8192, 1024), (8192, 64, 1024))
GEMMS = tuple(
    f"gemm {dtype} nn m={m} n={n} k={k}"
    for dtype in ("bfloat16", "float16", "float32")
    for m, n, k in (*((s, s, s) for s in _SQUARE), *_SKINNY)
)
_CONV = "conv2d bfloat16 nhwc n=32 c={} h={} w={} k={} r={} s={} pad={} stride={}"
LAYERS = tuple(
    _CONV.format(*sizes)
    for sizes in (
        (64, 56, 56, 64, 1, 1, 0, 1),
        (64, 56, 56, 64, 3, 3, 1, 1),
        (64, 56, 56, 256, 1, 1, 0, 1),
        (128, 28, 28, 128, 3, 3, 1, 1),
        (256, 14, 14, 256, 3, 3, 1, 1),
        (256, 14, 14, 1024, 1, 1, 0, 1),
        (512, 7, 7, 512, 3, 3, 1, 1),
        (512, 7, 7, 2048, 1, 1, 0, 1),
    )
)
PROBLEMS = GEMMS + LAYERS
_LAUNCHES, _TOLERANCE = 20, {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}


def torch_on_gpu():
    """Return torch, if it sees a GPU."""
    try:
        import torch
    except ImportError:
        raise NotImplementedError("torch is not installed") from None
    if not torch.cuda.is_available():
        raise NotImplementedError("torch sees no GPU")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    return torch


def theirs(torch, problem, operands):
    """Return a call of torch that does the problem."""
    if problem.op.name == "gemm":
        return lambda: torch.mm(*operands)
    x, w = (t.permute(0, 3, 1, 2) for t in operands)  # channels last, as torch calls it
    pad = (problem["pad"][0], problem["pad"][2])
    return lambda: torch.nn.functional.conv2d(x, w, padding=pad, stride=problem["stride"])


def race(text, rounds=15):
    """Return median seconds of one launch of hwkit and of torch, taken in turns."""
    from hwkit.dispatch import parse_problem, plan_problem
    from hwkit.registry import registry

    torch = torch_on_gpu()
    problem = parse_problem(text)
    device = registry().device("cuda:0")
    dtype = getattr(torch, problem.dtypes.input)
    torch.manual_seed(0)
    operands = [torch.randn(o.shape, device="cuda:0").to(dtype) for o in problem.operands]
    plan = plan_problem(problem, "cuda:0")
    mine = torch.empty(problem.output.shape, device="cuda:0", dtype=dtype)
    other = theirs(torch, problem, operands)
    calls = (lambda: plan(*operands, out=mine), other)
    want = theirs(torch, problem, [t.double() for t in operands])()
    if problem.op.name == "conv2d":
        want = want.permute(0, 2, 3, 1)
    calls[0]()
    error = ((mine.double() - want).norm() / want.norm()).item()
    if not error < _TOLERANCE[problem.dtypes.input]:
        raise RuntimeError(f"an answer to '{text}' is wrong by {error:.1e}")
    taken = ([], [])
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            call = calls[which]
            call()
            seconds = device.time(lambda call=call: [call() for _ in range(_LAUNCHES)])
            taken[which].append(seconds / _LAUNCHES)
    return median(taken[0]), median(taken[1])


class Libraries:
    """hwkit beside cuBLAS (products) and cuDNN (convolution)."""

    params = (PROBLEMS,)
    param_names = ("problem",)
    timeout = 300

    def setup(self, problem):
        from hwkit.testing import unavailable

        if unavailable("cuda:0"):
            raise NotImplementedError(unavailable("cuda:0"))
        torch_on_gpu()

    def track_times_as_fast_as_torch(self, problem):
        mine, other = race(problem)
        return other / mine

    track_times_as_fast_as_torch.unit = "times as fast"


class Launch:
    """What a call costs on the host, where the GPU has next to nothing to do."""

    def setup(self):
        from hwkit.testing import unavailable

        if unavailable("cuda:0"):
            raise NotImplementedError(unavailable("cuda:0"))

    def track_seconds_of_a_call(self):
        return launch_seconds()

    track_seconds_of_a_call.unit = "seconds"


def launch_seconds(calls=2000):
    """Return the median host seconds of ``plan(a, b, out=y)`` for a product of 16."""
    import numpy as np

    from hwkit.dispatch import parse_problem, plan_problem
    from hwkit.registry import registry

    device = registry().device("cuda:0")
    plan = plan_problem(parse_problem("gemm float32 nn m=16 n=16 k=16"), "cuda:0")
    a, b, y = (device.put(np.ones((16, 16), np.float32)) for _ in range(3))
    taken = []
    for _ in range(calls):
        start = time.perf_counter()
        plan(a, b, out=y)
        taken.append(time.perf_counter() - start)
    device.synchronise()
    return median(taken)


def circumstances():
    """Return GPU, driver and clocks, as ``nvidia-smi`` tells them, and the date."""
    asked = "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit,temperature.gpu"
    command = ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader", "--id=0"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    facts = dict(zip(asked.split(","), map(str.strip, said.split(",")), strict=True))
    return {**facts, "date": datetime.now(timezone.utc).isoformat(timespec="seconds")}


def main():
    """Measure all, write the file, print the table."""
    from hwkit.registry import registry

    before, rows = circumstances(), []
    for text in PROBLEMS:
        try:
            mine, other = race(text)
            rows.append({"problem": text, "hwkit": mine, "torch": other, "ratio": other / mine})
        except Exception as error:  # one that fails must not hide the others
            rows.append({"problem": text, "error": f"{type(error).__name__}: {error}"})
    result = {
        "before": before, "after": circumstances(), "rows": rows,
        "launch_seconds": launch_seconds(),
        "ceilings": dict(registry().device("cuda:0").ceilings()),
    }  # fmt: skip
    Path(sys.argv[1]).write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(", ".join(f"{name} {value}" for name, value in before.items()))
    for row in rows:
        if "error" in row:
            print(f"{row['problem']}: {row['error']}")
        else:
            times = f"{row['hwkit'] * 1e6:10.1f} us {row['torch'] * 1e6:10.1f} us"
            print(f"{times} {row['ratio']:6.2f}x  {row['problem']}")
    for name, texts in (("gemm", GEMMS), ("conv2d", LAYERS)):
        ratios = [r["ratio"] for r in rows if r["problem"] in texts and "ratio" in r]
        if ratios:
            mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
            print(f"geometric mean of {len(ratios)} {name}: {mean:.2f}x")
    print(f"a call costs {result['launch_seconds'] * 1e6:.1f} us on the host")
    return 1 if any("error" in row for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
