"""Arrays by name in one .npz file, as ``numpy.load`` reads it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Union

import numpy as np

from ..dtypes import numpy_dtype
from .ir import Array

__all__ = ["restored", "save_arrays"]


def save_arrays(path: Union[str, Path], arrays: Mapping[str, Array]) -> None:
    """Write arrays of any shapes and dtypes, without pickling.

    ``numpy.savez`` takes them as keyword arguments, beside its own: a model with an output called
    ``file`` could not be saved.

    Args:
        path: of the file; the suffix ``.npz`` is added where it is missing, as numpy does.
        arrays: by name.

    Raises:
        OSError: the file cannot be written.
    """
    text = str(path)
    with zipfile.ZipFile(text if text.endswith(".npz") else f"{text}.npz", "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def restored(array: Array) -> Array:
    """Return an array that ``numpy.load`` has read, bfloat16 as what it is.

    A file of numpy names no dtypes of ``ml_dtypes``: bfloat16 comes back as plain pairs of bytes,
    ``V2``. Other dtypes stay as they are.

    Raises:
        Unavailable: it is bfloat16, and there is no ``ml_dtypes``.
    """
    return array.view(numpy_dtype("bfloat16")) if array.dtype == np.dtype("V2") else array
