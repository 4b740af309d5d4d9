"""The host: device ``cpu:0``, and the kernels built from ``cython/``.

Importing this package costs nothing: the compiled module is loaded when a device is counted or
opened.
"""

from __future__ import annotations

from collections.abc import Iterable

from hwkit import Backend, Device, Kernel, hookimpl

__all__ = ["hwkit_backends", "hwkit_kernels"]


@hookimpl
def hwkit_backends() -> Iterable[Backend]:
    """Return the backend ``cpu``."""
    from .device import CpuBackend

    return [CpuBackend()]


@hookimpl
def hwkit_kernels(device: Device) -> Iterable[Kernel]:
    """Return the kernels of the host."""
    if device.backend != "cpu":
        return []
    from . import (
        amx,
        amx_conv2d,
        amx_winograd,
        block_float,
        conv2d,
        conv2d_dot,
        depthwise,
        elementwise,
        gemm,
        gemm_few_rows,
        half,
        int8,
        lrn,
        pairs,
        pool2d,
        reference,
        strassen,
        transpose,
        winograd,
    )

    gemms = [*gemm.kernels(), *gemm_few_rows.kernels()]
    gemms += conv2d_dot.kernels()
    products = [*gemms, *conv2d.kernels(), *winograd.kernels(), *strassen.kernels()]
    small = [*pool2d.kernels(), *elementwise.kernels(), *lrn.kernels()]
    plain = [*products, *depthwise.kernels(), *small]
    tiled = [*amx.kernels(), *amx_conv2d.kernels(), *amx_winograd.kernels()]
    narrow = [*pairs.kernels(), *block_float.kernels()]
    others = [*transpose.kernels(), *tiled, *narrow]
    return [*plain, *others, *half.kernels(plain), *int8.kernels(), *reference.kernels()]
