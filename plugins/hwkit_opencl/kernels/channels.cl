/* fpga_gemm in three kernels that run at the same time, joined by channels (cl_intel_channels): one
   reads memory, one multiplies and adds, one applies the epilogue and writes. So no addition waits for
   memory, and only two kernels have ports to it. Each is a single work-item; VEC is 1. */

#pragma OPENCL EXTENSION cl_intel_channels : enable

#define TILE (ROWS * INTERLEAVE)

typedef struct {
    A left[ROWS], right[COLUMNS];
} Step;

typedef struct {
    A sum[ROWS][COLUMNS];
} Sums;

channel Step steps __attribute__((depth(DEPTH)));
channel Sums sums __attribute__((depth(DEPTH)));

KERNEL(channel_read)(const GLOBAL T *a, const GLOBAL T *b, int batches, int m, int n, int k, i64 a_row,
                     i64 a_column, i64 a_batch, i64 b_row, i64 b_column, i64 b_batch)
{
    for (int batch = 0; batch < batches; ++batch)
        for (int row = 0; row < m; row += TILE)
            for (int column = 0; column < n; column += COLUMNS)
                for (int depth = 0; depth < k; ++depth)
                    for (int t = 0; t < INTERLEAVE; ++t) {
                        Step step;
#pragma unroll
                        for (int i = 0; i < ROWS; ++i) {
                            int at = row + t * ROWS + i;
                            step.left[i] = load1(a + batch * a_batch
                                                 + (at < m ? at : m - 1) * a_row
                                                 + depth * a_column);
                        }
#pragma unroll
                        for (int j = 0; j < COLUMNS; ++j) {
                            int at = column + j < n ? column + j : n - 1;
                            step.right[j] =
                                load1(b + batch * b_batch + depth * b_row + at * b_column);
                        }
                        write_channel_intel(steps, step);
                    }
}

KERNEL(channel_multiply)(i64 tiles, int k)
{
    for (i64 tile = 0; tile < tiles; ++tile) {
        Sums all[INTERLEAVE];
        for (int t = 0; t < INTERLEAVE; ++t)
            for (int i = 0; i < ROWS; ++i)
                for (int j = 0; j < COLUMNS; ++j)
                    all[t].sum[i][j] = (A)0;
        for (int depth = 0; depth < k; ++depth)
            for (int t = 0; t < INTERLEAVE; ++t) {
                Step step = read_channel_intel(steps);
#pragma unroll
                for (int i = 0; i < ROWS; ++i)
#pragma unroll
                    for (int j = 0; j < COLUMNS; ++j)
                        all[t].sum[i][j] = step.left[i] * step.right[j] + all[t].sum[i][j];
            }
        for (int t = 0; t < INTERLEAVE; ++t)
            write_channel_intel(sums, all[t]);
    }
}

KERNEL(channel_write)(const GLOBAL T *c, const GLOBAL T *bias, const GLOBAL T *residual, GLOBAL T *y,
                      int batches, int m, int n, A alpha, A beta, int flags, int activation, A low,
                      A high)
{
    for (int batch = 0; batch < batches; ++batch)
        for (int row = 0; row < m; row += TILE)
            for (int column = 0; column < n; column += COLUMNS)
                for (int t = 0; t < INTERLEAVE; ++t) {
                    Sums tile = read_channel_intel(sums);
                    for (int i = 0; i < ROWS; ++i)
                        for (int j = 0; j < COLUMNS; ++j) {
                            int down = row + t * ROWS + i;
                            i64 at = (i64)down * n + column + j;
                            A z = alpha * tile.sum[i][j];
                            if (down >= m || column + j >= n)
                                continue;
                            if (flags & 1)
                                z += beta * load1(c + at);
                            finish1(y + (i64)batch * m * n + at, z, bias + column + j,
                                    residual + at, flags, activation, low, high);
                        }
                }
}
