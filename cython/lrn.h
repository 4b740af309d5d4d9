/* Local response normalisation: x / (bias + factor * sum of squares of channels around)^power. Sizes
 * count elements. */
#ifndef HWKIT_LRN_H
#define HWKIT_LRN_H

#include "run.h"

#include <stdint.h>

typedef struct {
    int64_t n, c, l; /* x is [n][c][l]; l = 1 where channels are neighbours */
    int is_double;
    int64_t before, after; /* channels of a window around its own */
    double factor, bias;
    int quarters; /* the power is so many quarters, 1 to 4: roots only */
    /* Tunables: elements of a task, most threads. */
    int64_t block;
    int threads;
} hwkit_lrn;

/* Pixels [p0, p1) of an image; with l = 1, of all. */
typedef void (*hwkit_lrn_fn)(const hwkit_lrn *d, const void *x, void *out, int64_t p0, int64_t p1);

/* A plan of one operand. NULL if memory is short. */
hwkit_plan *hwkit_lrn_plan(const hwkit_lrn *d);

#endif
