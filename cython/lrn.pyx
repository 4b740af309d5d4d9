cdef extern from "lrn.h" nogil:
    ctypedef struct hwkit_lrn:
        int64_t n, c, l
        int is_double
        int64_t before, after
        double factor, bias
        int quarters
        int64_t block
        int threads
    hwkit_plan *hwkit_lrn_plan(const hwkit_lrn *)


def lrn(operands, output, *, int64_t n, int64_t c, int64_t l, int64_t before, int64_t after,
        double factor, double bias, int quarters, bint is_double=False, int64_t block,
        int threads=1):
    """Return the Run of a local response normalisation; ``operands`` and ``output`` are (shape, dtype).

    Args:
        before: channels of a window before its own, ``after`` behind it.
        quarters: the power in quarters, 1 to 4.
    """
    cdef hwkit_lrn d
    memset(&d, 0, sizeof(d))
    d.n, d.c, d.l, d.before, d.after, d.is_double = n, c, l, before, after, is_double
    d.factor, d.bias, d.quarters, d.block, d.threads = factor, bias, quarters, block, threads
    if min(n, c, l, block, threads, quarters) < 1 or min(before, after) < 0 or quarters > 4:
        raise ValueError("sizes, blocks and threads must be at least 1, and the power 1 to 4 quarters")
    return make_run(hwkit_lrn_plan(&d), operands, output)
