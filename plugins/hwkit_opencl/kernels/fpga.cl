/* Single work-item kernels: loops that an FPGA compiler pipelines, and unrolls into ROWS x COLUMNS
   multiply-adds. INTERLEAVE tiles take turns, so that an addition is done before its sum is needed
   again. Launched with one work-item; VEC is 1. */

#define TILE (ROWS * INTERLEAVE)

KERNEL(fpga_gemm)(const GLOBAL T *a, const GLOBAL T *b, const GLOBAL T *c, const GLOBAL T *bias,
                  const GLOBAL T *residual, GLOBAL T *y, int batches, int m, int n, int k,
                  i64 a_row, i64 a_column, i64 a_batch, i64 b_row, i64 b_column, i64 b_batch,
                  A alpha, A beta, int flags, int activation, A low, A high)
{
    for (int batch = 0; batch < batches; ++batch)
        for (int row = 0; row < m; row += TILE)
            for (int column = 0; column < n; column += COLUMNS) {
                A sum[INTERLEAVE][ROWS][COLUMNS];
                for (int t = 0; t < INTERLEAVE; ++t)
                    for (int i = 0; i < ROWS; ++i)
                        for (int j = 0; j < COLUMNS; ++j)
                            sum[t][i][j] = (A)0;
                for (int depth = 0; depth < k; ++depth)
                    for (int t = 0; t < INTERLEAVE; ++t) {
                        A left[ROWS], right[COLUMNS];
#pragma unroll
                        for (int i = 0; i < ROWS; ++i) {
                            int at = row + t * ROWS + i;
                            left[i] = load1(a + batch * a_batch + (at < m ? at : m - 1) * a_row
                                            + depth * a_column);
                        }
#pragma unroll
                        for (int j = 0; j < COLUMNS; ++j) {
                            int at = column + j < n ? column + j : n - 1;
                            right[j] = load1(b + batch * b_batch + depth * b_row + at * b_column);
                        }
#pragma unroll
                        for (int i = 0; i < ROWS; ++i)
#pragma unroll
                            for (int j = 0; j < COLUMNS; ++j)
                                sum[t][i][j] = left[i] * right[j] + sum[t][i][j];
                    }
                for (int i = 0; i < TILE; ++i)
                    for (int j = 0; j < COLUMNS; ++j) {
                        i64 at = (i64)(row + i) * n + column + j;
                        A z = alpha * sum[i / ROWS][i % ROWS][j];
                        if (row + i >= m || column + j >= n)
                            continue;
                        if (flags & 1)
                            z += beta * load1(c + at);
                        finish1(y + (i64)batch * m * n + at, z, bias + column + j, residual + at,
                                flags, activation, low, high);
                    }
            }
}

