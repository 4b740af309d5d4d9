cdef extern from "int8.h" nogil:
    enum:
        HWKIT_INT8_ROWS
        HWKIT_INT8_VECTORS
    ctypedef struct hwkit_int8_kernels:
        const char *name
        int vl, group
        void *tiles[2][2][14]
        void *quads
    ctypedef struct hwkit_int8:
        int64_t batch
        int x_shared, w_shared
        int64_t n, c, h, w, k, r, s, p, q
        int64_t top, left, stride_y, stride_x, dilation_y, dilation_x, groups
        int x_planes, y_planes, w_order, x_signed, w_signed, output
        int has_bias, has_scale, has_zero, per_channel
        hwkit_activation act
        int rows, vectors, tiles, narrow
        int64_t kc, pixels, channels
        int depthwise, threads
    const hwkit_int8_kernels *hwkit_int8_table()
    hwkit_plan *hwkit_int8_plan(const hwkit_int8 *)


def int8_tiles():
    """Return the tiles of 8-bit products as (narrow, rows, vectors), columns of a vector, and name."""
    cdef const hwkit_int8_kernels *table = hwkit_int8_table()
    found = [
        (bool(narrow), rows + 1, vectors + 1)
        for narrow in range(2)
        for vectors in range(HWKIT_INT8_VECTORS)
        for rows in range(HWKIT_INT8_ROWS)
        if table.tiles[narrow][vectors][rows] != NULL
    ]
    return found, table.vl, table.name.decode()


def int8_quads():
    """Return whether depthwise convolution keeps bytes, not int16, of its input."""
    return hwkit_int8_table().quads != NULL


def int8_product(operands, output, *, sizes, out_size, int64_t batch=1, bint x_shared=False,
                 bint w_shared=False, pad=(0, 0), stride=(1, 1), dilation=(1, 1), int64_t groups=1,
                 bint x_planes, bint y_planes, str w_order, bint bias=False, bint scales=False,
                 bint zeros=False, bint per_channel=False, activation=None, int rows=1,
                 int vectors=1, bint tiles=False, bint narrow=True, int64_t kc=1, int64_t pixels, int64_t channels,
                 bint depthwise=False, int threads=1):
    """Return the Run of a product or convolution of 8-bit integers.

    Args:
        operands: (shape, dtype) of x, w, and as far as there are bias, x_scale, x_zero, w_scale,
            w_zero, y_scale, y_zero.
        output: (shape, dtype).
        sizes: n, c, h, w, k, r, s.
        out_size: p, q.
        pad: at the top and at the left; at the other ends it follows from the sizes.
        x_planes, y_planes: channel by channel, not pixel by pixel.
        w_order: "krsc", "kcrs" or "ck".
        scales, zeros: whether there are scales and zero points of x and w.
        tiles: products of tiles (AMX), of 16 or 32 rows and 1 or 2 vectors of 16 columns.
        depthwise: the kernel for one channel in each group.
    """
    cdef hwkit_int8 g
    g.batch, g.x_shared, g.w_shared = batch, x_shared, w_shared
    g.n, g.c, g.h, g.w, g.k, g.r, g.s = sizes
    g.p, g.q = out_size
    g.top, g.left = pad
    g.stride_y, g.stride_x = stride
    g.dilation_y, g.dilation_x = dilation
    g.groups, g.x_planes, g.y_planes = groups, x_planes, y_planes
    g.w_order = ("krsc", "kcrs", "ck").index(w_order)
    g.x_signed, g.w_signed = operands[0][1] == np.int8, operands[1][1] == np.int8
    g.output = ("int32", "float32", "int8", "uint8").index(np.dtype(output[1]).name)
    g.has_bias, g.has_scale, g.has_zero, g.per_channel = bias, scales, zeros, per_channel
    g.act = read_activation(activation)
    g.rows, g.vectors, g.tiles, g.narrow, g.kc = rows, vectors, tiles, narrow, kc
    g.pixels, g.channels, g.depthwise, g.threads = pixels, channels, depthwise, threads
    if min(*sizes, *out_size, *stride, *dilation, batch, groups, kc, pixels, channels, threads) < 1:
        raise ValueError("sizes, blocks and threads must be at least 1")
    if g.c % groups or g.k % groups or min(pad) < 0:
        raise ValueError("groups must divide the channels, and padding must not be negative")
    if w_order == "ck" and (groups != 1 or g.r != 1 or g.s != 1):
        raise ValueError("weights [channel][output] are for 1 x 1 and one group")
    if depthwise and not (groups == g.c == g.k and batch == 1):
        raise ValueError("depthwise is for one channel in each group")
    if g.act.kind not in (HWKIT_IDENTITY, HWKIT_CLAMP):
        raise ValueError(f"activation {activation[0]!r} is not for 8-bit integers")
    if tiles:
        if hwkit_amx() == HWKIT_AMX_NONE or depthwise:
            raise ValueError("tiles are for products, on processors with AMX")
        if rows not in (16, 32) or vectors not in (1, 2) or not narrow:
            raise ValueError("tiles take 16 or 32 rows, 1 or 2 vectors, and narrow weights")
    elif not depthwise and (narrow, rows, vectors) not in int8_tiles()[0]:
        raise ValueError(f"there is no tile of {rows} rows and {vectors} vectors here")
    return make_run(hwkit_int8_plan(&g), operands, output)
