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
#include "pairs_real.inc"
typedef uint16_t pairs_stored;
static inline HWKIT_INLINE pairs_word pairs_set_one(const char *p)
{
    uint16_t one;
    memcpy(&one, p, sizeof one);
    return _mm512_set1_epi32(one);
}
/* Half vectors take half of the time where the processor has units of 256 bits. */
typedef __m256 pairs_few;
typedef __m256i pairs_few_word;
static inline HWKIT_INLINE pairs_few pairs_few_zero(void) { return _mm256_setzero_ps(); }
static inline HWKIT_INLINE pairs_few pairs_few_add(pairs_few a, pairs_few b) { return a + b; }
static inline HWKIT_INLINE pairs_vec pairs_few_wide(pairs_few v) { return _mm512_castps256_ps512(v); }
static inline HWKIT_INLINE pairs_few_word pairs_few_words(const void *p)
{
    return _mm256_loadu_si256(p);
}
static inline HWKIT_INLINE pairs_few_word pairs_few_set(const char *p)
{
    return _mm512_castsi512_si256(pairs_set(p));
}
static inline HWKIT_INLINE pairs_few_word pairs_few_set_one(const char *p)
{
    return _mm512_castsi512_si256(pairs_set_one(p));
}
static inline HWKIT_INLINE pairs_few pairs_few_dot(pairs_few c, pairs_few_word a, pairs_few_word b)
{
    return _mm256_dpbf16_ps(c, (__m256bh)a, (__m256bh)b);
}
static inline HWKIT_INLINE pairs_vec pairs_dot(pairs_vec c, pairs_word a, pairs_word b)
{
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
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
