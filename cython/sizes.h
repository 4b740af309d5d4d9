/* Arithmetic of sizes and blocks; none of them is negative. */
#ifndef HWKIT_SIZES_H
#define HWKIT_SIZES_H

#include <stdint.h>

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
