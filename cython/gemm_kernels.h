/* Micro-kernels of matrix products and what feeds them; gemm.inc makes them for each ISA and type.
 *
 * B, and so the columns of C, runs along the vectors. Packed B is cut into panels of nv vectors, each
 * panel [depth][nv * vl]; the last one has only as many vectors as it needs, its last columns are 0.
 * A is read element by element and broadcast, either from a packed panel [depth][rows], or where it
 * lies: a segment is a run of `depth` elements that lie together, so that a convolution with r x s
 * taps is a product with as many segments, and no copy of the image. Rows have a pointer each for
 * each segment, or lie one step apart, which takes less to prepare and fewer registers. */
#ifndef HWKIT_GEMM_KERNELS_H
#define HWKIT_GEMM_KERNELS_H

#include "epilogue.h"
#include "narrow.h"
#include "sizes.h"

#include <stdint.h>

enum { HWKIT_MAX_ROWS = 14, HWKIT_MAX_VECTORS = 4, HWKIT_MAX_HALVES = 2 * HWKIT_MAX_VECTORS };

/* Of the next panel of B, asked for at each step of the depth. */
enum { HWKIT_NEXT_VECTORS = 2 };

/* How a kernel reads A. */
typedef enum { HWKIT_READ_ROW, HWKIT_READ_STEP, HWKIT_READ_PANEL } hwkit_reading;

typedef struct {
    const void *const *rows; /* kernels by row: [segments][rows] */
    const void *a;           /* kernels by panel: [depth][rows]; by step: see starts */
    const int64_t *starts;   /* by step: elements from a to the first row of each segment; NULL: 0 */
    int64_t step;            /* elements from row to row; by panel: from tile to tile, a row's share */
    const void *b;
    int64_t ldb; /* elements from one row of B to the next */
    int64_t segments, depth;
    int64_t skip; /* elements at the start of each segment that belong to an earlier part */
    void *c;
    int64_t ldc;    /* elements */
    int columns;    /* of C, at most nv * vl */
    int accumulate; /* add to C instead of replacing it */
    const hwkit_epilogue *epilogue; /* NULL: none, or this is not the last part of the depth */
    int64_t row, column;            /* of this tile in the result, for the bias */
    /* Rows of as many columns that are asked for while the sums are formed, because they are used
     * next; NULL: those of C and of the residual. */
    const void *ask, *ask_too; /* ask_too: NULL if there is no other */
    int64_t ldask;
    int pairs; /* of a block, see block_float.h */
    int odd;   /* pairs of bfloat16: of the last element of each segment, the first half is all */
    /* The panel of B, as large as this one, that is used once all tiles passed by this one, of which
     * the first ones ask for it: memory would be idle while they sum, and the first tile of the next
     * panel would wait for it. NULL: none, or a tile by itself, which keeps memory busy. */
    const char *next;
    int passed; /* tiles before this one */
    /* By panel and by step: so many tiles of as many rows, one below the other, of which this is the
     * first. A call for each would keep multiply-adds waiting. */
    int64_t tiles;
} hwkit_tile;

typedef void (*hwkit_tile_fn)(const hwkit_tile *tile);

/* Half vectors, of vl elements a vector, that hold so many columns. */
static inline int hwkit_halves(int columns, int vl)
{
    return (2 * columns + vl - 1) / vl;
}

typedef void (*hwkit_transpose_fn)(void *dst, int64_t dst_ld, const void *src, int64_t src_ld,
                                   int64_t depth, int64_t count);

/* Indexed by [half vectors - 1][rows - 1]; NULL where the accumulators would not fit the registers.
 * Where a half vector takes as long as a whole one, both have one kernel. */
typedef struct {
    /* full vectors of B can be read; columns of C beyond `columns` are not touched */
    hwkit_tile_fn by_panel[HWKIT_MAX_HALVES][HWKIT_MAX_ROWS];
    hwkit_tile_fn by_row[HWKIT_MAX_HALVES][HWKIT_MAX_ROWS];
    hwkit_tile_fn by_step[HWKIT_MAX_HALVES][HWKIT_MAX_ROWS];
    /* nothing of B beyond `columns` is read; indexed by [vectors - 1][rows - 1] */
    hwkit_tile_fn by_step_masked[HWKIT_MAX_VECTORS][HWKIT_MAX_ROWS];
    /* dst[i * dst_ld + j] = src[i * src_ld + j * step], i < depth, j < count, and after each of
     * these rows so many zeros */
    void (*pack)(void *dst, int64_t dst_ld, const void *src, int64_t src_ld, int64_t step,
                 int64_t depth, int64_t count, int64_t zeros);
    /* dst[i * width + j] = src[j * ld + i], i < depth, j < count; 0 for count <= j < width */
    void (*pack_transposed)(void *dst, const void *src, int64_t ld, int64_t depth, int count,
                            int width);
    /* dst[i * count + j] = rows[j][skip + i], i < depth, j < count <= HWKIT_MAX_ROWS */
    void (*pack_rows)(void *dst, const void *const *rows, int64_t skip, int64_t depth, int count);
    /* dst[i * dst_ld + j] = src[j * src_ld + i], i < depth, j < count */
    hwkit_transpose_fn transpose;
    /* c[i][j] = sum over k of a[i * lda + k] * b[j * ldb + k], i < rows <= 4, j < columns */
    void (*dot)(const void *a, int64_t lda, const void *b, int64_t ldb, void *c, int64_t ldc,
                int rows, int64_t columns, int64_t depth);
    /* c[i][j] = sum over runs g and k < depth of x[i * step + starts[g] + k] * w[j * ldw + g * depth + k],
     * i < pixels, j < columns */
    void (*dot_runs)(const void *x, int64_t step, const int64_t *starts, int64_t runs, int64_t depth,
                     const void *w, int64_t ldw, void *c, int64_t ldc, int64_t pixels,
                     int64_t columns);
    /* c[i][j] = sum over k of a[i * lda + k] * b[k * ldb + j], plus c[i][j] if add; i < rows <= 4,
     * k < depth <= 8, j < columns */
    void (*stream)(const void *a, int64_t lda, const void *b, int64_t ldb, void *c, int64_t ldc,
                   int rows, int64_t columns, int depth, int add);
    /* a right side stored narrow, see narrow.h; NULL where there is none */
    hwkit_narrow_fn narrow[HWKIT_STORAGES];
    /* the epilogue alone, in place; c is `rows` x `columns` at (row, column) of the result */
    void (*finish)(void *c, int64_t ldc, int rows, int64_t columns, const hwkit_epilogue *epilogue,
                   int64_t row, int64_t column);
} hwkit_gemm_kernels;

#endif
