cdef extern from "half.h" nogil:
    enum:
        HWKIT_F16_TO_F32
        HWKIT_F32_TO_F16
        HWKIT_BF16_TO_F32
        HWKIT_F32_TO_BF16
    void hwkit_half_convert(int which, const void *src, void *dst, int64_t n, int threads)


def convert(source, target, int threads=1):
    """Convert float32 to or from float16 or bfloat16, rounding to nearest even.

    Args:
        source: a contiguous array.
        target: a contiguous, writable array of as many elements.
        threads: most threads.
    """
    cdef int which
    cdef int64_t n
    for array in (source, target):
        if not isinstance(array, np.ndarray) or not array.flags.carray and array is target or not (
            array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative
        ):
            raise ValueError("convert takes contiguous numpy arrays, the second one writable")
    names = source.dtype.name, target.dtype.name
    if source.size != target.size or np.may_share_memory(source, target):
        raise ValueError("convert takes two arrays of one size that do not overlap")
    which = {
        ("float16", "float32"): HWKIT_F16_TO_F32,
        ("float32", "float16"): HWKIT_F32_TO_F16,
        ("bfloat16", "float32"): HWKIT_BF16_TO_F32,
        ("float32", "bfloat16"): HWKIT_F32_TO_BF16,
    }.get(names, -1)
    if which < 0:
        raise ValueError(f"convert does not know how to make {names[1]} of {names[0]}")
    n = source.size
    cdef const void *src = hwkit_as_ndarray(source).data
    cdef void *dst = hwkit_as_ndarray(target).data
    with nogil:
        hwkit_half_convert(which, src, dst, n, threads)
