/* Right sides of products that are stored narrow: bfloat16, or int8 or int24 with a scale for each
 * column and each HWKIT_NARROW_DEPTH rows. For few rows a product takes the time that reading b takes.
 *
 * Columns are cut into panels. A panel is read from end to end, words of 32 bits, VL at a time. A row
 * of b is
 *   bfloat16   one vector of words: word i has column i in its lower, VL + i in its upper half
 *   int8       one: byte q of word i is column q * VL + i
 *   int24      three: word i of vector q has column q * VL + i in its upper 24 bits, and in its lowest
 *              byte one of column 3 * VL + i, the uppermost in the first vector
 *   float32    four, as they are
 * A panel with scales is cut along the depth, and each part begins with the scales of its columns.
 * Columns beyond the last one are 0. */
#ifndef HWKIT_NARROW_H
#define HWKIT_NARROW_H

#include <stdint.h>

enum { HWKIT_NARROW_DEPTH = 64 };

typedef enum { HWKIT_FLOAT32, HWKIT_BFLOAT16, HWKIT_INT8, HWKIT_INT24, HWKIT_STORAGES } hwkit_storage;

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

/* The storage for what `storage` cannot hold. */
int hwkit_narrow_instead(int storage);

/* All panels; 0 if there is what `storage` cannot hold: infinity, NaN, and for int24 parts of a column
 * that are so small that their scale has not all of its digits. bfloat16 is rounded to nearest even,
 * and what is finite stays finite. In int24 nothing but zeros becomes zero, so that infinity in a
 * meets the zeros of b alone; values are off by half of 2^-23 of the largest of their part. */
int hwkit_narrow_pack(int storage, void *panels, const hwkit_narrow_source *source, int threads);

#endif
