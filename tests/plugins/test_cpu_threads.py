"""The thread pool: stress under the thread sanitizer, many callers at once, fork."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit.dispatch import plan_problem

ROOT = Path(__file__).parents[2]

PROBLEMS = (
    "conv2d float32 nhwc n=1 c=32 h=40 w=40 k=32 r=3 s=3 pad=1 stride=1 groups=32 +bias+relu",
    "conv2d float32 nchw n=1 c=32 h=40 w=40 k=32 r=3 s=3 pad=1 stride=1",
    "gemm float32 nn m=200 n=200 k=200",
    "max_pool2d float32 nhwc n=1 c=64 h=56 w=56 r=3 s=3 pad=1 stride=2",
    "avg_pool2d float16 nchw n=1 c=64 h=56 w=56 r=2 s=2 pad=0 stride=2",
)

FORK = """
import os, sys
import numpy as np
from hwkit.dispatch import plan_problem
texts = sys.argv[1:]
made = [(plan_problem(t), plan_problem(t).problem.random_operands(1)) for t in texts]
want = [p(*o) for p, o in made]
for i in range(3):
    child = os.fork()
    if child == 0:
        import signal
        signal.alarm(60)
        same = all(np.array_equal(p(*o), w) for (p, o), w in zip(made, want))
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert all(np.array_equal(p(*o), w) for (p, o), w in zip(made, want))
print("ok")
"""


@pytest.mark.parametrize("sanitizer", ["-O2", "-fsanitize=thread"])
@pytest.mark.parametrize("threads", [2, 4])
def test_the_pool_survives_stress(tmp_path: Path, sanitizer: str, threads: int) -> None:
    """Nested, concurrent and huge loops run every chunk once, without a data race.

    So do those whose threads are slow, late, missing, or more than there are CPUs.
    """
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("gcc or clang is not installed")
    program = tmp_path / "threads_test"
    source = ROOT / "tests" / "c" / "threads_test.c"
    command = [compiler, "-g", "-O1", sanitizer, "-Wall", "-Wextra", "-Werror"]
    command += [f"-I{ROOT / 'cython'}", str(source), "-pthread", "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode and "tsan" in built.stderr:
        pytest.skip("the compiler's thread sanitizer is not installed")
    assert built.returncode == 0, built.stderr
    # The sanitizer does not support new threads in a child of fork().
    rest = ["no-fork"] if "thread" in sanitizer else []
    done = subprocess.run(
        [str(program), str(threads), *rest], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("ok")


def test_eight_threads_share_plans() -> None:
    """Plans called by eight threads at once give each the answer it gets alone."""
    plans = [plan_problem(text) for text in PROBLEMS]
    inputs = [[p.problem.random_operands(seed) for p in plans] for seed in range(8)]
    want = [[p(*o) for p, o in zip(plans, row, strict=True)] for row in inputs]
    wrong: list[Any] = []
    start = threading.Barrier(8)

    def work(row: int) -> None:
        start.wait()
        for _ in range(20):
            for plan, operands, expected in zip(plans, inputs[row], want[row], strict=True):
                if not np.array_equal(plan(*operands), expected):
                    wrong.append((row, plan))

    workers = [threading.Thread(target=work, args=(row,)) for row in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_plans_work_in_a_child_of_fork() -> None:
    """Parent and children compute the same after the parent has used its threads."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, *PROBLEMS],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "ok", done.stderr
