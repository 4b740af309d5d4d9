"""Inputs of a call of a model: by name, checked, or made up."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from ..arrays import host_view
from ..errors import ArgumentError, DtypeError, shown
from .ir import Array, Value

__all__ = ["by_name", "checked", "random_arrays", "shapes_of"]


def by_name(
    names: Sequence[str], arrays: tuple[Any, ...], named: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the inputs of a call by name.

    Raises:
        ArgumentError: there are too many, or one is given twice.
    """
    if len(arrays) > len(names):
        raise ArgumentError(
            f"the model takes {len(names)} inputs ({', '.join(names)}), not {len(arrays)}"
        )
    found = dict(zip(names, arrays, strict=False))
    twice = [name for name in named if name in found]
    if twice:
        raise ArgumentError(f"input {twice[0]!r} is given twice, by position and by name")
    return {**found, **named}


def checked(value: Value, array: Any) -> Array:
    """Return an input as a contiguous numpy array.

    Raises:
        ArgumentError: it has another shape than the model takes.
        DtypeError: it has another dtype.
    """
    if _as_it_is(array, value):
        _check_shape(value, array.shape)
        plain: Array = array
        return plain
    if isinstance(array, Mapping):
        raise ArgumentError(
            f"input {value.name!r} is a {type(array).__name__}, but must be an array: "
            "pass inputs by name as model(**inputs)"
        )
    view = host_view(array, f"input {value.name!r}")
    given = view.dtype if view.dtype.isnative else view.dtype.newbyteorder("=")
    if given != value.dtype:
        # numpy knows names of its own dtypes only.
        wanted = repr(value.kind.name) if value.kind.isbuiltin == 1 else f"ml_dtypes.{value.kind}"
        raise DtypeError(
            f"input {value.name!r} has dtype {view.dtype.name}, but the model takes "
            f"{value.kind.name}: convert it, as in x.astype({wanted})"
        )
    _check_shape(value, view.shape)
    found: Array = np.require(view, value.dtype, ("C", "A")).reshape(view.shape)
    return found


def _as_it_is(array: Any, value: Value) -> bool:
    if type(array) is not np.ndarray or array.dtype != value.dtype:
        return False
    flags = array.flags
    return flags.c_contiguous and flags.aligned


def _check_shape(value: Value, shape: tuple[int, ...]) -> None:
    fits = value.shape in (None, shape) or (
        len(value.shape) == len(shape)
        and all(
            not isinstance(want, int) or want == got
            for want, got in zip(value.shape, shape, strict=True)
        )
    )
    if not fits:
        raise ArgumentError(
            f"input {value.name!r} has shape {shape}, but the model takes {value.shape}"
        )


def shapes_of(values: Sequence[Value], shapes: Any) -> tuple[tuple[int, ...], ...] | None:
    """Return input shapes as tuples; ``None`` stays ``None``.

    Raises:
        ArgumentError: they are not one for each input, or not as the model takes them.
    """
    if shapes is None:
        return None
    try:
        found = tuple(tuple(map(operator.index, shape)) for shape in shapes)
    except TypeError:
        found = ()
    if len(found) != len(values) or min((n for shape in found for n in shape), default=0) < 0:
        names = ", ".join(value.name for value in values)
        raise ArgumentError(
            f"shapes {shown(shapes)} must be a tuple of sizes for each input ({names}): "
            "write them as ((1, 3, 224, 224),)"
        )
    for value, shape in zip(values, found, strict=True):
        _check_shape(value, shape)
    return found


def random_arrays(
    values: Sequence[Value],
    limit: int,
    seed: int,
    batch: int,
    shapes: Mapping[str, Sequence[int]],
) -> dict[str, Array]:
    """Return inputs to try a model with; open sizes are 1, the first is ``batch``.

    Raises:
        ArgumentError: one would have more than ``limit`` bytes, a shape of ``shapes`` is not one
            that the model takes, or ``seed`` or ``batch`` is no number to count with.
    """
    for name, number in (("seed", seed), ("batch", batch)):
        if not isinstance(number, Integral) or number < 0:
            raise ArgumentError(f"{name}={shown(number)} must be a whole number, 0 or above")
    rng = np.random.default_rng(seed)
    found = {}
    unknown = next((name for name in shapes if name not in {v.name for v in values}), None)
    if unknown is not None:
        names = ", ".join(value.name for value in values)
        raise ArgumentError(f"shapes name an input {unknown!r}, but the model takes {names}")
    for value in values:
        shape = tuple(
            n if isinstance(n, int) else (batch if i == 0 else 1)
            for i, n in enumerate(value.shape or ())
        )
        if value.name in shapes:
            given = shapes_of([value], [shapes[value.name]])
            assert given is not None
            (shape,) = given
        if math.prod(shape) * value.kind.itemsize > limit:
            raise ArgumentError(
                f"input {value.name!r} of shape {shape} is too large: give smaller sizes"
            )
        if value.kind.kind in "iub":
            found[value.name] = rng.integers(0, 2, shape).astype(value.kind)
        else:
            found[value.name] = rng.standard_normal(shape, np.float32).astype(value.kind)
    return found
