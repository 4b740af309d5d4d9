"""Pooling: windows, an output element for each lane, and whole images."""

# Triton reads annotations as they stand, so they are not put off here.
import triton
import triton.language as tl


@triton.jit
def greater(best, value):
    """Return the greater; NaN counts as the greatest."""
    return tl.where((value > best) | (value != value), value, best)


@triton.jit
def pool_windows(
    x,
    out,
    total,
    c,
    h,
    width,
    p,
    q,
    first_y,
    last_y,
    first_x,
    last_x,
    LAST: tl.constexpr,
    R: tl.constexpr,
    S: tl.constexpr,
    TOP: tl.constexpr,
    LEFT: tl.constexpr,
    STRIDE_Y: tl.constexpr,
    STRIDE_X: tl.constexpr,
    DILATION_Y: tl.constexpr,
    DILATION_X: tl.constexpr,
    MAXIMUM: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """BLOCK elements of the result for each program, in the order of memory.

    LAST says that channels are last. Of an average, elements from ``first`` up to ``last`` count.
    """
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = place < total
    if LAST:
        channel = place % c
        pixel = place // c
        image = pixel // (p * q)
        base = image.to(tl.int64) * h * width * c + channel
        step = c
    else:
        pixel = place
        base = (place // (p * q)).to(tl.int64) * h * width
        step = 1
    y0 = (pixel // q) % p * STRIDE_Y - TOP
    x0 = pixel % q * STRIDE_X - LEFT
    kind: tl.constexpr = tl.float64 if WIDE else tl.float32
    if MAXIMUM:
        sums = tl.full((BLOCK,), float("-inf"), kind)
    else:
        sums = tl.zeros((BLOCK,), kind)
    count = tl.zeros((BLOCK,), tl.int32)
    for r in range(R):
        y = y0 + r * DILATION_Y
        for s in range(S):
            z = x0 + s * DILATION_X
            inside = mask & (y >= 0) & (y < h) & (z >= 0) & (z < width)
            source = x + (base + (y * width + z) * step)
            if MAXIMUM:
                value = tl.load(source, mask=inside, other=float("-inf")).to(kind)
                sums = greater(sums, value)
            else:
                sums += tl.load(source, mask=inside, other=0).to(kind)
                counts = (y >= first_y) & (y < last_y) & (z >= first_x) & (z < last_x)
                count += counts.to(tl.int32)
    if not MAXIMUM:
        sums = sums / tl.maximum(count, 1).to(kind)
    tl.store(out + place, sums.to(out.dtype.element_ty), mask=mask)


@triton.jit
def pool_images(
    x,
    out,
    c,
    pixels,
    LAST: tl.constexpr,
    MAXIMUM: tl.constexpr,
    WIDE: tl.constexpr,
    BP: tl.constexpr,
    BC: tl.constexpr,
):
    """BC channels of an image for each program, BP pixels at a time."""
    strips = tl.cdiv(c, BC)
    image = tl.program_id(0) // strips
    channels = tl.program_id(0) % strips * BC + tl.arange(0, BC)
    start = tl.arange(0, BP)
    x += image.to(tl.int64) * c * pixels
    kind: tl.constexpr = tl.float64 if WIDE else tl.float32
    lowest: tl.constexpr = float("-inf") if MAXIMUM else 0.0
    sums = tl.full((BP, BC), lowest, kind)
    for first in range(0, pixels, BP):
        pixel = first + start
        mask = (pixel < pixels)[:, None] & (channels < c)[None, :]
        if LAST:
            source = x + (pixel[:, None] * c + channels[None, :])
        else:
            source = x + (channels[None, :] * pixels + pixel[:, None])
        value = tl.load(source, mask=mask, other=lowest).to(kind)
        if MAXIMUM:
            sums = greater(sums, value)
        else:
            sums += value
    if MAXIMUM:
        # A maximum over an axis drops NaN on some targets: it is looked for by itself.
        bad = tl.max((sums != sums).to(tl.int32), 0)
        result = tl.max(tl.where(sums != sums, lowest, sums), 0)
        result = tl.where(bad > 0, float("nan"), result)
    else:
        result = tl.sum(sums, 0) / pixels
    tl.store(
        out + image.to(tl.int64) * c + channels, result.to(out.dtype.element_ty), mask=channels < c
    )
