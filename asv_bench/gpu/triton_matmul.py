"""A product as a user of Triton writes it: pointers, programs in groups, its own autotuner.

It is what hwkit is compared with, and shares no text with it. The Configs are the usual
ones of large tiles for tensor cores; of float32, which is multiplied without them, small ones, for
large tiles take minutes to compile and run out of registers.
"""

# Triton reads annotations as they stand, so they are not put off here.
import triton
import triton.language as tl

_TILES = (
    (128, 256, 64, 3, 8), (128, 256, 64, 4, 8), (256, 128, 64, 3, 8), (128, 128, 64, 3, 8),
    (128, 128, 64, 4, 4), (64, 256, 32, 4, 4), (128, 64, 32, 4, 4), (64, 64, 64, 4, 4),
    (32, 64, 128, 4, 4), (16, 128, 128, 4, 4),
)  # fmt: skip
_PLAIN_TILES = (
    (64, 64, 16, 3, 4), (64, 64, 32, 3, 8), (128, 64, 16, 3, 8), (64, 128, 16, 3, 8),
    (32, 64, 32, 3, 4), (16, 128, 32, 3, 4),
)  # fmt: skip


def _configs(tiles):
    return [
        triton.Config({"BM": bm, "BN": bn, "BK": bk, "GROUP": 8}, num_stages=ahead, num_warps=warps)
        for bm, bn, bk, ahead, warps in tiles
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


_KEY = ["m", "n", "k"]
_tuned = triton.autotune(_configs(_TILES), key=_KEY)(product)
_plain = triton.autotune(_configs(_PLAIN_TILES), key=_KEY)(product)


def matmul(a, b, out):
    """Multiply two tensors of torch; tunes itself at the first call of a shape."""
    (m, k), n = a.shape, b.shape[1]

    def grid(chosen):
        return (triton.cdiv(m, chosen["BM"]) * triton.cdiv(n, chosen["BN"]),)

    by_tiles = _plain if a.element_size() == 4 else _tuned
    by_tiles[grid](a, b, out, m, n, k, a.stride(0), b.stride(0), out.stride(0))
    return out
