/* Micro-kernels of 8-bit products; int8.inc makes them for each instruction set.
 *
 * Pixels (rows of a matrix) are read from a strip, where each element of x has its own width:
 *   a_size 2   int16, the zero point subtracted: multiply-add of int16, exact for all operands
 *   a_size 1   the bits of x with the sign bit turned where the instruction wants the other sign
 * Weights are int8 (uint8 with the sign bit turned) in panels [depth / group][columns][group], as
 * int8 (narrow) or as int16 (wide). A step of the depth takes `group` elements of a row, so depths
 * are rounded up to it, and the weights are 0 there.
 *
 * Tiles (AMX) read the same panels: a_size 1, group 4, 16 columns in a vector. */
#ifndef HWKIT_INT8_KERNELS_H
#define HWKIT_INT8_KERNELS_H

#include <stdint.h>

enum { HWKIT_INT8_ROWS = 14, HWKIT_INT8_VECTORS = 2 };
/* Channels that depthwise takes at a time: strips and weights are filled up to a multiple of it. */
enum { HWKIT_INT8_DEPTHWISE = 16 };

/* Depthwise convolution by dot products of four bytes, of tables that have them: a quad is the bytes of
 * four rows of the window under each other. A line of quads has for each column of the strip those of a
 * block of HWKIT_INT8_DEPTHWISE channels: HWKIT_INT8_QUAD bytes. Lines of two blocks are made at a time. */
enum { HWKIT_INT8_QUAD = 4 * HWKIT_INT8_DEPTHWISE, HWKIT_INT8_QUAD_PIXELS = 8 };
typedef struct {
    const char *const *x; /* [rows][lines] at the first column of the first pixel */
    const char *w;        /* [lines][taps][channel][row of the quad] */
    int64_t lines, taps;  /* taps: columns of the window */
    int64_t tap, pixel;   /* bytes from a column to the next, from a pixel to the next */
    int64_t rows, pixels;
    int32_t *acc; /* [rows][pixels][ld] */
    int64_t ld;
} hwkit_int8_quads;

typedef enum {
    HWKIT_INT8_TO_INT32,
    HWKIT_INT8_TO_FLOAT32,
    HWKIT_INT8_TO_INT8,
    HWKIT_INT8_TO_UINT8,
} hwkit_int8_output;

/* A table may have a faster one beside it, `bytes`, whose instruction adds products of two bytes in 16
 * bits that saturate. It is exact for weights of which two neighbours of one sign never add up to more
 * than 128; what is more is split off into extras: groups with weights of their own. Few extras cost
 * less than the faster instruction saves, and most weights have none. */
typedef struct {
    int32_t segment, offset; /* offset: bytes from the start of the segment */
} hwkit_int8_extra;

/* The largest sum of two weights of one sign: 128 * 255 < 2^15. */
enum { HWKIT_INT8_PAIR = 128 };

typedef struct {
    const void *const *rows; /* [rows] first segments of the rows; tiles of AMX: [segments][rows] */
    const int64_t *offsets;  /* [segments] bytes from the first segment of a row to each; not of AMX */
    int64_t step;            /* by_step: bytes from a row to the next, in place of all rows but the first */
    int64_t skip;             /* bytes at the start of each segment that belong to an earlier part */
    int64_t segments, groups; /* each segment is so many groups long */
    const void *b;
    int32_t *c; /* [rows][ldc], not with tiles of AMX, where it is [rows][columns of the panel] */
    int64_t ldc;
    int accumulate;
    const int32_t *start; /* without accumulate, what sums of a column start with; NULL: 0 */
    /* tables that saturate, last part only: extras [from[v], from[v + 1]) are for vector v */
    const int64_t *from; /* NULL: none */
    const hwkit_int8_extra *extras;
    const char *extra_weights;    /* [extra][columns of a vector][group] */
    const int64_t *all_offsets;   /* as offsets, of all segments */
} hwkit_int8_tile;

typedef void (*hwkit_int8_tile_fn)(const hwkit_int8_tile *tile);

/* Tiles (AMX) of rows of one sign: at most 32 rows and 2 vectors, of which the last rows may be missing. */
enum { HWKIT_INT8_TILE = 16, HWKIT_INT8_TILES_ROWS = 32, HWKIT_INT8_TILES_DEPTH = 64 };
typedef struct {
    /* before the first product and after the last, in each thread */
    void (*begin)(void);
    void (*end)(void);
    /* [whether weights are signed] */
    void (*product[2])(const hwkit_int8_tile *tile, int rows, int vectors);
    int32_t (*sum)(const void *row, int64_t n);
} hwkit_int8_tiles;

/* [whether rows are signed]; NULL where the compiler does not know the instructions. */
extern const hwkit_int8_tiles *const hwkit_int8_amx_real;
extern const hwkit_int8_tiles *const hwkit_int8_amx_twin;

