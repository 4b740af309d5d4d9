cdef extern from "depthwise.h" nogil:
    ctypedef struct hwkit_depthwise:
        int64_t n, c, h, w, k, r, s, p, q, sy, sx, dy, dx, top, left
        int mix, nhwc, is_double, transpose
        hwkit_half half
        hwkit_activation act
        int wide
        int64_t rows, block
        int threads
    int hwkit_depthwise_prepare(hwkit_depthwise *)
    hwkit_plan *hwkit_depthwise_plan(const hwkit_depthwise *, int, int)


def depthwise(operands, output, *, int64_t n, int64_t c, int64_t h, int64_t w, int64_t k, int64_t r,
              int64_t s, int64_t p, int64_t q, stride, dilation, int64_t top, int64_t left,
              bint nhwc, bint is_double=False, bint bias=False, bint residual=False,
              activation=None, int wide, int64_t rows, int64_t block, bint transpose=False,
              int mix=1, int threads=1):
    """Return the Run of a depthwise convolution, or of one in groups of ``mix`` channels.

    Args:
        operands, output: (shape, dtype).
        mix: channels of a group, 1, 2, 4 or 8; with k == c, channels last or ``transpose``.
    """
    cdef hwkit_depthwise d
    d.n, d.c, d.h, d.w, d.k, d.r, d.s, d.p, d.q = n, c, h, w, k, r, s, p, q
    d.sy, d.sx = stride
    d.dy, d.dx = dilation
    d.top, d.left, d.nhwc, d.is_double = top, left, nhwc, is_double
    if min(n, c, h, w, k, r, s, p, q, d.sy, d.sx, d.dy, d.dx, wide, rows, block, threads) < 1:
        raise ValueError("sizes, strides, dilations, blocks and threads must be at least 1")
    if transpose and (nhwc or k != c):
        raise ValueError("transpose is for nchw, with as many output channels as input channels")
    if mix not in (1, 2, 4, 8) or mix > 1 and (k != c or k % mix or not (nhwc or transpose)):
        raise ValueError("groups are of 1, 2, 4 or 8 channels, as many out as in, by vectors of them")
    if k % c or top < 0 or left < 0:
        raise ValueError("output channels must be a multiple of input channels, padding not below 0")
    d.act = read_activation(activation)
    d.wide, d.rows, d.block, d.threads, d.half = wide, rows, block, threads, half_of(output[1])
    d.transpose, d.mix = transpose, mix
    if hwkit_depthwise_prepare(&d):
        raise MemoryError("a task would need more than 1 GiB of scratch memory")
    return make_run(hwkit_depthwise_plan(&d, bias, residual), operands, output)
