/* Transposition of matrices: images from channels first to channels last and back, channel shuffles. */
#ifndef HWKIT_TRANSPOSE_H
#define HWKIT_TRANSPOSE_H

#include "run.h"

#include <stdint.h>

enum { HWKIT_TURN_FEW = 4 };

/* to[column][row] = x[row][column], in rows of ldx and ldto elements. */
typedef void (*hwkit_turn_fn)(void *to, int64_t ldto, const void *x, int64_t ldx, int64_t rows,
                              int64_t columns);

/* For elements of one size. */
typedef struct {
    hwkit_turn_fn any;
    hwkit_turn_fn far;                         /* the same past the caches, where that is known */
    hwkit_turn_fn rows[HWKIT_TURN_FEW + 1];    /* for so many rows, and ldto the same */
    hwkit_turn_fn columns[HWKIT_TURN_FEW + 1]; /* for so many columns, and ldx the same */
} hwkit_transpose_kernels;

typedef struct {
    int64_t batch, rows, columns;
    int size; /* bytes of an element: 1, 2, 4 or 8 */
    /* Tunables: elements of a task, most threads. */
    int64_t block;
    int threads;
} hwkit_transpose;

/* A plan of one operand. NULL if memory is short. */
hwkit_plan *hwkit_transpose_plan(const hwkit_transpose *d);

#endif
