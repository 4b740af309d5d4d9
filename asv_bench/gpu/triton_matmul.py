"""A product as a user of Triton writes it: pointers, programs in groups, its own autotuner.

It is what hwkit is compared with, and shares no text with it. The Configs are the usual
ones of large tiles for tensor cores.
"""

# Triton reads annotations as they stand, so they are not put off here.
import triton
import triton.language as tl

_TILES = (
    (128, 256, 64, 3, 8), (128, 256, 64, 4, 8), (256, 128, 64, 3, 8), (128, 128, 64, 3, 8),
    (128, 128, 64, 4, 4), (64, 256, 32, 4, 4), (128, 64, 32, 4, 4), (64, 64, 64, 4, 4),
    (32, 64, 128, 4, 4), (16, 128, 128, 4, 4),
)  # fmt: skip
_CONFIGS = [
    triton.Config({"BM": bm, "BN": bn, "BK": bk, "GROUP": 8}, num_stages=stages, num_warps=warps)
    for bm, bn, bk, stages, warps in _TILES
]


@triton.jit
def product(
    a, b, y, m, n, k, a_row, b_row, y_row,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """One tile of ``y = a b`` for each program."""
    across = tl.cdiv(n, BN)
    number = tl.program_id(0)
    band = number // (GROUP * across) * GROUP
    height = tl.minimum(tl.cdiv(m, BM) - band, GROUP)
    top = (band + number % (GROUP * across) % height) * BM
    left = number % (GROUP * across) // height * BN
    rows = (top + tl.arange(0, BM)) % m
    columns = (left + tl.arange(0, BN)) % n
    depth = tl.arange(0, BK)
    one = a + rows[:, None] * a_row + depth[None, :]
    two = b + depth[:, None] * b_row + columns[None, :]
    sums = tl.zeros((BM, BN), tl.float32)
    for done in range(0, k, BK):
        x = tl.load(one, mask=depth[None, :] < k - done, other=0.0)
        z = tl.load(two, mask=depth[:, None] < k - done, other=0.0)
        sums = tl.dot(x, z, sums, input_precision="ieee")
        one += BK
        two += BK * b_row
    rows = top + tl.arange(0, BM)
    columns = left + tl.arange(0, BN)
    inside = (rows[:, None] < m) & (columns[None, :] < n)
    tl.store(y + rows[:, None] * y_row + columns[None, :], sums.to(y.dtype.element_ty), inside)


_tuned = triton.autotune(_CONFIGS, key=["m", "n", "k"])(product)


def matmul(a, b, out):
    """Multiply two tensors of torch; tunes itself at the first call of a shape."""
    (m, k), n = a.shape, b.shape[1]

    def grid(chosen):
        return (triton.cdiv(m, chosen["BM"]) * triton.cdiv(n, chosen["BN"]),)

    _tuned[grid](a, b, out, m, n, k, a.stride(0), b.stride(0), out.stride(0))
    return out
