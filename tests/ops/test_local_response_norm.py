"""The contract of local_response_norm, the public function, and the kernel of the host."""

from __future__ import annotations

import random

import numpy as np
import pytest

import hwkit
from hwkit import ArgumentError, Spec
from hwkit.op import relative_error
from hwkit.ops.local_response_norm import LOCAL_RESPONSE_NORM
from hwkit.registry import registry


def test_it_agrees_with_torch(rng: np.random.Generator) -> None:
    """Both divide alpha by the number of channels of a window."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = rng.standard_normal((2, 9, 5, 4)).astype(np.float32)
    want = torch.nn.functional.local_response_norm(torch.from_numpy(x), 5, 0.5, 0.75, 2.0).numpy()
    got = hwkit.ops.local_response_norm(x, size=5, alpha=0.5, bias=2.0)
    assert relative_error(got, want) < 1e-6
    last = hwkit.ops.local_response_norm(
        x.transpose(0, 2, 3, 1), size=5, alpha=0.5, bias=2.0, layout="nhwc"
    )
    assert relative_error(last.transpose(0, 3, 1, 2), want) < 1e-6


@pytest.mark.parametrize("seed", range(40))
def test_any_config_is_right(seed: int) -> None:
    """Windows wider than the channels, powers of all quarters, NaN and infinities too."""
    rng = random.Random(seed)
    sizes = " ".join(f"{n}={rng.choice((1, 2, 3, 8, 13, 40))}" for n in "nchw")
    dtype, layout = rng.choice(("float32", "float64")), rng.choice(("nchw", "nhwc"))
    problem = LOCAL_RESPONSE_NORM.parse(
        f"local_response_norm {dtype} {layout} {sizes} size={rng.randint(1, 11)} "
        f"alpha={rng.choice((0.0, 1e-4, 0.5, 2.0))} beta={rng.choice((0.25, 0.5, 0.75, 1.0))}"
    )
    (x,) = problem.random_operands(seed)
    if seed % 2:
        x.flat[np.random.default_rng(seed).integers(0, x.size, 2)] = np.nan, np.inf
    want = problem.reference(x.astype(np.float64))
    found = registry().kernels(registry().device("cpu:0"), "local_response_norm")
    (kernel,) = (k for k in found if k.name == "lrn")
    assert kernel.supports(problem) is True
    space = kernel.space(problem)
    for config in (kernel.default(problem), space.sample(rng), space.sample(rng)):
        out = np.full(x.shape, -7, dtype)
        kernel.build(problem, config)(x, out=out)
        assert relative_error(out, want) <= problem.error_budget(), config


def test_the_contract() -> None:
    """Text, flops and bytes; other powers are the reference's."""
    problem = LOCAL_RESPONSE_NORM.problem(Spec((2, 4, 5, 3)), size=3, layout="nhwc")
    assert str(problem) == "local_response_norm float32 nhwc n=2 c=3 h=4 w=5 size=3"
    assert (problem.flops, problem.nbytes) == (120 * 10, 960)
    other = LOCAL_RESPONSE_NORM.problem(Spec((2, 4, 5, 3)), beta=0.6)
    found = registry().kernels(registry().device("cpu:0"), "local_response_norm")
    assert "beta must be" in str(next(k for k in found if k.name == "lrn").supports(other))
    with pytest.raises(ArgumentError, match="size=0 of local_response_norm must be at least 1"):
        LOCAL_RESPONSE_NORM.problem(Spec((2, 4, 5, 3)), size=0)
    with pytest.raises(ArgumentError, match="alpha=nan of local_response_norm must be finite"):
        LOCAL_RESPONSE_NORM.problem(Spec((2, 4, 5, 3)), alpha=float("nan"))
    for bad in ("a", None, np.ones(2)):
        with pytest.raises(ArgumentError, match=r"alpha=.* must be a number"):
            LOCAL_RESPONSE_NORM.problem(Spec((2, 4, 5, 3)), alpha=bad)  # type: ignore[arg-type]
