/* What the files of convolutions as products share: the plan, and the run of one. */
#ifndef HWKIT_CONV2D_PLAN_H
#define HWKIT_CONV2D_PLAN_H

#include "amx_kernels.h"
#include "block_float.h"
#include "conv2d.h"
#include "gemm.h"
#include "isa.h"

enum { X, W, BIAS, RESIDUAL, KINDS };

/* Bits of the largest and of the least magnitude that is not zero; least is all ones if all are. */
typedef struct {
    uint16_t most, least;
} hwkit_pairs_range;
enum { HWKIT_PAIRS_INFINITE = 0x7f80, HWKIT_PAIRS_VECTOR = 16 };

typedef struct {
    hwkit_plan base;
    hwkit_conv2d c;
    const hwkit_kernels *kernels;
    const hwkit_gemm_kernels *table;
    const hwkit_tile_fn (*by_row)[HWKIT_MAX_ROWS], (*by_step)[HWKIT_MAX_ROWS];
    /* Pairs of bfloat16 along a segment are the elements of the product, of 4 bytes. */
    int pairs;
    int odd; /* pairs: the last of a segment is one with zero */
    /* block_float: how the channels of a pixel are cut; words are the elements of the product. */
    hwkit_block_float blocks;
    int unfit;               /* block_float: weights that are held cannot be converted */
    /* bytes of an element, of the product, of the pixels that it reads and of the result */
    int size, x_size, out_size;
    int vl, width;           /* elements of a vector, columns of a panel */
    int64_t cg, kg;          /* elements of a pixel, channels of the result, of a group */
    int64_t x_row;           /* elements from a pixel of x to the next */
    int64_t pixel, tap;      /* bytes of that, and of the weights of a tap */
    int64_t segments, depth; /* direct: of the product */
    int64_t across;          /* segments of a row of taps */
    int64_t whole;           /* depth of the product */
    int64_t area, out_area;  /* pixels of an image */
    int flat;                /* whether the window is one pixel at the place of the result */
    int64_t out_rows;        /* merge: output rows of a chunk */
    int64_t strip_width;     /* merge: pixels of a padded row */
    int64_t head, tail;      /* merge: columns of it before, and from, which tiles need the copy */
    int copied;              /* merge: whether all of them are copied */
    int64_t tiles;           /* direct: most of a chunk */
    int64_t *starts;         /* direct: elements from a pixel's window to its segments, in the image,
                              * then in the strip; NULL: rows of tiles are not read by step */
    int64_t skip_x, skip_y;  /* merge: input pixels from one pixel and row of the strip to the next */
    int64_t step_x, step_y;  /* merge: what is left of the strides in the strip */
    int one_line;            /* block_float: flat, and a chunk's pixels are those of the strip */
    int64_t group_bytes;     /* packed weights of a group */
    char *zeros;             /* what taps in the padding point to */
    int64_t upper, lower;    /* direct: pixels before, and from, which rows of taps are left out */
    int leaves_out;          /* direct: whether that is allowed */
    int leaves_columns;      /* direct: whether taps of a row are left out, tile by tile */
    hwkit_operands operands; /* W is held packed */
    hwkit_pairs_range range; /* pairs: of the weights that are held */
} plan;

typedef struct {
    const plan *p;
    const char *x, *weights; /* weights: packed */
    const char *w;
    char *out, *pack_to;
    int64_t share; /* of a chunk when packing */
    int64_t row;   /* nhwc: elements from pixel to pixel of the result */
    hwkit_epilogue epilogue;
    int any;       /* whether there is an epilogue at all */
    _Atomic int failed;
    _Atomic int unfit; /* block_float: something cannot be converted */
} job;

/* ---- direct ---- */

/* One chunk of output pixels and channels. */
void hwkit_conv2d_direct_chunk(void *job, int64_t chunk);

/* Bytes that a thread needs for it. */
int64_t hwkit_conv2d_direct_space(const plan *p);

/* Where tiles read by step find the segments of a pixel's window; 0 if memory is short. */
int hwkit_conv2d_find_starts(plan *p);

/* ---- packed ---- */

/* One chunk of output channels and pixels. */
void hwkit_conv2d_packed_chunk(void *job, int64_t chunk);

/* Depth of a block, whole channels. */
int64_t hwkit_conv2d_packed_depth(const plan *p);

/* ---- pairs ---- */

/* Kernels of this processor or their twin. */
const hwkit_amx_kernels *hwkit_pairs_table(void);

/* One panel of weights of a group; 0 if memory is short. */
int hwkit_pairs_pack(const plan *p, char *to, const char *w, int64_t panel);

/* Bytes that a thread needs for that. */
int64_t hwkit_pairs_packing_bytes(const plan *p);

hwkit_pairs_range hwkit_pairs_range_of(const void *values, int64_t count);

/* Whether weights of this range may be multiplied as pairs at all. */
int hwkit_pairs_suit(hwkit_pairs_range w);

/* Whether a result is as good as that of float32. */
int hwkit_pairs_trusted(const plan *p, const void *x, hwkit_pairs_range w, const void *out);

/* The same convolution in float32. */
int hwkit_pairs_run_plain(const plan *p, const void *const all[KINDS], void *out);

/* The plan of that, of float32 operands, weights as they came; NULL if memory is short. */
hwkit_plan *hwkit_conv2d_plain_plan(const plan *p);

/* ---- block floating point ---- */

/* Makes the images one line if products do not depend on where pixels lie, and returns whether they
 * do not. */
int hwkit_block_float_flatten(hwkit_conv2d *c);

/* One panel of weights; 0 if memory is short, -1 if there is a value that cannot be converted. */
int hwkit_block_float_pack(const plan *p, char *to, const char *w, int64_t panel);

/* Bytes that a thread needs for that. */
int64_t hwkit_block_float_packing_bytes(const plan *p);

/* Bytes of weights as they came, which are held behind packed ones. */
int64_t hwkit_block_float_plain_bytes(const plan *p);

/* The same convolution in plain float32. `packed`: bytes of packed weights. */
int hwkit_block_float_run_plain(const plan *p, const void *const all[KINDS], void *out,
                                int64_t out_row, int64_t packed);

#endif
