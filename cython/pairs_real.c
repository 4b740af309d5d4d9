/* Dot products of pairs of bfloat16 by the processor's own (AVX512-BF16). */
#include "amx.h"
#include "amx_kernels.h"
#include "isa.h"

#if defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 9 : __GNUC__ >= 10) &&         \
    !defined(HWKIT_LOWER_AVX512)
#define HWKIT_TARGET_AVX512
#include "simd.h"
#undef HWKIT_TARGET
#define HWKIT_TARGET "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16"

HWKIT_TARGET_BEGIN
typedef __m512 pairs_vec;
typedef __m512bh pairs_word;
static inline HWKIT_INLINE pairs_vec pairs_zero(void) { return _mm512_setzero_ps(); }
static inline HWKIT_INLINE pairs_vec pairs_load(const void *p) { return _mm512_loadu_ps(p); }
static inline HWKIT_INLINE void pairs_store(void *p, pairs_vec v) { _mm512_storeu_ps(p, v); }
static inline HWKIT_INLINE pairs_word pairs_words(const void *p)
{
    return (pairs_word)_mm512_loadu_si512(p);
}
static inline HWKIT_INLINE pairs_word pairs_set(const char *p)
{
    int32_t pair;
    memcpy(&pair, p, sizeof pair);
    return (pairs_word)_mm512_set1_epi32(pair);
}
static inline HWKIT_INLINE pairs_vec pairs_dot(pairs_vec c, pairs_word a, pairs_word b)
{
    return _mm512_dpbf16_ps(c, a, b);
}
static inline HWKIT_INLINE pairs_vec pairs_add(pairs_vec a, pairs_vec b) { return a + b; }
static inline HWKIT_INLINE pairs_vec pairs_set_float(float x) { return _mm512_set1_ps(x); }
static inline HWKIT_INLINE pairs_vec pairs_clamp(pairs_vec v, pairs_vec lo, pairs_vec hi)
{
    return _mm512_min_ps(hi, _mm512_max_ps(lo, v)); /* of two, the second where one is NaN */
}
static inline HWKIT_INLINE pairs_vec pairs_wide(const uint16_t *p, int n)
{
    const __m256i halves = n == 16 ? _mm256_loadu_si256((const void *)p)
                                   : _mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p);
    return (pairs_vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16);
}
static inline HWKIT_INLINE void pairs_round(uint16_t *p, pairs_vec v, int n)
{
    const __m256i halves = (__m256i)_mm512_cvtneps_pbh(v);
    if (n == 16)
        _mm256_storeu_si256((void *)p, halves);
    else
        _mm256_mask_storeu_epi16(p, (__mmask16)((1u << n) - 1), halves);
}
#define PAIRS_TILE_FUNCTION inline HWKIT_INLINE
#include "pairs_kernels.inc"
HWKIT_TARGET_END

const hwkit_amx_kernels *const hwkit_pairs_real = &table;
#else
const hwkit_amx_kernels *const hwkit_pairs_real = 0;
#endif
