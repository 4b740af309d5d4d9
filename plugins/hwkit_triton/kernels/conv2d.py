"""Convolution, channels last, as a product with windows that are never written down."""

# Triton reads annotations as they stand, so they are not put off here.
import triton
import triton.language as tl

from .epilogue import finish
from .gemm import multiply, tile_of


@triton.jit
def conv2d_implicit(
    x,
    w,
    bias,
    residual,
    out,
    partial,
    m,
    k,
    h,
    width,
    p,
    q,
    x_pixel,
    out_pixel,
    low,
    high,
    C: tl.constexpr,
    R: tl.constexpr,
    S: tl.constexpr,
    TOP: tl.constexpr,
    LEFT: tl.constexpr,
    STRIDE_Y: tl.constexpr,
    STRIDE_X: tl.constexpr,
    DILATION_Y: tl.constexpr,
    DILATION_X: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    GROUP_M: tl.constexpr,
    SPLITS: tl.constexpr,
    FLAT: tl.constexpr,
    PRECISION: tl.constexpr,
    INTEGER: tl.constexpr,
    UPCAST: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr,
):
    """Rows are pixels of the result, columns the k output channels of a group.

    The depth runs over taps, and within a tap over the C channels of a group. By taps (not FLAT)
    a step stays within one tap, and the last step of a tap may be part empty; FLAT counts all
    taps' channels through, which wastes nothing where C is small, for a division at each step.
    """
    tiles_n = tl.cdiv(k, BN)
    tile_m, tile_n = tile_of(tl.program_id(0), tl.cdiv(m, BM), tiles_n, GROUP_M)
    group = tl.program_id(1)
    split = tl.program_id(2)
    rows = tile_m * BM + tl.arange(0, BM)
    columns = tile_n * BN + tl.arange(0, BN)
    depth = tl.arange(0, BK)
    real = rows < m
    pixel = tl.where(real, rows, 0)
    image = pixel // (p * q)
    y0 = (pixel // q) % p * STRIDE_Y - TOP
    x0 = pixel % q * STRIDE_X - LEFT
    x += group * C + image.to(tl.int64) * h * width * x_pixel
    w += (group * k).to(tl.int64) * (R * S * C)
    w_column = tl.where(columns < k, columns, 0) * (R * S * C)
    PER_TAP: tl.constexpr = (C + BK - 1) // BK
    STEPS: tl.constexpr = (R * S * C + BK - 1) // BK if FLAT else R * S * PER_TAP
    steps = (STEPS + SPLITS - 1) // SPLITS
    if INTEGER:
        sums = tl.zeros((BM, BN), tl.int32)
    else:
        sums = tl.zeros((BM, BN), tl.float32)
    for step in range(split * steps, tl.minimum(split * steps + steps, STEPS)):
        if FLAT:
            place = step * BK + depth
            tap = place // C
            channel = place % C
            there = place < R * S * C
            y = y0[:, None] + (tap // S)[None, :] * DILATION_Y
            z = x0[:, None] + (tap % S)[None, :] * DILATION_X
            inside = real[:, None] & there[None, :]
        else:
            tap = step // PER_TAP
            channel = step % PER_TAP * BK + depth
            place = tap * C + channel
            there = channel < C
            y = y0[:, None] + tap // S * DILATION_Y
            z = x0[:, None] + tap % S * DILATION_X
            inside = real[:, None]
            if C % BK != 0:
                inside = inside & there[None, :]
        inside = inside & (y >= 0) & (y < h) & (z >= 0) & (z < width)
        left = tl.load(
            x[:, None] + ((y * width + z) * x_pixel + channel[None, :]), mask=inside, other=0
        )
        if C % BK == 0:
            right = tl.load(w + (w_column[None, :] + place[:, None]))
        else:
            right = tl.load(w + (w_column[None, :] + place[:, None]), mask=there[:, None], other=0)
        sums = multiply(left, right, sums, PRECISION, INTEGER, UPCAST)
    in_row = (columns < k)[None, :]
    mask = real[:, None] & in_row
    channels = (group * k + columns)[None, :]
    places = rows.to(tl.int64)[:, None] * out_pixel + channels
    if SPLITS > 1:
        # A size of 1 is compiled in as a number, which only tl.cast takes.
        size = tl.cast(m, tl.int64) * out_pixel
        tl.store(partial + split * size + places, sums, mask=mask)
    else:
        finish(
            sums, out, bias, residual, out, places, channels, mask, in_row, low, low, low, high,
            False, False, HAS_BIAS, HAS_RESIDUAL, ACTIVATION,
        )  # fmt: skip
