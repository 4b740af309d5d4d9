/* Windows of float16 and bfloat16 by AVX-512, see pool2d_narrow.inc. */
#include "pool2d.h"

#if defined(__x86_64__) && !defined(HWKIT_LOWER_AVX512)
#define HWKIT_TARGET_AVX512
#include "simd.h"
#undef HWKIT_TARGET
#define HWKIT_TARGET "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"

#include <immintrin.h>
#include <math.h>
#include <string.h>

HWKIT_TARGET_BEGIN

enum { LANES = 16 };
#define VEC(name) _mm512_##name
typedef __m512 floats;

static inline HWKIT_INLINE floats widened(__m256i v, const hwkit_half type)
{
    if (type == HWKIT_HALF_F16)
        return _mm512_cvtph_ps(v);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
}

static inline HWKIT_INLINE floats widen(const uint16_t *p, const hwkit_half type)
{
    return widened(_mm256_loadu_si256((const __m256i *)p), type);
}

static inline HWKIT_INLINE floats widen_some(const uint16_t *p, int64_t n, const hwkit_half type)
{
    return widened(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p), type);
}

static inline HWKIT_INLINE __m256i narrowed(floats v, const hwkit_half type)
{
    if (type == HWKIT_HALF_F16)
        return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i all = _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(all, 16));
}

static inline HWKIT_INLINE void narrow(uint16_t *to, floats v, const hwkit_half type)
{
    _mm256_storeu_si256((__m256i *)to, narrowed(v, type));
}

static inline HWKIT_INLINE void narrow_some(uint16_t *to, floats v, int64_t n, const hwkit_half type)
{
    _mm256_mask_storeu_epi16(to, (__mmask16)((1u << n) - 1), narrowed(v, type));
}

/* The instruction gives its second operand where either is NaN. */
static inline HWKIT_INLINE floats step_max(floats acc, floats x)
{
    return _mm512_mask_mov_ps(_mm512_max_ps(x, acc), _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x);
}

#include "pool2d_narrow.inc"

HWKIT_TARGET_END

const hwkit_pool_narrow_kernel hwkit_pool_narrow_avx512 = {LANES, windows, scratch_bytes};
#else
const hwkit_pool_narrow_kernel hwkit_pool_narrow_avx512 = {0};
#endif
