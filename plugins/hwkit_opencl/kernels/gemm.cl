/* y = activation(alpha a b + beta c + bias + residual), for a batch of products.

   A work-item makes MR rows of NV vectors of y in registers. Work-items of a group lie WM down and WN
   across. a is read one element at a time, so its transposition is a pair of strides. b is
     PACKED 1   in panels of NR = NV * VEC columns, padded with zeros, as pack_b writes them;
     PACKED 0   as it is, its columns side by side.
   IMAGE 1: the panels are read as texels of an image over their buffer.
   STAGE > 0: a group first copies STAGE steps of the depth of its block of a and b to local memory. */

#define NR (NV * VEC)
#if IMAGE
#define RIGHT_SIDE TEXELS
#else
#define RIGHT_SIDE const GLOBAL T *
#endif

KERNEL(pack_b)(const GLOBAL T *b, GLOBAL T *packed, int n, int k, i64 b_row, i64 b_column,
               i64 b_batch)
{
    int row = GROUP(0) * THREADS + LANE(), panel = GROUP(1), batch = GROUP(2);
    i64 panels = (n + NR - 1) / NR;
    if (row >= k)
        return;
    const GLOBAL T *from = b + batch * b_batch + row * b_row + (i64)panel * NR * b_column;
    GLOBAL T *to = packed + (((i64)batch * panels + panel) * k + row) * NR;
    int left = n - panel * NR;
    for (int j = 0; j < NR; ++j)
        if (j < left)
            to[j] = from[j * b_column];
        else
            store1(to + j, (A)0);
}

FUNCTION void write_tile(V (*sum)[NV], GLOBAL T *y, const GLOBAL T *c, const GLOBAL T *bias,
                         const GLOBAL T *residual, int row, int column, int m, int n, A alpha,
                         A beta, int flags, int activation, A low, A high)
{
    V tile[MR * NV];
#pragma unroll
    for (int i = 0; i < MR; ++i)
#pragma unroll
        for (int j = 0; j < NV; ++j)
            tile[i * NV + j] = sum[i][j];
    COMPACT
    for (int at = 0; at < MR * NV; ++at) {
        int i = at / NV, first = at % NV * VEC, left = n - column - first;
        i64 to = (i64)(row + i) * n + column + first;
        V x = v_fma(v_splat(alpha), tile[at], v_splat((A)0));
        if (row + i >= m || left <= 0)
            continue;
        if (flags & 1)
            x = v_fma(v_splat(beta), v_gather(c + to, 1, 0, left, (A)0), x);
        finish(y + to, 1, left, x, bias + column + first, 1, residual + to, flags, activation, low,
               high);
    }
}

/* One step of the depth: a row of b, and an element of a for each row. */
FUNCTION void step(V (*sum)[NV], const GLOBAL T **rows, i64 ahead, const V *right)
{
#pragma unroll
    for (int i = 0; i < MR; ++i) {
        V value = v_splat(load1(rows[i] + ahead));
#pragma unroll
        for (int j = 0; j < NV; ++j)
            sum[i][j] = v_fma(value, right[j], sum[i][j]);
    }
}

FUNCTION void multiply(V (*sum)[NV], const GLOBAL T **rows, i64 a_column, const GLOBAL T *b,
                       i64 b_row, int k)
{
    int depth = 0;
    V right[NV];
    for (; depth + UNROLL <= k; depth += UNROLL) {
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) {
#pragma unroll
            for (int j = 0; j < NV; ++j)
                right[j] = v_load(b + j * VEC);
            step(sum, rows, u * a_column, right);
            b += b_row;
        }
#pragma unroll
        for (int i = 0; i < MR; ++i)
            rows[i] += UNROLL * a_column;
    }
#if UNROLL > 1
    for (int u = 0; depth < k; ++depth, ++u) {
#pragma unroll
        for (int j = 0; j < NV; ++j)
            right[j] = v_load(b + j * VEC);
        step(sum, rows, u * a_column, right);
        b += b_row;
    }
#endif
}

#if IMAGE
/* The same from texel number at on. */
FUNCTION void multiply_texels(V (*sum)[NV], const GLOBAL T **rows, i64 a_column, RIGHT_SIDE b,
                              int at, int k)
{
    for (int depth = 0; depth < k; ++depth) {
        V right[NV];
#pragma unroll
        for (int j = 0; j < NV; ++j)
            right[j] = v_texels(b, at + j * (VEC / 4));
        at += NR / 4;
        step(sum, rows, depth * a_column, right);
    }
}
#endif

