/* Matrix products by the algorithm of Strassen in Winograd's form: 7 products of half the size each
 * way, where plain sums take 8 (Winograd, "On multiplication of 2 x 2 matrices", 1971).
 *
 * Rows, columns and depth are cut in two. Sums of the halves of A are formed for a block of rows at
 * a time, those of B when it is packed, and the products of a pair of panels are joined while they
 * are in the caches, so that no matrix of sums goes to memory (Huang, Smith, Henry and van de Geijn,
 * "Strassen's algorithm reloaded", 2016, has the idea).
 *
 * What meets in one sum is rounded relative to the largest of it, so the error of a result is
 * relative to norms and not to its own terms (Higham, "Exploiting fast matrix multiplication within
 * the level 3 BLAS", 1990). Rows and columns that are added to each other must therefore be of like
 * norms, and so must be what the halves of the depth bring to the results; a block where they are not
 * is summed plainly. The same test finds infinities, NaN and what could overflow. */
#ifndef HWKIT_STRASSEN_H
#define HWKIT_STRASSEN_H

#include "epilogue.h"
#include "run.h"

#include <stdint.h>

/* What is multiplied, in the order in which panels of B lie: A11 B11, A12 B21, S2 T2, S3 T3, S1 T1,
 * S4 B22, -A22 T4. B12, behind them, is for blocks that are not trusted. */
enum {
    HWKIT_STRASSEN_PRODUCTS = 7,
    HWKIT_STRASSEN_PANELS = 8,
    HWKIT_STRASSEN_B11 = 0,
    HWKIT_STRASSEN_B21 = 1,
    HWKIT_STRASSEN_B22 = 5,
    HWKIT_STRASSEN_B12 = 7,
};

/* All of squares of norms. Rows and columns may differ 32-fold: so much larger is the error of the
 * smaller one at most. Of the halves of the depth, products of one with the other may be twice as
 * large as those that belong to the result: the error is then still within the budget of float32. */
#define HWKIT_STRASSEN_ALIKE 1024
#define HWKIT_STRASSEN_BESIDE 4
#define HWKIT_STRASSEN_LEAST 1e-30
#define HWKIT_STRASSEN_MOST 1e38

/* The halves of some rows of A: row i of the upper half has `depth` elements and behind them
 * `rest` <= depth more, and so has row i + down, that of the lower half. */
typedef struct {
    const void *upper;
    int64_t lda, down, rows, depth, rest;
    void *sums;         /* [4][rows][step], step >= padded: S1 .. S4 */
    int64_t part, step; /* elements from sum to sum, from row to row */
    void *norms;        /* [2][padded]: the squares of both rows are added, for each half */
    int64_t padded;     /* depth in whole vectors */
} hwkit_strassen_rows;

/* Where the four results of seven products go. Steps and sizes count elements. */
typedef struct {
    const void *products; /* [7][rows][ld] */
    int64_t rows, ld;
    void *c;              /* first row and column on the left */
    int64_t ldc;
    int64_t down, across; /* from the upper row to the lower one, from left to right */
    int64_t left, right;  /* columns on each side */
    const hwkit_epilogue *epilogue;
    int64_t column;       /* of c in the result, for the bias */
} hwkit_strassen_results;

typedef struct {
    /* Returns whether the rows that are added to each other are alike. */
    int (*sums)(const hwkit_strassen_rows *rows);
    /* The panels of sums from B11, B21, B22 and B12, each [depth][width], of which the last two have
     * `right` columns; and norms likewise, with NaN among them if columns are not alike. */
    void (*panels)(void *panels, int64_t depth, int width, int right, void *norms, int64_t padded);
    /* Whether rows with these norms, times panels with those, may be multiplied. */
    int (*trusted)(const void *rows, const void *columns, int64_t padded);
    void (*finish)(const hwkit_strassen_results *results);
} hwkit_strassen_kernels;

struct hwkit_gemm;
struct hwkit_conv2d;

/* NULL if memory is short; what hwkit_gemm_plan calls. A must not be transposed, and k be 2 or more.
 */
hwkit_plan *hwkit_strassen_plan(const struct hwkit_gemm *g);

/* The same of a convolution without groups, whose terms are channels and taps. In nchw, where it must
 * be 1x1, image and result are transposed. */
hwkit_plan *hwkit_strassen_conv2d_plan(const struct hwkit_conv2d *c);

#endif
