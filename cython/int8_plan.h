/* What the files of 8-bit products share: the plan, and what follows from it at once. */
#ifndef HWKIT_INT8_PLAN_H
#define HWKIT_INT8_PLAN_H

#include "gemm.h"
#include "int8.h"
#include "transpose.h"

enum { X, W, BIAS, X_SCALE, X_ZERO, W_SCALE, W_ZERO, Y_SCALE, Y_ZERO, KINDS };

typedef struct {
    hwkit_plan base;
    hwkit_int8 g;
    const hwkit_int8_kernels *table;
    const hwkit_gemm_kernels *floats;
    hwkit_turn_fn turn; /* of bytes */
    int b_size, width, merged;
    int64_t cg, kg, taps;            /* channels of a group; r * s */
    int64_t segments, depth, deep;   /* of the product; deep: rounded up to groups */
    int64_t whole;                   /* segments * deep */
    int64_t summed;                  /* pixels whose sums wait for their results */
    int64_t step_y, step_x;          /* input pixels from one of a strip to the next */
    int64_t sy, sx, dy, dx;          /* stride and dilation in a strip */
    int64_t rows, columns;           /* output pixels of a chunk */
    int64_t strip_h, strip_w, pitch; /* strip_w and pitch: pixels of a row, elements of a pixel */
    int64_t straight_bytes;          /* of rows that are copied for tiles */
    /* depthwise by quads: how many a column of the window has, lines that are kept, and output rows
     * after which one is read again as the quad before (0: never); output rows finished at a time, and
     * columns: a row of the chunk has more where one of quads would be too long */
    int64_t quads, ring, ring_step, batch, piece;
    int64_t group_bytes, w_bytes;    /* packed weights of a group, of all with their sums */
    hwkit_int8 given;
    int64_t extras, extras_at; /* how many; where they lie behind packed weights */
    hwkit_operands operands;
    int w_packed; /* W is held packed */
} plan;

/* What depths are rounded up to. */
static inline int depth_unit(const plan *p)
{
    return p->table->depth ? p->table->depth : p->table->group;
}

/* Bytes by which the values of x and w differ in a strip and a panel. */
static inline int x_flip(const plan *p)
{
    return p->table->a_size == 1 && p->g.x_signed != p->table->a_signed ? 0x80 : 0;
}

/* Whether the weights of panels are signed. Those of tiles need not be; but zero points are near 128
 * then, and what is left of them after the change is often 0. */
static inline int w_signed(const plan *p)
{
    return p->g.w_signed || !p->table->amx || p->g.has_zero;
}

static inline int w_flip(const plan *p)
{
    return w_signed(p) != p->g.w_signed ? 0x80 : 0;
}

/* A zero point as it is after such a change, in the type that it has then. */
static inline int32_t read_zero(const void *zeros, int64_t i, int is_signed)
{
    return !zeros      ? 0
           : is_signed ? ((const int8_t *)zeros)[i]
                       : ((const uint8_t *)zeros)[i];
}

static inline int by_quads(const plan *p)
{
    return p->g.depthwise && p->table->quads;
}

/* Bytes of an element of a strip. */
static inline int strip_size(const plan *p)
{
    return p->table->a_size == 1 && (!p->g.depthwise || by_quads(p)) ? 1 : 2;
}

/* How many weights come with a call. */
static inline int64_t w_elements(const plan *p)
{
    return p->g.k * p->cg * p->taps;
}

/* Vectors of packed weights. */
static inline int64_t vectors_of_group(const plan *p)
{
    return hwkit_parts(p->kg, p->table->vl);
}

int hwkit_int8_run(const hwkit_plan *base, const void *const *operands, void *out);

/* Bytes that the caller of a run prepares for all threads. */
int64_t hwkit_int8_shared_bytes(const plan *p);

#endif
