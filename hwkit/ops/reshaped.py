"""Calls of Ops that know fewer axes than their users' arrays have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import Array, like, writable_view
from ..dispatch import call
from ..errors import ArgumentError
from ..op import Op

__all__ = ["call_reshaped"]


def call_reshaped(
    op: Op,
    operands: Sequence[Array | None],
    arguments: tuple[Any, ...],
    sizes: tuple[int, ...],
    shape: tuple[int, ...],
    given: Any,
    out: Any,
    device: str | None,
    tolerance: float | str | None,
) -> Any:
    """Return the result of an Op in another shape, in ``out`` if there is one.

    Args:
        op: what to compute.
        operands: of the shapes that the Op takes.
        arguments: as of :func:`hwkit.dispatch.call`.
        sizes: shape of the Op's result.
        shape: shape that the user sees.
        given: the operand whose library the result is to have.
        out: as the user gave it.
        device: as the user gave it.
        tolerance: as the user gave it.

    Raises:
        ArgumentError: ``out`` has another shape.
    """
    view = None if out is None else writable_view(out)
    if view is not None and view.shape != shape:
        raise ArgumentError(f"out has shape {view.shape}, but the result has {shape}")
    # A reshape that copies would lose the result; it goes there in a second step instead.
    into = view.reshape(sizes) if view is not None and view.flags.c_contiguous else None
    y = call(op, tuple(operands), arguments, into, device, tolerance).reshape(shape)
    if view is not None:
        if into is None:
            np.copyto(view, y, casting="same_kind")
        return out
    return y if type(given) is np.ndarray or not hasattr(given, "dtype") else like(given, y)
