/* AVX2: multiply-add of int16 pairs, or of bytes where it cannot saturate; and AVX-VNNI. */
#include "int8_kernels.h"

#if defined(__x86_64__)
#define HWKIT_TARGET_AVX2
#include "cpuinfo.h"
#include "int8_rows.h"
#include "simd.h"

/* 12 accumulators, two vectors of weights, one of x, one product: the 16 registers */
#define HWKIT_INT8_TILES(T) HWKIT_ROWS_6(T, 1) HWKIT_ROWS_6(T, 2)
#define HWKIT_INT8_VL 8

HWKIT_TARGET_BEGIN

#define HWKIT_TYPE pairs
#define HWKIT_INT8_GROUP 4
#define HWKIT_INT8_A 1
#define HWKIT_INT8_A_SIGNED 0
#define HWKIT_INT8_SATURATES
#include "int8_256.inc"
static inline HWKIT_INLINE __m256i NAME(dot)(__m256i acc, __m256i a, __m256i b)
{
    __m256i pairs = _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1));
    return _mm256_add_epi32(acc, pairs);
}
#include "int8.inc"

static const hwkit_int8_kernels bytes = {
    .name = "avx2", .vl = HWKIT_INT8_VL, .group = HWKIT_INT8_GROUP, .a_size = HWKIT_INT8_A,
    .tiles = {HWKIT_INT8_TABLE}, .widen = NAME(widen), .flip = NAME(flip), .sum = NAME(sum),
    .depthwise = NAME(depthwise), .finish = NAME(finish),
};

#undef HWKIT_TYPE
#undef HWKIT_INT8_GROUP
#undef HWKIT_INT8_A
#undef HWKIT_INT8_SATURATES
#define HWKIT_TYPE i8
#define HWKIT_INT8_GROUP 2
#define HWKIT_INT8_A 2
#include "int8_256.inc"
static inline HWKIT_INLINE __m256i NAME(b_wide)(const char *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}
static inline HWKIT_INLINE __m256i NAME(b_narrow)(const char *p)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
}
static inline HWKIT_INLINE __m256i NAME(dot)(__m256i acc, __m256i a, __m256i b)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b));
}
#include "int8.inc"

const hwkit_int8_kernels hwkit_int8_avx2 = {
    .name = "avx2", .bytes = &bytes, .vl = HWKIT_INT8_VL, .group = HWKIT_INT8_GROUP,
    .a_size = HWKIT_INT8_A, .tiles = {HWKIT_INT8_TABLE}, .widen = NAME(widen), .flip = NAME(flip),
    .sum = NAME(sum), .depthwise = NAME(depthwise), .finish = NAME(finish),
};

HWKIT_TARGET_END

#if (defined(__clang__) && __clang_major__ >= 12) || (!defined(__clang__) && __GNUC__ >= 11)
#undef HWKIT_TYPE
#undef HWKIT_TARGET
#undef HWKIT_INT8_GROUP
#undef HWKIT_INT8_A
#define HWKIT_TARGET "avx2,fma,avxvnni"

HWKIT_TARGET_BEGIN

#define HWKIT_TYPE vnni
#define HWKIT_INT8_QUADS
#define HWKIT_INT8_GROUP 4
#define HWKIT_INT8_A 1
#include "int8_256.inc"
static inline HWKIT_INLINE __m256i NAME(dot)(__m256i acc, __m256i a, __m256i b)
{
    return _mm256_dpbusd_avx_epi32(acc, a, b);
}
#include "int8.inc"

const hwkit_int8_kernels hwkit_int8_avxvnni = {
    .name = "avxvnni", .features = HWKIT_AVXVNNI, .vl = HWKIT_INT8_VL, .group = HWKIT_INT8_GROUP,
    .a_size = HWKIT_INT8_A, .tiles = {HWKIT_INT8_TABLE}, .widen = NAME(widen), .flip = NAME(flip),
    .sum = NAME(sum), .interleave = NAME(interleave), .quads = NAME(quads), .finish = NAME(finish),
};

HWKIT_TARGET_END
#else /* the compiler does not know the instruction */
const hwkit_int8_kernels hwkit_int8_avxvnni = {.name = "avxvnni"};
#endif
#else
const hwkit_int8_kernels hwkit_int8_avx2 = {.name = "avx2"};
const hwkit_int8_kernels hwkit_int8_avxvnni = {.name = "avxvnni"};
#endif
