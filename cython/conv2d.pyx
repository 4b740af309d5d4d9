cdef extern from "conv2d.h" nogil:
    ctypedef struct hwkit_conv2d:
        int64_t n, c, h, w, k, r, s, p, q
        int64_t top, left, stride_y, stride_x, dilation_y, dilation_x, groups
        int nhwc, is_double, has_bias, has_residual, x_planes, by_depth
        hwkit_activation act
        int algorithm, rows, vectors
        int64_t kc, pixels, channels
        int pack_a, merge, block_float, threads
        hwkit_amx_way way
    hwkit_plan *hwkit_conv2d_plan(const hwkit_conv2d *)
    int hwkit_pairs_tile(int rows, int vectors)
    int hwkit_block_float_tile(int rows, int vectors)


def conv2d(operands, output, *, sizes, out_size, pad, stride, dilation, int64_t groups=1,
           bint nhwc=False, bint is_double=False, bint bias=False, bint residual=False,
           activation=None, str algorithm, int rows, int vectors, int64_t kc, int64_t pixels,
           int64_t channels, bint pack_a=False, bint merge=False, int products=0, bint pairs=False,
           bint by_depth=False, bint x_planes=False, bint block_float=False, int threads=1):
    """Return the Run of a convolution.

    Args:
        operands, output: (shape, dtype).
        sizes: n, c, h, w, k, r, s.
        out_size: p, q.
        by_depth: weights are (c, k), of one tap; with pairs and block_float only.
        x_planes: images have channels first although the result has not; with pairs only.
        pad: zeros at the top and at the left; those at the other ends follow from the sizes.
    """
    cdef hwkit_conv2d c
    c.n, c.c, c.h, c.w, c.k, c.r, c.s = sizes
    c.p, c.q = out_size
    c.top, c.left = pad
    c.stride_y, c.stride_x = stride
    c.dilation_y, c.dilation_x = dilation
    c.groups, c.nhwc, c.is_double, c.has_bias, c.has_residual = (
        groups, nhwc, is_double, bias, residual)
    c.act = read_activation(activation)
    c.algorithm = ("direct", "packed", "strassen", "tiles", "dot").index(algorithm)
    c.rows, c.vectors, c.kc, c.pixels, c.channels = rows, vectors, kc, pixels, channels
    c.pack_a, c.merge, c.by_depth, c.threads = pack_a, merge, by_depth, threads
    c.x_planes, c.block_float = x_planes, block_float
    c.way.products, c.way.pairs, c.way.half = 0, 0, HWKIT_HALF_NONE
    if min(*sizes, *out_size, *stride, *dilation, groups, kc, pixels, channels, threads) < 1:
        raise ValueError("sizes, blocks and threads must be at least 1")
    if c.c % groups or c.k % groups or min(pad) < 0:
        raise ValueError("groups must divide the channels, and padding must not be negative")
    if algorithm == "dot" and (not nhwc or pack_a or merge):
        raise ValueError("algorithm dot is for nhwc, without pack_a and merge")
    if algorithm == "packed" and (nhwc or pack_a or merge):
        raise ValueError("algorithm packed is for nchw, without pack_a and merge")
    if algorithm == "strassen" and (
        groups > 1 or c.c * c.r * c.s < 2 or not nhwc and c.r * c.s > 1
    ):
        raise ValueError("algorithm strassen is for one group, 2 terms or more, 1x1 in nchw")
    if algorithm == "tiles":
        c.way = read_way(output[1], products, pairs)
        if groups != 1 or c.way.half != HWKIT_HALF_NONE and not nhwc:
            raise ValueError("algorithm tiles takes one group, and half precision in nhwc")
    if merge and (groups > 1 if block_float else c.dilation_x > 1):
        raise ValueError("merge needs no dilation along rows, in blocks one group")
    if x_planes and not (algorithm == "direct" and pairs):
        raise ValueError("x_planes is for pairs")
    if by_depth and c.r * c.s * groups > 1:
        raise ValueError("weights by depth are of one tap and one group")
    if block_float:
        if algorithm != "direct" or not merge or not nhwc or is_double or pairs or pack_a:
            raise ValueError("block_float is for direct with merge, float32 in nhwc, no pack_a")
        if not hwkit_vnni() or not hwkit_block_float_tile(rows, vectors):
            raise ValueError(f"there is no tile of {rows} rows and {vectors} vectors of blocks")
    elif algorithm == "direct" and pairs:
        c.way = read_way(output[1], 1, pairs)
        if c.way.half != HWKIT_HALF_BF16 or pack_a:
            raise ValueError("pairs are bfloat16, without pack_a")
        if not hwkit_pairs_tile(rows, vectors):
            raise ValueError(f"there is no tile of {rows} rows and {vectors} vectors of pairs")
    elif by_depth:
        raise ValueError("weights by depth are for pairs and block_float only")
    else:
        _check_tile(is_double, rows, vectors)
    return make_run(hwkit_conv2d_plan(&c), operands, output)
