from math import prod

cdef extern from "half.h" nogil:
    ctypedef enum hwkit_half:
        HWKIT_HALF_NONE
        HWKIT_HALF_F16
        HWKIT_HALF_BF16
    void hwkit_half_widen(hwkit_half, const void *, float *, int64_t n, int threads)
    void hwkit_half_round(hwkit_half, const float *, void *, int64_t n, int threads)
    hwkit_plan *hwkit_half_plan(const hwkit_plan *, hwkit_half, int, const int64_t *, int)


cdef hwkit_half half_of(dtype):
    """How elements are stored; ``HWKIT_HALF_NONE`` for float32 and float64."""
    name = np.dtype(dtype).name
    return (HWKIT_HALF_F16 if name == "float16" else HWKIT_HALF_BF16 if name == "bfloat16"
            else HWKIT_HALF_NONE)


def convert(source, target, int threads=1):
    """Convert float32 to or from float16 or bfloat16, rounding to nearest even.

    Args:
        source: a contiguous array.
        target: a contiguous, writable array of as many elements.
        threads: most threads.
    """
    cdef int64_t n
    for array in (source, target):
        if not isinstance(array, np.ndarray) or not array.flags.carray and array is target or not (
            array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative
        ):
            raise ValueError("convert takes contiguous numpy arrays, the second one writable")
    names = source.dtype.name, target.dtype.name
    if source.size != target.size or np.may_share_memory(source, target):
        raise ValueError("convert takes two arrays of one size that do not overlap")
    cdef hwkit_half narrow = half_of(source.dtype), rounded = half_of(target.dtype)
    if (narrow == HWKIT_HALF_NONE) == (rounded == HWKIT_HALF_NONE) or "float32" not in names:
        raise ValueError(f"convert does not know how to make {names[1]} of {names[0]}")
    n = source.size
    cdef const void *src = hwkit_as_ndarray(source).data
    cdef void *dst = hwkit_as_ndarray(target).data
    with nogil:
        if rounded == HWKIT_HALF_NONE:
            hwkit_half_widen(narrow, src, <float *>dst, n, threads)
        else:
            hwkit_half_round(rounded, <const float *>src, dst, n, threads)


def half(Run inner, operands, output, int threads=1):
    """Return ``inner``, a Run in float32, on operands of one narrow dtype; (shape, dtype) of each."""
    cdef int64_t sizes[HWKIT_MAX_OPERANDS + 1]
    cdef hwkit_half type = half_of(output[1])
    cdef int i
    cdef Run made
    if len(operands) != inner.count or type == HWKIT_HALF_NONE or any(
            [half_of(dtype) != type for _, dtype in operands]):
        raise ValueError("half takes the operands of the run, all of them float16 or bfloat16")
    for i, (shape, _) in enumerate([*operands, output]):
        sizes[i] = prod(shape)
        if 4 * sizes[i] != (inner.specs[i] if i < inner.count else inner.output).bytes:
            raise ValueError("half takes a run in float32 with operands of the same sizes")
    made = make_run(hwkit_half_plan(inner.plan, type, inner.count, sizes, threads), operands, output)
    made.kept = (made.kept, inner)
    return made
