"""What benchmarks share: the problems, the devices, and plans with or without records.

From asv_runner 0.3 on, ``setup`` runs between any two timed calls. What it makes is therefore kept
by ``functools.cache``, wherever a call is not meant to be the first one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import hwkit

DEVICES = ["cpu:0", "cuda:0", "opencl:0"]
"""All devices that there may be; those that are not here are skipped."""

# Written out, not read from the Ops: parameters must not change with the version.
PROBLEMS = {
    "conv2d": [
        "conv2d float32 nchw n=1 c=64 h=56 w=56 k=64 r=3 s=3 pad=1 stride=1",
        "conv2d float32 nchw n=1 c=3 h=224 w=224 k=64 r=7 s=7 pad=3 stride=2 +bias+relu",
        "conv2d float32 nchw n=1 c=256 h=14 w=14 k=1024 r=1 s=1 pad=0 stride=1 +bias+residual+relu",
        "conv2d float32 nhwc n=1 c=128 h=28 w=28 k=128 r=3 s=3 pad=1 stride=1 +bias+relu",
        "conv2d float32 nhwc n=1 c=256 h=56 w=56 k=512 r=1 s=1 pad=0 stride=2",
        "conv2d float32 nchw n=1 c=512 h=14 w=14 k=512 r=3 s=3 pad=1 stride=1 +bias+relu",
        "conv2d float32 nchw n=1 c=32 h=112 w=112 k=32 r=3 s=3 pad=1 stride=1 groups=32 "
        "+bias+relu6",
        "conv2d float32 nhwc n=1 c=512 h=14 w=14 k=512 r=1 s=1 pad=0 stride=1 +bias+relu6",
        "conv2d float16 nchw n=1 c=32 h=20 w=20 k=48 r=3 s=3 pad=1 stride=1 +bias+silu",
    ],
    "gemm": [
        *(f"gemm float32 nn m={n} n={n} k={n}" for n in (128, 256, 512, 1024)),
        "gemm float32 nt m=1 n=1000 k=2048 +bias",
        "gemm float32 nt m=64 n=1024 k=1024 +bias+relu",
        "gemm float64 nn m=200 n=200 k=200",
        "gemm float16 nn m=64 n=96 k=128 +bias+silu",
    ],
    "matmul": [
        "matmul float32 b=12 m=128 n=128 k=64",
        "matmul float32 b=256 m=4 n=4 k=4",
        "matmul float32 b=8 m=64 n=196 k=64 shared=a",
    ],
    "max_pool2d": [
        "max_pool2d float32 nchw n=1 c=64 h=112 w=112 r=3 s=3 pad=1 stride=2",
        "max_pool2d float32 nhwc n=1 c=64 h=112 w=112 r=3 s=3 pad=1 stride=2",
    ],
    "avg_pool2d": [
        "avg_pool2d float32 nchw n=1 c=192 h=35 w=35 r=3 s=3 pad=1 stride=1",
        "avg_pool2d float32 nhwc n=1 c=128 h=56 w=56 r=2 s=2 pad=0 stride=2",
    ],
    "global_avg_pool2d": ["global_avg_pool2d float32 nchw n=1 c=2048 h=7 w=7"],
    "global_max_pool2d": ["global_max_pool2d float32 nchw n=1 c=2048 h=7 w=7"],
    "elementwise": [
        "elementwise float32 b=1 n=1 c=183360 l=1 activation=sigmoid",
        "elementwise float32 b=1 n=784 c=120 l=1 operator=multiply",
    ],
    "local_response_norm": ["local_response_norm float32 nhwc n=1 c=64 h=56 w=56 size=5"],
    "transpose": [
        "transpose float32 b=1 r=3 c=50176",
        "transpose float32 b=784 r=3 c=80",
    ],
    "qconv2d": [
        "qconv2d uint8,int8,uint8,int32 nchw n=1 c=64 h=56 w=56 k=64 r=3 s=3 pad=1 stride=1 "
        "per_channel=true +bias",
        "qconv2d int8,int8,int8,int32 nhwc n=1 c=128 h=28 w=28 k=128 r=3 s=3 pad=1 stride=1 "
        "per_channel=true +bias",
        "qconv2d uint8,int8,uint8,int32 nchw n=1 c=128 h=28 w=28 k=128 r=3 s=3 pad=1 stride=1 "
        "groups=128 per_channel=true +bias",
    ],
    "qmatmul": [
        "qmatmul uint8,int8,int32,int32 nn b=1 m=512 n=512 k=512",
        "qmatmul uint8,int8,uint8,int32 nt b=1 m=1 n=1000 k=2048 per_channel=true +bias",
    ],
}


def open_device(name: str) -> Any:
    """Return the device; the benchmark is skipped if it is not here."""
    from hwkit.registry import registry

    try:
        return registry().device(name)
    except hwkit.HwkitError as reason:
        raise NotImplementedError(str(reason)) from None


def make_plan(text: str, device_name: str, config: str) -> Any:
    """Return a plan for a problem by its text.

    Args:
        text: the problem.
        device_name: where.
        config: ``"default"`` whatever the records say, or ``"tuned"``, skipped without a record.
    """
    from hwkit.dispatch import parse_problem, plan_problem
    from hwkit.plans import Plan
    from hwkit.registry import registry
    from hwkit.selection import select

    device = open_device(device_name)
    problem = parse_problem(text)
    try:
        if config == "default":
            kernels = registry().kernels(device, problem.op.name)
            chosen = select(problem, device, kernels, ())
            return Plan(problem, device, chosen.kernel, chosen.config)
        made = plan_problem(problem, device_name)
    except hwkit.NoKernel as reason:
        raise NotImplementedError(str(reason)) from None
    if made.source not in ("user record", "shipped record"):
        raise NotImplementedError(f"there is no record: hwkit tune --problem '{problem}'")
    return made


class Ready:
    """A plan and its buffers; the weights of a convolution are packed, as in inference."""

    def __init__(self, plan: Any) -> None:
        problem, device = plan.problem, plan.device
        names = [operand.name for operand in problem.operands]
        arrays = dict(zip(names, problem.random_operands(), strict=True))
        if problem.op.name in ("conv2d", "qconv2d"):
            plan = plan.prepack(*(arrays.pop(n) for n in names if n in problem.op.constants))
        self.plan = plan
        self.operands = tuple(device.put(array) for array in arrays.values())
        self.out = device.empty(problem.output.shape, problem.output.dtype)
        self()  # touches every page, and starts the threads

    def __call__(self) -> None:
        self.plan(*self.operands, out=self.out)


@cache
def ready(text: str, device_name: str, config: str) -> Ready:
    """Return :func:`make_plan` of these with its buffers, the same ones each time."""
    return Ready(make_plan(text, device_name, config))
