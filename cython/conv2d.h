/* Convolutions as products that never store the unfolded image as a whole. */
#ifndef HWKIT_CONV2D_H
#define HWKIT_CONV2D_H

#include "amx_way.h"
#include "epilogue.h"
#include "run.h"

#include <stdint.h>

typedef enum {
    /* Output pixels are the rows of the product and channels its columns. The channels of a pixel lie
     * together in nhwc, so each tap is a segment that the kernel reads where it lies; padding points
     * to zeros. In nchw the image is transposed first, and each block of the result at its end.
     * With way.pairs, bfloat16: see conv2d_pairs.c; needs hwkit_pairs(). With block_float,
     * float32 in nhwc as block floating point: see conv2d_block_float.c; needs hwkit_vnni(). */
    HWKIT_CONV_DIRECT,
    /* nchw only: weights are the rows, and pixels, packed block by block, the columns. */
    HWKIT_CONV_PACKED,
    /* Without groups, in nchw 1x1 only, seven products for eight: see strassen.h. */
    HWKIT_CONV_STRASSEN,
    /* without groups, by tiles; needs hwkit_amx(), or hwkit_pairs(). See amx_conv2d.c. */
    HWKIT_CONV_TILES,
    /* nhwc only, for few output channels: see conv2d_dot.c. */
    HWKIT_CONV_DOT,
} hwkit_conv2d_algorithm;

/* Operands of a run: x, w, then as far as there are: bias, residual. */
typedef struct hwkit_conv2d {
    int64_t n, c, h, w, k, r, s, p, q; /* all at least 1; p x q is the output */
    int64_t top, left, stride_y, stride_x, dilation_y, dilation_x, groups;
    int nhwc, is_double, has_bias, has_residual;
    int x_planes; /* pairs: x is [c][h][w] although nhwc says otherwise */
    int by_depth; /* pairs, block_float: weights of one tap and one group are [c][k] */
    hwkit_activation act;
    /* tunables */
    int algorithm;
    int rows, vectors; /* of the tile */
    int64_t kc;        /* depth of a block */
    int64_t pixels;    /* of a chunk, the unit of work of a thread */
    int64_t channels;  /* output channels of a chunk */
    int pack_a;        /* direct: copy the pixels of a block into panels */
    int merge;         /* direct: copy padded input rows, so that a row of taps is one segment */
    int block_float;   /* direct: convert those rows into block floating point; always with merge */
    hwkit_amx_way way; /* tiles, pairs: how; the result is stored like the operands, if half by tiles in nhwc */
    int threads;
} hwkit_conv2d;

/* NULL if memory is short. The tile must be one that the table has, or of hwkit_pairs_tile; merge needs
 * dilation_x == 1, and with block_float groups == 1 instead. */
hwkit_plan *hwkit_conv2d_plan(const hwkit_conv2d *c);

/* Whether there is such a tile of pairs, and of block floating point; a vector is 16 columns. */
int hwkit_pairs_tile(int rows, int vectors);
int hwkit_block_float_tile(int rows, int vectors);

/* What hwkit_conv2d_plan calls for tiles, and for dot products. */
hwkit_plan *hwkit_amx_conv2d_plan(const hwkit_conv2d *c);
hwkit_plan *hwkit_dot_conv2d_plan(const hwkit_conv2d *c);

#endif
