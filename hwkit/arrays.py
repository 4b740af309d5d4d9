"""Arrays of any library in, numpy inside, the same library's arrays out, through DLPack."""

from __future__ import annotations

import operator
import sys
from typing import Any

import numpy as np

from .dtypes import FLOATS, INTEGERS, numpy_dtype
from .errors import ArgumentError, DtypeError, Unavailable, shown
from .op import Operand

__all__ = [
    "Spec",
    "as_operand",
    "check_buffer",
    "check_out",
    "host_view",
    "is_elsewhere",
    "like",
    "spec_of",
    "writable_view",
]

Array = np.ndarray[Any, Any]

_OBJECTS = ("object", str(object))
# DLPack's numbers of memory that the host reads: its own, and what CUDA and ROCm pin there.
_HOST_MEMORY = (1, 3, 11)


class Spec:
    """Shape and dtype without data, enough to plan with.

    Args:
        shape: sizes.
        dtype: a dtype or its name.

    Raises:
        ArgumentError: the sizes are no whole numbers.
        DtypeError: there is no such dtype.
        Unavailable: bfloat16 without ``ml_dtypes``.
    """

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any = "float32") -> None:
        try:
            self.shape = tuple(map(operator.index, shape))
        except (TypeError, KeyError):
            raise ArgumentError(
                f"shape {shown(shape)} must be whole numbers: write it as (2, 3)"
            ) from None
        try:
            self.dtype = numpy_dtype(dtype) if isinstance(dtype, str) else np.dtype(dtype)
        except (TypeError, ValueError, SyntaxError):
            raise DtypeError(f"dtype {shown(dtype)} is not known: write it as 'float32'") from None

    def __repr__(self) -> str:
        return f"Spec({self.shape}, {self.dtype.name!r})"


def spec_of(array: Any, name: str = "an argument") -> Any:
    """Return ``array`` or a stand-in with its shape and dtype; ``None`` stays ``None``.

    Args:
        array: of any library, or what numpy makes one of.
        name: of the argument, for messages.
    """
    if array is None or isinstance(array, (np.ndarray, Spec)):
        return array
    # A class of arrays or numbers has these too, as what its instances will have.
    if hasattr(array, "shape") and hasattr(array, "dtype") and not isinstance(array, type):
        # Other libraries print their dtypes as torch.float32 or <dtype: 'float32'>.
        dtype = str(getattr(array.dtype, "name", array.dtype)).rpartition(".")[2]
        return _Named(tuple(array.shape), dtype)
    return host_view(array, name)


class _Named:
    """Shape and dtype of a foreign array, its dtype by name."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.shape = shape
        self.dtype = dtype


def host_view(array: Any, name: str = "an argument") -> Array:
    """Return what ``array`` holds as a numpy array, without a copy where its library allows.

    Args:
        array: of any library, or what numpy makes one of.
        name: of the argument, for messages.

    Raises:
        ArgumentError: a mask, or data on a device that numpy cannot reach.
        Unavailable: bfloat16 without ``ml_dtypes``.
    """
    if array is None:
        raise ArgumentError(f"{name} is None, but must be an array: pass one")
    # Who has a masked array has imported numpy.ma, which takes its time.
    ma = sys.modules.get("numpy.ma")
    if ma is not None and isinstance(array, ma.MaskedArray) and ma.is_masked(array):
        raise ArgumentError(
            "a masked array has masked elements, which hwkit would read as data: "
            "pass array.filled(value)"
        )
    if isinstance(array, np.ndarray):
        return array.view(np.ndarray)
    try:
        if hasattr(array, "__dlpack__"):
            return np.from_dlpack(_negated(array))
    except (BufferError, RuntimeError, TypeError, ValueError):
        pass  # A dtype or a flag that numpy's DLPack refuses: the array protocol may still do it.
    try:
        view = _read(_negated(array))
        # numpy takes arrays that it cannot read for sequences, or for things.
        if view.dtype == object and str(getattr(array, "dtype", object)) not in _OBJECTS:
            raise TypeError("it is not in host memory")
        return view
    except Unavailable:
        raise
    except Exception as error:
        raise ArgumentError(
            f"{name} of type {type(array).__name__} cannot be read as an array ({error}): "
            "pass a numpy array, one in host memory, or name its device by device="
        ) from None


def is_elsewhere(array: Any) -> bool:
    """Whether an array of another library lies on a device, where numpy does not reach it."""
    if isinstance(array, np.ndarray) or not (hasattr(array, "shape") and hasattr(array, "dtype")):
        return False
    place = getattr(array, "__dlpack_device__", None)
    if place is not None:
        try:
            return int(place()[0]) not in _HOST_MEMORY
        except (BufferError, RuntimeError, ValueError):
            return False  # No data anywhere, as torch's device "meta": who reads it says so.
    return not (hasattr(array, "__array__") or hasattr(array, "__array_interface__"))


def _read(array: Any) -> Array:
    """Return what numpy's array protocol makes of ``array``, bfloat16 of torch by its bits."""
    bits = None if isinstance(array, np.ndarray) else _bits(array)
    return np.asarray(array) if bits is None else np.asarray(bits).view(numpy_dtype("bfloat16"))