KERNEL(fpga_conv2d)(const GLOBAL T *x, const GLOBAL T *w, const GLOBAL T *bias,
                    const GLOBAL T *residual, GLOBAL T *y, int pixels, int channels, int h,
                    int width, int per_group, int groups, int p, int q, int r, int s, int top,
                    int left, int stride_y, int stride_x, int dilation_y, int dilation_x, i64 x_n,
                    i64 x_c, i64 x_h, i64 x_w, i64 w_k, i64 w_c, i64 w_r, i64 w_s, i64 y_n,
                    i64 y_k, i64 y_p, i64 y_q, int flags, int activation, A low, A high)
{
    for (int group = 0; group < groups; ++group)
        for (int first = 0; first < pixels; first += TILE)
            for (int k = 0; k < per_group; k += COLUMNS) {
                A sum[INTERLEAVE][ROWS][COLUMNS];
                for (int t = 0; t < INTERLEAVE; ++t)
                    for (int i = 0; i < ROWS; ++i)
                        for (int j = 0; j < COLUMNS; ++j)
                            sum[t][i][j] = (A)0;
                for (int depth = 0; depth < r * s * channels; ++depth) {
                    int plane = depth % channels, v = depth / channels % s;
                    int u = depth / channels / s;
                    for (int t = 0; t < INTERLEAVE; ++t) {
                        A value[ROWS], weight[COLUMNS];
#pragma unroll
                        for (int i = 0; i < ROWS; ++i) {
                            int pixel = first + t * ROWS + i;
                            int row = pixel % (p * q) / q * stride_y - top + u * dilation_y;
                            int column = pixel % q * stride_x - left + v * dilation_x;
                            int inside = pixel < pixels && row >= 0 && row < h && column >= 0
                                         && column < width;
                            value[i] = inside ? load1(x + pixel / (p * q) * x_n
                                                      + (group * channels + plane) * x_c
                                                      + row * x_h + column * x_w) : (A)0;
                        }
#pragma unroll
                        for (int j = 0; j < COLUMNS; ++j) {
                            int at = group * per_group + (k + j < per_group ? k + j : k);
                            weight[j] = load1(w + at * w_k + plane * w_c + u * w_r + v * w_s);
                        }
#pragma unroll
                        for (int i = 0; i < ROWS; ++i)
#pragma unroll
                            for (int j = 0; j < COLUMNS; ++j)
                                sum[t][i][j] = value[i] * weight[j] + sum[t][i][j];
                    }
                }
                for (int i = 0; i < TILE; ++i)
                    for (int j = 0; j < COLUMNS; ++j) {
                        int pixel = first + i, at = group * per_group + k + j;
                        i64 to = pixel / (p * q) * y_n + at * y_k + pixel % (p * q) / q * y_p
                                 + pixel % q * y_q;
                        A z = sum[i / ROWS][i % ROWS][j];
                        if (pixel >= pixels || k + j >= per_group)
                            continue;
                        finish1(y + to, z, bias + at, residual + to, flags, activation, low, high);
                    }
            }
}

KERNEL(fpga_pool2d)(const GLOBAL T *x, GLOBAL T *y, int pixels, int channels, int h, int width,
                    int p, int q, int r, int s, int top, int left, int stride_y, int stride_x,
                    int dilation_y, int dilation_x, int first_row, int last_row, int first_column,
                    int last_column, i64 x_n, i64 x_c, i64 x_h, i64 x_w, i64 y_n, i64 y_c, i64 y_p,
                    i64 y_q)
{
    for (int pixel = 0; pixel < pixels; ++pixel)
        for (int first = 0; first < channels; first += COLUMNS) {
            A result[COLUMNS];
            int rows = 0, columns = 0, row = pixel % (p * q) / q * stride_y - top;
            int column = pixel % q * stride_x - left;
            const GLOBAL T *image = x + pixel / (p * q) * x_n;
            for (int j = 0; j < COLUMNS; ++j)
                result[j] = MAXIMUM ? -INF : (A)0;
            for (int v = 0; v < s; ++v)
                columns += column + v * dilation_x >= first_column
                           && column + v * dilation_x < last_column;
            for (int u = 0; u < r; ++u) {
                int a = row + u * dilation_y;
                A partial[COLUMNS];
                rows += a >= first_row && a < last_row;
                for (int j = 0; j < COLUMNS; ++j)
                    partial[j] = (A)0;
                for (int v = 0; v < s; ++v) {
                    int b = column + v * dilation_x;
                    if (a < 0 || a >= h || b < 0 || b >= width)
                        continue;
#pragma unroll
                    for (int j = 0; j < COLUMNS; ++j) {
                        int at = first + j < channels ? first + j : first;
                        A value = load1(image + at * x_c + a * x_h + b * x_w);
                        if (!MAXIMUM)
                            partial[j] += value;
                        else if (value > result[j] || value != value)
                            result[j] = value;
                    }
                }
                for (int j = 0; j < COLUMNS; ++j)
                    if (!MAXIMUM)
                        result[j] += partial[j];
            }
            for (int j = 0; j < COLUMNS; ++j) {
                A count = rows * columns > 0 ? (A)(rows * columns) : (A)1;
                if (first + j < channels)
                    store1(y + pixel / (p * q) * y_n + (first + j) * y_c
                               + pixel % (p * q) / q * y_p + pixel % q * y_q,
                           MAXIMUM ? result[j] : result[j] / count);
            }
        }
}
