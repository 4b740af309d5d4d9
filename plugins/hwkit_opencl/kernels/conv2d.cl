/* Convolution as a product of windows and weights, without writing the windows down.

   A work-item makes MR output pixels (of all images, one after another) of NV vectors of output
   channels of one group. Weights are packed in panels of NR = NV * VEC channels, padded with zeros:
   [group][panel][r][s][c][NR]. Pictures have strides, so one text takes nchw and nhwc.
   IMAGE 1: weights are read as texels; 2: pixels as well, a texel being four channels that lie side by
   side, of a group with a whole number of them. */

#define NR (NV * VEC)
#if IMAGE
#define WEIGHTS TEXELS
#else
#define WEIGHTS const GLOBAL T *
#endif
#if IMAGE == 2
#define PIXELS TEXELS
#define PLANES 4
#else
#define PIXELS const GLOBAL T *
#define PLANES 1
#endif

KERNEL(pack_weights)(const GLOBAL T *w, GLOBAL T *packed, int depth, int channels, int per_group,
                     int taps, i64 w_k, i64 w_c, i64 w_tap)
{
    /* depth = taps * channels; a row of the panel is one tap and channel. */
    int row = GROUP(0) * THREADS + LANE(), panel = GROUP(1), group = GROUP(2);
    int panels = (per_group + NR - 1) / NR, tap = row / channels, channel = row % channels;
    if (row >= depth)
        return;
    i64 first = (i64)group * per_group + panel * NR;
    const GLOBAL T *from = w + first * w_k + tap * w_tap + channel * w_c;
    GLOBAL T *to = packed + (((i64)group * panels + panel) * depth + row) * NR;
    int left = per_group - panel * NR;
    for (int j = 0; j < NR; ++j)
        if (j < left)
            to[j] = from[j * w_k];
        else
            store1(to + j, (A)0);
}

#if IMAGE
/* One tap, from texel number weights on; pixels in the padding (at < 0) are zero. */
FUNCTION void accumulate_texels(V (*sum)[NV], PIXELS x, i64 *at, i64 step, WEIGHTS w, int weights,
                                int channels)
{
    for (int channel = 0; channel < channels; channel += PLANES) {
        A value[MR][PLANES];
#pragma unroll
        for (int i = 0; i < MR; ++i)
#if IMAGE == 2
            vstore4(at[i] < 0 ? (float4)(0) : TEXEL(x, (int)((at[i] + channel) / 4)), 0, value[i]);
#else
            value[i][0] = at[i] < 0 ? (A)0 : load1(x + at[i] + channel * step);
#endif
#pragma unroll
        for (int plane = 0; plane < PLANES; ++plane) {
            V right[NV];
#pragma unroll
            for (int j = 0; j < NV; ++j)
                right[j] = v_texels(w, weights + j * (VEC / 4));
#pragma unroll
            for (int i = 0; i < MR; ++i)
#pragma unroll
                for (int j = 0; j < NV; ++j)
                    sum[i][j] = v_fma(v_splat(value[i][plane]), right[j], sum[i][j]);
            weights += NR / 4;
        }
    }
}
#else
FUNCTION void accumulate(V (*sum)[NV], const GLOBAL T *x, i64 *at, i64 step, const GLOBAL T *w,
                         int channels)
{
    const GLOBAL T *from[MR];
    int channel = 0;
#pragma unroll
    for (int i = 0; i < MR; ++i)
        from[i] = x + at[i];
    for (; channel + UNROLL <= channels; channel += UNROLL) {
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) {
            V right[NV];
#pragma unroll
            for (int j = 0; j < NV; ++j)
                right[j] = v_load(w + j * VEC);
#pragma unroll
            for (int i = 0; i < MR; ++i) {
                V value = v_splat(load1(from[i] + u * step));
#pragma unroll
                for (int j = 0; j < NV; ++j)
                    sum[i][j] = v_fma(value, right[j], sum[i][j]);
            }
            w += NR;
        }
#pragma unroll
        for (int i = 0; i < MR; ++i)
            from[i] += UNROLL * step;
    }
