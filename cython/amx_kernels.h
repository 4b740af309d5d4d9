/* Products of float32, bfloat16 and float16 by tiles, and what feeds them; amx_kernels.inc makes them
 * twice, of instructions and of their twin in plain C. pairs_kernels.inc has those of one product each
 * by the dot products of AVX512-BF16, for the same operands, and likewise a twin.
 *
 * A float32 is split into terms of bfloat16, each the rounded rest of those before: v = v1 + v2 + v3,
 * exactly with three unless v is close to the least normal number. Products of terms are exact, so
 * what is left out decides the error:
 *   6 products   of 3 terms: all but those below 2^-24 of the largest; as good as float32
 *   4 products   of 2 terms: all of them
 *   3 products   of 2 terms: all but the least, below 2^-16 of the largest
 *   1 product    of 1 term
 * A bfloat16 is one term, and a float16, which has 11 bits, is the sum of two of 8, exactly and far from
 * the ends of the range: four products are exact, and three leave out a thirtieth of what rounding the
 * result to float16 does. Of float32, two terms are about 17 bits, and one is 8.
 *
 * The products of low order come first, over the whole block of depth: C is small then, and so is its
 * rounding. (Henry, Tang and Heinecke, Leveraging the bfloat16 artificial intelligence datatype for
 * higher-precision computations, ARITH 2019.)
 *
 * Units: a step is 32 elements of depth; a block of C is 32 x 32.
 *   A   [step][term][32 rows][32]         terms and steps anywhere else, see hwkit_amx_tile
 *   B   [step][term][2][16 pairs][16 columns][2]
 * Of float32, the elements k and k + 16 of a step are a pair, which takes no shuffles; what is narrow lies
 * in pairs already. */
#ifndef HWKIT_AMX_KERNELS_H
#define HWKIT_AMX_KERNELS_H

#include "gemm_kernels.h"
#include "half.h"

#include <stdint.h>

enum { HWKIT_AMX_SIDE = 32, HWKIT_AMX_TERMS = 3, HWKIT_AMX_PRODUCTS = 6 };
/* One term of one step. */
enum { HWKIT_AMX_PIECE = HWKIT_AMX_SIDE * HWKIT_AMX_SIDE * 2 };

typedef struct {
    const char *a;
    const int64_t *a_steps; /* bytes from there to each step */
    int64_t a_term;         /* bytes from term to term */
    const char *b;
    int64_t steps;
    void *c;
    int64_t ldc;    /* bytes */
    int accumulate; /* add to C in the tiles */
} hwkit_amx_tile;

/* What the splitting sees: bits of the largest absolute value of all, and of the least among those of
 * the rows of A (columns of B) that are not all zero; all ones if all are. */
typedef struct {
    uint32_t most, least;
} hwkit_amx_range;

/* rows[i][k], i < count <= 32, k < depth, to terms [count][32], `step` and `term` bytes apart; k beyond
 * depth are zeros */
typedef hwkit_amx_range (*hwkit_amx_a_fn)(void *to, int64_t step, int64_t term, const void *a,
                                          int64_t ld, int count, int64_t depth);
/* b[k][j], k < depth, j < count, to B; columns beyond count and k beyond depth are zeros */
typedef hwkit_amx_range (*hwkit_amx_b_fn)(void *to, const void *b, int64_t ld, int count,
                                          int64_t depth);

/* Rows that go to panels of their own, as of hwkit_amx_a_fn: rows[i][k] to terms at `to + at[i]`. Returns
 * the bits of the largest absolute value. */
typedef uint32_t (*hwkit_amx_spread_fn)(void *to, const int64_t *at, int64_t step, int64_t term,
                                        const float *a, int64_t ld, int count, int64_t depth);

typedef struct {
    /* before the first product and after the last, in each thread */
    void (*begin)(void);
    void (*end)(void);
    /* by the number of products of terms; NULL where there is none */
    void (*product[HWKIT_AMX_PRODUCTS + 1])(const hwkit_amx_tile *tile);
    /* float32, [terms - 1] */
    hwkit_amx_a_fn split_a[HWKIT_AMX_TERMS];
    hwkit_amx_b_fn split_b[HWKIT_AMX_TERMS];
    hwkit_amx_spread_fn spread[HWKIT_AMX_TERMS];
    /* what is stored narrow, exactly; of infinities and NaN the first term is all */
    hwkit_amx_a_fn take_a[HWKIT_HALF_BF16 + 1];
    hwkit_amx_b_fn take_b[HWKIT_HALF_BF16 + 1];
    /* as of probe.h, of bfloat16 */
    double (*probe)(int64_t rounds, double *sum);
    /* c[i][j] = block[i][j], plus c[i][j] if add; i < rows, j < columns */
    void (*put)(float *c, int64_t ldc, const float *block, int rows, int columns, int add);
    /* to[i][j] = sums[i][j] as bfloat16, rounded to nearest even */
    void (*round)(uint16_t *to, int64_t ldc, const float *sums, int64_t ld, int rows, int64_t columns);
    /* of pairs only: tiles by row and by step, see pairs_tile.inc */
    hwkit_tile_fn by_row[HWKIT_MAX_HALVES][HWKIT_MAX_ROWS];
    hwkit_tile_fn by_step[HWKIT_MAX_HALVES][HWKIT_MAX_ROWS];
} hwkit_amx_kernels;

/* NULL where the compiler does not know the instructions. */
extern const hwkit_amx_kernels *const hwkit_amx_real, *const hwkit_pairs_real;
extern const hwkit_amx_kernels *const hwkit_amx_twin, *const hwkit_pairs_twin;

#endif
