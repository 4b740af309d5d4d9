/* Windows of float16 and bfloat16 by AVX2 and F16C, see pool2d_narrow.inc. */
#include "pool2d.h"

#if defined(__x86_64__)
#define HWKIT_TARGET_AVX2
#include "simd.h"
#undef HWKIT_TARGET
#define HWKIT_TARGET "avx2,fma,f16c"

#include <immintrin.h>
#include <math.h>
#include <string.h>

HWKIT_TARGET_BEGIN

enum { LANES = 8 };
#define VEC(name) _mm256_##name
typedef __m256 floats;

static inline HWKIT_INLINE floats widen(const uint16_t *p, const hwkit_half type)
{
    const __m128i v = _mm_loadu_si128((const __m128i *)p);
    if (type == HWKIT_HALF_F16)
        return _mm256_cvtph_ps(v);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
}

static inline HWKIT_INLINE floats widen_some(const uint16_t *p, int64_t n, const hwkit_half type)
{
    uint16_t some[LANES] = {0};
    memcpy(some, p, (size_t)n * sizeof *p);
    return widen(some, type);
}

static inline HWKIT_INLINE void narrow(uint16_t *to, floats v, const hwkit_half type)
{
    if (type == HWKIT_HALF_F16) {
        _mm_storeu_si128((__m128i *)to, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
        return;
    }
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i all = _mm256_srli_epi32(_mm256_blendv_epi8(up, quiet, nan), 16);
    _mm_storeu_si128((__m128i *)to, _mm_packus_epi32(_mm256_castsi256_si128(all),
                                                     _mm256_extracti128_si256(all, 1)));
}

static inline HWKIT_INLINE void narrow_some(uint16_t *to, floats v, int64_t n, const hwkit_half type)
{
    uint16_t some[LANES];
    narrow(some, v, type);
    memcpy(to, some, (size_t)n * sizeof *to);
}

/* The instruction gives its second operand where either is NaN. */
static inline HWKIT_INLINE floats step_max(floats acc, floats x)
{
    return _mm256_blendv_ps(_mm256_max_ps(x, acc), x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

#include "pool2d_narrow.inc"

HWKIT_TARGET_END

const hwkit_pool_narrow_kernel hwkit_pool_narrow_avx2 = {LANES, windows, scratch_bytes};
#else
const hwkit_pool_narrow_kernel hwkit_pool_narrow_avx2 = {0};
#endif
