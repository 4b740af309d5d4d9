"""Calls of Ops that know fewer axes than their users' arrays have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import Array, like
from ..dispatch import call
from ..op import Op
from .checks import out_view

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
        operands: of the shapes that the Op takes; the result has the dtype of the first.
        arguments: as of :func:`hwkit.dispatch.call`.
        sizes: shape of the Op's result.
        shape: shape that the user sees.
        given: the operand whose library the result is to have.
        out: as the user gave it.
        device: as the user gave it.
        tolerance: as the user gave it.

    Raises:
        ArgumentError: ``out`` has another shape.
        DtypeError: it has a dtype to which the result cannot be cast.
    """
    first = operands[0]
    assert first is not None
    view = None if out is None else out_view(out, shape, first.dtype)
    # A reshape that copies would lose the result; it goes there in a second step instead.
    into = view.reshape(sizes) if view is not None and view.flags.c_contiguous else None
    y = call(op, tuple(operands), arguments, into, device, tolerance).reshape(shape)
    if view is not None:
        if into is None:
            np.copyto(view, y, casting="same_kind")
        return out
    return y if type(given) is np.ndarray or not hasattr(given, "dtype") else like(given, y)