#if !PACKED && STAGE == 0
/* The same where fewer than NR columns are left. */
FUNCTION void multiply_edge(V (*sum)[NV], const GLOBAL T **rows, i64 a_column, const GLOBAL T *b,
                            i64 b_row, int k, int left)
{
    for (int depth = 0; depth < k; ++depth) {
        V right[NV];
#pragma unroll
        for (int j = 0; j < NV; ++j)
            right[j] = v_gather(b + j * VEC, 1, 0, left - j * VEC, (A)0);
        step(sum, rows, depth * a_column, right);
        b += b_row;
    }
}
#endif

KERNEL(gemm)(const GLOBAL T *a, RIGHT_SIDE b, const GLOBAL T *c, const GLOBAL T *bias,
             const GLOBAL T *residual, GLOBAL T *y, int m, int n, int k, i64 a_row, i64 a_column,
             i64 a_batch, i64 b_batch, A alpha, A beta, int flags, int activation, A low, A high)
{
    int batch = GROUP(2), lane = LANE();
    int row = (GROUP(0) * WM + lane / WN) * MR, column = (GROUP(1) * WN + lane % WN) * NR;
    V sum[MR][NV];
    a += batch * a_batch;
#if !IMAGE
    b += batch * b_batch;
#endif
    y += (i64)batch * m * n;
#pragma unroll
    for (int i = 0; i < MR; ++i)
#pragma unroll
        for (int j = 0; j < NV; ++j)
            sum[i][j] = v_splat((A)0);
#if STAGE > 0
    SHARED A left[STAGE * WM * MR];
    SHARED A right[STAGE * WN * NR];
    int top = GROUP(0) * WM * MR, side = GROUP(1) * WN * NR;
    for (int start = 0; start < k; start += STAGE) {
        for (int at = lane; at < STAGE * WM * MR; at += THREADS) {
            int i = at / STAGE, depth = at % STAGE;
            int inside = top + i < m && start + depth < k;
            left[depth * (WM * MR) + i] =
                inside ? load1(a + (top + i) * a_row + (start + depth) * a_column) : (A)0;
        }
        for (int at = lane; at < STAGE * WN * NR; at += THREADS) {
            int j = at % (WN * NR), depth = at / (WN * NR);
            int inside = side + j < n && start + depth < k;
            right[at] = inside ? load1(b + (i64)(start + depth) * n + side + j) : (A)0;
        }
        BARRIER();
        for (int depth = 0; depth < STAGE; ++depth) {
            const SHARED_POINTER A *from = right + depth * (WN * NR) + (lane % WN) * NR;
            const SHARED_POINTER A *down = left + depth * (WM * MR) + (lane / WN) * MR;
            V across[NV];
#pragma unroll
            for (int j = 0; j < NV; ++j) {
                A lanes[VEC];
#pragma unroll
                for (int e = 0; e < VEC; ++e)
                    lanes[e] = from[j * VEC + e];
                across[j] = v_pack(lanes);
            }
#pragma unroll
            for (int i = 0; i < MR; ++i)
#pragma unroll
                for (int j = 0; j < NV; ++j)
                    sum[i][j] = v_fma(v_splat(down[i]), across[j], sum[i][j]);
        }
        BARRIER();
    }
    if (row >= m || column >= n)
        return;
#else
    const GLOBAL T *rows[MR];
    if (row >= m || column >= n)
        return;
#pragma unroll
    for (int i = 0; i < MR; ++i)
        rows[i] = a + (row + i < m ? row + i : m - 1) * a_row;
#if IMAGE
    multiply_texels(sum, rows, a_column, b, (int)((batch * b_batch + (i64)column * k) / 4), k);
#elif PACKED
    multiply(sum, rows, a_column, b + (i64)column * k, NR, k);
#else
    if (column + NR <= n)
        multiply(sum, rows, a_column, b + column, n, k);
    else
        multiply_edge(sum, rows, a_column, b + column, n, k, n - column);
#endif
#endif
    write_tile(sum, y, c, bias, residual, row, column, m, n, alpha, beta, flags, activation, low,
               high);
}
