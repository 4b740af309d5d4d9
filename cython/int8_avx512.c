/* AVX-512: multiply-add of int16 pairs (BW), or of four bytes (VNNI). */
#include "int8_kernels.h"

#if defined(__x86_64__)
#define HWKIT_TARGET_AVX512
#include "cpuinfo.h"
#include "int8_rows.h"
#include "simd.h"

/* 28 accumulators, two vectors of weights, one of x, one product: the 32 registers */
#define HWKIT_INT8_TILES(T) HWKIT_ROWS_14(T, 1) HWKIT_ROWS_14(T, 2)
#define HWKIT_INT8_VL 16

#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wpsabi" /* vectors cross only functions that are inlined */
#endif

HWKIT_TARGET_BEGIN

#define HWKIT_TYPE i8
#define HWKIT_INT8_GROUP 2
#define HWKIT_INT8_A 2
#ifdef HWKIT_LOWER_AVX512 /* the algorithm by loops, for tests */
#include "int8_lowered.inc"
#else
#include "int8_512.inc"
static inline HWKIT_INLINE __m512i NAME(b_wide)(const char *p) { return _mm512_loadu_si512(p); }
static inline HWKIT_INLINE __m512i NAME(b_narrow)(const char *p)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));
}
static inline HWKIT_INLINE __m512i NAME(dot)(__m512i acc, __m512i a, __m512i b)
{
    return _mm512_add_epi32(acc, _mm512_madd_epi16(a, b));
}
#endif
#include "int8.inc"

const hwkit_int8_kernels hwkit_int8_avx512 = {
    .name = "avx512", .vl = HWKIT_INT8_VL, .group = HWKIT_INT8_GROUP, .a_size = HWKIT_INT8_A,
    .tiles = {HWKIT_INT8_TABLE}, .widen = NAME(widen), .flip = NAME(flip), .sum = NAME(sum),
    .depthwise = NAME(depthwise), .finish = NAME(finish),
};

HWKIT_TARGET_END

#undef HWKIT_TYPE
#undef HWKIT_INT8_GROUP
#undef HWKIT_INT8_A
#ifdef HWKIT_LOWER_AVX512
#define HWKIT_NEEDS 0
#else
#undef HWKIT_TARGET
#define HWKIT_TARGET "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
#define HWKIT_NEEDS HWKIT_AVX512VNNI
#endif

HWKIT_TARGET_BEGIN

#define HWKIT_INT8_GROUP 4
#define HWKIT_INT8_A 1
#define HWKIT_INT8_A_SIGNED 0
#define HWKIT_INT8_BY_STEP

/* Half a vector: processors whose units are 256 bits wide take half the time. */
#ifndef HWKIT_LOWER_AVX512
#define HWKIT_TYPE few
#include "int8_256.inc"
static inline HWKIT_INLINE __m256i NAME(dot)(__m256i acc, __m256i a, __m256i b)
{
    return _mm256_dpbusd_epi32(acc, a, b);
}
#undef HWKIT_INT8_TILES
#define HWKIT_INT8_TILES(T) HWKIT_ROWS_14(T, 1)
#include "int8_tile.inc"
#define HWKIT_BY_ROW(rows, nv) [0][rows - 1] = NAME(narrow_##rows##x##nv),
#define HWKIT_BY_STEP(rows, nv) [1][rows - 1] = NAME(by_step_##rows##x##nv),
static const hwkit_int8_tile_fn half[2][HWKIT_INT8_ROWS] = {HWKIT_INT8_TILES(HWKIT_BY_ROW)
                                                                HWKIT_INT8_TILES(HWKIT_BY_STEP)};
#undef HWKIT_BY_STEP
#undef HWKIT_INT8_TILES
#define HWKIT_INT8_TILES(T) HWKIT_ROWS_14(T, 1) HWKIT_ROWS_14(T, 2)
#undef HWKIT_TYPE
#endif

#define HWKIT_TYPE vnni
#define HWKIT_INT8_QUADS
#ifdef HWKIT_LOWER_AVX512
#include "int8_lowered.inc"
#else
#include "int8_512.inc"
static inline HWKIT_INLINE __m512i NAME(b_narrow)(const char *p) { return _mm512_loadu_si512(p); }
static inline HWKIT_INLINE __m512i NAME(dot)(__m512i acc, __m512i a, __m512i b)
{
    return _mm512_dpbusd_epi32(acc, a, b);
}
#endif
#include "int8.inc"

#define HWKIT_BY_STEP(rows, nv) [nv - 1][rows - 1] = NAME(by_step_##rows##x##nv),
static const hwkit_int8_tile_fn by_step[HWKIT_INT8_VECTORS][HWKIT_INT8_ROWS] = {
    HWKIT_INT8_TILES(HWKIT_BY_STEP)};

const hwkit_int8_kernels hwkit_int8_avx512vnni = {
    .name = "avx512vnni", .features = HWKIT_NEEDS, .vl = HWKIT_INT8_VL, .group = HWKIT_INT8_GROUP,
    .a_size = HWKIT_INT8_A, .tiles = {HWKIT_INT8_TABLE}, .widen = NAME(widen), .flip = NAME(flip),
    .sum = NAME(sum), .interleave = NAME(interleave), .quads = NAME(quads), .finish = NAME(finish),
    .by_step = by_step,
#ifndef HWKIT_LOWER_AVX512
    .half = half,
#endif
};

HWKIT_TARGET_END
#else
const hwkit_int8_kernels hwkit_int8_avx512 = {.name = "avx512"};
const hwkit_int8_kernels hwkit_int8_avx512vnni = {.name = "avx512vnni"};
#endif