#if UNROLL > 1
    for (; channel < channels; ++channel) {
#pragma unroll
        for (int i = 0; i < MR; ++i) {
            V value = v_splat(load1(from[i]));
            from[i] += step;
#pragma unroll
            for (int j = 0; j < NV; ++j)
                sum[i][j] = v_fma(value, v_load(w + j * VEC), sum[i][j]);
        }
        w += NR;
    }
#endif
}

/* The same where some pixels lie in the padding (at < 0). */
FUNCTION void accumulate_edge(V (*sum)[NV], const GLOBAL T *x, i64 *at, i64 step,
                              const GLOBAL T *w, int channels)
{
    for (int channel = 0; channel < channels; ++channel) {
        V right[NV];
#pragma unroll
        for (int j = 0; j < NV; ++j)
            right[j] = v_load(w + j * VEC);
#pragma unroll
        for (int i = 0; i < MR; ++i) {
            V value = v_splat(at[i] < 0 ? (A)0 : load1(x + at[i] + channel * step));
#pragma unroll
            for (int j = 0; j < NV; ++j)
                sum[i][j] = v_fma(value, right[j], sum[i][j]);
        }
        w += NR;
    }
}
#endif

KERNEL(conv2d)(PIXELS x, WEIGHTS w, const GLOBAL T *bias,
               const GLOBAL T *residual, GLOBAL T *y, int pixels, int channels, int h, int width,
               int per_group, int p, int q, int r, int s, int top, int left, int stride_y,
               int stride_x, int dilation_y, int dilation_x, i64 x_n, i64 x_c, i64 x_h, i64 x_w,
               i64 y_n, i64 y_k, i64 y_p, i64 y_q, int flags, int activation, A low, A high)
{
    int lane = LANE(), panels = (per_group + NR - 1) / NR;
    int first = (GROUP(0) * WM + lane / WN) * MR, panel = GROUP(1) * WN + lane % WN;
    int group = GROUP(2);
    int row[MR], column[MR];
    i64 image[MR];
    V sum[MR][NV];
    if (first >= pixels || panel >= panels)
        return;
#pragma unroll
    for (int i = 0; i < MR; ++i) {
        /* Pixels past the last are the last once more, and not written. */
        int pixel = first + i < pixels ? first + i : pixels - 1;
        image[i] = pixel / (p * q) * x_n + (i64)group * channels * x_c;
        row[i] = pixel % (p * q) / q * stride_y - top;
        column[i] = pixel % q * stride_x - left;
#pragma unroll
        for (int j = 0; j < NV; ++j)
            sum[i][j] = v_splat((A)0);
    }
    i64 weights = ((i64)group * panels + panel) * r * s * channels * NR;
    for (int u = 0; u < r; ++u)
        for (int v = 0; v < s; ++v) {
            i64 at[MR];
            int inside = 1;
#pragma unroll
            for (int i = 0; i < MR; ++i) {
                int a = row[i] + u * dilation_y, b = column[i] + v * dilation_x;
                int within = a >= 0 && a < h && b >= 0 && b < width;
                at[i] = within ? image[i] + a * x_h + b * x_w : -1;
                inside &= within;
            }
#if IMAGE
            accumulate_texels(sum, x, at, x_c, w, (int)(weights / 4), channels);
#else
            if (inside)
                accumulate(sum, x, at, x_c, w + weights, channels);
            else
                accumulate_edge(sum, x, at, x_c, w + weights, channels);
#endif
            weights += (i64)channels * NR;
        }
    int channel = panel * NR;
    i64 base = ((i64)group * per_group + channel) * y_k;
    bias += group * per_group + channel;
    V tile[MR * NV];
#pragma unroll
    for (int i = 0; i < MR; ++i)
#pragma unroll
        for (int j = 0; j < NV; ++j)
            tile[i * NV + j] = sum[i][j];
    COMPACT
    for (int at = 0; at < MR * NV; ++at) {
        int pixel = first + at / NV, side = at % NV * VEC, count = per_group - channel - side;
        i64 to = base + pixel / (p * q) * y_n + pixel % (p * q) / q * y_p + pixel % q * y_q
                 + side * y_k;
        V z = tile[at];
        if (pixel >= pixels || count <= 0)
            continue;
        finish(y + to, y_k, count, z, bias + side, 1, residual + to, flags, activation, low, high);
    }
}
