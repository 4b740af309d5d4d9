"""Arrays on a CUDA device: our own, and those of torch, CuPy and others, without a copy."""

from __future__ import annotations

import ctypes
import math
import sys
from contextlib import nullcontext
from typing import Any

import numpy as np

from hwkit import ArgumentError

from .streams import DEFAULT, current, of_interface

__all__ = ["CudaArray", "assign", "borrowed", "contiguous", "index_of", "new_like"]

# Of dlpack.h.
_CUDA, _CUDA_MANAGED = 2, 13
# The version of __cuda_array_interface__ that names a stream.
_WITH_STREAM = 3
# numpy's dtype by torch's.
_DTYPES: dict[Any, np.dtype[Any]] = {}
_CODES = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 6: "bool"}


class CudaArray:
    """A C-contiguous array on a CUDA device.

    Attributes:
        pointer: address of the first element.
        shape: sizes.
        dtype: numpy's, for bfloat16 that of ml_dtypes.
        device: index of the GPU.
        owner: what keeps the memory, which is given back with the last reference.
        stream: where its library works, so that what is launched there comes after what wrote it.
    """

    __slots__ = ("__weakref__", "device", "dtype", "owner", "pointer", "shape", "stream")

    def __init__(
        self,
        pointer: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        device: int,
        owner: Any,
        stream: int = DEFAULT,
    ) -> None:
        self.pointer = pointer
        self.shape = shape
        self.dtype = dtype
        self.device = device
        self.owner = owner
        self.stream = stream

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def ndim(self) -> int:
        """Number of sizes."""
        return len(self.shape)

    def reshape(self, *shape: Any) -> CudaArray:
        """Return the same memory with other sizes, as many elements.

        Raises:
            ArgumentError: there are more or fewer.
        """
        sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], tuple) else shape
        if math.prod(sizes) != math.prod(self.shape):
            raise ArgumentError(f"an array of shape {self.shape} has not the size of {sizes}")
        return CudaArray(self.pointer, sizes, self.dtype, self.device, self, self.stream)

    @property
    def base_data(self) -> CudaArray:
        """What a launch is given: the array itself."""
        return self

    def data_ptr(self) -> int:
        """Return the address, by the name that torch gives it."""
        return self.pointer

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        # bfloat16 has no letter in the protocol: two raw bytes.
        raw = self.dtype.kind == "V" or self.dtype.name == "bfloat16"
        return {
            "shape": self.shape,
            "typestr": f"<V{self.dtype.itemsize}" if raw else self.dtype.str,
            "data": (self.pointer, False),
            "strides": None,
            "stream": self.stream or 1,  # by its own number the default one must not be named
            "version": 3,
        }

    def __repr__(self) -> str:
        return f"<CudaArray {self.dtype.name} {self.shape} on cuda:{self.device}>"


def index_of(array: Any) -> int | None:
    """Return the GPU on which an array of any library lies, or ``None``."""
    if isinstance(array, CudaArray):
        return array.device
    if isinstance(array, np.ndarray):
        return None
    if _is_tensor(array):
        return int(array.get_device()) if array.is_cuda else None
    if hasattr(array, "__dlpack_device__"):
        kind, index = array.__dlpack_device__()
        return int(index) if int(kind) in (_CUDA, _CUDA_MANAGED) else None
    if hasattr(array, "__cuda_array_interface__"):
        return int(getattr(getattr(array, "device", None), "id", 0))
    return None


def borrowed(array: Any) -> CudaArray | None:
    """Return an array of another library as ours, uncopied; ``None`` if it is not contiguous."""
    if isinstance(array, CudaArray):
        return array
    if _is_tensor(array):
        return _of_tensor(array)
    facts = getattr(array, "__cuda_array_interface__", None)
    if hasattr(array, "__dlpack__") and (facts is None or facts["version"] < _WITH_STREAM):
        # Work that was given to other streams is waited for by the default stream, number 1.
        return _from_capsule(array.__dlpack__(stream=1), array)
    if facts is None:
        raise TypeError(f"{type(array).__name__} is no array on a GPU")
    shape, dtype = tuple(facts["shape"]), np.dtype(facts["typestr"])
    if not _is_contiguous(shape, facts.get("strides"), dtype.itemsize):
        return None
    place = int(facts["data"][0])
    return CudaArray(place, shape, dtype, index_of(array) or 0, array, of_interface(facts))


