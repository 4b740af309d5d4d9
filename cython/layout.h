/* Images from one order of their dimensions to another. */
#ifndef HWKIT_LAYOUT_H
#define HWKIT_LAYOUT_H

#include "transpose.h"

#include <stdint.h>

/* The transposition of elements of `size` bytes whose result is part of an array of so many bytes. */
hwkit_turn_fn hwkit_turn_into(int size, int64_t bytes);

/* n images of `area` pixels and c channels, elements of `size` bytes. */
typedef struct {
    int size;
    int64_t n, c, area;
    int64_t row; /* channels last: elements from pixel to pixel, at least c */
    int threads;
} hwkit_layout;

/* From [c][area] to [area][row], and back. */
void hwkit_to_channels_last(const hwkit_layout *l, void *to, const void *from);
void hwkit_to_channels_first(const hwkit_layout *l, void *to, const void *from);

/* The first of these into the calling thread's scratch memory
 * HWKIT_SCRATCH_LAYOUT. NULL if memory is short. */
const char *hwkit_channels_last(int size, const char *x, int64_t n, int64_t c, int64_t area,
                                int64_t row, int threads);

/* The other images of a convolution with channels first that is done with channels last. */
typedef struct {
    hwkit_layout image, result;
    int has_residual; /* which is laid out like the result */
} hwkit_turned;

/* Bytes of what lies in HWKIT_SCRATCH_LAYOUT. */
int64_t hwkit_turned_bytes(const hwkit_turned *t);

/* Replace image and residual, if there is one, by what they are with channels last, and return where
 * the result goes so; NULL if memory is short. */
char *hwkit_turn_in(const hwkit_turned *t, const void **image, const void **residual);

#endif
