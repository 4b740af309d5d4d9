/* Dot products of pairs of bfloat16 by the processor's own (AVX512-BF16). */
#include "amx.h"
#include "amx_kernels.h"

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
#include "pairs_kernels.inc"
HWKIT_TARGET_END

const hwkit_amx_kernels *const hwkit_pairs_real = &table;
#else
const hwkit_amx_kernels *const hwkit_pairs_real = 0;
#endif