def _is_tensor(array: Any) -> bool:
    """Whether it is a tensor of torch, which is read without its protocols, for they are slow."""
    torch = sys.modules.get("torch")
    kind = getattr(torch, "Tensor", None)
    return kind is not None and isinstance(array, kind)


def _of_tensor(array: Any) -> CudaArray | None:
    if not array.is_contiguous() or array.is_neg():
        return None
    index = int(array.get_device())
    dtype = _DTYPES.get(array.dtype) or _torch_dtype(array.dtype)
    return CudaArray(int(array.data_ptr()), tuple(array.shape), dtype, index, array, current(index))


def _torch_dtype(dtype: Any) -> np.dtype[Any]:
    name = str(dtype).rpartition(".")[2]
    if name == "bfloat16":
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    else:
        found = np.dtype(name)
    return _DTYPES.setdefault(dtype, found)


def contiguous(array: Any) -> Any:
    """Return a contiguous array of the same library.

    Raises:
        TypeError: the library has no way to make one.
    """
    if _is_tensor(array):
        return array.resolve_neg().contiguous()
    if hasattr(array, "contiguous"):
        return array.contiguous()
    library = sys.modules.get(type(array).__module__.partition(".")[0])
    make = getattr(library, "ascontiguousarray", None)
    if make is None:
        raise TypeError(f"{type(array).__name__} is not C-contiguous: make it so")
    return make(array)


def assign(array: Any, values: Any) -> None:
    """Write the values of one array of a library into another, of any strides."""
    if hasattr(array, "copy_"):
        array.copy_(values)
    else:
        array[...] = values


def new_like(array: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Return a new array of the same library and device; ``None`` if it has no such way.

    Args:
        array: of the library.
        shape: sizes.
        dtype: numpy's; integers have sums that are wider than they are.
    """
    same = str(getattr(array.dtype, "name", array.dtype)).rpartition(".")[2] == dtype.name
    if hasattr(array, "new_empty"):
        if same:
            return array.new_empty(shape)
        return array.new_empty(shape, dtype=getattr(sys.modules["torch"], dtype.name))
    library = sys.modules.get(type(array).__module__.partition(".")[0])
    if not hasattr(library, "empty_like"):
        return None
    return _empty(library, array, shape, array.dtype if same else dtype)


def _empty(library: Any, array: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    with getattr(array, "device", None) or nullcontext():  # CuPy makes it on its current GPU
        return library.empty(shape, dtype=dtype)


def _is_contiguous(shape: tuple[int, ...], strides: Any, step: int) -> bool:
    if strides is None or 0 in shape:
        return True
    for size, stride in zip(reversed(shape), reversed(tuple(strides)), strict=True):
        if size != 1 and stride != step:
            return False
        step *= size
    return True


class _Tensor(ctypes.Structure):
    """``DLTensor`` of dlpack.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("kind", ctypes.c_int32),
        ("index", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def _from_capsule(capsule: Any, owner: Any) -> CudaArray | None:
    """Read a DLPack capsule, which is left to its producer: ``owner`` keeps the memory."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    tensor = _Tensor.from_address(pointer(capsule, b"dltensor"))
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    strides = tuple(tensor.strides[i] for i in range(tensor.ndim)) if tensor.strides else None
    if not _is_contiguous(shape, strides, 1):
        return None
    dtype = _dtype(tensor.code, tensor.bits)
    # The capsule may own a copy of its own: it lives as long as the array.
    address = int(tensor.data or 0) + int(tensor.byte_offset)
    return CudaArray(address, shape, dtype, int(tensor.index), (owner, capsule))


def _dtype(code: int, bits: int) -> np.dtype[Any]:
    kind = _CODES.get(code, "")
    if kind == "bfloat":
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return found
    if not kind:
        raise TypeError(f"DLPack type {code} of {bits} bits is none that a kernel takes")
    return np.dtype("bool" if kind == "bool" else f"{kind}{bits}")
