from libc.string cimport memset

cdef extern from "pool2d.h" nogil:
    ctypedef struct hwkit_pool:
        int64_t n, c, h, w, r, s, p, q, sy, sx, dy, dx, top, left
        int nhwc, is_double, mean, transpose
        int whole "global"
        hwkit_half half
        const int64_t *count_y
        const int64_t *count_x
        int64_t rows, block
        int threads
    hwkit_plan *hwkit_pool_plan(const hwkit_pool *)


cdef const int64_t *_counts(array, int64_t size) except NULL:
    if not isinstance(array, np.ndarray) or array.dtype != np.int64 or array.shape != (size,) or (
        not array.flags.carray or array.min() < 1
    ):
        raise ValueError(f"counts must be {size} numbers of int64 of at least 1")
    return <const int64_t *>hwkit_as_ndarray(array).data


def pool(operands, output, *, int64_t n, int64_t c, int64_t h, int64_t w, int64_t r, int64_t s,
         int64_t p, int64_t q, stride, dilation, int64_t top, int64_t left, bint nhwc, bint mean,
         bint is_double=False, counts=None, int64_t rows, int64_t block, bint transpose=False,
         int threads=1):
    """Return the Run of a pooling; ``operands`` and ``output`` are (shape, dtype).

    Args:
        counts: for a mean, the elements that count in each window, along y and along x (int64).
    """
    cdef hwkit_pool d
    memset(&d, 0, sizeof(d))
    d.n, d.c, d.h, d.w, d.r, d.s, d.p, d.q = n, c, h, w, r, s, p, q
    d.sy, d.sx = stride
    d.dy, d.dx = dilation
    d.top, d.left, d.nhwc, d.is_double, d.mean = top, left, nhwc, is_double, mean
    if min(n, c, h, w, r, s, p, q, d.sy, d.sx, d.dy, d.dx, rows, block, threads) < 1:
        raise ValueError("sizes, strides, dilations, blocks and threads must be at least 1")
    if top < 0 or left < 0:
        raise ValueError("padding must not be below 0")
    if transpose and nhwc:
        raise ValueError("transpose is for nchw")
    d.rows, d.block, d.threads, d.half = rows, block, threads, half_of(output[1])
    d.transpose = transpose
    if mean:
        d.count_y, d.count_x = _counts(counts[0], p), _counts(counts[1], q)
    return make_run(hwkit_pool_plan(&d), operands, output)


def global_pool(operands, output, *, int64_t n, int64_t c, int64_t h, int64_t w, bint nhwc,
                bint mean, bint is_double=False, int64_t block, int threads=1):
    """Return the Run of a pooling of whole images; ``operands`` and ``output`` are (shape, dtype)."""
    cdef hwkit_pool d
    memset(&d, 0, sizeof(d))
    if min(n, c, h, w, block, threads) < 1:
        raise ValueError("sizes, blocks and threads must be at least 1")
    d.n, d.c, d.h, d.w, d.nhwc, d.mean, d.is_double, d.whole = n, c, h, w, nhwc, mean, is_double, 1
    d.block, d.threads, d.half = block, threads, half_of(output[1])
    return make_run(hwkit_pool_plan(&d), operands, output)
