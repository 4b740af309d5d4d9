/* The same dot products in plain C, for tests on any processor. */
#include "amx.h"
#include "amx_kernels.h"
#include "bits.h"
#include "isa.h"
#include "simd.h"

#include "pairs_twin.inc"
typedef uint16_t pairs_stored;
static inline HWKIT_INLINE pairs_word pairs_set_one(const char *p)
{
    uint16_t one[2] = {0};
    memcpy(one, p, sizeof one[0]);
    return pairs_set((const char *)one);
}
/* Half vectors are whole ones. */
typedef pairs_vec pairs_few;
typedef pairs_word pairs_few_word;
#define pairs_few_zero pairs_zero
#define pairs_few_add pairs_add
#define pairs_few_wide(v) (v)
#define pairs_few_words pairs_words
#define pairs_few_set pairs_set
#define pairs_few_set_one pairs_set_one
#define pairs_few_dot pairs_dot
/* Denormal numbers are zeros. */
static inline HWKIT_INLINE float pairs_half(uint32_t bits)
{
    return hwkit_flushed(hwkit_float(bits));
}
/* Products are exact, so it does not matter whether they are fused with the sum. */
static inline HWKIT_INLINE pairs_vec pairs_dot(pairs_vec c, pairs_word a, pairs_word b)
{
    for (int half = 1; half >= 0; half--)
        for (int i = 0; i < 16; i++) {
            const float x = pairs_half(half ? a.of[i] & 0xffff0000 : a.of[i] << 16);
            const float y = pairs_half(half ? b.of[i] & 0xffff0000 : b.of[i] << 16);
            c.of[i] = hwkit_flushed(hwkit_flushed(c.of[i]) + x * y);
        }
    return c;
}
static inline HWKIT_INLINE pairs_vec pairs_wide(const uint16_t *p, int n)
{
    pairs_vec v = pairs_zero();
    hwkit_half_widen_row(HWKIT_HALF_BF16, p, v.of, n);
    return v;
}
static inline HWKIT_INLINE void pairs_round(uint16_t *p, pairs_vec v, int n)
{
    for (int i = 0; i < 16; i++)
        v.of[i] = hwkit_flushed(v.of[i]);
    hwkit_half_round_row(HWKIT_HALF_BF16, v.of, p, n);
}
#include "pairs_kernels.inc"

const hwkit_amx_kernels *const hwkit_pairs_twin = &table;
