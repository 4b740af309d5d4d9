"""Run by test_triton.py in processes of their own: kernels compiled for GPUs that are not there.

``python triton_compiled.py PARTS PART`` prints a JSON line for each Config: what the formulas say,
and what the compiler's machine code says.
"""

from __future__ import annotations

import json
import random
import re
import sys
from dataclasses import asdict
from typing import Any

from hwkit import Config, Kernel, Problem
from hwkit.registry import registry
from hwkit_triton import catalog
from hwkit_triton.compiled import compile_launch, facts
from hwkit_triton.run import arguments
from hwkit_triton.target import Target

ARCHS = (80, 90, 100, 120)

# Problem, kernel, how many Configs of its Space besides the default
DEFAULTS: tuple[tuple[str, str, int], ...] = (
    ("gemm float16 nn m=4096 n=4096 k=1024 +bias+relu", "triton_tiles", 1),
    ("gemm float32 nt m=512 n=512 k=512", "triton_tiles", 2),
    ("gemm int8,int8,int32,int32 nt m=256 n=256 k=256 +bias+relu", "triton_tiles", 0),
    ("matmul float16 b=4 m=256 n=256 k=256", "triton_tiles", 1),
    ("gemm bfloat16 nn m=4096 n=4096 k=1024 +silu", "triton_descriptors", 1),
    ("gemm float32 nt m=4096 n=4096 k=1024 +bias+relu", "triton_descriptors", 0),
    ("conv2d float16 nhwc n=32 c=64 h=56 w=56 k=64 r=3 s=3 pad=1 stride=1 +bias+relu",
     "triton_implicit", 1),
    ("conv2d bfloat16 nhwc n=1 c=512 h=7 w=7 k=512 r=3 s=3 pad=1 stride=1", "triton_implicit", 0),
    ("conv2d float16 nhwc n=32 c=3 h=224 w=224 k=64 r=7 s=7 pad=3 stride=2 +bias+relu",
     "triton_implicit", 0),
    ("conv2d float16 nhwc n=32 c=256 h=14 w=14 k=1024 r=1 s=1 pad=0 stride=1 +bias+residual+relu",
     "triton_tiles_1x1", 1),
    ("conv2d bfloat16 nhwc n=32 c=256 h=14 w=14 k=1024 r=1 s=1 pad=0 stride=1 +relu",
     "triton_descriptors_1x1", 1),
    ("max_pool2d float16 nhwc n=32 c=64 h=112 w=112 r=3 s=3 pad=1 stride=2", "triton_windows", 1),
    ("avg_pool2d bfloat16 nchw n=8 c=32 h=35 w=35 r=3 s=3 pad=1 stride=1", "triton_windows", 1),
    ("global_avg_pool2d float32 nhwc n=32 c=2048 h=7 w=7", "triton_images", 1),
    ("global_max_pool2d float64 nchw n=8 c=100 h=7 w=9", "triton_images", 1),
)  # fmt: skip

# Where warps are really specialised.
SPECIALIZED = (
    "gemm bfloat16 nt m=4096 n=4096 k=1024",
    "triton_descriptors",
    "bk=64 bm=128 bn=128 flat=false group=8 parts=1 specialized=true stages=3 warps=4",
)


def kernel_of(problem: Problem, name: str, target: Target) -> Kernel | None:
    """Return the kernel of that name, if the target has it."""
    found = [k for k in catalog.kernels(target) if (k.op, k.name) == (problem.op.name, name)]
    return found[0] if found else None


def exact(problem: Problem, config: Config) -> bool:
    """Whether the formula of shared memory is all, as it says of itself; else it is a bound."""
    if "bm" not in config:
        return False
    if "flat" in config:
        plain = len(problem.operands) == 2 and not config["specialized"]
        return plain and config["bm"] != 64 and config.get("precision", "tf32") == "tf32"
    rows = [operand.shape[-1] % 16 == 0 for operand in problem.operands]
    return all(rows) and int(config.get("stages", 3)) >= 3


def sampled(kernel: Any, problem: Problem, arch: int, count: int) -> list[Config]:
    """Return Configs of a Space, always the same ones, of tiles that compile fast."""
    found: list[Config] = []
    rng = random.Random(f"{arch} {problem}")
    while len(found) < count:
        config = kernel.space(problem).sample(rng)
        tile = int(config.get("bm", 1)) * int(config.get("bn", 1))
        small = tile <= 64 * 128 and int(config.get("bk", 1)) <= 64
        judged = "bm" not in config or exact(problem, config)
        new = config not in (kernel.default(problem), *found)
        if small and judged and new and kernel.static_check(problem, config) is None:
            found.append(config)
    return found


def cases() -> list[tuple[int, str, str, str, bool]]:
    """Return architecture, problem, kernel, Config, and whether it is the default."""
    found = []
    for text, name, count in DEFAULTS:
        problem = registry().op(text.split(maxsplit=1)[0]).parse(text)
        for arch in ARCHS:
            kernel = kernel_of(problem, name, Target.named(arch, 132))
            if kernel is None:
                continue
            configs = [kernel.default(problem), *sampled(kernel, problem, arch, count)]
            found += [(arch, text, name, str(c), i == 0) for i, c in enumerate(configs)]
    return [*found, (90, *SPECIALIZED, False)]


def parameters(ptx: str) -> list[int]:
    """Return the sizes in bytes of the parameters of a kernel."""
    head = re.search(r"\.entry [^(]*\((.*?)\)", ptx, re.DOTALL)
    kinds = re.findall(r"\.param \.[a-z](\d+)", head[1] if head else "")
    return [int(bits) // 8 for bits in kinds]


def check(arch: int, text: str, name: str, config_text: str, default: bool) -> dict[str, Any]:
    """Compile one Config and return what came of it."""
    target = Target.named(arch, 132)
    problem = registry().op(text.split(maxsplit=1)[0]).parse(text)
    kernel: Any = kernel_of(problem, name, target)
    config = Config.parse(config_text)
    assert config in kernel.space(problem)
    launches = kernel.launches(problem, config)
    compiled = [compile_launch(launch, arch) for launch in launches]
    # The last two are addresses of the compiler's scratch memories.
    sizes = [[getattr(a, "nbytes", 8) for a in arguments(launch)] + [8, 8] for launch in launches]
    found = facts(compiled[0])
    return {
        "arch": arch, "problem": text, "kernel": name, "config": config_text, "default": default,
        "formula": kernel.shared_memory(problem, config), "exact": exact(problem, config),
        **asdict(found),
        "matrix": found.tensor_cores,
        "reason": kernel.why_not(problem, config, found),
        "launches": [launch.function for launch in launches],
        "given": sizes, "wanted": [parameters(c.asm["ptx"]) for c in compiled],
        "fusion": all(c.metadata.enable_fp_fusion for c in compiled),
    }  # fmt: skip


if __name__ == "__main__":
    parts, part = (int(word) for word in sys.argv[1:3]) if len(sys.argv) > 2 else (1, 0)
    for case in cases()[part::parts]:
        print(json.dumps(check(*case)), flush=True)
