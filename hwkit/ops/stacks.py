"""Stacks of matrices: the leading sizes of products, and their folding into one."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from ..errors import ArgumentError

__all__ = ["batch_message", "depth_message", "result_shape", "stack_of"]


def stack_of(array: Any, batch: tuple[int, ...]) -> Any:
    """Return ``array`` with one leading size: 1 if all share it, otherwise the whole batch."""
    sizes = array.shape[-2:]
    if math.prod(array.shape[:-2]) == 1:
        return array.reshape(1, *sizes)
    if tuple(array.shape[:-2]) != batch:
        array = _broadcast(array, (*batch, *sizes))
    return array.reshape(math.prod(batch), *sizes)


def _broadcast(array: Any, shape: tuple[int, ...]) -> Any:
    if isinstance(array, np.ndarray):
        return np.broadcast_to(array, shape)
    library = sys.modules.get(type(array).__module__.partition(".")[0])
    broadcast = getattr(library, "broadcast_to", None)
    if broadcast is None:
        raise ArgumentError(
            f"an array of type {type(array).__name__} and shape {tuple(array.shape)} cannot be "
            f"broadcast on its device: give it the shape {shape}"
        )
    return broadcast(array, shape)


def result_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the leading sizes of the result, and its whole shape."""
    for name, shape in (("a", a), ("b", b)):
        if not shape:
            raise ArgumentError(
                f"{name} is a scalar, but matmul needs at least one dimension: multiply with *"
            )
    if a[-1] != b[-2 if len(b) > 1 else 0]:
        raise ArgumentError(depth_message(a, b))
    batch = a[:-2]
    # numpy's own rule costs more than the products of small matrices.
    if len(b) > 2 and b[:-2] != batch:
        try:
            batch = np.broadcast_shapes(batch, b[:-2]) if batch else b[:-2]
        except ValueError:
            raise ArgumentError(batch_message(a, b)) from None
    return batch, (*batch, *(a[-2:-1] if len(a) > 1 else ()), *(b[-1:] if len(b) > 1 else ()))


def depth_message(a: tuple[int, ...], b: tuple[int, ...]) -> str:
    """Return that b has another depth than a."""
    which = "last but one" if len(b) > 1 else "only"
    return (
        f"b has shape {b}, but its {which} size must be {a[-1]}, the last of a, which has shape {a}"
    )


def batch_message(a: tuple[int, ...], b: tuple[int, ...]) -> str:
    """Return that leading sizes do not broadcast."""
    return f"b has shape {b}, whose leading sizes do not broadcast with those of a, of shape {a}"
