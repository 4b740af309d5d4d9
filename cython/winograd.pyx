cdef extern from "winograd.h" nogil:
    ctypedef struct hwkit_winograd:
        int64_t n, c, h, w, k, p, q, top, left, groups
        int nhwc, is_double, has_bias, has_residual
        hwkit_activation act
        int m, taps, stride
        int64_t dilation
        hwkit_amx_way way
        int rows, vectors
        int64_t kc, tiles
        int stages, threads
    int hwkit_winograd_has(int m, int taps, int stride)
    hwkit_plan *hwkit_winograd_plan(const hwkit_winograd *)


def winograd(operands, output, *, sizes, out_size, pad, int64_t groups=1, bint nhwc=False,
             bint is_double=False, bint bias=False, bint residual=False, activation=None, int m,
             int taps, int stride, int64_t dilation, int rows=0, int vectors=0, int64_t kc=1, int products=0,
             int64_t tiles, bint stages, int threads=1):
    """Return the Run of a convolution by its minimal filtering.

    Args:
        operands, output: (shape, dtype).
        sizes: n, c, h, w, k.
        out_size: p, q.
        pad: zeros at the top and at the left; those at the other ends follow from the sizes.
        m: outputs of a tile each way.
        taps, stride, dilation: of each axis.
        rows, vectors, kc: of products by multiply-adds.
        products: of terms by tiles (AMX), or 0.
    """
    cdef hwkit_winograd c
    c.n, c.c, c.h, c.w, c.k = sizes
    c.p, c.q = out_size
    c.top, c.left = pad
    c.groups, c.nhwc, c.is_double, c.has_bias, c.has_residual = (
        groups, nhwc, is_double, bias, residual)
    c.act = read_activation(activation)
    c.dilation = dilation
    c.m, c.taps, c.stride, c.rows, c.vectors, c.kc, c.tiles = (
        m, taps, stride, rows, vectors, kc, tiles)
    c.stages, c.threads = stages, threads
    c.way.products, c.way.pairs, c.way.half = 0, 0, HWKIT_HALF_NONE
    if not hwkit_winograd_has(m, taps, stride):
        raise ValueError(f"there is no F({m}, {taps}) with stride {stride}")
    if min(*sizes, *out_size, groups, dilation, kc, tiles, threads) < 1:
        raise ValueError("sizes, blocks and threads must be at least 1")
    if dilation > 1 and stride > 1:
        raise ValueError("dilation takes stride 1")
    if c.c % groups or c.k % groups or min(pad) < 0:
        raise ValueError("groups must divide the channels, and padding must not be negative")
    if not products:
        _check_tile(is_double, rows, vectors)
    elif np.dtype(output[1]) == np.float32:
        c.way = read_way(output[1], products, False)
    else:
        raise ValueError("products by tiles are for float32")
    return make_run(hwkit_winograd_plan(&c), operands, output)
