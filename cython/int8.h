/* Products and convolutions of 8-bit integers with 32-bit sums, and what becomes of the sums. */
#ifndef HWKIT_INT8_H
#define HWKIT_INT8_H

#include "epilogue.h"
#include "int8_kernels.h"
#include "run.h"

#include <stdint.h>

/* A matrix product is a convolution of 1 x 1: the rows of a are pixels, its columns channels.
 *
 * Operands of a run: x, w, then as far as there are: bias (int32), x_scale, x_zero, w_scale, w_zero,
 * y_scale, y_zero. Scales are float32, zero points have the type of what they belong to; those of w
 * are vectors where `per_channel`. */
typedef struct {
    int64_t batch; /* products with weights of their own, each of n images */
    int x_shared, w_shared;
    int64_t n, c, h, w, k, r, s, p, q; /* all at least 1; p x q is the output */
    int64_t top, left, stride_y, stride_x, dilation_y, dilation_x, groups;
    int x_planes, y_planes; /* channel by channel, not pixel by pixel */
    int w_order;            /* hwkit_int8_weights */
    int x_signed, w_signed;
    int output; /* hwkit_int8_output */
    int has_bias, has_scale, has_zero, per_channel;
    hwkit_activation act; /* identity or clamp */
    /* tunables */
    int rows, vectors; /* of the tile */
    int tiles;         /* products of tiles (AMX): 16 or 32 rows, 1 or 2 vectors, narrow */
    int narrow;        /* weights stay int8 in the panels */
    int64_t kc;        /* depth of a part */
    int64_t pixels;    /* of a chunk, the unit of work of a thread */
    int64_t channels;  /* output channels of a chunk */
    int depthwise;     /* the kernel for groups == c == k; tile and kc do not count */
    int threads;
} hwkit_int8;

typedef enum {
    HWKIT_INT8_KRSC, /* [output channel][row][column][input channel] */
    HWKIT_INT8_KCRS, /* [output channel][input channel][row][column] */
    HWKIT_INT8_CK,   /* [input channel][output channel], 1 x 1 and one group only */
} hwkit_int8_weights;

/* The best table that the processor runs and HWKIT_MAX_ISA allows; never NULL. */
const hwkit_int8_kernels *hwkit_int8_table(void);

/* NULL if memory is short. The tile must be one that the table has; `tiles` needs hwkit_amx(). */
hwkit_plan *hwkit_int8_plan(const hwkit_int8 *given);

#endif
