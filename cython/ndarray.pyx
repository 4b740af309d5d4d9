import numpy as np

from libc.stdint cimport int64_t, uintptr_t

cdef extern from "ndarray.h":
    enum:
        HWKIT_C_CONTIGUOUS
        HWKIT_ALIGNED
        HWKIT_WRITEABLE
    ctypedef struct hwkit_ndarray:
        char *data
        int nd
        Py_ssize_t *dimensions
        void *descr
        int flags
    ctypedef struct hwkit_spec:
        void *dtype
        int nd
        Py_ssize_t dims[8]
        int64_t bytes
    bint hwkit_ndarray_import(object, object, object, object, uintptr_t) except -1
    hwkit_ndarray *hwkit_as_ndarray(object)
    hwkit_ndarray *hwkit_exactly(object)
    char *hwkit_fitting(object, const hwkit_spec *, int)
    int64_t hwkit_row_step(object, const hwkit_spec *)
    object hwkit_new_array(int, const Py_ssize_t *, object, int64_t)

try:
    from numpy._core._multiarray_umath import _ARRAY_API
except ImportError:  # numpy 1
    from numpy.core._multiarray_umath import _ARRAY_API

cdef _prove_layout():
    sample = np.empty((3, 5), np.float32)
    if not hwkit_ndarray_import(_ARRAY_API, sample, sample.dtype, np.dtype(np.uint8),
                                sample.ctypes.data):
        raise ImportError(f"numpy {np.__version__} has another array layout than hwkit knows: "
                          "upgrade hwkit")

_prove_layout()
