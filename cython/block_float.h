/* Block floating point: integers of 16 bits, and a float32 that one unit of them stands for, for each
 * block of at most 32 terms along the depth of a product. The dot products of pairs of AVX512-VNNI
 * form the sum of a block in 32 bits, exactly; it is scaled and added up in float32.
 *
 * A block is scaled by its Euclidean norm: that of its integers is at most 46339, rounding included, so
 * that by Cauchy and Schwarz no sum of a block, nor any part of it, leaves the 32 bits: 46339^2 < 2^31.
 * Where a few terms are most of the norm, the largest integer is what limits the scale. A rounding is
 * at most half a unit, in the mean of squares 12^-1/2 of one: an operand mostly errs by
 * sqrt(32 / 12) / 46336 = 3.5e-5 of the norm of its block, and at most by 5.0e-5; of blocks whose terms
 * are all equal, so that roundings are not independent, by up to 3^1/2 times as much.
 *
 * (Wilkinson, Rounding Errors in Algebraic Processes, 1963, chapter 1; Drumond, Lin, Jaggi and Falsafi,
 * Training DNNs with Hybrid Block Floating Point, NeurIPS 2018.)
 *
 * A run of terms - the channels of a pixel, a row of a matrix - is [block][pairs of int16, then the unit
 * as a float32]: words of 4 bytes, so that rows of A are read through pointers, and B lies in panels,
 * as of any other elements; see gemm_kernels.h. */
#ifndef HWKIT_BLOCK_FLOAT_H
#define HWKIT_BLOCK_FLOAT_H

#include "gemm_kernels.h"

#include <stdint.h>

typedef struct {
    int64_t terms;  /* of a run */
    int64_t blocks; /* of a run, all alike: the last terms of the last one may be zeros */
    int pairs;      /* of a block */
    int64_t words;  /* of a run */
} hwkit_block_float;

/* The norm of the integers of a block before they are rounded, and the largest of them. */
enum { HWKIT_BLOCK_FLOAT_NORM = 46336, HWKIT_BLOCK_FLOAT_MOST = 32766 };

/* Larger values, infinities and NaN are left to float32: with smaller ones no product overflows. */
#define HWKIT_BLOCK_FLOAT_LIMIT 0x1p50f

typedef struct {
    /* `count` runs that begin `step` elements apart, one after the other; 0 if a value is too large, and
     * what is written is no good then */
    int (*convert)(const hwkit_block_float *f, void *to, const float *from, int64_t step,
                   int64_t count);
    /* as of gemm_kernels.h; elements are words */
    hwkit_tile_fn by_row[HWKIT_MAX_HALVES][HWKIT_MAX_ROWS];
} hwkit_block_float_kernels;

/* NULL where the compiler does not know the instructions. */
extern const hwkit_block_float_kernels *const hwkit_block_float_real;
extern const hwkit_block_float_kernels *const hwkit_block_float_twin;

/* The kernels of this processor, or their twin; NULL if it has none. See isa.h. */
const hwkit_block_float_kernels *hwkit_block_float_get(void);

/* How runs of so many terms are cut. */
hwkit_block_float hwkit_block_float_of(int64_t terms);

/* One block of `count` terms, as convert does it; for what is out of the ordinary. */
int hwkit_block_float_block(int pairs, char *to, const float *from, int count);

#endif
