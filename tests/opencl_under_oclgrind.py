"""Runs every OpenCL kernel under oclgrind; started by tests/plugins/test_opencl_oclgrind.py.

The name of a fault as an argument replaces part of a kernel's text by a wrong one, which oclgrind
must report. ``texels`` reads images as the buffers they lie over, and ``false`` runs two right
kernels that oclgrind 21.10 reports nevertheless. Prints how many kernels ran and the largest error
relative to the budget.

Two faults of oclgrind's check for uninitialised values (src/plugins/Uninitialized.cpp) need care.
The shadow of a buffer outlives the buffer, so that a larger one at its address has a shadow that is
too short, and whatever lies beyond counts as unwritten: here no buffer is released. And the shadow
of an image is read as if it were the image's description, of which it is no part, so that what
read_imagef returns counts as unwritten by chance: hence ``texels``.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np

from hwkit import Config
from hwkit.dispatch import parse_problem
from hwkit.op import relative_error
from hwkit.registry import registry
from hwkit_opencl import programs
from hwkit_opencl.fpga import ChannelGemm
from hwkit_opencl.run import Texels

# Ragged sizes, and a depth of more than one stage: with one, a missing barrier does not race.
CASES: tuple[tuple[str, str, str], ...] = (
    ("packed_gemm", "gemm float32 tt m=7 n=11 k=9 beta=1.0 +bias+residual+relu", "mr=3 nv=1 vec=4"),
    ("packed_gemm", "matmul float64 b=2 m=5 n=9 k=6 shared=b", "mr=2 nv=2 vec=2 unroll=4"),
    ("plain_gemm", "gemm float32 nn m=7 n=11 k=9 alpha=0.5 +sigmoid", "mr=2 nv=2 vec=4 wm=2 wn=2"),
    ("plain_gemm", "gemm float16 tn m=3 n=5 k=1", "mr=2 nv=1 vec=2"),
    ("local_gemm", "gemm float32 nn m=13 n=10 k=21 +bias", "mr=2 nv=1 vec=2 wm=4 wn=4 stage=8"),
    ("image_gemm", "gemm float32 nt m=7 n=11 k=9 alpha=0.5 +bias", "mr=3 nv=1 vec=4"),
    ("image_gemm", "matmul float32 b=2 m=5 n=9 k=6", "mr=2 nv=2 vec=4 wm=2 wn=2"),
    ("implicit_conv2d", "conv2d float32 nchw n=2 c=6 h=7 w=6 k=10 r=3 s=2 pad=1,2,0,3 stride=2,1 "
     "dilation=1,2 groups=2 +bias+residual+leaky_relu:0.1", "mr=3 nv=1 vec=4 unroll=2"),
    ("implicit_conv2d", "conv2d float32 nhwc n=1 c=5 h=4 w=5 k=7 r=1 s=1 pad=0 stride=1",
     "wm=2 wn=2"),
    ("image_conv2d", "conv2d float32 nchw n=2 c=6 h=7 w=6 k=10 r=3 s=2 pad=1,2,0,3 stride=2,1 "
     "dilation=1,2 groups=2 +bias+residual+relu", "mr=3 nv=1 vec=4 image=1"),
    ("image_conv2d", "conv2d float32 nhwc n=2 c=8 h=5 w=6 k=7 r=3 s=3 pad=1 stride=2 groups=1 "
     "+relu", "mr=2 nv=2 vec=4 wn=2 image=2"),
    ("rows_conv2d", "conv2d float32 nchw n=1 c=4 h=5 w=11 k=4 r=3 s=3 pad=1 stride=1 groups=4 "
     "+bias+relu6", "vec=4 tile=1"),
    ("rows_conv2d", "conv2d float32 nhwc n=1 c=4 h=5 w=7 k=6 r=3 s=3 pad=1 stride=2 groups=2",
     "vec=2 tile=2 wm=4"),
    ("channels_conv2d", "conv2d float32 nhwc n=1 c=6 h=5 w=5 k=6 r=3 s=3 pad=0,1,0,1 stride=2 "
     "groups=6 +silu", "vec=4 tile=2"),
    ("window_pool2d", "max_pool2d float32 nchw n=1 c=2 h=7 w=9 r=3 s=2 pad=1,0,2,1 stride=2,3 "
     "dilation=2,1 ceil_mode=true", "vec=4 wm=4"),
    ("window_pool2d", "avg_pool2d float32 nhwc n=1 c=5 h=7 w=6 r=3 s=3 pad=1 stride=2 "
     "ceil_mode=true count_include_pad=false", "vec=2 wm=4"),
    ("image_pool2d", "global_avg_pool2d float32 nchw n=2 c=3 h=5 w=7", "vec=2 wm=4"),
    ("image_pool2d", "global_max_pool2d float32 nchw n=2 c=3 h=5 w=7", "vec=2 wm=4"),
)  # fmt: skip

FPGA_CASES: tuple[tuple[str, str, str], ...] = (
    ("fpga_gemm", "gemm float32 nn m=19 n=5 k=40 beta=0.5 +bias+residual+silu", ""),
    ("fpga_gemm", "matmul float16 b=2 m=7 n=9 k=6 shared=b", "rows=2 columns=8 interleave=1"),
    ("fpga_conv2d", "conv2d float32 nchw n=2 c=6 h=7 w=6 k=10 r=3 s=2 pad=1,2,0,3 stride=2,1 "
     "dilation=1,2 groups=2 +bias+residual+relu", ""),
    ("fpga_pool2d", "max_pool2d float32 nchw n=1 c=5 h=7 w=9 r=3 s=2 pad=1,0,1,1 stride=2", ""),
    ("fpga_pool2d", "global_avg_pool2d float32 nhwc n=2 c=5 h=3 w=4", "columns=2"),
)  # fmt: skip

CHECKER = "Oclgrind"

# Fault: the kernel file, what stands there, what is put instead.
FAULTS = {
    "race": ("gemm.cl", "        BARRIER();\n    }\n    if (row", "    }\n    if (row"),
    "bounds": ("gemm.cl", "if (row + i >= m || left <= 0)", "if (left <= 0)"),
    "panels": ("gemm.cl", "            store1(to + j, (A)0);", "            ;"),
    "weights": ("conv2d.cl", "            store1(to + j, (A)0);", "            ;"),
    "sums": ("direct.cl", "        sum[i] = v_splat((A)0);", "        ;"),
}
TEXELS = (
    ("#define TEXELS __read_only image1d_buffer_t", "#define TEXELS const GLOBAL T *"),
    ("read_imagef(image, at)", "vload4(at, image)"),
)

# Channels as arrays in memory, long enough for all: kernels joined by them run one after another.
CHANNEL_CASE = "gemm float32 tn m=7 n=11 k=9 beta=0.5 +bias+residual+relu"
CHANNELS = """
#define write_channel_intel(channel, value) ((channel)->at[(channel)->sent++] = (value))
#define read_channel_intel(channel) ((channel)->at[(channel)->taken++])
typedef struct { i64 sent, taken; Step at[512]; } StepChannel;
typedef struct { i64 sent, taken; Sums at[512]; } SumsChannel;
"""
IN_MEMORY = (
    ("channel Step steps __attribute__((depth(DEPTH)));", CHANNELS),
    ("channel Sums sums __attribute__((depth(DEPTH)));", ""),
    ("#pragma OPENCL EXTENSION cl_intel_channels : enable", ""),
    ("KERNEL(channel_read)(", "KERNEL(channel_read)(GLOBAL StepChannel *steps, "),
    ("KERNEL(channel_multiply)(",
     "KERNEL(channel_multiply)(GLOBAL StepChannel *steps, GLOBAL SumsChannel *sums, "),
    ("KERNEL(channel_write)(", "KERNEL(channel_write)(GLOBAL SumsChannel *sums, "),
)  # fmt: skip

RIGHT_BUT_REPORTED = """
__kernel void fill(__global float *x) { x[get_global_id(0)] = 1; }
__kernel void copy(__global const float *x, __global float *y)
{
    y[get_global_id(0)] = x[get_global_id(0)];
}
__kernel void copy_image(__global float4 *y, __read_only image1d_buffer_t x)
{
    float4 lanes[2];
    lanes[1] = read_imagef(x, (int)get_global_id(0));
    y[get_global_id(0)] = lanes[1];
}
"""


def substitute(file: str, right: str, other: str) -> None:
    """Replace a part of a text, which is there once, on its way to the compiler."""
    real = programs.source
    assert real(file).count(right) == 1, f"{file} has not one '{right}'"
    text = real(file).replace(right, other)
    programs.source = lambda name: text if name == file else real(name)  # type: ignore[assignment]


def read_texels_from_buffers() -> None:
    """Let kernels that take images take the buffers that these lie over."""
    for file in ("gemm.cl", "conv2d.cl"):
        for right, other in TEXELS:
            substitute(file, right, other)
    Texels.over = classmethod(lambda cls, device, memory: cls(memory, memory))  # type: ignore[assignment,method-assign]


def opened(name: str, kept: list[Any]) -> Any:
    """Return a device that keeps every buffer, none of which is memory of the host.

    What is the host's memory counts as initialised from the start.
    """
    device: Any = registry().device(name)
    assert CHECKER in device.found.platform.name
    device.shares_memory = False
    real = device._new

    def kept_forever(*arguments: Any) -> Any:
        kept.append(real(*arguments))
        return kept[-1]

    device._new = kept_forever
    return device


def run(device: Any, name: str, text: str, tunables: str) -> float:
    """Return the error of one case, as a share of its budget."""
    problem = parse_problem(text)
    kernel = kernel_of(device, name, problem.op.name)
    config = Config({**kernel.default(problem), "wm": 1, **Config.parse(tunables)})
    config = Config({k: v for k, v in config.items() if k in kernel.default(problem)})
    assert kernel.space(problem).why_not(config) is None, (name, config)
    operands = problem.random_operands()
    out = device.put(np.full(problem.output.shape, np.nan, problem.output.dtype))
    built = kernel.build(problem, config)
    if name == "channel_gemm" and CHECKER in device.found.platform.name:
        join_in_memory(device, built)
    built(*map(device.put, operands), out=out)
    wide = [a.astype(np.float64) for a in operands]
    error = relative_error(device.get(out), problem.reference(*wide))
    return error / max(problem.error_budget(), 1e-30)


def kernel_of(device: Any, name: str, op: str) -> Any:
    """Return a kernel by name; the one with channels also where the runtime has none."""
    if name == ChannelGemm.name:
        return ChannelGemm(device, op)
    return next(k for k in registry().kernels(device, op) if k.name == name)


def join_in_memory(device: Any, built: Any) -> None:
    """Give the three kernels their channels as buffers, and one queue."""
    steps, sums = (device.put(np.zeros(1 << 16, np.uint8)).base_data for _ in range(2))
    joined = ((steps,), (steps, sums), (sums,))
    built.launches = [
        replace(launch, arguments=(*channels, *launch.arguments), queue=None)
        for launch, channels in zip(built.launches, joined, strict=True)
    ]


def run_what_is_reported_falsely(device: Any) -> None:
    """Read a written buffer where a smaller one was before, and an image of written texels."""
    import pyopencl as cl

    queue, context, flags = device.queue, device.context, cl.mem_flags.READ_WRITE
    program = cl.Program(context, RIGHT_BUT_REPORTED).build()
    host, found = np.ones(64, np.float32), np.zeros(64, np.float32)
    small, y = (cl.Buffer(context, flags, host.nbytes) for _ in range(2))
    cl.enqueue_copy(queue, small, host)
    small.release()
    x = cl.Buffer(context, flags, 2 * host.nbytes)
    program.fill(queue, (128,), None, x)
    program.copy(queue, (64,), None, x.get_sub_region(host.nbytes, host.nbytes), y)
    cl.enqueue_copy(queue, found, y)
    assert (found == 1).all()
    # After the other, because garbage of its shadows is what is taken for the description.
    cl.enqueue_copy(queue, x, np.ones(128, np.float32))
    image = Texels.over(device, x).image
    kernel = program.copy_image
    for _ in range(64):
        kernel(queue, (16,), None, y, image)
    cl.enqueue_copy(queue, found, y)
    assert (found == 1).all()


def main() -> None:
    """Run all cases, or those of the planted fault's file."""
    kept: list[Any] = []
    gpu, fpga = (opened(name, kept) for name in ("opencl:0", "opencl:fpga-arria10"))
    if "false" in sys.argv:
        run_what_is_reported_falsely(gpu)
        return
    if "texels" in sys.argv:
        read_texels_from_buffers()
    for right, other in IN_MEMORY:
        substitute("channels.cl", right, other)
    cases = [(gpu, *case) for case in CASES] + [(fpga, *case) for case in FPGA_CASES]
    cases.append((fpga, "channel_gemm", CHANNEL_CASE, "rows=2 columns=4 interleave=2"))
    for fault in FAULTS.keys() & {*sys.argv}:
        file = FAULTS[fault][0]
        substitute(*FAULTS[fault])
        cases = [case for case in cases if file_of(*case[:3]) == file]
    worst = max(run(*case) for case in cases)
    print(f"kernels={len(cases)} error={worst:.3f} of the budget")


def file_of(device: Any, name: str, text: str) -> str:
    """Return the kernel file of a case."""
    return str(kernel_of(device, name, parse_problem(text).op.name).file)


if __name__ == "__main__":
    main()