/* Whether 16 rows are evenly spaced, and by how many bytes. */
static inline int hwkit_int8_evenly_spaced(const void *const *rows, int64_t *step)
{
    *step = (int64_t)((uintptr_t)rows[1] - (uintptr_t)rows[0]);
    for (int i = 2; i < HWKIT_INT8_TILE; i++)
        if ((int64_t)((uintptr_t)rows[i] - (uintptr_t)rows[i - 1]) != *step)
            return 0;
    return 1;
}

/* Accumulators to results: sum = acc + shift[j] - sums[i] * w_zero[j], then
 *   int32     clamp(sum, least, most)
 *   float32   clamp(float(sum) * scale[j], lo, hi)
 *   8 bits    round_half_even(clamp(float(sum) * scale[j], lo, hi)) + y_zero, where lo and hi are
 *             such that it fits */
typedef struct {
    int32_t *acc; /* [rows][ld] of whole vectors, may be changed */
    int64_t ld, rows, columns;
    const int32_t *shift;  /* NULL: none */
    const int32_t *w_zero; /* NULL: none, with sums */
    const int32_t *sums;
    const float *scale;
    int kind; /* hwkit_int8_output */
    int32_t least, most, y_zero;
    float lo, hi;
    void *to;
    int64_t to_ld; /* elements */
} hwkit_int8_finish;

typedef struct hwkit_int8_kernels hwkit_int8_kernels;
struct hwkit_int8_kernels {
    const char *name;
    const hwkit_int8_kernels *bytes; /* NULL: none; of the same tiles and vl */
    uint32_t features; /* bits of cpuinfo.h that the table needs beside those of its ISA */
    int vl;            /* columns of a vector; 0: this table is for another architecture */
    int group, a_size;
    int depth; /* what depths are rounded up to; 0: group */
    const hwkit_int8_tiles *amx; /* instead of tiles[], weights of either sign; else NULL */
    int a_signed; /* a_size 1: which sign the bytes of the strip have */
    /* [narrow][vectors - 1][rows - 1]; NULL where there is none */
    hwkit_int8_tile_fn tiles[2][HWKIT_INT8_VECTORS][HWKIT_INT8_ROWS];
    /* The same of narrow weights for rows evenly spaced; NULL: none. */
    const hwkit_int8_tile_fn (*by_step)[HWKIT_INT8_ROWS];
    /* [whether by step][rows - 1], narrow: only the first half of one vector is summed; NULL: none */
    const hwkit_int8_tile_fn (*half)[HWKIT_INT8_ROWS];
    /* dst[i] = src[i] - zero, of bytes with or without sign */
    void (*widen)(int16_t *dst, const void *src, int64_t n, int is_signed, int zero);
    /* dst[i] = src[i] ^ flip */
    void (*flip)(void *dst, const void *src, int64_t n, int flip);
    /* sum of the elements of a strip, of a_size */
    int32_t (*sum)(const void *row, int64_t n);
    /* acc[j] = sum over t of rows[t][j] * w[..], j < columns, a multiple of HWKIT_INT8_DEPTHWISE;
     * w as hwkit_int8_depthwise_index says; taps is even, rows[taps] exist */
    void (*depthwise)(const int16_t *const *rows, const int16_t *w, int64_t taps, int64_t columns,
                      int32_t *acc);
    /* Instead of depthwise, where quads is not NULL. `interleave` makes a line of `count` columns
     * `pixel` bytes apart, of two blocks, the second `block` bytes behind the first. */
    void (*interleave)(char *to, int64_t block, const char *const *rows, int64_t pixel, int64_t count);
    void (*quads)(const hwkit_int8_quads *q);
    void (*finish)(const hwkit_int8_finish *f);
};

/* Where the weight of an (even number of) tap and channel lies: two taps beside each other. */
static inline int64_t hwkit_int8_depthwise_index(int64_t tap, int64_t taps, int64_t channel)
{
    const int64_t block = channel / HWKIT_INT8_DEPTHWISE, lane = channel % HWKIT_INT8_DEPTHWISE;
    /* as 256-bit unpacking orders lanes: 0-3 8-11, then 4-7 12-15 */
    const int64_t place = (lane & 3) | (lane & 8) >> 1 | (lane & 4) << 1;
    return (block * taps + tap / 2 * 2) * HWKIT_INT8_DEPTHWISE + place * 2 + tap % 2;
}

extern const hwkit_int8_kernels hwkit_int8_scalar, hwkit_int8_avx2, hwkit_int8_avxvnni,
    hwkit_int8_avx512, hwkit_int8_avx512vnni, hwkit_int8_neon, hwkit_int8_dotprod;

#endif
