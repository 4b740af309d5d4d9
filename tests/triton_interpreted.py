"""Run by test_triton.py in a process of its own: every kernel in Triton's interpreter.

``TRITON_INTERPRET=1 python triton_interpreted.py`` prints a JSON line for each case: which kernel,
its error against float64, and what is allowed. Arrays are numpy's; neither torch nor a GPU is used.
With the argument ``far`` it prints what :func:`far` returns.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np

from hwkit import Config, Kernel, Problem
from hwkit.op import relative_error
from hwkit.registry import registry
from hwkit_triton import catalog
from hwkit_triton.launch import OUT, PARTIAL, Launch, Number, Slot
from hwkit_triton.target import Target

# The interpreter cuts bfloat16 where it should round.
CUT = {"bfloat16": 2.0}
# One bfloat16 or float16 product sum is stored once; sums in another order than the reference's.
SLACK = 1.5

CASES: tuple[tuple[str, str, str], ...] = (
    # Problem, kernel, changes to its default Config
    ("gemm float32 nn m=65 n=70 k=77 +bias+relu", "triton_tiles", "bm=32 bn=32 splits=1"),
    ("gemm float32 tt m=17 n=13 k=29 alpha=0.5 beta=-2.0 +bias+residual+leaky_relu:0.1",
     "triton_tiles", "splits=1"),
    ("gemm float32 nt m=40 n=50 k=300 beta=1.0 +residual+silu", "triton_tiles", "splits=4"),
    ("gemm float32 tn m=33 n=64 k=48 +hard_swish", "triton_tiles", "precision=tf32x3 splits=1"),
    ("gemm float16 nn m=100 n=90 k=130 +bias+sigmoid", "triton_tiles", "splits=2 group=1"),
    ("gemm float16 tn m=64 n=64 k=128 +clip:-1.0,1.0", "triton_tiles", ""),
    ("gemm bfloat16 nt m=70 n=33 k=90 +bias+relu6", "triton_tiles", ""),
    ("gemm int8,int8,int32,int32 nn m=33 n=40 k=70 +bias+relu", "triton_tiles", "splits=1"),
    ("gemm int8,int8,int32,int32 nt m=33 n=40 k=130", "triton_tiles", "splits=2 bk=32"),
    ("matmul float32 b=3 m=17 n=5 k=31 shared=b", "triton_tiles", "splits=1"),
    ("matmul float16 b=4 m=20 n=40 k=70", "triton_tiles", "splits=2 bk=32"),
    ("matmul bfloat16 b=2 m=20 n=40 k=70 shared=a", "triton_tiles", ""),
    ("gemm float16 nn m=200 n=96 k=136 +bias+relu", "triton_descriptors", "parts=1"),
    ("gemm float16 nt m=150 n=80 k=72 +residual+silu", "triton_descriptors", "parts=2"),
    ("gemm float16 tn m=136 n=72 k=40 alpha=0.5 beta=2.0", "triton_descriptors", "flat=false"),
    ("gemm bfloat16 tt m=72 n=104 k=64 +bias", "triton_descriptors", ""),
    ("gemm float32 nt m=70 n=68 k=60 +relu", "triton_descriptors", "precision=tf32x3"),
    ("gemm float16 nt m=300 n=136 k=64 +bias", "triton_descriptors",
     "bm=128 bn=128 warps=4 specialized=true flat=false"),
    ("conv2d float32 nhwc n=2 c=16 h=9 w=7 k=24 r=3 s=3 pad=1 stride=1 +bias+relu",
     "triton_implicit", "splits=1 order=taps"),
    ("conv2d float32 nhwc n=1 c=3 h=15 w=13 k=20 r=7 s=7 pad=3 stride=2 +bias+residual+relu",
     "triton_implicit", "splits=1 order=flat"),
    ("conv2d float32 nhwc n=2 c=32 h=11 w=9 k=16 r=3 s=5 pad=1,2,0,3 stride=2,1 dilation=1,2 "
     "groups=2 +bias+residual+leaky_relu:0.1", "triton_implicit", "splits=2 order=taps bk=16"),
    ("conv2d float16 nhwc n=1 c=24 h=10 w=10 k=40 r=3 s=3 pad=1 stride=1 +silu",
     "triton_implicit", "splits=2 order=flat bk=32"),
    ("conv2d float16 nhwc n=1 c=64 h=8 w=8 k=64 r=3 s=3 pad=1 stride=2", "triton_implicit", ""),
    ("conv2d bfloat16 nhwc n=1 c=32 h=9 w=9 k=32 r=3 s=3 pad=1 stride=1 +bias",
     "triton_implicit", ""),
    ("conv2d int8,int8,int32,int32 nhwc n=1 c=24 h=7 w=7 k=40 r=3 s=3 pad=1 stride=1 +bias+relu",
     "triton_implicit", "splits=1"),
    ("conv2d float32 nhwc n=2 c=40 h=6 w=5 k=48 r=1 s=1 pad=0 stride=1 +bias+residual+relu",
     "triton_tiles_1x1", ""),
    ("conv2d float16 nhwc n=1 c=64 h=14 w=14 k=48 r=1 s=1 pad=0 stride=1 +bias+relu6",
     "triton_descriptors_1x1", ""),
    ("max_pool2d float32 nhwc n=2 c=5 h=19 w=23 r=3 s=2 pad=1,0,2,1 stride=2,3 dilation=2,1 "
     "ceil_mode=true", "triton_windows", ""),
    ("max_pool2d float16 nchw n=1 c=16 h=28 w=28 r=2 s=2 pad=0 stride=2", "triton_windows", ""),
    ("max_pool2d bfloat16 nhwc n=1 c=8 h=9 w=9 r=3 s=3 pad=1 stride=2", "triton_windows", ""),
    ("avg_pool2d float32 nchw n=2 c=5 h=19 w=23 r=3 s=2 pad=1,0,0,1 stride=2,3 dilation=2,1 "
     "ceil_mode=true", "triton_windows", "block=128 warps=1"),
    ("avg_pool2d float64 nhwc n=2 c=7 h=15 w=11 r=3 s=3 pad=1 stride=2 ceil_mode=true "
     "count_include_pad=false", "triton_windows", ""),
    ("avg_pool2d float16 nhwc n=1 c=16 h=14 w=14 r=7 s=7 pad=0 stride=7", "triton_windows", ""),
    ("global_avg_pool2d float32 nhwc n=2 c=70 h=7 w=7", "triton_images", ""),
    ("global_avg_pool2d float16 nchw n=2 c=33 h=14 w=14", "triton_images", ""),
    ("global_max_pool2d float32 nchw n=3 c=5 h=9 w=13", "triton_images", ""),
    ("global_max_pool2d float64 nhwc n=2 c=7 h=11 w=3", "triton_images", "bp=4 bc=16 warps=1"),
)  # fmt: skip


class Memory:
    """A numpy array with what the interpreter asks of a tensor."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array
        self.dtype = array.dtype

    def data_ptr(self) -> int:
        return int(self.array.ctypes.data)

    def untyped_storage(self) -> Memory:
        return self

    def cpu(self) -> Memory:
        return self

    def new_empty(self, size: int, device: str) -> Memory:
        return Memory(np.empty(size, self.dtype))

    def set_(self, storage: Memory, *place: Any) -> None:
        self.array = storage.array

    def storage_offset(self) -> int:
        return 0

    def size(self) -> tuple[int, ...]:
        return self.array.shape

    def stride(self) -> tuple[int, ...]:
        return tuple(step // self.array.itemsize for step in self.array.strides)

    def copy_(self, other: Memory) -> None:
        assert other.data_ptr() == self.data_ptr()


def run(launch: Launch, memory: dict[int, Memory]) -> None:
    """Run one launch in the interpreter."""
    given: dict[str, Any] = {}
    for name, value in launch.arguments.items():
        if isinstance(value, Slot):
            given[name] = memory[value.number]
        else:
            given[name] = value.value if isinstance(value, Number) else value
    launch.text[launch.grid](**given, **launch.constants)


def answer(kernel: Kernel, problem: Problem, config: Config, operands: Any) -> Any:
    """Return what the launches write into an output that was full of NaN."""
    launches = kernel.launches(problem, config, upcast=True)  # type: ignore[attr-defined]
    out = np.empty(problem.output.shape, problem.output.dtype)
    out.reshape(-1).view(np.uint8)[:] = 255
    partial = np.full(max(launch.scratch for launch in launches) // 4 + 1, np.nan, np.float32)
    memory = {i: Memory(np.ascontiguousarray(array)) for i, array in enumerate(operands)}
    memory |= {OUT: Memory(out), PARTIAL: Memory(partial)}
    for launch in launches:
        wanted = {a.dtype for a in launch.arguments.values() if isinstance(a, Slot)}
        if "int32" in wanted:
            memory[PARTIAL] = Memory(memory[PARTIAL].array.view(np.int32))
        run(launch, memory)
    return out


def check(text: str, name: str, changes: str) -> dict[str, Any]:
    """Return what one case came to."""
    problem = registry().op(text.split(maxsplit=1)[0]).parse(text)
    target = Target.named(90, 4)
    (kernel,) = (k for k in catalog.kernels(target) if (k.op, k.name) == (problem.op.name, name))
    assert kernel.supports(problem) is True, kernel.supports(problem)
    config = kernel.default(problem).replace(**Config.parse(changes))
    space = kernel.space(problem)
    assert config in space, space.why_not(config)
    operands = problem.random_operands(7)
    if "pool" in text and "max" in text:
        operands[0].reshape(-1)[5] = np.nan
    wide = [a.astype(np.int64 if a.dtype.kind in "iu" else np.float64) for a in operands]
    error = relative_error(
        answer(kernel, problem, config, operands).astype(np.float64), problem.reference(*wide)
    )
    allowed = SLACK * CUT.get(problem.dtypes.output, 1.0) * problem.error_budget()
    functions = [launch.function for launch in kernel.launches(problem, config)]
    return {
        "problem": text, "kernel": name, "config": str(config), "error": error,
        "allowed": allowed, "functions": functions,
    }  # fmt: skip


def far() -> float:
    """Return what lies beyond 2**31 elements in the partial sums, as they are added up.

    The memory is that of zeros nobody wrote: of 9 GB a page is taken.
    """
    splits, total, block = 3, 2**30 + 1024, 1024
    length = splits * total
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    partial = np.frombuffer(mmap.mmap(-1, 4 * length, flags=flags), np.float32)
    partial[(splits - 1) * total] = 5.0
    out = np.zeros(block, np.float32)
    slots = {name: Slot(OUT, "float32") for name in ("c", "bias", "residual", "out")}
    numbers = {name: Number(1.0) for name in ("alpha", "beta", "low", "high")}
    sizes: dict[str, Any] = {"total": total, "columns": total}
    names = ("SCALED", "HAS_C", "HAS_BIAS", "HAS_RESIDUAL")
    constants = {"SPLITS": splits, "BLOCK": block, "ACTIVATION": "none"}
    launch = Launch(
        "epilogue.reduce_splits",
        (1, 1, 1),
        {"partial": Slot(PARTIAL, "float32"), **slots, **numbers, **sizes},
        {**constants, **dict.fromkeys(names, False)},
    )
    run(launch, {OUT: Memory(out), PARTIAL: Memory(partial)})
    return float(out[0])


if __name__ == "__main__":
    if sys.argv[1:] == ["far"]:
        print(far())
        sys.exit()
    parts, part = (int(word) for word in sys.argv[1:3]) if len(sys.argv) > 2 else (1, 0)
    for case in CASES[part::parts]:
        print(json.dumps(check(*case)), flush=True)
