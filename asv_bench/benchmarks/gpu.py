"""CUDA: hwkit beside cuBLAS and cuDNN, which torch calls, and Triton's own matmul, in turns.

``python -m benchmarks.gpu FILE`` prints the table last; FILE has GPU, driver, clocks and date, and
is written after each row, so that a run that is stopped loses one. Times are of CUDA events around
many launches on one stream, after all answers were compared with float64; what is given already
lies on the GPU. Pooling, whose share of the copy's bandwidth is told, reads new arrays each time.
"""

import itertools
import json
import os
import subprocess
import sys
import time
from datetime import datetime, timezone
from functools import partial
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
POOLS = (
    "max_pool2d bfloat16 nhwc n=32 c=64 h=112 w=112 r=3 s=3 pad=1 stride=2",
    "avg_pool2d bfloat16 nhwc n=32 c=256 h=56 w=56 r=2 s=2 pad=0 stride=2",
    "global_avg_pool2d bfloat16 nhwc n=256 c=2048 h=7 w=7",
    "max_pool2d float32 nchw n=32 c=64 h=112 w=112 r=3 s=3 pad=1 stride=2",
)
PROBLEMS = GEMMS + LAYERS + POOLS
_TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}
# Launches of a sample, and the seconds that it may take.
_LAUNCHES, _SAMPLE = 20, 0.02
# What is compared with the bandwidth of memory is read from so many bytes: no cache holds them.
_BEYOND_CACHES = 2**28


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
    """Return a call of torch that does the problem; the answer has channels second."""
    if problem.op.name == "gemm":
        return lambda: torch.mm(*operands)
    if problem.layout == "nhwc":  # channels last, as torch calls it
        operands = [t.permute(0, 3, 1, 2) for t in operands]
    nn = torch.nn.functional
    if problem.op.name == "global_avg_pool2d":
        return lambda: nn.adaptive_avg_pool2d(operands[0], 1)
    pad, stride = (problem["pad"][0], problem["pad"][2]), problem["stride"]
    if problem.op.name == "conv2d":
        return lambda: nn.conv2d(*operands, padding=pad, stride=stride)
    pool = nn.max_pool2d if problem.op.name == "max_pool2d" else nn.avg_pool2d
    return lambda: pool(operands[0], (problem["r"], problem["s"]), stride, pad)


def in_turns(calls):
    """Return one call that makes these one after the other, and then begins anew."""
    following = itertools.cycle(calls)

    def call():
        return next(following)()

    return call


def calls_of(torch, problem, plan, sets):
    """Return what is timed, by name, and the array into which hwkit writes."""
    operands = sets[0]
    mine = torch.empty(problem.output.shape, device="cuda:0", dtype=operands[0].dtype)
    found = {
        "hwkit": in_turns([partial(plan, *given, out=mine) for given in sets]),
        "torch": in_turns([theirs(torch, problem, given) for given in sets]),
    }
    if problem.op.name == "gemm":
        try:
            from gpu.triton_matmul import matmul
        except ImportError:
            return found, mine
        other = torch.empty_like(mine)
        found["triton"] = lambda: matmul(*operands, other)
    return found, mine


