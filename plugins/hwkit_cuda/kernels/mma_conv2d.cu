/* Convolution with channels last as a product of windows and weights, by the matrix units.

   Rows of the product are pixels of y, columns the output channels of a group; the depth counts the
   channels of a group for each tap of the window. A unit of 16 bytes lies within one tap, so channels
   are a multiple of UNIT. A block makes BM x BN of y, a warp of it WM x WN, in the steps of mma.h;
   STAGES blocks of windows and weights lie in shared memory, copied ahead by cp.async. */

#include "mma.h"

#define LD (BK + UNIT)
/* A thread copies the same column of some rows; UNITS lie across a row. */
#define UNITS (BK / UNIT)
#define AT_ONCE (THREADS / UNITS)
#define ROWS ((BM + AT_ONCE - 1) / AT_ONCE)
#define COLUMNS ((BN + AT_ONCE - 1) / AT_ONCE)

/* One block of windows and of weights to shared memory; the tap is found once for all rows. */
#define FETCH(stage, start)                                                                        \
    do {                                                                                           \
        int place = (start) + column, tap = place / channels, channel = place - tap * channels;    \
        int down_by = tap / s * dilation_y, across_by = tap % s * dilation_x;                      \
        COMPACT for (int i = 0; i < ROWS; ++i)                                                     \
        {                                                                                          \
            int into = first + i * AT_ONCE, v = row_of[i] + down_by, u = column_of[i] + across_by; \
            int inside = place < depth_all && v >= 0 && v < h && u >= 0 && u < width;              \
            const GLOBAL T *from = x;                                                              \
            if (inside)                                                                            \
                from = x + image[i] + ((i64)v * width + u) * x_pixel + channel;                    \
            if (into < BM)                                                                         \
                put_unit(left + (stage) * (BM * LD) + into * LD + column, from, inside, aligned);  \
        }                                                                                          \
        COMPACT for (int j = 0; j < COLUMNS; ++j)                                                  \
        {                                                                                          \
            int into = first + j * AT_ONCE, inside = place < depth_all && side + into < per_group; \
            const GLOBAL T *from = inside ? w + (i64)(side + into) * depth_all + place : w;        \
            if (into < BN)                                                                         \
                put_unit(right + (stage) * (BN * LD) + into * LD + column, from, inside, aligned); \
        }                                                                                          \
    } while (0)

KERNEL(conv2d_mma)(const GLOBAL T *x, const GLOBAL T *w, const GLOBAL T *bias,
                   const GLOBAL T *residual, GLOBAL T *y, int pixels, int channels, int h, int width,
                   int per_group, int groups, int p, int q, int r, int s, int top_pad, int left_pad,
                   int stride_y, int stride_x, int dilation_y, int dilation_x, int flags,
                   int activation, A low, A high)
{
    ALIGNED T left[STAGES * BM * LD];
    ALIGNED T right[STAGES * BN * LD];
    SHOWN
    int lane = LANE(), group = GROUP(2), top = GROUP(0) * BM, side = GROUP(1) * BN;
    int down = lane / 32 / (BN / WN) * WM, across = lane / 32 % (BN / WN) * WN;
    int first = lane / UNITS, column = lane % UNITS * UNIT;
    int depth_all = r * s * channels, blocks = (depth_all + BK - 1) / BK;
    int x_pixel = groups * channels, y_pixel = groups * per_group;
    int row_of[ROWS], column_of[ROWS];
    i64 image[ROWS];
    A sum[TILES_M][TILES_N][4];
    int aligned = ((ADDRESS(x) | ADDRESS(w)) & 15) == 0;
    x += (i64)group * channels;
    w += (i64)group * per_group * depth_all;
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
        int pixel = top + first + i * AT_ONCE;
        image[i] = (i64)(pixel / (p * q)) * h * width * x_pixel;
        /* Pixels past the last are above every image. */
        row_of[i] = pixel < pixels ? pixel % (p * q) / q * stride_y - top_pad : -(1 << 30);
        column_of[i] = pixel % q * stride_x - left_pad;
    }
    MULTIPLY_ALL(blocks, LD, LD, BN * LD, across * LD, LOAD_B, 1, LD)
    bias += group * per_group;
    FOR_SUMS
    {
        int pixel = top + down + SUM_ROW(i, e), channel = side + across + SUM_COLUMN(j, e);
        i64 to = (i64)pixel * y_pixel + group * per_group + channel;
        if (pixel >= pixels || channel >= per_group)
            continue;
        finish1(y + to, sum[i][j][e], bias + channel, residual + to, flags, activation, low, high);
    }
}
