/* The same in plain C, for tests on any processor. */
#include "block_float.h"
#include "isa.h"
#include "simd.h"
#include "sizes.h"

#include "pairs_twin.inc"
typedef float pairs_stored;
typedef struct {
    int32_t of[16];
} pairs_sum;

static inline HWKIT_INLINE pairs_sum pairs_nothing(void) { return (pairs_sum){{0}}; }
static inline HWKIT_INLINE int32_t pairs_half(uint32_t pair, int high)
{
    return (int16_t)(high ? pair >> 16 : pair & 0xffff);
}
static inline HWKIT_INLINE pairs_sum pairs_dot(pairs_sum c, pairs_word a, pairs_word b)
{
    for (int i = 0; i < 16; i++)
        for (int high = 0; high < 2; high++)
            c.of[i] += pairs_half(a.of[i], high) * pairs_half(b.of[i], high);
    return c;
}
static inline HWKIT_INLINE pairs_vec pairs_scaled(pairs_vec c, pairs_sum v, pairs_vec w, pairs_vec x)
{
    for (int i = 0; i < 16; i++)
        c.of[i] += (float)v.of[i] * w.of[i] * x.of[i];
    return c;
}
static inline HWKIT_INLINE pairs_vec pairs_wide(const float *p, int n)
{
    pairs_vec v = pairs_zero();
    memcpy(v.of, p, (size_t)n * sizeof *p);
    return v;
}
static inline HWKIT_INLINE void pairs_round(float *p, pairs_vec v, int n)
{
    memcpy(p, v.of, (size_t)n * sizeof *p);
}

static int convert(const hwkit_block_float *f, void *to, const float *from, int64_t step,
                   int64_t count)
{
    char *at = to;
    for (int64_t i = 0; i < count; i++, from += step)
        for (int64_t b = 0; b < f->blocks; b++, at += (f->pairs + 1) * 4) {
            const int64_t first = b * 2 * f->pairs;
            const int terms = (int)hwkit_min(2 * f->pairs, f->terms - first);
            if (!hwkit_block_float_block(f->pairs, at, from + first, terms))
                return 0;
        }
    return 1;
}

#include "block_float.inc"

const hwkit_block_float_kernels *const hwkit_block_float_twin = &table;