def race(text, rounds=15):
    """Return median seconds of one launch by name, taken in turns."""
    from hwkit.dispatch import parse_problem, plan_problem
    from hwkit.registry import registry

    torch = torch_on_gpu()
    problem = parse_problem(text)
    device = registry().device("cuda:0")
    dtype = getattr(torch, problem.dtypes.input)
    torch.manual_seed(0)
    many = -(-_BEYOND_CACHES // problem.nbytes) if text in POOLS else 1
    sets = [
        [torch.randn(o.shape, device="cuda:0").to(dtype) for o in problem.operands]
        for _ in range(many)
    ]
    calls, mine = calls_of(torch, problem, plan_problem(problem, "cuda:0"), sets)
    want = theirs(torch, problem, [t.double() for t in sets[0]])()
    if problem.layout == "nhwc":
        want = want.permute(0, 2, 3, 1)
    for name, call in calls.items():
        answer = call()
        if name != "torch":
            answer = mine if name == "hwkit" else answer
            error = ((answer.double() - want).norm() / want.norm()).item()
            if not error < _TOLERANCE[problem.dtypes.input]:
                raise RuntimeError(f"the answer of {name} to '{text}' is wrong by {error:.1e}")
    taken = {name: [] for name in calls}
    launches = {n: min(_LAUNCHES, int(_SAMPLE / device.time(c)) + 1) for n, c in calls.items()}
    for number in range(rounds):
        for name in list(calls)[:: 1 if number % 2 else -1]:
            call, several = calls[name], range(launches[name])
            call()
            seconds = device.time(lambda call=call, several=several: [call() for _ in several])
            taken[name].append(seconds / len(several))
    return {name: median(times) for name, times in taken.items()}


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
        found = race(problem)
        return found["torch"] / found["hwkit"]

    track_times_as_fast_as_torch.unit = "times as fast"


class Launch:
    """What a call costs on the host, where the GPU has next to nothing to do."""

    def setup(self):
        from hwkit.testing import unavailable

        if unavailable("cuda:0"):
            raise NotImplementedError(unavailable("cuda:0"))

    def track_seconds_of_a_call(self):
        return launch_seconds()["own arrays"]

    track_seconds_of_a_call.unit = "seconds"


def launch_seconds(calls=2000):
    """Return the median host seconds of ``plan(a, b, out=y)`` for a product of 16, by arrays."""
    import numpy as np

    from hwkit.dispatch import parse_problem, plan_problem
    from hwkit.registry import registry

    device = registry().device("cuda:0")
    plan = plan_problem(parse_problem("gemm float32 nn m=16 n=16 k=16"), "cuda:0")
    given = {"own arrays": [device.put(np.ones((16, 16), np.float32)) for _ in range(3)]}
    try:
        ones = torch_on_gpu().ones
        given["torch's tensors"] = [ones(16, 16, device="cuda:0") for _ in range(3)]
    except NotImplementedError:
        pass
    found = {}
    for name, (a, b, y) in given.items():
        taken = []
        for _ in range(calls):
            start = time.perf_counter()
            plan(a, b, out=y)
            taken.append(time.perf_counter() - start)
        device.synchronise()
        found[name] = median(taken)
    return found


def circumstances():
    """Return GPU, driver and clocks, as ``nvidia-smi`` tells them, and the date."""
    asked = "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit,temperature.gpu"
    command = ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader", "--id=0"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    facts = dict(zip(asked.split(","), map(str.strip, said.split(",")), strict=True))
    return {**facts, "date": datetime.now(timezone.utc).isoformat(timespec="seconds")}


def write(path, result):
    """Write a file anew, whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    os.replace(part, path)


def main():
    """Measure all, write the file after each row, print the table."""
    from gpu import table

    from hwkit.dispatch import parse_problem
    from hwkit.registry import registry

    path = Path(sys.argv[1])
    result = {"before": circumstances(), "rows": []}
    write(path, result)
    result["ceilings"] = dict(registry().device("cuda:0").ceilings())
    result["launch_seconds"] = launch_seconds()
    for text in PROBLEMS:
        try:
            row = {"problem": text, **race(text)}
            if text in POOLS:
                moved = parse_problem(text).nbytes / row["hwkit"]
                row["share"] = moved / result["ceilings"]["byte/s"]
        except Exception as error:  # one that fails must not hide the others
            row = {"problem": text, "error": f"{type(error).__name__}: {error}"}
        result["rows"].append(row)
        write(path, result)
    result["after"] = circumstances()
    write(path, result)
    print(*table.lines(result), sep="\n")
    return 1 if any("error" in row for row in result["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
