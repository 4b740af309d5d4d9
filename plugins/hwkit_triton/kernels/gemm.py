"""Matrix products: tiles by pointers with a split depth, and persistent by tensor descriptors."""

# Triton reads annotations as they stand, so they are not put off here.
import triton
import triton.language as tl

from .epilogue import combine, finish


@triton.jit
def tile_of(tile, tiles_m, tiles_n, GROUP_M: tl.constexpr):
    """Return row and column of a tile: GROUP_M rows of tiles together share columns in the L2."""
    width = GROUP_M * tiles_n
    first = (tile // width) * GROUP_M
    rows = tl.minimum(tiles_m - first, GROUP_M)
    return first + (tile % width) % rows, (tile % width) // rows


@triton.jit
def multiply(x, y, sums, PRECISION: tl.constexpr, INTEGER: tl.constexpr, UPCAST: tl.constexpr):
    """Return ``sums + x y``. UPCAST is for the interpreter, whose bfloat16 products are wrong."""
    if UPCAST:
        x = x.to(tl.float32)
        y = y.to(tl.float32)
    if INTEGER:
        sums = tl.dot(x, y, sums, out_dtype=tl.int32)
    else:
        sums = tl.dot(x, y, sums, input_precision=PRECISION)
    return sums


@triton.jit
def gemm_tiles(
    a,
    b,
    c,
    bias,
    residual,
    out,
    partial,
    m,
    n,
    k,
    a_row,
    a_column,
    a_batch,
    b_row,
    b_column,
    b_batch,
    alpha,
    beta,
    low,
    high,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    GROUP_M: tl.constexpr,
    SPLITS: tl.constexpr,
    EVEN_K: tl.constexpr,
    PRECISION: tl.constexpr,
    INTEGER: tl.constexpr,
    UPCAST: tl.constexpr,
    SCALED: tl.constexpr,
    HAS_C: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr,
):
    """One tile of the result, or of a split of its depth, for each program."""
    tiles_m = tl.cdiv(m, BM)
    tiles_n = tl.cdiv(n, BN)
    tile = tl.program_id(0)
    split = tl.program_id(1)
    batch = (tile // (tiles_m * tiles_n)).to(tl.int64)
    tile_m, tile_n = tile_of(tile % (tiles_m * tiles_n), tiles_m, tiles_n, GROUP_M)
    top = tile_m * BM
    left = tile_n * BN
    rows = tl.arange(0, BM)
    columns = tl.arange(0, BN)
    depth = tl.arange(0, BK)
    # Rows and columns outside read the tile's first, which spares a mask.
    row = tl.max_contiguous(tl.multiple_of(tl.where(top + rows < m, rows, 0), BM), BM)
    column = tl.max_contiguous(tl.multiple_of(tl.where(left + columns < n, columns, 0), BN), BN)
    steps = tl.cdiv(tl.cdiv(k, BK), SPLITS)
    first = split * steps
    last = tl.minimum(first + steps, tl.cdiv(k, BK))
    start = first.to(tl.int64) * BK
    a += batch * a_batch + top.to(tl.int64) * a_row + start * a_column
    b += batch * b_batch + left.to(tl.int64) * b_column + start * b_row
    a_tile = a + row[:, None] * a_row + depth[None, :] * a_column
    b_tile = b + depth[:, None] * b_row + column[None, :] * b_column
    if INTEGER:
        sums = tl.zeros((BM, BN), tl.int32)
    else:
        sums = tl.zeros((BM, BN), tl.float32)
    for step in range(first, last):
        if EVEN_K:
            x = tl.load(a_tile)
            y = tl.load(b_tile)
        else:
            x = tl.load(a_tile, mask=depth[None, :] < k - step * BK, other=0)
            y = tl.load(b_tile, mask=depth[:, None] < k - step * BK, other=0)
        sums = multiply(x, y, sums, PRECISION, INTEGER, UPCAST)
        a_tile += BK * a_column
        b_tile += BK * b_row
    # A size of 1 is compiled in as a number, which only tl.cast takes.
    size = tl.cast(m, tl.int64) * n
    corner = batch * size + top.to(tl.int64) * n + left
    places = corner + (rows[:, None] * n + columns[None, :])
    in_row = (left + columns < n)[None, :]
    mask = (top + rows < m)[:, None] & in_row
    if SPLITS > 1:
        batches = tl.num_programs(0) // (tiles_m * tiles_n)
        tl.store(partial + split.to(tl.int64) * batches * size + places, sums, mask=mask)
    else:
        finish(
            sums, c, bias, residual, out, places, (left + columns)[None, :], mask, in_row, alpha,
            beta, low, high, SCALED, HAS_C, HAS_BIAS, HAS_RESIDUAL, ACTIVATION,
        )  # fmt: skip


@triton.jit
def gemm_descriptors(
    a,
    b,
    c,
    bias,
    residual,
    out,
    m,
    n,
    k,
    alpha,
    beta,
    low,
    high,
    TURNED_A: tl.constexpr,
    TURNED_B: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    GROUP_M: tl.constexpr,
    PARTS: tl.constexpr,
    FLAT: tl.constexpr,
    SPECIALIZED: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    SCALED: tl.constexpr,
    HAS_C: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr,
):
    """Tile after tile for each program; operands come and go through tensor descriptors.

    Descriptors are made on the device: so the launch needs none of the driver's structures, and
    loops of this form are the ones that Triton really specialises by warps on sm_90.
    """
    if TURNED_A:
        a_tensor = tl.make_tensor_descriptor(a, [k, m], [m, 1], [BK, BM])
    else:
        a_tensor = tl.make_tensor_descriptor(a, [m, k], [k, 1], [BM, BK])
    if TURNED_B:
        b_tensor = tl.make_tensor_descriptor(b, [n, k], [k, 1], [BN, BK])
    else:
        b_tensor = tl.make_tensor_descriptor(b, [k, n], [n, 1], [BK, BN])
    out_tensor = tl.make_tensor_descriptor(out, [m, n], [n, 1], [BM, BN // PARTS])
    tiles_m = tl.cdiv(m, BM)
    tiles_n = tl.cdiv(n, BN)
    steps = tl.cdiv(k, BK)
    for tile in tl.range(
        tl.program_id(0),
        tiles_m * tiles_n,
        tl.num_programs(0),
        flatten=FLAT,
        warp_specialize=SPECIALIZED,
    ):
        tile_m, tile_n = tile_of(tile, tiles_m, tiles_n, GROUP_M)
        top = tile_m * BM
        left = tile_n * BN
        sums = tl.zeros((BM, BN), tl.float32)
        for step in range(steps):
            if TURNED_A:
                x = a_tensor.load([step * BK, top]).T
            else:
                x = a_tensor.load([top, step * BK])
            if TURNED_B:
                y = b_tensor.load([left, step * BK]).T
            else:
                y = b_tensor.load([step * BK, left])
            sums = multiply(x, y, sums, PRECISION, False, UPCAST)
        if PARTS == 1:
            sums = add_operands(
                sums, c, bias, residual, top, left, m, n, alpha, beta, low, high,
                BM, BN, SCALED, HAS_C, HAS_BIAS, HAS_RESIDUAL, ACTIVATION,
            )  # fmt: skip
            out_tensor.store([top, left], sums.to(out.dtype.element_ty))
        else:
            halves = tl.permute(tl.reshape(sums, (BM, 2, BN // 2)), (0, 2, 1))
            one, two = tl.split(halves)
            one = add_operands(
                one, c, bias, residual, top, left, m, n, alpha, beta, low, high,
                BM, BN // 2, SCALED, HAS_C, HAS_BIAS, HAS_RESIDUAL, ACTIVATION,
            )  # fmt: skip
            out_tensor.store([top, left], one.to(out.dtype.element_ty))
            two = add_operands(
                two, c, bias, residual, top, left + BN // 2, m, n, alpha, beta, low, high,
                BM, BN // 2, SCALED, HAS_C, HAS_BIAS, HAS_RESIDUAL, ACTIVATION,
            )  # fmt: skip
            out_tensor.store([top, left + BN // 2], two.to(out.dtype.element_ty))


@triton.jit
def add_operands(
    sums,
    c,
    bias,
    residual,
    top,
    left,
    m,
    n,
    alpha,
    beta,
    low,
    high,
    BM: tl.constexpr,
    BN: tl.constexpr,
    SCALED: tl.constexpr,
    HAS_C: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr,
):
    """Return the sums of a tile, or of half of one, after the epilogue."""
    rows = top + tl.arange(0, BM)
    columns = left + tl.arange(0, BN)
    places = rows.to(tl.int64)[:, None] * n + columns[None, :]
    in_row = (columns < n)[None, :]
    mask = (rows < m)[:, None] & in_row
    return combine(
        sums, c, bias, residual, places, columns[None, :], mask, in_row, alpha, beta, low, high,
        SCALED, HAS_C, HAS_BIAS, HAS_RESIDUAL, ACTIVATION,
    )  # fmt: skip
