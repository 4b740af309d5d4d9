/* Matrix products: y = activate(alpha * op(a) op(b) + beta * c + bias + residual). */
#ifndef HWKIT_GEMM_H
#define HWKIT_GEMM_H

#include "amx_way.h"
#include "epilogue.h"
#include "isa.h"
#include "run.h"
#include "sizes.h"

#include <stdint.h>

typedef enum {
    HWKIT_GEMM_PACKED,   /* b in panels, a in panels or by row, three levels of blocks */
    HWKIT_GEMM_UNPACKED, /* b as it is, not transposed */
    HWKIT_GEMM_DOT,      /* few rows, every element of b read once, or few columns */
    HWKIT_GEMM_STREAM,   /* few rows, b read once, row by row; or few columns of a transposed a, the
                            same of the transposed result. These three want a as it is, and dot a
                            transposed b; what comes otherwise they transpose as a whole. */
    HWKIT_GEMM_NARROW,   /* a as it is, b packed and stored narrow; as dot or stream until packed */
    HWKIT_GEMM_STRASSEN, /* b in panels and sums of panels; a not transposed */
    HWKIT_GEMM_TILES,    /* both split into terms of bfloat16 and packed; needs hwkit_amx(), or
                            hwkit_pairs() */
} hwkit_gemm_algorithm;

/* Operands of a run: a, b, then as far as there are: addend, bias, residual. */
typedef struct hwkit_gemm {
    int64_t batch, m, n, k; /* all at least 1 */
    int a_shared, b_shared; /* one matrix for the whole batch */
    int transpose_a, transpose_b;
    int is_double;
    double alpha, beta;
    int has_addend, has_bias, has_residual;
    hwkit_activation act;
    /* tunables */
    int algorithm;
    int rows, vectors; /* of the tile */
    int64_t kc;        /* most depth of a block: its panels stay in the caches */
    int64_t mc, nc;    /* most rows and columns of a chunk, the unit of work of a thread */
    int pack_a;
    int storage; /* narrow: a hwkit_storage, or the one instead if b does not fit */
    hwkit_amx_way way; /* tiles: how; the result is stored like the operands */
    int threads;
} hwkit_gemm;

/* NULL if memory is short. The tile must be one that the table has. */
hwkit_plan *hwkit_gemm_plan(const hwkit_gemm *g);

/* Bytes of B in panels; the elements of one panel before column j begin at j * depth. */
int64_t hwkit_panels_bytes(int64_t columns, int64_t depth, int width, int vl, int size);

/* Panels [from, to) of B, which has `ld` elements from row to row, or from column to column if it
 * is transposed. */
void hwkit_pack_panels(const hwkit_kernels *kernels, int size, void *dst, const void *b, int64_t ld,
                       int transposed, int64_t columns, int64_t depth, int width, int64_t from,
                       int64_t to);

/* Rows of the next tile, of which there are `left` until the end: full tiles, and the last two alike,
 * because a tile of a row or two takes hardly less time than a full one. */
static inline int hwkit_tile_rows(int64_t left, int rows)
{
    return (int)(left >= 2 * (int64_t)rows ? rows : left > rows ? (left + 1) / 2 : left);
}

/* Tiles of as many rows that follow each other, the first of them included. */
static inline int64_t hwkit_tiles_alike(int64_t left, int rows)
{
    const int64_t count = hwkit_tile_rows(left, rows), whole = left / count;
    return left % count == 0 ? whole : hwkit_max(whole - 1, 1);
}

/* Elements that fill an odd number of cache lines, at least so many: what begins so far apart lies in
 * different sets of a cache. */
static inline int64_t hwkit_odd_lines(int64_t elements, int size)
{
    return (hwkit_parts(elements * size, 64) | 1) * 64 / size;
}

/* An operand from so many bytes on; NULL if there is none. */
static inline const char *hwkit_offset(const void *operand, int64_t bytes)
{
    return operand ? (const char *)operand + bytes : NULL;
}

/* Rough time of a product, for the decision whether threads are worth waking. */
double hwkit_product_seconds(double multiply_adds, int vl);

#endif
