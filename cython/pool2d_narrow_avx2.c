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

#define VEC(name) _mm256_##name
#include "half_256.inc"

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
