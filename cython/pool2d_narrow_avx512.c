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

#define VEC(name) _mm512_##name
#include "half_512.inc"

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
