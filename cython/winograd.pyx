cdef extern from "winograd.h" nogil:
    ctypedef struct hwkit_winograd:
        int64_t n, c, h, w, k, p, q, top, left, groups
        int nhwc, is_double, has_bias, has_residual
        hwkit_activation act
        int m, rows, vectors
        int64_t kc, tiles
        int stages, threads
    hwkit_plan *hwkit_winograd_plan(const hwkit_winograd *)


def winograd(operands, output, *, sizes, out_size, pad, int64_t groups=1, bint nhwc=False,
             bint is_double=False, bint bias=False, bint residual=False, activation=None, int m,
             int rows, int vectors, int64_t kc, int64_t tiles, bint stages, int threads=1):
    """Return the Run of a convolution with 3 x 3 taps and stride 1.

    Args:
        operands, output: (shape, dtype).
        sizes: n, c, h, w, k.
        out_size: p, q.
        pad: zeros at the top and at the left; those at the other ends follow from the sizes.
        m: outputs of a tile each way, 2, 4 or 6.
    """
    cdef hwkit_winograd c
    c.n, c.c, c.h, c.w, c.k = sizes
    c.p, c.q = out_size
    c.top, c.left = pad
    c.groups, c.nhwc, c.is_double, c.has_bias, c.has_residual = (
        groups, nhwc, is_double, bias, residual)
    c.act = read_activation(activation)
    c.m, c.rows, c.vectors, c.kc, c.tiles = m, rows, vectors, kc, tiles
    c.stages, c.threads = stages, threads
    if m not in (2, 4, 6):
        raise ValueError(f"m must be 2, 4 or 6, not {m}")
    if min(*sizes, *out_size, groups, kc, tiles, threads) < 1:
        raise ValueError("sizes, blocks and threads must be at least 1")
    if c.c % groups or c.k % groups or min(pad) < 0:
        raise ValueError("groups must divide the channels, and padding must not be negative")
    _check_tile(is_double, rows, vectors)
    return make_run(hwkit_winograd_plan(&c), operands, output)
