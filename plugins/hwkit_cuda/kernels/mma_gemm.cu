/* y = activation(alpha a b + beta c + bias + residual) by the matrix units, for narrow types.

   A block makes BM x BN of y, a warp of it WM x WN, in the steps of mma.h. STAGES blocks of a and b lie
   in shared memory, copied ahead by cp.async. */

#include "mma.h"

#define LDA (BK + UNIT)
#define LDB (BN + UNIT)

/* One block of a and of b to shared memory. */
#define FETCH(stage, start)                                                                        \
    do {                                                                                           \
        for (int at = lane; at < BM * BK / UNIT; at += THREADS) {                                  \
            int row = at / (BK / UNIT), column = at % (BK / UNIT) * UNIT;                          \
            int inside = top + row < m && (start) + column < k;                                    \
            const GLOBAL T *from = inside ? a + (i64)(top + row) * k + (start) + column : a;       \
            put_unit(left + (stage) * (BM * LDA) + row * LDA + column, from, inside, aligned);     \
        }                                                                                          \
        for (int at = lane; at < BK * BN / UNIT; at += THREADS) {                                  \
            int row = at / (BN / UNIT), column = at % (BN / UNIT) * UNIT;                          \
            int inside = (start) + row < k && side + column < n;                                   \
            const GLOBAL T *from = inside ? b + (i64)((start) + row) * n + side + column : b;      \
            put_unit(right + (stage) * (BK * LDB) + row * LDB + column, from, inside, aligned);    \
        }                                                                                          \
    } while (0)

KERNEL(gemm_mma)(const GLOBAL T *a, const GLOBAL T *b, const GLOBAL T *c, const GLOBAL T *bias,
                 const GLOBAL T *residual, GLOBAL T *y, int m, int n, int k, i64 a_batch,
                 i64 b_batch, A alpha, A beta, int flags, int activation, A low, A high)
{
    ALIGNED T left[STAGES * BM * LDA];
    ALIGNED T right[STAGES * BK * LDB];
    SHOWN
    int lane = LANE(), batch = GROUP(2), top = GROUP(0) * BM, side = GROUP(1) * BN;
    int down = lane / 32 / (BN / WN) * WM, across = lane / 32 % (BN / WN) * WN;
    int blocks = (k + BK - 1) / BK;
    A sum[TILES_M][TILES_N][4];
    a += batch * a_batch;
    b += batch * b_batch;
    int aligned = ((ADDRESS(a) | ADDRESS(b)) & 15) == 0;
    MULTIPLY_ALL(blocks, LDA, LDB, BK * LDB, across, LOAD_B_TURNED, LDB, 1)
    y += (i64)batch * m * n;
    FOR_SUMS
    {
        int row = top + down + SUM_ROW(i, e), column = side + across + SUM_COLUMN(j, e);
        i64 to = (i64)row * n + column;
        A value = alpha * sum[i][j][e];
        if (row >= m || column >= n)
            continue;
        if (flags & 1)
            value += beta * load1(c + to);
        finish1(y + to, value, bias + column, residual + to, flags, activation, low, high);
    }
}
