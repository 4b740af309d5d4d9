/* Convolution where each output channel sees few input channels: grouped and depthwise.

   ACROSS 1: the vector lies across channels, for depthwise images with channels side by side, and a
   work-item makes TILE pixels of a row. ACROSS 0: it lies across the pixels of a row, for any groups
   and both layouts, and a work-item makes TILE channels of a group. */

KERNEL(direct)(const GLOBAL T *x, const GLOBAL T *w, const GLOBAL T *bias,
               const GLOBAL T *residual, GLOBAL T *y, int images, int channels, int h, int width,
               int per_group, int groups, int p, int q, int r, int s, int top, int left,
               int stride_y, int stride_x, int dilation_y, int dilation_x, i64 x_n, i64 x_c,
               i64 x_h, i64 x_w, i64 w_k, i64 w_c, i64 w_r, i64 w_s, i64 y_n, i64 y_k, i64 y_p,
               i64 y_q, int flags, int activation, A low, A high)
{
    V sum[TILE];
#pragma unroll
    for (int i = 0; i < TILE; ++i)
        sum[i] = v_splat((A)0);
#if ACROSS
    int channel = (GROUP(0) * THREADS + LANE()) * VEC, count = groups - channel;
    int tiles = (q + TILE - 1) / TILE, column = GROUP(1) % tiles * TILE;
    int row = GROUP(1) / tiles, image = GROUP(2);
    if (count <= 0)
        return;
    for (int u = 0; u < r; ++u) {
        int a = row * stride_y - top + u * dilation_y;
        if (a < 0 || a >= h)
            continue;
        for (int v = 0; v < s; ++v) {
            V weight = v_gather(w + channel * w_k + u * w_r + v * w_s, w_k, 0, count, (A)0);
#pragma unroll
            for (int i = 0; i < TILE; ++i) {
                int b = (column + i) * stride_x - left + v * dilation_x;
                if (b >= 0 && b < width)
                    sum[i] = v_fma(v_gather(x + image * x_n + a * x_h + b * x_w + channel, 1, 0,
                                            count, (A)0), weight, sum[i]);
            }
        }
    }
#define LANES count
#define STEP 1
#define PLACE(i) (image * y_n + row * y_p + (i64)(column + (i)) * y_q + channel)
#define INSIDE(i) (column + (i) < q)
#define BIAS(i) (bias + channel)
#define BIAS_STEP 1
#else
    int strips = (q + VEC - 1) / VEC, tiles = (per_group + TILE - 1) / TILE;
    int unit = GROUP(0) * THREADS + LANE();
    int column = unit % strips * VEC, row = unit / strips;
    int group = GROUP(1) / tiles, first = GROUP(1) % tiles * TILE, image = GROUP(2);
    int k = group * per_group + first;
    if (row >= p)
        return;
    for (int c = 0; c < channels; ++c)
        for (int u = 0; u < r; ++u) {
            int a = row * stride_y - top + u * dilation_y;
            if (a < 0 || a >= h)
                continue;
            for (int v = 0; v < s; ++v) {
                int b = column * stride_x - left + v * dilation_x;
                /* Lane i reads column b + i * stride_x. */
                int low_lane = b >= 0 ? 0 : (-b + stride_x - 1) / stride_x;
                int high_lane = b >= width ? 0 : (width - b + stride_x - 1) / stride_x;
                V value = v_gather(x + image * x_n + (group * channels + c) * x_c + a * x_h
                                   + b * x_w, stride_x * x_w, low_lane, high_lane, (A)0);
#pragma unroll
                for (int i = 0; i < TILE; ++i) {
                    int channel = first + i < per_group ? k + i : k;
                    A weight = load1(w + channel * w_k + c * w_c + u * w_r + v * w_s);
                    sum[i] = v_fma(value, v_splat(weight), sum[i]);
                }
            }
        }
#define LANES (q - column)
#define STEP y_q
#define PLACE(i) (image * y_n + (k + (i)) * y_k + row * y_p + column * y_q)
#define INSIDE(i) (first + (i) < per_group)
#define BIAS(i) (bias + k + (i))
#define BIAS_STEP 0
#endif
    V tile[TILE];
#pragma unroll
    for (int i = 0; i < TILE; ++i)
        tile[i] = sum[i];
    COMPACT
    for (int i = 0; i < TILE; ++i) {
        if (!(INSIDE(i)))
            continue;
        finish(y + PLACE(i), STEP, LANES, tile[i], BIAS(i), BIAS_STEP, residual + PLACE(i), flags,
               activation, low, high);
    }
}
