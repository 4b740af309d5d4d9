/* What products of matrices and convolutions by tiles share: operands in panels, and blocks of C that
 * never differ in kind from what plain float32 gives.
 *
 * Splitting float32 fails for values beyond bfloat16 and loses bits near the least normal number, and
 * products of tiles take denormal numbers for zeros. So each panel knows its range: one that does not suit is
 * kept as float32, and a block of C whose operands do not suit each other is computed by the kernels
 * of float32, from the kept values or from the terms added up again. */
#ifndef HWKIT_AMX_BLOCKS_H
#define HWKIT_AMX_BLOCKS_H

#include "amx_kernels.h"
#include "amx_way.h"
#include "gemm_kernels.h"

#include <stdint.h>

/* 32 rows of A or columns of B, over a block of depth. */
typedef struct {
    char *data; /* terms as amx_kernels.h says, or plain: [32 rows][deep], [deep][32 columns] */
    hwkit_amx_range range;
    int64_t depth; /* deep: the same in whole steps */
} hwkit_amx_panel;

typedef struct {
    const hwkit_amx_kernels *tiles;
    const hwkit_gemm_kernels *table; /* of float32 */
    int vl, products, terms;
    hwkit_half half; /* not float32: terms are exact for any value */
} hwkit_amx_maker;

/* Kernels of this processor or their twin. */
hwkit_amx_maker hwkit_amx_maker_of(const hwkit_amx_way *way);

/* Bytes of an element of an operand. */
static inline int64_t hwkit_amx_element(const hwkit_amx_maker *maker)
{
    return maker->half ? 2 : 4;
}

/* Bytes of a panel of so many elements of depth. */
int64_t hwkit_amx_panel_bytes(const hwkit_amx_maker *maker, int64_t depth);

/* Fill panel->data with rows of A, or with columns of B; `ld` elements lie from one k to the next if
 * transposed (A) or not (B), else from row to row (A) or column to column (B). `turn` has room for
 * 2 x 32 x depth float32, for what is transposed. */
void hwkit_amx_fill_a(const hwkit_amx_maker *maker, hwkit_amx_panel *panel, const void *a, int64_t ld,
                      int transposed, int count, int64_t depth, float *turn);
void hwkit_amx_fill_b(const hwkit_amx_maker *maker, hwkit_amx_panel *panel, const void *b, int64_t ld,
                      int transposed, int count, int64_t depth, float *turn);

/* One block of C += or = A B. */
typedef struct {
    const hwkit_amx_panel *a, *b;
    const int64_t *steps; /* a's, in bytes: see hwkit_amx_steps */
    int64_t term;         /* a's: bytes from term to term */
    float *c;
    int64_t ldc;
    int rows, columns, accumulate;
    float *block; /* 32 x 32 */
    float *plain; /* 2 x 32 x depth, in whole steps */
} hwkit_amx_block;

void hwkit_amx_multiply(const hwkit_amx_maker *maker, const hwkit_amx_block *block);

/* Sums, rounded to what is narrow. */
void hwkit_amx_round(const hwkit_amx_maker *maker, const float *sums, int64_t ld, uint16_t *to,
                     int64_t ldc, int rows, int64_t columns);

/* Whether terms represent float32 of this range; if not, panels are kept as float32. */
int hwkit_amx_fits(hwkit_amx_range range);

/* The range of two together. */
static inline hwkit_amx_range hwkit_amx_both(hwkit_amx_range a, hwkit_amx_range b)
{
    return (hwkit_amx_range){a.most > b.most ? a.most : b.most,
                             a.least < b.least ? a.least : b.least};
}

/* A panel of B as float32 again, [deep][32 columns]; its own data, or `to`. */
const float *hwkit_amx_plain_b(const hwkit_amx_maker *maker, const hwkit_amx_panel *b, float *to);

/* Where the steps of a panel begin. */
void hwkit_amx_steps(const hwkit_amx_maker *maker, int64_t *steps, int64_t count);

#endif
