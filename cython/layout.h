/* Images from one order of their dimensions to another. */
#ifndef HWKIT_LAYOUT_H
#define HWKIT_LAYOUT_H

#include "gemm_kernels.h"

#include <stdint.h>

/* Pixels that are transposed together: whole cache lines of as many channels' rows are read. */
enum { HWKIT_TURN_PIXELS = 16 };

/* n images from [c][area] to [area][c], elements of `size` bytes, into the calling thread's scratch
 * memory HWKIT_SCRATCH_LAYOUT. NULL if memory is short. */
const char *hwkit_channels_last(const hwkit_gemm_kernels *table, int size, const char *x, int64_t n,
                                int64_t c, int64_t area, int threads);

#endif
