"""Weights and pixels read as images: right answers, and sizes that no image has are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hwkit.dispatch import parse_problem
from hwkit.op import relative_error
from hwkit.registry import registry
from hwkit.testing import unavailable
from hwkit_opencl.emulated import EmulatedDevice
from hwkit_opencl.failures import Refused
from hwkit_opencl.images import ImageConv2d, ImageGemm
from hwkit_opencl.models import Work, estimate
from hwkit_opencl.profiles import profile

pytestmark = pytest.mark.skipif(bool(unavailable("opencl:0")), reason=unavailable("opencl:0"))

NHWC = "conv2d float32 nhwc n=2 c=8 h=7 w=6 k=10 r=3 s=3 pad=0,1,2,1 stride=2,1 groups=2 +bias"
NCHW = "conv2d float32 nchw n=2 c=6 h=7 w=6 k=10 r=3 s=2 pad=1,2,0,3 stride=2,1 dilation=1,2"


@pytest.mark.parametrize("name", ["opencl:0", "opencl:mali-g76", "opencl:adreno-640"])
@pytest.mark.parametrize(("text", "image"), [(NCHW, 1), (NHWC, 1), (NHWC, 2)])
def test_convolutions_that_read_images_are_right(name: str, text: str, image: int) -> None:
    """Weights as texels in both layouts, pixels as well where four channels are one."""
    device: Any = registry().device(name)
    problem, kernel = parse_problem(text), ImageConv2d(device, "conv2d")
    config = kernel.default(problem).replace(image=image, mr=3, vec=4, wm=2)
    assert kernel.supports(problem) is True
    assert kernel.space(problem).why_not(config) is None
    operands = problem.random_operands()
    out = device.put(np.full(problem.output.shape, np.nan, np.float32))
    kernel.build(problem, config)(*map(device.put, operands), out=out)
    want = problem.reference(*(a.astype(np.float64) for a in operands))
    assert relative_error(device.get(out), want) < problem.error_budget()


def test_pixels_are_texels_only_where_four_channels_are_one() -> None:
    """Channels first, or a group with a part of a texel, leave the weights alone as an image."""
    kernel: Any = ImageConv2d(registry().device("opencl:0"), "conv2d")  # type: ignore[arg-type]
    for text in (NCHW, NHWC.replace("c=8", "c=4")):
        problem = parse_problem(text)
        both = kernel.default(problem).replace(image=2)
        assert "texels" in str(kernel.space(problem).why_not(both))


def test_what_fits_no_image_of_the_device_is_ruled_out() -> None:
    """At the limit weights and pixels are images, one texel beyond they are not."""
    device: Any = EmulatedDevice(registry().device("opencl:0").found, "mali-g52")  # type: ignore[attr-defined]
    problem = parse_problem("conv2d float32 nhwc n=1 c=8 h=9 w=9 k=4 r=1 s=1 pad=0 stride=1")
    kernel = ImageConv2d(device, "conv2d")
    both = kernel.default(problem).replace(image=2)
    weights, pixels = 8, 162
    device.limits = replace(device.limits, texels=pixels)
    assert kernel.space(problem).why_not(both) is None
    device.limits = replace(device.limits, texels=pixels - 1)
    assert kernel.space(problem).why_not(both) is not None
    device.limits = replace(device.limits, texels=weights)
    assert kernel.supports(problem) is True
    device.limits = replace(device.limits, texels=weights - 1)
    assert "texels here" in str(kernel.supports(problem))


def test_an_image_beyond_the_limit_is_refused_with_the_code_of_the_device() -> None:
    """What static checks let through is INVALID_IMAGE_SIZE, of the class memory."""
    device: Any = EmulatedDevice(registry().device("opencl:0").found, "mali-g52")  # type: ignore[attr-defined]
    problem = parse_problem("gemm float32 nn m=8 n=8 k=8")
    kernel = ImageGemm(device, "gemm")
    device.limits = replace(device.limits, texels=15)
    with pytest.raises(Refused, match="INVALID_IMAGE_SIZE") as caught:
        kernel.build(problem, kernel.default(problem))
    assert (caught.value.code, caught.value.failure) == (-40, "memory")


@pytest.mark.parametrize("name", ["mali-g52", "mali-g76", "mali-g78", "adreno-640"])
def test_texels_take_the_texture_unit_time(name: str) -> None:
    """More texels never take less time; few cost nothing beside many multiply-adds."""
    known = profile(name)
    base = Work(fma=1e8, loads=1e6, load_bytes=16, bytes=1e6, groups=4096, threads=64)
    times = [estimate(known, replace(base, texels=t)).seconds for t in (0.0, 1e4, 1e8, 1e9)]
    assert times == sorted(times)
    assert times[0] == times[1] < times[3]
