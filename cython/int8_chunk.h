/* Chunks of 8-bit products: what a thread reads, computes and writes at a time. */
#ifndef HWKIT_INT8_CHUNK_H
#define HWKIT_INT8_CHUNK_H

#include "int8_plan.h"

/* One product with everything that its chunks read. */
typedef struct {
    const plan *p;
    const uint8_t *x;
    const char *weights;
    char *out;
    int32_t x_zero;                  /* as in a strip of bytes */
    const int32_t *shift, *w_zero;   /* by output channel; NULL: all 0 */
    const float *scale;
    int32_t least, most, y_zero;
    float lo, hi;
    _Atomic int failed;
} product;

/* What one thread needs for a chunk. */
typedef struct {
    char *strip;
    int64_t line, pixel; /* bytes from a row of the strip to the next, from a pixel to the next */
    const void **rows;     /* first segments of the pixels; of depthwise one for each tap */
    const void **all_rows; /* for tiles of AMX, of all segments, tile by tile */
    int64_t *offsets;      /* of segments, from the first */
    int32_t *block, *sums;
    int32_t *pixel_sums; /* of each pixel of the strip; where there are taps to add up */
    uint8_t *turned;  /* pixels of planes on their way into the strip, or results into planes */
    uint8_t *gathered;
    char *straight; /* rows of tiles that are not evenly spaced */
    char *quads;    /* lines of them */
} space;

/* Where the chunk lies in the output. */
typedef struct {
    int64_t image, y0, x0, rows, columns, n0, n1;
} place;

static inline int64_t chunks_down(const plan *p)
{
    return hwkit_parts(p->g.p, p->rows);
}

static inline int64_t chunks_across(const plan *p)
{
    return hwkit_parts(p->g.q, p->columns);
}

place hwkit_int8_place(const plan *p, int64_t chunk);

/* Scratch memory of a chunk; find_space returns 0 if memory is short. */
int64_t hwkit_int8_space_bytes(const plan *p);
int hwkit_int8_find_space(const plan *p, space *s);

/* Make the strip of a chunk: `channels` of the input from `channel` on. */
void hwkit_int8_fill(const product *x, space *s, const place *at, int64_t channel, int64_t channels);

/* Make results of the accumulators in s->block, [count][ld]: `count` pixels from pixel `at` of an
 * image on, `columns` channels from `channel` on. */
void hwkit_int8_put(const product *x, const space *s, int64_t image, int64_t at, int64_t count,
                    int64_t channel, int64_t columns, int64_t ld);

/* All work of chunk number `chunk`; ctx is the product. */
void hwkit_int8_product_chunk(void *ctx, int64_t chunk);
void hwkit_int8_depthwise_chunk(void *ctx, int64_t chunk);

/* The sums and results of a depthwise chunk whose strip is made, by quads; and what that takes: bytes
 * of lines, pointers to them. */
void hwkit_int8_quads_chunk(const product *x, const space *s, const place *at);
int64_t hwkit_int8_quads_lines_bytes(const plan *p);
int64_t hwkit_int8_quads_pointers(const plan *p);

#endif
