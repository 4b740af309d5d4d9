/* Sizes, and the arithmetic of sizes and blocks; none of them is negative. */
#ifndef HWKIT_SIZES_H
#define HWKIT_SIZES_H

#include <stdint.h>

/* Images of more bytes are taken to lie in memory: that is more than the caches which a core has for
 * itself, and from one that it shares they are soon driven out. Kernels ask ahead for what they need
 * of such images only: where it is in a cache, asking costs instructions and brings nothing. */
enum { HWKIT_FAR_BYTES = 8 << 20 };

static inline int64_t hwkit_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t hwkit_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t hwkit_parts(int64_t whole, int64_t part)
{
    return whole / part + (whole % part != 0);
}
static inline int64_t hwkit_round_up(int64_t x, int64_t unit) { return hwkit_parts(x, unit) * unit; }
/* The block nearest to `block` that cuts `whole` into equal parts of whole units, and no more parts:
 * what is left over for a last part would leave a thread waiting. */
static inline int64_t hwkit_even(int64_t whole, int64_t block, int64_t unit)
{
    return hwkit_round_up(hwkit_parts(whole, hwkit_parts(whole, hwkit_min(block, whole))), unit);
}

#endif
