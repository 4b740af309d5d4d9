/* Right sides of products that are stored narrow: bfloat16, or int8 with a scale for each column and
 * each HWKIT_NARROW_DEPTH rows. For few rows a product takes the time that reading b takes.
 *
 * Columns are cut into panels. A panel is read from end to end, VL words of 32 bits for each row of
 * b: of bfloat16, word i has column i in its lower and VL + i in its upper half; of int8, byte q of
 * word i is column q * VL + i. An int8 panel is cut along the depth, and each part begins with the
 * scales of its columns. Columns beyond the last one are 0. */
#ifndef HWKIT_NARROW_H
#define HWKIT_NARROW_H

#include <stdint.h>

enum { HWKIT_NARROW_DEPTH = 64 };

typedef enum { HWKIT_FULL, HWKIT_BFLOAT16, HWKIT_INT8, HWKIT_STORAGES } hwkit_storage;

/* c[i][j] = sum over k of a[i * lda + k] * b[k][j], i < rows <= 4, j < columns, for one panel b. */
typedef void (*hwkit_narrow_fn)(const void *a, int64_t lda, const void *b, void *c, int64_t ldc,
                                int rows, int columns, int64_t depth);

typedef struct {
    const void *b;    /* float32; element (k, j) is b[k * ld + j], or b[j * ld + k] if transposed */
    int64_t ld;
    int transposed;
    int64_t columns, depth;
    int vl;
} hwkit_narrow_source;

/* Columns of a panel, and bytes of one. */
int hwkit_narrow_width(int storage, int vl);
int64_t hwkit_narrow_bytes(int storage, int vl, int64_t depth);

/* Whether int8 can hold what is there: all is finite. */
int hwkit_narrow_fits(const hwkit_narrow_source *source);

/* All panels. What is finite stays finite; bfloat16 is rounded to nearest even. */
void hwkit_narrow_pack(int storage, void *panels, const hwkit_narrow_source *source, int threads);

#endif
