cdef extern from "transpose.h" nogil:
    ctypedef struct hwkit_transpose:
        int64_t batch, rows, columns
        int size
        int64_t block
        int threads
    hwkit_plan *hwkit_transpose_plan(const hwkit_transpose *)


def transpose(operands, output, *, int64_t b, int64_t r, int64_t c, int64_t block, int threads=1):
    """Return the Run that transposes ``b`` matrices of ``r`` rows and ``c`` columns."""
    cdef hwkit_transpose d
    memset(&d, 0, sizeof(d))
    d.batch, d.rows, d.columns, d.size = b, r, c, np.dtype(output[1]).itemsize
    d.block, d.threads = block, threads
    if min(b, r, c, block, threads) < 1:
        raise ValueError("sizes, blocks and threads must be at least 1")
    if d.size not in (1, 2, 4, 8):
        raise ValueError(f"elements have 1, 2, 4 or 8 bytes, not {d.size}")
    return make_run(hwkit_transpose_plan(&d), operands, output)
