/* Products of float32 and bfloat16 by tiles, and what feeds them; amx_kernels.inc makes them twice, of
 * instructions and of their twin in plain C.
 *
 * A float32 is split into terms of bfloat16, each the rounded rest of those before: v = v1 + v2 + v3,
 * exactly with three unless v is close to the least normal number. Products of terms are exact, so
 * what is left out decides the error:
 *   terms 3   six products: all but those below 2^-24 of the largest; as good as float32
 *   terms 2   three products: about 17 bits
 *   terms 1   one product of rounded operands, or the product of bfloat16 operands
 * The products of low order come first, over the whole block of depth: C is small then, and so is its
 * rounding. (Henry, Tang and Heinecke, Leveraging the bfloat16 artificial intelligence datatype for
 * higher-precision computations, ARITH 2019.)
 *
 * Units: a step is 32 elements of depth; a block of C is 32 x 32.
 *   A   [step][term][32 rows][32]         or anywhere else, see hwkit_amx_tile
 *   B   [step][term][2][16 pairs][16 columns][2] */
#ifndef HWKIT_AMX_KERNELS_H
#define HWKIT_AMX_KERNELS_H

#include <stdint.h>

enum { HWKIT_AMX_SIDE = 32, HWKIT_AMX_TERMS = 3 };
/* One term of one step. */
enum { HWKIT_AMX_PIECE = HWKIT_AMX_SIDE * HWKIT_AMX_SIDE * 2 };

typedef struct {
    const char *a[2];       /* rows 0 to 15, and 16 to 31 */
    const int64_t *a_steps; /* bytes from there to each step */
    int64_t a_term, a_row;  /* bytes from term to term, from row to row */
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

typedef struct {
    /* before the first product and after the last, in each thread */
    void (*begin)(void);
    void (*end)(void);
    void (*product[HWKIT_AMX_TERMS])(const hwkit_amx_tile *tile); /* [terms - 1] */
    /* rows[i][k], i < count <= 32, k < depth, to terms [count][32], `step` and `term` bytes apart; k
     * beyond depth are zeros */
    hwkit_amx_range (*split_a[HWKIT_AMX_TERMS])(void *to, int64_t step, int64_t term, const float *a,
                                                int64_t ld, int count, int64_t depth);
    /* b[k][j], k < depth, j < count, to B; columns beyond count and k beyond depth are zeros */
    hwkit_amx_range (*split_b[HWKIT_AMX_TERMS])(void *to, const float *b, int64_t ld, int count,
                                                int64_t depth);
    /* the same of bfloat16, one term, as they are */
    hwkit_amx_range (*take_a)(void *to, int64_t step, const uint16_t *a, int64_t ld, int count,
                              int64_t depth);
    hwkit_amx_range (*take_b)(void *to, const uint16_t *b, int64_t ld, int count, int64_t depth);
    /* as of probe.h, of bfloat16 in tiles */
    double (*probe)(int64_t rounds, double *sum);
    /* c[i][j] = block[i][j], plus c[i][j] if add; i < rows, j < columns */
    void (*put)(float *c, int64_t ldc, const float *block, int rows, int columns, int add);
} hwkit_amx_kernels;

/* NULL where the compiler does not know the instructions. */
extern const hwkit_amx_kernels *const hwkit_amx_real;
extern const hwkit_amx_kernels *const hwkit_amx_twin;

#endif