def _negated(array: Any) -> Any:
    """Return a tensor of torch whose sign is still to be changed with that done.

    The imaginary part of a conjugate is such a view; DLPack gives its memory, and not the sign.
    """
    is_pending = getattr(array, "is_neg", None)
    return array.resolve_neg() if callable(is_pending) and is_pending() else array


def _bits(array: Any) -> Any:
    """Return a tensor of bfloat16 as its int16, or ``None`` if the array is none.

    torch gives numpy no bfloat16, which numpy itself does not have. A view of the bits has no
    gradient, so what needs one is left to torch to refuse.
    """
    library = sys.modules.get("torch")
    if library is None or not isinstance(array, library.Tensor):
        return None
    if array.dtype is not library.bfloat16 or array.requires_grad:
        return None
    return array.view(library.int16)


def writable_view(out: Any) -> Array:
    """Return a writable numpy view of the caller's ``out``.

    Raises:
        ArgumentError: ``out`` cannot be written in place.
    """
    try:
        view = host_view(out) if isinstance(out, np.ndarray) else _read(out)
    except Unavailable:
        raise
    except Exception as error:
        raise _not_in_place(out, f" ({error})") from None
    if isinstance(out, np.ndarray) and not view.flags.writeable:
        raise _not_in_place(out, " (it is read-only)")
    foreign_copy = not isinstance(out, np.ndarray) and view.flags.owndata
    if foreign_copy or not view.flags.writeable:
        raise _not_in_place(out)
    return view


def _not_in_place(out: Any, why: str = "") -> ArgumentError:
    return ArgumentError(
        f"out of type {type(out).__name__} cannot be written in place{why}: pass a writable array"
    )


def as_operand(array: Any, expected: Operand) -> Array:
    """Return ``array`` C-contiguous, aligned and in native byte order, as ``expected`` says.

    Raises:
        ArgumentError: the shape differs from the plan's.
        DtypeError: the dtype does.
    """
    view = host_view(array, expected.name)
    check_buffer(view, expected)
    return np.require(view, expected.dtype, ("C", "A"))


def check_buffer(array: Any, expected: Operand) -> None:
    """Check an array of any library: a kernel reads and writes as far as its problem says.

    Raises:
        ArgumentError: the shape differs from the plan's.
        DtypeError: the dtype does.
    """
    # Other libraries print their dtypes as torch.float32.
    name = str(getattr(array.dtype, "name", array.dtype)).rpartition(".")[2]
    if name != expected.dtype.name:
        raise DtypeError(
            f"{expected.name} has dtype {name}, but this plan is for {expected.dtype.name}: "
            f"convert it{f', or plan for {name}' if name in FLOATS + INTEGERS else ''}"
        )
    if tuple(array.shape) != expected.shape:
        raise ArgumentError(
            f"{expected.name} has shape {tuple(array.shape)}, but this plan is for "
            f"{expected.shape}: make a plan for this shape"
        )


def check_out(out: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Check that a result goes into ``out``.

    Raises:
        ArgumentError: it has another shape.
        DtypeError: a result of this dtype cannot be cast to its own, or would become text.
    """
    if out.shape != shape:
        raise ArgumentError(f"out has shape {out.shape}, but the result has {shape}")
    # numpy casts numbers to text and objects, too, and cuts off what a text has no room for.
    if out.dtype.kind in "OSU" or not np.can_cast(dtype, out.dtype, "same_kind"):
        raise DtypeError(
            f"out has dtype {out.dtype.name}, to which a result of {dtype.name} "
            "cannot be cast (same_kind)"
        )


def like(template: Any, result: Array) -> Any:
    """Return ``result`` as an array of the library that ``template`` comes from."""
    if isinstance(template, np.ndarray):
        return result
    library = sys.modules.get(type(template).__module__.partition(".")[0])
    namespace = getattr(template, "__array_namespace__", lambda: library)()
    convert = getattr(namespace, "from_dlpack", None)
    if namespace is None or convert is None or namespace is np:
        return result
    if result.dtype.name == "bfloat16":
        # numpy exports none of what it does not have itself: the bits go, as int16.
        return convert(result.view(np.int16)).view(namespace.bfloat16)
    return convert(result)
