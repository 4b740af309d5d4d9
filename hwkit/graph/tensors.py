"""Arrays of a model file, checked before allocation; external data stay in the model's folder."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..dtypes import numpy_dtype
from ..errors import ArgumentError, Unavailable
from .ir import Array
from .wire import Cut

__all__ = ["array_of", "numpy_type"]

# Types whose elements are packed more than one a byte, by their number of bits.
_SMALL = {21: 4, 22: 4, 23: 4, 25: 2, 26: 2}
_STRING = 8
_EXTERNAL = 1

# Types known without the package onnx, and the field of their data if that is not ``raw_data``.
_TYPES = {
    1: ("float32", "float_data"), 2: ("uint8", "int32_data"), 3: ("int8", "int32_data"),
    4: ("uint16", "int32_data"), 5: ("int16", "int32_data"), 6: ("int32", "int32_data"),
    7: ("int64", "int64_data"), 9: ("bool", "int32_data"), 10: ("float16", "int32_data"),
    11: ("float64", "double_data"), 14: ("complex64", ""), 15: ("complex128", ""),
    12: ("uint32", "uint64_data"), 13: ("uint64", "uint64_data"), 16: ("bfloat16", "int32_data"),
}  # fmt: skip
# Types of which fields hold the bits.
_BITS = ("float16", "bfloat16")
_WIDE = {"int32_data": np.int64, "int64_data": np.int64, "uint64_data": np.uint64}


def numpy_type(code: int, what: str) -> np.dtype[Any]:
    """Return the numpy dtype of an ONNX element type.

    Raises:
        ArgumentError: there is none, or it is a string.
        Unavailable: it needs a package that is missing.
    """
    if code in _TYPES:
        return numpy_dtype(_TYPES[code][0])
    onnx = _onnx(what)
    try:
        found: np.dtype[Any] = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code))
    except (KeyError, ValueError, TypeError):
        found = np.dtype(object)
    if code == _STRING or found.kind == "O":
        names = {number: name for name, number in onnx.TensorProto.DataType.items()}
        raise ArgumentError(
            f"{what} has the element type {names.get(code, code)}, which hwkit does not run: "
            "export the model without it"
        )
    return found


def array_of(tensor: Any, folder: Path | None, limit: int, cut: Cut | None = None) -> Array:
    """Return the data of a TensorProto.

    Args:
        tensor: the message.
        folder: where the model lies, for external data; ``None`` if it came from memory.
        limit: most bytes to allocate.
        cut: its ``raw_data`` if they were taken out of the message; the array is a view of them.

    Raises:
        ArgumentError: sizes and data do not agree, are absurd, or lie outside the folder.
    """
    what = f"tensor {tensor.name!r}"
    dtype = numpy_type(tensor.data_type, what)
    shape = tuple(tensor.dims)
    if min(shape, default=0) < 0:
        raise ArgumentError(f"{what} has the negative shape {shape}: export the model again")
    count = math.prod(shape)
    if count * dtype.itemsize > limit:
        raise ArgumentError(
            f"{what} of shape {shape} needs {count * dtype.itemsize} bytes, more than the {limit} "
            "allowed: give memory= more if the model can be trusted"
        )
    bits = _SMALL.get(tensor.data_type, 8 * dtype.itemsize)
    stored = -(-count * bits // 8)
    if tensor.data_location == _EXTERNAL:
        raw: bytes | Cut = _external(tensor, folder, stored, what)
    elif cut is not None or tensor.HasField("raw_data"):
        raw = tensor.raw_data if cut is None else cut
    else:
        return _fields(tensor, count, what)
    if len(raw) != stored:
        raise ArgumentError(
            f"{what} of shape {shape} needs {stored} bytes of data, but has {len(raw)}: "
            "the file is truncated or damaged"
        )
    if tensor.data_type in _SMALL:
        return _by_onnx(tensor, what, raw_data=bytes(raw))
    little = dtype.newbyteorder("<") if dtype.kind in "iufc" and dtype.itemsize > 1 else dtype
    found: Array = np.frombuffer(raw, little).astype(dtype, copy=False).reshape(shape)
    return found


def _fields(tensor: Any, count: int, what: str) -> Array:
    """Return data that lie in typed fields."""
    fields = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
    given = max(len(getattr(tensor, name)) for name in fields)
    complex_parts = 2 if tensor.data_type in (14, 15) else 1
    packed = _SMALL.get(tensor.data_type)
    expected = -(-count * packed // 8) if packed else count * complex_parts
    if given != expected:
        raise ArgumentError(
            f"{what} of shape {tuple(tensor.dims)} needs {expected} numbers, but has {given}: "
            "the file is truncated or damaged"
        )
    dtype, field = _TYPES.get(tensor.data_type, ("", ""))
    if not field or len(getattr(tensor, field)) != given:
        return _by_onnx(tensor, what, **{name: getattr(tensor, name) for name in fields})
    wide = np.array(getattr(tensor, field), _WIDE.get(field, dtype))
    if dtype in _BITS:
        return wide.astype(np.uint16).view(numpy_dtype(dtype)).reshape(tuple(tensor.dims))
    return wide.astype(dtype, copy=False).reshape(tuple(tensor.dims))


def _by_onnx(tensor: Any, what: str, **data: Any) -> Array:
    onnx = _onnx(what)
    plain = onnx.TensorProto(data_type=tensor.data_type, dims=tensor.dims, **data)
    found: Array = onnx.numpy_helper.to_array(plain)
    return found


def _onnx(what: str) -> Any:
    try:
        import onnx
    except ImportError:
        raise Unavailable(
            f"{what} has an element type that needs the package onnx: pip install 'hwkit[onnx]'"
        ) from None
    return onnx


def _external(tensor: Any, folder: Path | None, stored: int, what: str) -> bytes:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise ArgumentError(f"{what} lies in a file, but the model does not: load it by its path")
    path = _inside(folder, location, what)
    try:
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or stored)
    except ValueError:
        raise ArgumentError(f"{what} has an external offset that is no number") from None
    if offset < 0 or length != stored:
        raise ArgumentError(
            f"{what} needs {stored} bytes, but its entry names {length} at {offset}: "
            "the model is damaged"
        )
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        raise ArgumentError(
            f"{what} lies in {location!r}, which cannot be read ({error.strerror}): put the file "
            "beside the model"
        ) from None
    with os.fdopen(handle, "rb") as file:
        if offset + length > os.fstat(handle).st_size:
            raise ArgumentError(f"{what} reaches beyond the end of {location!r}: it is truncated")
        file.seek(offset)
        return file.read(length)


def _inside(folder: Path, location: str, what: str) -> Path:
    """Return the path of external data, which must lie in the model's folder, without links."""
    parts = Path(location).parts
    bad = not parts or Path(location).is_absolute() or ".." in parts or "\0" in location
    path = folder
    for part in () if bad else parts:
        path = path / part
        bad = bad or path.is_symlink()
    if bad or not path.is_file():
        raise ArgumentError(
            f"{what} names the file {location[:200]!r}, which must be a plain file in the model's "
            "own folder, without .. and links"
        )
    return path
