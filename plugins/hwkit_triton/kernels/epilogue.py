"""The fused epilogue, and the store that ends every product."""

# Triton reads annotations as they stand, so they are not put off here.
import triton
import triton.language as tl


@triton.jit
def sigmoid(x):
    """Return 1 / (1 + exp(-x)); the exponent is never positive, so that nothing overflows."""
    decay = tl.exp(-tl.abs(x))
    return tl.where(x < 0, decay, 1.0) / (1.0 + decay)


@triton.jit
def clip(x, low, high):
    """Return x within bounds. NaN passes through comparisons that are false."""
    x = tl.where(x < low, low, x)
    return tl.where(x > high, high, x)


@triton.jit
def activate(x, low, high, ACTIVATION: tl.constexpr):
    """Apply an activation by name; ``low`` and ``high`` are its parameters."""
    if ACTIVATION == "relu":
        x = tl.where(x < 0, 0, x)
    if ACTIVATION == "clip":
        x = clip(x, low, high)
    if ACTIVATION == "leaky_relu":
        x = tl.where(x < 0, x * low, x)
    if ACTIVATION == "sigmoid":
        x = sigmoid(x)
    if ACTIVATION == "silu":
        x = x * sigmoid(x)
    if ACTIVATION == "hard_swish":
        x = x * clip(x + 3.0, 0.0, 6.0) / 6.0
    return x


@triton.jit
def combine(
    sums,
    c,
    bias,
    residual,
    places,
    columns,
    mask,
    in_row,
    alpha,
    beta,
    low,
    high,
    SCALED: tl.constexpr,
    HAS_C: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr,
):
    """Return ``activation(alpha sums + beta c + bias + residual)``.

    ``c`` and ``residual`` are read at ``places``, the bias at ``columns``, which are of a shape
    that broadcasts; ``mask`` and ``in_row`` say which of them exist.
    """
    if SCALED:
        sums = sums * alpha
    if HAS_C:
        sums += beta * tl.load(c + places, mask=mask, other=0).to(sums.dtype)
    if HAS_BIAS:
        sums += tl.load(bias + columns, mask=in_row, other=0).to(sums.dtype)
    if HAS_RESIDUAL:
        sums += tl.load(residual + places, mask=mask, other=0).to(sums.dtype)
    return activate(sums, low, high, ACTIVATION)


@triton.jit
def finish(
    sums,
    c,
    bias,
    residual,
    out,
    places,
    columns,
    mask,
    in_row,
    alpha,
    beta,
    low,
    high,
    SCALED: tl.constexpr,
    HAS_C: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr,
):
    """Write what :func:`combine` returns at ``out + places``."""
    sums = combine(
        sums, c, bias, residual, places, columns, mask, in_row, alpha, beta, low, high,
        SCALED, HAS_C, HAS_BIAS, HAS_RESIDUAL, ACTIVATION,
    )  # fmt: skip
    tl.store(out + places, sums.to(out.dtype.element_ty), mask=mask)


@triton.jit
def reduce_splits(
    partial,
    c,
    bias,
    residual,
    out,
    total,
    columns,
    alpha,
    beta,
    low,
    high,
    SPLITS: tl.constexpr,
    BLOCK: tl.constexpr,
    SCALED: tl.constexpr,
    HAS_C: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr,
):
    """Add the partial sums of the splits, always in the same order, and finish."""
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = places < total
    sums = tl.load(partial + places, mask=mask, other=0)
    for _split in range(1, SPLITS):
        partial += total  # once more each time: split * total may be beyond 31 bits
        sums += tl.load(partial + places, mask=mask, other=0)
    finish(
        sums, c, bias, residual, out, places, places % columns, mask, mask, alpha, beta, low, high,
        SCALED, HAS_C, HAS_BIAS, HAS_RESIDUAL, ACTIVATION,
    )  # fmt: skip
